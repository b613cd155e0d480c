"""Settings of `inspect-data`. Nothing here needs torch."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from derivations.cli.errors import InputError
from llm.data.files import require_source
from llm.settings.train import Shape


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Show what a data set holds and how it is tokenized: shape, counts, lengths, and one comparison token by token.

    Example: python -m llm inspect-data pairs.jsonl
    """

    data: Annotated[str, tyro.conf.Positional]
    """A file or hub data set, as for `train --data`."""
    model: str = "bundled"
    """Whose tokenizer and chat template to use."""
    shape: Shape = "auto"
    """Shape of the data; auto goes by the fields of the first row."""
    max_length: int = 256
    """Most tokens of prompt and response together, as for `train`."""
    example: int = 0
    """Which usable comparison to show in full, counted from 0."""

    def __post_init__(self) -> None:
        if self.max_length < 2 or self.example < 0:
            raise InputError(
                f"--max-length is {self.max_length} and --example {self.example}; expected 2 and 0 or more"
            )
        require_source(self.data)
