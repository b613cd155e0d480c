"""Experiments as runs of their own processes: by a protocol with a fingerprint, resumable, a few at a time.

A finished run is one JSON file that names the protocol it followed. It is not run again, so a killed
experiment goes on where it stopped, and results of two protocols are never mixed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from derivations.cli.errors import InputError

Run = TypeVar("Run")


def read_result(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The result of a run, None if it has none. Raises InputError if it is damaged or follows another protocol."""
    if not path.exists():
        return None
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
        follows = result["protocol"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not the result of a run: {error!r}; remove it, and it is run again") from None
    if follows != fingerprint:
        raise InputError(f"{path} follows another protocol ({follows}, not {fingerprint}); choose another folder")
    return result


def start(name: str, module: str, options: Sequence[str], log: Path, *, threads: int = 1) -> int:
    """Run `python -m module options` in a process of its own, its output into a log; returns its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, *options]
    began = time.monotonic()
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    outcome = f"failed, see {log}" if done.returncode else "done"
    print(f"{name}: {outcome} ({time.monotonic() - began:.0f} s)", flush=True)
    return done.returncode


def start_all(runs: Sequence[Run], start_one: Callable[[Run], int], jobs: int) -> list[int]:
    """Exit status of every run, `jobs` at a time; an interrupt starts no more of them.

    The first of several goes alone, because it fills the caches that the others read.
    """
    statuses = [start_one(run) for run in runs[:1]]
    with ThreadPoolExecutor(jobs) as pool:
        statuses += list(pool.map(start_one, runs[1:]))  # `map` cancels what has not begun if this is left early
    return statuses
