"""Laws of extreme inputs: sums of thousands of nats, margins of hundreds, responses of thousands of tokens."""

from collections.abc import Iterator

import numpy as np

from derivations.conformance.backends import DOUBLE, SINGLE
from derivations.conformance.batch_laws import LOSSES, MASKED, SUMS
from derivations.conformance.batches import Batch, endless, examples
from derivations.conformance.families import PAIRS
from derivations.conformance.laws import Failure, Skip, Verdict, close, describe, law, number, numbers
from derivations.conformance.loss_under_test import Result, Subject

# level, and gap of scores
CASES = (
    (-1000.0, 1.0),
    (-5000.0, -1.0),
    (-20.0, 4.0),
    (-20.0, 7.0),
    (-20.0, -6.0),
    (-1500.0, 900.0),
    (-1500.0, -900.0),
)
TOKENS = 2100  # more than the usual limits of 512, 1024 and 2048


@law(
    "extremes",
    "log-probs of thousands of nats and margins from one to hundreds, in float64 and float32: loss and gradient stay "
    "finite, a lost pair costs its margin, and one that is won counts as little as it should",
    claim="loss-gradients",
    families=LOSSES,
    threads=("trl#1473",),
)
def extremes(subject: Subject) -> Verdict:
    if subject.target.name.startswith("f-dpo") or subject.target.name == "chi-po":
        return Skip("its implicit reward is exponential in the log-ratio")
    for dtype in ("float64", "float32") if subject.backend.dtype == DOUBLE else (SINGLE,):
        for batch in _batches(subject):
            rounded = {n: a if a.dtype != np.float64 else _rounded(subject, a, dtype) for n, a in batch.items()}
            found, expected = subject.run(rounded, dtype=dtype), subject.expect(rounded)
            if not _agree(found, expected):
                words = f"in {dtype}: {describe(subject, rounded)}"
                return Failure(words, _words(expected), _words(found))
    return None


@law(
    "every-token",
    f"nothing is cut off: the last of {TOKENS} tokens still counts",
    claim="loss-gradients",
    families=MASKED,
    threads=("trl#5350",),
)
def every_token(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    family, batch = subject.target.family, endless(subject.target.family, TOKENS)
    differentiated = subject.backend.name == "torch" and subject.target.name not in ("kl-metric", "kl-reward")
    slopes = subject.run(batch).gradient if differentiated else {}
    value = subject.run(batch, gradient=False).value
    for leaf in family.leaves:
        axis = family.token_axis[leaf]
        if differentiated:
            dead = not slopes[leaf].take(-1, axis=axis).any()
        else:
            moved = batch[leaf].copy()
            moved.swapaxes(0, axis)[-1].flat[0] -= 1.0
            dead = np.array_equal(subject.run(batch | {leaf: moved}, gradient=False).value, value)
        if dead:
            given = f"responses of {TOKENS} tokens"
            return Failure(
                given, f"the last of {leaf} counts", "it does not: no gradient, or the same value without it"
            )
    return None


def _batches(subject: Subject) -> Iterator[Batch]:
    """Pairs, or rankings of three, whose scores are `gap` apart: log-probs are 1/beta times as far, as beta is."""
    family, strength = subject.target.family, float(subject.target.options[subject.target.option_names[0]])
    first = examples(family)[0 if family is PAIRS else 1]
    for level, gap in CASES:
        if gap == 1.0 and subject.target.name == "slic":
            continue  # the corner of the hinge
        base, apart = level * max(1.0, 1.0 / strength), gap / strength
        if family is PAIRS:
            better, worse, same = (np.array([[base + s * apart / 2]]) for s in (1, -1, 0))
            yield first | {
                "chosen_logps": better,
                "rejected_logps": worse,
                "ref_chosen_logps": same,
                "ref_rejected_logps": same,
            }
        else:
            place = np.argsort(first["ranking"], axis=-1)[..., None]  # 0 is the best: [1, K, 1]
            yield first | {"logps": base - (place - 1) * apart / 2, "ref_logps": np.full(place.shape, base)}


def _rounded(subject: Subject, array: np.ndarray, dtype: str) -> np.ndarray:
    found: np.ndarray = subject.backend.numpy(subject.backend.array(array, dtype))
    return found


def _agree(found: Result, expected: Result) -> bool:
    """Whether value and gradients agree: at |x| ~ 5000/beta float64 resolves 1e-12/beta and float32 5e-4/beta."""
    allowed = 1e-5 if found.exact else 5e-3
    meant = np.broadcast_to(expected.mean, found.value.shape)
    if not close(found.value, meant, allowed * (1 + abs(expected.mean))):
        return False
    return found.rough or all(  # no difference can be taken where float32 resolves less than its step
        close(found.gradient[leaf], slope, allowed * (1 + np.abs(slope).max()))
        for leaf, slope in expected.gradient.items()
    )


def _words(result: Result) -> str:
    return f"loss {number(result.mean)}, gradient {' and '.join(numbers(s) for s in result.gradient.values())}"
