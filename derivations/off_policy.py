"""Policy-gradient losses of samples that another policy drew: PPO's clip, GRPO, GSPO, CISPO, and RLOO with a ratio.

All take log-probs of tokens, [..., T], of the policy that is trained and of the one that sampled (`old_logps`), a mask
that is true on the tokens of the response, and one advantage a sample, [...]. What a batch is divided by is a choice of
its own: `reduced`. Where the two policies agree every loss has REINFORCE's gradient, GSPO's over |y| (claim
`off-policy-at-ratio-one`).
"""

from typing import Any, Literal, get_args

from derivations.arrays import Array, masked_sum, namespace

Reduction = Literal["token-mean", "sequence-mean", "sum", "fixed"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def detached(array: Array) -> Array:
    """The array as a constant: without its history, where its library keeps one (torch)."""
    return array.detach() if hasattr(array, "detach") else array


def ratios(logps: Array, old_logps: Array, mask: Array) -> Array:
    """Ratio pi / pi_old of every token; 1 under a false mask, whatever stands there.

    Args:
        logps: [..., T], nats, of the policy that is trained.
        old_logps: [..., T], nats, of the policy that sampled.
        mask: [..., T], true on tokens of the response.

    Returns:
        [..., T], positive numbers.
    """
    xp = namespace(logps)
    # masked before it is exponentiated: exp(-inf - -inf) would be NaN in the gradient even under a `where`
    zero = xp.zeros_like(logps)
    return xp.exp(xp.where(mask, logps, zero) - xp.where(mask, old_logps, zero))


def sequence_ratios(logps: Array, old_logps: Array, mask: Array, *, per_token: bool) -> Array:
    """Ratio of whole responses, or its |y|-th root, the geometric mean of the token ratios.

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        per_token: take the root (GSPO, arXiv:2507.18071, eq. 7).

    Returns:
        [...], positive numbers.
    """
    xp = namespace(logps)
    log_ratio = masked_sum(logps, mask) - masked_sum(old_logps, mask)
    return xp.exp(log_ratio / _lengths(logps, mask) if per_token else log_ratio)


def clipped_surrogate(ratio: Array, advantages: Array, *, epsilon: Any, epsilon_high: Any = None) -> Array:
    """-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) (arXiv:1707.06347, eq. 7).

    Args:
        ratio: any shape, positive.
        advantages: reward units; shapes broadcast.
        epsilon: how far below 1 a ratio counts, in (0, 1).
        epsilon_high: how far above 1; None: as far as below (DAPO's clip-higher: arXiv:2503.14476, eq. 10).

    Returns:
        The loss, in the shape of the two, in reward units.
    """
    xp = namespace(ratio)
    return -xp.minimum(ratio * advantages, clip(ratio, epsilon, epsilon_high) * advantages)


def clip(ratio: Array, epsilon: Any, epsilon_high: Any = None) -> Array:
    """The ratio, not below 1 - epsilon and not above 1 + epsilon_high (None: epsilon)."""
    xp, one = namespace(ratio), namespace(ratio).zeros_like(ratio) + 1
    return xp.minimum(xp.maximum(ratio, one - epsilon), one + (epsilon if epsilon_high is None else epsilon_high))


def ppo_clip(
    logps: Array, old_logps: Array, mask: Array, advantages: Array, *, epsilon: Any = 0.2, epsilon_high: Any = None
) -> Array:
    """PPO's clipped loss of every token (arXiv:1707.06347, eq. 7): symmetric, or with a higher upper bound.

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        advantages: [...], reward units, one a sample, or [..., T], one a token.
        epsilon: lower half of the clip, in (0, 1). epsilon_high: the upper one; None: the same.

    Returns:
        [..., T], reward units, 0 under a false mask; `reduced` makes one number of it.
    """
    ratio, xp = ratios(logps, old_logps, mask), namespace(logps)
    each = advantages if advantages.ndim == logps.ndim else advantages[..., None]
    loss = clipped_surrogate(ratio, each, epsilon=epsilon, epsilon_high=epsilon_high)
    return xp.where(mask, loss, xp.zeros_like(loss))


def grpo(
    logps: Array,
    old_logps: Array,
    mask: Array,
    advantages: Array,
    *,
    epsilon: Any = 0.2,
    epsilon_high: Any = None,
    per_length: bool = True,
) -> Array:
    """GRPO's loss of every sample, without its KL term (arXiv:2402.03300, eq. 3).

    The 1/std is the advantage's: rewards minus their group's mean over its deviation (GRPO), or the mean alone
    (Dr. GRPO, arXiv:2503.20783). The 1/|y| is `per_length`.

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        advantages: [...], one a sample.
        epsilon: lower half of the clip, in (0, 1). epsilon_high: the upper one; None: the same.
        per_length: mean over the tokens of a response (GRPO); otherwise their sum (Dr. GRPO, up to its constant).

    Returns:
        [...], one loss a sample, reward units; their mean is the loss of the batch.
    """
    losses = ppo_clip(logps, old_logps, mask, advantages, epsilon=epsilon, epsilon_high=epsilon_high)
    return reduced(losses, mask, "sequence-mean" if per_length else "sum")


def gspo(
    logps: Array, old_logps: Array, mask: Array, advantages: Array, *, epsilon: Any = 3e-4, epsilon_high: Any = None
) -> Array:
    """GSPO's loss of every sample: the clip on the length-normalized ratio (arXiv:2507.18071, eq. 5 and 7).

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        advantages: [...], one a sample.
        epsilon: lower half of the clip; the paper takes 3e-4. epsilon_high: the upper one (there 4e-4); None: the same.

    Returns:
        [...], reward units; their mean is the loss of the batch.
    """
    ratio = sequence_ratios(logps, old_logps, mask, per_token=True)
    return clipped_surrogate(ratio, advantages, epsilon=epsilon, epsilon_high=epsilon_high)


def cispo(
    logps: Array, old_logps: Array, mask: Array, advantages: Array, *, epsilon: Any = 1.0, epsilon_high: Any = 4.0
) -> Array:
    """CISPO's loss of every token: REINFORCE weighted by the clipped ratio, held constant (arXiv:2506.13585, eq. 4).

    No token loses its gradient, as those outside of PPO's clip do.

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        advantages: [...], one a sample, or [..., T].
        epsilon: lower half of the clip; 1, the default, is none. epsilon_high: the upper one: weights end at
            1 + epsilon_high (TRL's epsilon_high is that bound itself).

    Returns:
        [..., T], reward units, 0 under a false mask; `reduced` makes one number of it.
    """
    xp = namespace(logps)
    weight = detached(clip(ratios(logps, old_logps, mask), epsilon, epsilon_high))
    each = advantages if advantages.ndim == logps.ndim else advantages[..., None]
    return -weight * each * xp.where(mask, logps, xp.zeros_like(logps))


def rloo_ratio(
    logps: Array, old_logps: Array, mask: Array, advantages: Array, *, epsilon: Any = None, epsilon_high: Any = None
) -> Array:
    """RLOO's loss of every sample with the ratio of whole responses: unbiased, or clipped as TRL's trainer does.

    Args:
        logps: [..., T], nats. old_logps: [..., T], nats. mask: [..., T].
        advantages: [...], leave-one-out (`objectives.rloo_advantage`).
        epsilon: None: importance sampling without a clip. A number: PPO's clip on the ratio of the response.
        epsilon_high: the upper half of the clip; None: the same as the lower one.

    Returns:
        [...], reward units; their mean is the loss of the batch.
    """
    ratio = sequence_ratios(logps, old_logps, mask, per_token=False)
    if epsilon is None:
        return -ratio * advantages
    return clipped_surrogate(ratio, advantages, epsilon=epsilon, epsilon_high=epsilon_high)


def reduced(losses: Array, mask: Array, reduction: Reduction, *, denominator: Any = None) -> Array:
    """What a batch of token losses is divided by, as one loss a sample whose mean is the loss of the batch.

    Args:
        losses: [..., T], 0 under a false mask. mask: [..., T].
        reduction: `token-mean`: over all tokens of the batch, the last axis but one (DAPO); `sequence-mean`: over each
            response's own (GRPO); `sum`: over nothing; `fixed`: over `denominator` (Dr. GRPO).
        denominator: of `fixed`, tokens a response.

    Returns:
        [...], reward units.

    Raises:
        ValueError: for an unknown reduction, or `fixed` without its denominator.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r} (known: {', '.join(REDUCTIONS)})")
    if reduction == "fixed" and denominator is None:
        raise ValueError("reduction fixed: give its denominator, the tokens a response is divided by")
    xp, lengths = namespace(losses), _lengths(losses, mask)
    total = xp.sum(losses, axis=-1)
    if reduction == "sum":
        return total
    if reduction == "fixed":
        return total / denominator
    return total / (lengths if reduction == "sequence-mean" else xp.mean(lengths, axis=-1, keepdims=True))


def _lengths(like: Array, mask: Array) -> Array:
    """Tokens of each response, in the floating type of `like`: [...]."""
    return masked_sum(namespace(like).zeros_like(like) + 1, mask)
