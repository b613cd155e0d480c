"""Online learning, batched over seeds and configurations: maximize J = E_pi[proxy] - sum_y phi_y(pi(y)) from pi_ref.

The engine runs blocks of seeds that fit the processor's cache, all steps of a block before the next
one. With exact expectations nothing is sampled, and two runs differ only by their worlds; `rloo` samples
from a stream of its own per seed. `natural_flow` is the natural gradient in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import log_softmax
from derivations.regularizers import Regularizer
from derivations.retention import retention_law
from toybandit.bandit import World
from toybandit.interventions import Masked
from toybandit.learners import Advance, Exact, Learner
from toybandit.metrics import measure, wins_against_reference
from toybandit.updates import Problem

LOGGED = 60


class Diverged(ArithmeticError):
    """The logits left the range of floating-point numbers: lr times coefficient is too large."""


@dataclass(frozen=True)
class Trajectory:
    """What one call of `policy_gradient` saw.

    step: [times] gradient steps done; t: [times] = lr * step. metrics: name -> [times, ..., seeds].
    logp: final policy, nats, float64 [..., seeds, prompts, arms].
    """

    step: np.ndarray
    t: np.ndarray
    metrics: dict[str, np.ndarray]
    logp: np.ndarray


def policy_gradient(
    world: World,
    proxy: np.ndarray,
    *,
    regularizer: Regularizer,
    learner: Learner | None = None,
    steps: int = 2500,
    regularize_on: np.ndarray | None = None,
    dtype: Any = np.float32,
    block_bytes: int | None = None,
    logged: int = LOGGED,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Trajectory:
    """Ascend J from the reference, measured at about `logged` log-spaced steps.

    Args:
        world: what is known exactly, arrays [seeds, prompts, arms].
        proxy: the reward that is optimized, [seeds, prompts, arms], reward units.
        regularizer: its coefficient may be an array of `dtype` and shape [configurations, 1, 1, 1]; all results then
            have that leading axis.
        learner: direction, optimizer and step size (default: the exact gradient, `learners.Exact()`).
        steps: gradient steps.
        regularize_on: arms the penalty applies to, bool [seeds, prompts, arms] (default: all).
        dtype: float32 or float64, of the steps; metrics are always float64.
        block_bytes: of the logits of a block of seeds (default: what suits the learner); it changes no result.
        on_progress: gets the share of the work done.

    Returns:
        Metrics at the logged steps, and the final policy.

    Raises:
        Diverged: a logit or a probability left the range of floating-point numbers.
        ValueError: the learner cannot move the policy of this world.
    """
    learner = learner or Exact()
    learner.check(world)
    step, seeds = logged_steps(steps, count=logged), len(world.gold)
    leading = _leading_axes(world, regularizer)
    one = int(np.prod(leading)) * world.gold[0].size * np.dtype(dtype).itemsize
    size = max(1, (block_bytes or learner.block_bytes) // one)
    blocks = []
    for start in range(0, seeds, size):
        part = slice(start, min(start + size, seeds))
        block = world.part(part)
        problem = Problem(
            reward=proxy[part].astype(dtype),
            length=block.length.astype(dtype),
            ref_logp=block.ref_logp.astype(dtype),
            regularizer=regularizer if regularize_on is None else Masked(regularizer, regularize_on[part]),
        )

        def report(share: float, first: int = start, last: int = part.stop) -> None:
            on_progress((first + share * (last - first)) / seeds)

        advance = learner.start(block, problem, leading, part)
        blocks.append(_run_block(block, proxy[part], advance, step, leading, report))
    measured, policies = zip(*blocks, strict=True)
    metrics = {name: np.concatenate([part[name] for part in measured], axis=-1) for name in measured[0]}
    return Trajectory(step=step, t=learner.lr * step, metrics=metrics, logp=np.concatenate(policies, axis=-3))


def logged_steps(steps: int, *, count: int = LOGGED) -> np.ndarray:
    """0 and at most `count` log-spaced steps up to `steps`, increasing, without repetition; steps >= 0."""
    if steps == 0:
        return np.zeros(1, dtype=int)
    return np.concatenate([[0], np.unique(np.round(np.geomspace(1, steps, count)).astype(int))])


def _leading_axes(world: World, regularizer: Regularizer) -> tuple[int, ...]:
    """Axes that array-valued coefficients put before [seeds, prompts, arms]."""
    one = np.ones((1, 1, 1))
    return np.shape(regularizer.implicit_reward(-one, length=one, ref_logp=-2 * one))[:-3]


def _run_block(
    world: World,
    proxy: np.ndarray,
    advance: Advance,
    logged: np.ndarray,
    leading: tuple[int, ...],
    on_progress: Callable[[float], None],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All steps on the seeds of one block: metrics name -> [times, ..., seeds], and the final log-probs."""
    wins = wins_against_reference(world)
    rows = []
    # At step 0 exactly the reference, not its rounding to the precision of the steps.
    logp = np.broadcast_to(world.ref_logp, (*leading, *world.ref_logp.shape))
    for done, step in zip([0, *logged], logged, strict=False):
        if step > 0:
            logp = _advance(advance, int(step - done), int(step))
        rows.append(measure(world, proxy, wins, logp))
        on_progress(step / max(1, logged[-1]))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}, logp


def _advance(advance: Advance, steps: int, until: int) -> np.ndarray:
    reason = "a log-probability is not finite"
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            logp = advance(steps)
        if np.all(np.isfinite(logp)):
            return logp
    except FloatingPointError as error:
        reason = str(error)
    raise Diverged(f"the policy diverged by step {until} ({reason}); lower the lr or the coefficient")


def natural_flow(ref_logp: np.ndarray, reward: np.ndarray, *, t: float, alpha: float, beta: float) -> np.ndarray:
    """Log-probs at time t of natural-gradient flow from pi_ref: kappa log pi_ref + tau reward + const, [..., arms]."""
    kappa, tau = retention_law(np.asarray(t, dtype=float), alpha=alpha, beta=beta)
    return log_softmax(kappa * ref_logp + tau * reward)
