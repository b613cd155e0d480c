"""A loss of pairs taken apart by its values on a grid: outer function, linear score, parts of one side, named terms.

Whatever is said is checked on fresh pairs of other lengths and numbers, to a part in ten million.
"""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import join
from derivations.conformance.beside_named import beside_named
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS
from derivations.conformance.far import far_values, meant_far, not_far, same_far
from derivations.conformance.gradient_words import gradient_words
from derivations.conformance.grid import SIDES, Grid, fresh_pairs, grid_of, turned
from derivations.conformance.known_pairs import Term
from derivations.conformance.linear_scores import Rule, Structure, differences, linear, sides
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.named_sums import named_sums, product
from derivations.conformance.outer import OUTER, Outer, undone
from derivations.conformance.quadratic import plain_square, quadratic
from derivations.conformance.token_parts import token_parts

Vector = np.ndarray
SHORT = 90  # letters of a description, above which a shorter one is looked for


def structured(subject: Subject, mains: list[Term]) -> tuple[str, Rule | None]:
    """The structure in words, with what it has otherwise than the objective and what of it gets no gradient.

    Returns:
        The words, "" for none, and the rule that gives the losses, where there is one.
    """
    grid, strengths = grid_of(subject), strengths_of(subject)
    if not np.all(np.isfinite(grid.values)):
        return "", None
    with np.errstate(all="ignore"):
        found = structure(subject, mains, grid)
        if found is None or found.rule is None:
            found = quadratic(subject) or found
        elif "ipo" in found.words.lower() and " + " in found.words:
            found = plain_square(subject) or found  # shorter than another square and what it differs by
        if found:
            slopes = gradient_words(subject) or _not_held_constant(subject, found.words, mains)
            far = not_far(subject, found.rule, named=True) if found.rule else ""
            return f"{found.words}{slopes}{_otherwise(subject, found, grid)}{far}", found.rule
        words = token_parts(subject, grid, list(undone(grid.values, *strengths, turns=grid.turns)), strengths)
        return (f"{words}{gradient_words(subject)}" if words else ""), None


def _not_held_constant(subject: Subject, words: str, mains: list[Term]) -> str:
    """Which named loss has a part that gets no gradient, while the function has one by all of its value."""
    for name, term in mains:
        if name in words and gradient_words(subject, term):
            return f"; but a gradient flows through what {name.removesuffix(' as named')} holds constant"
    return ""


def _otherwise(subject: Subject, found: Structure, grid: Grid) -> str:
    """What of the formula is not as in that of the objective: factors, the parts of either side, the outer function."""
    if not found.outer:
        return ""
    asked, strengths, name = turned(("", subject.target.losses), grid), strengths_of(subject), subject.target.name
    for outer, inside in undone(asked.values, *strengths, turns=asked.turns):
        inner = asked.of(inside)
        meant = linear(inner, outer)
        if meant is None and inner.separable:
            meant = _under(outer, sides(inner, strengths))
        if meant is None:
            continue
        if outer.words != found.outer or bool(meant.linear) != bool(found.linear):
            return f" (against {name}, which is {meant.words})"
        if meant.linear and found.linear:
            said = differences(found.linear, meant.linear)
        else:
            what = ("the chosen response's part is", "the rejected response's part is", "the constant is")
            both = zip(what, found.parts, meant.parts, strict=True)
            said = [f"{words} {own}, not {other}" for words, own, other in both if own != other]
        return f" (against {name}: {'; '.join(said)})" if said else ""
    return ""


def structure(subject: Subject, mains: list[Term], grid: Grid) -> Structure | None:
    """The plainest structure that predicts fresh values, those far from the grid too if one does; or None."""
    fresh = fresh_pairs()
    goal = np.array([subject.run(batch, gradient=False).mean for batch in fresh])
    named = PAIRS.derive(join(PAIRS, fresh))
    far, best, vague, long = far_values(subject), None, None, list[Structure]()
    for found in _ideas(grid, mains, strengths_of(subject)):
        if found.rule is None:
            if found.linear:
                return best or found
            vague = vague or found
            continue
        with np.errstate(all="ignore"):
            left = np.abs(found.rule(named) - goal)
        if np.all(left <= 30 * grid.allowed * np.maximum(1.0, np.abs(goal))):
            if np.all(same_far(subject, far, meant_far(found.rule, named=True))):
                if found.outer or len(found.words) <= SHORT:
                    return found
                long.append(found)
            best = best or found
    return min(long, key=lambda one: len(one.words)) if long else best or vague


def strengths_of(subject: Subject) -> tuple[float, ...]:
    """The objective's options that are numbers, beta first."""
    values = (v for v in subject.target.options.values() if isinstance(v, int | float) and not isinstance(v, bool))
    return tuple(float(v) for v in values if v) or (1.0,)


def _ideas(grid: Grid, mains: list[Term], strengths: tuple[float, ...]) -> Iterator[Structure]:
    opened = list(undone(grid.values, *strengths, turns=grid.turns))
    for outer, inside in opened:
        if found := linear(grid.of(inside), outer):
            yield found
    for outer, inside in opened:
        inner = grid.of(inside)
        if inner.separable and (found := _under(outer, sides(inner, strengths))):
            yield found
    if found := product(grid, OUTER[0]):
        yield found
    yield from named_sums(grid, [*mains, *_of_references(mains)], strengths)
    for outer, inside in opened:
        if found := product(grid.of(inside), outer):
            yield found
    yield from beside_named(grid, mains, strengths)


def _of_references(mains: list[Term]) -> list[Term]:
    """The named terms that use no reference, of the reference's log-probs."""

    def moved(loss: Callable[[Arrays], Vector]) -> Callable[[Arrays], Vector]:
        return lambda a: loss({**a, **{f"{side}_logps": a[f"ref_{side}_logps"] for side in SIDES}})

    free = [(name, loss) for name, loss in mains if name.startswith(("DPO whose reference", "MaxEnt", "SimPO"))]
    return [(f"the same of the reference ({name})", moved(loss)) for name, loss in free]


def _under(outer: Outer, inner: Structure | None) -> Structure | None:
    if inner is None:
        return None
    rule = inner.rule
    words, whole = outer.words.format(inner.words), (lambda named: outer.do(rule(named))) if rule else None
    return Structure(words, whole, outer.words, parts=inner.parts)
