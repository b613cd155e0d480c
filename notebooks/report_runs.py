"""The report's part on the bandit: its figure, the sentence that reads it, and its table, from the stages' files.

Nothing is computed here that a stage measured, and no sentence says more than its numbers: directions are
read off the intervals.
"""

from pathlib import Path
from typing import Any

from IPython.display import HTML
from report_files import RUNS, interval, read_json, stage_commands
from report_html import figure, table

from toybandit.experiments.protocol import PROTOCOL, read_protocol
from toybandit.plots import read_run, trajectory_figure


def toy_runs() -> dict[str, Path]:
    return {name: RUNS / f"toy-{name}" for name in ("entropy", "kl", "none")}


def toy_summaries() -> dict[str, dict[str, Any]]:
    return {name: read_json(folder / "summary.json") for name, folder in toy_runs().items()}


def toy_reading() -> HTML:
    """What the picture shows, with the numbers of this run."""
    entropy, kl, none = (toy_summaries()[name] for name in ("entropy", "kl", "none"))
    bounds = read_protocol(PROTOCOL).tables["s1"]["bounds"]  # of statement 1, in reward units
    harm, no_harm = bounds["entropy_loses"], bounds["kl_loses"]
    reproduced = entropy["overoptimization"]["low"] > harm and kl["overoptimization"]["high"] < no_harm
    word = "reproduced" if reproduced else "not reproduced"
    return HTML(
        f"<p><strong>Overoptimization under entropy, not under KL: {word}.</strong> Under entropy 0.5 the proxy gains "
        f"{entropy['proxy_gain']['mean']:.2f} while gold falls {interval(entropy['overoptimization'])} below its peak; "
        f"under KL 0.5 the fall is {interval(kl['overoptimization'])}, and without any regularizer "
        f"{interval(none['overoptimization'])} (reward units; bands and brackets are 95 % "
        f"intervals over worlds). Reproduced means: the first interval above {harm}, the second below {no_harm}.</p>"
    )


def toy_figure() -> HTML:
    wide, narrow = (trajectory_figure([read_run(folder) for folder in toy_runs().values()]) for _ in range(2))
    narrow.set_size_inches(5.2, 5.6)
    alt = "Four panels against time, for entropy, KL and no regularizer: proxy gain, gold gain, win rate, KL."
    how = stage_commands(*(f"toy-{name}" for name in toy_runs()))
    how.append("python -m toybandit plot " + " ".join(f"out/runs/toy-{name}" for name in toy_runs()))
    return figure(wide, narrow, alt=alt, reading=toy_reading(), how=how)


def toy_table() -> HTML:
    keys = ["overoptimization", "gold_gain", "proxy_gain", "win_rate", "kl"]
    rows = [[name, *(interval(summary[key]) for key in keys)] for name, summary in toy_summaries().items()]
    return table(["regularizer", *keys], rows, label="The bandit's final policies", numbers=[1, 2, 3, 4, 5])
