"""Holding comparisons out for evaluation, so that no prompt stands on both sides."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from derivations.cli.errors import InputError
from llm.data.spool import Picked

SHARE = 5  # at most one in so many comparisons is held out


def held_out(eval_size: int, n: int) -> int:
    """How many of n comparisons to hold out: as asked, at most a fifth, at least one."""
    return max(1, min(eval_size, n // SHARE))


def split_off(
    items: Sequence[Any], *, eval_size: int, seed: int, prompt: Callable[[Any], Hashable] | None = None
) -> tuple[Picked[Any], Picked[Any]]:
    """Train and evaluation parts by seed.

    Args:
        items: what to split; each is fetched once.
        eval_size: how many to hold out, capped by `held_out`; fewer where prompts that stand together do not fit.
        seed: of the shuffle.
        prompt: items for which it gives the same stay on one side, unless it gives the same for all. None: each
            item stands alone.

    Returns:
        The two parts.

    Raises:
        InputError: nothing would be left on one of the sides.
    """
    n = len(items)
    if n < 2:
        raise InputError(f"{n} usable comparison is too few to train on some and evaluate on others")
    order = list(range(n))
    random.Random(seed).shuffle(order)  # noqa: S311
    shuffled = np.array(order)
    keys = np.fromiter((hash(prompt(item)) for item in items) if prompt else order, np.int64, n)[shuffled]
    _, first, group, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    room, taken, left = held_out(eval_size, n), list[int](), held_out(eval_size, n)
    in_turn = np.argsort(first)
    for g in in_turn:
        if sizes[g] <= left:
            taken.append(g)
            left -= int(sizes[g])
        if not left:
            break
    if not taken and len(sizes) > 1:  # no prompt has few enough comparisons: the smallest group goes
        taken = [in_turn[np.argmin(sizes[in_turn])]]
    held = np.isin(group, taken) if taken else np.arange(n) < room  # of one prompt only, a part
    places = np.flatnonzero(held)
    places = places[np.argsort(first[group[places]], kind="stable")] if taken else places
    return Picked(items, shuffled[~held]), Picked(items, shuffled[places])  # type: ignore[arg-type]
