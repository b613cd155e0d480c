"""`python -m llm train|online|inspect-data|replay`: preference optimization of a language model."""

import sys
from typing import Annotated

import tyro

from derivations.commands import run_command
from llm.config import TrainConfig
from llm.inspect_config import InspectConfig
from llm.online_config import OnlineConfig
from llm.recipe import train_config
from llm.replay_config import ReplayConfig

PROG = "python -m llm"


def main() -> None:
    # torch is loaded only after the options were accepted, so `--help` and refusals answer at once
    arguments, recipe = take_recipe(sys.argv[1:])
    trains = tyro.conf.subcommand("train", default=recipe) if recipe else tyro.conf.subcommand("train")
    command = (
        Annotated[TrainConfig, trains]
        | Annotated[OnlineConfig, tyro.conf.subcommand("online")]
        | Annotated[InspectConfig, tyro.conf.subcommand("inspect-data")]
        | Annotated[ReplayConfig, tyro.conf.subcommand("replay")]
    )
    config = tyro.cli(command, args=arguments, prog=PROG, description=__doc__)
    if isinstance(config, OnlineConfig):
        config.require_places()
        from llm.online import online

        online(config)
    elif isinstance(config, InspectConfig):
        from llm.inspect_data import inspect_data

        inspect_data(config)
    elif isinstance(config, ReplayConfig):
        from llm.replay import replay

        replay(config.run)
    elif config.plan:
        from llm.plan import print_plan

        print_plan(config)
    else:
        config.require_places()
        from llm.offline import train

        train(config)


def take_recipe(arguments: list[str]) -> tuple[list[str], TrainConfig | None]:
    """`train --recipe NAME` sets the defaults of the other options; both words are taken out of the arguments."""
    if arguments[:1] != ["train"] or "--recipe" not in arguments[:-1]:
        return arguments, None
    at = arguments.index("--recipe")
    return arguments[:at] + arguments[at + 2 :], train_config(arguments[at + 1])


if __name__ == "__main__":
    run_command(main)
