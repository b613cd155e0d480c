"""A mean over independent values with its 95 % confidence interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

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
