"""Pictures of sweeps: curves over one varied number, heat maps over two, points where only names are varied."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from derivations.evidence.intervals import interval
from derivations.evidence.pictures import STYLES
from toybandit.figures import MARKERS, heat, plain_axes
from toybandit.sweep_results import STRENGTH, SweepResults

SHOWN = (("gold_gain", "gold gain at the end (reward units)"), ("overoptimization", "gold lost after its peak"))
MOST_MAPS = 4
LABELS = {STRENGTH: "strength of the regularizer (reward units per nat)", "pairs": "preference pairs a prompt"}


def sweep_figure(results: SweepResults) -> Figure:
    """The picture that fits what the sweep varies.

    Raises:
        ValueError: more curves or maps than can be told apart.
    """
    numbers = [name for name, values in results.axes.items() if len(values) > 1 and all(map(_is_number, values))]
    numbers.sort(key=lambda name: name != STRENGTH)
    if not numbers:
        return _points(results)
    if len(numbers) == 1:
        return _curves(results, numbers[0])
    return _maps(results, *numbers[:2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"{count} {what} in one picture: up to {most} can be told apart; sweep fewer settings at once")


def _curves(results: SweepResults, axis: str) -> Figure:
    groups = results.groups(axis)
    _refuse(len(groups), len(STYLES), "curves")
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, 2), SHOWN, strict=True):
        for i, ((label, cells), (colour, style)) in enumerate(zip(groups.items(), STYLES, strict=False)):
            cells = sorted(cells, key=lambda cell: results.cells[cell][axis])
            found = [interval(results.metrics[metric][cell]) for cell in cells]
            axes.errorbar(
                [results.cells[cell][axis] for cell in cells],
                [f.mean for f in found],
                [f.high - f.mean for f in found],
                color=colour,
                linestyle=style,
                marker=MARKERS[i],
                capsize=2,
                label=label or None,
            )
        values = [value for value in results.axes[axis] if value > 0]
        if len(values) == len(results.axes[axis]) and max(values) >= 10 * min(values):
            axes.set_xscale("log")
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xlabel(LABELS.get(axis, axis.replace("_", " ")))
        axes.set_ylabel(title)
        plain_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
    return figure


def _maps(results: SweepResults, x: str, y: str) -> Figure:
    groups = results.groups(x, y)
    _refuse(len(groups), MOST_MAPS, "heat maps")
    columns, rows = sorted(results.axes[x]), sorted(results.axes[y])
    height = 0.9 + 0.42 * len(rows) + 0.6
    figure = Figure(figsize=(2 * (2.4 + 0.55 * len(columns)), len(groups) * height), layout="constrained")
    for panels, (label, cells) in zip(figure.subplots(len(groups), 2, squeeze=False), groups.items(), strict=True):
        for axes, (metric, title) in zip(panels, SHOWN, strict=True):
            values = np.full((len(rows), len(columns)), math.nan)
            for cell in cells:
                place = rows.index(results.cells[cell][y]), columns.index(results.cells[cell][x])
                values[place] = np.mean(results.metrics[metric][cell])
            means = [float(np.mean(worlds)) for worlds in results.metrics[metric]]
            heat(axes, values, x=columns, y=rows, ends=(min(means), max(means)), good=metric == "gold_gain")
            axes.set_title(f"{title}\n{label}" if label else title, fontsize=10)
            axes.set_xlabel(LABELS.get(x, x.replace("_", " ")))
            axes.set_ylabel(LABELS.get(y, y.replace("_", " ")))
    return figure


def _points(results: SweepResults) -> Figure:
    names = [results.label(cell) for cell in range(len(results.cells))]
    figure = Figure(figsize=(9, 1.2 + 0.35 * len(names)), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, 2, sharey=True), SHOWN, strict=True):
        for place, values in enumerate(results.metrics[metric]):
            found = interval(values)
            axes.errorbar(
                [found.mean], [place], xerr=found.high - found.mean, color=STYLES[0][0], marker="o", capsize=2
            )
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(title)
        plain_axes(axes)
    figure.axes[0].invert_yaxis()
    return figure
