"""A loss of pairs whose parts are no functions of summed log-probs: which tokens count, and what function of each.

One outer function undone, the rejected response held fixed, the value moves with single tokens of the chosen one: which
places move it, whether two places add up, and what a token is worth by its log-probs; then the other side.
"""

from collections.abc import Callable

import numpy as np

from derivations.conformance.calls import CallError
from derivations.conformance.grid import Grid, pair_of, response
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_sided import part_of
from derivations.conformance.outer import Outer
from derivations.conformance.token_functions import pieces

Vector = np.ndarray
Value = Callable[[Vector, Vector], float]  # log-probs of policy and reference, [T] each


def token_parts(subject: Subject, grid: Grid, opened: list[tuple[Outer, Vector]], strengths: tuple[float, ...]) -> str:
    """Both sides in words under the first outer function that makes them parts of their own, or nothing."""
    for outer, inside in opened:
        if not grid.of(inside).separable:
            continue

        def chosen(p: Vector, q: Vector, outer: Outer = outer) -> float:
            return _undone(subject, outer, pair_of((p, q), response(77, 3)))

        def rejected(p: Vector, q: Vector, outer: Outer = outer) -> float:
            return _undone(subject, outer, pair_of(response(77, 3), (p, q)))

        try:
            words = [_side(value, strengths, grid.allowed) for value in (chosen, rejected)]
        except CallError:
            continue
        if all(words):
            return (
                outer.words.format("a + b") + f", a of the chosen response: {words[0]}; b of the rejected: {words[1]}"
            )
    return ""


def _undone(subject: Subject, outer: Outer, batch: dict[str, Vector]) -> float:
    return float(outer.undo(np.array(subject.run(batch, gradient=False).mean)))


def _side(value: Value, strengths: tuple[float, ...], allowed: float) -> str:
    p, q = response(61, 4)
    near = 1e3 * allowed
    live = [t for t in range(4) if abs(value(_with(p, t, p[t] - 0.7), q) - value(p, q)) > near
            or abs(value(p, _with(q, t, q[t] - 0.7)) - value(p, q)) > near]  # fmt: skip
    if not live:
        return "nothing"
    for t in live:
        for u in live:
            if t < u:
                both = value(_with(_with(p, t, p[t] - 0.7), u, p[u] - 0.4), q)
                each = value(_with(p, t, p[t] - 0.7), q) + value(_with(p, u, p[u] - 0.4), q) - value(p, q)
                if abs(both - each) > near:
                    return ""
    place = live[-1]
    tokens = np.concatenate([np.stack(response(720 + i, 6), 1) for i in range(4)])
    worth = np.array([value(_with(p, place, a), _with(q, place, b)) for a, b in tokens])
    factors = [_factor(value, t, place) for t in live]
    if not np.all(np.isfinite(factors)):
        return ""
    words = _of_token(worth, tokens, strengths, allowed)
    if not words:
        return ""
    out = [t for t in range(4) if t not in live]
    left_out = f", of four tokens number {' and '.join(str(t + 1) for t in out)} left out" if out else ""
    unequal = np.ptp(factors) > 1e-5
    weighed = f", tokens weighed {', '.join(number(f) for f in factors)}" if unequal else ""
    return f"summed over tokens{left_out}{weighed}{_by_length(value)}, {words}"


def _factor(value: Value, t: int, place: int) -> float:
    """What a move of one token is worth beside the same move, from the same log-probs, of another."""
    p, q = np.full(4, -0.9), np.full(4, -1.3)
    one, other = (value(_with(p, i, -1.4), q) - value(p, q) for i in (t, place))
    return one / other if other else float("nan")


def _by_length(value: Value) -> str:
    """Whether a token counts by the length of the response."""
    worth = []
    for n in (1, 2, 4):
        p, q = np.full(n, -0.9), np.full(n, -1.3)
        worth.append(value(_with(p, n - 1, -1.4), q) - value(p, q))
    shares = np.array(worth) / (worth[-1] or 1.0)
    for words, meant in (
        ("", (1, 1, 1)),
        (", over the length", (4, 2, 1)),
        (", over the root of the length", (2, 2**0.5, 1)),
    ):
        if np.allclose(shares, meant, rtol=1e-5):
            return words
    return "" if shares[0] == 0 else ", by a weight of the length"


def _of_token(worth: Vector, tokens: Vector, strengths: tuple[float, ...], allowed: float) -> str:
    p, q = tokens.T
    part = part_of(worth, p, q, np.ones(len(p)), strengths, 100 * allowed)
    if part is not None and part.words:
        return part.words
    middle = np.abs(p - q) < 0.6
    slope, start = np.polyfit((p - q)[middle], worth[middle], 1)
    if abs(slope) < 1e-9:
        return ""
    found = pieces(p - q, (worth - start) / slope, 1e-6)
    return f"{number(slope)} x {found}" if found else ""


def _with(values: Vector, place: int, value: float) -> Vector:
    changed = values.copy()
    changed[place] = value
    return changed
