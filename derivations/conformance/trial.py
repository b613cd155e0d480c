"""Every planted bug against every law: which law kills which bug, as numbers, as text and as a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from derivations.cli.files import write_text
from derivations.conformance import Trial, try_laws
from derivations.conformance.backends import make_backend
from derivations.conformance.how import read_off
from derivations.conformance.laws import Law, all_laws
from derivations.conformance.loss_under_test import make_subject


@dataclass(frozen=True)
class Row:
    """One loss, and the laws that fail on it."""

    name: str
    objective: str
    bug: bool
    killed_by: tuple[str, ...]
    advised_by: tuple[str, ...]

    @property
    def fine(self) -> bool:
        """A bug is killed by some law; a correct loss by no verdict law."""
        return bool(self.killed_by or self.advised_by) if self.bug else not self.killed_by


def trial(name: str, objective: str, function: Callable[..., Any], options: dict[str, Any], *, bug: bool) -> Row:
    """One row: the laws tried on one function."""
    subject = read_off(make_subject(function, objective, make_backend("torch"), options=options))
    trials = try_laws(subject, all_laws())

    def failing(kind: str) -> tuple[str, ...]:
        return tuple(t.law.id for t in trials if _fails(t, kind))

    return Row(name, objective, bug, failing("verdict"), failing("advice"))


def _fails(trial: Trial, kind: str) -> bool:
    return trial.failed and trial.law.kind == kind


def run_zoo() -> list[Row]:
    """The correct losses, then the bugs. InputError where torch is not installed."""
    try:
        from derivations.conformance.planted_bugs import BUGS, CORRECT
    except ImportError as error:
        raise InputError("the zoo's losses are written in torch: pip install '.[llm]'") from error
    rows = [trial(f"{name}, correct", name, function, {}, bug=False) for name, function in CORRECT.items()]
    return rows + [trial(bug.pain, bug.objective, bug.function, bug.options, bug=True) for bug in BUGS]


def sole_kills(rows: Sequence[Row]) -> dict[str, list[str]]:
    """law -> bugs that it alone kills (advice laws count where no verdict law kills)."""
    found: dict[str, list[str]] = {}
    for row in rows:
        laws = row.killed_by or row.advised_by
        if row.bug and len(laws) == 1:
            found.setdefault(laws[0], []).append(row.name)
    return found


def idle(rows: Sequence[Row], laws: Sequence[Law]) -> list[Law]:
    """Laws that kill no bug, or none alone without saying why they are there."""
    alone, any_kill = sole_kills(rows), {name for row in rows if row.bug for name in (*row.killed_by, *row.advised_by)}
    return [law for law in laws if law.id not in any_kill or not (law.id in alone or law.why)]


def as_text(rows: Sequence[Row]) -> str:
    """One line a loss with the laws that fail on it, and a last line that sums up."""
    lines = []
    for row in rows:
        laws = ", ".join([*row.killed_by, *(f"({name})" for name in row.advised_by)])
        lines.append(f"{'ok  ' if row.fine else 'FAIL'} {row.objective:16} {row.name:52} {laws or '-'}")
    bugs = [row for row in rows if row.bug]
    alarms = sum(not row.fine for row in rows if not row.bug)
    idlers = ", ".join(law.id for law in idle(rows, all_laws())) or "none"
    killed, advised = sum(bool(r.killed_by) for r in bugs), sum(bool(r.advised_by and not r.killed_by) for r in bugs)
    lines.append(
        f"of {len(bugs)} bugs {killed} killed, {advised} only advised on, by {len(all_laws())} laws; {alarms} false "
        f"alarms on {len(rows) - len(bugs)} correct losses; laws without a bug of their own or a reason: {idlers}"
    )
    return "\n".join(lines) + "\n"


def ok(rows: Sequence[Row]) -> bool:
    """All killed, no false alarm, no law for nothing."""
    return all(row.fine for row in rows) and not idle(rows, all_laws())


def draw(rows: Sequence[Row], path: Path) -> None:
    """The matrix as an SVG: a square where a law fails, hollow for advice, dark where it is the only one."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    laws, alone = [law.id for law in all_laws()], sole_kills(rows)
    figure = Figure(figsize=(0.22 * len(laws) + 4.2, 0.17 * len(rows) + 1.6))
    axes = figure.add_axes((0.37, 0.01, 0.62, 0.88))
    for y, row in enumerate(rows):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="0.96", linewidth=0)
        for name in (*row.killed_by, *row.advised_by):
            advice, only = name in row.advised_by, row.name in alone.get(name, [])
            colour = "#b2182b" if only else "#f4a582"
            axes.plot(laws.index(name), y, "s", color=colour, markersize=6, fillstyle="none" if advice else "full")
    axes.set(
        xlim=(-0.6, len(laws) - 0.4), ylim=(len(rows) - 0.5, -0.5), xticks=range(len(laws)), yticks=range(len(rows))
    )
    axes.set_xticklabels(laws, rotation=90, fontsize=7)
    axes.set_yticklabels([f"{row.name}  [{row.objective}]" if row.bug else row.name for row in rows], fontsize=6.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "zoo", "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    write_text(path, "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")
