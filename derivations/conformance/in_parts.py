"""A loss of pairs that has the gradient of a named one, each pair weighted."""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.known_pairs import Term
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
WEIGHTS: dict[str, Callable[[float, float], float]] = {
    "divided by the chosen response's length": lambda w, l: 1 / w,
    "divided by the rejected response's length": lambda w, l: 1 / l,
    "divided by both lengths": lambda w, l: 1 / (w + l),
    "multiplied by the chosen response's length": lambda w, l: w,
    "multiplied by the rejected response's length": lambda w, l: l,
    "multiplied by both lengths": lambda w, l: w + l,
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
    for name, term in mains:
        shares = _parallel(found, [subject.numbers(term, batch) for batch in subject.examples], allowed)
        if shares is None:
            continue
        for words, weight in WEIGHTS.items():
            meant = np.array([weight(w, l) for w, l in _lengths(subject.examples)])
            if np.allclose(shares / shares[0], meant / meant[0], rtol=1e-4):
                return f"{name}, {words}"
        return f"{name}, each pair times a detached weight (from {number(shares.min())} to {number(shares.max())})"
    return ""


def _lengths(batches: list[Batch]) -> Iterator[tuple[float, float]]:
    for batch in batches:
        yield float(batch["chosen_mask"].sum()), float(batch["rejected_mask"].sum())
