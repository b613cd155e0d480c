"""Experiments that go on where they were killed: what is finished is a JSON file with a key, and is not run again.

Runs in processes of their own (`start_all`) leave a file each that names the protocol it followed (`read_result`);
parts of one run lie in a folder that belongs to one protocol and one version of the program (`Unfinished`). So
results of two protocols are never mixed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, to_json, write_json, write_text

Run = TypeVar("Run")
BELONGS = "belongs-to.json"


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


class Unfinished:
    """The finished statements of a run that is not, a file each, in a folder that goes when the page is written.

    Args:
        folder: where they lie; its parent is the folder of the page.
        key: what they belong to, such as protocol and versions. A folder of another key is begun anew.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, key: Any) -> None:
        self.folder, mark, belongs = folder, folder / BELONGS, to_json(key, indent=2)
        if not mark.exists() or mark.read_text(encoding="utf-8") != belongs:
            self.remove()
            write_text(mark, belongs)

    def load(self, name: str) -> dict[str, Any] | None:
        """The record of a statement; None if it is not done. Raises InputError for a file that is not what was kept."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            return None
        found = read_json(file)
        if not isinstance(found, dict) or found.get("sha256") != digest(found.get("statement")):
            raise InputError(f"{file} is damaged: it is not what was written; delete it and run again")
        return dict(found["statement"])

    def keep(self, name: str, record: dict[str, Any]) -> None:
        """Write the record of a finished statement."""
        write_json(self.folder / f"{name}.json", {"statement": record, "sha256": digest(record)})

    def remove(self) -> None:
        """The page is written, or nothing was finished: the folder goes."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def remove_if_empty(self) -> None:
        """After a failure: leave only what somebody can go on from."""
        if {path.name for path in self.folder.iterdir()} == {BELONGS}:
            self.remove()
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()


def digest(record: Any) -> str:
    """SHA-256 of a record as strict JSON, 64 hexadecimal digits."""
    return hashlib.sha256(to_json(record).encode(errors="backslashreplace")).hexdigest()
