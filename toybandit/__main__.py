"""Commands of the bandit: online runs, offline runs, sweeps, the experiments of the protocol, and pictures of runs.

Example: python -m toybandit run --regularizer entropy --coefficient 0.5 --out runs/entropy
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from derivations.commands import InputError, input_errors, run_command
from toybandit.command_run import Offline, Run, offline_and_save, run_and_save
from toybandit.command_sweep import Experiments, Sweep, experiments_and_save, sweep_and_save
from toybandit.plots import read_run, save_figure, trajectory_figure


@dataclass(frozen=True)
class Plot:
    """Draw run folders over one another: proxy gain, gold gain, win rate and KL against time."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `python -m toybandit run`, 1 to 7."""
    out: Path = Path("trajectory.png")
    """Picture to write; its ending (png, pdf, svg) gives the format."""


def plot(command: Plot) -> None:
    """Draw the runs into one picture."""
    if not command.runs:
        raise InputError("no run folder given; write `python -m toybandit plot runs/a runs/b --out FILE.png`")
    with input_errors():
        figure = trajectory_figure([read_run(folder) for folder in command.runs])
    save_figure(figure, command.out)
    print(f"written: {command.out}")


def main() -> None:
    """Read the command line and do what it says."""
    command = tyro.cli(
        Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Offline, tyro.conf.subcommand("offline")]
        | Annotated[Sweep, tyro.conf.subcommand("sweep")]
        | Annotated[Experiments, tyro.conf.subcommand("experiments")]
        | Annotated[Plot, tyro.conf.subcommand("plot")],
        prog="python -m toybandit",
        description=__doc__,
    )
    match command:
        case Run():
            run_and_save(command)
        case Offline():
            offline_and_save(command)
        case Sweep():
            sweep_and_save(command.over_file(sys.argv[2:]))
        case Experiments():
            experiments_and_save(command)
        case Plot():
            plot(command)


if __name__ == "__main__":
    run_command(main)
