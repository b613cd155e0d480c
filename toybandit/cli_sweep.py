"""The commands `sweep` and `experiments`: many runs, and the verdict table."""

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from derivations.cli.command_line import command_line, read_command, show_table
from derivations.cli.errors import InputError, input_errors
from derivations.cli.files import to_json
from derivations.evidence.verdicts import Statement, show
from toybandit.experiments.protocol import PROTOCOL, read_protocol
from toybandit.experiments.run import as_json, check_names, run_experiments
from toybandit.online import Diverged
from toybandit.plots import save_figure
from toybandit.progress import progress
from toybandit.settings import Settings
from toybandit.sweep import Grid, parse_axis, sweep
from toybandit.sweep_figures import sweep_figure
from toybandit.sweep_results import read_sweep, sweep_in_words, sweep_table


@dataclass(frozen=True)
class Sweep(Settings):
    """Run a grid of settings; the other options give what all cells share.

    Example: python -m toybandit sweep --grid coefficient=0.1,0.5,1 regularizer=entropy,kl --out runs/sweep

    Writes config.json, blocks/, results.csv (one row per cell and world) and summary.json, and prints the strength
    under which the true reward ends best. The same command
    after a kill goes on with the unfinished blocks and ends with the same bytes.
    """

    grid: tuple[str, ...] = ()
    """Varied settings, each `name=value,value,...`."""
    file: Path | None = None
    """TOML file with tables [grid] (name = [values]) and, for what all cells share, [settings]."""
    backend: str = "local"
    """local (one process), joblib (processes) or ray (a Ray cluster); the same numbers to the last bit."""
    jobs: int = -1
    """Processes or Ray tasks at a time; -1 for all cores."""
    out: Path = Path("runs/sweep")
    """Folder of the sweep."""
    plot: bool = False
    """Also draw the sweep: curves over one varied number, heat maps over two."""
    quiet: bool = False
    """No progress; errors are still shown."""
    format: Literal["text", "json"] = "text"
    """How the end is told; the results themselves are in the files."""

    def __post_init__(self) -> None:
        """Nothing: the cells are checked one by one."""

    def over_file(self, arguments: Sequence[str]) -> "Sweep":
        """The same command line with the file's [settings] for defaults, so that whatever is given there wins.

        arguments: the command line after `sweep`. Raises InputError for a file that cannot be read.
        """
        if self.file is None:
            return self
        shared = _read(self.file).get("settings", {})
        with input_errors(f"{self.file}: "):
            Grid(shared, {"seed": [0]})  # names and kinds
        words = ("sweep", *arguments)
        return read_command(
            {"sweep": Sweep}, prog="python -m toybandit", about="", arguments=words, default=Sweep(**shared)
        )

    def resolve(self) -> Grid:
        """The grid of the command line and of the file's [grid]. Raises InputError."""
        with input_errors():
            axes: dict[str, list[Any]] = {}
            standard = {field.name: field.default for field in fields(Settings)}
            base = {name: getattr(self, name) for name in standard if getattr(self, name) != standard[name]}
            if self.file is not None:
                axes |= _read(self.file).get("grid", {})
            axes |= dict(parse_axis(text) for text in self.grid)
        with input_errors(f"{self.file}: " if self.file else ""):
            grid = Grid({name: value for name, value in base.items() if name not in axes}, axes)
            grid.cells()
        return grid

    def run(self) -> None:
        """Run the sweep with a progress bar."""
        grid = self.resolve()
        if not self.quiet and self.format == "text":
            print(f"settings: {command_line(self)}")
        with (
            progress(f"sweep of {len(grid.cells())} cells", quiet=self.quiet) as advance,
            input_errors(kinds=(ValueError, Diverged)),
        ):
            for done, total in sweep(grid, self.out, backend=self.backend, jobs=self.jobs):
                advance(done / total)
        results = read_sweep(self.out)
        if self.plot:
            with input_errors():
                save_figure(sweep_figure(results), self.out / "figures" / "sweep.png")
        if not self.quiet and self.format == "json":
            print(to_json({"out": self.out, "settings": self}, indent=2))
        elif not self.quiet:
            show_table(sweep_table(results))
            files = "config.json, results.csv, summary.json" + (", figures/sweep.png" if self.plot else "")
            print(f"written: {self.out} ({files})")
            print(sweep_in_words(results, self.out, drawn=self.plot))


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in ("grid", "settings") or not isinstance(table, dict):
            raise InputError(f"{path}: {name!r} is not known; expected the tables [grid] and [settings]")
    for name, values in tables.get("grid", {}).items():
        if not isinstance(values, list):
            raise InputError(f"{path}: grid {name} is {values!r:.60}, expected a list of values")
    return tables


@dataclass(frozen=True)
class Experiments:
    """Run the numbered statements of the protocol and print a verdict for each; exit 0 whatever the verdicts are.

    Writes toy.md with figures, toy.json and toy-protocol.toml into --out. The same command after a kill goes on
    with the unfinished statements.

    Example: python -m toybandit experiments --only 1 4 --out out
    """

    only: tuple[str, ...] = ()
    """Statements to run (1 to 10, phase, others); all by default."""
    protocol: Path = PROTOCOL
    """TOML file with every number of the experiments."""
    out: Path = Path("out")
    """Folder for the page."""
    quiet: bool = False
    """No progress and no verdicts; errors are still shown."""
    format: Literal["text", "json"] = "text"
    """How the verdicts are printed."""

    def run(self) -> None:
        """Run the statements, show each verdict as it comes, write the page."""
        check_names(self.only)
        protocol = read_protocol(self.protocol)
        stages = Console(stderr=True, quiet=self.quiet, highlight=False)

        def on_start(name: str) -> None:
            stages.print(f"  {name}: running")

        def on_done(statement: Statement, seconds: float) -> None:
            stages.print(f"  statement {statement.number}: {statement.verdict} ({seconds:.0f} s)")

        with input_errors():
            found = run_experiments(protocol, self.only, self.out, on_start=on_start, on_done=on_done)
        if self.quiet:
            return
        if self.format == "json":
            print(as_json(found))
        else:
            console = Console()
            for statement in found:
                console.print(verdict_table(statement))
            print(f"written: {self.out / 'toy.md'}")
            counts = Counter(statement.verdict for statement in found)
            print(f"found: of {len(found)} statements, {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}")
            print(f"next: read {self.out / 'toy.md'}; it says for each what was expected and what was measured")


def verdict_table(statement: Statement) -> Table:
    """One statement with its checks."""
    table = Table(
        title=f"Statement {statement.number}: {statement.verdict}", title_justify="left", caption_justify="left"
    )
    table.add_column("role")
    table.add_column("check", overflow="fold")
    table.add_column("measured", justify="right")
    table.add_column("expected", justify="right")
    table.add_column("holds")
    for check in statement.checks:
        table.add_row(check.role, check.what, show(check.measured), check.target, check.outcome)
    return table
