"""A loss of pairs that is a named term with its weight, and one outer function of something else beside it.

Every named term and every likelihood is taken away with the usual weights (1, an option, one less an option); what is
left is undone by every outer function and has to be a linear score or a part of each side. All are tried at once on the
pairs of one block; what is left over there is tried on the whole grid.
"""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.derived import Arrays
from derivations.conformance.grid import Grid, on_grid
from derivations.conformance.known_pairs import Term, likelihoods
from derivations.conformance.laws import number
from derivations.conformance.linear_scores import INPUTS, Structure, differences, linear, sides
from derivations.conformance.outer import OUTER, Outer, times

Vector = np.ndarray
TRIED = 6  # candidates that are taken to the whole grid
BLOCK = 4  # of the grid, with both lengths above 1 and different


def beside_named(grid: Grid, mains: list[Term], strengths: tuple[float, ...]) -> Iterator[Structure]:
    """A named term or a likelihood, and an outer function of a linear score or of a part of each side."""
    terms = [(name, each, loss) for name, loss in [*likelihoods(), *mains] for each in [on_grid((name, loss), grid)]]
    terms = [one for one in terms if np.all(np.isfinite(one[1].values))]
    weights = [(i, c) for c in _weights(strengths) for i in range(len(terms))]
    rests = np.stack([(grid.values - c * terms[i][1].values)[BLOCK].ravel() for i, c in weights])
    for straight in (True, False):
        for which, outer in list(_left_straight(grid, rests, _weights(strengths), straight))[:TRIED]:
            i, c = weights[which]
            name, each, loss = terms[i]
            inner = grid.of(outer.undo(grid.values - c * each.values))
            if not np.all(np.isfinite(inner.values)):
                continue
            found = linear(inner, outer) if straight else inner.separable and _under(outer, sides(inner, strengths))
            if found and found.rule:
                yield _together(
                    found, c, name, loss, _against(grid, mains[0], c * each.values, found, outer, strengths)
                )


def _weights(strengths: tuple[float, ...]) -> list[float]:
    """1 and the options, what is left of 1 by them, and minus all of these."""
    plain = [1.0, *(s for k in strengths for s in (k, 1 / k, 1 - k, 1 - 2 * k) if abs(s) > 1e-9), 2.0, 0.5]
    return list(dict.fromkeys(round(s * w, 12) for s in (1, -1) for w in plain))


def _left_straight(grid: Grid, rests: Vector, factors: list[float], straight: bool) -> Iterator[tuple[int, Outer]]:
    """Which rests [n, pairs] are, undone, linear in the log-probs, or (not straight) a part of each side."""
    one = np.ones(grid.values[BLOCK].shape)
    rows, columns = np.eye(len(one)), np.eye(one.shape[1])
    if straight:
        matrix = np.stack([*(grid.flat(name)[BLOCK].ravel() for name in INPUTS), one.ravel()], 1)
    else:
        matrix = np.stack([*(np.outer(r, columns.sum(0)).ravel() for r in rows),
                           *(np.outer(rows.sum(0), c).ravel() for c in columns)], 1)  # fmt: skip
    away = np.eye(one.size) - matrix @ np.linalg.pinv(matrix)
    for outer in OUTER:
        if outer.words == "{}":
            continue
        for factor in factors:
            inside = outer.undo(rests / factor)
            fine = np.all(np.isfinite(inside), axis=1)
            inside = np.where(fine[:, None], inside, 0.0)
            scale = np.maximum(np.abs(inside).max(1), 1.0)
            near = np.abs(inside @ away).max(1) <= 10 * grid.allowed * scale
            for i in np.flatnonzero(fine & near & (np.ptp(inside, axis=1) > 1e-3)):
                yield int(i), times(outer, factor)


def _under(outer: Outer, inner: Structure | None) -> Structure | None:
    rule = inner.rule if inner else None
    if inner is None or rule is None:
        return None
    return Structure(
        outer.words.format(inner.words), lambda named: outer.do(rule(named)), outer.words, parts=inner.parts
    )


def _together(found: Structure, c: float, name: str, loss: Callable[..., Vector], against: str) -> Structure:
    rule, size = found.rule, "" if abs(abs(c) - 1) < 1e-9 else f"{number(abs(c))} x "

    def whole(named: Arrays) -> Vector:
        value: Vector = (rule(named) if rule else 0.0) + c * np.asarray(loss(named))
        return value

    words = f"{found.words}{against} {'-' if c < 0 else '+'} {size}{name}"
    return Structure(words, whole)


def _against(
    grid: Grid, asked: Term, beside: Vector, found: Structure, outer: Outer, strengths: tuple[float, ...]
) -> str:
    """What stands inside of the outer function in the objective, less the same term, where that is another."""
    inner = grid.of(outer.undo(on_grid(asked, grid).values - beside))
    if not np.all(np.isfinite(inner.values)):
        return ""
    said: list[str] = []
    meant = linear(inner, outer)
    if meant and meant.linear and found.linear:
        said = differences(found.linear, meant.linear)
    elif found.parts and inner.separable and (meant := sides(inner, strengths)):
        both = zip(("chosen", "rejected"), found.parts, meant.parts, strict=False)
        said = [f"the {side} response's part is {own}, not {other}" for side, own, other in both if own != other]
    return f" (where {asked[0].removesuffix(' as named')} is otherwise: {'; '.join(said)})" if said else ""
