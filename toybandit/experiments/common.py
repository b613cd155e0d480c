"""What the experiments share: the protocol, drawn bandits kept for the next statement, runs over many strengths."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from derivations.evidence.intervals import Interval
from derivations.regularizers import REGULARIZERS, Term
from toybandit.experiment import Result, assess, drawn, optimize
from toybandit.metrics import overoptimization
from toybandit.online import Trajectory
from toybandit.settings import Settings


@dataclass
class Laboratory:
    """The protocol (tables of numbers), and the figures drawn so far (name -> picture)."""

    protocol: dict[str, dict[str, Any]]
    figures: dict[str, Figure] = field(default_factory=dict)

    def table(self, name: str) -> dict[str, Any]:
        """The numbers of one statement over those common to all."""
        return self.protocol["common"] | self.protocol[name]

    def settings(self, name: str, **changes: Any) -> Settings:
        """Standard settings of a statement with changes."""
        table = self.table(name)
        standard = {key: table[key] for key in ("seed", "seeds", "lr", "steps")}
        return Settings(**{"regularizer": "none"} | standard | changes)

    def run(self, name: str, **changes: Any) -> Result:
        """One run of `toybandit run`."""
        settings = self.settings(name, **changes)
        bandit = drawn(settings)
        return assess(settings, bandit, optimize(bandit, settings))

    def strengths(self, name: str, regularizer: str, values: list[float], **changes: Any) -> Trajectory:
        """One run per strength, all on the same worlds: metrics [times, strengths, seeds]."""
        settings = self.settings(name, **changes)
        return optimize(drawn(settings), settings, regularizer=term(regularizer, values, settings.dtype))


def term(name: str, values: list[float], dtype: str) -> Term:
    """A regularizer whose strength is an array: one configuration each."""
    return REGULARIZERS[name](np.array(values, dtype=dtype).reshape(-1, 1, 1, 1))


def counted(trajectory: Trajectory) -> np.ndarray:
    """Overoptimization as `toybandit.metrics.overoptimization` counts it, [..., seeds]."""
    return overoptimization(trajectory.metrics["proxy"], trajectory.metrics["gold"])[0]


def final(trajectory: Trajectory, name: str) -> np.ndarray:
    """A metric of the final policy, [..., seeds]."""
    return trajectory.metrics[name][-1]


def fallen(trajectory: Trajectory) -> np.ndarray:
    """The plain fall of gold from its peak, whatever the proxy does, [..., seeds]."""
    return overoptimization(trajectory.metrics["proxy"], trajectory.metrics["gold"])[1]


def spearman(x: Any, y: Any, *, least: float = 0.0) -> float:
    """Rank correlation; 0 where y varies by no more than `least`: round-off has no ranks."""
    return 0.0 if np.ptp(y) <= least else round(float(stats.spearmanr(x, y).statistic), 12)


def spearman_interval(x: Any, y: np.ndarray, *, seed: int, least: float, draws: int = 1000) -> Interval:
    """Rank correlation of x [n] with the means of y [n, seeds], and its 95 % bootstrap interval over (paired) seeds."""
    picks = np.random.default_rng(seed).integers(y.shape[-1], size=(draws, y.shape[-1]))
    means = np.stack([y[:, pick].mean(-1) for pick in picks])
    found = [spearman(x, mean, least=least) for mean in means]
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(spearman(x, y.mean(-1), least=least), float(low), float(high))


def sd_ratio(
    above: np.ndarray, below: np.ndarray, *, seed: int, least: float = 0.0, draws: int = 2000
) -> tuple[float, float, float]:
    """Ratio of standard deviations over seeds, with its 95 % bootstrap interval over (paired) seeds.

    1 where neither spread exceeds `least`: there is nothing to compare.
    """
    if np.std(above) <= least and np.std(below) <= least:
        return 1.0, 1.0, 1.0
    picks = np.random.default_rng(seed).integers(len(above), size=(draws, len(above)))
    ratios = np.std(above[picks], axis=-1) / np.std(below[picks], axis=-1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.std(above) / np.std(below)), float(low), float(high)
