"""One row for each thing that was tried: how often, and what was lost. The last column has to be 0 throughout."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from derivations.cli.files import write_json


@dataclass
class Row:
    """part: fuzz, kill, disk, ... what: in words. lost: a line for each time that something was lost or wrong."""

    part: str
    what: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    note: str = ""


def show(rows: list[Row], out: Path) -> int:
    """Print the table, write it as JSON, and return the exit status: 1 if anything was lost or nothing was tried."""
    table = Table(title="hard use", title_justify="left")
    for name, side in (("part", "left"), ("what", "left"), ("tried", "right"), ("lost", "right"), ("note", "left")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(row.part, row.what, str(row.tried), str(len(row.lost)), row.note)
    Console().print(table)
    for row in rows:
        for line in row.lost:
            print(f"LOST {row.part}, {row.what}: {line}")
    write_json(out, [as_record(row) for row in rows])
    return int(any(row.lost for row in rows) or not any(row.tried for row in rows))


def as_record(row: Row) -> dict[str, Any]:
    return {"part": row.part, "what": row.what, "tried": row.tried, "lost": row.lost, "note": row.note}
