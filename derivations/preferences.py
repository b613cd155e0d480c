"""Preference models: log P(observed preference | rewards).

Each model depends on rewards only through differences within one prompt, so the per-prompt multiplier
of `derivations.regularizers` cancels and an implicit reward can stand in for the reward. Rewards are
dimensionless here (the logistic scale of Bradley-Terry is 1). Values are per example; the caller
reduces them.
"""

from typing import Any

from derivations.arrays import Array, log_sigmoid, logsumexp, namespace


def bradley_terry(chosen_reward: Array, rejected_reward: Array) -> Array:
    """log P(chosen > rejected) = log sigmoid(r_w - r_l)  (Bradley and Terry 1952). Shapes broadcast."""
    return log_sigmoid(chosen_reward - rejected_reward)


def rao_kupper(chosen_reward: Array, rejected_reward: Array, *, gamma: Any) -> Array:
    """log P(chosen > rejected) where ties may happen: log sigmoid(r_w - r_l - gamma)  (Rao and Kupper 1967).

    This is the term of one decisive comparison. It is the whole likelihood only if ties are kept as data and
    contribute `rao_kupper_tie` (claim `margin-discarded-ties`).

    Args:
        chosen_reward, rejected_reward: reward units; shapes broadcast.
        gamma: log theta >= 0, the tie threshold, reward units; 0 is Bradley-Terry.
    """
    return log_sigmoid(chosen_reward - rejected_reward - gamma)


def rao_kupper_tie(first_reward: Array, second_reward: Array, *, gamma: Any) -> Array:
    """log P(tie) = log[(theta^2 - 1) u v / ((u + theta v)(theta u + v))], u = e^{r_1}, v = e^{r_2}, theta = e^gamma.

    Computed as log(theta^2 - 1) + log P(first wins) + log P(second wins), which is the same number and finite for
    every finite reward.

    Args:
        first_reward, second_reward: reward units; shapes broadcast.
        gamma: > 0, reward units; at 0 ties have probability 0 and the value is -inf.
    """
    xp = namespace(first_reward, second_reward)
    width = xp.asarray(gamma, dtype=first_reward.dtype)
    log_theta2_minus_1 = 2 * width + xp.log(-xp.expm1(-2 * width))
    wins = rao_kupper(first_reward, second_reward, gamma=gamma)
    losses = rao_kupper(second_reward, first_reward, gamma=gamma)
    return log_theta2_minus_1 + wins + losses


def plackett_luce(rewards: Array, *, top: int | None = None) -> Array:
    """log P(ranking) = sum_k [s_k - log sum_{j >= k} e^{s_j}]  (Plackett 1975), best response first.

    Args:
        rewards: of the m >= 2 responses of a ranking, best first, [..., m], reward units.
        top: how many first places were observed, 1 to m - 1 (default: the whole ranking).

    Returns:
        The log-probability of each ranking, nats, [...]; for two responses that of `bradley_terry`.

    Raises:
        ValueError: fewer than two responses, or places that do not exist.
    """
    m = rewards.shape[-1]
    places = m - 1 if top is None else top
    if m < 2 or not 1 <= places <= m - 1:
        raise ValueError(f"a ranking of {m} responses with top={top}: need m >= 2 and 1 <= top <= m - 1")
    choices = [rewards[..., k] - logsumexp(rewards[..., k:], axis=-1) for k in range(places)]
    return sum(choices[1:], start=choices[0])
