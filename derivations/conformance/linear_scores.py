"""A loss of pairs, undone, as a linear score with factors by lengths, or as a function of each side alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from derivations.conformance.derived import Arrays
from derivations.conformance.grid import SIDES, Grid
from derivations.conformance.laws import number
from derivations.conformance.lengths import of_lengths, table
from derivations.conformance.one_sided import Part, part_of
from derivations.conformance.outer import Outer

Vector = np.ndarray
INPUTS = {"w": "log pi(w)", "l": "log pi(l)", "rw": "log ref(w)", "rl": "log ref(l)"}
Rule = Callable[[Arrays], Vector]  # named arrays of pairs -> values


@dataclass(frozen=True)
class Structure:
    """What was found: words, the rule that predicts the loss (None: not every number has one), and the coefficients.

    linear: input -> its factor in words, "" for none, and for each pair of lengths of the grid, where the loss is one
        outer function of a linear score. parts: of a score that is a part of each side, both in words.
    """

    words: str
    rule: Rule | None
    outer: str = ""
    linear: dict[str, tuple[str, Vector]] | None = None
    parts: tuple[str, ...] = ()


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
            words.append(at(factor, INPUTS[name]) if name else factor)
    every = [rule for rule in rules if rule]
    known = _linear_rule(every) if len(every) == len(rules) else None
    inside = " + ".join(words).replace("+ -", "- ")
    text = outer.words.format(re.sub(r"(?<![\d.])1 (?=log)", "", inside).replace("-log", "- log"))
    return Structure(text, (lambda named: outer.do(known(named))) if known else None, outer.words, said)


def at(factor: str, name: str) -> str:
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


def differences(found: dict[str, tuple[str, Vector]], meant: dict[str, tuple[str, Vector]]) -> list[str]:
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


# ---------------------------------------------------------------- a part of each side


def sides(grid: Grid, strengths: tuple[float, ...]) -> Structure | None:
    """A part of the chosen response plus one of the rejected one, plus what the lengths alone give."""
    parts: list[Part] = []
    rest = grid.values.copy()
    for place, short in enumerate("wl"):
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

    both = tuple(part.words or "0" for part in parts)
    return Structure(words.replace("+ -", "- "), rule, parts=(*both, offset[0] or "0"))
