"""A loss of pairs that has the gradient of a named one, each pair weighted."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from derivations.conformance.batches import Batch, join
from derivations.conformance.calls import CallError
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS
from derivations.conformance.grid import pair_of, response
from derivations.conformance.known_pairs import Term
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_score import of_one_score

Vector = np.ndarray
WEIGHTS: dict[str, Callable[[float, float], float]] = {
    "divided by the chosen response's length": lambda w, l: 1 / w,
    "divided by the rejected response's length": lambda w, l: 1 / l,
    "divided by both lengths": lambda w, l: 1 / (w + l),
    "multiplied by the chosen response's length": lambda w, l: w,
    "multiplied by the rejected response's length": lambda w, l: l,
    "multiplied by both lengths": lambda w, l: w + l,
}


SCORES: dict[str, Callable[[Arrays], Vector]] = {
    "the margin of log pi - log ref": lambda a: (
        a["chosen_logp"] - a["ref_chosen_logp"] - a["rejected_logp"] + a["ref_rejected_logp"]
    ),
    "log pi(w)/|w| - log pi(l)/|l|": lambda a: a["chosen_mean_logp"] - a["rejected_mean_logp"],
    "log pi(w)/|w| + log pi(l)/|l|": lambda a: a["chosen_mean_logp"] + a["rejected_mean_logp"],
    "log pi(w)/|w|": lambda a: a["chosen_mean_logp"],
    "log pi(l)/|l|": lambda a: a["rejected_mean_logp"],
    "log pi(w)": lambda a: a["chosen_logp"],
    "log pi(l)": lambda a: a["rejected_logp"],
    "log pi(w) + log pi(l)": lambda a: a["chosen_logp"] + a["rejected_logp"],
    "log pi(w) - log pi(l)": lambda a: a["chosen_logp"] - a["rejected_logp"],
    "log pi(w) - log ref(w)": lambda a: a["chosen_logp"] - a["ref_chosen_logp"],
    "log pi(l) - log ref(l)": lambda a: a["rejected_logp"] - a["ref_rejected_logp"],
    "log ref(w) - log ref(l)": lambda a: a["ref_chosen_logp"] - a["ref_rejected_logp"],
}


def in_parts(subject: Subject, mains: list[Term]) -> str:
    """The part that has a name, in words, or nothing."""
    allowed = 1e-4 if subject.single else 1e-6
    try:
        found = [subject.numbers(subject.call, batch) for batch in subject.examples]
    except CallError:
        return ""
    if not all(np.all(np.isfinite(one)) and one.any() for one in found):
        return ""
    return _weighted(subject, mains, found, allowed)


def _parallel(found: list[Vector], known: list[Vector], allowed: float) -> Vector | None:
    """How much of the known one each is, if each is a multiple of it."""
    shares = []
    for one, other in zip(found, known, strict=True):
        own = float(other @ other)
        share = float(one @ other) / own if own else 0.0
        if not own or float(np.linalg.norm(one - share * other)) > allowed * float(np.linalg.norm(one)):
            return None
        shares.append(share)
    return np.array(shares)


def _weighted(subject: Subject, mains: list[Term], found: list[Vector], allowed: float) -> str:
    """A named loss, each pair times a number that carries no gradient."""
    first, named = "", list[tuple[int, str]]()
    for name, term in mains:
        shares = _parallel(found, [subject.numbers(term, batch) for batch in subject.examples], allowed)
        if shares is None:
            continue
        for words, weight in WEIGHTS.items():
            meant = np.array([weight(w, l) for w, l in _lengths(subject.examples)])
            if np.allclose(shares / shares[0], meant / meant[0], rtol=1e-4):
                return f"{name}, {words}"
        if words := _weight_in_words(subject, term):
            named.append((len(words), f"{name}, each pair times a detached weight: {words}"))
        span = f"(from {number(shares.min())} to {number(shares.max())})"
        first = first or f"{name}, each pair times a detached weight {span}"
    return min(named, key=lambda one: one[0])[1] if named else first


def _weight_in_words(subject: Subject, term: Callable[[Arrays], Any]) -> str:
    """The weight by which the loss is a named one, as a function of a score of the pair."""
    pairs = [pair_of(response(620 + i, 1 + i % 4), response(660 + i, 1 + (3 * i) % 5)) for i in range(16)]
    named = PAIRS.derive(join(PAIRS, pairs))
    found = np.array([subject.run(pair, gradient=False).mean for pair in pairs])
    with np.errstate(all="ignore"):
        shares = found / np.asarray(term(join(PAIRS, pairs)), dtype=float)
    strengths = strengths_of_options(subject)
    for words, score in SCORES.items():
        if said := of_one_score(np.asarray(score(named)), shares, strengths, 1e-7, weight=True):
            return f"{said} for x = {words}"
    return ""


def strengths_of_options(subject: Subject) -> tuple[float, ...]:
    """The objective's options that are numbers."""
    return tuple(float(v) for v in subject.target.options.values() if isinstance(v, int | float) and v)


def _lengths(batches: list[Batch]) -> Iterator[tuple[float, float]]:
    for batch in batches:
        yield float(batch["chosen_mask"].sum()), float(batch["rejected_mask"].sum())
