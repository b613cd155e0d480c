"""One experiment: settings in, measured trajectory and summary out. Writes nothing; `__main__` saves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.regularizers import parse_regularizer, suggest
from toybandit.bandit import seed_streams, tabular_world
from toybandit.data import draw_pairs
from toybandit.metrics import Interval, interval, overoptimization
from toybandit.online import Trajectory, policy_gradient
from toybandit.proxy import PROXIES, make_proxy, pairwise_accuracy

WORLDS = ("tabular",)
DTYPES = ("float32", "float64")
RARE = 5  # an arm with at most this many comparisons is one the reward model hardly knows


@dataclass(frozen=True)
class Settings:
    """An online run in a world whose gold reward is known."""

    world: str = "tabular"
    """World: tabular (4 prompts, 100 independent arms each)."""
    proxy: str = "fitted"
    """Reward that is optimized: fitted (a reward model of preference pairs) or exact (the gold reward: the control)."""
    regularizer: str = "entropy"
    """Penalty: entropy, kl, length-normalized, length-normalized-shannon, none, or a sum such as entropy=0.5+kl=0.1."""
    coefficient: float | None = None
    """Strength of the regularizer, reward units per nat: alpha of entropy, beta of the others. Typical: 0.1 to 1."""
    seeds: int = 100
    """How many worlds are drawn, at least 2; means and 95 % intervals are over them."""
    seed: int = 0
    """Root of all random numbers. The same seed gives the same bits."""
    lr: float = 0.2
    """Step size of the policy gradient. Time is t = lr * steps, so a smaller one only slows the clock."""
    steps: int = 2500
    """Gradient steps. 0 measures the reference policy."""
    pairs: int = 300
    """Preference pairs drawn a prompt, before pairs of one arm with itself are dropped."""
    prior_scale: float = 1.0
    """Spread of the fitted reward model's random initialization, reward units. 0: pessimistic off the data."""
    dtype: str = "float32"
    """Precision of the gradient steps: float32 or float64. Metrics are always float64."""

    def __post_init__(self) -> None:
        for option, value, known in (
            ("world", self.world, WORLDS),
            ("proxy", self.proxy, PROXIES),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in known:
                raise ValueError(f"unknown {option} {value!r}{suggest(value, list(known))}")
        parse_regularizer(self.regularizer, self.coefficient)
        for option, number, least in (
            ("seeds", self.seeds, 2),  # one seed has no interval
            ("seed", self.seed, 0),
            ("steps", self.steps, 0),
            ("pairs", self.pairs, 1),
            ("prior-scale", self.prior_scale, 0),
        ):
            if not least <= number < float("inf"):
                raise ValueError(f"--{option} is {number}, expected a finite number >= {least}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"--lr is {self.lr}, expected a finite number > 0")

    @property
    def label(self) -> str:
        """The regularizer and its strength, for tables and legends."""
        plain = self.coefficient is None or "=" in self.regularizer or self.regularizer == "none"
        return self.regularizer if plain else f"{self.regularizer} {self.coefficient:g}"


@dataclass(frozen=True)
class Result:
    """What a run found.

    trajectory: every metric, one value a time and seed (so paired differences can be taken between
    runs of the same seeds). summary: name -> Interval over seeds, of the final policy; keys as below.
    """

    settings: Settings
    trajectory: Trajectory
    summary: dict[str, Interval]

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


def run(settings: Settings, *, on_progress: Callable[[float], None] = lambda share: None) -> Result:
    """Draw the worlds, fit the proxy, optimize it online, measure. on_progress gets the share of steps done."""
    streams = seed_streams(settings.seed, settings.seeds)
    world = tabular_world(streams)
    pairs = draw_pairs(world, streams, count=settings.pairs)
    proxy = make_proxy(settings.proxy, world, pairs, streams, prior_scale=settings.prior_scale)
    trajectory = policy_gradient(
        world,
        proxy,
        regularizer=parse_regularizer(settings.regularizer, settings.coefficient),
        lr=settings.lr,
        steps=settings.steps,
        dtype=np.dtype(settings.dtype),
        on_progress=on_progress,
    )
    final = {name: values[-1] for name, values in trajectory.metrics.items()}
    counted, plain = overoptimization(trajectory.metrics["proxy"], trajectory.metrics["gold"])
    rare = np.sum(np.exp(trajectory.logp), axis=-1, where=pairs.comparisons() <= RARE)
    per_seed = {
        "proxy_gain": final.pop("proxy"),
        "gold_gain": final.pop("gold"),
        "overoptimization": counted,
        "gold_fall": plain,
        **final,
        "mass/rare": np.mean(rare, axis=-1),
        "proxy_accuracy": pairwise_accuracy(world, proxy),
    }
    return Result(settings, trajectory, {name: interval(values) for name, values in per_seed.items()})
