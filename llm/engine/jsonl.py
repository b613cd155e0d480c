"""What a run leaves behind and shows: JSONL records, run folders, tables."""

import errno
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from derivations.cli.command_line import show_table
from derivations.cli.errors import InputError, reason
from derivations.cli.files import to_json
from derivations.cli.run_folder import clear_killed_start


class Records:
    """A JSONL file that grows by whole rows, each call one write, so a killed run leaves no half of a row.

    silent: write nothing (processes other than the first).
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path, self.silent = path, silent

    def add(self, *rows: dict[str, Any]) -> None:
        if self.silent or not rows:
            return
        text = "".join(to_json(row) + "\n" for row in rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                data = text.encode("utf-8", errors="backslashreplace")
                if file.write(data) < len(data):  # a disk that fills takes the part that fits, and no error
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written after `size` bytes: rows behind the checkpoint that a run goes on from.

        Raises InputError if less is there than the checkpoint has seen.
        """
        if self.size() < size:
            raise InputError(f"{self.path} has lost rows: {self.size()} bytes of {size}; begin the run anew")
        if not self.silent and self.path.exists():
            os.truncate(self.path, size)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file that a run wrote. Raises InputError naming the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} line {number}: not a row of a run ({error})") from None
    return rows


def require_out(out: Path) -> None:
    """Refuse (InputError) a run folder that could not be made, before anything slow is done."""
    try:
        clear_killed_start(out)
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").exists())):
            raise InputError(f"--out {out} exists and is not a run folder of this project; choose another one")
        parent = next(p for p in (out, *out.parents) if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f"--out {out}: nothing can be written in {parent}")
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise InputError(f"cannot use --out {out}: {reason(error)}") from error


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    if quiet:
        return
    table = Table(title=Text(title), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    show_table(table)
