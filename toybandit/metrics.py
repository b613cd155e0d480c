"""What is measured of a policy in a world, and how it is summarized over seeds.

All values are exact sums over arms, averaged over the prompts of a seed; gains are differences from
the reference. docs/how-to/metrics.md explains each.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from derivations.preferences import bradley_terry
from derivations.retention import fit_retention
from toybandit.bandit import World


def wins_against_reference(world: World) -> np.ndarray:
    """P(arm is preferred to a draw of pi_ref) under gold Bradley-Terry: [seeds, prompts, arms]."""
    ref = np.exp(world.ref_logp)
    return np.stack(
        [
            np.einsum("xij,xj->xi", np.exp(bradley_terry(gold[:, :, None], gold[:, None, :])), q)
            for gold, q in zip(world.gold, ref, strict=True)  # seed by seed: arms^2 numbers per prompt
        ]
    )


def measure(world: World, proxy: np.ndarray, wins: np.ndarray, logp: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of a policy, one value per configuration and seed.

    Args:
        world: what is known exactly.
        proxy: the reward that was optimized, [seeds, prompts, arms], reward units.
        wins: of `wins_against_reference`, [seeds, prompts, arms].
        logp: log-probs of the policy, nats, normalized, [..., seeds, prompts, arms].

    Returns:
        Arrays [..., seeds]. proxy, gold: gains over the reference, reward units; win_rate: in [0, 1]; kl:
        KL(pi || pi_ref), kl_forward: KL(pi_ref || pi), entropy: nats; retention/kappa, retention/tau: see
        `derivations.retention`.
    """
    policy, ref, log_ratio = np.exp(logp), np.exp(world.ref_logp), logp - world.ref_logp
    fit = fit_retention(logp, world.ref_logp, proxy, errors=False)
    return {
        "proxy": _expect(policy - ref, proxy),
        "gold": _expect(policy - ref, world.gold),
        "win_rate": _expect(policy, wins),
        "kl": _expect(policy, log_ratio),
        "kl_forward": -_expect(ref, log_ratio),
        "entropy": -_expect(policy, logp),
        "retention/kappa": fit.kappa,
        "retention/tau": fit.tau,
    }


def _expect(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum over arms, mean over prompts: [..., prompts, arms] -> [...]."""
    return np.mean(np.sum(weights * values, axis=-1), axis=-1)


def mass_by_comparisons(logp: np.ndarray, comparisons: np.ndarray, edges: Sequence[int]) -> np.ndarray:
    """Mass of the policy on arms by number of comparisons, mean over prompts: [..., bins].

    Args:
        logp: of the policy, nats, [..., seeds, prompts, arms].
        comparisons: how often each arm was compared, [seeds, prompts, arms].
        edges: increasing, from 0; bin i holds the counts in [edges[i], edges[i + 1]), the last one all from there on.
    """
    policy, bounds = np.exp(logp), [*edges, np.inf]
    bins = [(comparisons >= low) & (comparisons < high) for low, high in itertools.pairwise(bounds)]
    return np.stack([np.mean(np.sum(policy * inside, axis=-1), axis=-1) for inside in bins], axis=-1)


def overoptimization(proxy: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the gold reward fell from its peak while the proxy still rose, and the plain fall; reward units.

    The fall is counted only if the proxy at the end is at least the proxy at the gold peak, else 0: a policy that
    drifts back to uniform loses gold, but by forgetting, not by overoptimizing.

    Args:
        proxy, gold: gains of one run, [times, ...], reward units.

    Returns:
        The fall that counts, and the plain fall of gold from its peak, [...] each.
    """
    peak = np.argmax(gold, axis=0)[None]
    fall = (np.take_along_axis(gold, peak, axis=0) - gold[-1:])[0]
    still_rising = proxy[-1] >= np.take_along_axis(proxy, peak, axis=0)[0]
    return np.where(still_rising, fall, 0.0), fall
