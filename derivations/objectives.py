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

from derivations.arrays import Array, log_sigmoid, logsumexp, namespace
from derivations.preferences import plackett_luce, rao_kupper
from derivations.regularizers import (
    KL,
    Entropy,
    LengthNormalized,
    Regularizer,
)


def pair_loss(chosen_reward: Array, rejected_reward: Array, *, gamma: Any = 0.0, label_smoothing: Any = 0.0) -> Array:
    """-(1 - eps) log sigmoid(m) - eps log sigmoid(-m) with m = s_w - s_l - gamma, one value per pair.

    gamma >= 0 in reward units: 0 is Bradley-Terry, more is the Rao-Kupper term of a decisive comparison
    (not gamma / beta, which some codes take). label_smoothing: eps in [0, 1/2), the assumed share of
    flipped labels; it flips the whole of m, margin included, as TRL does, so only for gamma = 0 is it
    the likelihood of a flipped label. Shapes broadcast. Source: THEORY 2.3, 2.6, 3.1.
    """
    kept = rao_kupper(chosen_reward, rejected_reward, gamma=gamma)
    flipped = log_sigmoid(-(chosen_reward - rejected_reward - gamma))
    return -(1 - label_smoothing) * kept - label_smoothing * flipped


def ipo_loss(chosen_reward: Array, rejected_reward: Array, *, beta: Any) -> Array:
    """(h - 1 / (2 beta))^2, h = (s_w - s_l) / beta the difference of log-ratios (arXiv:2310.12036, eq. 17).

    chosen_reward, rejected_reward: implicit rewards of KL, beta log pi/pi_ref, from log-probs *summed*
    over tokens (codes that average them compute another loss). In nats squared. Shapes broadcast.
    """
    return ((chosen_reward - rejected_reward - 0.5) / beta) ** 2


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


def ranking_loss(rewards: Array, *, top: int | None = None) -> Array:
    """-log P_Plackett-Luce(ranking): rewards [..., m] ordered best to worst -> [...]. Source: THEORY 2.8."""
    return -plackett_luce(rewards, top=top)


def maxent(chosen_logp: Array, rejected_logp: Array, *, alpha: Any) -> Array:
    """-log sigmoid(alpha log pi(w) - alpha log pi(l)): entropy with Bradley-Terry, reference-free. THEORY 2.3."""
    regularizer = Entropy(alpha)
    return pair_loss(regularizer.implicit_reward(chosen_logp), regularizer.implicit_reward(rejected_logp))


def dpo(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """-log sigmoid(beta log pi/pi_ref(w) - beta log pi/pi_ref(l)): KL with Bradley-Terry (arXiv:2305.18290, eq. 7)."""
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

    gamma in reward units: codes that take gamma/beta = rho mean gamma = beta * rho here.
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

    grad (E_pi[r] - sum phi) = E_pi[(r - s - b) grad log pi] for every b that does not depend on y, so
    the constant of s is left out. Detach the result before multiplying it with log-probs.
    """
    return reward - regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)


def rloo_advantage(rewards: Array) -> Array:
    """Reward minus the mean reward of the other k - 1 samples of the same prompt (arXiv:2402.14740).

    rewards: [..., k], k >= 2 samples per prompt -> [..., k]. Leave-one-out keeps the policy gradient
    unbiased; the plain group mean would shrink it by (k - 1)/k. Advantages of a prompt sum to 0.
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
    """KL(pi || pi_ref) from samples of pi, one value a sample, by the estimator that is right for its role.

    role: `metric` (logged: k3), `reward` (detached, subtracted from the reward: k1) or `loss`
    (differentiated directly, by automatic differentiation through logp: k2). Raises ValueError otherwise.
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
