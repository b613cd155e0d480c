"""All numbered statements of the bandit by their protocol: verdicts, tables and figures in one Markdown page.

The protocol (`protocol.toml`) is fixed before the run and copied beside the page; what comes out is printed
either way. A statement that cannot be run is an error, never an empty line.
"""

import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from derivations.commands import InputError, to_json, versions, write_json, write_text
from derivations.regularizers import suggest
from toybandit.plots import save_figure
from toybandit.statements.common import Laboratory
from toybandit.statements.mechanism import statement_6, statement_7, statement_8
from toybandit.statements.offline import statement_9
from toybandit.statements.online import statement_1, statement_2, statement_3, statement_4, statement_5
from toybandit.statements.scaling import other_worlds, phases, statement_10
from toybandit.verdicts import Statement, Table, show

PROTOCOL = Path(__file__).with_name("protocol.toml")
STATEMENTS: dict[str, Callable[[Laboratory], Statement]] = {
    "1": statement_1,
    "2": statement_2,
    "3": statement_3,
    "4": statement_4,
    "5": statement_5,
    "6": statement_6,
    "7": statement_7,
    "8": statement_8,
    "9": statement_9,
    "10": statement_10,
    "phase": phases,
    "others": other_worlds,
}


def read_protocol(path: Path) -> dict[str, dict[str, Any]]:
    """The protocol as tables of numbers. Raises InputError for a file that is not one."""
    try:
        protocol = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    standard = tomllib.loads(PROTOCOL.read_text(encoding="utf-8"))
    for table, numbers in standard.items():
        if missing := sorted(set(numbers) - set(protocol.get(table, {}))):
            raise InputError(
                f"{path}: table [{table}] has no {missing[0]!r}; start from {PROTOCOL.name} of the package"
            )
    return protocol


def check_names(only: Sequence[str]) -> None:
    """Raise InputError for a statement that does not exist."""
    for name in only:
        if name not in STATEMENTS:
            raise InputError(f"unknown statement {name!r}{suggest(name, list(STATEMENTS))}")


def run_experiments(
    protocol: dict[str, dict[str, Any]], only: Sequence[str], *, on_done: Callable[[Statement, float], None]
) -> tuple[list[Statement], Laboratory]:
    """Run the named statements (empty: all) in order. on_done gets each with its seconds."""
    lab, found = Laboratory(protocol), []
    for name, experiment in STATEMENTS.items():
        if not only or name in only:
            start = time.monotonic()
            found.append(experiment(lab))
            on_done(found[-1], time.monotonic() - start)
    return found, lab


def save(out: Path, protocol_text: str, statements: Sequence[Statement], lab: Laboratory) -> Path:
    """Write `out`/toy.md with figures, the protocol and toy.json. Returns the page."""
    for name, figure in lab.figures.items():
        save_figure(figure, out / "figures" / f"toy-{name}.png")
    write_text(out / "toy-protocol.toml", protocol_text)
    write_json(out / "toy.json", {"statements": [_record(s) for s in statements], "versions": versions()})
    write_text(out / "toy.md", page(statements))
    return out / "toy.md"


def _record(statement: Statement) -> dict[str, Any]:
    return {
        "number": statement.number,
        "sentence": statement.sentence,
        "verdict": statement.verdict,
        "checks": statement.checks,
    }


def page(statements: Sequence[Statement]) -> str:
    """The Markdown page: verdict table first, then each statement with its checks, tables and figures."""
    lines = [
        "# The bandit: statements, measured",
        "",
        "Means over worlds with 95 % intervals (Student's t); a bare number has no spread (a maximum, a rank "
        "correlation of means). The protocol was fixed before the run: `toy-protocol.toml`. `depends` means that "
        "some checks hold and some do not; a dagger marks a check whose interval reaches across its bound.",
        "",
        *markdown(
            Table(
                "",
                ("statement", "verdict", "checks that hold"),
                [
                    [s.number, f"**{s.verdict}**", f"{sum(c.holds for c in s.checks)} of {len(s.checks)}"]
                    for s in statements
                ],
            )
        ),
    ]
    for s in statements:
        rows = [
            [c.what, show(c.measured), c.target, ("yes" if c.holds else "**no**") + ("" if c.firm else " †")]
            for c in s.checks
        ]
        lines += ["", f"## Statement {s.number}: {s.verdict}", "", s.sentence, ""]
        lines += markdown(Table("", ("check", "measured", "expected", "holds"), rows))
        for remark in s.remarks:
            lines += ["", remark]
        for table in s.tables:
            lines += ["", f"{table.title}:", "", *markdown(table)]
        for name in s.figures:
            lines += ["", f"![{name}](figures/toy-{name}.png)"]
    return "\n".join(lines) + "\n"


def markdown(table: Table) -> list[str]:
    """Lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(table.heads), line(["---"] * len(table.heads)), *(line(row) for row in table.rows)]


def as_json(statements: Sequence[Statement]) -> str:
    """Verdicts and checks as JSON."""
    return to_json([_record(s) for s in statements], indent=2)
