"""Slopes of `derivations.preference_losses` in log-probs: what descent without automatic differentiation follows.

Each function takes the arguments of the loss of its name and returns d loss / d chosen_logp and d loss / d
rejected_logp, one value a pair (`kto`: d loss / d logp, one value a response), loss units per nat. On a corner (of the
hinge, of DPO-Positive's penalty) a slope is half of the way between those of the two sides, as torch has it. Claim
`preference-loss-slopes`.
"""

from functools import partial
from typing import Any

from derivations import preference_losses
from derivations.arrays import Array, is_exact, namespace, sigmoid
from derivations.preference_losses import LEAST, log_odds, log_ratios
from derivations.regularizers import KL
from derivations.slopes import pair_slope

Slopes = tuple[Array, Array]


def orpo(
    chosen_logp: Array, rejected_logp: Array, *, chosen_length: Array, rejected_length: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.orpo`: the NLL pulls with 1/|w|, the odds with 1 / (|y| (1 - p)), p a mean."""
    chosen, rejected = chosen_logp / chosen_length, rejected_logp / rejected_length
    pull = beta * pair_slope(log_odds(chosen), log_odds(rejected))
    return (pull * _odds_slope(chosen) - 1) / chosen_length, -pull * _odds_slope(rejected) / rejected_length


def _odds_slope(logp: Array) -> Array:
    """d `log_odds` / d logp = 1 / (1 - p): [...] nats, below 0 -> [...]. From -1e-12 on the log-odds are held: 0."""
    xp = namespace(logp)
    if is_exact(xp):
        return -1 / xp.expm1(logp)
    end = xp.zeros_like(logp) - LEAST
    return xp.where(logp < end, -1 / xp.expm1(xp.minimum(logp, end)), xp.zeros_like(logp))


def kto(
    logp: Array,
    desirable: Array,
    *,
    ref_logp: Array,
    kl: Array,
    beta: Any,
    desirable_weight: Any = 1.0,
    undesirable_weight: Any = 1.0,
) -> Array:
    """Of `preference_losses.kto` with its reference point held constant: the nearer to that point, the harder."""
    pull = beta * _sigmoid_slope(KL(beta).implicit_reward(logp, ref_logp=ref_logp) - beta * kl)
    return namespace(logp).where(desirable, -desirable_weight * pull, undesirable_weight * pull)


def dpop(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    beta: Any,
    penalty: Any = 50.0,
) -> Slopes:
    """Of `preference_losses.dpop`: a chosen response below its reference pulls 1 + penalty times as hard."""
    lost = ref_chosen_logp - chosen_logp
    below = _above_zero(lost)
    margin = (rejected_logp - ref_rejected_logp) + lost + penalty * below * lost
    pull = beta * pair_slope(-beta * margin, 0.0)
    return pull * (1 + penalty * below), -pull


def _above_zero(x: Array) -> Array:
    """The slope of max(0, x): 1 above 0, 0 below, 1/2 at it."""
    return (1 + namespace(x).sign(x)) / 2


def apo_zero(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.apo_zero`: each response by itself."""
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    return -beta * _sigmoid_slope(chosen), beta * _sigmoid_slope(rejected)


def apo_down(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.apo_down`: at the reference the chosen response does not pull at all."""
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    apart = beta * _sigmoid_slope(rejected - chosen)
    return beta * _sigmoid_slope(chosen) - apart, apart


def _sigmoid_slope(x: Array) -> Array:
    """d sigmoid / d x."""
    return sigmoid(x) * sigmoid(-x)


def slic(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.slic`: beta while the margin is short of 1, then nothing."""
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    pull = beta * _above_zero(1 - (chosen - rejected))
    return -pull, pull


def chi_po(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.chi_po`: DPO's pull on the scores times beta (1 + pi/pi_ref) of each response."""
    score = partial(preference_losses.chi_po_score, beta=beta)
    pull = pair_slope(score(chosen_logp, ref_logp=ref_chosen_logp), score(rejected_logp, ref_logp=ref_rejected_logp))
    u, v = (namespace(chosen_logp).exp(h) for h in (chosen_logp - ref_chosen_logp, rejected_logp - ref_rejected_logp))
    return beta * pull * (1 + u), -(beta * pull * (1 + v))


def r_dpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
    alpha: Any,
) -> Slopes:
    """Of `preference_losses.r_dpo`: DPO's, at scores with the price of length."""
    score = partial(preference_losses.r_dpo_score, beta=beta, alpha=alpha)
    pull = beta * pair_slope(
        score(chosen_logp, length=chosen_length, ref_logp=ref_chosen_logp),
        score(rejected_logp, length=rejected_length, ref_logp=ref_rejected_logp),
    )
    return pull, -pull


def ln_dpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
) -> Slopes:
    """Of `preference_losses.ln_dpo`: beta/|y| of each response, so a short one moves more."""
    score = partial(preference_losses.ln_dpo_score, beta=beta)
    pull = beta * pair_slope(
        score(chosen_logp, length=chosen_length, ref_logp=ref_chosen_logp),
        score(rejected_logp, length=rejected_length, ref_logp=ref_rejected_logp),
    )
    return pull / chosen_length, -pull / rejected_length


def wpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
) -> Slopes:
    """Of `preference_losses.wpo` with its weight held constant: DPO's times the weight."""
    weight = namespace(chosen_logp).exp(chosen_logp / chosen_length + rejected_logp / rejected_length)
    pull = pair_slope(*log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta))
    return weight * beta * pull, -(weight * beta * pull)


def sppo(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Slopes:
    """Of `preference_losses.sppo`: each log-ratio is drawn to its own target, +-1/(2 beta), in proportion."""
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    return 2 * (chosen - 0.5) / beta, 2 * (rejected + 0.5) / beta
