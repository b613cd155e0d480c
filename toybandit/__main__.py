"""The bandit: preference optimization in worlds where the true reward is known and every expectation is exact."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from derivations.cli.command_line import read_command, run_command
from derivations.cli.errors import InputError, input_errors
from toybandit.cli_explore import Explore
from toybandit.cli_run import Offline, Run
from toybandit.cli_sweep import Experiments, Sweep
from toybandit.plots import read_run, save_figure, trajectory_figure


@dataclass(frozen=True)
class Plot:
    """Draw run folders over one another: proxy gain, gold gain, win rate and KL against time.

    Example: python -m toybandit plot runs/entropy runs/kl --out runs/both.png
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `python -m toybandit run`, 1 to 7."""
    out: Path = Path("trajectory.png")
    """Picture to write; its ending (png, pdf, svg) gives the format."""
    quiet: bool = False
    """Print nothing; errors are still shown."""

    def run(self) -> None:
        """Draw the runs into one picture."""
        if not self.runs:
            raise InputError("no run folder given; write `python -m toybandit plot runs/a runs/b --out FILE.png`")
        with input_errors():
            figure = trajectory_figure([read_run(folder) for folder in self.runs])
        save_figure(figure, self.out)
        if not self.quiet:
            print(f"written: {self.out}")


COMMANDS = {
    "explore": Explore,
    "run": Run,
    "sweep": Sweep,
    "offline": Offline,
    "plot": Plot,
    "experiments": Experiments,
}


def main() -> None:
    """Read the command line and do what it says."""
    command = read_command(COMMANDS, prog="python -m toybandit", about=str(__doc__))
    if isinstance(command, Sweep):
        command = command.over_file(sys.argv[2:])  # its [settings] stand where the command line says nothing
    command.run()


if __name__ == "__main__":
    run_command(main)
