"""Online learning, batched over seeds and configurations: maximize J = E_pi[proxy] - sum_y phi_y(pi(y)) from pi_ref.

The engine runs blocks of seeds that fit the processor's cache, all steps of a block before the next
one. With exact expectations nothing is sampled, and two runs differ only by their worlds; `rloo` samples
from a stream of its own a seed. `natural_flow` is the natural gradient in closed form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import default_rng

from derivations.arrays import log_softmax
from derivations.regularizers import Regularizer
from derivations.retention import retention_law
from toybandit.bandit import Streams, World
from toybandit.interventions import Masked
from toybandit.metrics import measure, wins_against_reference
from toybandit.policies import Table, make_policy
from toybandit.updates import METHODS, OPTIMIZERS, Problem, Uniforms, make_update

LOGGED = 60
BLOCK_BYTES = 2**18  # logits of one block: they and their temporaries stay in the processor's cache
RECENTRED = 100  # steps between two subtractions of the largest logit, far below what exp can overflow in
SAMPLES = 4  # of RLOO, a prompt


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
    method: str = "softmax",
    optimizer: str = "sgd",
    samples: int = SAMPLES,
    streams: Sequence[Streams] | None = None,
    regularize_on: np.ndarray | None = None,
    dtype: Any = np.float32,
    compiled: bool = False,
    device: str = "cpu",
    block_bytes: int | None = None,
    logged: int = LOGGED,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Trajectory:
    """Ascend J for `steps` steps of size `lr`, measured at about `logged` log-spaced steps.

    proxy: [seeds, prompts, arms], reward units. A coefficient of `regularizer` may be an array of
    `dtype` and shape [configurations, 1, 1, 1]; all results then have that leading axis. method:
    softmax (exact gradient in the policy's parameters), natural (exact, table only) or rloo (`samples`
    from `streams`). regularize_on: arms the penalty applies to, bool [seeds, prompts, arms] (None: all).
    dtype: float32 or float64, of the steps; metrics are always float64. compiled: run the same step
    through torch.compile on `device` (softmax and natural with sgd, table; needs torch).

    The block size changes no result. on_progress gets the share of the work done. Raises Diverged,
    and ValueError for a combination that does not exist.
    """
    _check(world, method, optimizer, compiled, streams)
    step, seeds = logged_steps(steps, count=logged), len(world.gold)
    leading = _leading_axes(world, regularizer)
    if block_bytes is None:
        block_bytes = 2**30 if device != "cpu" else BLOCK_BYTES
    one = int(np.prod(leading)) * world.gold[0].size * np.dtype(dtype).itemsize
    size = max(1, block_bytes // one)
    blocks = []
    for start in range(0, seeds, size):
        part = slice(start, min(start + size, seeds))
        block = world.part(part)
        mask = None if regularize_on is None else regularize_on[part]
        problem = Problem(
            reward=proxy[part].astype(dtype),
            length=block.length.astype(dtype),
            ref_logp=block.ref_logp.astype(dtype),
            regularizer=regularizer if mask is None else Masked(regularizer, mask),
        )
        advance: Advance
        if compiled:
            from toybandit.compiled import CompiledAscent

            advance = CompiledAscent(problem, lr=lr, method=method, device=device, leading=leading)
        else:
            uniforms = None
            if method == "rloo" and streams is not None:
                generators = [default_rng(stream.samples) for stream in streams[part]]
                uniforms = Uniforms(generators, (world.gold.shape[1], samples))
            advance = NumpyAscent(block, problem, leading, method, optimizer, lr, uniforms)

        def report(share: float, first: int = start, last: int = part.stop) -> None:
            on_progress((first + share * (last - first)) / seeds)

        blocks.append(_run_block(block, proxy[part], advance, step, leading, report))
    measured, policies = zip(*blocks, strict=True)
    metrics = {name: np.concatenate([part[name] for part in measured], axis=-1) for name in measured[0]}
    return Trajectory(step=step, t=lr * step, metrics=metrics, logp=np.concatenate(policies, axis=-3))


def _check(world: World, method: str, optimizer: str, compiled: bool, streams: Sequence[Streams] | None) -> None:
    if method not in METHODS or optimizer not in OPTIMIZERS:
        raise ValueError(f"method {method!r}, optimizer {optimizer!r}: expected one of {METHODS} and {OPTIMIZERS}")
    if method == "natural" and (world.policy != "table" or optimizer != "sgd"):
        raise ValueError("method natural is for a table of logits and sgd (the tabular world); use softmax here")
    if method == "rloo" and streams is None:
        raise ValueError("method rloo samples: pass the streams of the seeds")
    if compiled and (method == "rloo" or optimizer != "sgd" or world.policy != "table"):
        raise ValueError("the compiled engine runs softmax and natural gradient with sgd in the tabular world only")


def logged_steps(steps: int, *, count: int = LOGGED) -> np.ndarray:
    """0 and at most `count` log-spaced steps up to `steps`, increasing, without repetition; steps >= 0."""
    if steps == 0:
        return np.zeros(1, dtype=int)
    return np.concatenate([[0], np.unique(np.round(np.geomspace(1, steps, count)).astype(int))])


def _leading_axes(world: World, regularizer: Regularizer) -> tuple[int, ...]:
    """Axes that array-valued coefficients put before [seeds, prompts, arms]."""
    one = np.ones((1, 1, 1))
    return np.shape(regularizer.implicit_reward(-one, length=one, ref_logp=-2 * one))[:-3]


# Steps -> log-probs, float64 [..., seeds, prompts, arms], after that many more steps.
Advance = Callable[[int], np.ndarray]


class NumpyAscent:
    """The learner of one block in NumPy."""

    def __init__(
        self,
        world: World,
        problem: Problem,
        leading: tuple[int, ...],
        method: str,
        optimizer: str,
        lr: float,
        uniforms: Uniforms | None,
    ) -> None:
        self.policy = make_policy(world, problem.reward.dtype)
        self.theta = self.policy.start(leading)
        self.update = make_update(self.policy, problem, method=method, optimizer=optimizer, lr=lr, uniforms=uniforms)

    def __call__(self, steps: int) -> np.ndarray:
        table = isinstance(self.policy, Table)
        for i in range(steps):
            if table and i % RECENTRED == 0:
                self.theta -= np.max(self.theta, axis=-1, keepdims=True)
            self.theta += self.update(self.theta)
        return log_softmax(self.policy.logits(self.theta.astype(np.float64)))


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
