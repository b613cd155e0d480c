"""Settings of `replay`. Nothing here needs torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from derivations.cli.errors import InputError, reason


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Run the batch in which `train` diverged again, comparison by comparison, from the weights it diverged with.

    Example: python -m llm replay runs/train
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Run folder; a run that diverged left diverged.json and checkpoints/diverged in it."""

    def require_places(self) -> None:
        """Refuse (InputError) a folder in which nothing can be replayed."""
        try:
            there = (self.folder / "diverged.json").is_file()
        except (OSError, ValueError) as error:  # a name too long, a NUL in it
            raise InputError(f"cannot read {self.folder}: {reason(error)}") from error
        if not there:
            raise InputError(f"{self.folder}: no diverged.json there; only a run that diverged can be replayed")
