"""A loss of pairs that is no named one: what it is made of on single pairs, and what a batch adds to that."""

from dataclasses import replace

import numpy as np

from derivations.conformance.batch_changes import batch_change, over_the_batch
from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.families import PAIRS
from derivations.conformance.far import FAR, not_far
from derivations.conformance.formulas import formula
from derivations.conformance.gradient_words import gradient_words, held_words
from derivations.conformance.identity import MAKE_UP, Identity, in_words
from derivations.conformance.in_parts import in_parts
from derivations.conformance.index import WORDED, index
from derivations.conformance.known_losses import extra_terms, main_terms
from derivations.conformance.known_pairs import SWAPPED, Term
from derivations.conformance.laws import number
from derivations.conformance.linear_scores import Rule
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.other_masks import other_masks
from derivations.conformance.quadratic import plain_square
from derivations.conformance.structure import strengths_of, structured
from derivations.conformance.token_aggregates import token_aggregate
from derivations.conformance.two_sided import two_sided
from derivations.conformance.whole_batch import Losses, Whole, padding, reduced, whole_of

TWO_SIDED = ("-log sigmoid of each response's reward alone, summed", "SPPO", "APO zero")


def pair_identity(subject: Subject, found: Identity) -> Identity:
    """The answer for a loss of pairs, of which single pairs gave this one."""
    try:
        wholes = [whole_of(subject)]
        if not np.all(np.isfinite(wholes[0].value)):
            return found
        if wholes[0].apart:
            wholes.append(whole_of(subject, fresh=True))
            for name, losses in [(f"{subject.target.name} as named", subject.target.losses), *_two_sided(subject)]:
                if all(whole.is_mean_of(losses(whole.batch)) for whole in wholes):
                    return _only_padded(subject, name, found)
                if words := batch_change(subject, wholes, losses):
                    return in_words(f"{name}, but in a batch {words}")
        if np.ptp(wholes[0].each) < 1e-12:
            return found if found.known and not wholes[0].apart else _constant(subject, wholes)
        if found.known:
            return _known(subject, found, wholes)
        if not np.isfinite(found.residual):
            return found
        return _taken_apart(subject, wholes) or _under_masks(subject) or found
    except CallError:
        return found if found.known else _under_masks(subject) or found


def _under_masks(subject: Subject) -> Identity | None:
    """A loss of responses padded to one width that takes tokens of another response or under another mask."""
    words = other_masks(subject)
    return in_words(words) if words else None


def _only_padded(subject: Subject, name: str, found: Identity) -> Identity:
    """A named loss of padded batches that is another one where no padding stands behind a response."""
    alone = str(found) if found.known else structured(subject, main_terms(subject))[0] or "something else"
    return in_words(f"{name} where padding follows every response, but without padding {alone}")


def _known(subject: Subject, found: Identity, wholes: list[Whole]) -> Identity:
    """A sum of named terms with what a batch adds, if it is that far from the examples too; else what else it is."""
    losses = losses_of(subject, found.terms)
    squares = len(found.terms) == 2 and any(name in str(found).lower() for name in ("ipo", "sppo"))
    if squares and not wholes[0].apart and (square := plain_square(subject)):
        return in_words(square.words + gradient_words(subject))
    if far := not_far(subject, losses):
        other = _taken_apart(subject, wholes, far=True)
        if other:
            return other
    if not {"label_smoothing", "gamma"} & set(subject.target.options):
        found = replace(found, terms=_with_margin(found.terms))
    unsaid = found.nameless or (wholes[0].value.ndim and not wholes[0].same_mean and not found.reduction)
    answer = _with_batch(subject, found, wholes, losses) if unsaid else found
    said = "; ".join(filter(None, [answer.reduction, far.removeprefix("; ")]))
    return replace(answer, reduction=said) if far else answer


def _with_margin(terms: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
    """(1 + c) f(x) - c f(-x), with f(x) = -log sigmoid(x), as f(x) - c x."""
    if len(terms) == 2:
        (c, name), (d, other) = terms
        if other == f"{name}{SWAPPED}" and "gamma" not in name and abs(c + d - 1) < 1e-6 and d < 0:
            return ((1.0, name), (d, "the margin inside of its log-sigmoid"))
    return terms


def _two_sided(subject: Subject) -> list[Term]:
    """Named losses that are no functions of the margin, so that a shift of both scores is seen."""
    return [(name, term) for name, term in main_terms(subject) if name in TWO_SIDED]


def _taken_apart(subject: Subject, wholes: list[Whole], *, far: bool = False) -> Identity | None:
    """What single pairs show in words, and what a batch of them does. far: only what holds far from the examples."""
    mains = main_terms(subject)
    words, rule = structured(subject, mains)
    if bounded := (not words or FAR in words) and formula(subject, wide=True):
        words, rule = bounded, None
    if far and (not words or FAR in words):
        found = index(subject)
        words, rule = (found, None) if WORDED in found else ("", None)
    if not words or FAR in words:
        words, rule = (found, None) if (found := two_sided(subject, strengths_of(subject))) else (words, rule)
    if far and not words:
        return None
    losses = _of_named(rule)
    words = words or formula(subject) or in_parts(subject, mains) or index(subject) or token_aggregate(subject)
    if not words:
        return None
    return _with_batch(subject, in_words(words), wholes, losses) if wholes[0].apart else in_words(words)


def _of_named(rule: Rule | None) -> Losses | None:
    """A rule of named sums and lengths as the losses of a batch."""
    return (lambda batch: np.asarray(rule(PAIRS.derive(batch)), dtype=float)) if rule else None


def _constant(subject: Subject, wholes: list[Whole]) -> Identity:
    """A loss that is the same for every single pair."""
    same = f"the constant {number(float(wholes[0].each[0]))}"
    if not wholes[0].apart:
        far = not_far(subject, lambda batch: np.full(len(batch["chosen_mask"]), float(wholes[0].each[0])))
        return in_words(formula(subject, wide=True) or same + far) if far else in_words(same)
    if words := over_the_batch(subject, wholes):
        return in_words(words)
    return in_words(f"{same} for single pairs", reduced(wholes) or padding(subject, wholes[0]) or MAKE_UP)


def _with_batch(subject: Subject, found: Identity, wholes: list[Whole], losses: Losses | None) -> Identity:
    """The same, with what a batch adds to it."""
    if not wholes[0].apart:  # the values are those of its pairs
        return replace(found, reduction=held_words(subject, wholes[0].batch).removeprefix("; ") or MAKE_UP)
    words = reduced(wholes)
    named = str(replace(found, reduction="")).startswith(f"{subject.target.name} as named")
    if not words and named and len(found.terms) == 1 and (other := _under_masks(subject)):
        return other
    if not words and losses and (changed := batch_change(subject, wholes, losses)):
        words = f"but in a batch {changed}"
    return replace(found, reduction=words or padding(subject, wholes[0]) or MAKE_UP)


def losses_of(subject: Subject, found: tuple[tuple[float, str], ...]) -> Losses:
    """The named terms, summed."""
    terms = dict(extra_terms(subject)) | dict(main_terms(subject))
    parts = [(c, terms[name.split(", or ")[0]]) for c, name in found]

    def losses(batch: Batch) -> np.ndarray:
        return np.sum([c * np.asarray(term(batch), dtype=float) for c, term in parts], axis=0)

    return losses
