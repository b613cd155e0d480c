"""The report's part on runs: figures, the sentence that reads each, and tables, from the files the stages left.

Nothing is computed here that a stage measured, and no sentence says more than its numbers: directions are
read off the intervals.
"""

import base64
from pathlib import Path
from typing import Any

from IPython.display import HTML
from matplotlib.figure import Figure
from report_files import RUNS, interval, read_json, read_jsonl, stage_commands
from report_html import code, commands, figure, folded, table

from derivations.evidence.pictures import STYLES
from toybandit.experiments.protocol import PROTOCOL, read_protocol
from toybandit.plots import read_run, trajectory_figure

DOCS = Path(__file__).resolve().parents[1] / "docs"

NAMES = {"simpo": "SimPO", "dpo": "DPO", "entropy": "entropy", "kl": "KL"}


def toy_runs() -> dict[str, Path]:
    return {name: RUNS / f"toy-{name}" for name in ("entropy", "kl", "none")}


def toy_summaries() -> dict[str, dict[str, Any]]:
    return {name: read_json(folder / "summary.json") for name, folder in toy_runs().items()}


def toy_reading() -> HTML:
    """What the picture shows, with the numbers of this run."""
    entropy, kl = (toy_summaries()[name] for name in ("entropy", "kl"))
    bounds = read_protocol(PROTOCOL).tables["s1"]["bounds"]  # of statement 1, in reward units
    harm, no_harm = bounds["entropy_loses"], bounds["kl_loses"]
    reproduced = entropy["overoptimization"]["low"] > harm and kl["overoptimization"]["high"] < no_harm
    word = "reproduced" if reproduced else "not reproduced"
    return HTML(
        f"<p><strong>Overoptimization under entropy, not under KL: {word}.</strong> Under entropy 0.5 the proxy gains "
        f"{entropy['proxy_gain']['mean']:.2f} while gold falls {interval(entropy['overoptimization'])} below its peak; "
        f"under KL 0.5 the fall is {interval(kl['overoptimization'])} (reward units; bands and brackets are 95 % "
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


def lines(axes: Any, rows: list[dict[str, Any]], key: str, label: str, style: tuple[str, Any]) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    axes.plot(*zip(*points, strict=True), color=style[0], linestyle=style[1], marker="o", markersize=3, label=label)


def curves(runs: dict[str, Path], panels: dict[str, str], *, narrow: bool) -> Figure:
    """One panel a metric (key: title), one line a run, against the optimizer step."""
    size, shape = ((5.2, 7.2), (len(panels), 1)) if narrow else ((11, 3.4), (1, len(panels)))
    drawing = Figure(figsize=size, layout="constrained")
    grid = drawing.subplots(*shape)
    for axes, (key, title) in zip(grid, panels.items(), strict=True):
        for (label, folder), style in zip(runs.items(), STYLES, strict=False):
            lines(axes, read_jsonl(folder / "metrics.jsonl"), key, NAMES[label], style)
        axes.set_title(title)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1:] if narrow else grid:
        axes.set_xlabel("optimizer step")
    grid[0].legend(frameon=False)
    return drawing


def offline_runs() -> dict[str, Path]:
    return {name: RUNS / f"offline-{name}" for name in ("simpo", "dpo")}


def change_of(entry: dict[str, float]) -> str:
    """`moves by +0.09 [+0.03, +0.14]`, in the words that the interval allows."""
    clear = entry["low"] > 0 or entry["high"] < 0
    word = ("grows" if entry["mean"] > 0 else "falls") if clear else "shows no clear change"
    return f"{word} ({interval(entry, '+')})"


def offline_reading() -> HTML:
    found = {name: read_json(folder / "summary.json") for name, folder in offline_runs().items()}
    parts = [
        f"{NAMES[name]}'s held-out margin {change_of(s['change']['rewards/margins'])}" for name, s in found.items()
    ]
    count, steps = found["dpo"]["eval_pairs"], found["dpo"]["steps"]
    return HTML(
        f"<p>After {steps} steps {' and '.join(parts)}, in reward units of each objective's own; 95 % intervals over "
        f"{count} held-out comparisons of one seed. The curves are single batches, hence ragged.</p>"
    )


def offline_figure() -> HTML:
    panels = {"loss": "loss (batch)", "rewards/margins": "reward margin (batch)", "logps/chosen": "log p chosen (nats)"}
    wide, narrow = (curves(offline_runs(), panels, narrow=narrow) for narrow in (False, True))
    alt = "Three panels against the optimizer step, for SimPO and DPO: loss, reward margin, log-probability of chosen."
    return figure(wide, narrow, alt=alt, reading=offline_reading(), how=stage_commands("offline-simpo", "offline-dpo"))


def online_runs() -> dict[str, Path]:
    return {name: RUNS / f"online-{name}" for name in ("entropy", "kl")}


def online_reading() -> HTML:
    parts = []
    for name, folder in online_runs().items():
        before, after = (read_json(folder / "summary.json")[when]["eval"] for when in ("before", "after"))
        moves = [f"{key} from {interval(before[key])} to {interval(after[key])}" for key in ("proxy", "gold")]
        parts.append(f"{NAMES[name]}: {', '.join(moves)}")
    return HTML(
        f"<p>On held-out topics, before and after: {'; '.join(parts)}. One seed and few steps: where the intervals "
        "overlap nothing is shown.</p>"
    )


def online_figure() -> HTML:
    panels = {"proxy": "proxy reward (samples)", "gold": "gold reward (samples)", "entropy": "entropy (nats/response)"}
    wide, narrow = (curves(online_runs(), panels, narrow=narrow) for narrow in (False, True))
    alt = "Three panels against the optimizer step, for entropy and KL: proxy reward, gold reward, entropy."
    return figure(wide, narrow, alt=alt, reading=online_reading(), how=stage_commands("online-entropy", "online-kl"))


def online_measured() -> HTML:
    """What `make reproduce-online` measured over seeds, from its committed page's numbers and picture."""
    arms = read_json(DOCS / "online.json")["arms"]
    kappa = {arm: interval(arms[arm]["after"]["retention/kappa"]) for arm in ("entropy-0.05", "kl-0.05")}
    picture = base64.b64encode((DOCS / "_static" / "online" / "kappa.svg").read_bytes()).decode()
    how = commands(["python -m llm.experiments.online --report-only"], summary="Commands that make this figure")
    alt = "Retention of the reference against time, in the bandit and in the language model: it falls under entropy."
    return HTML(
        f'<figure><img src="data:image/svg+xml;base64,{picture}" alt="{alt}"><figcaption><p>Measured over '
        f"{arms['entropy-0.05']['seeds']} seeds by a fixed protocol (<code>make reproduce-online</code>, "
        f"docs/online.md): the retention κ of the reference ends at {kappa['entropy-0.05']} under entropy 0.05 and at "
        f"{kappa['kl-0.05']} under KL 0.05. The bandit shows the same order.</p>{how.data}</figcaption></figure>"
    )


def evaluation_table(runs: dict[str, Path], keys: list[str], *, label: str) -> HTML:
    """Held-out metrics before and after training, from the first and last evaluation row of each run."""
    rows = []
    for name, folder in runs.items():
        rated = [row for row in read_jsonl(folder / "metrics.jsonl") if f"eval/{keys[0]}" in row]
        before, after = ({key: row[f"eval/{key}"] for key in keys} for row in (rated[0], rated[-1]))
        rows += [[name, code(f"eval/{key}"), f"{before[key]:.3f}", f"{after[key]:.3f}"] for key in keys]
    return folded(label, table(["run", "metric", "before", "after"], rows, label=label, numbers=[2, 3]))
