"""Pictures of the online experiment's own runs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from derivations.evidence.pictures import STYLES, band, dot, legend, panels
from llm.experiments.online_results import Result, value
from llm.experiments.online_verdicts import Results

SMOOTH = 5  # steps of the trailing mean that a curve shows
UNITS = {
    "proxy": "proxy gain\n(reward units)",
    "gold": "gold gain\n(reward units)",
    "kl": "KL(π‖reference)\n(nats)",
    "entropy": "entropy\n(nats per response)",
    "retention/kappa": "retention κ",
}
GAINS = ("proxy", "gold")


def curves_figure(results: Results, arms: Sequence[str]) -> Figure | None:
    """Proxy, gold, KL and entropy of the training samples against the step; None if no arm has run."""
    present = [arm for arm in arms if results[arm]][: len(STYLES)]
    if not present:
        return None
    figure, grid = panels(2, 2, 5.6)
    for axes, name in zip(grid.flat, ("proxy", "gold", "kl", "entropy"), strict=True):
        for arm, (colour, style) in zip(present, STYLES, strict=False):
            step, values = _smoothed(list(results[arm].values()), name)
            band(axes, step, values, colour, style, arm)
        axes.set_ylabel(UNITS[name].replace("gain", "mean"))
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    return legend(figure, grid[0, 0], columns=2)


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
    figure, grid = panels(1, 1, 0.9 + 0.32 * len(present))
    axes = grid[0, 0]
    for place, arm in enumerate(reversed(present)):
        values = np.array([value(r, "retention/kappa") for r in results[arm].values()])
        axes.plot(values, np.full(len(values), place), linestyle="", marker="|", markersize=9, color="0.55")
        dot(axes, place, values, STYLES[0][0], "o")
    axes.set_yticks(range(len(present)), reversed(present))
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xlabel("retention κ of the reference (1: all of it)")
    return figure


def evaluated(runs: Sequence[Result], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [times] and a metric of the evaluations on held-out topics [times, runs]; gains over the start."""
    step = np.array([e["step"] for e in runs[0]["evaluations"]])
    if key.startswith("retention/"):
        table = [[e["retention"][key.partition("/")[2]]["mean"] for e in run["evaluations"]] for run in runs]
    else:
        table = [[e["eval"][key] for e in run["evaluations"]] for run in runs]
    values = np.array(table, dtype=float).T
    return step, values - values[:1] if key in GAINS else values
