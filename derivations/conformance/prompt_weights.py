"""Advantages that are known up to a weight of each prompt: a scale that has no name, a prompt that is left out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.conformance.advantage_candidates import GUARDS
from derivations.conformance.batches import Batch
from derivations.conformance.laws import number
from derivations.conformance.token_weights import groups_of

Vector = np.ndarray


def prompt_weights(
    data: list[Batch],
    goals: list[Vector],
    baselines: dict[str, Callable[[Vector], Vector]],
    weights: list[tuple[str, Callable[[Batch, Vector], Vector]]],
) -> str:
    """The baseline and the weights of tokens under which every prompt's gradient is a multiple of its advantages.

    Args:
        data: batches at ratio 1. goals: minus the gradient, [N, T], or the values, [N, 1]. baselines: words -> rewards
            of a prompt -> advantages. weights: words and weights of tokens.
    """
    found: list[tuple[int, str]] = []
    for what, base in baselines.items():
        for how, weigh in weights:
            rows = _shares(data, goals, base, weigh)
            if rows is not None and len(rows) >= 2:
                parts, rule = ", ".join(filter(None, [what, how])), _rule(*rows.T)
                if named := _powers(rows):
                    found.append((named[0] + bool(how), f"{parts}, each prompt times {named[1]}"))
                elif not found:
                    found.append((99, f"{parts}, each prompt times {rule}"))
    return min(found, default=(0, ""))[1]


def _powers(rows: Vector) -> tuple[int, str] | None:
    """The weight as a product of powers of the rewards' deviation, k and k - 1: how many there are, and in words."""
    share, _, deviation, size = rows.T
    if not (share > 0).all() or len(share) < 5 or not deviation.all():
        return None
    for guard, allowed in ((0.0, 1e-7), *((guard, 1e-7) for guard in GUARDS[1:]), (0.0, 2e-3)):
        names = {"the deviation" + (f" + {guard:g}" if guard else ""): deviation + guard, "k": size, "k - 1": size - 1}
        matrix = np.column_stack([*(np.log(x) for x in names.values()), np.ones(len(share))])
        powers, *_ = np.linalg.lstsq(matrix, np.log(share), rcond=None)
        near = np.round(2 * powers[:3]) / 2
        left = np.log(share) - matrix[:, :3] @ near
        if np.abs(powers[:3] - near).max() < 1e-2 and np.ptp(left) < allowed:
            factor = float(np.exp(left.mean()))
            parts = [number(factor)] if abs(factor - 1) > 10 * allowed else []
            parts += [f"({name})^{p:g}" if p != 1 else f"({name})" for name, p in zip(names, near, strict=True) if p]
            return len(parts), " x ".join(parts) + " of k samples" + (", or nearly so" if allowed > 1e-3 else "")
    return None


def _shares(data: list[Batch], goals: list[Vector], base: Any, weigh: Any) -> Vector | None:
    """The weight, the mean and deviation of the rewards and the number of samples of each prompt of three or more."""
    found = []
    for batch, goal in zip(data, goals, strict=True):
        a = np.zeros(len(batch["rewards"]))
        for rows in groups_of(batch):
            a[rows] = base(batch["rewards"][rows])
        column = a[:, None] * weigh(batch, a)
        for rows in groups_of(batch):
            own = float((column[rows] ** 2).sum())
            share = float((column[rows] * goal[rows]).sum()) / own if own else 0.0
            if np.abs(goal[rows] - share * column[rows]).max() > 1e-7 * max(1e-3, float(np.abs(goal[rows]).max())):
                return None
            if own and len(rows) > 2:
                rewards = batch["rewards"][rows]
                found.append((share, rewards.mean(), rewards.std(ddof=1), len(rows)))
    return np.array(found) if found else None


def _rule(share: Vector, mean: Vector, deviation: Vector, size: Vector) -> str:
    """The weight by the rewards' deviation or mean, if it rises or falls with one of them, else its range."""
    if np.isin(np.round(share / np.abs(share).max(), 6), (0.0, 1.0)).all():
        off, on = mean[share == 0], mean[share != 0]
        for words, one, other in (("above", on, off), ("below", off, on)):
            if len(off) and one.max() < other.min():
                left = f"{number(one.max())} to {number(other.min())}"
                return f"1 or 0: none counts whose mean reward is {words} a bound between {left}"
        return "1 or 0"
    at = ", ".join(
        f"{number(share[i])} at deviation {number(deviation[i])} and mean {number(mean[i])} of {int(size[i])} samples"
        for i in np.argsort(deviation)[:: max(1, len(share) // 3)]
    )
    return f"a weight of its own ({at})"
