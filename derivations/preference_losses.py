"""Preference losses that people ask for by name, beside those of `derivations.objectives`: the published formulas.

Log-probs are summed over the tokens of a response (nats), lengths count its tokens, and one value a pair comes back.
Which of them come from a regularizer, and so have a regularized optimum, and which do not, is in the claims of
`derivations.proofs.preference_losses`.
"""

from functools import partial
from typing import Any

from derivations.arrays import Array, log_sigmoid, namespace, sigmoid
from derivations.objectives import pair_loss
from derivations.off_policy import detached
from derivations.regularizers import KL

LEAST = 1e-12  # nats: a mean log-prob is kept this far below 0, where its odds are infinite


def orpo(chosen_logp: Array, rejected_logp: Array, *, chosen_length: Array, rejected_length: Array, beta: Any) -> Array:
    """NLL a token of the chosen response plus beta times -log sigmoid of the log-odds (arXiv:2403.07691, eq. 6 and 7).

    Args:
        chosen_logp: [...], nats. rejected_logp: [...], nats.
        chosen_length: [...], tokens. rejected_length: [...], tokens.
        beta: weight of the odds ratio (lambda in the paper), > 0.

    Returns:
        [...]. Finite also where a response is certain, whose odds are infinite: mean log-probs end at -1e-12.
    """
    chosen = chosen_logp / chosen_length
    odds = log_odds(chosen), log_odds(rejected_logp / rejected_length)
    return -chosen - beta * log_sigmoid(odds[0] - odds[1])


def log_odds(logp: Array) -> Array:
    """log(p / (1 - p)) of a log-probability: [...] nats, below 0 -> [...]."""
    xp = namespace(logp)
    if not getattr(xp, "is_exact", False):
        logp = xp.minimum(logp, xp.zeros_like(logp) - LEAST)
    return logp - xp.log(-xp.expm1(logp))


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
    """lambda (1 - sigmoid(+-(beta log pi/pi_ref - beta z))) of unpaired responses (arXiv:2402.01306).

    Args:
        logp: [...], nats. ref_logp: [...], nats.
        desirable: [...] bool.
        kl: the reference point z >= 0, nats, of the batch (or one a sample): a constant, and detached here.
        beta: > 0. desirable_weight, undesirable_weight: lambda_D and lambda_U, > 0.

    Returns:
        [...], between 0 and the weight.
    """
    xp = namespace(logp)
    lead = KL(beta).implicit_reward(logp, ref_logp=ref_logp) - beta * detached(kl)
    good, bad = desirable_weight * sigmoid(-lead), undesirable_weight * sigmoid(lead)
    return xp.where(desirable, good, bad)


def dpop(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    beta: Any,
    penalty: Any = 50.0,
) -> Array:
    """DPO-Positive: -log sigmoid(beta (h - penalty max(0, log pi_ref/pi (w)))) (arXiv:2402.13228).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp.
        beta: > 0. penalty: lambda, > 0: the paper takes 50.

    Returns:
        [...]. The penalty stands inside of the log-sigmoid, with beta before it.
    """
    xp = namespace(chosen_logp)
    lost = ref_chosen_logp - chosen_logp
    lost = xp.maximum(lost, xp.zeros_like(lost))
    ratios = (chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)
    return -log_sigmoid(beta * (ratios - penalty * lost))


def apo_zero(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """1 - sigmoid(s_w) + sigmoid(s_l), s = beta log pi/pi_ref: chosen up, rejected down (arXiv:2408.06266, eq. 7).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp. beta: > 0.

    Returns:
        [...], between 0 and 2.
    """
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    return sigmoid(-chosen) + sigmoid(rejected)


def apo_down(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """sigmoid(s_w) + 1 - sigmoid(s_w - s_l): both down, rejected further (arXiv:2408.06266, eq. 8).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp. beta: > 0.

    Returns:
        [...], between 0 and 2.
    """
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    return sigmoid(chosen) + sigmoid(rejected - chosen)


def slic(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """max(0, 1 - (s_w - s_l)), s = beta log pi/pi_ref: SLiC's hinge (arXiv:2305.10425), as in arXiv:2309.06657.

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp. beta: > 0 (gamma in RSO).

    Returns:
        [...], >= 0.
    """
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    short = 1 - (chosen - rejected)
    return namespace(short).maximum(short, namespace(short).zeros_like(short))


def chi_po(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """-log sigmoid(s_w - s_l) with s = beta (u + log u), u = pi/pi_ref: KL plus chi-squared (arXiv:2407.13399).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp. beta: > 0.

    Returns:
        [...]. Without the paper's clip of the margin at 2 R_max, which needs a bound on the reward.
    """
    score = partial(chi_po_score, beta=beta)
    return pair_loss(score(chosen_logp, ref_logp=ref_chosen_logp), score(rejected_logp, ref_logp=ref_rejected_logp))


def chi_po_score(logp: Array, *, ref_logp: Array, beta: Any) -> Array:
    """beta (u + log u), u = pi/pi_ref: the implicit reward of `chi_po`, [...] reward units."""
    return KL(beta).implicit_reward(logp, ref_logp=ref_logp) + beta * namespace(logp).exp(logp - ref_logp)


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
) -> Array:
    """-log sigmoid(s_w - s_l), s = beta log pi/pi_ref + alpha |y|: a price on length (arXiv:2403.19159).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp.
        chosen_length: [...], tokens. rejected_length: [...], tokens.
        beta: > 0. alpha: reward units a token, >= 0.

    Returns:
        [...]. What a longer response won by its length is taken for granted: it pulls less.
    """
    score = partial(r_dpo_score, beta=beta, alpha=alpha)
    return pair_loss(
        score(chosen_logp, length=chosen_length, ref_logp=ref_chosen_logp),
        score(rejected_logp, length=rejected_length, ref_logp=ref_rejected_logp),
    )


def r_dpo_score(logp: Array, *, length: Array, ref_logp: Array, beta: Any, alpha: Any) -> Array:
    """beta log pi/pi_ref + alpha |y|: the implicit reward of `r_dpo`, [...] reward units."""
    return KL(beta).implicit_reward(logp, ref_logp=ref_logp) + alpha * length


def ln_dpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
) -> Array:
    """-log sigmoid(s_w - s_l) with s = (beta/|y|) log pi/pi_ref: length-normalized DPO (arXiv:2411.15124).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp.
        chosen_length: [...], tokens. rejected_length: [...], tokens. beta: > 0.

    Returns:
        [...].
    """
    score = partial(ln_dpo_score, beta=beta)
    return pair_loss(
        score(chosen_logp, length=chosen_length, ref_logp=ref_chosen_logp),
        score(rejected_logp, length=rejected_length, ref_logp=ref_rejected_logp),
    )


def ln_dpo_score(logp: Array, *, length: Array, ref_logp: Array, beta: Any) -> Array:
    """(beta/|y|) log pi/pi_ref: the implicit reward of `ln_dpo`, [...] reward units."""
    return KL(beta).implicit_reward(logp, ref_logp=ref_logp) / length


def wpo(
    chosen_logp: Array,
    rejected_logp: Array,
    *,
    ref_chosen_logp: Array,
    ref_rejected_logp: Array,
    chosen_length: Array,
    rejected_length: Array,
    beta: Any,
) -> Array:
    """DPO's loss times exp(mean log pi(w)) exp(mean log pi(l)), held constant (arXiv:2406.11827, eq. 2).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp.
        chosen_length: [...], tokens. rejected_length: [...], tokens. beta: > 0.

    Returns:
        [...]. Without the paper's alignment of the weights, which needs the whole vocabulary's probabilities.
    """
    xp = namespace(chosen_logp)
    weight = detached(xp.exp(chosen_logp / chosen_length + rejected_logp / rejected_length))
    return weight * pair_loss(*log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta))


def sppo(
    chosen_logp: Array, rejected_logp: Array, *, ref_chosen_logp: Array, ref_rejected_logp: Array, beta: Any
) -> Array:
    """(log pi/pi_ref (w) - 1/(2 beta))^2 + (log pi/pi_ref (l) + 1/(2 beta))^2 (arXiv:2405.00675, eq. 4.7, hard labels).

    Args:
        chosen_logp: [...], nats; likewise rejected_logp, ref_chosen_logp, ref_rejected_logp. beta: > 0 (1/eta there).

    Returns:
        [...], nats squared.
    """
    chosen, rejected = log_ratios(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
    return ((chosen - 0.5) / beta) ** 2 + ((rejected + 0.5) / beta) ** 2


def log_ratios(
    chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array, beta: Any
) -> tuple[Array, Array]:
    """beta log pi/pi_ref of the two responses."""
    reward = KL(beta).implicit_reward
    return reward(chosen, ref_logp=ref_chosen), reward(rejected, ref_logp=ref_rejected)
