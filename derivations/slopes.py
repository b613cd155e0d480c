"""Slopes of the losses in the implicit rewards: what descent without automatic differentiation follows."""

from typing import Any

from derivations.arrays import Array, log_sigmoid, logsumexp, namespace


def pair_slope(chosen_reward: Array, rejected_reward: Array, *, gamma: Any = 0.0, label_smoothing: Any = 0.0) -> Array:
    """d `pair_loss` / d s_w, one value per pair; d / d s_l is its negative. Claim `loss-slopes`."""
    xp, margin = namespace(chosen_reward), chosen_reward - rejected_reward - gamma
    wrong, right = xp.exp(log_sigmoid(-margin)), xp.exp(log_sigmoid(margin))
    return label_smoothing * right - (1 - label_smoothing) * wrong


def ipo_slope(chosen_reward: Array, rejected_reward: Array, *, beta: Any) -> Array:
    """d `ipo_loss` / d s_w, one value per pair; d / d s_l is its negative. Claim `loss-slopes`."""
    return 2 * (chosen_reward - rejected_reward - 0.5) / beta**2


def ranking_slope(rewards: Array, *, top: int | None = None) -> Array:
    """d `ranking_loss` / d s_j: rewards [..., m], best first -> [..., m], rows that sum to 0. Claim `loss-slopes`.

    At each observed place the winner loses 1 minus its share among those still in the race, and the others gain
    their shares.
    """
    xp, m = namespace(rewards), rewards.shape[-1]
    places = m - 1 if top is None else top
    left = [logsumexp(rewards[..., k:], axis=-1) for k in range(places)]
    columns = []
    for j in range(m):
        shares = [xp.exp(rewards[..., j] - left[k]) for k in range(min(j + 1, places))]
        columns.append(sum(shares[1:], start=shares[0]) - (1 if j < places else 0))
    return xp.stack(columns, axis=-1)
