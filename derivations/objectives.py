"""Objectives = regularizer x preference model: offline losses, online shaped rewards, metrics.

Offline: loss = -log P(observed preference | rewards = implicit reward of the policy). `pair_loss` and
`ranking_loss` are that sentence; the named losses (`dpo`, `simpo`, `maxent` and the `_pl` forms) only
choose the regularizer and the margin. Online: the gradient of E_pi[r] - sum phi is
E_pi[(r - s) grad log pi], so `shaped_reward` is r - s.

All functions take log-probs summed over the tokens of a response (nats) and token counts, so length
normalization is visible; they return one value per example, which the caller reduces.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from derivations.arrays import Array, namespace
from derivations.preferences import plackett_luce, rao_kupper
from derivations.regularizers import KL, Entropy, LengthNormalized, Regularizer, Term, suggest


def pair_loss(chosen_reward: Array, rejected_reward: Array, *, gamma: Any = 0.0) -> Array:
    """-log sigmoid(s_w - s_l - gamma), one value per pair; gamma >= 0 in reward units.

    gamma = 0 is Bradley-Terry; gamma > 0 is the Rao-Kupper term of a decisive comparison (not
    gamma / beta, which some codes take). Shapes broadcast. Source: THEORY 2.3, 2.6.
    """
    return -rao_kupper(chosen_reward, rejected_reward, gamma=gamma)


def ranking_loss(rewards: Array, *, top: int | None = None) -> Array:
    """-log P_Plackett-Luce(ranking): rewards [..., m] ordered best to worst -> [...]. Source: THEORY 2.8."""
    return -plackett_luce(rewards, top=top)


def maxent(chosen_logp: Array, rejected_logp: Array, *, alpha: Any) -> Array:
    """-log sigmoid(alpha log pi(w) - alpha log pi(l)): entropy with Bradley-Terry, reference-free. THEORY 2.3."""
    regularizer = Entropy(alpha)
    return pair_loss(regularizer.score(chosen_logp), regularizer.score(rejected_logp))


def dpo(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """-log sigmoid(beta log pi/pi_ref(w) - beta log pi/pi_ref(l)): KL with Bradley-Terry (arXiv:2305.18290, eq. 7)."""
    regularizer = KL(beta)
    return pair_loss(
        regularizer.score(chosen_logp, ref_logp=ref_chosen_logp),
        regularizer.score(rejected_logp, ref_logp=ref_rejected_logp),
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
        regularizer.score(chosen_logp, length=chosen_length),
        regularizer.score(rejected_logp, length=rejected_length),
        gamma=gamma,
    )


def maxent_pl(logp: Array, *, alpha: Any, top: int | None = None) -> Array:
    """Plackett-Luce loss of entropy: logp [..., m], best first -> [...]. Two responses give `maxent`."""
    return ranking_loss(Entropy(alpha).score(logp), top=top)


def dpo_pl(logp: Array, *, ref_logp: Array, beta: Any, top: int | None = None) -> Array:
    """Plackett-Luce loss of KL: logp, ref_logp [..., m], best first -> [...]. Two responses give `dpo`."""
    return ranking_loss(KL(beta).score(logp, ref_logp=ref_logp), top=top)


def simpo_pl(logp: Array, *, length: Array, beta: Any, top: int | None = None) -> Array:
    """Plackett-Luce loss of length-normalized entropy: logp, length [..., m], best first -> [...]. No margin."""
    return ranking_loss(LengthNormalized(beta).score(logp, length=length), top=top)


@dataclass(frozen=True)
class Objective:
    """An offline objective as trainers hold it: which implicit reward, which preference model, which margin.

    regularizer: gives the implicit reward. gamma: Rao-Kupper margin >= 0 (reward units; pairs only).
    listwise: the examples are rankings (best first on the last axis) instead of pairs.
    """

    name: str
    regularizer: Regularizer
    gamma: float = 0.0
    listwise: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"objective {self.name}: gamma is {self.gamma}, expected a finite margin >= 0")
        if self.listwise and self.gamma:
            raise ValueError(f"objective {self.name}: a margin on rankings has no likelihood behind it; set gamma 0")

    def rewards(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """Implicit rewards without the constant, reward units; same shape as logp."""
        return self.regularizer.score(logp, length=length, ref_logp=ref_logp)

    def loss(self, rewards: Array) -> Array:
        """Per-example loss from implicit rewards [..., m], preferred first (m = 2: chosen, rejected) -> [...]."""
        if self.listwise:
            return ranking_loss(rewards)
        if rewards.shape[-1] != 2:
            raise ValueError(f"objective {self.name} takes pairs; got {rewards.shape[-1]} responses per prompt")
        return pair_loss(rewards[..., 0], rewards[..., 1], gamma=self.gamma)


# name -> (regularizer class, the option that is its strength, takes a margin, listwise)
OBJECTIVES: dict[str, tuple[type[Term], str, bool, bool]] = {
    "dpo": (KL, "beta", False, False),
    "simpo": (LengthNormalized, "beta", True, False),
    "maxent": (Entropy, "alpha", False, False),
    "dpo-pl": (KL, "beta", False, True),
    "simpo-pl": (LengthNormalized, "beta", False, True),
    "maxent-pl": (Entropy, "alpha", False, True),
}


def make_objective(
    name: str, *, alpha: float | None = None, beta: float | None = None, gamma: float | None = None
) -> Objective:
    """Objective by its command-line name with its options; options it does not take are refused.

    alpha (`maxent`): temperature; beta (the others): strength; both > 0. gamma (`simpo`): margin >= 0.
    Raises ValueError, with the mend, for an unknown name, a missing, superfluous or out-of-range option.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}{suggest(name, list(OBJECTIVES))}")
    regularizer, strength_name, takes_gamma, listwise = OBJECTIVES[name]
    options: Mapping[str, float | None] = {"alpha": alpha, "beta": beta, "gamma": gamma}
    allowed = {strength_name} | ({"gamma"} if takes_gamma else set())
    for option, value in options.items():
        if value is not None and option not in allowed:
            raise ValueError(f"objective {name} takes no {option} (it takes: {', '.join(sorted(allowed))})")
    strength = options[strength_name]
    if strength is None or not 0 < strength < float("inf"):
        raise ValueError(f"objective {name}: {strength_name} is {strength}, expected a number > 0")
    return Objective(name, regularizer(strength), gamma=gamma or 0.0, listwise=listwise)


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
    return reward - regularizer.score(logp, length=length, ref_logp=ref_logp)


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
