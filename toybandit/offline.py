"""Offline learning: full-batch descent on any objective of `derivations.objectives` or `published`, from finite data.

loss = mean over the examples of a prompt of -log P(observed preference | rewards = s(pi)), or of the published loss of
a pair, or KTO's of its two responses, each by itself: a good one and a bad one. The gradient in log pi of arm y is
c(y) = sum over examples of (d loss / d s) (d s / d log pi), of a published loss the sum of its own slopes, and in the
logits of a table c(y) - pi(y) sum c: an arm that is in no pair moves only through the second part, which vanishes for
DPO, and for SimPO where lengths match (THEORY 4.4). Nothing is sampled after the data.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from derivations.arrays import Array, log_softmax
from derivations.objectives import Objective, preference_metrics
from derivations.published import Published, Trained, Unpaired
from derivations.regularizers import KL
from toybandit.bandit import World
from toybandit.data import Rankings
from toybandit.learners import OPTIMIZERS
from toybandit.metrics import measure, wins_against_reference
from toybandit.online import Diverged, logged_steps
from toybandit.policies import make_policy

GOOD = np.array([True, False])  # of a pair: the chosen response is good, the rejected one bad
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
        return total.sum(axis=-1) / self.with_data.sum(axis=-1)

    @property
    def with_data(self) -> np.ndarray:
        """Whether a prompt has any: bool [seeds, prompts]."""
        return np.bincount(self.prompt, minlength=self.prompts[0] * self.prompts[1]).reshape(self.prompts) > 0


def collect(data: Rankings) -> Examples:
    """Examples of preference data: dropped draws left out, repeated ones counted."""
    seeds, prompts = data.kept.shape[:2]
    cell = np.arange(seeds * prompts).reshape(seeds, prompts, 1, 1)
    index, counts = np.unique((cell * data.arms + data.ranked)[data.kept], axis=0, return_counts=True)
    prompt = index[:, 0] // data.arms
    return Examples(index, prompt, counts / np.bincount(prompt, counts)[prompt], (seeds, prompts))


@dataclass(frozen=True)
class Scored:
    """A policy at the responses of the examples, which losses and slopes are of.

    logp, ref_logp: nats; length: all [examples, m], preferred first. kl: the reference point of the example's seed,
    [examples, 1], nats; 0 where the objective takes none.
    """

    logp: np.ndarray
    length: np.ndarray
    ref_logp: np.ndarray
    kl: np.ndarray


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


def measured_lr(world: World, examples: Examples, objective: Published | Unpaired) -> float:
    """A step size for a loss whose slopes are known and whose curvature is not: half of the shortest Polyak step.

    Polyak's step, loss / |gradient|^2, is where the loss of one pair by itself would be about 0; in the logits the
    squared gradient is taken as twice that of the larger slope. It is measured at pi_ref and 0.001 nats to every side
    of it, since the penalty of dpop has its corner there. For the losses built on log-sigmoids it is about 0.7 / s'^2.
    No fixed step ends on a corner (dpop and slic step over theirs), and the logged losses of wpo and kto can rise,
    because the weight, or the reference point, that descent holds grows.
    """
    at_reference = _at_examples(world, examples, objective, world.ref_logp)
    shortest = np.inf
    for aside in ((0, 0), *itertools.product((-NEAR, NEAR), repeat=2)):
        near = replace(at_reference, logp=np.minimum(at_reference.logp + aside, 0.0))
        steepest = np.max(slopes(objective, near) ** 2, axis=-1)
        pulled = steepest > 0
        polyak = losses(objective, near)[pulled] / (2 * steepest[pulled])
        shortest = min(shortest, float(np.min(polyak, initial=np.inf)) / 2)
    return shortest


def _safe_lr(world: World, examples: Examples, objective: Trained) -> float:
    if isinstance(objective, Objective):
        return default_lr(world, objective)
    return measured_lr(world, examples, objective)


def descend(
    world: World,
    data: Rankings,
    *,
    objective: Trained,
    held_out: Rankings,
    lr: float | None = None,
    steps: int = 2000,
    optimizer: str = "sgd",
    on_progress: Callable[[float], None] = lambda share: None,
) -> OfflineTrajectory:
    """Train from pi_ref for `steps` full-batch steps in float64, measured at about 60 log-spaced steps.

    Args:
        world: what is known exactly; its reference is where training starts.
        data: pairs or, for listwise objectives, rankings. KTO takes pairs apart, into n good and n bad responses.
        objective: whose loss is descended: with a regularizer, or a published loss of pairs or of single responses.
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
    world: World, wins: np.ndarray, examples: Examples, objective: Trained, logp: np.ndarray, unseen: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics of one policy but those of the held-out data, [seeds] each."""
    row = measure(world, world.gold, wins, logp)
    del row["proxy"]  # there is none offline: it would be the gold reward again
    row["loss"] = examples.per_seed(losses(objective, _at_examples(world, examples, objective, logp)))
    row["mass/unseen"] = np.mean(np.sum(np.exp(logp) * unseen, axis=-1), axis=-1)
    return row | data_metrics(world, examples, objective, logp)


def loss_gradient(world: World, examples: Examples, objective: Trained, logp: np.ndarray) -> np.ndarray:
    """Gradient of the loss, summed over prompts, in the logits of a table: [seeds, prompts, arms] of logp's shape."""
    moves = examples.weight[:, None] * slopes(objective, _at_examples(world, examples, objective, logp))
    direct = np.bincount(examples.index.ravel(), moves.ravel(), logp.size).reshape(logp.shape)
    # Summed within each example first: where chosen and rejected have one slope this is exactly 0.
    total = np.bincount(examples.prompt, moves.sum(axis=-1), logp[..., 0].size).reshape(logp.shape[:-1])
    return direct - np.exp(logp) * total[..., None]


def _at_examples(world: World, examples: Examples, objective: Trained, logp: np.ndarray) -> Scored:
    """The policy of these log-probs [seeds, prompts, arms], nats, at the responses of each example."""
    kl = reference_point(world, examples, logp) if isinstance(objective, Unpaired) else np.zeros(examples.prompts[0])
    seed = examples.prompt // examples.prompts[1]
    own, length, ref_logp = (array.ravel()[examples.index] for array in (logp, world.length, world.ref_logp))
    return Scored(own, length, ref_logp, kl[seed, None])


def reference_point(world: World, examples: Examples, logp: np.ndarray) -> np.ndarray:
    """KTO's: the exact KL(pi || pi_ref), a mean over the prompts that have data, [seeds], nats.

    A trainer estimates one number a batch, from responses of other prompts (arXiv:2402.01306, section 4.1); full-batch
    descent has all prompts of a seed in its batch, and here the expectation over responses is a sum over arms.
    """
    kl = np.sum(KL(1.0).phi(logp, ref_logp=world.ref_logp), axis=-1)
    found: np.ndarray = np.mean(kl, axis=-1, where=examples.with_data)
    return found


def losses(objective: Trained, at: Scored) -> Array:
    """Loss of each example, [examples]. KTO's of a pair taken apart is the mean over its two responses, as each pair
    gives one good response and one bad."""
    if isinstance(objective, Unpaired):
        return np.mean(objective.losses(at.logp, GOOD, ref_logp=at.ref_logp, kl=at.kl), axis=-1)
    if isinstance(objective, Published):
        return objective.losses(at.logp, length=at.length, ref_logp=at.ref_logp)
    return objective.loss(objective.rewards(at.logp, length=at.length, ref_logp=at.ref_logp))


def slopes(objective: Trained, at: Scored) -> Array:
    """d `losses` / d logp, [examples, m], loss units per nat; KTO's reference point is a constant in it."""
    if isinstance(objective, Unpaired):
        return objective.slopes(at.logp, GOOD, ref_logp=at.ref_logp, kl=at.kl) / len(GOOD)
    if isinstance(objective, Published):
        return objective.slopes(at.logp, length=at.length, ref_logp=at.ref_logp)
    rewards = objective.rewards(at.logp, length=at.length, ref_logp=at.ref_logp)
    return objective.slope(rewards) * objective.regularizer.slope(at.logp, length=at.length, ref_logp=at.ref_logp)


def data_metrics(world: World, examples: Examples, objective: Trained, logp: np.ndarray) -> dict[str, np.ndarray]:
    """TRL's metrics of a policy (logp [seeds, prompts, arms], nats) on some data, best against worst, [seeds] each.

    Rewards are the objective's implicit rewards; of a published loss what its `rewards` gives.
    """
    at = _at_examples(world, examples, objective, logp)
    rewards = objective.rewards(at.logp, length=at.length, ref_logp=at.ref_logp)
    values = preference_metrics(rewards[:, 0], rewards[:, -1], at.logp[:, 0], at.logp[:, -1])
    return {name: examples.per_seed(value) for name, value in values.items()}
