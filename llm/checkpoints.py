"""The seal of a checkpoint: its progress and the hash of every file, so that what was damaged is never gone on from.

`progress.json` is written last; a folder without it was not finished.
"""

import hashlib
from pathlib import Path
from typing import Any

from derivations.commands import InputError, read_json, to_json, write_json

SEAL = "progress.json"


def seal(folder: Path, progress: dict[str, Any]) -> None:
    """Write `progress` and the SHA-256 of every file of the folder."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
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
    for name, digest in found["files"].items():
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"the checkpoint {folder} has no file {name!r}; {mend}")
        if _sha256(folder / name) != digest:
            raise InputError(f"{folder / name} is damaged: it is not what was written; {mend}")
    return dict(found["progress"])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint at `folder`, which a kill between two renames leaves under its old name."""
    places = (folder, folder.with_name(f".{folder.name}.old"))
    return next((p for p in places if (p / SEAL).exists()), None)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _of(progress: Any) -> str:
    return hashlib.sha256(to_json(progress).encode(errors="backslashreplace")).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
