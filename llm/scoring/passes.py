"""How much goes through the model at once: decided here, by the kind of device.

A CPU is fastest when a pass fits its caches. A GPU is idle while it waits for the next kernel, so its passes
are large. Nothing here needs torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
G = TypeVar("G")


@dataclass(frozen=True)
class PassSizes:
    """Tokens of one forward pass.

    batch_tokens: places in one forward pass, padding included. chunk_tokens: positions whose logits are held at
    once. offline_tokens, online_tokens: tokens of one forward and backward pass where `--micro-batch-tokens` does
    not say.
    """

    batch_tokens: int
    chunk_tokens: int
    offline_tokens: int
    online_tokens: int


CPU = PassSizes(batch_tokens=4096, chunk_tokens=256, offline_tokens=512, online_tokens=1024)
GPU = PassSizes(batch_tokens=16_384, chunk_tokens=2048, offline_tokens=16_384, online_tokens=16_384)


def pass_sizes(kind: str) -> PassSizes:
    """The sizes of a kind of device.

    Args:
        kind: torch's name of it, such as `cpu` or `cuda`.
    """
    return CPU if kind == "cpu" else GPU


def what_ran(kind: str, micro_batch_tokens: int) -> dict[str, int]:
    """The sizes of a run as its config.json keeps them, in tokens."""
    sizes = pass_sizes(kind)
    return {
        "micro_batch_tokens": micro_batch_tokens,
        "batch_tokens": sizes.batch_tokens,
        "chunk_tokens": sizes.chunk_tokens,
    }


def by_tokens(sizes: Sequence[int], *, tokens: int, most: int | None = None) -> Iterator[list[int]]:
    """Places of the sizes, shortest first, in parts.

    Args:
        sizes: tokens of each item.
        tokens: most tokens of a part, unless one item alone is longer.
        most: most items of a part; None: as many as `tokens` hold.
    """
    part: list[int] = []
    total = 0
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if part and (len(part) == most or total + sizes[i] > tokens):
            yield part
            part, total = [], 0
        part.append(i)
        total += sizes[i]
    if part:
        yield part


def scored(groups: Sequence[G], tokens: int, score: Callable[[list[G]], Sequence[T]], *, engine: Any = None) -> list[T]:
    """What `score` says of each group, in order, asked for several groups at a time (`by_tokens`).

    Args:
        groups: with a length in tokens each.
        tokens: most tokens of one call.
        score: groups -> one value a group.
        engine: of a sharded model, whose processes must make the same number of passes; None: one process.
    """
    found: dict[int, T] = {}
    parts = list(by_tokens([len(g) for g in groups], tokens=tokens))  # type: ignore[arg-type]
    for part in parts if engine is None else engine.evenly(parts):
        if part is None:  # the layers of the other processes wait for ours
            engine.idle_pass()
            continue
        found |= zip(part, score([groups[i] for i in part]), strict=True)
    return [found[i] for i in range(len(groups))]
