"""What a run leaves behind and shows: JSONL records, run folders, progress, tables."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from derivations.commands import InputError, to_json

T = TypeVar("T")


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
                file.write(text.encode("utf-8", errors="backslashreplace"))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written after `size` bytes: rows behind the checkpoint that a run goes on from."""
        if not self.silent and self.path.exists():
            os.truncate(self.path, size)


def require_out(out: Path) -> None:
    """Refuse (InputError) a run folder that could not be made, before anything slow is done."""
    try:
        _require_out(out)
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise InputError(f"cannot use --out {out}: {getattr(error, 'strerror', None) or error}") from None


def _require_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").exists())):
        raise InputError(f"--out {out} exists and is not a run folder of this project; choose another one")
    parent = next(p for p in (out, *out.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: nothing can be written in {parent}")


def progress(items: Iterable[T], description: str, *, quiet: bool) -> Iterable[T]:
    """The items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(items, description, console=console, disable=quiet or not console.is_terminal)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    if quiet:
        return
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
