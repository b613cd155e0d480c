"""Pictures that are told apart without colour and are read where a page is 390 pixels wide."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.cli.files import write_text
from derivations.evidence.intervals import interval

# Colour-blind safe (Okabe and Ito), each with a line style of its own, in the order in which they are taken.
STYLES: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#000000", ":"),
    ("#009E73", "-."),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
    ("#E69F00", (0, (8, 2))),
    ("#56B4E9", (0, (1, 1))),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.4  # inches; at 390 pixels, letters of 10 points are as large as 10 pixels


def save_svg(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on nothing but the picture."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_text(path, "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")


def panels(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    """A figure of `height` inches and its axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    found = figure.subplots(rows, columns, squeeze=False)
    for axes in found.flat:
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def legend(figure: Figure, axes: Axes, *, columns: int, title: str = "") -> Figure:
    """One legend above all panels, of the lines of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, handlelength=3, title=title or None
    )
    return figure


def dot(axes: Axes, place: int, values: np.ndarray, colour: str, marker: str) -> None:
    """Mean over seeds at a height, with its 95 % interval where there is one."""
    found = interval(values)
    if np.isfinite(found.low):
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
    axes.plot([found.mean], [place], marker=marker, color=colour)


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, style: Any, label: str, *, marker: str = ""
) -> None:
    """Mean and 95 % band over seeds of values [times, seeds]; with one seed the line alone."""
    found = [interval(v) for v in values]
    mean, low, high = (np.array([getattr(f, end) for f in found]) for end in ("mean", "low", "high"))
    if np.isfinite(low).all():
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=style, linewidth=1.8, label=label, marker=marker or None, markersize=5)
