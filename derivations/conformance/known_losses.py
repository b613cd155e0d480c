"""The named terms among which `conformance.identify` looks: objectives under every reading of their options.

Each term is built from the ground floor's own functions; a reading changes only which numbers go in.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.advantages import group_mean, standardized
from derivations.arrays import Array, masked_sum, namespace
from derivations.conformance.derived import Arrays, by_group
from derivations.conformance.families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    OFF_POLICY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    UNPAIRED,
)
from derivations.conformance.known_off_policy import off_policy_mains
from derivations.conformance.known_pairs import SWAPPED, Term, extra_terms, pair_mains
from derivations.conformance.known_rankings import SPOILED_RANKINGS
from derivations.conformance.known_unpaired import unpaired_mains
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.names import make_objective
from derivations.objectives import kl_k1, kl_k2, kl_k3, rloo_advantage
from derivations.off_policy import detached
from derivations.tokens import token_entropy

__all__ = ["SWAPPED", "extra_terms", "main_terms"]


def main_terms(subject: Subject) -> list[Term]:
    """The objective as named, then what else of its family the function might be."""
    makers = {
        PAIRS.name: pair_mains,
        RANKINGS.name: _ranking_mains,
        POLICY_GRADIENT.name: _policy_gradient_mains,
        ADVANTAGE.name: _advantage_mains,
        KL_FAMILY.name: _kl_mains,
        ENTROPY.name: _entropy_mains,
        OFF_POLICY.name: off_policy_mains,
        UNPAIRED.name: unpaired_mains,
    }
    named, options = f"{subject.target.name} as named", subject.target.options
    if subject.target.name in ("simpo", "simpo-shannon") and options.get("gamma"):
        named += f" (gamma/beta = {number(options['gamma'] / options['beta'])} nats a token)"
    return [(named, subject.target.losses), *makers[subject.target.family.name](subject)]


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
            *(
                (f"{name}-pl{words}", lambda a, o=listwise, s=spoiled: s(_scores_in_order(o, a)))
                for words, spoiled in SPOILED_RANKINGS.items()
            ),
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
            given = "advantages" in arrays and advantage is rloo_advantage
            advantages = named["advantages"] if given else by_group(named["rewards"], named["group"], advantage)
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
    estimators: list[tuple[str, Callable[[Array, Array], Array]]] = [("k1", kl_k1), ("k2", kl_k2), ("k3", kl_k3)]
    estimators.append(("k3 with policy and reference exchanged (pi/ref for ref/pi)", lambda p, q: kl_k3(q, p)))
    estimators.append(("k1 with policy and reference exchanged", lambda p, q: kl_k1(q, p)))
    estimators += [
        ("the absolute log-ratio", lambda p, q: _size(p - q)),
        ("the ratio times the log-ratio", lambda p, q: namespace(p).exp(p - q) * (p - q)),
        ("the detached ratio times the log-ratio", lambda p, q: detached(namespace(p).exp(p - q)) * (p - q)),
        ("the ratio minus 1", lambda p, q: namespace(p).expm1(p - q)),
        ("1 minus the inverse ratio", lambda p, q: -namespace(p).expm1(q - p)),
        ("the probability times the log-ratio", lambda p, q: namespace(p).exp(p) * (p - q)),
        ("the reference's probability times its log-ratio", lambda p, q: namespace(p).exp(q) * (q - p)),
        ("the difference of probabilities, squared", lambda p, q: (namespace(p).exp(p) - namespace(p).exp(q)) ** 2),
        ("the log-ratio where it is positive", lambda p, q: (p - q + _size(p - q)) / 2),
        ("minus log sigmoid of the log-ratio", lambda p, q: namespace(p).log1p(namespace(p).exp(q - p))),
        *(
            (f"k2 of the log-ratio clamped at {most:g}", lambda p, q, m=most: kl_k2(_clamped(p - q, m), 0 * p))
            for most in (0.5, 1.0)
        ),
        *((f"k1 clamped at {most:g}", lambda p, q, m=most: _clamped(p - q, m)) for most in (0.5, 1.0)),
    ]
    for name, estimator in estimators:
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


def _size(x: Array) -> Array:
    return namespace(x).abs(x)


def _clamped(x: Array, most: float) -> Array:
    return namespace(x).minimum(namespace(x).maximum(x, 0 * x - most), 0 * x + most)


def _detached(term: Callable[[Arrays], Array]) -> Callable[[Arrays], Array]:
    return lambda arrays: detached(term(arrays))


def _entropy_mains(subject: Subject) -> list[Term]:
    """Entropies of the token distributions, and -log pi of the sample, which has no gradient in expectation."""

    def tokens(arrays: Arrays, averaged: bool) -> Array:
        named = ENTROPY.derive(arrays)
        total = masked_sum(token_entropy(named["logits"]), named["mask"])
        return total / named["length"] if averaged else total

    def sample(arrays: Arrays, averaged: bool) -> Array:
        named = ENTROPY.derive(arrays)
        return -named["logp"] / named["length"] if averaged else -named["logp"]

    return [
        ("entropy of the token distributions, averaged over tokens", lambda a: tokens(a, True)),
        ("entropy of the token distributions, summed over tokens", lambda a: tokens(a, False)),
        ("-log pi of the sample, averaged over tokens (no gradient in expectation)", lambda a: sample(a, True)),
        ("-log pi of the sample (no gradient in expectation)", lambda a: sample(a, False)),
        ("half the squared log pi of the sample, over its length", lambda a: sample(a, False) * sample(a, True) / 2),
        ("half the squared mean log pi of the sample", lambda a: sample(a, True) ** 2 / 2),
    ]
