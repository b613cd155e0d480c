"""Preference optimization of a language model, offline on comparisons and online against a proxy reward.

Example: python -m llm online --regularizer kl --coefficient 0.05 --out runs/online-kl
"""

import argparse
import sys
from importlib.util import find_spec
from typing import Any

from derivations.cli.command_line import command_line, read_command, run_command
from derivations.cli.errors import InputError
from llm.engine.interrupt import saying_what_is_kept
from llm.scoring.versions import require_transformers
from llm.settings.inspect import InspectConfig
from llm.settings.online import OnlineConfig
from llm.settings.recipe import recipe_names, train_config
from llm.settings.replay import ReplayConfig
from llm.settings.threads import sleep_while_waiting
from llm.settings.train import TrainConfig


class Train(TrainConfig):
    __doc__ = TrainConfig.__doc__

    def run(self) -> None:
        if self.plan:
            from llm.settings.plan import print_plan

            print_plan(self)
            return
        self.require_places()
        from llm.offline.train import train

        with saying_what_is_kept(self):
            train(self)


class Online(OnlineConfig):
    __doc__ = OnlineConfig.__doc__

    def run(self) -> None:
        self.require_places()
        if not self.quiet and self.format == "text":
            print(f"settings: {command_line(self)}", flush=True)
        from llm.online.train import online

        with saying_what_is_kept(self):
            online(self)


class InspectData(InspectConfig):
    __doc__ = InspectConfig.__doc__

    def run(self) -> None:
        from llm.data.inspect import inspect_data

        inspect_data(self)


class Replay(ReplayConfig):
    __doc__ = ReplayConfig.__doc__

    def run(self) -> None:
        self.require_places()
        from llm.offline.replay import replay

        replay(self.folder)


COMMANDS: dict[str, type[Any]] = {"train": Train, "online": Online, "inspect-data": InspectData, "replay": Replay}


def main() -> None:
    sleep_while_waiting()
    # torch is loaded only after the options were accepted, so `--help` and refusals answer at once
    arguments, recipe = take_recipe(sys.argv[1:])
    command = read_command(COMMANDS, prog="python -m llm", about=str(__doc__), arguments=arguments, default=recipe)
    if find_spec("torch") is None:
        raise InputError("this needs the extra `llm`: pip install '.[llm]'")
    require_transformers()
    command.run()


def take_recipe(arguments: list[str]) -> tuple[list[str], Train | None]:
    """`train --recipe NAME` sets the defaults of the other options; it is taken out of the arguments."""
    if arguments[:1] != ["train"]:
        return arguments, None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe")
    try:
        found, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        raise InputError(f"--recipe needs a name: {', '.join(recipe_names())}, or a path.yaml") from None
    return (rest, Train(**vars(train_config(found.recipe)))) if found.recipe is not None else (arguments, None)


if __name__ == "__main__":
    run_command(main)
