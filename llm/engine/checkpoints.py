"""A checkpoint as a folder: sealed by its progress and the hash of every file, so that what was damaged is never gone
on from; put in place whole or not at all; and the random states in it.

`progress.json` is written last; a folder without it was not finished.
"""

import hashlib
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import load

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, to_json, write_json

SEAL = "progress.json"


def seal(folder: Path, progress: dict[str, Any]) -> None:
    """Write `progress` and the SHA-256 of every file of the folder."""
    files = _hashes(sorted(folder.iterdir()))
    write_json(folder / SEAL, {"progress": progress, "of_progress": _of(progress), "files": files})


def unseal(folder: Path) -> dict[str, Any]:
    """The progress of a checkpoint. Raises InputError, naming the file, if anything is not as it was sealed."""
    found = read_json(folder / SEAL)
    mend = "remove the checkpoint to begin anew"
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise InputError(f"{folder / SEAL} is not the seal of a checkpoint; {mend}")
    if found.get("of_progress") != _of(found.get("progress")):
        raise InputError(f"{folder / SEAL} is damaged; {mend}")
    for path in sorted(folder.iterdir()):
        if path.name not in (SEAL, *found["files"]):
            raise InputError(f"{path} does not belong to the checkpoint; remove it")
    for name in found["files"]:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"the checkpoint {folder} has no file {name!r}; {mend}")
    for name, digest in _hashes([folder / name for name in found["files"]]).items():
        if digest != found["files"][name]:
            raise InputError(f"{folder / name} is damaged: it is not what was written; {mend}")
    return dict(found["progress"])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint at `folder`, which a kill between two renames leaves under its old name."""
    places = (folder, folder.with_name(f".{folder.name}.old"))
    return next((p for p in places if (p / SEAL).exists()), None)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Let a sealed folder take the place of the checkpoint before it, one of which is there whole at any moment."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_random_states(folder: Path, rank: int) -> None:
    """Set the generators as a process left them. accelerate does so too, but passes over in silence where it fails."""
    own, first = (folder / f"random_states_{number}.pkl" for number in (rank, 0))
    states = load(own if own.exists() else first)  # tensors and plain values only; a run may get more processes
    random.setstate(states["random_state"])
    np.random.set_state(states["numpy_random_seed"])  # noqa: NPY002 (the global state is what was saved)
    torch.set_rng_state(states["torch_manual_seed"])
    if torch.cuda.is_available() and "torch_cuda_manual_seed" in states:
        torch.cuda.set_rng_state_all(states["torch_cuda_manual_seed"])


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _of(progress: Any) -> str:
    return hashlib.sha256(to_json(progress).encode(errors="backslashreplace")).hexdigest()


def _hashes(paths: list[Path]) -> dict[str, str]:
    """SHA-256 of files by name, several at a time: hashing is what a large checkpoint waits for."""
    with ThreadPoolExecutor() as pool:
        return dict(zip([path.name for path in paths], pool.map(_sha256, paths), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
