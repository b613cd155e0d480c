"""Proxy rewards: what the learner optimizes in place of the gold reward.

The choice of the proxy decides what an experiment shows, so it is always an argument. `exact` is the
gold reward itself (the control). `fitted` is a reward model: right where the preference data is, and
what its random initialization says where the data is not.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import default_rng

from derivations.preferences import bradley_terry
from toybandit.bandit import Streams, World
from toybandit.data import Rankings

PROXIES = ("exact", "iid", "fitted", "linear", "heavy-tailed")
RIDGE = 0.3  # of the linear reward model
DEGREES = 2  # of freedom of the heavy-tailed noise: its variance is infinite
GRADIENT_NORM = 1e-9  # of the MAP objective at its solution, reward units
MOST_STEPS = 100


def make_proxy(
    name: str,
    world: World,
    pairs: Rankings,
    streams: Sequence[Streams],
    *,
    prior_scale: float = 1.0,
    noise: float = 1.0,
    pessimism: float = 0.0,
) -> np.ndarray:
    """Proxy reward by its name.

    Args:
        name: one of PROXIES.
        world: with the gold reward.
        pairs: what `fitted` and `linear` learn from.
        streams: one per seed.
        prior_scale: of `fitted`, spread of its random initialization, >= 0, reward units.
        noise: multiplies the standard normal of `iid` and the Student t of `heavy-tailed`, >= 0, reward units.
        pessimism: of `fitted`, standard errors taken off, >= 0.

    Returns:
        Rewards [seeds, prompts, arms], reward units.

    Raises:
        ValueError: an unknown name, or pessimism without standard errors.
    """
    if pessimism and name != "fitted":
        raise ValueError(f"pessimism needs the standard errors of a fitted proxy; {name} has none")
    if name == "exact":
        return world.gold
    if name == "fitted":
        return fitted_proxy(pairs, streams, prior_scale=prior_scale, pessimism=pessimism)
    if name == "linear":
        return linear_proxy(world, pairs)
    if name in ("iid", "heavy-tailed"):
        return world.gold + noise * _noise(name, streams, world.gold.shape[1:])
    raise ValueError(f"unknown proxy {name!r} (known: {', '.join(PROXIES)})")


def _noise(name: str, streams: Sequence[Streams], shape: tuple[int, ...]) -> np.ndarray:
    generators = [default_rng(stream.prior) for stream in streams]
    if name == "iid":
        return np.stack([rng.standard_normal(shape) for rng in generators])
    return np.stack([rng.standard_t(DEGREES, shape) for rng in generators])


def fitted_proxy(
    pairs: Rankings, streams: Sequence[Streams], *, prior_scale: float = 1.0, pessimism: float = 0.0
) -> np.ndarray:
    """Bradley-Terry maximum a posteriori under the prior N(m_y, 1), m_y ~ N(0, prior_scale^2): [seeds, prompts, arms].

    prior_scale 1: a reward model that was randomly initialized and then fitted. prior_scale 0: the
    control, which shrinks to 0 off the data. pessimism: how many posterior standard errors are taken off.
    """
    wins = pairs.wins()
    means = np.stack([prior_scale * default_rng(stream.prior).standard_normal(wins.shape[1:3]) for stream in streams])
    # One solve per seed: a common stopping rule would let seeds change one another's last bits.
    fitted = np.stack([map_rewards(*seed) for seed in zip(wins, means, strict=True)])
    return fitted - pessimism * standard_errors(wins, fitted) if pessimism else fitted


def map_rewards(wins: np.ndarray, means: np.ndarray, *, precision: float = 1.0) -> np.ndarray:
    """The r that minimize -log P_Bradley-Terry(wins | r) + precision |r - means|^2 / 2; unique, as this is convex.

    wins: [..., arms, arms], how often the row's arm was preferred to the column's; means: [..., arms],
    reward units; precision > 0. Returns [..., arms], where the gradient's norm is at most GRADIENT_NORM.
    """

    def derivatives(rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope = precision * (rewards - means) + _pair_slope(wins, rewards)
        return slope, _hessian(wins, rewards, precision)

    return _newton(means, derivatives, lambda direction: np.ptp(direction, axis=-1, keepdims=True))


def standard_errors(wins: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Posterior standard deviations of fitted rewards, [..., arms]: Laplace's, from the inverse of the Hessian."""
    inverse = np.linalg.inv(_hessian(wins, rewards, 1.0))
    return np.sqrt(np.diagonal(inverse, axis1=-2, axis2=-1))


def linear_proxy(world: World, pairs: Rankings) -> np.ndarray:
    """Bradley-Terry reward features.theta, theta by ridge (precision 0.3) on the pairs of all prompts of a seed."""
    if world.features is None:
        raise ValueError("proxy linear needs features; use --world shared")
    return np.stack(
        [features @ _linear_fit(features, wins) for features, wins in zip(world.features, pairs.wins(), strict=True)]
    )


def _linear_fit(features: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Weights [d] of features [prompts, arms, d] from wins [prompts, arms, arms]."""
    d = features.shape[-1]

    def derivatives(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rewards = features @ theta
        slope = RIDGE * theta + np.einsum("xa,xad->d", _pair_slope(wins, rewards), features)
        hessian = np.einsum("xad,xab,xbe->de", features, _hessian(wins, rewards, 0.0), features, optimize=True)
        return slope, RIDGE * np.eye(d) + hessian

    return _newton(
        np.zeros(d), derivatives, lambda direction: np.max(np.ptp(features @ direction, axis=-1), keepdims=True)
    )


def _pair_slope(wins: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Gradient of -log P(wins | rewards) in the rewards, [..., arms]."""
    compared = wins + np.swapaxes(wins, -1, -2)
    probability = np.exp(bradley_terry(rewards[..., :, None], rewards[..., None, :]))
    return np.sum(compared * probability - wins, axis=-1)


def _hessian(wins: np.ndarray, rewards: np.ndarray, precision: float) -> np.ndarray:
    """Second derivatives of the same plus precision times the identity, [..., arms, arms]."""
    compared = wins + np.swapaxes(wins, -1, -2)
    probability = np.exp(bradley_terry(rewards[..., :, None], rewards[..., None, :]))
    coupling = compared * probability * (1 - probability)
    return (precision + np.sum(coupling, axis=-1))[..., None] * np.eye(wins.shape[-1]) - coupling


def _newton(
    start: np.ndarray,
    derivatives: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    spread_of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Minimum of a penalized Bradley-Terry likelihood by Newton's method with step log(1 + d) / d.

    d is the largest change of a reward difference that the Newton direction asks for: log sigmoid is
    generalized self-concordant, |f'''| <= f'', and this step then descends from any start without a
    line search and tends to 1 (Sun and Tran-Dinh, arXiv:1703.04599, nu = 2).
    """
    point = start.copy()
    for _ in range(MOST_STEPS):
        gradient, hessian = derivatives(point)
        if np.all(np.linalg.norm(gradient, axis=-1) <= GRADIENT_NORM):
            return point
        direction = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        spread = spread_of(direction)
        damping = np.divide(np.log1p(spread), spread, out=np.ones_like(spread), where=spread > 0)
        point = point - damping * direction
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
