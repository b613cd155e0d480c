"""Statements that are done before all are: one file each, so that a killed run goes on where it stopped.

The folder lies beside the page until the page is written. It belongs to one protocol and one version of the
program and its libraries; under any other it is begun anew, so a page never mixes two.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, to_json, write_json, write_text
from derivations.cli.run_folder import versions
from derivations.evidence.intervals import Interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Check, Statement
from toybandit.plots import save_figure

FOLDER = "toy-unfinished"
BELONGS = "belongs-to.json"


class Unfinished:
    """The finished statements of an unfinished run in `out`. Raises InputError if `out` cannot be written."""

    def __init__(self, out: Path, protocol_text: str) -> None:
        self.out, self.folder = out, out / FOLDER
        belongs = to_json({"protocol": protocol_text, "versions": versions()}, indent=2)
        mark = self.folder / BELONGS
        if not mark.exists() or mark.read_text(encoding="utf-8") != belongs:
            self.remove()
            write_text(mark, belongs)

    def load(self, name: str) -> Statement | None:
        """The statement if it is done; None otherwise. Raises InputError for a file that is none."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            return None
        found = read_json(file)
        if not isinstance(found, dict) or found.get("sha256") != _digest(found.get("statement")):
            raise InputError(f"{file} is damaged: it is not what was written; delete it and run again")
        return from_record(found["statement"])

    def keep(self, name: str, statement: Statement, figures: Mapping[str, Figure]) -> None:
        """Write a finished statement, its figures first."""
        for figure in statement.figures:
            save_figure(figures[figure], self.out / "figures" / f"toy-{figure}.png")
        record = asdict(statement)
        write_json(self.folder / f"{name}.json", {"statement": record, "sha256": _digest(record)})

    def remove(self) -> None:
        """The page is written, or nothing was finished: the folder goes."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def remove_if_empty(self) -> None:
        """After a failure: leave only what somebody can go on from."""
        if {path.name for path in self.folder.iterdir()} == {BELONGS}:
            self.remove()
            if not any(self.out.iterdir()):
                self.out.rmdir()


def _digest(record: Any) -> str:
    return hashlib.sha256(to_json(record).encode(errors="backslashreplace")).hexdigest()


def from_record(record: Mapping[str, Any]) -> Statement:
    """A statement from the JSON that `Unfinished.keep` wrote."""
    checks = [Check(**check | {"measured": Interval(**check["measured"])}) for check in record["checks"]]
    tables = [Table(**table) for table in record["tables"]]
    return Statement(**dict(record) | {"checks": checks, "tables": tables})
