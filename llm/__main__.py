"""`python -m llm train|online`: preference optimization of a language model."""

from typing import Annotated

import tyro

from derivations.commands import run_command
from llm.config import OnlineConfig, TrainConfig

Command = (
    Annotated[TrainConfig, tyro.conf.subcommand("train")] | Annotated[OnlineConfig, tyro.conf.subcommand("online")]
)


def main() -> None:
    # torch is loaded only after the options were accepted, so `--help` and refusals answer at once
    config: TrainConfig | OnlineConfig = tyro.cli(Command, prog="python -m llm", description=__doc__)
    if isinstance(config, TrainConfig):
        from llm.offline import train

        train(config)
    else:
        from llm.online import online

        online(config)


if __name__ == "__main__":
    run_command(main)
