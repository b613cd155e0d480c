"""All numbered statements of the bandit by their protocol: verdicts, tables and figures in one Markdown page.

The protocol (`protocol.toml`) is copied beside the page; what comes out is printed either way. A statement that
cannot be run is an error, never an empty line. Finished statements are kept until the page is written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, suggest
from derivations.cli.files import to_json, write_json, write_text
from derivations.cli.run_folder import versions
from derivations.evidence.results import Unfinished
from derivations.evidence.tables import markdown
from derivations.evidence.verdicts import Statement, show, statement_of
from toybandit.experiments.common import Laboratory
from toybandit.experiments.mechanism import statement_6, statement_7, statement_8
from toybandit.experiments.offline import statement_9
from toybandit.experiments.online import statement_1, statement_2, statement_3, statement_4, statement_5
from toybandit.experiments.protocol import Protocol
from toybandit.experiments.scaling import other_worlds, phases, statement_10
from toybandit.plots import save_figure

FOLDER = "toy-unfinished"  # of the statements that are done before all are

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


def check_names(only: Sequence[str]) -> None:
    """Raise InputError for a statement that does not exist."""
    for name in only:
        if name not in STATEMENTS:
            raise InputError(f"unknown statement {name!r}{suggest(name, list(STATEMENTS))}")


def run_experiments(
    protocol: Protocol,
    only: Sequence[str],
    out: Path,
    *,
    on_start: Callable[[str], None] = lambda name: None,
    on_done: Callable[[Statement, float], None],
) -> list[Statement]:
    """Run the named statements (empty: all) in order, but not those that an unfinished run in `out` left finished.

    Writes the page and what belongs to it (`save`). on_start gets the name of each statement that is run, on_done the
    statement with its seconds.
    """
    kept = Unfinished(out / FOLDER, {"protocol": protocol.text, "versions": versions()})
    lab, found = Laboratory(protocol.tables), []
    try:
        for name, experiment in STATEMENTS.items():
            if only and name not in only:
                continue
            record = kept.load(name)
            if record is not None:
                found.append(statement_of(record))
                continue
            on_start(name)
            start = time.monotonic()
            statement = experiment(lab)
            for figure in statement.figures:
                save_figure(lab.figures[figure], out / "figures" / f"toy-{figure}.png")
            kept.keep(name, asdict(statement))
            on_done(statement, time.monotonic() - start)
            found.append(statement)
    except BaseException:
        kept.remove_if_empty()
        raise
    save(out, protocol, found)
    kept.remove()
    return found


def save(out: Path, protocol: Protocol, statements: Sequence[Statement]) -> None:
    """Write `out`/toy.md, the protocol and toy.json; the figures are there already."""
    write_text(out / "toy-protocol.toml", protocol.text)
    record = {"protocol": protocol.digest, "packaged_protocol": protocol.packaged, "versions": versions()}
    write_json(out / "toy.json", {"statements": [_record(s) for s in statements]} | record)
    write_text(out / "toy.md", page(statements, protocol))


def _record(statement: Statement) -> dict[str, Any]:
    return {
        "number": statement.number,
        "sentence": statement.sentence,
        "verdict": statement.verdict,
        "checks": statement.checks,
    }


def page(statements: Sequence[Statement], protocol: Protocol) -> str:
    """The Markdown page: verdict table first, then each statement with its checks, tables and figures."""
    origin = (
        "the packaged one, which was fixed before this run (its head says what was added since the first)"
        if protocol.packaged
        else "**not** the packaged one: its bounds may have been chosen after results were seen"
    )
    summary = [
        [s.number, f"**{s.verdict}**", _count(s, "headline"), _count(s, "control"), "; ".join(s.refuted)]
        for s in statements
    ]
    lines = [
        "# The bandit: statements, measured",
        "",
        "Means over worlds with 95 % intervals (Student's t; bootstrap over worlds for ratios of spreads, rank "
        "correlations and R^2); a bare number has no spread (a maximum, a count).",
        "",
        f"Protocol: `toy-protocol.toml`, SHA-256 `{protocol.digest}`, {origin}.",
        "",
        "A control is a check that would hold too if nothing happened: it can spoil a statement, not earn one. "
        "`reproduced`: every check holds; `not reproduced`: no headline holds; `depends`: anything between. A check "
        "that fails with its whole interval reads `not reproduced`; a dagger marks an interval that reaches across "
        "its bound.",
        "",
        *markdown(("statement", "verdict", "headlines that hold", "controls that hold", "not reproduced"), summary),
    ]
    for s in statements:
        rows = [
            [c.role, c.what, show(c.measured), c.target, _emphasis(c.outcome) + ("" if c.firm else " †")]
            for c in s.checks
        ]
        lines += ["", f"## Statement {s.number}: {s.verdict}", "", s.sentence, ""]
        lines += markdown(("role", "check", "measured", "expected", "holds"), rows)
        for remark in s.remarks:
            lines += ["", remark]
        for table in s.tables:
            lines += ["", f"{table.title}:", "", *markdown(table.heads, table.rows)]
        for name in s.figures:
            lines += ["", f"![{name}](figures/toy-{name}.png)"]
    return "\n".join(lines) + "\n"


def _count(statement: Statement, role: str) -> str:
    checks = [check for check in statement.checks if check.role == role]
    return f"{sum(check.holds for check in checks)} of {len(checks)}"


def _emphasis(outcome: str) -> str:
    return outcome if outcome == "yes" else f"**{outcome}**"


def as_json(statements: Sequence[Statement]) -> str:
    """Verdicts and checks as JSON."""
    return to_json([_record(s) for s in statements], indent=2)
