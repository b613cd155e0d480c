"""The identity of a policy gradient that is no named one: its advantage, its weights, and its use of the ratio."""

import itertools

import numpy as np

from derivations.conformance.advantage_candidates import candidate_advantages
from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.composites import Composite, composite
from derivations.conformance.families import ADVANTAGE, OFF_POLICY
from derivations.conformance.identity import Identity, in_words
from derivations.conformance.known_off_policy import known_surrogate, named_surrogate
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.ratio_profile import NOT_FAR, ratio_profile
from derivations.conformance.ratio_use import MEASURED
from derivations.conformance.reward_free import reward_free
from derivations.conformance.token_weights import named_weights


def composed(subject: Subject) -> Identity | None:
    """A policy gradient by its advantage, its weights, what it does with the ratio, and what sees no rewards."""
    family = subject.target.family
    with np.errstate(all="ignore"):  # some advantages are undefined for equal rewards
        try:
            beside, gradient = ("", None) if family is ADVANTAGE else reward_free(subject)
            found = _rewarded(subject) if beside else None
            if found:
                beside, gradient = "", lambda batch: subject.run(batch).gradient["logps"]
            found = found or composite(subject, gradient)
            used = ""
            if gradient and found and family.name == OFF_POLICY.name:
                used = named_surrogate(subject, found, gradient)
                if not used or used.endswith(NOT_FAR):
                    if said := ratio_profile(subject, gradient, found.known):
                        return in_words("; ".join(filter(None, [said, beside])))
                    used = f"{used}no name" if used else known_surrogate(subject, found, gradient)
        except CallError:
            return None
    if found is None:
        return _surrogate_of_usual(subject) if family.name == OFF_POLICY.name else None
    if family.name != OFF_POLICY.name:
        kind = "" if family is ADVANTAGE else "policy gradient with "
        return Identity(((1.0, "; ".join(filter(None, [f"{kind}{found.words}", beside]))),), 0.0)
    if used.startswith(MEASURED):
        return Identity((), float("nan"), f"at ratio 1 {found.words}; its use of the ratio has no name ({used})")
    if used:
        return Identity(((1.0, "; ".join(filter(None, [used, found.words, beside]))),), 0.0)
    return Identity(
        (), float("nan"), f"at ratio 1 {found.words or 'the policy gradient'}; its use of the ratio has no name"
    )


def _rewarded(subject: Subject) -> Composite | None:
    """The gradient with what is left of it where all rewards are 0, if one advantage explains it all (exp A)."""

    def gradient(batch: Batch) -> np.ndarray:
        slope: np.ndarray = subject.run(batch).gradient["logps"]
        return slope

    found = composite(subject, gradient)
    if found is None or found.left > 1e-9 or "weight of its own" in found.words:
        return None
    off = subject.target.family.name == OFF_POLICY.name
    return found if not off or named_surrogate(subject, found, gradient) else None


def _surrogate_of_usual(subject: Subject) -> Identity | None:
    """A use of the ratio that is another one at ratio 1, so that advantages and weights have to be guessed."""

    def gradient(batch: Batch) -> np.ndarray:
        slope: np.ndarray = subject.run(batch).gradient["logps"]
        return slope

    for what, advantages in itertools.islice(candidate_advantages(subject), 2):
        for how, weigh in named_weights(subject)[:5]:
            usual = Composite(advantages, lambda b, f=advantages, w=weigh: w(b, f(b)), 1.0, "")  # type: ignore[misc]
            used = named_surrogate(subject, usual, gradient)
            if used and not used.endswith(NOT_FAR):
                return in_words("; ".join([used, ", ".join(filter(None, [what, how]))]))
    said = ratio_profile(subject, gradient)
    return in_words(said) if said else None
