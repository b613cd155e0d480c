"""Rows of a file or data set, one after another in bounded memory: JSON, JSONL (either as .gz), Parquet, CSV, the hub.

A line of JSONL that cannot be read is a row that cannot be used; whatever else cannot be read stops the reading.
"""

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from derivations.cli.errors import InputError, reason
from llm.data.row_formats.rows import Unusable

_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
MAX_LINE = 2**26  # bytes of one line, which is held in memory a few times over
MAX_LIST_LINE = 2**28  # the same, where the line is a JSON list
MAX_LIST = 2**30  # characters of a JSON list, which can only be read whole
MAX_EXPANSION = 200  # times the size of a compressed file; deflate reaches 1032, text about 10
CHUNK = 2**20  # bytes of a line too long, read to get past it

Rows = Iterator[tuple[str, Any]]  # (place, row), the row an Unusable where it could not be read


def require_source(name: str) -> None:
    """Refuse (InputError) what is neither a file nor the name of a data set, before anything slow is done."""
    try:
        found = Path(name).is_file() or is_hub(name)
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise InputError(f"cannot read {name}: {reason(error)}") from error
    if not found:
        raise InputError(f"no such file: {name}")


def is_hub(name: str) -> bool:
    """Whether it is the name of a data set, `owner/name` or `owner/name:split`, and of no file."""
    path = Path(name)
    return not path.exists() and not path.is_absolute() and not path.suffix and bool(_HUB.fullmatch(name))


def rows_of(name: str) -> Rows:
    """Every row with its place. Raises InputError for a file that is no table."""
    if is_hub(name):
        return _hub(name)
    path = Path(name)
    kinds: dict[str, Callable[[Path], Rows]] = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv}
    return kinds.get(path.suffix.lower(), _json)(path)


def _json(path: Path) -> Rows:
    """Rows of a JSON list, or of JSON lines, whichever the first character says."""
    with _opened(path) as lines:
        head = next(lines, None)
        if head is None:
            return
        first, start = head
        rest = itertools.chain([head], lines)
        if isinstance(start, bytes) and start.lstrip().startswith(b"["):
            yield from _list(path, first, rest)
            return
        for number, line in rest:
            yield f"{path} line {number}", _row(line)


def _list(path: Path, first: int, lines: Iterator[tuple[int, bytes | Unusable]]) -> Rows:
    text, last = io.StringIO(), first
    for number, line in lines:
        if isinstance(line, Unusable):
            raise InputError(f"{path} line {number}: {line}; write it as JSON lines")
        text.write("\n" * (number - last) + _decoded(line, path, number).rstrip("\n"))  # blank lines count
        last = number
        if text.tell() > MAX_LIST:
            raise InputError(f"{path}: a JSON list of more than {MAX_LIST >> 20} MiB; write it as JSON lines")
    try:
        rows = _parsed(text.getvalue())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {first - 1 + error.lineno}: broken JSON ({error.msg} at column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:  # brackets too deep, a number too long, a field twice
        raise InputError(f"{path} line {first}: cannot be read as JSON ({error})") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path} row {number}", row


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: line {number} is not UTF-8 ({_where(error)})") from None


def _where(error: UnicodeDecodeError) -> str:
    return f"byte {error.start + 1} of the line: {error.reason}"


def _row(line: bytes | Unusable) -> Any:
    """The value in a line of JSONL, or why it cannot be read."""
    if isinstance(line, Unusable):
        return line
    try:
        return _parsed(line.decode().rstrip())  # so that a column is one of this line
    except UnicodeDecodeError as error:
        return Unusable(f"the line is not UTF-8 ({_where(error)})")
    except json.JSONDecodeError as error:
        return Unusable(f"broken JSON ({error.msg} at column {error.colno})")
    except (RecursionError, ValueError) as error:  # brackets too deep, a number too long, a field twice
        return Unusable(f"cannot be read as JSON ({error})")


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a field given twice Python would keep the last in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is given twice in one object")
    return found


class _opened:
    """(number, line) of a file, plain or .gz, blank ones left out; a line ends at a newline and nowhere else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Iterator[tuple[int, bytes | Unusable]]:
        try:
            self.raw = self.path.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"cannot read {self.path}: {error}") from error
        return self._lines()

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def _lines(self) -> Iterator[tuple[int, bytes | Unusable]]:
        packed = self.path.suffix == ".gz"
        file: IO[bytes] = gzip.GzipFile(fileobj=self.raw) if packed else self.raw  # type: ignore[assignment]
        size = 0
        try:
            for number in itertools.count(1):
                line, length = self._line(file, number, size if packed else None)
                size += length
                self._require_text(size if packed else None)
                if not length:
                    return
                if isinstance(line, Unusable) or line.strip():
                    yield number, line
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot read {self.path}: {error}") from error

    def _line(self, file: IO[bytes], number: int, before: int | None) -> tuple[bytes | Unusable, int]:
        """The next line and its length; of one too long only the length. A JSON list may stand in one long first line.

        before: bytes that came before it, of a compressed file.
        """
        line = file.readline(MAX_LINE + 1)
        length = len(line)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            if length > MAX_LINE and line.lstrip().startswith(b"["):
                line += file.readline(MAX_LIST_LINE - len(line))
                length = len(line)
                if length < MAX_LIST_LINE:
                    return line, length
        if length <= MAX_LINE:
            return line, length
        while not line.endswith(b"\n") and (line := file.readline(CHUNK)):
            length += len(line)
            self._require_text(None if before is None else before + length)
        return Unusable(f"a line of {length >> 20} MiB; at most {MAX_LINE >> 20} MiB are read"), length

    def _require_text(self, size: int | None) -> None:
        """Refuse (InputError) a compressed file that has grown to a size that text does not reach."""
        if size is not None and size > most_bytes(self.raw.tell()):
            raise expands(self.path)


def most_bytes(compressed: int) -> int:
    """How large the content of so many compressed bytes may be before it is taken for a bomb."""
    return max(2**22, MAX_EXPANSION * compressed)


def expands(path: Path) -> InputError:
    return InputError(
        f"{path} expands to more than {MAX_EXPANSION} times its size, which text does not; it is not read"
    )


def _csv(path: Path) -> Rows:
    """Rows of a table of texts with a header, separated by commas (.tsv: by tabs)."""
    csv.field_size_limit(MAX_LINE)
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(_short(file, path), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            names = table.fieldnames or []
            if len(set(names)) < len(names):
                raise InputError(f"{path}: two columns of one name in the header")
            for number, row in enumerate(table, start=1):
                odd = None in row or None in row.values()
                yield f"{path} row {number}", Unusable("more or fewer cells than the header has") if odd else row
    except (OSError, ValueError, csv.Error) as error:  # ValueError: no UTF-8
        raise InputError(f"cannot read {path}: behind row {number}: {_first_line(error)}") from None


def _short(file: IO[str], path: Path) -> Iterator[str]:
    """Lines of a file. Raises InputError for one too long."""
    while line := file.readline(MAX_LINE):
        if len(line) >= MAX_LINE:
            raise InputError(f"cannot read {path}: a line of more than {MAX_LINE >> 20} MiB")
        yield line


def _parquet(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            yield from _parquet_rows(file, str(path), path.stat().st_size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {_first_line(error)}") from None


def _parquet_rows(opened: Any, name: str, size: int) -> Rows:
    """Rows of an open file of so many bytes, a few at a time: a whole row group may be larger than the memory."""
    import pyarrow
    import pyarrow.parquet

    number, budget = 0, most_bytes(size)
    try:
        with pyarrow.parquet.ParquetFile(opened, buffer_size=CHUNK, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=16):
                for row in batch.to_pylist():
                    number += 1
                    budget -= len(repr(row))
                    if budget < 0:
                        raise expands(Path(name))
                    yield f"{name} row {number}", row
    except (OSError, pyarrow.ArrowException, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise InputError(f"cannot read {name}: {_first_line(error)}") from None


def _hub(name: str) -> Rows:
    """Rows of a data set, streamed: nothing is downloaded that is not read."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, split = name.partition(":")
    try:
        builder = load_dataset_builder(repository)
        rows = _hub_rows(builder, split or "train")
        yield from ((f"{name} row {number}", row) for number, row in enumerate(rows, start=1))
    except (OSError, ValueError, DatasetsError, HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"data set {name!r} cannot be loaded: {_first_line(error)}") from None


def _hub_rows(builder: Any, split: str) -> Iterator[Any]:
    """Of Parquet its own reader's, since `datasets` holds a row group at a time; else those of `datasets`."""
    import fsspec
    from datasets.packaged_modules.parquet.parquet import Parquet

    files = builder.config.data_files or {}
    if not (isinstance(builder, Parquet) and split in files):
        yield from builder.as_streaming_dataset(split=split)
        return
    for url in files[split]:
        with fsspec.open(url, "rb") as file:
            yield from (row for _, row in _parquet_rows(file, url, file.size))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
