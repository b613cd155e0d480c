"""What every training run shares: device, precision, optimizer step, seeds, records and progress.

accelerate owns the device and the precision. Weights are float32 masters; bf16 runs the layers under
autocast. Metrics, samples and summaries go through `derivations.commands`, so files are always whole.
"""

import ctypes
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import track
from rich.table import Table

from derivations.commands import to_json, write_text

T = TypeVar("T")


def keep_memory() -> None:
    """Let glibc keep freed memory: giving pages back and faulting them in again costs more than the arithmetic."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


class Engine:
    """A model on its device with its optimizer.

    `engine.autocast()` is the precision every forward pass runs in; `engine.backward(loss)` accumulates
    gradients; `engine.step()` clips, updates and clears them, and returns the norm before clipping.
    """

    def __init__(
        self,
        model: Any,
        *,
        lr: float,
        dtype: str,
        max_grad_norm: float,
        seed: int,
        schedule: str = "constant",
        steps: int = 1,
    ) -> None:
        keep_memory()
        set_seed(seed)
        AcceleratorState._reset_state(
            reset_partial_state=False
        )  # an earlier run of this process chose its own precision
        self.accelerator = Accelerator(mixed_precision="bf16" if dtype == "bf16" else "no")
        self.autocast = self.accelerator.autocast
        self.max_grad_norm = max_grad_norm
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps, schedule))
        self.model, self.optimizer, self.rate = self.accelerator.prepare(model, optimizer, rate)

    def backward(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)

    def step(self) -> float:
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        return float(norm)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.rate.get_last_lr()[0])

    @property
    def unwrapped(self) -> Any:
        """The transformers model itself."""
        return self.accelerator.unwrap_model(self.model)


def rate_factor(step: int, steps: int, schedule: str) -> float:
    """Learning rate of step 0, 1, ..., steps - 1 as a share of its peak; no step has rate 0.

    `constant`: 1. `cosine`: a tenth of the steps up, the whole way down along a half cosine.
    """
    if schedule == "constant":
        return 1.0
    warmup = max(1, steps // 10)
    return min(1.0, (step + 1) / (warmup + 1)) * (1 + math.cos(math.pi * step / steps)) / 2


class Records:
    """A JSONL file that grows by one row at a time and is whole after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, *rows: dict[str, Any]) -> None:
        self.rows += rows
        write_text(self.path, "".join(to_json(row) + "\n" for row in self.rows))


def progress(items: Iterable[T], description: str, *, quiet: bool) -> Iterable[T]:
    """The items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(items, description, console=console, disable=quiet or not console.is_terminal)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    if quiet:
        return
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
