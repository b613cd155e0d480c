"""One row for each thing that was tried: how often, and what was lost. The last column has to be 0 throughout.

Rows are kept in a JSON file as they come, so hard use can be run in pieces; `write_page` makes a page of what is kept.
"""

import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, write_json, write_text
from derivations.cli.run_folder import versions

PARTS = ("kill", "disk", "soak", "peak", "processes", "same", "fuzz")  # in the page's order
HEAD = """# Hard use: what was tried, and what was lost

Written by `python -m tests.stress table` from [hard-use.json](hard-use.json), which keeps every row as `make hard`,
`make fuzz` and `make soak` measured it. [When it breaks](../how-to/hard-use.md) tells what to do then.

- **kill**: SIGKILL to the command and all its processes, then the same command again. Lost: a result that is not bit
  for bit that of a run let alone, a run that does not go on, a file left behind.
- **disk**: a run on a tmpfs too small for it, then more room. Lost: anything but one line of error, another result.
- **soak**: one long run. Lost: memory whose growth over the last three quarters may be more than 50 MiB.
- **peak**: the largest resident memory of a command. Lost: more than the page above states.
- **processes**, **same**: one run on two processes and on one; twice, with another seed, with more jobs. Lost: numbers
  that differ where they must not, or agree where they must not.
- **fuzz**: generated files and command lines. Lost: an input that is neither taken nor refused in one line, status 2.
"""


@dataclass
class Row:
    """part: fuzz, kill, disk, ... what: in words. lost: a line for each time that something was lost or wrong."""

    part: str
    what: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    note: str = ""


def circumstances() -> dict[str, Any]:
    """Day, versions and machine, the same for all rows of one call."""
    machine = {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": psutil.virtual_memory().total >> 30,
    }
    return {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "versions": versions()}


def _processor() -> str:
    """The name in /proc/cpuinfo; what Python knows elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def keep(row: Row, path: Path, when: dict[str, Any]) -> None:
    """Put a row with its circumstances into the JSON file, in place of the one about the same thing, if any."""
    before = read_kept(path) if path.exists() else []
    others = [record for record in before if (record["part"], record["what"]) != (row.part, row.what)]
    write_json(path, [*others, asdict(row) | when])


def read_kept(path: Path) -> list[dict[str, Any]]:
    """Rows that were kept. Raises InputError for a file that holds something else."""
    records = read_json(path)
    needed = {"part", "what", "tried", "lost", "note", "date", "machine", "versions"}
    if not isinstance(records, list) or not all(isinstance(r, dict) and needed <= r.keys() for r in records):
        raise InputError(f"{path} holds no rows of hard use; give another --out, or remove it")
    return sorted(records, key=lambda r: PARTS.index(r["part"]) if r["part"] in PARTS else len(PARTS))


def write_page(kept: Path) -> Path:
    """The rows of a JSON file as a page beside it (Markdown). Returns its path."""
    records = read_kept(kept)
    lost = [(record, line) for record in records for line in record["lost"]]
    lines = [HEAD, f"Lost in all: {len(lost):,}.", "", *_rows(records)]
    if lost:
        lines += ["", "## Lost", ""] + [f"- {r['part']}, {_cell(r['what'])}: {_cell(line)}" for r, line in lost]
    lines += ["", "## When, and with what", "", *_circumstances(records)]
    page = kept.with_suffix(".md")
    write_text(page, "\n".join(lines) + "\n")
    return page


def _rows(records: list[dict[str, Any]]) -> list[str]:
    """The table."""
    lines = ["| part | what | tried | lost | note |", "| --- | --- | ---: | ---: | --- |"]
    for record in records:
        what, note = (_cell(record[name]) for name in ("what", "note"))
        lines.append(f"| {record['part']} | {what} | {record['tried']:,} | {len(record['lost'])} | {note} |")
    return lines


def _cell(text: str) -> str:
    """Text as it is, in one cell: nothing of it is taken for Markdown."""
    return "".join(f"\\{letter}" if letter in "\\|*_`<[" else letter for letter in " ".join(text.split()))


def _circumstances(records: list[dict[str, Any]]) -> list[str]:
    """A line for each set of days, machines and versions that the rows come from, with the commits of each part."""
    groups: dict[str, dict[str, list[str]]] = {}
    for record in records:
        found, machine = record["versions"], record["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in found.items() if name != "git_commit")
        place = f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB"
        commits = groups.setdefault(f"{record['date']}; {place}; {packages}", {}).setdefault(record["part"], [])
        commits.append(found.get("git_commit", "none")[:7])
    lines = []
    for words, parts in groups.items():
        told = "; ".join(f"{part} {len(c)} ({', '.join(dict.fromkeys(c))})" for part, c in parts.items())
        lines.append(f"- {_cell(words)}. Rows, and the commits at which their pieces began: {told}.")
    return lines


def show(rows: list[Row]) -> int:
    """Print the table and return the exit status: 1 if anything was lost or nothing was tried."""
    table = Table(title="hard use", title_justify="left")
    for name, side in (("part", "left"), ("what", "left"), ("tried", "right"), ("lost", "right"), ("note", "left")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(row.part, escape(row.what), str(row.tried), str(len(row.lost)), escape(row.note))
    Console().print(table)
    for row in rows:
        for line in row.lost:
            print(f"LOST {row.part}, {row.what}: {line}")
    return int(any(row.lost for row in rows) or not any(row.tried for row in rows))
