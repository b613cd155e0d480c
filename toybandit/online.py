"""Online learning: softmax policy gradient with exact expectations, batched over seeds and configurations.

Maximizes J = E_pi[proxy] - sum_y phi_y(pi(y)) over the logits, from pi = pi_ref. The gradient of J is
E_pi[(r - s) grad log pi] (THEORY 1 and 3.2), which for the logits of a table is pi (a - E_pi a) with
a = r - s, the shaped reward. Nothing is sampled: two runs differ only by their worlds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, namespace
from derivations.objectives import shaped_reward
from derivations.regularizers import Regularizer
from toybandit.bandit import World, log_softmax
from toybandit.metrics import measure, wins_against_reference

LOGGED = 60
BLOCK_BYTES = 2**20  # logits of one block: they and their temporaries stay in the processor's cache


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
    lr: float = 0.2,
    steps: int = 2500,
    dtype: Any = np.float32,
    block_bytes: int = BLOCK_BYTES,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Trajectory:
    """Gradient ascent on J for `steps` steps of size `lr`, measured at about 60 log-spaced steps.

    proxy: [seeds, prompts, arms], reward units. A coefficient of `regularizer` may be an array of
    `dtype` and shape [configurations, 1, 1, 1]; all results then have that leading axis. dtype:
    float32 or float64, of the steps; metrics are always float64. on_progress gets the share of the
    work that is done.

    Seeds are handled in blocks of about `block_bytes`, all steps of a block before the next one, which
    keeps the arrays in the cache. The block size changes no result. Raises Diverged.
    """
    step = logged_steps(steps)
    seeds = len(world.gold)
    size = _seeds_per_block(world, regularizer, dtype, block_bytes)
    blocks = []
    for start in range(0, seeds, size):
        part = slice(start, min(start + size, seeds))
        block = World(gold=world.gold[part], ref_logp=world.ref_logp[part], length=world.length[part])

        def report(share: float, first: int = start, last: int = part.stop) -> None:
            on_progress((first + share * (last - first)) / seeds)

        blocks.append(_run_block(block, proxy[part], regularizer, lr, step, dtype, report))
    measured, policies = zip(*blocks, strict=True)
    metrics = {name: np.concatenate([part[name] for part in measured], axis=-1) for name in measured[0]}
    return Trajectory(step=step, t=lr * step, metrics=metrics, logp=np.concatenate(policies, axis=-3))


def logged_steps(steps: int, *, count: int = LOGGED) -> np.ndarray:
    """0 and at most `count` log-spaced steps up to `steps`, increasing, without repetition; steps >= 0."""
    if steps == 0:
        return np.zeros(1, dtype=int)
    return np.concatenate([[0], np.unique(np.round(np.geomspace(1, steps, count)).astype(int))])


def gradient(
    logits: Array,
    reward: Array,
    *,
    regularizer: Regularizer,
    length: Array = None,
    ref_logp: Array = None,
) -> Array:
    """Gradient of J = E_pi[reward] - sum_y phi_y(pi(y)) in the logits [..., arms] of pi: pi (a - E_pi a).

    a is the shaped reward. The components sum to 0, so the sum of the logits is conserved. Shapes broadcast.
    """
    xp = namespace(logits)
    logp = log_softmax(logits)
    policy = xp.exp(logp)
    advantage = shaped_reward(reward, logp, regularizer=regularizer, length=length, ref_logp=ref_logp)
    return policy * (advantage - xp.sum(policy * advantage, axis=-1, keepdims=True))


def _seeds_per_block(world: World, regularizer: Regularizer, dtype: Any, block_bytes: int) -> int:
    one = regularizer.score(world.ref_logp[:1], length=world.length[:1], ref_logp=world.ref_logp[:1])
    return max(1, block_bytes // (one.size * np.dtype(dtype).itemsize))


def _run_block(
    world: World,
    proxy: np.ndarray,
    regularizer: Regularizer,
    lr: float,
    logged: np.ndarray,
    dtype: Any,
    on_progress: Callable[[float], None],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All steps on the seeds of one block: metrics name -> [times, ..., seeds], and the final log-probs."""
    reward, ref_logp, length = (array.astype(dtype) for array in (proxy, world.ref_logp, world.length))
    shape = np.shape(regularizer.score(ref_logp, length=length, ref_logp=ref_logp))
    logits = np.broadcast_to(ref_logp, shape).copy()
    wins = wins_against_reference(world)
    rows = []
    done = 0
    logp = np.broadcast_to(world.ref_logp, shape)  # at step 0 exactly the reference, not its rounding to `dtype`
    for step in logged:
        try:
            with np.errstate(over="raise", invalid="raise"):
                for _ in range(done, step):
                    logits += lr * gradient(logits, reward, regularizer=regularizer, length=length, ref_logp=ref_logp)
        except FloatingPointError as error:
            raise Diverged(f"the policy diverged by step {step} ({error}); lower the lr or the coefficient") from error
        if step > 0:
            logp = log_softmax(logits.astype(np.float64))
        done = step
        rows.append(measure(world, proxy, wins, logp))
        on_progress(step / max(1, logged[-1]))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}, logp
