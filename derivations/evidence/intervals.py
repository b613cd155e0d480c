"""A mean over independent values, or a share of successes, with its 95 % confidence interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean with its 95 % confidence interval (Student's t, n - 1 degrees of freedom)."""

    mean: float
    low: float
    high: float


def interval(values: Iterable[float] | np.ndarray) -> Interval:
    """Mean and Student interval over independent values such as one per seed.

    Args:
        values: one number per seed (or comparison), at least one.

    Returns:
        The interval: infinite for one value, of no width for equal values.

    Raises:
        ValueError: no value, or an array of more than one dimension.
    """
    from scipy import stats  # the formulas beside this package load without it

    x = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=float)
    if x.ndim != 1 or len(x) < 1:
        raise ValueError(f"values of shape {x.shape}: an interval needs one number per seed, at least one")
    mean = float(np.mean(x))
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * np.std(x, ddof=1) / len(x) ** 0.5)
    return Interval(mean, mean - half, mean + half)


def proportion(successes: float, n: int) -> Interval:
    """Share of successes among n independent trials with Wilson's interval, which stays in [0, 1].

    Args:
        successes: from 0 to n; halves are ties.
        n: trials; with none, nothing is known: a share of 1/2 in [0, 1].

    Returns:
        The share itself, and the interval around it (Wilson 1927, without continuity correction).

    Raises:
        ValueError: more successes than trials, or fewer than none.
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 to n of them")
    if n == 0:
        return Interval(0.5, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))
