"""Holding comparisons out for evaluation, so that no prompt stands on both sides."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from derivations.cli.errors import InputError

SHARE = 5  # at most one in so many comparisons is held out


def held_out(eval_size: int, n: int) -> int:
    """How many of n comparisons to hold out: as asked, at most a fifth, at least one."""
    return max(1, min(eval_size, n // SHARE))


def split_off(
    items: Sequence[Any], *, eval_size: int, seed: int, prompt: Callable[[Any], Hashable] = id
) -> tuple[list[Any], list[Any]]:
    """Train and evaluation parts by seed.

    Args:
        items: what to split.
        eval_size: how many to hold out, capped by `held_out`; fewer where prompts that stand together do not fit.
        seed: of the shuffle.
        prompt: items for which it gives the same stay on one side, unless it gives the same for all.

    Raises:
        InputError: nothing would be left on one of the sides.
    """
    if len(items) < 2:
        raise InputError(f"{len(items)} usable comparison is too few to train on some and evaluate on others")
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    groups: dict[Hashable, list[Any]] = {}
    for item in shuffled:
        groups.setdefault(prompt(item), []).append(item)
    room, held = held_out(eval_size, len(items)), list[Any]()
    for group in groups.values():
        if len(group) <= room - len(held):
            held += group
    if not held:  # no prompt has few enough comparisons: the smallest group goes, or a part of the only one
        held = min(groups.values(), key=len) if len(groups) > 1 else shuffled[:room]
    chosen = {id(item) for item in held}
    return [item for item in shuffled if id(item) not in chosen], held
