"""What a policy gradient does with ratios from 0.02 to 30, piece by piece, for either sign of the advantage.

The slope by the log-prob, over -advantage x weight, is measured on a fine grid of ratios, cut into pieces on which it
is a power of the ratio, or linear in the ratio or in its log, and the bounds between them are found by bisection.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.conformance.advantage_candidates import candidate_advantages
from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.derived import Arrays
from derivations.conformance.far import wild_samples
from derivations.conformance.how import at_ratio_one, takes_advantages
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.ratio_use import MEANS
from derivations.conformance.token_weights import Weigh, named_weights

Vector = np.ndarray
Gradient = Callable[[Batch], Vector]
NOT_FAR = "; but far from ratio 1 it is another: "
GRID = np.exp(np.linspace(np.log(0.02), np.log(30.0), 240))
EXACT = 1e-6
Known = tuple[str, Callable[[Batch], Vector], Weigh]
PIECES = 6  # more is not a rule
SIGNS = {1: "A > 0", -1: "A < 0"}


# ---------------------------------------------------------------- inputs


def spread_samples(ratios: Vector) -> Batch:
    """Two responses of one token at each ratio, of which one is better than the other."""
    n = 2 * len(ratios)
    logps = np.full((n, 1), -1.3)
    batch: Batch = {"logps": logps, "old_logps": logps - np.log(np.repeat(ratios, 2))[:, None]}
    batch |= {"mask": np.ones((n, 1), dtype=bool), "group": np.arange(n) // 2}
    return batch | {"rewards": np.tile([1.0, 0.0], n // 2)}


@functools.cache
def _far(seed: int) -> tuple[tuple[str, Vector], ...]:
    rng = np.random.default_rng([41, seed])
    lengths = ((1, 1, 1, 1, 1, 1, 1, 1), (2, 3, 1, 2, 3, 1, 3, 2))[seed % 2]
    mask = np.arange(max(lengths))[None] < np.array(lengths)[:, None]
    logps = rng.uniform(-2.5, -0.1, mask.shape).round(3)
    rewards = rng.normal(0.3, 1.5, len(lengths)).round(2)
    batch = {"logps": logps, "old_logps": logps - rng.uniform(np.log(0.02), np.log(30.0), mask.shape), "mask": mask}
    return tuple((batch | {"rewards": rewards, "group": np.arange(len(lengths)) // 4}).items())


def far_samples(subject: Subject) -> list[Batch]:
    """Two prompts of four samples whose ratios are anywhere from 0.02 to 30; then given advantages of any mean."""
    found = [dict(_far(seed)) for seed in range(6)]
    if takes_advantages(subject):
        found += [batch | {"advantages": 2 * batch["rewards"]} for batch in found[:2]]
    return found


# ---------------------------------------------------------------- pieces


@dataclass(frozen=True)
class Piece:
    """One function of the ratio from the bound below it on."""

    start: float
    words: str
    rule: Callable[[Vector], Vector]


FORMS: tuple[tuple[Callable[[Vector], Vector], str], ...] = (
    (lambda r: r, "r"),
    (np.log, "log r"),
    (lambda r: r**2, "r^2"),
    (lambda r: 1 / r, "1/r"),
    (np.sqrt, "sqrt r"),
    (lambda r: r**-0.5, "1/sqrt r"),
    (lambda r: r * np.log(r), "r log r"),
    (lambda r: r * (1 - r), "r (1 - r)"),
    (lambda r: r**3, "r^3"),
    (lambda r: r / (1 + r) ** 2, "r/(1 + r)^2"),
)


def _form(r: Vector, y: Vector) -> tuple[str, Callable[[Vector], Vector]] | None:
    """A constant, or a + b x one of the forms: words and rule."""
    allowed = EXACT * max(1e-3, float(np.abs(y).max()))
    if np.ptp(y) < allowed:
        c = float(y.mean()) if abs(y.mean()) > 1e-9 else 0.0
        return number(c), lambda x: c + 0 * x
    for both, (form, words) in itertools.product((False, True), FORMS):
        matrix = np.column_stack([form(r), *([np.ones(len(r))] if both else [])])
        found, *_ = np.linalg.lstsq(matrix, y, rcond=None)
        if np.abs(matrix @ found - y).max() > allowed:
            continue
        b, a = float(found[0]), float(found[1]) if both else 0.0
        times = "" if abs(b - 1) < 1e-5 else "-" if abs(b + 1) < 1e-5 else f"{number(b)} x "
        beside = f" {'-' if a < 0 else '+'} {number(abs(a))}" if both else ""
        return f"{times}{words}{beside}", lambda x, f=form, b=b, a=a: a + b * f(x)
    return None


def _pieces(slope: Callable[[Vector], Vector], grid: Vector) -> list[Piece] | None:
    """The slope over the grid in pieces, or nothing if there is no rule. slope: ratios -> slopes."""
    y, at, found = slope(grid), 0, list[Piece]()
    while at < len(grid):
        width = next((w for w in (24, 8, 5) if at + w <= len(grid) and _form(grid[at : at + w], y[at : at + w])), 0)
        form = _form(grid[at : at + width], y[at : at + width]) if width else None
        if form is None or len(found) == PIECES:
            return None
        words, rule = form
        off = np.abs(rule(grid[at:]) - y[at:]) > 10 * EXACT * np.maximum(1e-3, np.abs(y[at:]))
        start = _bound(slope, rule, grid[at - 1], grid[at]) if at else 0.0
        found.append(Piece(start, words, rule))
        at = at + int(off.argmax()) if off.any() else len(grid)
    return found


def _bound(slope: Callable[[Vector], Vector], rule: Callable[[Vector], Vector], low: float, high: float) -> float:
    """Where a piece begins that holds at `high` and not at `low`."""
    for _ in range(4):  # a fine grid at a time: a thirtieth each
        tried = np.linspace(low, high, 31)
        holds = np.abs(rule(tried) - slope(tried)) <= 1e-7 * np.maximum(1.0, np.abs(rule(tried)))
        first = int(len(holds) - np.argmin(holds[::-1])) if not holds.all() else 1
        low, high = float(tried[max(0, first - 1)]), float(tried[min(first, 30)])
    return (low + high) / 2


def _grid(low: float, high: float) -> Vector:
    """Ratios from 0.02 to 30, with more of them in a clip that is narrow."""
    inside = 1 + np.linspace(-0.98 * low, 0.98 * high, 14)
    return np.unique([*GRID, *1 + np.linspace(-2e-4, 2e-4, 14), *(inside if low + high < 0.1 else [])])


def _value(pieces: list[Piece], ratio: Vector) -> Vector:
    starts = np.array([piece.start for piece in pieces])
    place = np.maximum(np.searchsorted(starts, ratio, side="right") - 1, 0)
    return np.choose(place, [piece.rule(ratio) for piece in pieces])


def _in_words(pieces: list[Piece]) -> str:
    """`0 up to 0.8, r up to 3, then 0`."""
    said = [f"{one.words} up to {_ratio(other.start)}" for one, other in itertools.pairwise(pieces)]
    return ", ".join(said) + (", then " if said else "") + pieces[-1].words


def _ratio(bound: float) -> str:
    log = round(float(np.log(bound)), 2)
    plain = abs(bound - round(bound, 2)) < 2e-5
    said = f"{round(bound, 4):g}"
    return f"{said} (e^{log:g})" if not plain and abs(np.exp(log) - bound) < 1e-4 * bound else said


# ---------------------------------------------------------------- the description


def holds_far(subject: Subject, terms: list[tuple[float, Callable[[Arrays], Any]]]) -> bool:
    """Whether a sum of named terms has the gradient of the function where ratios are from 0.02 to 30."""
    with np.errstate(all="ignore"):
        for batch in far_samples(subject)[:2]:
            found = subject.numbers(subject.call, batch, value=False)
            meant = sum(c * subject.numbers(term, batch, value=False) for c, term in terms)
            left = np.abs(found - meant).max()
            if not left <= (1e-3 if subject.single else 1e-5) * max(1e-3, float(np.abs(found).max())):
                return False
    return True


def ratio_profile(subject: Subject, gradient: Gradient, known: Known | None = None) -> str:
    """What it does with the ratio at any size, with its advantage and weights, in words; or nothing.

    Args:
        subject: the function. gradient: batch -> its gradient, [N, T]. known: words, advantages and weights of tokens
            that explain it at ratio 1, if there are any; others are tried too.
    """
    if subject.single:
        return ""
    try:
        data = [*far_samples(subject), *wild_samples(subject), *subject.examples]
        data += [at_ratio_one(batch) for batch in data[:2]]
        goals = [gradient(batch) for batch in data]
        grid = _grid(*subject.target.family.clip)
        several = functools.cache(lambda ratios: gradient(spread_samples(np.array(ratios))))
        usual: Iterator[Known] = (
            (", ".join(filter(None, [what, how])), advantages, weigh)
            for (what, advantages), (how, weigh) in itertools.product(_usual(subject), named_weights(subject)[:8])
        )
        for words, advantages, weigh in itertools.chain([known] if known else [], usual):
            if said := _with(grid, data, goals, lambda r: several(tuple(r)), advantages, weigh):
                return f"{said}; {words}"
    except CallError:
        return ""
    return ""


def _usual(subject: Subject) -> list[tuple[str, Callable[[Batch], Vector]]]:
    """Advantages as given, or the plain ones and those over the group's deviation."""
    found = []
    for words, advantages in candidate_advantages(subject, changed=False):
        plain = words in ("", "leave-one-out", "reward minus the group's mean", "the plain reward")
        over = words.startswith("reward minus the group's mean, over the") and " deviation + " in words
        if plain or (over and "batch" not in words and "prompts" not in words and "places" not in words):
            found.append((words, advantages))
        if not words or len(found) == 22:
            break
    return found


def _with(
    grid: Vector,
    data: list[Batch],
    goals: list[Vector],
    several: Callable[[Vector], Vector],
    advantages: Callable[[Batch], Vector],
    weigh: Weigh,
) -> str:
    """The slopes of each sign under these advantages and weights, if they explain samples of several tokens too."""

    def slope(ratios: Vector, sign: int) -> Vector:
        batch = spread_samples(ratios)
        a = advantages(batch)
        with np.errstate(all="ignore"):
            each: Vector = (several(ratios) / (-a[:, None] * weigh(batch, a)))[:, 0]
        return each[0 if sign > 0 else 1 :: 2]

    first, a = data[0], advantages(data[0])  # one token a response
    ratio = np.exp(first["logps"] - first["old_logps"])[:, 0]
    both = [slope(ratio, sign) for sign in SIGNS]
    if not all(np.all(np.isfinite(each)) for each in (a, *both)):
        return ""
    if (
        np.abs((-a * np.where(a > 0, *both))[:, None] * weigh(first, a) - goals[0]).max()
        > 1e-6 * np.abs(goals[0]).max()
    ):
        return ""
    tables = {sign: _pieces(functools.partial(slope, sign=sign), grid) for sign in SIGNS}
    if None in tables.values():
        return ""
    for lead in ("r", "the response's geometric mean ratio", "the response's ratio"):
        if all(_explains(b, goal, MEANS[lead], tables, advantages, weigh) for b, goal in zip(data, goals, strict=True)):
            of = "" if lead == "r" else f" (r: {lead})"
            said = {words: _in_words(tables[sign] or []) for sign, words in SIGNS.items()}
            each = [f"for {words}: {pieces}" for words, pieces in said.items()]
            parts = f", {'; '.join(each)}" if len(set(said.values())) > 1 else f": {said['A > 0']}"
            return f"a surrogate whose slope by the log-prob, over -A, is by the ratio r{of}{parts}"
    return ""


def _explains(
    batch: Batch,
    goal: Vector,
    mean: Callable[[Vector, Vector], Vector],
    tables: dict[int, list[Piece] | None],
    advantages: Callable[[Batch], Vector],
    weigh: Weigh,
) -> bool:
    mask, a = batch["mask"], advantages(batch)
    ratio = np.exp(mean(np.where(mask, batch["logps"] - batch["old_logps"], 0.0), mask))
    inside = mask & (ratio >= GRID[0]) & (ratio <= GRID[-1])
    by_sign = [_value(tables[sign] or [], ratio) for sign in SIGNS]
    meant = -a[:, None] * weigh(batch, a) * np.where(a[:, None] > 0, *by_sign)
    return bool(np.abs(meant - goal)[inside].max() <= 1e-5 * max(1e-3, float(np.abs(goal[inside]).max())))
