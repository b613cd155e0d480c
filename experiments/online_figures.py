"""Pictures of the online experiment: SVG, colour-blind safe, told apart by line style and marker too, and with
letters that can still be read where a page is 390 pixels wide."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.commands import write_text
from experiments.online_plan import Plan
from experiments.online_results import Result, value
from experiments.online_verdicts import Results, mean_over_seeds
from toybandit.experiment import drawn, optimize
from toybandit.plots import STYLES
from toybandit.settings import Settings

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.4  # inches; at 390 pixels, letters of 10 points are as large as 10 pixels
SMOOTH = 5  # steps of the trailing mean that a curve shows
UNITS = {
    "proxy": "proxy gain\n(reward units)",
    "gold": "gold gain\n(reward units)",
    "kl": "KL(π‖reference)\n(nats)",
    "entropy": "entropy\n(nats a response)",
    "retention/kappa": "retention κ",
}
GAINS = ("proxy", "gold")


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on nothing but the picture."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_text(path, "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")


def curves_figure(results: Results, arms: Sequence[str]) -> Figure | None:
    """Proxy, gold, KL and entropy of the training samples against the step; None if no arm has run."""
    present = [arm for arm in arms if results[arm]][: len(STYLES)]
    if not present:
        return None
    figure, panels = _panels(2, 2, 5.6)
    for axes, name in zip(panels.flat, ("proxy", "gold", "kl", "entropy"), strict=True):
        for arm, (colour, style) in zip(present, STYLES, strict=False):
            step, values = _smoothed(list(results[arm].values()), name)
            _band(axes, step, values, colour, style, arm)
        axes.set_ylabel(UNITS[name].replace("gain", "mean"))
    for axes in panels[-1]:
        axes.set_xlabel("optimizer step")
    return _legend(figure, panels[0, 0], columns=2)


def _smoothed(runs: Sequence[Result], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [times] and trailing means over SMOOTH steps [times, runs]; runs of unequal length are cut to the first."""
    length = min(len(run["curve"]["step"]) for run in runs)
    step = np.array(runs[0]["curve"]["step"][:length])
    columns = np.array([run["curve"][name][:length] for run in runs], dtype=float).T
    window = min(SMOOTH, length)
    means = np.lib.stride_tricks.sliding_window_view(columns, window, axis=0).mean(-1)
    return step[window - 1 :], means


def retention_figure(results: Results, arms: Sequence[str]) -> Figure | None:
    """kappa after the last step for each arm: every seed, and mean with interval; None if no arm has run."""
    present = [arm for arm in arms if results[arm]]
    if not present:
        return None
    figure, panels = _panels(1, 1, 0.9 + 0.32 * len(present))
    axes = panels[0, 0]
    for place, arm in enumerate(reversed(present)):
        values = np.array([value(r, "retention/kappa") for r in results[arm].values()])
        found = mean_over_seeds(values)
        axes.plot(values, np.full(len(values), place), linestyle="", marker="|", markersize=9, color="0.55")
        if np.isfinite(found.low):
            axes.plot([found.low, found.high], [place, place], color=STYLES[0][0], linewidth=2)
        axes.plot([found.mean], [place], marker="o", color=STYLES[0][0])
    axes.set_yticks(range(len(present)), reversed(present))
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xlabel("retention κ of the reference (1: all of it)")
    return figure


def same_keys_figure(results: Results, plan: Plan) -> Figure | None:
    """The bandit (above) and the language model (below) under one set of keys and regularizers."""
    pairs = {arm: toy for arm, toy in plan.protocol["toy"]["pairs"].items() if results[arm]}
    if not pairs:
        return None
    figure, panels = _panels(4, 2, 9.6)
    keys = ("proxy", "gold", "kl", "retention/kappa")
    for (arm, toy), (colour, style), marker in zip(pairs.items(), STYLES, MARKERS, strict=False):
        settings = Settings(regularizer=toy, seeds=plan.protocol["toy"]["seeds"], steps=plan.protocol["toy"]["steps"])
        run = optimize(drawn(settings), settings)
        for axes, key in zip(panels[:2].flat, keys, strict=True):
            _band(axes, run.t[1:], run.metrics[key][1:], colour, style, f"{toy.replace('=', ' ')} | {arm}")
            axes.set_xscale("log")
        runs = list(results[arm].values())
        for axes, key in zip(panels[2:].flat, keys, strict=True):
            step, values = _evaluated(runs, key)
            _band(axes, step, values, colour, style, arm, marker=marker)
    for rows, title in ((panels[:2], "bandit"), (panels[2:], "language model")):
        for axes, key in zip(rows.flat, keys, strict=True):
            axes.set_ylabel(UNITS[key])
        rows[0, 0].set_title(title, loc="left", fontsize=11, weight="bold")
    for axes in panels[1]:
        axes.set_xlabel("time t = lr × steps")
    for axes in panels[3]:
        axes.set_xlabel("optimizer step")
    return _legend(figure, panels[0, 0], columns=1, title="bandit | language model")


def _evaluated(runs: Sequence[Result], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [times] and a metric of the evaluations on held-out topics [times, runs]; gains over the start."""
    step = np.array([e["step"] for e in runs[0]["evaluations"]])
    if key.startswith("retention/"):
        table = [[e["retention"][key.partition("/")[2]]["mean"] for e in run["evaluations"]] for run in runs]
    else:
        table = [[e["eval"][key] for e in run["evaluations"]] for run in runs]
    values = np.array(table, dtype=float).T
    return step, values - values[:1] if key in GAINS else values


def _band(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, style: Any, label: str, *, marker: str = ""
) -> None:
    """Mean and 95 % band over seeds of values [times, seeds]; with one seed the line alone."""
    found = [mean_over_seeds(v) for v in values]
    mean, low, high = (np.array([getattr(f, end) for f in found]) for end in ("mean", "low", "high"))
    if np.isfinite(low).all():
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=style, linewidth=1.8, label=label, marker=marker or None, markersize=5)


def _panels(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend(figure: Figure, axes: Axes, *, columns: int, title: str = "") -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, handlelength=3, title=title or None
    )
    return figure
