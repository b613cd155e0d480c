"""Proxy rewards: what the learner optimizes in place of the gold reward.

The choice of the proxy decides what an experiment shows, so it is always an argument. `exact` is the
gold reward itself (the control). `fitted` is a reward model: right where the preference data is, and
what its random initialization says where the data is not. Source: TOY, "Proxy rewards".
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import default_rng

from derivations.preferences import bradley_terry
from toybandit.bandit import Streams, World
from toybandit.data import Pairs

PROXIES = ("exact", "fitted")
GRADIENT_NORM = 1e-9  # of the MAP objective at its solution, reward units
MOST_STEPS = 100


def make_proxy(name: str, world: World, pairs: Pairs, streams: Sequence[Streams], *, prior_scale: float) -> np.ndarray:
    """Proxy reward [seeds, prompts, arms] by its name, one of PROXIES; prior_scale (>= 0) is for `fitted`."""
    if name == "exact":
        return world.gold
    if name == "fitted":
        return fitted_proxy(pairs, streams, prior_scale=prior_scale)
    raise ValueError(f"unknown proxy {name!r} (known: {', '.join(PROXIES)})")


def fitted_proxy(pairs: Pairs, streams: Sequence[Streams], *, prior_scale: float = 1.0) -> np.ndarray:
    """Bradley-Terry maximum a posteriori under the prior N(m_y, 1), m_y ~ N(0, prior_scale^2): [seeds, prompts, arms].

    prior_scale 1: a reward model that was randomly initialized and then fitted. prior_scale 0: the
    pessimistic control, which shrinks to 0 off the data.
    """
    wins = pairs.wins()
    means = np.stack([prior_scale * default_rng(stream.prior).standard_normal(wins.shape[1:3]) for stream in streams])
    # One solve a seed: a common stopping rule would let seeds change one another's last bits.
    return np.stack([map_rewards(*seed) for seed in zip(wins, means, strict=True)])


def map_rewards(wins: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The rewards r that minimize -log P_Bradley-Terry(wins | r) + |r - means|^2 / 2; unique, as this is convex.

    wins: [..., arms, arms], how often the row's arm was preferred to the column's; means: [..., arms],
    reward units. Returns [..., arms], where the gradient's norm is at most GRADIENT_NORM.

    Newton's method with step log(1 + d)/d, d the spread of the Newton direction: log sigmoid is
    generalized self-concordant, |f'''| <= f'', and this step then descends from any start without a
    line search and tends to 1 (Sun and Tran-Dinh, arXiv:1703.04599, nu = 2).
    """
    compared = wins + np.swapaxes(wins, -1, -2)
    rewards = means.copy()
    for _ in range(MOST_STEPS):
        probability = np.exp(bradley_terry(rewards[..., :, None], rewards[..., None, :]))
        gradient = rewards - means + np.sum(compared * probability - wins, axis=-1)
        if np.all(np.linalg.norm(gradient, axis=-1) <= GRADIENT_NORM):
            return rewards
        coupling = compared * probability * (1 - probability)
        curvature = 1 + np.sum(coupling, axis=-1)
        hessian = curvature[..., None] * np.eye(wins.shape[-1]) - coupling
        direction = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        spread = np.ptp(direction, axis=-1, keepdims=True)
        damping = np.divide(np.log1p(spread), spread, out=np.ones_like(spread), where=spread > 0)
        rewards = rewards - damping * direction
    raise RuntimeError(f"reward model not fitted after {MOST_STEPS} Newton steps; are all counts finite and >= 0?")


def pairwise_accuracy(world: World, proxy: np.ndarray) -> np.ndarray:
    """Probability that the proxy agrees with a fresh gold label of two different reference draws: [seeds].

    Exact: a sum over all pairs of arms, weighted by pi_ref of both; a tie of the proxy counts 1/2.
    """
    ref = np.exp(world.ref_logp)
    accuracy = np.empty(len(ref))
    for i, (gold, q, guess) in enumerate(zip(world.gold, ref, proxy, strict=True)):
        drawn = q[:, :, None] * q[:, None, :] * (1 - np.eye(q.shape[-1]))
        label = np.exp(bradley_terry(gold[:, :, None], gold[:, None, :]))
        agree = (1 + np.sign(guess[:, :, None] - guess[:, None, :])) / 2
        # Both orders of a pair are summed, and sign and label turn together: count each pair by its winner.
        accuracy[i] = np.mean(2 * np.sum(drawn * label * agree, axis=(1, 2)) / np.sum(drawn, axis=(1, 2)))
    return accuracy
