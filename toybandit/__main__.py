"""Commands of the bandit: `run` an experiment into a run folder, `plot` run folders.

Example: python -m toybandit run --regularizer entropy --coefficient 0.5 --out runs/entropy
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from derivations.commands import InputError, input_errors, run_command, start_run, to_json, write_json, write_text
from toybandit.experiment import Result, run
from toybandit.online import Diverged
from toybandit.plots import read_run, save_figure, trajectory_figure
from toybandit.settings import Settings

UNITS = {
    "proxy_gain": "reward units",
    "gold_gain": "reward units",
    "overoptimization": "reward units",
    "gold_fall": "reward units",
    "win_rate": "share",
    "kl": "nats",
    "kl_forward": "nats",
    "entropy": "nats",
    "retention/kappa": "1",
    "retention/tau": "1 / reward unit",
    "mass/rare": "share",
    "proxy_accuracy": "share",
}


@dataclass(frozen=True)
class Run(Settings):
    """Optimize a policy online against a proxy reward, in worlds whose gold reward is known exactly.

    Writes a run folder: config.json, metrics.jsonl (one line a logged step), summary.json and
    figures/trajectory.png. Every number is a mean over seeds with its 95 % interval.
    """

    out: Path = Path("runs/toybandit")
    """Run folder. An earlier run there is moved aside, not overwritten."""
    quiet: bool = False
    """No progress and no summary; errors are still shown."""
    format: Literal["text", "json"] = "text"
    """How the summary is printed."""

    def __post_init__(self) -> None:
        """Nothing: `settings` checks the values after parsing, so a mistake is one line and not the parser's box."""

    def settings(self) -> Settings:
        """What decides the result, without where and how it is shown. Raises InputError for a value out of range."""
        with input_errors():
            return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})


@dataclass(frozen=True)
class Plot:
    """Draw run folders over one another: proxy gain, gold gain, win rate and KL against time."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `python -m toybandit run`, 1 to 7."""
    out: Path = Path("trajectory.png")
    """Picture to write; its ending (png, pdf, svg) gives the format."""


def run_and_save(command: Run) -> None:
    """Run the experiment; write and print what it found."""
    settings = command.settings()
    folder = start_run(command.out, settings)
    console = Console(stderr=True, quiet=command.quiet)
    with Progress(console=console, transient=True, disable=command.quiet or not console.is_terminal) as progress:
        task = progress.add_task(f"{settings.label}, {settings.seeds} seeds", total=1.0)
        try:
            result = run(settings, on_progress=lambda share: progress.update(task, completed=share))
        except Diverged as error:
            raise InputError(str(error)) from error
    write_text(folder / "metrics.jsonl", "".join(to_json(row) + "\n" for row in result.rows()))
    write_json(folder / "summary.json", result.summary)
    save_figure(trajectory_figure([read_run(folder)]), folder / "figures" / "trajectory.png")
    if command.quiet:
        return
    if command.format == "json":
        print(to_json({"out": folder, "summary": result.summary}, indent=2))
    else:
        Console().print(summary_table(result))
        print(f"written: {folder} (config.json, metrics.jsonl, summary.json, figures/trajectory.png)")


def summary_table(result: Result) -> Table:
    """The summary as a table: mean, 95 % interval and unit of each number."""
    settings = result.settings
    table = Table(
        title=f"{settings.label}, {settings.proxy} proxy: t = {settings.lr * settings.steps:g}, {settings.seeds} seeds",
        title_justify="left",
    )
    table.add_column("final policy")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit")
    for name, value in result.summary.items():
        table.add_row(name, f"{value.mean:.3f}", f"{value.low:.3f} to {value.high:.3f}", UNITS[name])
    return table


def main() -> None:
    """Read the command line and do what it says."""
    command = tyro.cli(
        Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Plot, tyro.conf.subcommand("plot")],
        prog="python -m toybandit",
        description=__doc__,
    )
    if isinstance(command, Run):
        run_and_save(command)
    else:
        if not command.runs:
            raise InputError("no run folder given; write `python -m toybandit plot runs/a runs/b --out FILE.png`")
        with input_errors():
            figure = trajectory_figure([read_run(folder) for folder in command.runs])
        save_figure(figure, command.out)
        print(f"written: {command.out}")


if __name__ == "__main__":
    run_command(main)
