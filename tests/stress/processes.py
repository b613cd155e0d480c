"""One run on one process and on two: the same numbers, and checkpoints that move between them."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from tests.stress.jobs import TWO, train_arguments
from tests.stress.kill import said_by, start, strike, until
from tests.stress.table import Row

FIRST, LATER = 1e-6, 1e-4  # relative; behind Adam's division float32 sums of another order differ a little more


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def differences(a: Path, b: Path) -> list[str]:
    """Metrics of two runs that are not the same to rounding."""
    first, second = rows(a), rows(b)
    if len(first) != len(second):
        return [f"{len(first)} rows and {len(second)}"]
    wrong = []
    for x, y in zip(first, second, strict=True):
        close = FIRST if x["step"] <= 1 and "loss" in x else LATER
        wrong += [
            f"step {x['step']} {name}: {x[name]} and {y.get(name)}"
            for name in x
            if name not in y or not math.isclose(x[name], y[name], rel_tol=close, abs_tol=2e-6)
        ]
    return wrong


def split(folder: Path, *, root: int) -> list[Row]:
    """Uneven batches on two processes, killed after a checkpoint and gone on with on as many or as few."""
    options = {"max-steps": 12, "checkpoint-every": 4, "batch-size": 5, "lr": 1e-3, "seed": root, "micro-batch-size": 2}
    command = (*train_arguments(folder, **options), "--out", "{out}")
    launch = {1: command, 2: (*TWO, *command)}
    same, moved = Row("processes", "2 processes against 1, uneven batches"), Row("processes", "checkpoints that move")
    for processes in (1, 2):
        process = start(launch[processes], folder / f"whole-{processes}", folder)
        said = said_by(process)
        if process.returncode:
            same.lost.append(f"{processes} process(es) ended with {process.returncode}: {said[-300:]}")
            return [same]
    same.tried += 1
    same.lost += differences(folder / "whole-1", folder / "whole-2")[:3]
    for before, after in ((1, 2), (2, 1), (2, 2)):
        out = folder / f"from-{before}-to-{after}"
        process = start(launch[before], out, folder)
        hit = until((out / "checkpoints" / "resume" / "progress.json").exists, process)
        strike(process)
        process = start((*launch[after], "--resume"), out, folder)
        said = said_by(process)
        moved.tried += 1
        if not hit or process.returncode:
            moved.lost.append(f"from {before} to {after}: status {process.returncode}, {said[-300:]}")
        elif wrong := differences(folder / "whole-1", out):
            moved.lost.append(f"from {before} to {after}: {wrong[0]} and {len(wrong) - 1} more")
        else:
            shutil.rmtree(out)
    same.note = f"metrics of 12 steps to {FIRST:g}, behind Adam to {LATER:g}"
    return [same, moved]
