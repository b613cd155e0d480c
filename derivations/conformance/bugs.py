"""What a planted bug is: a correct loss with a few words of its source replaced."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from derivations.conformance.correct_losses import CORRECT as WELL_KNOWN
from derivations.conformance.correct_off_policy import CORRECT as FURTHER

CORRECT: dict[str, Callable[..., Tensor]] = WELL_KNOWN | FURTHER


@dataclass(frozen=True)
class Bug:
    """A correct loss with words of its source replaced. changes: (old, new), `old` standing there exactly once."""

    pain: str
    objective: str
    changes: tuple[tuple[str, str], ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Tensor]:
        """The wrong loss. Raises ValueError if a change does not fit the source."""
        correct = CORRECT[self.objective]
        source = textwrap.dedent(inspect.getsource(correct))
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"{self.pain}: {old!r} stands {source.count(old)} times in {correct.__name__}")
            source = source.replace(old, new)
        names: dict[str, Any] = {"torch": torch, "F": F, "Tensor": Tensor}
        exec(compile(source, f"<{self.pain}>", "exec"), names)  # noqa: S102  our own text
        function: Callable[..., Tensor] = names[correct.__name__]
        return function
