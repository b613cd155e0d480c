"""Which objective is it? Least squares of losses and gradients on a few named terms, or the answer "unknown".

Data: the loss of single examples and its gradient by every token's log-prob. A hypothesis is one main
term (an objective under one reading of its options) plus at most two extras (an NLL of either response,
mean or sum over tokens, a constant), with free coefficients. Hypotheses are tried from the plainest on, and
one is accepted only if nothing is left over: at most three coefficients have to explain every number (34
for pairs) to one part in a million. Whatever is not explained so exactly is unknown.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, namespace
from derivations.conformance_batches import Batch, batch_of, examples, join, size
from derivations.conformance_families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    Arrays,
    by_group,
    group_mean,
    masked_sum,
    standardized,
    token_entropies,
)
from derivations.conformance_laws import number
from derivations.conformance_subject import CallError, Subject
from derivations.objectives import ipo_loss, kl_k1, kl_k2, kl_k3, make_objective, pair_loss, rloo_advantage
from derivations.regularizers import KL, LengthNormalized

ACCEPT = 1e-6  # relative residual: differences are good to 1e-8, float32 implementations to 1e-7
Term = tuple[str, Callable[[Arrays], Array]]


@dataclass(frozen=True)
class Identity:
    """The answer: named terms with coefficients (empty: unknown), the residual left, and how batches are reduced."""

    terms: tuple[tuple[float, str], ...]
    residual: float
    reduction: str = ""

    @property
    def known(self) -> bool:
        return bool(self.terms)

    def __str__(self) -> str:
        if not self.known:
            return f"unknown (the nearest sum of named terms leaves {self.residual:.2g} of it unexplained)"
        parts = [name if abs(c - 1) < 1e-5 else f"{number(c)} x {name}" for c, name in self.terms]
        return " + ".join(parts) + (f"; {self.reduction}" if self.reduction else "")


def identify(subject: Subject) -> Identity:
    """Name what the function computes. Never raises for a function that can be called."""
    data = examples(subject.target.family)
    try:
        goal = np.concatenate([_numbers(subject, subject.call, batch) for batch in data])
    except CallError:
        return Identity((), 1.0)
    if not np.all(np.isfinite(goal)):
        return Identity((), float("nan"))
    mains, extras = _mains(subject), _extras(subject)
    terms, best = dict(extras) | dict(mains), 1.0

    @functools.cache
    def column(name: str) -> np.ndarray:
        return np.concatenate([_numbers(subject, terms[name], batch) for batch in data])

    for names in _hypotheses([name for name, _ in mains], [name for name, _ in extras]):
        found, residual = _fit(goal, [column(name) for name in names])
        best = min(best, residual)
        if residual < ACCEPT and all(abs(c) > 1e-6 for c in found):
            coefficients = dict(zip(names, map(float, found), strict=True))
            words = tuple((c, name) for name, c in coefficients.items())
            return Identity(words, residual, _reduction(subject, coefficients))
    return Identity((), best)


def _hypotheses(mains: list[str], extras: list[str]) -> Iterator[tuple[str, ...]]:
    """Plainest first: every main term alone, then with one extra, then with two, then a main with a main."""
    for count in (0, 1, 2):
        for main in mains:
            for chosen in itertools.combinations(extras, count):
                yield (main, *chosen)
    yield from itertools.combinations(mains, 2)


def _fit(goal: np.ndarray, columns: list[np.ndarray]) -> tuple[np.ndarray, float]:
    matrix = np.stack(columns, axis=1)
    scale = float(np.linalg.norm(goal)) or 1.0
    if not np.all(np.isfinite(matrix)):
        return np.zeros(len(columns)), 1.0
    found = np.linalg.lstsq(matrix, goal, rcond=None)[0]
    return found, float(np.linalg.norm(goal - matrix @ found)) / scale


def _numbers(subject: Subject, function: Callable[[Arrays], Any], batch: Batch) -> np.ndarray:
    """Losses and gradients of one example in one row; a pseudo-loss counts by its gradient alone."""
    family = subject.target.family
    value, slopes = subject.backend.gradient(function, batch, family.leaves)
    found = [slope.ravel() for slope in slopes.values()]
    if family is not POLICY_GRADIENT:
        found.insert(0, np.atleast_1d(subject.backend.numpy(value)).ravel())
    return np.concatenate(found)


def _reduction(subject: Subject, found: dict[str, float]) -> str:
    """How a batch becomes a scalar, where it is not the mean over examples."""
    family, parts = subject.target.family, batch_of(subject.target.family)[:3]
    whole = join(family, parts)
    result = subject.run(whole)
    if result.value.ndim or not family.leaves:
        return ""
    terms = dict(_extras(subject)) | dict(_mains(subject))

    def total(arrays: Arrays, *, pooled: bool, factor: float = 1.0) -> Array:
        means = {name: namespace(*arrays.values()).mean(terms[name](arrays)) for name in found}
        if pooled:
            means |= {name: _pooled(name, arrays) for name in found if name in POOLED}
        return factor * sum(c * means[name] for name, c in found.items())

    def matches(**how: Any) -> bool:
        slopes = subject.backend.gradient(lambda arrays: total(arrays, **how), whole, family.leaves)[1]
        return all(np.allclose(result.gradient[leaf], slopes[leaf], rtol=1e-5, atol=1e-7) for leaf in family.leaves)

    if matches(pooled=False):
        return ""
    if matches(pooled=False, factor=float(size(whole))):
        return "summed over the batch, not averaged"
    if set(found) & set(POOLED) and matches(pooled=True):
        return "the NLL is averaged over all tokens of a batch, so pairs weigh by their length"
    return "a batch is reduced in a way that depends on its make-up"


POOLED = {f"NLL of the {side} response (mean over tokens)": side for side in ("chosen", "rejected")}


def _pooled(name: str, arrays: Arrays) -> Array:
    """The mean over all supervised tokens of a batch instead of the mean of the means of its responses."""
    named, side = PAIRS.derive(arrays), POOLED[name]
    xp = namespace(named[f"{side}_logp"])
    return -xp.sum(named[f"{side}_logp"]) / xp.sum(named[f"{side}_length"])


def _mains(subject: Subject) -> list[Term]:
    makers = {
        PAIRS.name: _pair_mains,
        RANKINGS.name: _ranking_mains,
        POLICY_GRADIENT.name: _policy_gradient_mains,
        ADVANTAGE.name: _advantage_mains,
        KL_FAMILY.name: _kl_mains,
        ENTROPY.name: _entropy_mains,
    }
    named, options = f"{subject.target.name} as named", subject.target.options
    if subject.target.name in ("simpo", "simpo-shannon") and options.get("gamma"):
        named += f" (gamma/beta = {number(options['gamma'] / options['beta'])} nats a token)"
    return [(named, subject.target.losses), *makers[subject.target.family.name](subject)]


def _readings(options: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(words, beta, gamma) under the readings that codes give the two options."""
    beta = float(options.get("beta", options.get("alpha", 1.0)))
    gamma = float(options.get("gamma") or 0.0)
    margins = [("", gamma)]
    if gamma:
        margins += [
            (", gamma read as gamma/beta", gamma * beta),
            (", gamma divided by beta", gamma / beta),
            (", gamma left out", 0.0),
            (", gamma with the wrong sign", -gamma),
            (", gamma doubled", 2 * gamma),
        ]
    scales = [("", beta), (" with beta = 1", 1.0), (" with 2 beta", 2 * beta), (" with beta/2", beta / 2)]
    scales.append((" with 1/beta", 1 / beta))
    return [(scale + margin, b, g) for scale, b in scales for margin, g in margins]


def _pair_mains(subject: Subject) -> list[Term]:
    """Objectives of pairs under every reading, right way round and swapped."""
    found: list[Term] = []
    for words, beta, gamma in _readings(subject.target.options):
        margin = {"gamma": gamma}
        scored: list[Term] = [
            ("SimPO" + words, _pair(LengthNormalized(beta), margin)),
            ("DPO" + words, _pair(KL(beta), margin)),
            ("MaxEnt (CPO's contrastive part)" + words, _pair(make_objective("maxent", alpha=beta).regularizer, margin)),
            ("SimPO-Shannon" + words, _pair(make_objective("simpo-shannon", beta=beta).regularizer, margin)),
            ("length-averaged DPO" + words, _pair(KL(beta), margin, averaged=True)),
        ]
        if gamma == 0:
            scored += [
                ("IPO" + words, _pair(KL(beta), {}, squared=beta)),
                ("IPO of length-averaged log-probs" + words, _pair(KL(beta), {}, squared=beta, averaged=True)),
            ]
        found += scored
        found += [(f"{name}, chosen and rejected swapped", _swapped(f)) for name, f in scored if "IPO" not in name]
    found += [
        ("DPO whose reference is left out", _pair(KL(float(subject.target.options.get("beta", 1.0))), {}, ref=False)),
    ]
    return found


def _pair(
    regularizer: Any, margin: dict[str, float], *, squared: float = 0.0, averaged: bool = False, ref: bool = True
) -> Callable[[Arrays], Array]:
    """Loss of pairs from a regularizer; averaged: log-probs divided by the token count first."""

    def loss(arrays: Arrays) -> Array:
        named, scores = PAIRS.derive(arrays), []
        for side in ("chosen", "rejected"):
            logp, length, reference = (named[n] for n in (f"{side}_logp", f"{side}_length", f"ref_{side}_logp"))
            count = length if averaged else 1.0
            reference = reference / count if ref else reference * 0.0
            scores.append(regularizer.score(logp / count, length=length, ref_logp=reference))
        return ipo_loss(*scores, beta=squared) if squared else pair_loss(*scores, **margin)

    return loss


def _swapped(loss: Callable[[Arrays], Array]) -> Callable[[Arrays], Array]:
    """Loss of the swapped pair under the same names. The margin keeps its sign, so this is the label-smoothing
    partner only for gamma = 0."""

    def other(arrays: Arrays) -> Array:
        names = {n: n.replace("chosen", "\0").replace("rejected", "chosen").replace("\0", "rejected") for n in arrays}
        return loss({names[name]: array for name, array in arrays.items()})

    return other


def _extras(subject: Subject) -> list[Term]:
    """Terms that ride along with a preference loss."""
    if subject.target.family is not PAIRS:
        return []

    def nll(side: str, mean: bool) -> Callable[[Arrays], Array]:
        def term(arrays: Arrays) -> Array:
            named = PAIRS.derive(arrays)
            logp = named[f"{side}_logp"]
            return -(logp / named[f"{side}_length"]) if mean else -logp

        return term

    extras = [
        (f"NLL of the {side} response ({'mean over' if mean else 'sum over'} tokens)", nll(side, mean))
        for side in ("chosen", "rejected")
        for mean in (True, False)
    ]
    return [*extras, ("a constant", lambda arrays: namespace(arrays["chosen_logps"]).ones_like(PAIRS.derive(arrays)["chosen_logp"]))]


def _ranking_mains(subject: Subject) -> list[Term]:
    """The listwise likelihood reversed, of other scores, and split into pairs."""
    options = {name: value for name, value in subject.target.options.items() if name in ("beta", "alpha")}
    strength = float(next(iter(options.values()), 1.0))
    found: list[Term] = []
    for name, option in (("simpo", "beta"), ("dpo", "beta"), ("maxent", "alpha")):
        listwise = make_objective(f"{name}-pl", **{option: strength})
        pairwise = make_objective(name, **{option: strength})
        for words, all_pairs, reverse in (
            (f"{name}-pl", False, False),
            (f"{name}-pl of the reversed ranking", False, True),
            (f"{name} on all pairs of the ranking, averaged", True, False),
        ):
            found.append((words, _ranked(pairwise if all_pairs else listwise, all_pairs, reverse)))
    return found


def _ranked(objective: Any, all_pairs: bool, reverse: bool) -> Callable[[Arrays], Array]:
    def loss(arrays: Arrays) -> Array:
        named = RANKINGS.derive(arrays)
        rewards = objective.rewards(named["logp"], length=named["length"], ref_logp=named["ref_logp"])
        xp, order = namespace(rewards), np.asarray(named["ranking"])
        order = order[:, ::-1] if reverse else order
        rows = [[rewards[b, int(k)] for k in row] for b, row in enumerate(order)]
        if not all_pairs:
            return objective.loss(xp.stack([xp.stack(row, axis=-1) for row in rows], axis=0))
        pairs = [[objective.loss(xp.stack(two, axis=-1)) for two in itertools.combinations(row, 2)] for row in rows]
        return xp.stack([sum(row[1:], start=row[0]) / len(row) for row in pairs], axis=0)

    return loss


def _advantages() -> list[tuple[str, Callable[[Array], Array]]]:
    return [
        ("leave-one-out", rloo_advantage),
        ("reward minus the group's mean, the sample's own included", group_mean),
        ("the group's mean subtracted, divided by its standard deviation (GRPO)", standardized),
        ("plain reward", lambda rewards: rewards),
    ]


def _policy_gradient_mains(subject: Subject) -> list[Term]:
    """REINFORCE with each advantage, on summed and on averaged log-probs."""

    def loss(advantage: Callable[[Array], Array], averaged: bool) -> Callable[[Arrays], Array]:
        def term(arrays: Arrays) -> Array:
            named = POLICY_GRADIENT.derive(arrays)
            count = named["length"] if averaged else 1.0
            return -by_group(named["rewards"], named["group"], advantage) * named["logp"] / count

        return term

    return [
        (f"policy gradient with {name}" + (", log-probs averaged over tokens" if averaged else ""), loss(f, averaged))
        for name, f in _advantages()
        for averaged in (False, True)
    ]


def _advantage_mains(subject: Subject) -> list[Term]:
    def term(advantage: Callable[[Array], Array]) -> Callable[[Arrays], Array]:
        return lambda arrays: by_group(arrays["rewards"], arrays["group"], advantage)

    return [(name, term(f)) for name, f in _advantages()]


def _kl_mains(subject: Subject) -> list[Term]:
    """The three estimators, of the whole response and token by token, and detached."""
    found: list[Term] = []
    for name, estimator in (("k1", kl_k1), ("k2", kl_k2), ("k3", kl_k3)):
        for words, term in (
            ("of whole responses", lambda a, f=estimator: f(KL_FAMILY.derive(a)["logp"], KL_FAMILY.derive(a)["ref_logp"])),
            ("summed over tokens", lambda a, f=estimator: masked_sum(f(a["logps"], a["ref_logps"]), a["mask"])),
            (
                "averaged over tokens",
                lambda a, f=estimator: masked_sum(f(a["logps"], a["ref_logps"]), a["mask"]) / KL_FAMILY.derive(a)["length"],
            ),
        ):
            found.append((f"{name} {words}", term))
    return found


def _entropy_mains(subject: Subject) -> list[Term]:
    """Entropies of the token distributions, and -log pi of the sample, which has no gradient in expectation."""

    def tokens(arrays: Arrays, averaged: bool) -> Array:
        named = ENTROPY.derive(arrays)
        total = masked_sum(token_entropies(named["logits"]), named["mask"])
        return total / named["length"] if averaged else total

    def sample(arrays: Arrays, averaged: bool) -> Array:
        named = ENTROPY.derive(arrays)
        return -named["logp"] / named["length"] if averaged else -named["logp"]

    return [
        ("entropy of the token distributions, averaged over tokens", lambda a: tokens(a, True)),
        ("entropy of the token distributions, summed over tokens", lambda a: tokens(a, False)),
        ("-log pi of the sample, averaged over tokens (no gradient in expectation)", lambda a: sample(a, True)),
        ("-log pi of the sample (no gradient in expectation)", lambda a: sample(a, False)),
    ]
