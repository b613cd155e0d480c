"""Objectives = regularizer x preference model: offline losses, online shaped rewards, metrics.

Offline: loss = -log P(observed preference | rewards = implicit reward of the policy). `pair_loss` and
`ranking_loss` are that sentence; `Objective` holds one choice of regularizer, preference model and
options (`derivations.names` makes it from a name). Online: the gradient of E_pi[r] - sum phi is
E_pi[(r - s) grad log pi], so `shaped_reward` is r - s.

All functions take log-probs summed over the tokens of a response (nats) and token counts, so length
normalization is visible; they return one value per example, which the caller reduces.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from derivations.arrays import Array, log_sigmoid, namespace
from derivations.preferences import plackett_luce, rao_kupper
from derivations.regularizers import KL, Entropy, LengthNormalized, Regularizer
from derivations.slopes import ipo_slope, pair_slope, ranking_slope


def pair_loss(chosen_reward: Array, rejected_reward: Array, *, gamma: Any = 0.0, label_smoothing: Any = 0.0) -> Array:
    """-(1 - eps) log sigmoid(m) - eps log sigmoid(-m), m = s_w - s_l - gamma, nats per pair. THEORY 2.3, 2.6, 3.1.

    Args:
        chosen_reward, rejected_reward: implicit rewards, reward units; shapes broadcast.
        gamma: margin >= 0, reward units: 0 is Bradley-Terry, more is the Rao-Kupper term of a decisive comparison (not
            gamma / beta, which some codes take).
        label_smoothing: eps in [0, 1/2), the assumed share of flipped labels. It flips the whole of m, margin included,
            as TRL does, so only for gamma = 0 is it the likelihood of a flipped label.

    >>> import numpy as np
    >>> pair_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])).round(4).tolist()
    [0.3133, 1.3133]
    """
    kept = rao_kupper(chosen_reward, rejected_reward, gamma=gamma)
    flipped = log_sigmoid(-(chosen_reward - rejected_reward - gamma))
    return -(1 - label_smoothing) * kept - label_smoothing * flipped


def ipo_loss(chosen_reward: Array, rejected_reward: Array, *, beta: Any) -> Array:
    """(h - 1 / (2 beta))^2, h = (s_w - s_l) / beta the difference of log-ratios (arXiv:2310.12036, eq. 17).

    Args:
        chosen_reward, rejected_reward: implicit rewards of KL, beta log pi/pi_ref, from log-probs *summed* over tokens
            (codes that average them compute another loss), reward units; shapes broadcast.
        beta: strength > 0, reward units per nat.

    Returns:
        The loss of each pair, nats squared.

    >>> import numpy as np
    >>> ipo_loss(np.array([0.5, 0.0]), np.array([0.0, 0.0]), beta=0.1).tolist()
    [0.0, 25.0]
    """
    return ((chosen_reward - rejected_reward - 0.5) / beta) ** 2


def ranking_loss(rewards: Array, *, top: int | None = None) -> Array:
    """-log P_Plackett-Luce(ranking). THEORY 2.8.

    Args:
        rewards: of the m >= 2 responses of a ranking, best first, [..., m], reward units.
        top: how many first places were observed, at most m - 1 (default: the whole ranking).

    Returns:
        The loss of each ranking, nats, [...].

    >>> import numpy as np
    >>> ranking_loss(np.zeros(4)).round(4) == np.log(24).round(4)
    np.True_
    """
    return -plackett_luce(rewards, top=top)


def maxent(chosen_logp: Array, rejected_logp: Array, *, alpha: Any) -> Array:
    """-log sigmoid(alpha log pi(w) - alpha log pi(l)): entropy with Bradley-Terry, reference-free. THEORY 2.3.

    Args:
        chosen_logp, rejected_logp: log-probs summed over tokens, nats.
        alpha: temperature > 0, reward units per nat.

    >>> import numpy as np
    >>> maxent(np.array([-20.0]), np.array([-30.0]), alpha=0.1).round(4).tolist()
    [0.3133]
    """
    regularizer = Entropy(alpha)
    return pair_loss(regularizer.implicit_reward(chosen_logp), regularizer.implicit_reward(rejected_logp))


def dpo(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """-log sigmoid(beta log pi/pi_ref(w) - beta log pi/pi_ref(l)): KL with Bradley-Terry (arXiv:2305.18290, eq. 7).

    Args:
        chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp: log-probs summed over tokens, nats.
        beta: strength > 0, reward units per nat.

    >>> import numpy as np
    >>> logp, ref_logp = np.array([[-20.0], [-30.0]]), np.array([[-25.0], [-25.0]])
    >>> dpo(*logp, ref_chosen_logp=ref_logp[0], ref_rejected_logp=ref_logp[1], beta=0.1).round(4).tolist()
    [0.3133]
    """
    regularizer = KL(beta)
    return pair_loss(
        regularizer.implicit_reward(chosen_logp, ref_logp=ref_chosen_logp),
        regularizer.implicit_reward(rejected_logp, ref_logp=ref_rejected_logp),
    )


def simpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
    gamma: Any = 0.0,
) -> Array:
    """-log sigmoid((beta/|w|) log pi(w) - (beta/|l|) log pi(l) - gamma)  (arXiv:2405.14734, eq. 6; THEORY 2.7).

    Args:
        chosen_logp, rejected_logp: log-probs summed over tokens, nats.
        chosen_length, rejected_length: of the responses, tokens.
        beta: strength > 0, reward units per nat.
        gamma: margin >= 0, reward units: codes that take gamma/beta = rho mean gamma = beta * rho here.

    >>> import numpy as np
    >>> chosen, rejected, lengths = np.array([-20.0]), np.array([-30.0]), np.array([10.0])
    >>> simpo(chosen, rejected, chosen_length=lengths, rejected_length=lengths, beta=1.0).round(4).tolist()
    [0.3133]
    """
    regularizer = LengthNormalized(beta)
    return pair_loss(
        regularizer.implicit_reward(chosen_logp, length=chosen_length),
        regularizer.implicit_reward(rejected_logp, length=rejected_length),
        gamma=gamma,
    )


@dataclass(frozen=True)
class Objective:
    """An offline objective as trainers hold it: which implicit reward, which preference model, which options.

    regularizer: gives the implicit reward. gamma: Rao-Kupper margin >= 0 (reward units; pairs only).
    label_smoothing: in [0, 1/2), pairs only. listwise: the examples are rankings (best first on the last
    axis) instead of pairs, of which the first `top` places were observed (None: all).
    least_squares: IPO's squared loss in place of the likelihood; needs one KL term as regularizer.
    """

    name: str
    regularizer: Regularizer
    gamma: float = 0.0
    label_smoothing: float = 0.0
    listwise: bool = False
    top: int | None = None
    least_squares: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"objective {self.name}: gamma is {self.gamma}, expected a finite margin >= 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"objective {self.name}: label_smoothing is {self.label_smoothing}, expected a share in [0, 1/2)"
            )
        if self.listwise and (self.gamma or self.label_smoothing or self.least_squares):
            raise ValueError(
                f"objective {self.name}: margin, label smoothing and ipo have no likelihood on rankings; "
                "leave them out or train on pairs"
            )
        if self.least_squares and not isinstance(self.regularizer, KL):
            raise ValueError(f"objective {self.name}: ipo needs KL as its regularizer, got {self.regularizer.name}")
        if self.top is not None and not (self.listwise and self.top >= 1):
            raise ValueError(f"objective {self.name}: top is {self.top}; it counts places of a ranking, 1 or more")

    def rewards(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """Implicit rewards without the constant, reward units; same shape as logp."""
        return self.regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)

    def loss(self, rewards: Array) -> Array:
        """Per-example loss from implicit rewards [..., m], preferred first (m = 2: chosen, rejected) -> [...]."""
        if self.listwise:
            return ranking_loss(rewards, top=self.top)
        if rewards.shape[-1] != 2:
            raise ValueError(f"objective {self.name} takes pairs; got {rewards.shape[-1]} responses per prompt")
        chosen, rejected = rewards[..., 0], rewards[..., 1]
        if self.least_squares and isinstance(self.regularizer, KL):
            return ipo_loss(chosen, rejected, beta=self.regularizer.coefficient)
        return pair_loss(chosen, rejected, gamma=self.gamma, label_smoothing=self.label_smoothing)

    def slope(self, rewards: Array) -> Array:
        """d loss / d reward of each response: [..., m], preferred first -> [..., m]; rows sum to 0."""
        if self.listwise:
            return ranking_slope(rewards, top=self.top)
        chosen, rejected = rewards[..., 0], rewards[..., 1]
        if self.least_squares and isinstance(self.regularizer, KL):
            slope = ipo_slope(chosen, rejected, beta=self.regularizer.coefficient)
        else:
            slope = pair_slope(chosen, rejected, gamma=self.gamma, label_smoothing=self.label_smoothing)
        return namespace(rewards).stack([slope, -slope], axis=-1)


def shaped_reward(
    reward: Array,
    logp: Array,
    *,
    regularizer: Regularizer,
    length: Array = None,
    ref_logp: Array = None,
) -> Array:
    """r - s(y), up to a constant: what policy gradient maximizes in place of r. THEORY 1 and 3.2.

    grad (E_pi[r] - sum phi) = E_pi[(r - s - b) grad log pi] for every b that does not depend on y, so the constant of
    s is left out. Detach the result before multiplying it with log-probs.

    Args:
        reward: what is paid for each response, reward units.
        logp, ref_logp: log-probs of policy and reference, summed over tokens, nats.
        regularizer: gives the implicit reward s.
        length: of the responses, tokens, for regularizers that need it.
    """
    return reward - regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)


def rloo_advantage(rewards: Array) -> Array:
    """Reward minus the mean reward of the other k - 1 samples of the same prompt (arXiv:2402.14740).

    Leave-one-out keeps the policy gradient unbiased; the plain group mean would shrink it by (k - 1)/k.

    Args:
        rewards: of k >= 2 samples per prompt, [..., k], reward units.

    Returns:
        The advantages, [..., k]; those of a prompt sum to 0.
    """
    xp = namespace(rewards)
    k = rewards.shape[-1]
    if k < 2:
        raise ValueError(f"rewards have {k} sample per prompt; leave-one-out needs k >= 2")
    return (rewards - xp.mean(rewards, axis=-1, keepdims=True)) * (k / (k - 1))


def kl_k1(logp: Array, ref_logp: Array) -> Array:
    """-log rho, rho = pi_ref / pi, of samples y ~ pi: unbiased for KL(pi || pi_ref), nats. THEORY 3.4."""
    return logp - ref_logp


def kl_k2(logp: Array, ref_logp: Array) -> Array:
    """(log rho)^2 / 2: a biased value, but differentiated directly it has the gradient of KL(pi || pi_ref)."""
    return (ref_logp - logp) ** 2 / 2


def kl_k3(logp: Array, ref_logp: Array) -> Array:
    """rho - 1 - log rho: unbiased for KL(pi || pi_ref), never negative (Schulman 2020)."""
    log_rho = ref_logp - logp
    return namespace(log_rho).expm1(log_rho) - log_rho


# What each estimator is for. In any other role it is wrong: k1 as a loss has zero expected gradient, k3 as a
# loss the gradient of the other KL, k3 as a reward that gradient subtracted from the right one.
KL_ESTIMATORS: dict[str, Callable[[Array, Array], Array]] = {"metric": kl_k3, "reward": kl_k1, "loss": kl_k2}


def kl_estimate(logp: Array, ref_logp: Array, *, role: str) -> Array:
    """KL(pi || pi_ref) from samples of pi, nats per sample, by the estimator that is right for its role.

    Args:
        logp, ref_logp: log-probs of the samples under policy and reference, nats.
        role: `metric` (logged: k3), `reward` (detached, subtracted from the reward: k1) or `loss` (differentiated
            through logp: k2).

    Raises:
        ValueError: another role.
    """
    if role not in KL_ESTIMATORS:
        raise ValueError(f"unknown role {role!r} (known: {', '.join(KL_ESTIMATORS)})")
    return KL_ESTIMATORS[role](logp, ref_logp)


def preference_metrics(
    chosen_reward: Array, rejected_reward: Array, chosen_logp: Array, rejected_logp: Array
) -> dict[str, Array]:
    """Per-pair metrics under TRL's names; average them over pairs to report.

    rewards/*: implicit rewards (reward units); rewards/margins: chosen minus rejected;
    rewards/accuracies: 1 if chosen is ahead, 1/2 on a tie, else 0; logps/*: summed log-probs (nats).
    """
    xp = namespace(chosen_reward)
    margin = chosen_reward - rejected_reward
    return {
        "rewards/chosen": chosen_reward,
        "rewards/rejected": rejected_reward,
        "rewards/margins": margin,
        "rewards/accuracies": (1 + xp.sign(margin)) / 2,
        "logps/chosen": chosen_logp,
        "logps/rejected": rejected_logp,
    }
