"""The report's part on the language model: figures of this run, and beside them what was measured over seeds.

Nothing is computed here that a stage measured, and no sentence says more than its numbers: directions are
read off the intervals.
"""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

from IPython.display import HTML
from matplotlib.figure import Figure
from report_files import RUNS, interval, read_json, read_jsonl, stage_commands
from report_html import code, commands, figure, folded, table

from derivations.evidence.intervals import interval as student
from derivations.evidence.pictures import STYLES

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = {
    "planted": "planted labels",
    "shuffled": "shuffled labels",
    "none": "no regularizer",
    "entropy": "entropy",
    "kl": "KL",
}
Numbers = dict[str, float]


def offline_runs() -> dict[str, Path]:
    return {name: RUNS / f"offline-{name}" for name in ("planted", "shuffled")}


def online_runs() -> dict[str, Path]:
    return {name: RUNS / f"online-{name}" for name in ("none", "entropy", "kl")}


def summaries(runs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {name: read_json(folder / "summary.json") for name, folder in runs.items()}


def change_of(entry: Numbers) -> str:
    """`grows (+0.09 [+0.03, +0.14])`, in the words that the interval allows."""
    clear = entry["low"] > 0 or entry["high"] < 0
    word = ("grows" if entry["mean"] > 0 else "falls") if clear else "shows no clear change"
    return f"{word} ({interval(entry, '+')})"


def learned(planted: Numbers, shuffled: Numbers) -> bool:
    """Whether held-out accuracy after training is above chance, and above what shuffled labels give."""
    return planted["low"] > 0.5 and planted["low"] > shuffled["high"]


def accuracy(when: str) -> dict[str, Numbers]:
    """Held-out accuracy of the offline runs with its interval, before or after training."""
    return {name: s[when]["rewards/accuracies"] for name, s in summaries(offline_runs()).items()}


def offline_reading() -> HTML:
    before, after = accuracy("before"), accuracy("after")
    found = summaries(offline_runs())["planted"]
    word = "learned" if learned(after["planted"], after["shuffled"]) else "not surely learned"
    config = read_json(offline_runs()["planted"] / "config.json")["config"]
    margins = {name: change_of(s["change"]["rewards/margins"]) for name, s in summaries(offline_runs()).items()}
    return HTML(
        f"<p><strong>A planted preference is {word}.</strong> The preferred answer begins with “Indeed,”, the other "
        f"with “Well,”; nothing else tells them apart. After {found['steps']} steps of {config['batch_size']} "
        f"comparisons SimPO ranks {interval(after['planted'])} of {found['eval_pairs']} comparisons of topics it "
        f"never saw rightly, {interval(before['planted'])} before; the margin {margins['planted']}. With shuffled "
        f"labels it is {interval(after['shuffled'])} after the same steps, and the margin {margins['shuffled']}. "
        "Brackets are 95 % intervals over comparisons of one run (Wilson’s for shares; four share a topic). Learned "
        "means: the first interval lies above one half and above that of the shuffled labels.</p>"
    )


def offline_figure() -> HTML:
    wide, narrow = (_offline_drawing(narrow=narrow) for narrow in (False, True))
    alt = "Held-out accuracy before and after training, and loss by step, for planted and for shuffled labels."
    return figure(wide, narrow, alt=alt, reading=offline_reading(), how=stage_commands("offline"))


def _offline_drawing(*, narrow: bool) -> Figure:
    """Held-out accuracy with its intervals, and the loss of every batch."""
    drawing = Figure(figsize=(5.2, 5.6) if narrow else (9, 3.4), layout="constrained")
    shares, losses = drawing.subplots(*((2, 1) if narrow else (1, 2)))
    for (name, folder), style, shift in zip(offline_runs().items(), STYLES, (-0.04, 0.04), strict=False):
        own = [accuracy(when)[name] for when in ("before", "after")]
        means = [entry["mean"] for entry in own]
        spread = [[e["mean"] - e["low"] for e in own], [e["high"] - e["mean"] for e in own]]
        color, line = style
        shares.errorbar(
            [shift, 1 + shift],
            means,
            yerr=spread,
            color=color,
            linestyle=line,
            marker="o",
            capsize=3,
            label=NAMES[name],
        )
        lines(losses, read_jsonl(folder / "metrics.jsonl"), "loss", NAMES[name], style)
    shares.axhline(0.5, color="0.6", linewidth=0.8)
    shares.set(title="held-out comparisons ranked rightly (share)", xticks=[0, 1], ylim=(0, 1.04))
    shares.set_xticklabels(["before", "after"])
    losses.set(title="loss (batch)", xlabel="optimizer step")
    for axes in (shares, losses):
        tidy(axes)
    shares.legend(frameon=False, loc="lower right")
    return drawing


def lines(axes: Any, rows: list[dict[str, Any]], key: str, label: str, style: tuple[str, Any]) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    axes.plot(*zip(*points, strict=True), color=style[0], linestyle=style[1], marker="o", markersize=3, label=label)


def tidy(axes: Any) -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def offline_measured() -> HTML:
    """The verdicts of `make reproduce-offline`, from its committed numbers."""
    found = read_json(DOCS / "offline.json")
    rows = [
        [
            claim["claim"],
            HTML("<br>".join(f"{name} {interval(entry, '+')}" for name, entry in claim["effect"].items())),
            claim["verdict"],
        ]
        for claim in found["claims"]
    ]
    label = f"Measured over {found['seeds']} seeds (docs/offline.md)"
    shown = table(["offline, by a protocol fixed beforehand", "change", "verdict"], rows, label=label)
    how = commands(["make reproduce-offline"], summary="Command that measures this (hours)")
    return HTML(f"<p>{label}; intervals are 95 % over seeds:</p>{shown.data}{how.data}")


def by_topic(folder: Path, key: str) -> dict[str, float]:
    """Mean over the texts of each held-out topic after training, of a number that is kept with them."""
    rows = [row for row in read_jsonl(folder / "samples.jsonl") if row["split"] == "eval"]
    last = max(row["step"] for row in rows)
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["step"] == last:
            values.setdefault(row["topic"], []).append(row[key])
    return {topic: sum(own) / len(own) for topic, own in values.items()}


def against(name: str, other: str, key: str, *, sign: float = 1.0) -> Numbers:
    """Difference between two online runs after training, topic by topic: they sampled with the same random numbers."""
    first, second = (by_topic(online_runs()[run], key) for run in (name, other))
    return asdict(student([sign * (first[topic] - second[topic]) for topic in first]))


def entropy_gains() -> dict[str, Numbers]:
    """Entropy of a text after training with each regularizer, less that without one, nats."""
    return {name: against(name, "none", "logp", sign=-1.0) for name in ("entropy", "kl")}


def kappas() -> dict[str, Numbers]:
    return {name: s["after"]["retention"]["kappa"] for name, s in summaries(online_runs()).items()}


def more_or_less(entry: Numbers) -> str:
    """`12.3 [8.1, 16.5] nats above`, or that none is seen."""
    if entry["low"] > 0 or entry["high"] < 0:
        return f"{'above' if entry['mean'] > 0 else 'below'} it by {interval(size(entry))} nats"
    return f"not surely apart from it ({interval(entry, '+')} nats)"


def size(entry: Numbers) -> Numbers:
    """An interval on one side of 0, as one of the size of the effect."""
    if entry["mean"] >= 0:
        return entry
    return {"mean": -entry["mean"], "low": -entry["high"], "high": -entry["low"]}


def online_reading() -> HTML:
    found = summaries(online_runs())
    gains, kept = entropy_gains(), kappas()
    steps = found["none"]["steps"]
    entropies = ", ".join(f"{NAMES[n]} {interval(s['after']['eval']['entropy'])}" for n, s in found.items())
    shown = gains["entropy"]["low"] > 0 and against("entropy", "kl", "logp", sign=-1.0)["low"] > 0
    headline = "Entropy makes the text noisier, KL does not" if shown else "Entropy and KL are not surely apart"
    shares = ", ".join(f"{NAMES[name]} {interval(entry)}" for name, entry in kept.items())
    return HTML(
        f"<p><strong>{headline}.</strong> After {steps} steps the entropy of a text on held-out topics (nats; "
        f"{found['none']['before']['eval']['entropy']['mean']:.1f} before) is: {entropies}. Compared topic by topic "
        f"with the run without a regularizer, entropy 0.05 lies {more_or_less(gains['entropy'])}, KL 0.05 "
        f"{more_or_less(gains['kl'])}. The retention κ of the reference (1 before; below 1 it is forgotten, above 1 "
        f"sharpened) is: {shares}. Brackets are 95 % intervals over 8 topics of one run.</p><p>{proxy_sentence()}</p>"
    )


def proxy_sentence() -> str:
    """What became of the proxy, and why it need not rise."""
    moves = {name: against_start(s, "proxy") for name, s in summaries(online_runs()).items()}
    clear = [name for name, entry in moves.items() if entry["low"] > 0 or entry["high"] < 0]
    said = ", ".join(f"{NAMES[name]} {interval(entry, '+')}" for name, entry in moves.items())
    pays = 0.05 * entropy_gains()["entropy"]["mean"]
    sure = f"surely for {' and '.join(NAMES[n] for n in clear)}" if clear else "surely for none of them"
    return (
        f"The proxy reward, which is what is trained on, has moved by: {said} ({sure}, in so few steps). Under "
        f"entropy it may fall and the objective still rise, for that also pays 0.05 reward units for every nat of "
        f"entropy: here {pays:+.1f} against the run without a regularizer."
    )


def against_start(summary: dict[str, Any], key: str) -> Numbers:
    """Held-out mean after training less that before it, with an interval as of two independent sets of texts."""
    before, after = (summary[when]["eval"][key] for when in ("before", "after"))
    half = sum(((entry["high"] - entry["low"]) / 2) ** 2 for entry in (before, after)) ** 0.5
    mean = after["mean"] - before["mean"]
    return {"mean": mean, "low": mean - half, "high": mean + half}


def curves(runs: dict[str, Path], panels: dict[str, str], *, narrow: bool) -> Figure:
    """One panel a metric (key: title), one line a run, against the optimizer step."""
    size, shape = ((5.2, 7.2), (len(panels), 1)) if narrow else ((11, 3.4), (1, len(panels)))
    drawing = Figure(figsize=size, layout="constrained")
    grid = drawing.subplots(*shape)
    for axes, (key, words) in zip(grid, panels.items(), strict=True):
        for (label, folder), style in zip(runs.items(), STYLES, strict=False):
            lines(axes, read_jsonl(folder / "metrics.jsonl"), key, NAMES[label], style)
        axes.set_title(words)
        tidy(axes)
    for axes in grid[-1:] if narrow else grid:
        axes.set_xlabel("optimizer step")
    grid[0].legend(frameon=False)
    return drawing


def online_figure() -> HTML:
    panels = {
        "entropy": "entropy (nats a text)",
        "kl": "KL from the reference (nats)",
        "proxy": "proxy reward (samples)",
    }
    wide, narrow = (curves(online_runs(), panels, narrow=narrow) for narrow in (False, True))
    alt = "Three panels against the optimizer step, for no regularizer, entropy and KL: entropy, KL, proxy reward."
    return figure(wide, narrow, alt=alt, reading=online_reading(), how=stage_commands("online"))


def online_measured() -> HTML:
    """What `make reproduce-online` measured over seeds: its picture and its verdicts, from the committed page."""
    found = read_json(DOCS / "online.json")
    arms = {"no regularizer": "none", "entropy 0.05": "entropy-0.05", "KL 0.05": "kl-0.05"}
    ends = {words: found["arms"][arm]["after"] for words, arm in arms.items()}
    kappa = ", ".join(f"{words} {interval(end['retention/kappa'])}" for words, end in ends.items())
    entropy = ", ".join(f"{words} {interval(end['eval/entropy'])}" for words, end in ends.items())
    picture = base64.b64encode((DOCS / "_static" / "online" / "kappa.svg").read_bytes()).decode()
    how = commands(["python -m llm.experiments.online --report-only"], summary="Commands that make this figure")
    alt = "Retention of the reference against time, in the bandit and in the language model: it falls under entropy."
    return HTML(
        f'<figure><img src="data:image/svg+xml;base64,{picture}" alt="{alt}"><figcaption><p>Measured over '
        f"{found['arms']['none']['seeds']} seeds by a fixed protocol (<code>make reproduce-online</code>, "
        f"docs/online.md): the retention κ of the reference ends at: {kappa}; the entropy of a text at: {entropy} nats."
        f"</p>{how.data}</figcaption></figure>{_online_verdicts(found).data}"
    )


def _online_verdicts(found: dict[str, Any]) -> HTML:
    """One row a claim: what it says and the verdict; folded, for there are many."""
    rows = [[claim["says"], claim["verdict"]] for claim in found["claims"]]
    done = found["runs"]
    label = f"All {len(rows)} claims of that experiment with their verdicts ({done['done']} of {done['planned']} runs)"
    return folded(label, table(["claim", "verdict"], rows, label=label))


def evaluation_table(runs: dict[str, Path], keys: list[str], *, label: str) -> HTML:
    """Held-out metrics before and after training, from the first and last evaluation row of each run."""
    rows = []
    for name, folder in runs.items():
        rated = [row for row in read_jsonl(folder / "metrics.jsonl") if f"eval/{keys[0]}" in row]
        before, after = ({key: row[f"eval/{key}"] for key in keys} for row in (rated[0], rated[-1]))
        rows += [[name, code(f"eval/{key}"), f"{before[key]:.3f}", f"{after[key]:.3f}"] for key in keys]
    return folded(label, table(["run", "metric", "before", "after"], rows, label=label, numbers=[2, 3]))
