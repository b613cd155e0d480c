"""A loss of pairs that stops at a bound, as a formula: -log sigmoid, a square or a line of sums and means of log-probs.

Undo the outer function, and what is left must be linear in the summed log-probs, their means, lengths and a constant:
96 examples decide at most nineteen coefficients and must all agree to one part in a hundred million. So it is exact or
silent. Examples at a bound (a hinge, a clamp) are left out, and the bound is said.
"""

import numpy as np

from derivations.conformance.batches import Batch, join
from derivations.conformance.calls import CallError
from derivations.conformance.families import PAIRS
from derivations.conformance.gradient_words import gradient_words
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.single import pair

NAMES = ("log pi(w)", "log pi(l)", "log ref(w)", "log ref(l)")
LENGTHS = ((1, 1), (1, 2), (2, 1), (3, 2), (2, 4), (5, 3), (1, 4), (3, 3), (4, 1), (2, 3), (5, 1), (1, 3))
TRIED = 96
Vector = np.ndarray


def formula(subject: Subject, *, wide: bool = False) -> str:
    """The formula in words, or nothing. wide: of pairs with log-probs of tens of nats, which meet bounds far from 0."""
    with np.errstate(all="ignore"):  # a function that is undone where it is another one
        return _formula(subject, wide)


def _formula(subject: Subject, wide: bool) -> str:
    rng = np.random.default_rng(99)
    batches = [pair(rng, *LENGTHS[i % len(LENGTHS)]) for i in range(TRIED)]
    if wide:
        batches = [_widened(batch, i % 4) for i, batch in enumerate(batches)]
    try:
        losses = np.array([subject.run(batch, gradient=False).mean for batch in batches])
    except CallError:
        return ""
    if not np.all(np.isfinite(losses)):
        return ""
    features = np.stack([_features(batch) for batch in batches])
    strength = float(next(iter(subject.target.options.values()), 1.0) or 1.0)
    for words, shown in _without_bounds(losses).items():
        for factor in dict.fromkeys((1.0, -1.0, strength, 1 / strength, 2.0, 0.5)):
            if found := _of(losses[shown] / factor, features[shown]):
                times = "" if factor == 1 else f"{number(factor)} x "
                return f"{times}{found}{words}{gradient_words(subject)}"
    return ""


def _widened(batch: Batch, which: int) -> Batch:
    """With one of its four log-probs 20 times as large, or 5 times where lengths are equal."""
    name = sorted(name for name in batch if name.endswith("logps"))[which]
    near = batch["chosen_mask"].size == batch["rejected_mask"].size
    return batch | {name: batch[name] * (5 if near else 20)}


def _without_bounds(losses: Vector) -> dict[str, Vector]:
    """Where several examples stand at the least or the largest value: all others."""
    found = {}
    low, high = (np.isclose(losses, bound, rtol=0, atol=1e-12) for bound in (losses.min(), losses.max()))
    for cut, words in (
        (low, f", not below {number(losses.min())}"),
        (high, f", not above {number(losses.max())}"),
        (low | high, f", not below {number(losses.min())} and not above {number(losses.max())}"),
    ):
        enough = np.count_nonzero(~cut) >= 20 + 4
        if enough and all(np.count_nonzero(side) != 1 for side in (cut & low, cut & high)) and cut.sum() >= 3:
            found[words] = ~cut
    return found


def _of(losses: Vector, features: Vector) -> str:
    """One outer function of one linear combination."""
    for words, undone in _outer(losses).items():
        if undone is None or not np.all(np.isfinite(undone)):
            continue
        for columns in (list(range(8)) + list(range(16, 19)), list(range(19))):  # plain sums and means first
            if len(losses) < len(columns) + 4:
                continue
            found = np.zeros(19)
            found[columns], *_ = np.linalg.lstsq(features[:, columns], undone, rcond=None)
            left = np.abs(features @ found - undone).max()
            if left <= 1e-8 * max(1.0, np.abs(undone).max()) and np.abs(found[:16]).max() > 1e-9:
                return words.format(_sum(found))
    return ""


def _outer(losses: Vector) -> dict[str, Vector | None]:
    """What stands inside, if the loss is this function of it."""
    positive = bool((losses > 0).all())
    return {
        "-log sigmoid({})": -np.log(np.expm1(losses)) if positive else None,
        "{}": losses,
        "({})^2": np.sqrt(losses) if positive else None,
        "(-({}))^2": -np.sqrt(losses) if positive else None,
        "sigmoid({})": np.log(losses) - np.log1p(-losses) if positive and (losses < 1).all() else None,
        "exp({})": np.log(losses) if positive else None,
        "tanh({})": np.arctanh(losses) if (np.abs(losses) < 1).all() else None,
        "log({})": np.exp(losses) if (np.abs(losses) < 50).all() else None,
    }


def _features(batch: Batch) -> Vector:
    """Sums; over their own length, over the other's, over both; lengths and 1."""
    named = PAIRS.derive(join(PAIRS, [batch]))
    sums = [named[f"{ref}{side}_logp"][0] for ref in ("", "ref_") for side in ("chosen", "rejected")]
    w, l = (named[f"{side}_length"][0] for side in ("chosen", "rejected"))
    own, other, both = ((w, l, w, l), (l, w, l, w), (w + l,) * 4)
    return np.array(
        [*sums, *(s / n for lengths in (own, other, both) for s, n in zip(sums, lengths, strict=True)), w, l, 1.0]
    )


def _sum(found: Vector) -> str:
    """The linear combination in words, without what is zero."""
    over = [f"{name}/|{n}|" for ns in ("wlwl", "lwlw") for name, n in zip(NAMES, ns, strict=True)]
    names = [*NAMES, *over, *(f"{name}/(|w| + |l|)" for name in NAMES), "|w|", "|l|", ""]
    parts = []
    for c, name in zip(found, names, strict=True):
        if abs(c) > 1e-7:
            size = number(abs(c))
            parts.append(("- " if c < 0 else "+ ") + (f"{size} {name}".strip() if size != "1" or not name else name))
    return " ".join(parts).removeprefix("+ ")
