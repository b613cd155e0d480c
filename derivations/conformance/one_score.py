"""Numbers that are a function of one score, in words: usual functions inside of usual functions, or the product of two.

All columns f(g(x)) are compared at once with the numbers, up to a factor and a constant; one has to explain them all.
"""

import functools
import itertools
from collections.abc import Callable

import numpy as np

from derivations.conformance.laws import number
from derivations.conformance.one_sided import candidates

Vector = np.ndarray
PAIRED = 400  # of the plainest columns two may be added
Function = tuple[int, str, Callable[[Vector], Vector]]  # cost, words with {}, the function


def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Vector) -> Vector:
    return np.logaddexp(0, x)


FUNCTIONS: list[Function] = [
    (0, "{}", lambda x: x),
    (1, "-log sigmoid({})", lambda x: _softplus(-x)),
    (1, "sigmoid({})", _sigmoid),
    (1, "({})^2", lambda x: x**2),
    (1, "|{}|", np.abs),
    (1, "exp({})", np.exp),
    (1, "tanh({})", np.tanh),
    (1, "max(0, {})", lambda x: np.maximum(x, 0)),
    (1, "log(1 + {})", np.log1p),
    (2, "log({})", np.log),
    (2, "sqrt({})", np.sqrt),
    (2, "atan({})", np.arctan),
    (2, "sign({})", np.sign),
    (2, "({0}) / (1 + |{0}|)", lambda x: x / (1 + np.abs(x))),
    (2, "huber({})", lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)),
    (3, "({})^3", lambda x: x**3),
    (2, "({})^4", lambda x: x**4),
    (3, "1/({})", lambda x: 1 / x),
    (3, "({0}) log({0})", lambda x: x * np.log(x)),
    (1, "sigmoid({})^2", lambda x: _sigmoid(x) ** 2),
    *((3, f"clamp({{}}, -{c:g}, {c:g})", functools.partial(np.clip, a_min=-c, a_max=c)) for c in (0.5, 1, 2, 5, 10)),
    *((3, f"min({{}}, {c:g})", functools.partial(np.minimum, c)) for c in (0.5, 1, 2, 5, 10)),
    *((3, f"max({{}}, -{c:g})", functools.partial(np.maximum, -c)) for c in (0.5, 1, 2, 5, 10)),
]


def of_one_score(x: Vector, y: Vector, strengths: tuple[float, ...], allowed: float, *, weight: bool = False) -> str:
    """The numbers as a function of the score, in words with `x` for the score; nothing if none of these is it.

    Args:
        x: [n], scores. y: [n], numbers. strengths: the objective's options, which may be factors inside.
        allowed: how far off, relative to the largest. weight: plain functions alone, and no constant beside them.
    """
    words, constant = up_to_a_constant(x, y, strengths, allowed, weight=weight)
    beside = f" {'-' if constant < 0 else '+'} {number(abs(constant))}" if abs(constant) > 1e-7 else ""
    return words and words + beside


def up_to_a_constant(
    x: Vector, y: Vector, strengths: tuple[float, ...], allowed: float, *, weight: bool = False
) -> tuple[str, float]:
    """The same in two parts: the words without the constant, and the constant."""
    if len(x) < 8 or not np.all(np.isfinite(y)) or np.ptp(y) < 1e-12:
        return "", 0.0
    with np.errstate(all="ignore"):
        return _said(x, y, strengths, allowed, weight)


def _said(x: Vector, y: Vector, strengths: tuple[float, ...], allowed: float, weight: bool) -> tuple[str, float]:
    constant = not weight
    names, columns = _columns(tuple(x), tuple(dict.fromkeys(abs(s) for s in strengths)), weight)
    one = np.ones(len(y)) if constant else np.zeros(len(y))
    centred = columns - np.outer(one, columns.mean(0)) if constant else columns
    goal = y - y.mean() if constant else y
    size = (centred**2).sum(0)
    factors = (centred * goal[:, None]).sum(0) / size
    scale = np.maximum(np.abs(goal), max(1e-3, float(np.median(np.abs(goal)))))  # far scores must not drown near ones
    left = (np.abs(centred * factors - goal[:, None]) / scale[:, None]).max(0)
    for i in np.flatnonzero((left <= 10 * allowed) & (size > 1e-12)):
        return _sum([(float(factors[i]), names[i])]), float((y - factors[i] * columns[:, i]).mean()) * constant
    few = [i for i in range(min(PAIRED, len(names))) if size[i] > 1e-12]
    matrix, whole = centred[:, few] / np.sqrt(size[few]), float(np.linalg.norm(goal))
    for pair in candidates(matrix, goal / whole, [0] * len(few)) if constant else ():
        chosen = [few[i] for i in pair]
        found, *_ = np.linalg.lstsq(centred[:, chosen], goal, rcond=None)
        if len(pair) == 2 and (np.abs(centred[:, chosen] @ found - goal) / scale).max() <= 10 * allowed:
            parts = [(float(c), names[i]) for c, i in zip(found, chosen, strict=True)]
            return _sum(parts), float((y - columns[:, chosen] @ found).mean())
    return "", 0.0


def _sum(parts: list[tuple[float, str]]) -> str:
    words = ""
    for c, name in parts:
        part = f"({name})" if name.startswith("-") and (words or abs(c - 1) > 1e-6) else name
        times = "" if abs(abs(c) - 1) < 1e-6 else f"{number(abs(c))} "
        words += f"{' - ' if c < 0 else ' + '}{times}{part}"
    words = words.removeprefix(" + ")
    return f"-{words[3:]}" if words.startswith(" - ") else words


@functools.lru_cache(maxsize=8)
def _columns(x: tuple[float, ...], strengths: tuple[float, ...], plain: bool) -> tuple[list[str], Vector]:
    """Words and numbers of f(g(k x + c)), and of products, the plainest first."""
    score = np.array(x)
    found: list[tuple[int, str, Vector]] = [(0, "x", score)]
    inner = [one for one in _inner(score, strengths) if not plain or one[0] <= 1]
    outer = [one for one in FUNCTIONS if not plain or one[0] <= 1]
    for (cost, words, values), (more, outside, change) in itertools.product(inner, outer):
        if min(cost, more) > 1:
            continue
        for k in dict.fromkeys((1.0, -1.0, *(strengths if cost else ()))):
            if (not cost and not more) or (more == 0 and k != 1):
                continue
            inside = words if k == 1 else f"-{_bracketed(words)}" if k == -1 else f"{number(k)} {_bracketed(words)}"
            found.append((cost + more + (abs(k) != 1), outside.format(inside), change(k * values)))
            for shift in (
                dict.fromkeys((1.0, *strengths))
                if abs(k) == 1 and more in (1, 2) and (cost < 2 or more == 1) and not plain
                else ()
            ):
                for sign in (1, -1):
                    shown = f"{inside} {'+' if sign > 0 else '-'} {number(shift)}"
                    beside = 1 if outside == "max(0, {})" else 2  # a hinge, before a bound on what it holds
                    found.append((cost + more + beside, outside.format(shown), change(k * values + sign * shift)))
    few = [one for one in found if one[0] <= 2 and np.all(np.isfinite(one[2])) and not one[1].endswith((" x", "-x"))]
    few.sort(key=lambda one: one[0])
    for (c, w, v), (d, u, z) in itertools.combinations_with_replacement(few[: 20 if plain else 120], 2):
        found.append((c + d + 2, f"{w} times {u}", v * z))
    found = sorted((one for one in found if np.all(np.isfinite(one[2]))), key=lambda one: one[0])
    return [words for _, words, _ in found], np.stack([values for *_, values in found], 1)


def _inner(score: Vector, strengths: tuple[float, ...]) -> list[tuple[int, str, Vector]]:
    """Usual functions of the score times a factor."""
    factors = dict.fromkeys(f for s in (1.0, *strengths) for f in (s, 1 / s, 2 * s, s / 2, s**2))
    found = []
    for k, (cost, words, change) in itertools.product(factors, FUNCTIONS):
        inside = "x" if k == 1 else f"{number(k)} x"
        found.append((cost + (k not in (1.0, *strengths)), words.format(inside), change(k * score)))
    return found


def _bracketed(words: str) -> str:
    return f"({words})" if any(sign in words for sign in (" + ", " - ", " / ", "-")) else words
