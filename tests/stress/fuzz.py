"""Property: whatever a file holds, its reader returns, or refuses in one line that names the file; in bounded time.

A reader is a function of a folder in which the generated file was put. Everything happens in this process, so
thousands of inputs take seconds; hypothesis makes them and shrinks the first that breaks the law.
"""

import contextlib
import io
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from derivations.cli.errors import InputError
from derivations.conformance.calls import OutOfTime, time_limit
from tests.stress.table import Row

SECONDS = 30.0  # one input may take; a thousand times what the slowest takes on an idle machine
LONGEST = 2000  # characters of a refusal


@dataclass(frozen=True)
class Reader:
    """A reader on trial.

    file: name of the generated file within `folder`. inputs: its contents. read: called with the folder. lay:
    makes the rest of the folder once. writes: names that reading may leave or change. names: a refusal names the file.
    """

    name: str
    file: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[Path], Any]
    lay: Callable[[Path], None] = lambda folder: None
    names: bool = True


def tries(examples: int) -> settings:
    """So many generated inputs, kept nowhere and not timed one by one."""
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


class Lost(AssertionError):
    """The law is broken; the message says how."""


def law(call: Callable[[], Any], *, named: str = "") -> str:
    """Run a reader: `read`, or `refused`. Raises Lost if it did anything else."""
    try:
        with time_limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except InputError as error:
        words = str(error)
        if "\n" in words or "\r" in words or len(words) > LONGEST:
            raise Lost(f"the refusal is no one short line: {words[:200]!r}") from error
        if "\x1b" in words or "\0" in words:
            raise Lost(f"the refusal carries control characters of the file: {words[:200]!r}") from error
        if named not in words:
            raise Lost(f"the refusal does not name {named}: {words[:200]!r}") from error
        return "refused"
    except OutOfTime as error:
        raise Lost(f"no answer within {SECONDS:g} s") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name} line {frame.lineno}"
        raise Lost(f"{type(error).__name__} at {where}: {str(error)[:200]}") from error
    return "read"


def listing(folder: Path) -> dict[str, int]:
    """Every file below with its size, caches of the interpreter left out."""
    return {
        str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }


def fuzz(reader: Reader, *, examples: int, root: int) -> Row:
    """Try a reader on generated files. root: seed of the generator; the same gives the same files."""
    row, counts, start = Row("fuzz", reader.name), {"read": 0, "refused": 0}, time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        reader.lay(folder)
        path = folder / reader.file
        path.parent.mkdir(parents=True, exist_ok=True)

        @seed(root)
        @tries(examples)
        @given(reader.inputs)
        def one(data: bytes) -> None:
            row.tried += 1
            path.write_bytes(data)
            before = listing(folder)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome = law(lambda: reader.read(folder), named=path.name if reader.names else "")
            counts[outcome] += 1
            left = listing(folder)
            if outcome == "refused" and left != before:
                for name in left.keys() - before.keys():
                    (folder / name).unlink()
                raise Lost("a refusal left files behind or changed them")

        try:
            one()
        except Lost as error:
            kept = Path("out") / "fuzz" / f"{reader.name.replace(' ', '-').replace('/', '-')}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)
            row.lost.append(f"{error} (the file: {kept})")
    row.note = f"{counts['read']} read, {counts['refused']} refused, {time.monotonic() - start:.0f} s"
    return row
