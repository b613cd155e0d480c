"""One experiment: settings in, measured trajectory and summary out. Writes nothing; `__main__` saves it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from derivations.evidence.intervals import Interval, interval
from derivations.names import parse_regularizer
from derivations.regularizers import Regularizer
from derivations.retention import fit_retention
from toybandit.bandit import ARMS, PROMPTS, SHARED_PROMPTS, Streams, World, seed_streams, shared_world, tabular_world
from toybandit.compiled import Compiled
from toybandit.data import Rankings, draw_pairs
from toybandit.interventions import RARE, arm_set, replace_by_gold
from toybandit.learners import OPTIMIZERS, Exact, Learner, Natural, Rloo
from toybandit.metrics import measure, overoptimization, wins_against_reference
from toybandit.online import Trajectory, policy_gradient
from toybandit.optimum import optimum
from toybandit.proxy import make_proxy, pairwise_accuracy
from toybandit.settings import OPTIMUM, Settings, check_size
from toybandit.tree import tree_world

# The numbers of a final policy, in the order of `assess`.
FINAL = (
    "proxy_gain",
    "gold_gain",
    "overoptimization",
    "gold_fall",
    "win_rate",
    "kl",
    "kl_forward",
    "entropy",
    "retention/kappa",
    "retention/tau",
    "retention/kappa_error",
    "retention/tau_error",
    "mass/rare",
    "proxy_accuracy",
)


@dataclass(frozen=True)
class Bandit:
    """A drawn problem: the world, what was compared in it, and the proxy reward [seeds, prompts, arms]."""

    world: World
    streams: Sequence[Streams]
    pairs: Rankings
    proxy: np.ndarray
    comparisons: np.ndarray


@dataclass(frozen=True)
class Result:
    """What a run found.

    trajectory: every metric, one value per time and seed (so paired differences can be taken between
    runs of the same seeds). final: name -> one value per seed, of the final policy, keys as below;
    summary: the same as Interval over seeds.
    """

    settings: Settings
    trajectory: Trajectory
    final: dict[str, np.ndarray]

    @property
    def summary(self) -> dict[str, Interval]:
        """Mean and 95 % interval over seeds of each number of the final policy."""
        return {name: interval(values) for name, values in self.final.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row a logged step: `step`, `t`, and each metric's mean, `_low` and `_high` over seeds."""
        rows = []
        for i, (step, t) in enumerate(zip(self.trajectory.step, self.trajectory.t, strict=True)):
            row: dict[str, Any] = {"step": step, "t": t}
            for name, values in self.trajectory.metrics.items():
                over_seeds = interval(values[i])
                row |= {name: over_seeds.mean, f"{name}_low": over_seeds.low, f"{name}_high": over_seeds.high}
            rows.append(row)
        return rows


def draw(settings: Settings) -> Bandit:
    """Draw the worlds and the preference data, and make the proxy."""
    check_draw(settings)
    streams = seed_streams(settings.seed, settings.seeds)
    world = make_world(settings, streams)
    pairs = draw_pairs(world, streams, count=settings.pairs)
    comparisons = pairs.comparisons()
    with threadpool_limits(limits=1, user_api="blas"):  # systems of 100 equations: threads cost more than they give
        proxy = make_proxy(
            settings.proxy,
            world,
            pairs,
            streams,
            prior_scale=settings.prior_scale,
            noise=settings.noise,
            pessimism=settings.pessimism,
        )
    if settings.gold_on != "none":
        arms = arm_set(settings.gold_on, comparisons)
        proxy = replace_by_gold(proxy, world.gold, arms, keep_level=settings.gold_level == "kept")
    return Bandit(world, streams, pairs, proxy, comparisons)


def check_draw(settings: Settings) -> None:
    """Raise ValueError for worlds or data that do not fit into memory."""
    prompts = settings.prompts or (SHARED_PROMPTS if settings.world == "shared" else PROMPTS)
    check_size(seeds=settings.seeds, prompts=prompts, arms=settings.arms or ARMS, pairs=settings.pairs)


# What decides how a bandit is optimized and not which one is drawn.
OPTIMIZATION = (
    "regularizer",
    "coefficient",
    "lr",
    "steps",
    "method",
    "optimizer",
    "samples",
    "regularize_on",
    "dtype",
    "engine",
    "device",
)


def drawing(settings: Settings) -> Settings:
    """The settings with everything that does not change the drawn bandit at its default."""
    standard = Settings(regularizer="none")
    return dataclasses.replace(settings, **{name: getattr(standard, name) for name in OPTIMIZATION})


def drawn(settings: Settings) -> Bandit:
    """`draw`, kept for the next runs that differ only in how they optimize."""
    return _drawn(drawing(settings))


@functools.lru_cache(maxsize=4)
def _drawn(settings: Settings) -> Bandit:
    return draw(settings)


def make_world(settings: Settings, streams: Sequence[Streams]) -> World:
    """The world of the settings, one per stream."""
    arms = settings.arms or ARMS
    if settings.world == "tree":
        return tree_world(streams, prompts=settings.prompts or PROMPTS, knowledge=settings.knowledge)
    if settings.world == "shared":
        prompts = settings.prompts or SHARED_PROMPTS
        return shared_world(streams, prompts=prompts, arms=arms, knowledge=settings.knowledge, quad=settings.quad)
    return tabular_world(streams, prompts=settings.prompts or PROMPTS, arms=arms, knowledge=settings.knowledge)


def optimize(
    bandit: Bandit,
    settings: Settings,
    *,
    regularizer: Regularizer | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Trajectory:
    """Optimize online as the settings say.

    Args:
        bandit: of `draw` or `drawn`.
        settings: how it is optimized.
        regularizer: in place of theirs, for arrays of coefficients.
        on_progress: gets the share of steps done.

    Raises:
        Diverged: lr times coefficient is too large.
    """
    regularizer = regularizer or parse_regularizer(settings.regularizer, settings.coefficient)
    if settings.method == OPTIMUM:
        return _jump(bandit, regularizer)
    mask = None
    if settings.regularize_on != "all":
        mask = arm_set(settings.regularize_on, bandit.comparisons)
    return policy_gradient(
        bandit.world,
        bandit.proxy,
        regularizer=regularizer,
        learner=learner_of(settings, bandit.streams),
        steps=settings.steps,
        regularize_on=mask,
        dtype=np.dtype(settings.dtype),
        on_progress=on_progress,
    )


def learner_of(settings: Settings, streams: Sequence[Streams]) -> Learner:
    """The learner that the settings name. streams: of the seeds, for method rloo."""
    optimizer = OPTIMIZERS[settings.optimizer]
    if settings.method == "rloo":
        return Rloo(streams, settings.lr, optimizer, settings.samples)
    learner = Natural(settings.lr) if settings.method == "natural" else Exact(settings.lr, optimizer)
    return Compiled(learner, settings.device) if settings.engine == "compiled" else learner


def _jump(bandit: Bandit, regularizer: Regularizer) -> Trajectory:
    """The reference and the exact optimum, as a trajectory of one step."""
    world = bandit.world
    logp = optimum(bandit.proxy, regularizer=regularizer, length=world.length, ref_logp=world.ref_logp)
    wins = wins_against_reference(world)
    start = np.broadcast_to(world.ref_logp, logp.shape)
    rows = [measure(world, bandit.proxy, wins, policy) for policy in (start, logp)]
    metrics = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Trajectory(step=np.array([0, 1]), t=np.array([0.0, 1.0]), metrics=metrics, logp=logp)


def run(settings: Settings, *, on_progress: Callable[[float], None] = lambda share: None) -> Result:
    """Draw the worlds, fit the proxy, optimize it online, measure.

    Args:
        settings: all of it; the same settings give the same bits.
        on_progress: gets the share of steps done.

    Raises:
        Diverged: lr times coefficient is too large.
        ValueError: worlds or data that do not fit into memory.

    >>> found = run(Settings(regularizer="entropy", coefficient=0.5, seeds=2, steps=20))
    >>> sorted(found.summary)[:3]
    ['entropy', 'gold_fall', 'gold_gain']
    """
    bandit = draw(settings)
    return assess(settings, bandit, optimize(bandit, settings, on_progress=on_progress))


def assess(settings: Settings, bandit: Bandit, trajectory: Trajectory) -> Result:
    """The numbers of the final policies, one per seed (on the last axis; configurations before it)."""
    final = {name: values[-1] for name, values in trajectory.metrics.items()}
    counted, plain = overoptimization(trajectory.metrics["proxy"], trajectory.metrics["gold"])
    rare = np.sum(np.exp(trajectory.logp), axis=-1, where=bandit.comparisons <= RARE)
    fit = fit_retention(trajectory.logp, bandit.world.ref_logp, bandit.proxy)
    per_seed = {
        "proxy_gain": final.pop("proxy"),
        "gold_gain": final.pop("gold"),
        "overoptimization": counted,
        "gold_fall": plain,
        **final,
        "retention/kappa_error": fit.kappa_error,
        "retention/tau_error": fit.tau_error,
        "mass/rare": np.mean(rare, axis=-1),
        "proxy_accuracy": pairwise_accuracy(bandit.world, bandit.proxy),
    }
    return Result(settings, trajectory, per_seed)
