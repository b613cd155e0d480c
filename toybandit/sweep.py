"""Sweeps: a grid of settings in blocks, on this process, on all its cores, or on a Ray cluster, with the same bits.

Cells that differ only in the coefficient of one named regularizer run together as one block, with an
array of coefficients. A finished block is a file; a sweep that was killed goes on with the others, and
the results are put together from the files alone, so it ends with the bytes of an uninterrupted one.
"""

import contextlib
import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config

from derivations.cli.errors import InputError, input_errors, suggest
from derivations.cli.files import clear_temporaries, read_json, to_json, write_json, write_text
from derivations.cli.run_folder import clear_killed_start, start_run
from derivations.cli.settings import annotations, check_value, kinds_of
from derivations.evidence.intervals import interval
from derivations.regularizers import REGULARIZERS
from toybandit.experiment import FINAL, assess, check_draw, drawing, drawn, optimize
from toybandit.folders import remove_empty
from toybandit.online import Diverged
from toybandit.settings import Settings

BACKENDS = ("local", "joblib", "ray")
CELLS_PER_BLOCK = 25


@dataclass(frozen=True)
class Grid:
    """A sweep: the settings shared by all cells, and the values of each varied one. cells: their product."""

    base: dict[str, Any]
    axes: dict[str, list[Any]]

    def __post_init__(self) -> None:
        hints = annotations(Settings)
        known = list(hints)
        for name in (*self.axes, *self.base):
            if name not in known:
                raise ValueError(f"unknown setting {name!r}{suggest(name, known)}")
        if not self.axes or not all(self.axes.values()):
            raise ValueError(
                "the grid is empty: give at least one setting with at least one value, coefficient=0.1,0.5"
            )
        for name, value in ((name, value) for name, values in self.axes.items() for value in values):
            with _named("grid: "):
                check_value(name, value, hints[name])
        for name, value in self.base.items():
            check_value(name, value, hints[name])
        for name, values in self.axes.items():
            if len(set(values)) < len(values):
                raise ValueError(f"grid: {name} has a value twice; leave one out")

    def cells(self) -> list[Settings]:
        """Settings of every cell, the last axis fastest. Raises ValueError for a cell that cannot be run."""
        return [
            Settings(**self.base | dict(zip(self.axes, v, strict=True))) for v in itertools.product(*self.axes.values())
        ]


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """`name=value,value` -> name and its values, of the type of the setting. Raises ValueError."""
    name, _, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    known = annotations(Settings)
    if name not in known:
        raise ValueError(f"grid: unknown setting {name!r}{suggest(name, list(known))}")
    kind = kinds_of(known[name])[0][0]
    try:
        return name, [kind(value.strip()) for value in listed.split(",") if value.strip()]
    except ValueError:
        raise ValueError(f"grid: {text!r}: every value of {name} must be a {kind.__name__}") from None


def blocks_of(cells: Sequence[Settings]) -> list[tuple[int, ...]]:
    """Cells (by index) that run together; blocks on the same drawn worlds follow one another."""
    groups: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        vectorized = cell.regularizer in REGULARIZERS and cell.engine == "numpy"
        rest = replace(cell, coefficient=1.0) if vectorized else cell
        groups.setdefault(f"{to_json(drawing(cell))} {to_json(rest)}", []).append(i)
    return [batch for key in sorted(groups) for batch in _batches(groups[key], CELLS_PER_BLOCK)]


def _batches(items: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    return [tuple(items[i : i + size]) for i in range(0, len(items), size)]


def run_block(cells: Sequence[Settings]) -> list[dict[str, list[float]]]:
    """Run cells that differ at most in their coefficient: for each, name -> one final value per seed."""
    first = cells[0]
    bandit, regularizer = drawn(first), None
    if first.regularizer in REGULARIZERS:
        with np.errstate(over="ignore"):  # a strength beyond float32 is infinite, and the run says that it diverged
            strengths = np.array([cell.coefficient for cell in cells], dtype=first.dtype)
        regularizer = REGULARIZERS[first.regularizer](strengths.reshape(-1, 1, 1, 1))
    try:
        final = assess(first, bandit, optimize(bandit, first, regularizer=regularizer)).final
    except Diverged as error:
        if len(cells) > 1:
            for cell in cells:  # alone, so that the one that diverges is named
                run_block([cell])
        raise Diverged(f"the cell {describe(first)}: {error}") from error
    shape = (len(cells), first.seeds)
    spread = {name: np.broadcast_to(values, shape) for name, values in final.items()}
    return [{name: values[i].tolist() for name, values in spread.items()} for i in range(len(cells))]


def describe(cell: Settings) -> str:
    """What a cell has that the standard settings have not: `regularizer=kl coefficient=0.5`."""
    values = {field.name: (getattr(cell, field.name), field.default) for field in fields(Settings)}
    return " ".join(f"{name}={value}" for name, (value, standard) in values.items() if value != standard)


def sweep(grid: Grid, out: Path, *, backend: str = "local", jobs: int = -1) -> Iterator[tuple[int, int]]:
    """Run what is missing of the sweep in `out`; yields (blocks done, blocks in all), first as found, then after each.

    Writes config.json, blocks/*.json, and at the end results.csv (tidy: one row per cell and seed) and
    summary.json. jobs: processes of joblib and tasks of Ray at a time (-1: all cores). Raises InputError
    if `out` holds another sweep or cannot be written.
    """
    with input_errors():
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}{suggest(backend, list(BACKENDS))}")
        if jobs != -1 and jobs < 1:
            raise ValueError(f"--jobs is {jobs}, expected -1 for all cores or a number >= 1")
        cells = grid.cells()
        for cell in cells:
            check_draw(cell)
    blocks = blocks_of(cells)
    clear_killed_start(out)
    with _opened(out, grid):
        yield from _run(grid, cells, blocks, out, backend, jobs)


def _run(
    grid: Grid, cells: list[Settings], blocks: list[tuple[int, ...]], out: Path, backend: str, jobs: int
) -> Iterator[tuple[int, int]]:
    """Run the blocks that are missing, then write the table and the summary."""
    files = [out / "blocks" / f"{i:05d}.json" for i in range(len(blocks))]
    todo = [i for i, file in enumerate(files) if not file.exists()]
    done = len(blocks) - len(todo)
    yield done, len(blocks)
    for i, results in _execute([(i, [cells[c] for c in blocks[i]]) for i in todo], backend, jobs):
        write_json(files[i], results)
        done += 1
        yield done, len(blocks)
    finished = {
        c: r
        for b, f in zip(blocks, files, strict=True)
        for c, r in zip(b, _read(f, [cells[c] for c in b]), strict=True)
    }
    write_text(out / "results.csv", _table(grid, cells, finished))
    write_json(out / "summary.json", _summary(grid, cells, finished))


@contextlib.contextmanager
def _opened(out: Path, grid: Grid) -> Iterator[None]:
    """Begin the sweep in `out`, or check that the one begun there is this one.

    A sweep that fails before its first block is finished leaves nothing, so that its mend can use the folder.
    """
    config = out / "config.json"
    if not config.exists():
        missing = [path for path in (out, *out.parents) if not path.exists()]
        start_run(out, grid)
        try:
            yield
        except Exception:
            if not any(out.glob("blocks/*.json")):
                config.unlink()
                remove_empty([out / "blocks", out, *missing])
            raise
        return
    found = read_json(config)
    begun = found.get("config") if isinstance(found, dict) else None
    if begun != json.loads(to_json(grid)):
        raise InputError(
            f"--out {out} holds another run or sweep; choose another folder, or repeat its settings to resume"
        )
    for folder in (out, out / "blocks"):
        clear_temporaries(folder)
    yield


def _read(file: Path, cells: Sequence[Settings]) -> list[dict[str, list[float]]]:
    """Results of a block: every metric of every cell, one number per seed; null is NaN. Raises InputError."""
    results = read_json(file)
    mend = "delete it and run the sweep again"
    if not isinstance(results, list) or len(results) != len(cells):
        raise InputError(f"{file} is damaged (not {len(cells)} cells); {mend}")
    for cell, result in zip(cells, results, strict=True):
        if not isinstance(result, dict) or set(result) != set(FINAL):
            raise InputError(f"{file} is damaged (metrics are missing or unknown); {mend}")
        for name, values in result.items():
            numbers = isinstance(values, list) and all(v is None or type(v) in (int, float) for v in values)
            if not numbers or len(values) != cell.seeds:
                raise InputError(f"{file} is damaged ({name} is not {cell.seeds} numbers); {mend}")
    return [{n: [math.nan if v is None else v for v in result[n]] for n in FINAL} for result in results]


def _execute(
    work: Sequence[tuple[int, list[Settings]]], backend: str, jobs: int
) -> Iterator[tuple[int, list[dict[str, list[float]]]]]:
    """Results of blocks as they come."""
    if backend == "local":
        for i, cells in work:
            yield i, run_block(cells)
        return
    if backend == "ray":
        _register_ray()
    # Ray's backend returns nothing before all is done, so work goes there in rounds: a kill loses one round.
    workers = cpu_count() if jobs < 0 else jobs
    rounds = _batches(work, 4 * workers) if backend == "ray" else [work]
    how = "list" if backend == "ray" else "generator_unordered"
    for part in rounds:
        with parallel_config(backend="ray" if backend == "ray" else "loky", n_jobs=jobs):
            yield from Parallel(return_as=how)(delayed(_numbered)(i, cells) for i, cells in part)


def _numbered(i: int, cells: list[Settings]) -> tuple[int, list[dict[str, list[float]]]]:
    return i, run_block(cells)


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise InputError("--backend ray needs Ray: pip install '.[cluster]', or use joblib") from error
    register_ray()


def _table(grid: Grid, cells: Sequence[Settings], results: Mapping[int, Mapping[str, list[float]]]) -> str:
    """Tidy CSV: the varied settings, the world's number, then every final metric; floats with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(results[0])
    writer.writerow([*grid.axes, "world_number", *names])
    for i, cell in enumerate(cells):
        varied = [getattr(cell, axis) for axis in grid.axes]
        for s in range(cell.seeds):
            writer.writerow([*varied, s, *(results[i][name][s] for name in names)])
    return text.getvalue()


def _summary(
    grid: Grid, cells: Sequence[Settings], results: Mapping[int, Mapping[str, list[float]]]
) -> list[dict[str, Any]]:
    return [
        {"settings": {axis: getattr(cell, axis) for axis in grid.axes}}
        | {name: asdict(interval(np.array(values))) for name, values in results[i].items()}
        for i, cell in enumerate(cells)
    ]
