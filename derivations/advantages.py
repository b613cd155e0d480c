"""Advantages from the rewards of several samples of one prompt, beside `derivations.objectives.rloo_advantage`."""

from derivations.arrays import Array, namespace
from derivations.objectives import rloo_advantage


def group_mean(rewards: Array) -> Array:
    """Reward minus the mean of its group, its own included: (k - 1)/k of the leave-one-out advantage.

    Args:
        rewards: of k >= 2 samples per prompt, [..., k], reward units.

    Returns:
        The advantages, [..., k], which sum to 0. Claim `group-mean-shrinks`.

    >>> import numpy as np
    >>> group_mean(np.array([1.0, 2.0, 6.0])).tolist()
    [-2.0, -1.0, 3.0]
    """
    k = rewards.shape[-1]
    return rloo_advantage(rewards) * ((k - 1) / k)


def standardized(rewards: Array, *, epsilon: float = 1e-4, population: bool = False) -> Array:
    """GRPO's advantage: `group_mean` over the standard deviation of the group (arXiv:2402.03300).

    Args:
        rewards: of k >= 2 samples per prompt, [..., k], reward units.
        epsilon: added to the deviation, reward units; 1e-4 as in TRL.
        population: divide the sum of squares by k; otherwise by k - 1, as TRL does.

    Returns:
        The advantages, [..., k], without a unit. Claim `group-mean-shrinks`.
    """
    centred, k = group_mean(rewards), rewards.shape[-1]
    variance = namespace(rewards).sum(centred**2, axis=-1, keepdims=True) / (k if population else k - 1)
    return centred / (variance**0.5 + epsilon)
