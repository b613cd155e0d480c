"""A loss of pairs that is a function of each response alone, summed, over tens of nats: hinges, clamps, bounds.

Near the examples a hinge for each response is one line of the margin. Here one response moves over tens of nats while
the other stays: if the two parts add up everywhere, each is looked for among the functions of one score.
"""

import functools
import re
from collections.abc import Callable

import numpy as np

from derivations.conformance.calls import CallError
from derivations.conformance.gradient_words import gradient_words
from derivations.conformance.grid import pair_of, response
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_score import up_to_a_constant
from derivations.conformance.one_sided import SCORES, Rule

Vector = np.ndarray
Response = tuple[Vector, Vector]
MOVES = (0.0, -3.0, -8.0, -17.0, -40.0, -110.0, -420.0)
Part = Callable[[Response], float]
ALLOWED = 1e-8
TRIED = ("log pi - log ref", "log pi", "log pi/|y|", "(log pi - log ref)/|y|", "log ref")


def two_sided(subject: Subject, strengths: tuple[float, ...]) -> str:
    """Both parts in words, or nothing."""
    if subject.single:
        return ""
    try:
        with np.errstate(all="ignore"):
            words = _two_sided(subject, strengths)
        return words and words + gradient_words(subject)
    except CallError:
        return ""


def _two_sided(subject: Subject, strengths: tuple[float, ...]) -> str:
    def value(chosen: Response, rejected: Response) -> float:
        return subject.run(pair_of(chosen, rejected), gradient=False).mean

    moved = _responses()
    still = moved[0]
    first = np.array([value(one, still) for one in moved])
    second = np.array([value(still, one) for one in moved])
    both = np.array([value(one, other) for one, other in zip(moved, moved[::-1], strict=True)])
    if not np.all(np.isfinite([*first, *second, *both])):
        return ""
    if np.abs(first + second[::-1] - first[0] - both).max() > ALLOWED * np.abs(both).max():
        return ""
    said, constant = [], -float(first[0])
    parts = (lambda one: value(one, still)), (lambda one: value(still, one))
    for part, values, short in zip(parts, (first, second), "wl", strict=True):
        words, beside = _of_one_response(part, values, moved, strengths)
        if not words:
            return ""
        said.append(words.replace("pi", f"pi({short})").replace("ref", f"ref({short})").replace("|y|", f"|{short}|"))
        constant += beside
    shown = f" {'-' if constant < 0 else '+'} {number(abs(constant))}" if abs(constant) > 1e-6 else ""
    return f"{' + '.join(said)}{shown}".replace("+ -", "- ")


@functools.cache
def _responses() -> tuple[Response, ...]:
    """Responses of several lengths, with policy or reference lowered by up to hundreds of nats."""
    found = []
    for i, by in enumerate(MOVES):
        for n in (1, 2, 3):
            logps, reference = response(1200 + i, n)
            found += [(logps + by / n, reference), (logps, reference + by / n)]
    return tuple(found)


def _of_one_response(
    part: Part, values: Vector, moved: tuple[Response, ...], strengths: tuple[float, ...]
) -> tuple[str, float]:
    """The part that moves with one response as a function of one of its scores, and the constant beside it."""
    s, r, n = (np.array(x) for x in zip(*((p.sum(), q.sum(), float(len(p))) for p, q in moved), strict=True))
    if np.ptp(values) < 1e-9:
        return "", 0.0
    for name in TRIED:
        if not _sees_nothing_else(part, name):
            continue
        score = SCORES[name](s, r, n)
        words, constant = up_to_a_constant(score, values, strengths, ALLOWED)
        if words:
            bare = words == "x" or not re.search(r" - |/", name)
            words = re.sub(r"(?<=\()x(?=[),])", name, words)
            return re.sub(r"(?<![a-z])x(?![a-z])", name if bare else f"({name})", words), constant
    return "", 0.0


def _sees_nothing_else(part: Part, name: str) -> bool:
    """Whether responses of other lengths with the same score have the same part."""
    score, place = SCORES[name], int(name.startswith("log ref"))
    one = response(1290, 2)
    goal = _score(score, one)
    for seed, n in ((1291, 3), (1292, 1)):
        other = response(seed, n)
        start = _score(score, other)
        worth = _score(score, _raised(other, place, 1.0)) - start
        values = [part(each) for each in (one, _raised(other, place, (goal - start) / worth))]
        if abs(values[0] - values[1]) > ALLOWED * max(1.0, abs(values[0])):
            return False
    return True


def _score(score: Rule, one: Response) -> float:
    s, r, n = (np.array([float(total)]) for total in (one[0].sum(), one[1].sum(), len(one[0])))
    return float(score(s, r, n)[0])


def _raised(one: Response, place: int, by: float) -> Response:
    """The policy's (0) or the reference's (1) first token raised."""
    changed = [tokens.copy() for tokens in one]
    changed[place][0] += by
    return changed[0], changed[1]
