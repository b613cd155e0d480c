"""Settings of `inspect-data`. Nothing here needs torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from derivations.cli.errors import InputError
from llm.data.containers import require_source
from llm.data.row_formats.mapping import read_mapping
from llm.settings.train import Shape


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """The doctor of preference data: format, rows that cannot be used and why, duplicates, contradictions, scores,
    leaks, length bias, lengths with the --max-length that keeps 95 %, and one comparison token by token. It says in
    words what to do.

    Example: python -m llm inspect-data pairs.jsonl --eval-data held-out.jsonl --html page.html --write clean.jsonl
    """

    data: Annotated[str, tyro.conf.Positional]
    """A file or hub data set, as for `train --data`."""
    eval_data: str | None = None
    """Evaluation data: prompts that are in both are leaks."""
    model: str = "bundled"
    """Whose tokenizer and chat template to use."""
    shape: Shape = "auto"
    """Format of the data; auto goes by the fields of each row."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Fields of the data by other names, THEIRS=OURS, as for `train`."""
    max_length: int | None = None
    """Most tokens of prompt and response together. Default: as `train` would choose it."""
    example: int = 0
    """Which comparison of the sample to show in full, counted from 0; the sample is all of up to 1,500."""
    write: Path | None = None
    """Write the usable comparisons there as JSON lines, in one format, without duplicates, contradictory pairs, equal
    scores and leaks; of unpaired data, the pairs of prompts that have a good and a bad response."""
    html: Path | None = None
    """Write the report there as one page, with two pictures."""
    format: Literal["text", "json"] = "text"
    """How the report is printed."""

    def __post_init__(self) -> None:
        if self.example < 0 or (self.max_length is not None and self.max_length < 2):
            raise InputError(
                f"--max-length is {self.max_length} and --example {self.example}; expected 2 and 0 or more"
            )
        read_mapping(self.map)
        for name in (self.data, self.eval_data):
            if name is not None:
                require_source(name)
        for path in (self.write, self.html):
            if path is not None and path.resolve() in {Path(n).resolve() for n in (self.data, self.eval_data) if n}:
                raise InputError(f"{path} is the data itself; write to another file")
