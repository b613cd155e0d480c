"""The exact optimum of E_pi[r] - sum_y phi_y(pi(y)), for any regularizer: one number per prompt to solve for.

The optimum satisfies r(y) = s_y(pi(y)) + lambda (THEORY 1). s_y is increasing, so pi(y) is a decreasing
function of lambda, and sum_y pi(y) = 1 fixes lambda. Both sides of that root are known beforehand: at
lambda = max_y [r - s_y(1)] some arm alone has probability 1, at max_y [r - s_y(1/K)] no arm has more
than 1/K. The unknown is the distance from the first of them: an arm that the reference all but excludes
can hold it at 1e-18 or less, which added to lambda would be lost. Where s is affine in log pi with one
slope per prompt (entropy, KL, their sum) there is a closed form.
"""

from collections.abc import Callable

import numpy as np

from derivations.arrays import log_softmax, logsumexp
from derivations.regularizers import Regularizer

Function = Callable[[np.ndarray], np.ndarray]

FAR = 2.0**20  # nats; an optimum with a log-probability below -FAR is out of reach
HALVINGS = 80  # of an interval of at most FAR nats: down to round-off
MOST_ITERATIONS = 200
MASS_ERROR = 1e-10  # of log sum pi, relative error of a probability
ROUND_OFF = 1e-8  # of the same, where no float between the ends of the bracket is left
NEAREST = 1e-290  # reward units; the multiplier is sought at this distance from its bound or farther


def optimum(
    reward: np.ndarray,
    *,
    regularizer: Regularizer,
    length: np.ndarray | None = None,
    ref_logp: np.ndarray | None = None,
) -> np.ndarray:
    """The one maximizer of E_pi[reward] - sum phi.

    Args:
        reward: [..., arms], finite, reward units.
        regularizer: with a barrier at probability 0, as every coefficient > 0 gives.
        length, ref_logp: of the responses and of the reference (nats), [..., arms], where the regularizer needs them.

    Returns:
        Log-probs of the optimum, nats, [..., arms].

    Raises:
        ValueError: no barrier (every coefficient 0, or `none`), a reward that is not finite, or an optimum that leaves
            the range of numbers.
    """
    if not np.all(np.isfinite(reward)):
        raise ValueError("the reward is NaN or infinite for some arm; the optimum needs finite rewards")
    whole = np.shape(regularizer.implicit_reward(np.zeros(np.shape(reward)), length=length, ref_logp=ref_logp))
    reward, zeros = np.broadcast_to(np.asarray(reward, dtype=float), whole), np.zeros(whole)

    def score(logp: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # forward KL at a vanishing probability is -inf, and rightly so
            return regularizer.below_top(zeros + logp, length=length, ref_logp=ref_logp)

    # Where pi = pi_ref no regularizer is flat, so a slope that vanishes there is a coefficient of 0.
    at_reference = {"length": zeros + 1, "ref_logp": zeros}
    if not np.all(
        regularizer.implicit_reward(zeros - 1, **at_reference) < regularizer.implicit_reward(zeros, **at_reference)
    ):
        raise ValueError(
            f"regularizer {regularizer.name}: no barrier at probability 0, so the optimum puts everything on the best "
            "arm; give it a coefficient > 0"
        )
    if not is_affine(regularizer):
        return _solve(reward, score, _bisection(score))
    offset, slope = score(zeros), score(zeros) - score(zeros - 1)
    if np.all(np.ptp(slope, axis=-1) <= 1e-12 * np.max(slope, axis=-1)):
        return log_softmax((reward - offset) / slope)
    return _solve(reward, score, lambda value: (value - offset) / slope)


def is_affine(regularizer: Regularizer) -> bool:
    """Whether the implicit reward is an affine function of log pi, which then is inverted in closed form.

    Measured on the function itself: equal differences at far-apart points, to round-off.
    """
    logp, ones = np.array([0.0, -3.0, -9.0]), np.ones(3)
    s = regularizer.implicit_reward(logp, length=ones, ref_logp=-ones)
    return bool(np.isclose((s[..., 0] - s[..., 1]) / 3, (s[..., 1] - s[..., 2]) / 6, rtol=1e-12, atol=0).all())


def _bisection(score: Function) -> Function:
    """Inverse of an increasing function of log p on (-inf, 0], by bracketing and halving."""

    def invert(value: np.ndarray) -> np.ndarray:
        low = np.full_like(value, -1.0)
        while np.any(above := score(low) > value):
            low = np.where(above, 2 * low, low)
            if low.min() < -FAR:
                raise ValueError("the optimum has a probability too small to represent; raise the coefficient")
        high = np.zeros_like(value)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = score(middle) < value
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    return invert


def _solve(reward: np.ndarray, score: Function, invert: Function) -> np.ndarray:
    """The policy at the multiplier of each prompt: false position on log sum pi, safeguarded by halving.

    The unknown is the distance of the multiplier from max_y [r - s_y(1)], on a logarithmic scale while
    its bracket is wide.
    """
    zeros = np.zeros_like(reward)
    top = score(zeros)
    first = np.argmax(reward - top, axis=-1)[..., None]  # the arm that alone would have probability 1
    # r_y minus the bound; a difference of rewards, so that a tiny s of the first arm keeps its digits
    start = (reward - np.take_along_axis(reward, first, axis=-1)) + np.take_along_axis(top, first, axis=-1)

    def log_mass(distance: np.ndarray) -> np.ndarray:
        return logsumexp(invert(start - distance[..., None]), axis=-1)

    alone = log_mass(np.zeros(reward.shape[:-1])) <= MASS_ERROR  # the others hold next to nothing
    low = np.full(reward.shape[:-1], NEAREST)
    high = np.maximum(2 * low, np.max(start - score(zeros - np.log(reward.shape[-1])), axis=-1))
    at_low, at_high = log_mass(low), log_mass(high)
    if np.any((at_low < -MASS_ERROR) & ~alone):
        raise ValueError("the optimum lies nearer to its bound than floats reach; raise the coefficient")
    for i in range(MOST_ITERATIONS):
        share = np.clip(at_low / np.where(at_low > at_high, at_low - at_high, 1.0), 0.0, 1.0)
        if i % 3 == 2:  # false position can creep along one side; halving cannot
            share = np.full_like(share, 0.5)
        wide = low * np.exp(share * (np.log(high) - np.log(low)))
        distance = np.where(alone, 0.0, np.where(high > 2 * low, wide, low + (high - low) * share))
        mass = np.where(alone, 0.0, log_mass(distance))
        collapsed = high - low <= np.spacing(low)
        if np.all((np.abs(mass) <= MASS_ERROR) | collapsed):
            if np.any(np.abs(mass) > ROUND_OFF):
                raise ValueError(
                    f"the optimum is out of reach: its probabilities sum to {np.exp(np.max(np.abs(mass)))} at the "
                    "nearest float; raise the coefficient"
                )
            return log_softmax(invert(start - distance[..., None]))
        distance = np.where(alone, low, distance)
        heavy = mass > 0
        low, at_low = np.where(heavy, distance, low), np.where(heavy, mass, at_low)
        high, at_high = np.where(heavy, high, distance), np.where(heavy, at_high, mass)
    raise RuntimeError(
        f"multiplier not found in {MOST_ITERATIONS} iterations; the bracket is {low.min()}, {high.max()}"
    )
