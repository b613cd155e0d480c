"""The name of an off-policy loss, held against ratios that are far from 1."""

from dataclasses import replace

from derivations.conformance.calls import CallError
from derivations.conformance.identity import Identity, in_words
from derivations.conformance.known_losses import extra_terms, main_terms
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.ratio_profile import NOT_FAR, holds_far, ratio_profile


def held_far(subject: Subject, found: Identity) -> Identity:
    """A name that also says what becomes of it where ratios are far from 1, or what it is there if it is no name."""
    terms = dict(extra_terms(subject)) | dict(main_terms(subject))
    try:
        if holds_far(subject, [(c, terms[name]) for c, name in found.terms]):
            return found
    except CallError:
        return found
    words = ratio_profile(subject, lambda batch: subject.run(batch).gradient["logps"])
    if " as named" in str(found) and abs(found.terms[0][0] - 1) < 1e-5:
        return replace(found, reduction="; ".join(filter(None, [found.reduction, NOT_FAR[2:] + (words or "no name")])))
    return in_words(words) if words else Identity((), found.residual)
