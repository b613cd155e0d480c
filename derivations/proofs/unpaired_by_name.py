"""KTO by its name, on one response in numbers: what `defaults` decides beside the losses of pairs."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from derivations import preference_losses
from derivations.proofs.names import require_rows
from derivations.published import UNPAIRED, UNPAIRED_OPTIONS, make_trained

LOGP, REF, POINT = -1.2, -1.7, 0.3
GIVEN: tuple[dict[str, float], ...] = (
    {},
    {"beta": 0.3},
    {"desirable_weight": 1.5},
    {"undesirable_weight": 0.7},
    {"beta": 2.0, "desirable_weight": 0.4, "undesirable_weight": 3.0},
)


class OfOne(NamedTuple):
    """Options of a response that is good or bad; what was found of it: the loss, its slope and the logged reward."""

    options: dict[str, float]
    good: bool
    loss: float
    slope: float
    reward: float


def unpaired() -> Iterator[OfOne]:
    """A good response and a bad one with each of the options."""
    require_rows(UNPAIRED, ("kto",), "unpaired() of derivations/proofs/unpaired_by_name.py")
    logp, given = np.array([LOGP]), {"ref_logp": np.array([REF]), "kl": np.array([POINT])}
    for options in GIVEN:
        made: Any = make_trained("kto", **options)
        for good in (True, False):
            mask = np.array([good])
            found = made.losses(logp, mask, **given), made.slopes(logp, mask, **given)
            reward = made.rewards(logp, length=np.array([3.0]), ref_logp=given["ref_logp"])
            yield OfOne(options, good, *(float(value[0]) for value in (*found, reward)))


def as_kto(case: OfOne) -> bool:
    """The function called with arguments by name; the slope by differences of it, with the reference point held."""
    options = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0} | case.options

    def loss(logp: float) -> float:
        array, mask = np.array([logp]), np.array([case.good])
        point, ref_logp = np.array([POINT]), np.array([REF])
        return float(preference_losses.kto(array, mask, ref_logp=ref_logp, kl=point, **options)[0])

    slope = (loss(LOGP + 1e-5) - loss(LOGP - 1e-5)) / 2e-5
    close = math.isclose(case.loss, loss(LOGP), rel_tol=1e-12) and math.isclose(case.slope, slope, rel_tol=1e-6)
    return close and math.isclose(case.reward, options["beta"] * (LOGP - REF), rel_tol=1e-12)


def as_kto_published(case: OfOne) -> bool:
    """The published formula in numbers, and which strengths stand for what is not given."""
    beta = case.options.get("beta", 1 / 10)
    lead = beta * (LOGP - REF - POINT)
    sign, weight = (1, case.options.get("desirable_weight", 1)) if case.good else (
        -1, case.options.get("undesirable_weight", 1))  # fmt: skip
    gain = 1 / (1 + math.exp(-sign * lead))
    right = weight * (1 - gain), -sign * weight * beta * gain * (1 - gain), beta * (LOGP - REF)
    return all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(case[2:], right, strict=True))


def as_if_good(case: OfOne) -> bool:
    return as_kto_published(case._replace(good=True))


Refusal = tuple[str, Any, bool]


def unpaired_refusable() -> Iterator[Refusal]:
    """(option, value, whether it is accepted)."""
    for option in (*UNPAIRED_OPTIONS, "alpha", "penalty", "gamma"):
        for value in (-0.1, 0.0, float("nan"), float("inf"), 0.2, None):
            try:
                make_trained("kto", **{option: value})
            except ValueError:
                yield option, value, False
            else:
                yield option, value, True


def positive_weights(case: Refusal) -> bool:
    option, value, accepted = case
    return accepted == (
        value is None or (option in ("beta", "desirable_weight", "undesirable_weight") and value == 0.2)
    )


def by_limits(case: Refusal) -> bool:
    option, value, accepted = case
    if value is None:
        return accepted
    return accepted == (0 < value < 1e300 and (option == "beta" or option.endswith("desirable_weight")))


def anything(case: Refusal) -> bool:
    return case[2]
