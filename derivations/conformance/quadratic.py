"""A loss of pairs that is a polynomial of degree two in the summed log-probs, in words: completed squares.

Its coefficients follow from a few pairs of each pair of lengths, and are checked on others; each has to be a function
of the lengths. Squares are completed by the policy's log-probs first: (w - r - a)^2 + (l - r + a)^2 is said so.
"""

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from derivations.conformance.batches import Batch, join
from derivations.conformance.calls import CallError
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS
from derivations.conformance.grid import fresh_pairs, pair_of, response
from derivations.conformance.lengths import of_lengths
from derivations.conformance.linear_scores import INPUTS, Structure, at
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
Lengths = Callable[[Vector, Vector], Vector]
LENGTHS = ((1, 1), (2, 2), (1, 3), (3, 1), (2, 4), (4, 3))
TRIED = 19  # pairs for each, of which fifteen decide the coefficients
NAMES = ("chosen_logp", "rejected_logp", "ref_chosen_logp", "ref_rejected_logp")
SMALL = 1e-7
BESIDE = {"": (0, False)} | {  # a likelihood: which response's, whether its mean
    f"NLL of the {side} response ({'mean over' if mean else 'sum over'} tokens)": (place, mean)
    for place, side in enumerate(("chosen", "rejected"))
    for mean in (True, False)
}


def quadratic(subject: Subject) -> Structure | None:
    """The polynomial with its rule and, where it is another one, that of the objective in words; None if it is none."""
    if subject.single:
        return None
    try:
        values = np.array([[subject.run(pair, gradient=False).mean for pair in block] for block in _pairs()])
        fresh = np.array([subject.run(pair, gradient=False).mean for pair in fresh_pairs()])
    except CallError:
        return None
    found = _structure(values, fresh)
    if found is None:
        return None
    batch = join(PAIRS, [pair for block in _pairs() for pair in block])
    meant = np.asarray(subject.target.losses(batch), dtype=float).reshape(values.shape)
    asked = _structure(meant, np.asarray(subject.target.losses(join(PAIRS, fresh_pairs())), dtype=float))
    differs = asked and asked.words != found.words
    against = f" (against {subject.target.name}, which is {asked.words})" if asked and differs else ""
    return replace(found, words=f"{found.words}{against}")


def plain_square(subject: Subject) -> Structure | None:
    """The polynomial where it is one square and a constant."""
    found = quadratic(subject)
    own = found.words.partition(" (against")[0] if found else ""
    return found if own.count("^2") == 1 and "log" not in own.rpartition("^2")[2] else None


@functools.cache
def _pairs() -> tuple[tuple[Batch, ...], ...]:
    return tuple(tuple(pair_of(response(400 + i, w), response(450 + i, l)) for i in range(TRIED)) for w, l in LENGTHS)


def _features(sums: Vector) -> Vector:
    """Squares and products, the sums, and 1: [n, 15] of [n, 4]."""
    products = [sums[:, i] * sums[:, j] for i, j in itertools.combinations_with_replacement(range(4), 2)]
    return np.stack([*products, *sums.T, np.ones(len(sums))], 1)


def _sums(batches: tuple[Batch, ...] | list[Batch]) -> Vector:
    named = PAIRS.derive(join(PAIRS, batches))
    return np.stack([named[name] for name in NAMES], 1)


def _structure(values: Vector, fresh: Vector) -> Structure | None:
    """The polynomial with these values of the pairs, if it holds for the fresh ones."""
    if not np.all(np.isfinite(values)):
        return None
    fitted = []
    for block, goal in zip(_pairs(), values, strict=True):
        matrix = _features(_sums(block))
        found, *_ = np.linalg.lstsq(matrix, goal, rcond=None)
        if np.abs(matrix @ found - goal).max() > 1e-8 * max(1.0, float(np.abs(goal).max())):
            return None
        fitted.append(found)
    named = PAIRS.derive(join(PAIRS, fresh_pairs()))
    for beside in BESIDE:
        structure = _squares(fitted, beside)
        if structure and structure.rule:
            left = np.abs(structure.rule(named) - fresh).max()
            return structure if left <= 1e-6 * max(1.0, float(np.abs(fresh).max())) else None
    return None


def _squares(fitted: list[Vector], beside: str) -> Structure | None:
    """Completed squares beside a likelihood of one response, which is none of them."""
    place, mean = BESIDE[beside]
    completed = []
    for found, lengths in zip(fitted, LENGTHS, strict=True):
        rest = found.copy()
        if beside:
            rest[10 + place] += 1 / lengths[place] if mean else 1.0
        completed.append(_completed(rest))
    if any(one is None for one in completed):
        return None
    structure = _by_lengths(np.array(completed))
    if structure is None or not beside:
        return structure

    def rule(named: Arrays) -> Vector:
        side = NAMES[place]
        value: Vector = structure.rule(named) - named[side.replace("_", "_mean_") if mean else side]  # type: ignore[misc]
        return value

    return Structure(f"{structure.words} + {beside}", rule)


def _completed(found: Vector) -> Vector | None:
    """Rows (factor, four coefficients, constant) of squares, and a last one (0, linear rest, constant)."""
    form, rest, constant = np.zeros((4, 4)), found[10:14].copy(), float(found[14])
    for c, (i, j) in zip(found, itertools.combinations_with_replacement(range(4), 2), strict=False):
        form[i, j] += c / 2
        form[j, i] += c / 2
    size, rows = float(np.abs(form).max()), np.zeros((5, 6))
    if size < SMALL:
        return None
    for i in range(4):
        pivot = form[i, i]
        if abs(pivot) < SMALL * size:
            if np.abs(form[i]).max() > SMALL * size:
                return None  # a product without a square
            continue
        along = form[i] / pivot
        shift = rest[i] / pivot / 2
        rows[i] = (pivot, *along, shift)
        form = form - pivot * np.outer(along, along)
        rest = rest - 2 * pivot * shift * along
        constant -= pivot * shift**2
    rows[4] = (0.0, *rest, constant)
    return rows


def _by_lengths(squares: Vector) -> Structure | None:
    """Squares for each pair of lengths, [blocks, 5, 6], with every number a function of the lengths."""
    w, l = (np.array([pair[i] for pair in LENGTHS], dtype=float) for i in (0, 1))
    squares = np.where(np.abs(squares) < SMALL * np.abs(squares).max((0, 2), keepdims=True), 0.0, squares)
    squares[:, 4] = np.where(np.abs(squares[:, 4]) < SMALL * np.abs(squares).max(), 0.0, squares[:, 4])
    words, terms = "", list[list[Lengths]]()
    for i, rows in enumerate(squares.transpose(1, 2, 0)):
        if not rows.any():
            terms.append([])
            continue
        if i < 4 and np.ptp(rows[0]) > 1e-6 * np.abs(rows[0]).max():  # the factor goes into the square
            rows = np.stack([np.sign(rows[0]), *(rows[1:] * np.sqrt(np.abs(rows[0])))])
        found = [of_lengths(row, w, l, 1e-6) for row in rows]
        said = [one for one in found if one]
        if len(said) < len(found):
            return None
        terms.append([rule for _, rule in said])
        words += _term([text for text, _ in said], i < 4, not words)
    return Structure(words.removeprefix(" + "), functools.partial(_value, terms))


def _term(said: list[str], square: bool, first: bool) -> str:
    """One square with its factor, or the linear rest."""
    inside = [at(factor, name) for factor, name in zip(said[1:5], INPUTS.values(), strict=True) if factor]
    text = re.sub(r"(?<![\d.])1 (?=log)", "", " + ".join([*inside, *filter(None, [said[5]])]).replace("+ -", "- "))
    text = text.replace("-log", "- log") if " -log" in text else text
    if not square:
        return f" + {text}".replace("+ -", "- ")
    sign = "-" if said[0].startswith("-") else ""
    joint = sign if first else f" {sign or '+'} "
    size = said[0].removeprefix("-")
    return f"{joint}{'' if size == '1' else f'{size} '}({text})^2"


def _value(terms: list[list[Lengths]], named: Arrays) -> Vector:
    n = named["chosen_length"], named["rejected_length"]
    arrays = [*(named[name] for name in NAMES), 1.0]
    total: Vector = 0.0 * named["chosen_logp"]
    for i, rules in enumerate(terms):
        if rules:
            value = sum(rule(*n) * x for rule, x in zip(rules[1:], arrays, strict=True))
            total = total + (rules[0](*n) * value**2 if i < 4 else value)
    return total
