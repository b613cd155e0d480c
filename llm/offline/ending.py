"""What a finished offline run tells: a table of held-out numbers, then what they say in words."""

from typing import Any

from llm.engine.jsonl import print_table
from llm.engine.run_folder import told_as_json
from llm.settings.train import TrainConfig

SMALL = 30  # comparisons held out, below which an interval is said to rest on few


def print_summary(summary: dict[str, Any], config: TrainConfig) -> None:
    """Tell a run's summary as its settings ask: for machines, in words, or not at all."""
    if told_as_json(config, summary) or config.quiet:
        return
    rows = []
    for name, difference in summary["change"].items():
        if not name.startswith(("tokens/", "desirable", "kl")):  # of fixed comparisons; one number for all
            before, after = summary["before"][name]["mean"], summary["after"][name]["mean"]
            spread = f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
            rows.append((name, f"{before:.3f}", f"{after:.3f}", f"{difference['mean']:+.3f}", spread))
    steps, seconds, memory = summary["steps"], summary["seconds"], summary["peak_memory_gib"]
    title = f"{steps} steps in {seconds:.0f} s, {memory:.1f} GiB: {config.out}"
    if summary["eval_pairs"] < SMALL:
        title += (
            f"\nfew comparisons are held out ({summary['eval_pairs']}): the intervals are wide and themselves rough"
        )
    print_table(title, ("held out", "before", "after", "change", "95 % interval"), rows, quiet=False)
    print(in_words(summary))
    print(what_next(summary, config))
    kept = f"every comparison's numbers are in {config.out / 'examples.jsonl'}"
    if config.save:
        kept = f"the model with its card is in {config.out / 'checkpoints' / 'last'}, " + kept
    print(kept[0].upper() + kept[1:] + ".")


def in_words(summary: dict[str, Any]) -> str:
    """What was found, as far as the intervals allow."""
    loss = summary["change"]["loss"]
    before, after = (summary[when]["rewards/accuracies"] for when in ("before", "after"))
    sure = loss["low"] > 0 or loss["high"] < 0
    verb = ("rises" if loss["mean"] > 0 else "falls") if sure else "shows no clear change"
    return (
        f"The held-out loss {verb} ({loss['mean']:+.3f} [{loss['low']:+.3f}, {loss['high']:+.3f}]). Of "
        f"{summary['eval_pairs']} held-out comparisons {after['mean']:.0%} [{after['low']:.0%}, {after['high']:.0%}] "
        f"are ranked right, {before['mean']:.0%} before training. One run: intervals are over comparisons only."
    )


def what_next(summary: dict[str, Any], config: TrainConfig) -> str:
    """What the numbers suggest: a smaller step, a whole pass over the data, or the control."""
    loss, n, used = summary["change"]["loss"], summary["train_pairs"], summary["steps"] * config.batch_size
    if loss["low"] > 0:
        return f"Next: a smaller --lr than {config.lr:g}, since the held-out loss rises."
    if used < n and summary["steps"] == config.max_steps:
        steps = -(-n // config.batch_size)
        return f"Next: the run saw {used} of {n} comparisons; one pass over them is --max-steps {steps}."
    if loss["high"] >= 0:
        return f"Next: more steps or a larger --lr than {config.lr:g}, since the held-out loss does not move clearly."
    return "Next: other --seed values, since the intervals here do not include what another order of the data does."
