"""Which objective is it? Least squares of losses and gradients on a few named terms, or the answer "unknown".

Data: the loss of single examples and its gradient by every token's log-prob. A hypothesis is one main
term (an objective under one reading of its options) plus at most two extras (an NLL of either response,
mean or sum over tokens, a constant), with free coefficients. Hypotheses are tried from the plainest on, and
one is accepted only if nothing is left over: at most three coefficients have to explain every number (42
for pairs) to one part in a million. Whatever is not explained so exactly is unknown.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from derivations.arrays import Array, namespace
from derivations.conformance.batch_laws import PSEUDO
from derivations.conformance.batches import Batch, batch_of, has_hole, join, pad, size
from derivations.conformance.calls import CallError
from derivations.conformance.composed import composed
from derivations.conformance.derived import Arrays
from derivations.conformance.families import ADVANTAGE, ENTROPY, KL_FAMILY, OFF_POLICY, PAIRS, UNPAIRED
from derivations.conformance.far import same_of_tokens, wild_samples
from derivations.conformance.held_far import held_far
from derivations.conformance.how import takes_advantages
from derivations.conformance.identity import MAKE_UP, Identity, in_words
from derivations.conformance.known_losses import SWAPPED, extra_terms, main_terms
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.pair_identity import losses_of, pair_identity
from derivations.conformance.response_batches import response_change
from derivations.conformance.stages import (
    OTHER_REDUCTIONS,
    PADDED,
    advantage_stage,
    matches_weights,
)
from derivations.conformance.token_functions import token_function
from derivations.conformance.unpaired_identity import unpaired_identity
from derivations.conformance.whole_batch import padding, reduced, whole_of

ACCEPT = 1e-6  # relative residual: differences are good to 1e-8, float32 implementations to 1e-7
MUCH = 30.0  # times the residual of the reading that fits best
EXACT = 1e-12
ACCEPT_ROUGH = 1e-4  # of differences of float32 values
EXACT_SINGLE = 2e-7  # readings that leave no more of a float32 function than this are not told apart by it
MUCH_SINGLE = 3.0  # what float32 leaves of the right reading is rounding, and the same for others that are as near


def identify(subject: Subject) -> Identity:
    """Name what the function computes. Never raises for a function that can be called.

    The value of an estimator that is differentiated is free, so such a one may also be named by its gradient alone.
    """
    if subject.identity is not None:
        known: Identity = subject.identity
        return known
    found = _identify(subject, value=subject.target.family.name not in PSEUDO)
    family = subject.target.family
    if subject.target.name in ("kl-loss", "kl-loss-token", "entropy-sequence") and not found.known:
        trained = _identify(subject, value=False)
        if trained.known:
            return trained if " as named" in str(trained) else _by_gradient(subject, trained)
    if family.name in (*PSEUDO, ADVANTAGE.name) and (not found.known or found.nameless):
        return composed(subject) or found
    if family is UNPAIRED:
        return unpaired_identity(subject, found)
    if family in (KL_FAMILY, ENTROPY) and not found.known and np.isfinite(found.residual):
        words, beside = token_function(subject), _beside(subject)
        if family is KL_FAMILY and MAKE_UP in beside and (changed := _of_changed_batches(subject)):
            return in_words(changed)
        return in_words(words, beside) if words else found
    if family in (KL_FAMILY, ENTROPY) and found.nameless:
        return replace(found, reduction=_beside(subject, found) or MAKE_UP)
    return found


def _by_gradient(subject: Subject, trained: Identity) -> Identity:
    """A term that has the gradient of a named one and another value: by its value, where that has words."""
    words = token_function(subject) if subject.target.family is KL_FAMILY else ""
    if words:
        return in_words(f"{words} (the gradient is that of {trained})", _beside(subject))
    return replace(trained, reduction="; ".join(filter(None, ["by its gradient, not by its value", trained.reduction])))


def _of_changed_batches(subject: Subject) -> str:
    """A named term of single responses that only batches show, such as one of log-ratios less their mean."""
    wholes = [whole_of(subject), whole_of(subject, fresh=True)]
    for name, term in main_terms(subject):
        if "detached" not in name and (words := response_change(wholes, lambda b, f=term: np.asarray(f(b)))):  # type: ignore[misc]
            return f"{name}, {words}"
    return ""


def _beside(subject: Subject, found: Identity | None = None) -> str:
    """What a batch does to a term of single responses, where it is not their mean."""
    try:
        whole = whole_of(subject)
        if not whole.apart:
            return ""
        wholes = [whole, whole_of(subject, fresh=True)] if subject.target.family is KL_FAMILY else [whole]
        words = reduced(wholes)
        if not words and found and subject.target.family is KL_FAMILY:
            words = response_change(wholes, losses_of(subject, found.terms))
        return words or padding(subject, whole) or MAKE_UP
    except CallError:
        return ""


def _identify(subject: Subject, *, value: bool) -> Identity:
    wild = takes_advantages(subject) or subject.target.family.name == OFF_POLICY.name
    data = [*subject.examples, *(wild_samples(subject) if wild else [])]
    found = _among(subject, data, value=value)
    for words, plain in _but_not(subject, data).items():
        if not found.known and len(plain) < len(data):
            other = _among(subject, plain, value=value)
            said = [other.reduction, "" if other.reduction and HOLE in words else words]
            found = replace(other, reduction="; ".join(filter(None, said))) if other.known else found
    if subject.target.family is PAIRS and value:
        return pair_identity(subject, found)
    if subject.target.family.name == OFF_POLICY.name and found.known:
        return held_far(subject, found)
    if subject.target.family is KL_FAMILY and found.known:
        terms = dict(main_terms(subject))
        if not same_of_tokens(subject, [(c, terms[name]) for c, name in found.terms], value=value):
            return Identity((), 1.0)  # a name that does not hold far from the reference is none
    return found


HOLE = "where a mask has a hole"


def _but_not(subject: Subject, data: list[Batch]) -> dict[str, list[Batch]]:
    """What may be otherwise for some examples, and the other examples."""
    found = {
        "but not for rewards of 0 and 1": [
            batch for batch in data if "rewards" not in batch or set(batch["rewards"]) - {0.0, 1.0}
        ]
    }
    if subject.per_token and subject.target.family.name not in PSEUDO:
        found[f"but not {HOLE}"] = [batch for batch in data if not has_hole(batch)]
    return found


def _among(subject: Subject, data: list[Batch], *, value: bool) -> Identity:
    accept, same = (ACCEPT_ROUGH, EXACT_SINGLE) if subject.single else (ACCEPT, EXACT)
    much = MUCH_SINGLE if subject.single and not subject.rough else MUCH
    try:
        goal = np.concatenate([subject.numbers(subject.call, batch, value=value) for batch in data])
    except CallError:
        return Identity((), 1.0)
    if not np.all(np.isfinite(goal)):
        return Identity((), float("nan"))
    mains, extras = main_terms(subject), extra_terms(subject)
    terms, best, kept = dict(extras) | dict(mains), 1.0, _columns(subject, data, value)

    def column(name: str) -> np.ndarray:
        if name not in kept:
            kept[name] = np.concatenate([subject.numbers(terms[name], batch, value=value) for batch in data])
        return kept[name]

    def twins(name: str) -> list[str]:
        """Other readings that come to the same at these options (twice gamma is gamma/beta where beta = 2)."""
        if subject.target.family is not PAIRS or name == mains[0][0] or name not in dict(mains):
            return []
        size = 1e-9 * float(np.linalg.norm(column(name)))
        others = [n for n, _ in mains if n != name and _stem(n) == _stem(name)]
        return [n for n in others if float(np.linalg.norm(column(n) - column(name))) <= size]

    nearest = 1.0
    for name, _ in mains:
        nearest = min(nearest, _fit(goal, [column(name)])[1])
        if nearest <= same:
            break  # none can be nearer, and the others need not be computed
    kept_back: Identity | None = None  # two terms with two factors: there may be two with one
    for names in _hypotheses([name for name, _ in mains], [name for name, _ in extras]):
        if kept_back and len(names) != 2:
            break
        found, residual = _fit(goal, [column(name) for name in names])
        best = min(best, residual)
        if len(names) == 1 and residual > max(much * nearest, same):
            continue  # another reading fits much better: a guard of 1e-6 is not one of 1e-8
        if len(names) == 1 and residual > max(2 * nearest, same) and 1e-5 <= abs(abs(float(found[0])) - 1) < 1e-3:
            continue  # no constant factor is so near to 1: another guard is made up for
        if len(names) == 2 and names[1] == f"{names[0]}{SWAPPED}" and abs(sum(found)) < 1e-6 * abs(found[0]):
            continue  # -log sigmoid(x) + log sigmoid(-x) is -x, and said so
        if residual < accept and all(abs(c) > 1e-6 for c in found):
            coefficients = dict(zip(names, map(float, found), strict=True))
            words = tuple((c, ", or ".join([name, *twins(name)])) for name, c in coefficients.items())
            odd = sum(abs(c - 1) > 1e-5 for c in coefficients.values())
            if odd < 2 or len(names) != 2:
                return Identity(words, residual, _reduction(subject, coefficients))
            kept_back = kept_back or Identity(words, residual, _reduction(subject, coefficients))
    return kept_back or Identity((), best)


_KEPT: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}


def _columns(subject: Subject, data: list[Batch], value: bool) -> dict[str, np.ndarray]:
    """The numbers of the named terms, which are the same for every function that is held against the same target."""
    target, backend = subject.target, subject.backend
    inputs = tuple((name, array.tobytes()) for batch in data for name, array in sorted(batch.items()))
    options = tuple(sorted((name, repr(option)) for name, option in target.options.items()))
    key = (
        target.family.name,
        target.name,
        options,
        type(backend).__name__,
        backend.dtype,
        subject.rough,
        value,
        inputs,
    )
    return _KEPT.setdefault(key, {})


def _hypotheses(mains: list[str], extras: list[str]) -> Iterator[tuple[str, ...]]:
    """Plainest first: every main term alone, then with one extra, then with two, then the one named with another."""
    yield from ((main,) for main in mains)
    yield from ((extra,) for extra in extras)  # an NLL and nothing else
    for count in (1, 2):
        for main in mains:
            for chosen in itertools.combinations(extras, count):
                yield (main, *chosen)
    for main in mains:  # a label smoothed in another way
        if f"{main}{SWAPPED}" in mains:
            yield (main, f"{main}{SWAPPED}")
    yield from ((mains[0], other) for other in mains[1:])


def _stem(name: str) -> str:
    """The objective without its reading."""
    return name.partition(",")[0].partition(" with")[0]


def _fit(goal: np.ndarray, columns: list[np.ndarray]) -> tuple[np.ndarray, float]:
    matrix = np.stack(columns, axis=1)
    scale = float(np.linalg.norm(goal)) or 1.0
    if not np.all(np.isfinite(matrix)):
        return np.zeros(len(columns)), 1.0
    found = np.linalg.lstsq(matrix, goal, rcond=None)[0]
    return found, float(np.linalg.norm(goal - matrix @ found)) / scale


def _reduction(subject: Subject, found: dict[str, float]) -> str:
    """How a batch becomes a scalar, where it is not the mean over examples."""
    family, parts = subject.target.family, batch_of(subject.target.family)[:3]
    whole = pad(family, join(family, parts), right=1)  # no more examples than columns
    try:
        result = subject.run(whole)
    except CallError:
        return "a batch of several could not be tried"
    if family is ADVANTAGE:
        return advantage_stage(subject)
    if not family.leaves:
        return ""
    terms = dict(extra_terms(subject)) | dict(main_terms(subject))

    def total(arrays: Arrays, *, pooled: float = 0.0, factor: float = 1.0) -> Array:
        means = {name: namespace(*arrays.values()).mean(terms[name](arrays)) for name in found}
        if pooled:
            means |= {name: pooled * _pooled(name, arrays) for name in found if name in POOLED}
        return factor * sum(c * means[name] for name, c in found.items())

    def matches(**how: Any) -> bool:
        slopes = subject.backend.gradient(lambda arrays: total(arrays, **how), whole, family.leaves)[1]
        relative, least = (1e-2, 1e-3) if subject.rough else (1e-4, 1e-6) if subject.single else (1e-5, 1e-7)
        return all(np.allclose(result.gradient[leaf], slopes[leaf], relative, least) for leaf in family.leaves)

    if matches():
        return ""
    if matches(factor=float(size(whole))):
        return "summed over the batch, not averaged"
    if set(found) & set(POOLED):
        if matches(pooled=1.0):
            return "the NLL is averaged over all tokens of a batch, so pairs weigh by their length"
        if matches(pooled=whole["chosen_mask"].mean()):
            return "the NLL is averaged over all places of the padded batch, also those under the mask"
        if matches(pooled=1 / size(whole)):
            return "the NLL is divided by all tokens of a batch and by the number of pairs, so it fades in large ones"
    for words, weigh in OTHER_REDUCTIONS.items():
        concerned = family.name in ("kl", "entropy") or words == PADDED
        if concerned and matches_weights(subject, whole, result, {n: terms[n] for n in found}, found, weigh):
            return words
    return MAKE_UP


POOLED = {f"NLL of the {side} response (mean over tokens)": side for side in ("chosen", "rejected")}


def _pooled(name: str, arrays: Arrays) -> Array:
    """The mean over all supervised tokens of a batch instead of the mean of the means of its responses."""
    named, side = PAIRS.derive(arrays), POOLED[name]
    xp = namespace(named[f"{side}_logp"])
    return -xp.sum(named[f"{side}_logp"]) / xp.sum(named[f"{side}_length"])
