"""What a finished online run tells: what was measured and what it says in words, then texts before and after."""

from collections.abc import Sequence
from typing import Any

from llm.engine.jsonl import print_table
from llm.engine.run_folder import told_as_json
from llm.settings.online import OnlineConfig

Row = dict[str, Any]
SHOWN = 3  # held-out topics of which a text before and after is printed
LOUD = 0.5  # spread of the regularizer's implicit reward over that of the reward, above which it is said to matter
# metric of held-out topics -> what it is, with its unit
MEASURED = {
    "proxy": "proxy reward, which is trained on (reward units)",
    "gold": "gold reward, which is not",
    "proxy_accuracy": "pairs that the proxy ranks as gold",
    "entropy": "entropy of a response (nats)",
    "kl_k1": "KL from the reference (nats)",
    "logq_per_token": "log-prob under the reference (nats per token)",
    "on_topic": "responses that mention their topic",
    "distinct_2": "different word pairs, of all",
    "length": "length (tokens)",
}


def print_summary(summary: Row, samples: Sequence[Row], config: OnlineConfig) -> None:
    """Tell a run's summary as its settings ask: for machines, in words, or not at all."""
    if told_as_json(config, summary) or config.quiet:
        return
    before, after = summary["before"], summary["after"]
    rows = [_row(words, before["eval"][name], after["eval"][name]) for name, words in MEASURED.items()]
    rows.append(_row("retention kappa (1: keeps the reference)", before["retention"]["kappa"], kappa(after)))
    steps, seconds, memory = summary["steps"], summary["seconds"], summary["peak_memory_gib"]
    title = f"{steps} steps in {seconds:.0f} s, {memory:.1f} GiB: {config.out}"
    print_table(title, ("held-out topics", "before", "after", "95 % interval"), rows, quiet=False)
    print(*in_words(summary), sep="\n")
    other = "kl --coefficient 0.05" if config.regularizer == "none" else "none and no --coefficient"
    print(f"Next: the same with --regularizer {other}; the difference of the two runs is the regularizer's part.")
    print(*texts(samples, steps), sep="\n")
    print(f"Every metric, of training topics too, is in {config.out / 'summary.json'}; every text in samples.jsonl.")


def kappa(evaluation: Row) -> Row:
    """The retention of the reference in an evaluation: {mean, low, high}."""
    found: Row = evaluation["retention"]["kappa"]
    return found


def in_words(summary: Row) -> list[str]:
    """What was found, as far as the intervals after training exclude the values before it."""
    before, after = (summary[when]["eval"] for when in ("before", "after"))
    moved = [
        _moved(words, before[name], after[name])
        for name, words in (("proxy", "the proxy reward"), ("gold", "the gold reward"), ("entropy", "the entropy"))
    ]
    kept = kappa(summary["after"])
    clear = kept["low"] is not None and (kept["high"] < 1 or kept["low"] > 1)
    word = "forgets the reference" if clear and kept["mean"] < 1 else "sharpens the reference" if clear else "keeps it"
    lines = [
        f"After {summary['steps']} steps {', '.join(moved)}. Retention kappa is {number(kept['mean'])}: training "
        f"{word}{'' if clear else ' as far as the interval can tell'}. One run: intervals are over topics, not seeds."
    ]
    fell = after["proxy"]["mean"] < before["proxy"]["mean"]
    if fell and summary["spread_ratio"] > LOUD:
        lines.append(
            "The proxy falls although it is trained on: what is trained on is the proxy less the regularizer's "
            f"implicit reward, which at the start varies {summary['spread_ratio']:.2f} times as much as the proxy."
        )
    return lines


def texts(samples: Sequence[Row], step: int) -> list[str]:
    """A text before and after for the first held-out topics."""
    lines = []
    own = [row for row in samples if row.get("split") == "eval"]
    for topic in list(dict.fromkeys(row["topic"] for row in own))[:SHOWN]:
        for when, at in (("before", 0), ("after", step)):
            row = next((r for r in own if (r["topic"], r["step"]) == (topic, at)), None)
            if row is not None:
                said = " ".join(row["response"].split())
                lines.append(f"  {topic:10} {when:7} gold {row['gold']:+.2f}, proxy {row['proxy']:+.2f}: {said}")
    return lines


def number(value: float | None) -> str:
    """Three decimals, or `none`."""
    return "none" if value is None else f"{value:.3f}"


def _row(words: str, before: Row, after: Row) -> tuple[str, ...]:
    return words, number(before["mean"]), number(after["mean"]), f"[{number(after['low'])}, {number(after['high'])}]"


def _moved(words: str, before: Row, after: Row) -> str:
    """`the entropy rises from 31.4 to 60.2`, or that it shows no clear change."""
    if after["low"] is None or before["mean"] is None or after["low"] <= before["mean"] <= after["high"]:
        return f"{words} shows no clear change"
    verb = "rises" if after["mean"] > before["mean"] else "falls"
    return f"{words} {verb} from {before['mean']:.2f} to {after['mean']:.2f}"
