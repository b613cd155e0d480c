"""Reading preference data: JSON, JSONL (either as .gz), Parquet, or a data set of the hub.

Rows become comparisons by their shape (`llm.shapes`). A row whose types are wrong stops the reading
with its place; a row whose content cannot be used is returned with the reason, never dropped in silence.
"""

import gzip
import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.commands import InputError
from llm.shapes import Comparison, Unusable, detect_shape, parse

_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
Skipped = list[tuple[str, str]]  # (place, reason)


@dataclass(frozen=True)
class Source:
    """What one file or data set holds. shape: as detected or named."""

    name: str
    shape: str
    comparisons: list[Comparison]
    skipped: Skipped


def read_source(name: str | Path, *, shape: str = "auto") -> Source:
    """Comparisons of a file, or of a hub data set written `owner/name` or `owner/name:split`.

    shape: pairs, sharegpt, transcripts, rankings, or auto to go by the fields of the first row. Raises
    InputError naming file, line or row, and field.
    """
    rows = _read_rows(str(name))
    if not rows:
        raise InputError(f"{name} holds no rows")
    shape = detect_shape(rows[0][1], rows[0][0]) if shape == "auto" else shape
    comparisons: list[Comparison] = []
    skipped: Skipped = []
    for where, row in rows:
        try:
            comparisons.append(parse(shape, row, where))
        except Unusable as reason:
            skipped.append((where, str(reason)))
    return Source(str(name), shape, comparisons, skipped)


def require_usable(source: Source) -> None:
    """Refuse (InputError) a source of which every row was skipped, with the first reason."""
    if not source.comparisons:
        where, reason = source.skipped[0]
        raise InputError(f"{source.name}: no usable comparison; first: {where}: {reason}")


def require_source(name: str) -> None:
    """Refuse (InputError) what is neither a file nor the name of a data set, before anything slow is done."""
    try:
        there = Path(name).is_file() or _is_hub(name)
    except OSError as error:  # a name too long
        raise InputError(f"cannot read {name}: {error.strerror}") from None
    if not there:
        raise InputError(f"no such file: {name}")


def _is_hub(name: str) -> bool:
    path = Path(name)
    return not path.exists() and not path.is_absolute() and not path.suffix and bool(_HUB.fullmatch(name))


def _read_rows(name: str) -> list[tuple[str, Any]]:
    path = Path(name)
    if _is_hub(name):
        return _read_hub(name)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        return [(f"{path} row {n}", row) for n, row in enumerate(_parse_json(text, path, 0), start=1)]
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(f"{path} line {n}", _parse_json(line, path, n - 1)) for n, line in lines]


def _parse_json(text: str, path: Path, lines_before: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {lines_before + error.lineno}: broken JSON ({error.msg} at column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:  # brackets too deep, a number too long
        raise InputError(f"{path} line {lines_before + 1}: cannot be read as JSON ({error})") from None


def _read_parquet(path: Path) -> list[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {_first_line(error)}") from None
    return [(f"{path} row {n}", row) for n, row in enumerate(rows, start=1)]


def _read_hub(name: str) -> list[tuple[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, split = name.partition(":")
    try:
        rows = load_dataset(repository, split=split or "train")
    except (OSError, ValueError, DatasetsError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"data set {name!r} cannot be loaded: {_first_line(error)}") from None
    return [(f"{name} row {n}", row) for n, row in enumerate(rows, start=1)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def split_off(items: Sequence[Any], *, eval_size: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Train and evaluation parts by seed. Raises InputError if nothing would be left to train on."""
    if len(items) <= eval_size:
        raise InputError(
            f"{len(items)} usable comparisons are too few to hold out {eval_size} for evaluation; lower --eval-size"
        )
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    return shuffled[eval_size:], shuffled[:eval_size]
