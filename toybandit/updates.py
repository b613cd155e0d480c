"""The direction of one step of an online learner: exact, natural or sampled.

J = E_pi[r] - sum_y phi_y(pi(y)); grad J = E_pi[(r - s) grad log pi] (THEORY 1 and 3.2). For the logits
of a table that is pi (a - E_pi a), a = r - s the shaped reward. Natural gradient divides by the Fisher
information, which removes the factor pi. RLOO replaces the expectation by k samples and leave-one-out
advantages. Written with the array API, so the same `gradient` runs in NumPy, torch and torch.compile.
"""

from dataclasses import dataclass

import numpy as np

from derivations.arrays import Array, log_softmax, namespace
from derivations.objectives import rloo_advantage, shaped_reward
from derivations.regularizers import Regularizer


@dataclass(frozen=True)
class Problem:
    """What one learner sees, in the precision of its steps: arrays [seeds, prompts, arms], and the regularizer."""

    reward: Array
    length: Array
    ref_logp: Array
    regularizer: Regularizer

    def shaped(self, logp: Array) -> Array:
        """Shaped reward r - s at these log-probs, a new array of their shape, reward units."""
        return shaped_reward(
            self.reward, logp, regularizer=self.regularizer, length=self.length, ref_logp=self.ref_logp
        )


def gradient(logits: Array, problem: Problem, *, rate: float = 1.0) -> Array:
    """rate times the gradient of J in the logits [..., arms]: rate pi (a - E_pi a). Shapes broadcast.

    The components sum to 0, so the sum of the logits is conserved and they need no normalization: one
    exponential per arm and one logarithm per prompt. exp(logits) must not overflow.
    """
    xp = namespace(logits)
    weight = xp.exp(logits)
    total = _row_sum(weight)
    advantage = problem.shaped(logits - xp.log(total)[..., None])
    advantage -= (xp.vecdot(weight, advantage) / total)[..., None]
    advantage *= weight
    advantage *= (rate / total)[..., None]
    return advantage


def _row_sum(weight: Array) -> Array:
    """Sum over the last axis; as a dot product, which NumPy does several times faster than `sum` on short rows."""
    xp = namespace(weight)
    return xp.vecdot(weight, xp.ones(weight.shape[-1:], dtype=weight.dtype, device=weight.device))


def natural_gradient(logits: Array, problem: Problem, *, rate: float = 1.0) -> Array:
    """rate (a - E_pi a): the direction of `gradient` without the factor pi (mirror ascent; THEORY 4.2)."""
    xp = namespace(logits)
    logp = log_softmax(logits)
    advantage = problem.shaped(logp)
    return rate * (advantage - xp.vecdot(xp.exp(logp), advantage)[..., None])


def rloo_weights(logits: np.ndarray, problem: Problem, uniforms: np.ndarray) -> np.ndarray:
    """Unbiased estimate of `gradient` from k samples per prompt, with leave-one-out advantages (arXiv:2402.14740).

    uniforms: independent U(0, 1), [seeds, prompts, k]; configurations on leading axes of the logits
    share them, so their difference has less noise. Returns the shape of the logits.
    """
    logp = log_softmax(logits)
    cumulative = np.cumsum(np.exp(logp), axis=-1)
    cumulative /= cumulative[..., -1:]
    # The sampled arm is the number of arms whose cumulative probability lies at or below the draw.
    arms = np.sum(cumulative[..., None, :] <= uniforms[..., :, None], axis=-1)
    advantage = rloo_advantage(np.take_along_axis(problem.shaped(logp), arms, axis=-1))
    weights = np.zeros_like(logits)
    for i in range(arms.shape[-1]):  # the same arm may be sampled twice
        one = arms[..., i : i + 1]
        np.put_along_axis(weights, one, np.take_along_axis(weights, one, axis=-1) + advantage[..., i : i + 1], axis=-1)
    return weights / arms.shape[-1]
