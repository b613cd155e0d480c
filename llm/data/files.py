"""Reading preference data: JSON, JSONL (either as .gz), Parquet, or a data set of the hub.

Rows become comparisons by their shape (`llm.data.row_formats`). A row whose types are wrong stops the reading
with its place; a row whose content cannot be used is returned with the reason, never dropped in silence.
"""

import gzip
import io
import itertools
import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, reason
from llm.data.row_formats import Comparison, Unusable, detect_shape, parse

_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
Skipped = list[tuple[str, str]]  # (place, reason)
MAX_LINE = 2**28  # bytes of one line, which is held in memory a few times over
MAX_LIST = 2**30  # characters of a JSON list, which can only be read whole
MAX_EXPANSION = 200  # times the size of a compressed file; deflate reaches 1032, text about 10


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
        found = Path(name).is_file() or _is_hub(name)
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise InputError(f"cannot read {name}: {reason(error)}") from error
    if not found:
        raise InputError(f"no such file: {name}")


def _is_hub(name: str) -> bool:
    path = Path(name)
    return not path.exists() and not path.is_absolute() and not path.suffix and bool(_HUB.fullmatch(name))


def _read_rows(name: str) -> list[tuple[str, Any]]:
    path = Path(name)
    if _is_hub(name):
        return _read_hub(name)
    return _read_parquet(path) if path.suffix == ".parquet" else _read_json(path)


def _read_json(path: Path) -> list[tuple[str, Any]]:
    """Rows of a JSON list, or of JSON lines, whichever the first character says."""
    rest = _lines(path)
    first, head = next(rest, (1, ""))
    lines = itertools.chain([(first, head)] if head else [], rest)
    if not head.lstrip().startswith("["):
        return [(f"{path} line {n}", _parse_json(line, path, n)) for n, line in lines]
    text, last = io.StringIO(), first
    for n, line in lines:
        text.write("\n" * (n - last) + line.rstrip("\n"))  # blank lines count
        last = n
        if text.tell() > MAX_LIST:
            raise InputError(f"{path}: a JSON list of more than {MAX_LIST >> 20} MiB; write it as JSON lines")
    return [(f"{path} row {n}", row) for n, row in enumerate(_parse_json(text.getvalue(), path, first), start=1)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of a text file, plain or .gz, blank ones left out; a line ends at a newline and nowhere else."""
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as file:
            size = 0
            for number in itertools.count(1):
                line = file.readline(MAX_LINE + 1)
                size += len(line)
                if len(line) > MAX_LINE:
                    raise InputError(f"{path} line {number}: longer than {MAX_LINE >> 20} MiB, which no comparison is")
                if size > _most_bytes(raw.tell()) and file is not raw:
                    raise _expands(path)
                if not line:
                    return
                if line.strip():
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"cannot read {path}: line {number} is not UTF-8 (byte {error.start + 1} of the line: {error.reason})"
        ) from None
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"cannot read {path}: {error}") from error


def _most_bytes(compressed: int) -> int:
    """How large the content of so many compressed bytes may be before it is taken for a bomb."""
    return max(2**22, MAX_EXPANSION * compressed)


def _expands(path: Path) -> InputError:
    return InputError(
        f"{path} expands to more than {MAX_EXPANSION} times its size, which text does not; it is not read"
    )


def _parse_json(text: str, path: Path, line: int) -> Any:
    """The value in a text that begins at a line of the file."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {line - 1 + error.lineno}: broken JSON ({error.msg} at column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:  # brackets too deep, a number too long, a field twice
        raise InputError(f"{path} line {line}: cannot be read as JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a field given twice Python would keep the last in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is given twice in one object")
    return found


def _read_parquet(path: Path) -> list[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    rows: list[Any] = []
    try:
        budget = _most_bytes(path.stat().st_size)
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                rows += batch.to_pylist()
                budget -= sum(len(repr(row)) for row in rows[-len(batch) :])
                if budget < 0:
                    raise _expands(path)
    except (OSError, pyarrow.ArrowException, ValueError, KeyError, OverflowError, MemoryError) as error:
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
