"""A loss of pairs that is no named one, as a formula: -log sigmoid, a square or a line of sums and means of log-probs.

Undo the outer function, and what is left must be linear in the summed log-probs, their means, lengths and a constant:
32 examples decide eleven coefficients and must all agree to one part in a hundred million. So it is exact or silent.
"""

import numpy as np

from derivations.conformance.batches import join
from derivations.conformance.calls import CallError
from derivations.conformance.families import PAIRS
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.single import pair

NAMES = ("log pi(w)", "log pi(l)", "log ref(w)", "log ref(l)")
LENGTHS = ((1, 1), (1, 2), (2, 1), (3, 2), (2, 4), (5, 3), (1, 4), (3, 3))


def formula(subject: Subject) -> str:
    """The formula in words, or nothing."""
    rng = np.random.default_rng(99)
    batches = [pair(rng, *LENGTHS[i % len(LENGTHS)]) for i in range(32)]
    try:
        losses = np.array([subject.run(batch, gradient=False).mean for batch in batches])
    except CallError:
        return ""
    features = np.stack([_features(batch) for batch in batches])
    for words, undone in _outer(losses).items():
        if undone is None or not np.all(np.isfinite(undone)):
            continue
        found, *_ = np.linalg.lstsq(features, undone, rcond=None)
        left = np.abs(features @ found - undone).max()
        if left <= 1e-8 * max(1.0, np.abs(undone).max()) and np.abs(found[:2]).max() + np.abs(found[4:6]).max() > 1e-9:
            return words.format(_sum(found))
    return ""


def _outer(losses: np.ndarray) -> dict[str, np.ndarray | None]:
    """What stands inside, if the loss is this function of it."""
    positive = bool((losses > 0).all())
    return {
        "-log sigmoid({})": -np.log(np.expm1(losses)) if positive else None,
        "{}": losses,
        "({})^2": np.sqrt(losses) if positive else None,
        "(-({}))^2": -np.sqrt(losses) if positive else None,
        "sigmoid({})": np.log(losses) - np.log1p(-losses) if positive and (losses < 1).all() else None,
        "exp({})": np.log(losses) if positive else None,
    }


def _features(batch: dict[str, np.ndarray]) -> np.ndarray:
    named = PAIRS.derive(join(PAIRS, [batch]))
    sums = [named[f"{ref}{side}_logp"][0] for ref in ("", "ref_") for side in ("chosen", "rejected")]
    lengths = [named[f"{side}_length"][0] for side in ("chosen", "rejected")] * 2
    means = [total / length for total, length in zip(sums, lengths, strict=True)]
    return np.array([*sums, *means, *lengths[:2], 1.0])


def _sum(found: np.ndarray) -> str:
    """The linear combination in words, without what is zero."""
    names = [*NAMES, *(f"{name}/|{name[-2]}|" for name in NAMES), "|w|", "|l|", ""]
    parts = []
    for c, name in zip(found, names, strict=True):
        if abs(c) > 1e-7:
            size = number(abs(c))
            parts.append(("- " if c < 0 else "+ ") + (f"{size} {name}".strip() if size != "1" or not name else name))
    return " ".join(parts).removeprefix("+ ")
