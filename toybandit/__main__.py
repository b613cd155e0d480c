"""The bandit: preference optimization in worlds where the true reward is known and every expectation is exact."""

import sys

from derivations.cli.command_line import read_command, run_command
from toybandit.cli_explore import Explore
from toybandit.cli_plot import Plot
from toybandit.cli_run import Offline, Run
from toybandit.cli_sweep import Experiments, Sweep

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
