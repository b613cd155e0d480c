"""A long run on a tiny model: memory of its own against optimizer steps, with the slope's interval over blocks."""

import time
from pathlib import Path

import numpy as np
import psutil
from scipy import stats

from tests.stress.jobs import train_arguments
from tests.stress.kill import start
from tests.stress.table import Row

BLOCKS = 20  # means of neighbouring samples, which depend on one another
SETTLED = 0.25  # share of the steps before which caches fill
MOST = 50.0  # MiB by which the rest may grow, by the upper end of the interval and from its first block to its last


def slope(steps: np.ndarray, memory: np.ndarray) -> tuple[float, float, float]:
    """Least-squares slope of block means, with its 95 % interval (Student, BLOCKS - 2 degrees of freedom)."""
    x, y = (np.array([part.mean() for part in np.array_split(values, BLOCKS)]) for values in (steps, memory))
    fit = stats.linregress(x, y)
    half = stats.t.ppf(0.975, BLOCKS - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def growth(steps: np.ndarray, memory: np.ndarray) -> tuple[str, float]:
    """In words, and the most MiB that memory may have grown by over these steps."""
    mean, low, high = (value * (steps[-1] - steps[0]) for value in slope(steps, memory))
    blocks = [part.mean() for part in np.array_split(memory, BLOCKS)]
    rise = float(blocks[-1] - blocks[0])
    words = f"{memory.mean():.0f} MiB without libraries; over the last {steps[-1] - steps[0]:.0f} steps "
    words += f"{mean:+.1f} MiB by the slope [{low:+.1f}, {high:+.1f}], "
    words += f"{rise:+.1f} from the first of {BLOCKS} blocks to the last"
    return f"{words}; {len(memory)} samples", float(max(high, rise))


def own_memory(process: psutil.Process) -> int:
    """Resident bytes without those mapped from files (libraries), which the kernel drops and reads again at will."""
    found = process.memory_info()
    return int(found.rss - getattr(found, "shared", 0))  # only Linux tells


def samples(folder: Path, steps: int, root: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(step, MiB of its own) of a run, ten times a second, and what it said if it failed."""
    options = {
        "max-steps": steps,
        "checkpoint-every": 100,
        "eval-every": 100,
        "batch-size": 4,
        "lr": 1e-4,
        "seed": root,
    }
    out = folder / "run"
    process = start((*train_arguments(folder, **options), "--out", str(out)), out, folder)
    watched, found = psutil.Process(process.pid), []
    metrics = out / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists():
            try:
                found.append((metrics.read_bytes().count(b"\n"), own_memory(watched) / 2**20))
            except psutil.NoSuchProcess:
                break
        time.sleep(0.1)
    said = process.communicate()[0]
    at, memory = np.array(found, dtype=float).reshape(-1, 2).T
    return at, memory, said if process.returncode else ""


def soak(folder: Path, *, steps: int, root: int) -> Row:
    """Train for `steps` optimizer steps and judge how memory grew after the first quarter of them."""
    row = Row("soak", f"{steps} optimizer steps, resident memory")
    at, memory, failed = samples(folder, steps, root)
    if failed:
        row.lost.append(f"the run failed: {failed[-300:]}")
        return row
    late = at > SETTLED * steps
    row.tried = steps
    row.note, most = growth(at[late], memory[late])
    if most > MOST:
        row.lost.append(f"memory may grow: {row.note}")
    return row
