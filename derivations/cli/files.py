"""Files written whole or not at all, and JSON that every reader takes."""

import contextlib
import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, reason


def write_text(path: Path, text: str) -> None:
    """Write a file whole: temporary file in the same folder, then rename. InputError where that cannot be done.

    A pipe or a device (/dev/stdout) is written to and never replaced.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate becomes \udXXX, which in JSON is its proper escape
        data = text.encode("utf-8", errors="backslashreplace")
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        temporary.write_bytes(data)
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        with contextlib.suppress(OSError, ValueError):  # never written
            temporary.unlink()
        raise InputError(f"cannot write {path}: {reason(error)}") from error


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON of settings and results: dataclasses, paths and NumPy scalars allowed; NaN and inf become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and torch
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path) or hasattr(value, "free_symbols"):  # a path or a formula
        return str(value)
    return value


def write_json(path: Path, value: Any) -> None:
    """`to_json` into a file, whole, indented."""
    write_text(path, to_json(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds. Raises InputError for one that cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def clear_temporaries(folder: Path) -> None:
    """Remove what a kill within `write_text` leaves in a folder: temporary files that were never renamed."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
