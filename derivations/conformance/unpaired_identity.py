"""A loss of single responses that is no named one: by what one response shows, and by what a batch does."""

from dataclasses import replace

import numpy as np

from derivations.conformance.calls import CallError
from derivations.conformance.far import same_everywhere
from derivations.conformance.identity import MAKE_UP, Identity, in_words
from derivations.conformance.known_losses import main_terms
from derivations.conformance.known_unpaired import unpaired_mains
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.unpaired_changes import reference_point
from derivations.conformance.unpaired_structure import unpaired_structure
from derivations.conformance.whole_batch import Losses, Whole, padding, reduced, whole_of


def unpaired_identity(subject: Subject, found: Identity) -> Identity:
    """The answer for a loss of single responses, of which examples gave this one."""
    try:
        wholes = [whole_of(subject)]
        if not np.all(np.isfinite(wholes[0].value)):
            return found
        constant = np.ptp(wholes[0].each) < 1e-12
        if not wholes[0].apart or (found.plain and wholes[0].same_mean):
            if constant:
                return in_words(f"the constant {number(float(wholes[0].each[0]))}")
            if not np.isfinite(found.residual) or (
                found.known and same_everywhere(subject, _losses_of(subject, found))
            ):
                return found
            words = unpaired_structure(subject)
            return in_words(words) if words else _only_near(found)
        return _of_batch(subject, found, [*wholes, whole_of(subject, fresh=True)], constant)
    except CallError:
        return found


def _losses_of(subject: Subject, found: Identity) -> Losses:
    """The named terms, summed."""
    terms = dict(main_terms(subject))
    return lambda batch: np.sum([c * np.asarray(terms[name](batch)) for c, name in found.terms], axis=0)


def _of_batch(subject: Subject, found: Identity, wholes: list[Whole], constant: bool) -> Identity:
    """The answer where a batch is not the mean of its responses."""
    if not np.all(np.isfinite(wholes[0].each)):
        return _only_in_batches(subject, wholes) or found
    words = reduced(wholes)
    if not words and (known := _by_batch(subject, wholes)):
        return in_words(known)
    words = words or padding(subject, wholes[0])
    if constant:
        return in_words(f"the constant {number(float(wholes[0].each[0]))} for single responses", words or MAKE_UP)
    if found.known and same_everywhere(subject, _losses_of(subject, found)):
        return replace(found, reduction=words or MAKE_UP)
    apart = unpaired_structure(subject)
    return in_words(apart, words or MAKE_UP) if apart else _only_near(found)


def _only_near(found: Identity) -> Identity:
    """A name that does not hold for other reference points, or far from the examples, is none."""
    return replace(found, terms=(), residual=float("nan")) if found.known else found


def _only_in_batches(subject: Subject, wholes: list[Whole]) -> Identity | None:
    """A named loss, summed up in a way that gives no number for some responses alone."""
    for name, losses in [(f"{subject.target.name} as named", subject.target.losses), *unpaired_mains(subject)]:
        if words := reduced([replace(whole, each=np.asarray(losses(whole.batch))) for whole in wholes]):
            return in_words(name, words)
    words = _by_batch(subject, wholes)
    return in_words(words) if words else None


def _by_batch(subject: Subject, wholes: list[Whole]) -> str:
    """The objective, or another reading of it, with a number of the batch for its reference point."""
    if words := reference_point(subject, wholes, subject.target.losses):
        return f"{subject.target.name} as named, but in a batch {words}"
    for name, losses in unpaired_mains(subject):
        if name.count(",") > 1 or "reference point" in name or name == "KTO":
            continue
        if words := reference_point(subject, wholes, losses, plain=True):
            return f"{name}, and in a batch {words}"
    return ""
