"""A loss of pairs of which a part is known: a named loss whose pairs are weighted, or a function of a named margin."""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.arrays import Array
from derivations.conformance.backends import SINGLE
from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS
from derivations.conformance.known_pairs import Term
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
MARGINS: dict[str, Callable[[Arrays, str], Array]] = {
    "DPO's": lambda a, s: a[f"{s}_logp"] - a[f"ref_{s}_logp"],
    "SimPO's": lambda a, s: a[f"{s}_mean_logp"],
    "MaxEnt's (DPO's without a reference)": lambda a, s: a[f"{s}_logp"],
    "length-normalized DPO's": lambda a, s: a[f"{s}_mean_logp"] - a[f"ref_{s}_mean_logp"],
}
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
    allowed = 1e-4 if subject.rough or subject.backend.dtype == SINGLE else 1e-6
    try:
        found = [subject.numbers(subject.call, batch) for batch in subject.examples]
    except CallError:
        return ""
    if not all(np.all(np.isfinite(one)) and one.any() for one in found):
        return ""
    return _weighted(subject, mains, found, allowed) or _of_margin(subject, found, allowed)


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


def _of_margin(subject: Subject, found: list[Vector], allowed: float) -> str:
    """A function of one margin: its gradient is along the margin's, and raising both scores alike changes nothing."""
    for name, score in MARGINS.items():

        def margin(arrays: Arrays, score: Callable[[Arrays, str], Array] = score) -> Array:
            named = PAIRS.derive(arrays)
            return score(named, "chosen") - score(named, "rejected")

        known = [subject.numbers(margin, batch) for batch in subject.examples]
        slopes = _parallel([one[1:] for one in found], [other[1:] for other in known], allowed)
        if slopes is None or not slopes.any():
            continue
        moved = [subject.numbers(subject.call, _raised(batch, name)) for batch in subject.examples]
        if all(np.allclose(one, other, rtol=10 * allowed, atol=1e-9) for one, other in zip(found, moved, strict=True)):
            middle = int(np.argmin([abs(other[0]) for other in known]))
            at = f"at {number(known[middle][0])} it is {number(found[middle][0])}, its slope {number(slopes[middle])}"
            return f"a function of {name} margin alone that is none of the usual ones ({at})"
    return ""


def _raised(batch: Batch, name: str) -> Batch:
    """Both scores raised by 0.3."""
    changed = dict(batch)
    for side in ("chosen", "rejected"):
        mask = batch[f"{side}_mask"]
        each = 0.3 if name.startswith(("SimPO", "length")) else 0.3 / mask.sum()
        changed[f"{side}_logps"] = batch[f"{side}_logps"] - each * mask
    return changed
