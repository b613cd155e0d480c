"""What a finished sweep holds: its cells with one value per world, which of them end best, and the table of that."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from derivations.cli.errors import InputError
from derivations.cli.files import read_json
from derivations.evidence.intervals import interval
from toybandit.experiment import FINAL
from toybandit.words import show

STRENGTH = "coefficient"
MOST_ROWS = 30


@dataclass(frozen=True)
class SweepResults:
    """Axes with their values, the cells' settings on them, and metric name -> for each cell one value per world."""

    axes: dict[str, list[Any]]
    cells: list[dict[str, Any]]
    metrics: dict[str, list[np.ndarray]]

    def label(self, cell: int, *, without: Sequence[str] = ()) -> str:
        """`regularizer=kl coefficient=0.5`."""
        return " ".join(f"{name}={value}" for name, value in self.cells[cell].items() if name not in without)

    def groups(self, *free: str) -> dict[str, list[int]]:
        """Cells that differ only in the free axes, by what they share."""
        found: dict[str, list[int]] = {}
        for cell in range(len(self.cells)):
            found.setdefault(self.label(cell, without=free), []).append(cell)
        return found

    def best(self, cells: Sequence[int]) -> int:
        """The cell with the highest mean gold reward at the end."""
        return max(cells, key=lambda cell: float(np.mean(self.metrics["gold_gain"][cell])))

    def as_good(self, best: int, cells: Sequence[int]) -> list[int]:
        """The other cells whose gold, world by world, is not told apart from the best one's (95 %)."""
        gold = self.metrics["gold_gain"]
        others = [cell for cell in cells if cell != best and len(gold[cell]) == len(gold[best])]
        return [cell for cell in others if interval(gold[best] - gold[cell]).low <= 0]


def read_sweep(folder: Path) -> SweepResults:
    """The results in a folder of `toybandit sweep`. Raises InputError if it is not one, or is not finished."""
    found = read_json(folder / "config.json")
    config = found.get("config") if isinstance(found, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("axes"), dict):
        raise InputError(f"{folder} is not the folder of a sweep")
    axes, path = config["axes"], folder / "results.csv"
    if not path.is_file():
        raise InputError(f"{path}: No such file; the sweep is not finished, run it again to go on")
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        keys = [tuple(row[name] for name in axes) for row in rows]
        values = {name: np.array([float(row[name]) for row in rows]) for name in FINAL}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and run the sweep again") from error
    places: dict[tuple[str, ...], list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    known = {name: {str(value): value for value in listed} for name, listed in axes.items()}
    try:
        cells = [{name: known[name][text] for name, text in zip(axes, key, strict=True)} for key in places]
    except KeyError as error:
        raise InputError(f"{path} is damaged (a value {error} that the sweep has not); run the sweep again") from error
    return SweepResults(axes, cells, {name: [array[i] for i in places.values()] for name, array in values.items()})


def sweep_table(results: SweepResults) -> Table:
    """The best strength of each group by its final gold reward, or every cell where the strength is not varied."""
    varied = STRENGTH in results.axes
    groups = list(results.groups(STRENGTH).values()) if varied else [[i] for i in range(len(results.cells))]
    best = sorted(
        ((results.best(cells), cells) for cells in groups),
        key=lambda row: -float(np.mean(results.metrics["gold_gain"][row[0]])),
    )
    title = "best strength by final gold reward" if varied else "cells by final gold reward"
    table = Table(title=f"{title}: mean and 95 % interval over worlds", title_justify="left", caption_justify="left")
    shared = [name for name in results.axes if name != STRENGTH]
    for name in shared:
        table.add_column(name, overflow="fold")
    if varied:
        table.add_column("best", justify="right")
        table.add_column("as good", justify="right")
    for name in ("gold gain", "gold lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell, cells in best[:MOST_ROWS]:
        choice = []
        if varied:
            near = results.as_good(cell, cells)
            choice = [
                str(results.cells[cell][STRENGTH]),
                ", ".join(str(results.cells[i][STRENGTH]) for i in near) or "-",
            ]
        numbers = [show(interval(results.metrics[name][cell])) for name in ("gold_gain", "overoptimization")]
        table.add_row(*(str(results.cells[cell][name]) for name in shared), *choice, *numbers)
    if len(best) > MOST_ROWS:
        table.caption = f"and {len(best) - MOST_ROWS} more in summary.json"
    return table


def sweep_in_words(results: SweepResults, out: Path, *, drawn: bool) -> str:
    """What came out best, what is not told apart from it, and what to do next."""
    everything = range(len(results.cells))
    best = results.best(everything)
    gold, near = interval(results.metrics["gold_gain"][best]), results.as_good(best, everything)
    found = f"found: gold ends highest at {results.label(best)}: {show(gold)} reward units above the reference"
    if near:
        found += f"; world by world {len(near)} of the other {len(everything) - 1} cells are not told apart from it"
    picture = f"look at {out / 'figures' / 'sweep.png'}" if drawn else f"python -m toybandit plot {out}"
    control = any(cell.get(STRENGTH) == 0 or cell.get("regularizer") == "none" for cell in results.cells)
    with_control = (
        "" if control or STRENGTH not in results.axes else "; add coefficient 0, the control without regularizer"
    )
    again = "repeat the best cell on new worlds (--seed 1), as it was chosen on these"
    return f"{found}.\nnext: {picture}; {again}{with_control}."
