"""Pictures of the experiments: colour-blind safe, and told apart by line style and marker in grey too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.evidence.intervals import interval
from derivations.evidence.pictures import STYLES
from toybandit.online import Trajectory
from toybandit.plots import Curves, trajectory_figure
from toybandit.scaling import GaoFit

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx")


def trajectories_figure(runs: Mapping[str, Trajectory]) -> Figure:
    """Proxy, gold, win rate and KL against time, with 95 % bands; the picture of `toybandit plot`."""
    curves = []
    for label, run in runs.items():
        columns = {"t": list(run.t)}
        for name in ("proxy", "gold", "win_rate", "kl"):
            means = [interval(values) for values in run.metrics[name]]
            columns |= {name: [m.mean for m in means], f"{name}_low": [m.low for m in means]}
            columns[f"{name}_high"] = [m.high for m in means]
        curves.append(Curves(label, columns))
    return trajectory_figure(curves)


def strength_figure(strengths: Sequence[float], curves: Mapping[str, np.ndarray], label: str) -> Figure:
    """Numbers against the strength of the regularizer, [strengths, seeds] each, with 95 % bars."""
    figure, axes = _axes((6.4, 4.2))
    for i, ((name, values), (colour, style)) in enumerate(zip(curves.items(), STYLES, strict=False)):
        found = [interval(v) for v in values]
        mean, half = [f.mean for f in found], [f.high - f.mean for f in found]
        # Later markers are larger and hollow, so curves that coincide are both seen.
        axes.errorbar(
            strengths,
            mean,
            half,
            color=colour,
            linestyle=style,
            marker=MARKERS[i],
            markersize=5 + 2 * i,
            markerfacecolor="none" if i else colour,
            capsize=2,
            label=name,
        )
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xlabel("strength of the regularizer (reward units per nat)")
    axes.set_ylabel(label)
    axes.legend(frameon=False, handlelength=3.5)
    return figure


def mass_figure(masses: Mapping[str, np.ndarray], edges: Sequence[int]) -> Figure:
    """Mass of policies on arms by number of comparisons: [seeds, bins] each, bins beginning at `edges`."""
    figure, axes = _axes((6.4, 4.2))
    width = 0.8 / len(masses)
    for i, ((name, values), (colour, _)) in enumerate(zip(masses.items(), STYLES, strict=False)):
        found = [interval(v) for v in values.T]
        place = np.arange(len(edges)) + (i - (len(masses) - 1) / 2) * width
        half = [f.high - f.mean for f in found]
        axes.bar(
            place,
            [f.mean for f in found],
            width,
            yerr=half,
            color=colour,
            label=name,
            hatch=HATCHES[i],
            edgecolor="white",
            error_kw={"elinewidth": 1},
        )
    ends = [*(e - 1 for e in edges[1:]), None]
    names = [f"{a}+" if b is None else str(a) if a == b else f"{a}–{b}" for a, b in zip(edges, ends, strict=True)]
    axes.set_xticks(np.arange(len(edges)), names)
    axes.set_xlabel("comparisons of the arm in the preference data")
    axes.set_ylabel("share of the policy's mass")
    axes.legend(frameon=False)
    return figure


def phase_figure(
    maps: Mapping[str, np.ndarray], *, x: Sequence[float], y: Sequence[float], x_label: str, y_label: str
) -> Figure:
    """Maps side by side, means over seeds [y, x], every cell with its number."""
    figure = Figure(figsize=(5.2 * len(maps), 4.0), layout="constrained")
    for axes, (title, values) in zip(np.atleast_1d(figure.subplots(1, len(maps))), maps.items(), strict=True):
        heat(axes, values, x=x, y=y)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(title, fontsize=11)
    return figure


def heat(
    axes: Axes,
    values: np.ndarray,
    *,
    x: Sequence[float],
    y: Sequence[float],
    ends: tuple[float, float] | None = None,
    good: bool = True,
) -> None:
    """A map of reward units [y, x] with its colour bar, every cell with its number; what is worse is darker.

    ends: values at the ends of the colours (default: the map's own). good: whether more is better.
    """
    low, high = ends or (float(np.nanmin(values)), float(np.nanmax(values)))
    colours = "cividis" if good else "cividis_r"
    image = axes.pcolormesh(np.arange(len(x) + 1), np.arange(len(y) + 1), values, cmap=colours, vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(values):
        axes.text(
            j + 0.5,
            i + 0.5,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if (value < (low + high) / 2) == good else "black",
        )
    axes.set_xticks(np.arange(len(x)) + 0.5, [f"{v:g}" for v in x])
    axes.set_yticks(np.arange(len(y)) + 0.5, [f"{v:g}" for v in y])
    axes.figure.colorbar(image, ax=axes, label="reward units")


def gao_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], fits: Mapping[str, Mapping[str, GaoFit]]) -> Figure:
    """Gold gain against sqrt(KL), one panel a curve, with both fitted forms."""
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, (name, (kl, gold)) in zip(panels, curves.items(), strict=True):
        d = np.sqrt(np.maximum(kl, 0))
        line = np.linspace(0, d.max(), 200)
        axes.plot(d, gold, linestyle="", marker="o", markersize=4, color="0.55", label="simulated, mean over worlds")
        for form, (colour, style), formula in zip(
            ("quadratic", "logarithmic"), STYLES, ("d(a − b d)", "d(a − b log d)"), strict=False
        ):
            fit = fits[name][form]
            axes.plot(
                line, fit(line), color=colour, linestyle=style, linewidth=1.8, label=f"{formula}, R² = {fit.r2:.3f}"
            )
        axes.set_title(name, fontsize=11)
        axes.set_xlabel("d = √KL(policy || reference) (√nats)")
        axes.set_ylabel("gold gain (reward units)")
        axes.legend(frameon=False, fontsize=8)
        plain_axes(axes)
    return figure


def retention_figure(runs: Mapping[str, tuple[Trajectory | None, Trajectory]], *, laws: Mapping[str, float]) -> Figure:
    """The (tau, kappa) plane: softmax gradient (hollow), natural gradient (filled), the laws kappa = 1 - alpha tau."""
    figure, axes = _axes((6.4, 4.4))
    most = 2.2
    for (name, (softmax, natural)), (colour, style), marker in zip(runs.items(), STYLES, MARKERS, strict=False):
        tau = np.linspace(0, min(most, 1 / laws[name]) if laws[name] else most, 2)
        axes.plot(tau, 1 - laws[name] * tau, color=colour, linestyle=style, linewidth=1.2)
        for run, face in ((natural, colour), (softmax, "white")):
            if run is None:
                continue
            way = "natural gradient" if face != "white" else "softmax gradient"
            x, y = (run.metrics[f"retention/{key}"].mean(-1) for key in ("tau", "kappa"))
            keep = x <= most
            axes.plot(
                x[keep][::3],
                y[keep][::3],
                linestyle="",
                marker=marker,
                markersize=5,
                color=colour,
                markerfacecolor=face,
                label=f"{name}, {way}",
            )
    axes.set_xlabel("reward pressure tau (1 / reward unit)")
    axes.set_ylabel("retention of the reference, kappa")
    axes.legend(frameon=False, fontsize=8, title="lines: kappa = 1 − alpha tau", title_fontsize=8)
    return figure


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots()
    plain_axes(axes)
    return figure, axes


def plain_axes(axes: Axes) -> None:
    """A light grid behind the curves, and no frame above and to the right."""
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
