"""The named terms among which `conformance.identify` looks: objectives under every reading of their options.

Each term is built from the ground floor's own functions; a reading changes only which numbers go in.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.arrays import Array, masked_sum, namespace
from derivations.conformance.contracts import group_mean, standardized, token_entropies
from derivations.conformance.families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    OFF_POLICY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    UNPAIRED,
    Arrays,
    by_group,
)
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.names import make_objective
from derivations.objectives import ipo_loss, kl_k1, kl_k2, kl_k3, pair_loss, rloo_advantage
from derivations.off_policy import detached
from derivations.regularizers import KL, LengthNormalized

Term = tuple[str, Callable[[Arrays], Array]]
SWAPPED = ", chosen and rejected swapped"


def main_terms(subject: Subject) -> list[Term]:
    """The objective as named, then what else of its family the function might be."""
    makers = {
        PAIRS.name: _pair_mains,
        RANKINGS.name: _ranking_mains,
        POLICY_GRADIENT.name: _policy_gradient_mains,
        ADVANTAGE.name: _advantage_mains,
        KL_FAMILY.name: _kl_mains,
        ENTROPY.name: _entropy_mains,
        OFF_POLICY.name: lambda _: [],
        UNPAIRED.name: lambda _: [],
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
            (
                "MaxEnt (CPO's contrastive part)" + words,
                _pair(make_objective("maxent", alpha=beta).regularizer, margin),
            ),
            ("SimPO-Shannon" + words, _pair(make_objective("simpo-shannon", beta=beta).regularizer, margin)),
            ("length-averaged DPO" + words, _pair(KL(beta), margin, averaged=True)),
        ]
        if gamma == 0:
            scored += [
                ("IPO" + words, _pair(KL(beta), {}, squared=beta)),
                ("IPO of length-averaged log-probs" + words, _pair(KL(beta), {}, squared=beta, averaged=True)),
            ]
        found += scored
        found += [(f"{name}{SWAPPED}", _swapped(f)) for name, f in scored if "IPO" not in name]
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
            scores.append(regularizer.implicit_reward(logp / count, length=length, ref_logp=reference))
        return ipo_loss(*scores, beta=squared) if squared else pair_loss(*scores, **margin)

    return loss


def _swapped(loss: Callable[[Arrays], Array]) -> Callable[[Arrays], Array]:
    """Loss of the swapped pair under the same names. The margin keeps its sign, so this is the label-smoothing
    partner only for gamma = 0."""

    def other(arrays: Arrays) -> Array:
        names = {n: n.replace("chosen", "\0").replace("rejected", "chosen").replace("\0", "rejected") for n in arrays}
        return loss({names[name]: array for name, array in arrays.items()})

    return other


def extra_terms(subject: Subject) -> list[Term]:
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
    return [
        *extras,
        ("a constant", lambda arrays: namespace(arrays["chosen_logps"]).ones_like(PAIRS.derive(arrays)["chosen_logp"])),
    ]


def _ranking_mains(subject: Subject) -> list[Term]:
    """The listwise likelihood reversed, of other scores, and split into pairs."""
    options = {name: value for name, value in subject.target.options.items() if name in ("beta", "alpha")}
    strength = float(next(iter(options.values()), 1.0))
    found: list[Term] = []
    for name, option in (("simpo", "beta"), ("dpo", "beta"), ("maxent", "alpha")):
        listwise = make_objective(f"{name}-pl", **{option: strength})
        pairwise = make_objective(name, **{option: strength})
        found += [
            (f"{name}-pl" + (" of all places" if subject.target.options.get("top") else ""), _ranked(listwise)),
            (f"{name}-pl of the reversed ranking", _ranked(listwise, reverse=True)),
            (f"{name} on all pairs of the ranking, summed", _split(pairwise, averaged=False)),
            (f"{name} on all pairs of the ranking, averaged", _split(pairwise, averaged=True)),
        ]
    return found


def _scores_in_order(objective: Any, arrays: Arrays, *, reverse: bool = False) -> list[list[Array]]:
    """Implicit rewards of each ranking, best response first."""
    named = RANKINGS.derive(arrays)
    rewards = objective.rewards(named["logp"], length=named["length"], ref_logp=named["ref_logp"])
    order = np.asarray(named["ranking"])[:, :: -1 if reverse else 1]
    return [[rewards[b, int(k)] for k in row] for b, row in enumerate(order)]


def _ranked(objective: Any, *, reverse: bool = False) -> Callable[[Arrays], Array]:
    def loss(arrays: Arrays) -> Array:
        rows = _scores_in_order(objective, arrays, reverse=reverse)
        xp = namespace(rows[0][0])
        return objective.loss(xp.stack([xp.stack(row, axis=-1) for row in rows], axis=0))

    return loss


def _split(objective: Any, *, averaged: bool) -> Callable[[Arrays], Array]:
    """A pair loss on every pair of a ranking: what splitting a ranking into pairs trains."""

    def loss(arrays: Arrays) -> Array:
        rows = _scores_in_order(objective, arrays)
        xp = namespace(rows[0][0])
        pairs = [[objective.loss(xp.stack(two, axis=-1)) for two in itertools.combinations(row, 2)] for row in rows]
        return xp.stack([sum(row[1:], start=row[0]) / (len(row) if averaged else 1) for row in pairs], axis=0)

    return loss


def _advantages() -> list[tuple[str, Callable[[Array], Array]]]:
    return [
        ("leave-one-out", rloo_advantage),
        ("reward minus the group's mean, the sample's own included", group_mean),
        *(
            (
                f"the group's mean subtracted, divided by its {words} standard deviation + {epsilon:g} (GRPO)",
                functools.partial(standardized, epsilon=epsilon, population=words == "population"),
            )
            for words in ("sample", "population")
            for epsilon in (1e-4, 1e-5, 1e-6, 1e-8)
        ),
        ("plain reward", lambda rewards: rewards),
    ]


def _policy_gradient_mains(subject: Subject) -> list[Term]:
    """REINFORCE with each advantage and each way to weigh the log-probs of tokens."""
    weights: list[tuple[str, Callable[[Array], Any]]] = [
        ("", lambda length: 1.0),
        (", log-probs averaged over tokens", lambda length: 1 / length),
        (", averaged over all tokens of the batch", lambda length: length.shape[0] / length.sum()),
        (", summed over samples", lambda length: length.shape[0]),
    ]

    def loss(advantage: Callable[[Array], Array], weight: Callable[[Array], Any]) -> Callable[[Arrays], Array]:
        def term(arrays: Arrays) -> Array:
            named = POLICY_GRADIENT.derive(arrays)
            advantages = by_group(named["rewards"], named["group"], advantage)
            return -advantages * named["logp"] * weight(named["length"])

        return term

    return [(f"policy gradient with {name}{words}", loss(f, w)) for name, f in _advantages() for words, w in weights]


def _advantage_mains(subject: Subject) -> list[Term]:
    def term(advantage: Callable[[Array], Array]) -> Callable[[Arrays], Array]:
        return lambda arrays: by_group(arrays["rewards"], arrays["group"], advantage)

    return [(name, term(f)) for name, f in _advantages()]


def _kl_mains(subject: Subject) -> list[Term]:
    """The three estimators, of the whole response and token by token, and detached."""
    found: list[Term] = []
    for name, estimator in (("k1", kl_k1), ("k2", kl_k2), ("k3", kl_k3)):
        for words, term in (
            (
                "of whole responses",
                lambda a, f=estimator: f(KL_FAMILY.derive(a)["logp"], KL_FAMILY.derive(a)["ref_logp"]),
            ),
            ("summed over tokens", lambda a, f=estimator: masked_sum(f(a["logps"], a["ref_logps"]), a["mask"])),
            (
                "averaged over tokens",
                lambda a, f=estimator: (
                    masked_sum(f(a["logps"], a["ref_logps"]), a["mask"]) / KL_FAMILY.derive(a)["length"]
                ),
            ),
        ):
            found.append((f"{name} {words}", term))
    return found + [(f"{name}, detached", _detached(term)) for name, term in found]


def _detached(term: Callable[[Arrays], Array]) -> Callable[[Arrays], Array]:
    return lambda arrays: detached(term(arrays))


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
