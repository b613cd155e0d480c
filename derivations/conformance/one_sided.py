"""A part of a loss that sees one response alone, in words: which score, under which function, with which factor.

What is known are its values, up to a constant for each length, on a few responses. Every score (the sum, the mean, the
log-ratio, ...) under every usual function is a column, and one or two of them have to explain all values exactly.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from derivations.conformance.laws import number

Vector = np.ndarray
Rule = Callable[[Vector, Vector, Vector], Vector]  # policy's sum, reference's sum, length -> the part


@dataclass(frozen=True)
class Part:
    """One part: its words, and the rule that gives it from policy's sum, reference's sum and length."""

    words: str
    rule: Rule


SCORES: dict[str, Rule] = {
    "log pi - log ref": lambda s, r, n: s - r,
    "log pi": lambda s, r, n: s,
    "log pi/|y|": lambda s, r, n: s / n,
    "(log pi - log ref)/|y|": lambda s, r, n: (s - r) / n,
    "log ref": lambda s, r, n: r,
    "log ref/|y|": lambda s, r, n: r / n,
    "log pi/sqrt|y|": lambda s, r, n: s / n**0.5,
    "log pi/(|y| + 1)": lambda s, r, n: s / (n + 1),
    "(log pi - log ref)/sqrt|y|": lambda s, r, n: (s - r) / n**0.5,
    "log pi |y|": lambda s, r, n: s * n,
    "log pi/log ref": lambda s, r, n: s / r,
    "log pi log ref": lambda s, r, n: s * r,
}

BOUNDS = (0.5, 1.0, 2.0, 5.0, 10.0)


def _columns(options: tuple[float, ...]) -> list[tuple[int, str, Rule]]:
    """(cost, words, rule) of every score under every function."""
    changes: list[tuple[int, str, Callable[[Vector], Vector]]] = [
        (0, "{}", lambda x: x),
        (1, "exp({})", np.exp),
        (1, "({})^2", lambda x: x**2),
        (1, "max(0, {})", lambda x: np.maximum(x, 0)),
        (1, "max(0, -({}))", lambda x: np.maximum(-x, 0)),
        (1, "|{}|", np.abs),
        (2, "max(0, {})^2", lambda x: np.maximum(x, 0) ** 2),
        (2, "max(0, -({}))^2", lambda x: np.maximum(-x, 0) ** 2),
        (2, "ln(1 - exp({}))", lambda x: np.log1p(-np.exp(x))),
        (2, "ln(1 - ({}))", lambda x: np.log1p(-x)),
        (2, "ln(-({}))", lambda x: np.log(-x)),
        (2, "exp(-({}))", lambda x: np.exp(-x)),
        (2, "ln({})", np.log),
        (2, "({})^3", lambda x: x**3),
        (3, "1/({})", lambda x: 1 / x),
        (3, "exp({0}) / (1 - exp({0}))", lambda x: 1 / np.expm1(-x)),
        (3, "exp({0}) ({0})", lambda x: np.exp(x) * x),
        (3, "exp(-({0})) ({0})", lambda x: np.exp(-x) * x),
    ]
    changes += [
        (3, words, change)
        for most in BOUNDS
        for words, change in (
            (f"clamp({{}}, -{most:g}, {most:g})", lambda x, m=most: np.clip(x, -m, m)),
            (f"clamp({{}}, at most {most:g})", lambda x, m=most: np.minimum(x, m)),
            (f"clamp({{}}, at least -{most:g})", lambda x, m=most: np.maximum(x, -m)),
        )
    ]
    beta = options[0]
    for k, shift in itertools.product(
        dict.fromkeys((1.0, beta, 1 / beta, 2 * beta)),
        dict.fromkeys((0.0, *(s * o for o in options[1:] for s in (1, -1)))),
    ):
        inner = "{}" if k == 1 else f"{number(k)} ({{}})"
        beside = f" {'-' if shift < 0 else '+'} {number(abs(shift))}" if shift else ""
        changes += [
            (
                2 + 2 * bool(shift),
                f"-log sigmoid({inner}{beside})",
                lambda x, k=k, o=shift: np.log1p(np.exp(-k * x - o)),  # type: ignore[misc]
            ),
            (
                2 + 2 * bool(shift),
                f"sigmoid({inner}{beside})",
                lambda x, k=k, o=shift: 1 / (1 + np.exp(-k * x - o)),  # type: ignore[misc]
            ),
        ]
        if shift:
            continue
        changes += [
            (3, f"exp({inner})", lambda x, k=k: np.exp(k * x)),  # type: ignore[misc]
            (3, f"tanh({inner})", lambda x, k=k: np.tanh(k * x)),  # type: ignore[misc]
        ]
    return [
        (cost + 2 * place, words.format(score), lambda s, r, n, c=change, f=rule: c(f(s, r, n)))  # type: ignore[misc]
        for place, (score, rule) in enumerate(SCORES.items())
        for cost, words, change in changes
        if place < 4 or not words.startswith("clamp")
    ]


def part_of(
    values: Vector, s: Vector, r: Vector, n: Vector, strengths: tuple[float, ...], allowed: float
) -> Part | None:
    """The part of which these are the values, up to a constant for each length.

    Args:
        values: [n], what the part is worth. s: [n], r: [n], summed log-probs of policy and reference, nats.
        n: [n], lengths. strengths: the objective's options. allowed: how far off, relative to the largest.

    Returns:
        The part with the fewest and plainest columns, or None.
    """
    clear = _without_constants(n)
    goal = clear @ values
    size = float(np.linalg.norm(goal))
    if size <= allowed * max(1.0, float(np.abs(values).max())):
        return Part("", lambda s, r, n: 0 * s)
    known = _known(s.tobytes(), r.tobytes(), n.tobytes(), strengths)
    matrix = np.stack([x / np.linalg.norm(x) for *_, x in known], 1)
    for chosen in itertools.chain(candidates(matrix, goal / size, [c for c, *_ in known]), _triples(known)):
        columns = np.stack([known[i][3] for i in chosen], 1)
        found, *_ = np.linalg.lstsq(columns, goal, rcond=None)
        if np.linalg.norm(columns @ found - goal) <= allowed * size:
            kept = [(float(c), known[i]) for c, i in zip(found, chosen, strict=True)]
            words, constant = _sum(_other_side_of_the_bend([(c, k[1]) for c, k in kept], strengths[0]))
            return Part(words, _combined([(c, k[2]) for c, k in kept], constant))
    return None


@functools.lru_cache(maxsize=16)
def _known(s: bytes, r: bytes, n: bytes, strengths: tuple[float, ...]) -> list[tuple[int, str, Rule, Vector]]:
    """Every column for these responses, less a constant for each length: cost, words, rule, numbers."""
    responses = [np.frombuffer(x) for x in (s, r, n)]
    clear = _without_constants(responses[2])
    with np.errstate(all="ignore"):
        known = [(c, w, f, clear @ f(*responses)) for c, w, f in _columns(strengths)]
    return [(c, w, f, x) for c, w, f, x in known if np.all(np.isfinite(x)) and np.linalg.norm(x) > 1e-9]


def _other_side_of_the_bend(parts: list[tuple[float, str]], strength: float) -> list[tuple[float, str]]:
    """a x + b max(0, x) as (a + b) x + b max(0, -x), where a + b is 1 or beta and a is not."""
    (a, one), (b, bend) = parts if len(parts) == 2 else ((0.0, ""), (0.0, ""))
    plain = [1.0, strength]
    if bend != f"max(0, {one})" or np.isclose(abs(a), plain).any() or not np.isclose(abs(a + b), plain).any():
        return parts
    return [(a + b, one), (b, f"max(0, -({one}))")]


def _combined(parts: list[tuple[float, Rule]], constant: float) -> Rule:
    def rule(s: Vector, r: Vector, n: Vector) -> Vector:
        total: Vector = sum((c * part(s, r, n) for c, part in parts), 0.0 * s + constant)
        return total

    return rule


def candidates(matrix: Vector, goal: Vector, costs: list[int]) -> list[tuple[int, ...]]:
    """Single columns and pairs that nearly explain the goal, the plainest first."""
    shares, gram = matrix.T @ goal, matrix.T @ matrix
    alone: list[tuple[int, ...]] = [(int(i),) for i in np.flatnonzero(1 - shares**2 < 1e-5)]
    with np.errstate(all="ignore"):
        a, b = shares[:, None], shares[None, :]
        together = (a**2 + b**2 - 2 * gram * a * b) / (1 - gram**2)
    near = np.argwhere((1 - together < 1e-5) & (1 - gram**2 > 1e-9))
    pairs: list[tuple[int, ...]] = sorted(
        ((int(i), int(j)) for i, j in near if i < j), key=lambda p: costs[p[0]] + costs[p[1]]
    )
    return sorted(alone, key=lambda p: costs[p[0]]) + pairs[:400]


def _triples(known: list[tuple[int, str, Rule, Vector]]) -> Iterator[tuple[int, ...]]:
    """Three functions of the same score, none with a factor inside."""
    size = len(known) // len(SCORES)
    for score in SCORES:
        plain = [i for i, (_, words, *_) in enumerate(known) if words in _plain_words(score)]
        yield from itertools.combinations(plain[:size], 3)


@functools.cache
def _plain_words(score: str) -> frozenset[str]:
    forms = ("{}", "exp({})", "({})^2", "|{}|", "exp(-({}))", "({})^3", "exp({0}) ({0})", "exp(-({0})) ({0})",
             "-log sigmoid({})", "max(0, {})")  # fmt: skip
    return frozenset(form.format(score) for form in forms)


def _without_constants(n: Vector) -> Vector:
    """The projection that takes away a constant for each length."""
    each = np.stack([(n == k) * 1.0 for k in np.unique(n)], 1)
    return np.eye(len(n)) - each @ np.linalg.pinv(each)


def _sum(parts: list[tuple[float, str]]) -> tuple[str, float]:
    """A sum in words, x and x^2 of the same score as one square; and the constant that the square adds."""
    if len(parts) == 2:
        for (c, one), (d, other) in itertools.permutations(parts):
            if other == f"({one})^2":
                half = c / d / 2
                times = "" if abs(d - 1) < 1e-7 else f"{number(d)} "
                return f"{times}({one} {'-' if half < 0 else '+'} {number(abs(half))})^2", d * half**2
    words = ""
    for c, part in parts:
        part = f"({part})" if " - " in part.partition("(")[0] or part.startswith("-") else part
        sign = ("-" if c < 0 else "") if not words else (" - " if c < 0 else " + ")
        words += sign + ("" if abs(abs(c) - 1) < 1e-7 else f"{number(abs(c))} ") + part
    return words, 0.0
