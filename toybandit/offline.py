"""Offline learning: full-batch descent on any objective of `derivations.objectives` or `published`, from finite data.

loss = mean over the examples of a prompt of -log P(observed preference | rewards = s(pi)), or of the published loss of
a pair. The gradient in log pi of arm y is c(y) = sum over examples of (d loss / d s) (d s / d log pi), of a published
loss the sum of its own slopes, and in the logits of a table c(y) - pi(y) sum c: an arm that is in no pair moves only
through the second part, which vanishes for DPO, and for SimPO where lengths match (THEORY 4.4). Nothing is sampled
after the data.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from derivations.arrays import log_softmax
from derivations.objectives import Objective, preference_metrics
from derivations.published import Published
from toybandit.bandit import World
from toybandit.data import Rankings
from toybandit.learners import OPTIMIZERS
from toybandit.metrics import measure, wins_against_reference
from toybandit.online import Diverged, logged_steps
from toybandit.policies import make_policy

Descended = Objective | Published

NEAR = 1e-3  # nats: beside a corner of a loss, and on its one side
SAFE = 2.0  # default step size in units of the inverse curvature 1 / (s')^2 of the loss in the logits


@dataclass(frozen=True)
class Examples:
    """Different rankings with how often each was seen, over all seeds and prompts.

    index: int [examples, m], into the flattened [seeds, prompts, arms], best first. prompt: int
    [examples], into the flattened [seeds, prompts]. weight: share of the prompt's kept draws.
    """

    index: np.ndarray
    prompt: np.ndarray
    weight: np.ndarray
    prompts: tuple[int, int]

    def per_seed(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean of a value per example: within a prompt, then over the prompts that have data. [seeds]."""
        cells = self.prompts[0] * self.prompts[1]
        total = np.bincount(self.prompt, self.weight * values, cells).reshape(self.prompts)
        with_data = np.bincount(self.prompt, minlength=cells).reshape(self.prompts) > 0
        return total.sum(axis=-1) / with_data.sum(axis=-1)


def collect(data: Rankings) -> Examples:
    """Examples of preference data: dropped draws left out, repeated ones counted."""
    seeds, prompts = data.kept.shape[:2]
    cell = np.arange(seeds * prompts).reshape(seeds, prompts, 1, 1)
    index, counts = np.unique((cell * data.arms + data.ranked)[data.kept], axis=0, return_counts=True)
    prompt = index[:, 0] // data.arms
    return Examples(index, prompt, counts / np.bincount(prompt, counts)[prompt], (seeds, prompts))


@dataclass(frozen=True)
class OfflineTrajectory:
    """What `descend` saw.

    step: [times]. metrics: name -> [times, seeds]: the policy's (see `metrics.measure`; retention is
    against the gold reward, as there is no proxy), `loss`, TRL's preference metrics on the training
    pairs (best against worst of a ranking) and `eval/rewards/accuracies` on held-out pairs. logits:
    the parameters' logits at the end. logp: final policy; stopped: for each seed the index into `step`
    at which held-out accuracy was best (the first such); stopped_logp: the policy there. [seeds, prompts, arms].
    """

    step: np.ndarray
    metrics: dict[str, np.ndarray]
    logits: np.ndarray
    logp: np.ndarray
    stopped: np.ndarray
    stopped_logp: np.ndarray

    def at_stop(self, name: str) -> np.ndarray:
        """A metric where early stopping stops, [seeds]."""
        return np.take_along_axis(self.metrics[name], self.stopped[None], axis=0)[0]


def default_lr(world: World, objective: Objective) -> float:
    """A safe step size, so that objectives and betas move the implicit reward at like speed.

    The loss has curvature at most (s')^2 / 4 per pair in the logits (2 for ipo); s' is taken at pi_ref.
    """
    if objective.least_squares:
        return 0.25
    slope = objective.regularizer.slope(world.ref_logp, length=world.length, ref_logp=world.ref_logp)
    return float(SAFE / np.max(slope) ** 2)


def measured_lr(world: World, examples: Examples, objective: Published) -> float:
    """A step size for a loss whose slopes are known and whose curvature is not: half of the shortest Polyak step.

    Polyak's step, loss / |gradient|^2, is where the loss of one pair by itself would be about 0; in the logits the
    squared gradient is taken as twice that of the larger slope. It is measured at pi_ref and 0.001 nats to every side
    of it, since the penalty of dpop has its corner there. For the losses built on log-sigmoids it is about 0.7 / s'^2.
    No fixed step ends on a corner (dpop and slic step over theirs), and the logged loss of wpo can rise, because the
    weight that descent holds grows.
    """
    logp, length, ref_logp = _at_examples(world, examples, world.ref_logp)
    shortest = np.inf
    for aside in ((0, 0), *itertools.product((-NEAR, NEAR), repeat=2)):
        near = np.minimum(logp + aside, 0.0)
        steepest = np.max(slopes(objective, near, length, ref_logp) ** 2, axis=-1)
        pulled = steepest > 0
        polyak = losses(objective, near, length, ref_logp)[pulled] / (2 * steepest[pulled])
        shortest = min(shortest, float(np.min(polyak, initial=np.inf)) / 2)
    return shortest


def _safe_lr(world: World, examples: Examples, objective: Descended) -> float:
    if isinstance(objective, Published):
        return measured_lr(world, examples, objective)
    return default_lr(world, objective)


def descend(
    world: World,
    data: Rankings,
    *,
    objective: Descended,
    held_out: Rankings,
    lr: float | None = None,
    steps: int = 2000,
    optimizer: str = "sgd",
    on_progress: Callable[[float], None] = lambda share: None,
) -> OfflineTrajectory:
    """Train from pi_ref for `steps` full-batch steps in float64, measured at about 60 log-spaced steps.

    Args:
        world: what is known exactly; its reference is where training starts.
        data: pairs or, for listwise objectives, rankings.
        objective: whose loss is descended: with a regularizer, or a published loss of pairs.
        held_out: pairs for early stopping.
        lr: step size (default: `default_lr`, or of a published loss `measured_lr`).
        steps: full-batch steps.
        optimizer: sgd or adam.
        on_progress: gets the share of steps done.

    Raises:
        Diverged: a number left the range of floating point.
    """
    examples, validation = collect(data), collect(held_out)
    lr = _safe_lr(world, examples, objective) if lr is None else lr
    policy = make_policy(world, np.float64)
    theta, steps_of = policy.start(()), OPTIMIZERS[optimizer](lr)

    def descent(theta: np.ndarray, rate: float) -> np.ndarray:
        weights = -loss_gradient(world, examples, objective, log_softmax(policy.logits(theta)))
        return rate * policy.pull_back(theta, weights)

    wins, logged = wins_against_reference(world), logged_steps(steps)
    unseen = data.comparisons() == 0
    rows, best = [], np.full(len(world.gold), -np.inf)
    stopped, stopped_logp = np.zeros(len(world.gold), dtype=int), world.ref_logp.copy()
    for time, (done, step) in enumerate(zip([0, *logged], logged, strict=False)):
        try:
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                for _ in range(done, step):
                    theta += steps_of.step(descent, theta)
                logp = log_softmax(policy.logits(theta))
                row = _row(world, wins, examples, objective, logp, unseen)
                accuracy = data_metrics(world, validation, objective, logp)["rewards/accuracies"]
        except FloatingPointError as error:
            raise Diverged(f"the policy diverged by step {step} ({error}); lower the lr or the strength") from error
        row["eval/rewards/accuracies"] = accuracy
        better = accuracy > best
        best, stopped = np.where(better, accuracy, best), np.where(better, time, stopped)
        stopped_logp[better] = logp[better]
        rows.append(row)
        on_progress(step / max(1, logged[-1]))
    metrics = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return OfflineTrajectory(logged, metrics, policy.logits(theta), logp, stopped, stopped_logp)


def _row(
    world: World, wins: np.ndarray, examples: Examples, objective: Descended, logp: np.ndarray, unseen: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics of one policy but those of the held-out data, [seeds] each."""
    row = measure(world, world.gold, wins, logp)
    del row["proxy"]  # there is none offline: it would be the gold reward again
    row["loss"] = examples.per_seed(losses(objective, *_at_examples(world, examples, logp)))
    row["mass/unseen"] = np.mean(np.sum(np.exp(logp) * unseen, axis=-1), axis=-1)
    return row | data_metrics(world, examples, objective, logp)


def loss_gradient(world: World, examples: Examples, objective: Descended, logp: np.ndarray) -> np.ndarray:
    """Gradient of the loss, summed over prompts, in the logits of a table: [seeds, prompts, arms] of logp's shape."""
    moves = examples.weight[:, None] * slopes(objective, *_at_examples(world, examples, logp))
    direct = np.bincount(examples.index.ravel(), moves.ravel(), logp.size).reshape(logp.shape)
    # Summed within each example first: where chosen and rejected have one slope this is exactly 0.
    total = np.bincount(examples.prompt, moves.sum(axis=-1), logp[..., 0].size).reshape(logp.shape[:-1])
    return direct - np.exp(logp) * total[..., None]


def _at_examples(world: World, examples: Examples, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probs, lengths and the reference's log-probs of the responses of each example, all [examples, m]."""
    logp, length, ref_logp = (array.ravel()[examples.index] for array in (logp, world.length, world.ref_logp))
    return logp, length, ref_logp


def losses(objective: Descended, logp: np.ndarray, length: np.ndarray, ref_logp: np.ndarray) -> np.ndarray:
    """Loss of each example from log-probs (nats) and lengths [examples, m], preferred first -> [examples]."""
    if isinstance(objective, Published):
        return objective.losses(logp, length=length, ref_logp=ref_logp)
    return objective.loss(objective.rewards(logp, length=length, ref_logp=ref_logp))


def slopes(objective: Descended, logp: np.ndarray, length: np.ndarray, ref_logp: np.ndarray) -> np.ndarray:
    """d `losses` / d logp: arguments as there -> [examples, m], loss units per nat."""
    if isinstance(objective, Published):
        return objective.slopes(logp, length=length, ref_logp=ref_logp)
    rewards = objective.rewards(logp, length=length, ref_logp=ref_logp)
    return objective.slope(rewards) * objective.regularizer.slope(logp, length=length, ref_logp=ref_logp)


def data_metrics(world: World, examples: Examples, objective: Descended, logp: np.ndarray) -> dict[str, np.ndarray]:
    """TRL's metrics of a policy (logp [seeds, prompts, arms], nats) on some data, best against worst, [seeds] each.

    Rewards are the objective's implicit rewards; of a published loss what its `rewards` gives.
    """
    logp, length, ref_logp = _at_examples(world, examples, logp)
    rewards = objective.rewards(logp, length=length, ref_logp=ref_logp)
    values = preference_metrics(rewards[:, 0], rewards[:, -1], logp[:, 0], logp[:, -1])
    return {name: examples.per_seed(value) for name, value in values.items()}
