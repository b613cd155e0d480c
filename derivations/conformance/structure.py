"""A loss of pairs taken apart by its values on a grid: outer function, linear score, parts of one side, named terms.

Whatever is said is checked on fresh pairs of other lengths and numbers, to a part in ten million.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from derivations.conformance.batches import join
from derivations.conformance.families import PAIRS, Arrays
from derivations.conformance.gradient_words import gradient_words
from derivations.conformance.grid import SIDES, Grid, fresh_pairs, grid_of, on_grid, small, turned
from derivations.conformance.known_pairs import Term
from derivations.conformance.laws import number
from derivations.conformance.lengths import of_lengths, table
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_sided import Part, candidates, part_of
from derivations.conformance.outer import Outer, undone
from derivations.conformance.token_parts import token_parts

Vector = np.ndarray
INPUTS = {"w": "log pi(w)", "l": "log pi(l)", "rw": "log ref(w)", "rl": "log ref(l)"}
Rule = Callable[[Arrays], Vector]  # named arrays of pairs -> values


@dataclass(frozen=True)
class Structure:
    """What was found: words, the rule that predicts the loss (None: not every number has one), and the coefficients.

    linear: input -> its factor in words, "" for none, and for each pair of lengths of the grid, where the loss is one outer function of a linear score.
    """

    words: str
    rule: Rule | None
    outer: str = ""
    linear: dict[str, tuple[str, Vector]] | None = None


def structured(subject: Subject, mains: list[Term]) -> str:
    """The structure in words, with what it has otherwise than the objective and what of it gets no gradient."""
    grid, strengths = grid_of(subject), strengths_of(subject)
    if not np.all(np.isfinite(grid.values)):
        return ""
    with np.errstate(all="ignore"):
        if found := structure(subject, mains, grid):
            return f"{found.words}{gradient_words(subject)}{_otherwise(subject, found, grid)}"
        words = token_parts(subject, grid, list(undone(grid.values, *strengths, turns=grid.turns)), strengths)
        return f"{words}{gradient_words(subject)}" if words else ""


def _otherwise(subject: Subject, found: Structure, grid: Grid) -> str:
    """Which factors of a linear score are not those of the objective, where its outer function is the same."""
    asked = turned(("", subject.target.losses), grid)
    for outer, inside in undone(asked.values, *strengths_of(subject), turns=asked.turns):
        meant = linear(asked.of(inside), outer) if outer.words == found.outer else None
        if meant and meant.linear and found.linear:
            said = _differences(found.linear, meant.linear)
            return f" (against {subject.target.name}: {'; '.join(said)})" if said else ""
    return ""


def _differences(found: dict[str, tuple[str, Vector]], meant: dict[str, tuple[str, Vector]]) -> list[str]:
    """Which factors are others; if all are the same multiple, that."""
    own, asked = (np.concatenate([each[name][1] for name in INPUTS]) for each in (found, meant))
    said, share = [], float(own @ asked) / float(asked @ asked)
    if abs(share - 1) > 1e-5 and np.abs(own - share * asked).max() < 1e-5 * np.abs(own).max():
        said.append(f"its log-probs count {number(share)} times as much")
    for name, (words, values) in found.items():
        same = np.abs(values - meant[name][1]).max() < 1e-5 * np.abs(asked).max()
        if not same and not (said and name):
            where = f"{INPUTS[name]} has the factor" if name else "the constant is"
            said.append(f"{where} {words or 0}, not {meant[name][0] or 0}")
    return said


def structure(subject: Subject, mains: list[Term], grid: Grid) -> Structure | None:
    """The plainest structure that predicts fresh values of the function, or None."""
    fresh = fresh_pairs()
    goal = np.array([subject.run(batch, gradient=False).mean for batch in fresh])
    named = PAIRS.derive(join(PAIRS, fresh))
    for found in _ideas(grid, mains, strengths_of(subject)):
        if found.rule is None:
            return found
        with np.errstate(all="ignore"):
            left = np.abs(found.rule(named) - goal)
        if np.all(left <= 30 * grid.allowed * np.maximum(1.0, np.abs(goal))):
            return found
    return None


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
        if inner.separable and (found := _under(outer, _sides(inner, strengths))):
            yield found
    yield from _sums(grid, [*mains, *_of_references(mains)], strengths)
    for outer, inside in opened:
        if found := _product(grid.of(inside), outer):
            yield found
    yield from _beside_a_likelihood(grid, strengths)


def _of_references(mains: list[Term]) -> list[Term]:
    """The named terms that use no reference, of the reference's log-probs."""

    def moved(loss: Callable[[Arrays], Vector]) -> Callable[[Arrays], Vector]:
        return lambda a: loss(a | {f"{side}_logps": a[f"ref_{side}_logps"] for side in SIDES})

    free = [(name, loss) for name, loss in mains if name.startswith(("DPO whose reference", "MaxEnt", "SimPO"))]
    return [(f"the same of the reference ({name})", moved(loss)) for name, loss in free]


def _beside_a_likelihood(grid: Grid, strengths: tuple[float, ...]) -> Iterator[Structure]:
    """An NLL of the chosen response, and one outer function of something else."""
    for words, per_token in ((" + NLL of the chosen response (mean over tokens)", True), (" + its NLL (sum)", False)):
        nll = -grid.flat("w") / (grid.lengths[0][:, None, None] if per_token else 1.0)
        for outer, inside in undone(grid.values - nll, *strengths):
            inner = grid.of(inside)
            found = linear(inner, outer) or (inner.separable and _under(outer, _sides(inner, strengths))) or None
            if found and (rule := found.rule):

                def whole(named: Arrays, rule: Rule = rule, per_token: bool = per_token) -> Vector:
                    return rule(named) - named["chosen_mean_logp" if per_token else "chosen_logp"]

                yield Structure(found.words + words, whole)


def _under(outer: Outer, inner: Structure | None) -> Structure | None:
    if inner is None:
        return None
    rule = inner.rule
    return Structure(outer.words.format(inner.words), (lambda named: outer.do(rule(named))) if rule else None)


# ---------------------------------------------------------------- a linear score


def linear(grid: Grid, outer: Outer) -> Structure | None:
    """The loss as one outer function of a sum of log-probs, each with a factor that may depend on the lengths."""
    w, l = grid.lengths
    fitted = []
    for block, values in enumerate(grid.values):
        columns = [grid.flat(name)[block].ravel() for name in INPUTS]
        matrix = np.stack([*columns, np.ones(values.size)], 1)
        found, *_ = np.linalg.lstsq(matrix, values.ravel(), rcond=None)
        if np.abs(matrix @ found - values.ravel()).max() > grid.allowed * max(1.0, float(np.abs(values).max())):
            return None
        fitted.append(found)
    factors, largest = np.array(fitted).T, float(np.abs(np.array(fitted)[:, :4]).max())
    if largest <= 1e-9:
        return None
    words, rules, said = [], [], {}
    for name, values in zip([*INPUTS, ""], factors, strict=True):
        values = np.where(np.abs(values) <= 100 * grid.allowed * largest, 0.0, values)
        rule = of_lengths(values, w, l, 100 * grid.allowed)
        rules.append(rule[1] if rule else None)
        factor = rule[0] if rule else table(values, w, l)
        said[name] = (factor, values)
        if factor:
            words.append(_at(factor, INPUTS[name]) if name else factor)
    known = None if None in rules else _linear_rule(rules)
    inside = " + ".join(words).replace("+ -", "- ")
    text = outer.words.format(re.sub(r"(?<![\d.])1 (?=log)", "", inside).replace("-log", "- log"))
    return Structure(text, (lambda named: outer.do(known(named))) if known else None, outer.words, said)


def _at(factor: str, name: str) -> str:
    """`0.1/|w|` and `log pi(w)` as `0.1 log pi(w)/|w|`."""
    first, slash, over = factor.partition("/")
    if factor.startswith("(") or " " in first or factor.startswith("a number"):
        return f"{factor} x {name}"
    return f"{first} {name}{slash}{over}"


def _linear_rule(rules: list[Callable[[Vector, Vector], Vector]]) -> Rule:
    def rule(named: Arrays) -> Vector:
        w, l = named["chosen_length"], named["rejected_length"]
        arrays = [named["chosen_logp"], named["rejected_logp"], named["ref_chosen_logp"], named["ref_rejected_logp"], 1]
        total: Vector = sum(r(w, l) * x for r, x in zip(rules, arrays, strict=True))
        return total

    return rule


# ---------------------------------------------------------------- a part of each side


def _sides(grid: Grid, strengths: tuple[float, ...]) -> Structure | None:
    """A part of the chosen response plus one of the rejected one, plus what the lengths alone give."""
    parts: list[Part] = []
    rest = grid.values.copy()
    for place, (short, side) in enumerate(zip("wl", SIDES, strict=True)):
        n = np.repeat(grid.lengths[place], grid.values.shape[1])
        s, r = grid.sums[short].ravel(), grid.sums["r" + short].ravel()
        values = grid.values.mean(2 - place)
        found = part_of((values - values.mean(1, keepdims=True)).ravel(), s, r, n, strengths, grid.allowed * 10)
        if found is None:
            return None
        parts.append(
            Part(
                found.words.replace("pi", f"pi({short})").replace("ref", f"ref({short})").replace("|y|", f"|{short}|"),
                found.rule,
            )
        )
        each = found.rule(s, r, n).reshape(values.shape)
        rest -= each[:, :, None] if place == 0 else each[:, None, :]
    alone = rest.mean((1, 2))
    scale = max(1.0, float(np.abs(grid.values).max()))
    alone = np.where(np.abs(alone) < 100 * grid.allowed * scale, 0.0, alone)
    offset = of_lengths(alone, *grid.lengths, 1e3 * grid.allowed)
    words = " + ".join(filter(None, [*(part.words for part in parts), offset[0] if offset else ""]))
    if not words or offset is None:
        return None

    def rule(named: Arrays) -> Vector:
        total: Vector = offset[1](named["chosen_length"], named["rejected_length"])
        for part, side in zip(parts, SIDES, strict=True):
            total = total + part.rule(named[f"{side}_logp"], named[f"ref_{side}_logp"], named[f"{side}_length"])
        return total

    return Structure(words.replace("+ -", "- "), rule)


# ---------------------------------------------------------------- named terms


def _sums(grid: Grid, mains: list[Term], strengths: tuple[float, ...]) -> Iterator[Structure]:
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
    unnamed = None
    for chosen in candidates(matrix, goal.ravel() / size, [0] * len(kept))[:12]:
        found, *_ = np.linalg.lstsq(columns[:, chosen], goal.ravel(), rcond=None)
        if np.linalg.norm(columns[:, chosen] @ found - goal.ravel()) > 10 * grid.allowed * size or not found.all():
            continue
        terms = [kept[i] for i in chosen]
        rest = grid.of(grid.values - sum(c * each.values for c, (_, each) in zip(found, terms, strict=True)))
        parts = (
            _sides(rest, strengths)
            if not _nothing(rest, grid)
            else Structure("", lambda named: 0.0 * named["chosen_logp"])
        )
        if not parts and unnamed is None and len(chosen) == 1:
            unnamed = _with_unnamed(float(found[0]), terms[0][0][0], rest)
        if parts:
            yield _added([(float(c), term) for c, (term, _) in zip(found, terms, strict=True)], parts)
    if unnamed:
        yield unnamed


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
        total: Vector = rest(named) if rest else 0.0
        return total + sum(c * np.asarray(loss(named)) for c, (_, loss) in terms)

    return Structure(" + ".join(filter(None, [*words, parts.words])).replace("+ -", "- "), rule if rest else None)


def _weighted(grid: Grid, kept: list[tuple[Term, Grid]]) -> Iterator[Structure]:
    """A named loss times a function of the lengths."""
    for (name, loss), each in kept:
        shares = (grid.values * each.values).sum((1, 2)) / (each.values**2).sum((1, 2))
        left = np.abs(grid.values - shares[:, None, None] * each.values).max()
        if left > 100 * grid.allowed * np.abs(grid.values).max() or np.ptp(shares) < 1e-6:
            continue
        weight = of_lengths(shares, *grid.lengths, 1e3 * grid.allowed)
        said = weight[0] if weight else table(shares, *grid.lengths)
        rule = None
        if weight:
            rule = lambda named, f=weight[1], g=loss: (
                f(named["chosen_length"], named["rejected_length"]) * np.asarray(g(named))
            )
        yield Structure(f"{name}, times {said}", rule)


# ---------------------------------------------------------------- a product


def _product(grid: Grid, outer: Outer) -> Structure | None:
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
        words = f"{number(c)} x ({_of(one, 'w')}) {'x' if power == 1 else '/'} ({_of(other, 'l')})"
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
