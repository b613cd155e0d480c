"""SIGKILL at random moments, then the same command again: its results must be those of a run that was let alone.

A `Job` is any command line that can be given twice. It runs once whole; then again and again in a folder of its own,
where its process group is killed at a random moment between its first file and its last, or at the moment in which
a file matching `aim` appears (a checkpoint being written). The command of `again` goes on with it.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.stress.table import Row

WAIT = 600.0  # seconds that a run may take; longer is a hang
BESIDE = ("seconds", "peak_memory_gib", "git_commit")  # what a result is not: a commit may be made meanwhile


@dataclass(frozen=True)
class Job:
    """command, again: arguments behind `python`, with {out} for the run folder. files: results that are compared, by
    name within the run folder; of JSON objects measured times and the commit are left out. first: the file that says
    that work begins. aim: a glob within the run folder; a kill that is aimed strikes when it first matches, after
    up to `often - 1` times. often: how often it does so in a run, at least.
    """

    name: str
    command: tuple[str, ...]
    again: tuple[str, ...]
    files: tuple[str, ...]
    first: str = "config.json"
    aim: str = ""
    often: int = 3


def start(arguments: tuple[str, ...], out: Path, folder: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own, on CPUs, with a cache of its own in `folder`."""
    words = [word.replace("{out}", str(out)) for word in arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= {"ACCELERATE_USE_CPU": "true", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def strike(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the process and all it started; a launcher's workers may be in sessions of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family[1:], timeout=WAIT)
    process.communicate()


def said_by(process: subprocess.Popen[str]) -> str:
    """All it printed, once it has ended. What does not end within `WAIT` is killed, as its status then shows."""
    try:
        return process.communicate(timeout=WAIT)[0]
    except subprocess.TimeoutExpired:
        strike(process)
        return f"no end within {WAIT:g} s"


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> bool:
    """Wait for a condition; False if the process ended before."""
    end = time.monotonic() + WAIT
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened within {WAIT:g} s")
        time.sleep(0.0005)
    return True


def results(out: Path, files: tuple[str, ...]) -> dict[str, Any]:
    """The bytes of every file; of JSON and its rows all but `BESIDE`."""
    return {name: _result(out / name) for name in files}


def _result(path: Path) -> Any:
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def timeless(value: Any) -> Any:
    """A JSON value without what says how long it took, and from which commit."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in BESIDE}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def debris(out: Path) -> list[str]:
    """What no finished run has: temporary files and folders."""
    return [str(path.relative_to(out)) for path in out.rglob(".*") if path.name != ".gitattributes"]


def kill(job: Job, folder: Path, *, times: int, aimed: int, root: int) -> Row:
    """`times` kills, the first `aimed` of them aimed. root: seed of the moments."""
    folder.mkdir(parents=True, exist_ok=True)
    row, rng = Row("kill", job.name), random.Random(root)  # noqa: S311
    process = start(job.command, folder / "whole", folder)
    if not until((folder / "whole" / job.first).exists, process):
        return _broken(row, process)
    began = time.monotonic()
    if process.wait(WAIT):
        return _broken(row, process)
    lasts, expected = time.monotonic() - began, results(folder / "whole", job.files)
    for number in range(times):
        out, share = folder / f"killed-{number}", 1.0
        while not (how := _kill_once(job, out, folder, lasts * share, rng, aim=number < aimed)):
            shutil.rmtree(out)  # it had ended before; runs take longer at one time than at another
            share *= 0.7
        process = start(job.again, out, folder)
        said = said_by(process)
        row.tried += 1
        print(f"  {job.name}, {row.tried} of {times}: {how}", file=sys.stderr, flush=True)
        if process.returncode:
            row.lost.append(f"{how}: going on ended with status {process.returncode}: {said.strip()[-300:]}")
        elif different := [name for name, value in results(out, job.files).items() if value != expected[name]]:
            row.lost.append(f"{how}: {', '.join(different)} differ from the uninterrupted run's")
        elif left := debris(out):
            row.lost.append(f"{how}: {', '.join(left)} left behind")
        else:
            shutil.rmtree(out)
    row.note = f"{aimed} aimed at {job.aim}, {times - aimed} at random moments of {lasts:.1f} s"
    return row


def _kill_once(job: Job, out: Path, folder: Path, lasts: float, rng: random.Random, *, aim: bool) -> str:
    """Start, kill. Returns the moment in words; nothing if the run had ended before."""
    process = start(job.command, out, folder)
    if aim:
        skip, delay = rng.randrange(job.often), rng.uniform(0, 0.01)
        for _ in range(skip):
            until(lambda: any(out.glob(job.aim)), process)
            until(lambda: not any(out.glob(job.aim)), process)
        alive = until(lambda: any(out.glob(job.aim)), process)
        time.sleep(delay)
        words = f"killed {1000 * delay:.1f} ms into {job.aim} number {skip + 1}"
    else:
        moment = rng.uniform(0, lasts)
        alive = until((out / job.first).exists, process)
        began = time.monotonic()
        until(lambda: time.monotonic() - began >= moment, process)
        words = f"killed after {moment:.2f} s of work"
    if alive and process.poll() is None:
        strike(process)
        return words
    process.communicate()
    return ""


def _broken(row: Row, process: subprocess.Popen[str]) -> Row:
    row.lost.append(f"the uninterrupted run failed: {process.communicate()[0][-500:]}")
    return row
