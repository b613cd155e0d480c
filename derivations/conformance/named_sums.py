"""A loss of pairs as a sum of named losses, weighted by lengths, beside parts of one response; or as a product."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.derived import Arrays
from derivations.conformance.grid import SIDES, Grid, on_grid, small
from derivations.conformance.known_pairs import Term
from derivations.conformance.laws import number
from derivations.conformance.lengths import of_lengths, table
from derivations.conformance.linear_scores import Rule, Structure, linear, sides
from derivations.conformance.one_sided import candidates
from derivations.conformance.outer import OUTER, Outer

Vector = np.ndarray


# ---------------------------------------------------------------- named terms


def named_sums(grid: Grid, mains: list[Term], strengths: tuple[float, ...]) -> Iterator[Structure]:
    """One or two named losses, with factors or a weight by lengths, plus parts that see one response alone."""
    goal = grid.crossed
    kept = [(term, each) for term in mains for each in [on_grid(term, grid)] if np.all(np.isfinite(each.values))]
    kept = [(term, each) for term, each in kept if not each.separable]
    if not kept or grid.separable:
        return
    yield from _weighted(grid, kept)
    columns = np.stack([each.crossed.ravel() for _, each in kept], 1)
    matrix = columns / np.linalg.norm(columns, axis=0)
    size = float(np.linalg.norm(goal))
    fitting = []
    for chosen in candidates(matrix, goal.ravel() / size, [0] * len(kept))[:12]:
        found, *_ = np.linalg.lstsq(columns[:, chosen], goal.ravel(), rcond=None)
        if np.linalg.norm(columns[:, chosen] @ found - goal.ravel()) > 10 * grid.allowed * size or not found.all():
            continue
        terms = [(float(c), kept[i]) for c, i in zip(found, chosen, strict=True)]
        fitting.append((terms, grid.of(grid.values - sum(c * each.values for c, (_, each) in terms))))
    fitting.sort(key=lambda one: not _nothing(one[1], grid))  # those that need no part beside them first
    for terms, rest in fitting:
        nothing = Structure("", lambda named: 0.0 * named["chosen_logp"])
        parts = nothing if _nothing(rest, grid) else sides(rest, strengths) or _exactly(linear(rest, OUTER[0]))
        if parts:
            yield _added([(c, term) for c, (term, _) in terms], parts)
    for terms, rest in fitting:
        if len(terms) == 1 and not _nothing(rest, grid):
            yield _with_unnamed(terms[0][0], terms[0][1][0][0], rest)
            return


def _exactly(found: Structure | None) -> Structure | None:
    """Only what has a rule."""
    return found if found and found.rule else None


def _with_unnamed(factor: float, name: str, rest: Grid) -> Structure:
    """A named loss and a part of one response alone that has no name: what it moves with."""
    said = []
    for place, (short, side) in enumerate(zip("wl", SIDES, strict=True)):
        values = rest.values.mean(2 - place)
        if np.ptp(values - values.mean(1, keepdims=True)) > 1e-6 * max(1.0, float(np.abs(rest.values).max())):
            low, high = (float(end) for end in (values.min(), values.max()))
            s, r = rest.sums[short], rest.sums["r" + short]
            matrix = np.stack([s.ravel(), r.ravel(), np.ones(s.size)], 1)
            slope, other = np.linalg.lstsq(matrix, values.ravel(), rcond=None)[0][:2]
            said.append(
                f"a part of the {side} response alone (from {number(low)} to {number(high)} here; on average "
                f"{number(float(slope))} a nat of its log pi, {number(float(other))} a nat of its log ref)"
            )
    times = "" if abs(factor - 1) < 1e-6 else f"{number(factor)} x "
    return Structure(f"{times}{name} + " + " + ".join(said), None)


def _nothing(rest: Grid, grid: Grid) -> bool:
    return bool(np.abs(rest.values).max() <= 1e3 * grid.allowed * np.abs(grid.values).max())


def _added(terms: list[tuple[float, Term]], parts: Structure) -> Structure:
    words = [name if abs(c - 1) < 1e-6 else f"{number(c)} x {name}" for c, (name, _) in terms]
    rest = parts.rule

    def rule(named: Arrays) -> Vector:
        total: Vector = rest(named) if rest else np.zeros(1)
        return total + sum(c * np.asarray(loss(named)) for c, (_, loss) in terms)

    return Structure(
        " + ".join(filter(None, [*words, parts.words])).replace("+ - ", "- ").replace("+ -", "- "),
        rule if rest else None,
    )


def _weighted(grid: Grid, kept: list[tuple[Term, Grid]]) -> Iterator[Structure]:
    """A named loss times a function of the lengths."""
    for (name, loss), each in kept:
        shares = (grid.values * each.values).sum((1, 2)) / (each.values**2).sum((1, 2))
        left = np.abs(grid.values - shares[:, None, None] * each.values).max()
        if left > 100 * grid.allowed * np.abs(grid.values).max() or np.ptp(shares) < 1e-6:
            continue
        weight = of_lengths(shares, *grid.lengths, 1e3 * grid.allowed)
        said = weight[0] if weight else table(shares, *grid.lengths)
        yield Structure(f"{name}, times {said}", _times(weight[1], loss) if weight else None)


def _times(weight: Callable[[Vector, Vector], Vector], loss: Callable[[Arrays], Vector]) -> Rule:
    return lambda named: weight(named["chosen_length"], named["rejected_length"]) * np.asarray(loss(named))


# ---------------------------------------------------------------- a product


def product(grid: Grid, outer: Outer) -> Structure | None:
    """The chosen response's score times, or over, the rejected one's, and a constant."""
    values = grid.values.ravel()
    arrays = {
        f"{role}{side}_logp": grid.flat(("r" if role else "") + short)
        for short, side in zip("wl", SIDES, strict=True)
        for role in ("", "ref_")
    }
    n = {side: k[:, None, None] for side, k in zip(SIDES, grid.lengths, strict=True)}
    arrays |= {f"{side}_mean_logp": arrays[f"{side}_logp"] / n[side] for side in SIDES}
    for (one, first), (other, second), power in itertools.product(SCORES.items(), SCORES.items(), (1, -1)):
        column = (first(arrays, "chosen") * second(arrays, "rejected") ** power).ravel()
        matrix = np.column_stack([column, np.ones(len(column))])
        (c, shift), *_ = np.linalg.lstsq(matrix, values, rcond=None)
        if not small(matrix @ [c, shift] - values, values, 100 * grid.allowed):
            continue
        times = "" if abs(c - 1) < 1e-6 else f"{number(c)} x "
        words = f"{times}({_of(one, 'w')}) {'x' if power == 1 else '/'} ({_of(other, 'l')})"
        beside = "" if abs(shift) < 1e-7 else f" {'-' if shift < 0 else '+'} {number(abs(shift))}"

        def rule(
            named: Arrays, f: Score = first, g: Score = second, power: int = power, c: float = c, o: float = shift
        ) -> Vector:
            value: Vector = outer.do(c * f(named, "chosen") * g(named, "rejected") ** power + o)
            return value

        return Structure(outer.words.format(words + beside), rule)
    return None


Score = Callable[[Arrays, str], Vector]
SCORES: dict[str, Score] = {
    "log pi - log ref": lambda a, s: a[f"{s}_logp"] - a[f"ref_{s}_logp"],
    "log pi": lambda a, s: a[f"{s}_logp"],
    "log pi/|y|": lambda a, s: a[f"{s}_mean_logp"],
    "log ref": lambda a, s: a[f"ref_{s}_logp"],
}


def _of(score: str, side: str) -> str:
    return score.replace("pi", f"pi({side})").replace("ref", f"ref({side})").replace("|y|", f"|{side}|")
