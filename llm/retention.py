"""How much of the reference a policy keeps: log pi = kappa log q + tau r + a constant a prompt (THEORY 4.2).

Least squares on a fixed set of reference samples: samples of the policy would select themselves. Under
natural gradient the law is exact; for a network it is a fit, and R^2 of the *change* log pi - log q says how
good a one (R^2 of the level is high for every policy that is still near the reference). Intervals are
bootstrapped over prompts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
NAMES = ("kappa", "tau", "r2_level", "r2_change")
DRAWS = 2000
EXACT = 1e-12  # a change with a smaller share of the level's squares is round-off: it has no R^2
Interval = dict[str, float | None]


@dataclass(frozen=True)
class Moments:
    """Sums over the responses of each prompt, of deviations from the prompt's mean: all the fit needs.

    y = log pi, q = log q, r = reward. gram [p, 2, 2] of (q, r), cross [p, 2] with y, level [p] of y, change
    [p] of y - q.
    """

    gram: Floats
    cross: Floats
    level: Floats
    change: Floats


def retention(logp: Tensor, logq: Tensor, reward: Tensor, *, k: int) -> dict[str, Interval]:
    """kappa, tau (1 / reward unit), R^2 of level and of change: {mean: the estimate, low, high: 95 %, over prompts}.

    All [prompts * k], k reference samples of each prompt in a row, nats. At the reference kappa is 1, tau 0,
    and the change has no R^2 (None).
    """
    moments = _moments(logp, logq, reward, k=k)
    p = len(moments.level)
    estimate = _fit(moments, np.ones((1, p)))[0]
    counts = np.random.default_rng(0).multinomial(p, [1 / p] * p, size=DRAWS).astype(float)
    draws = _fit(moments, counts)
    found: dict[str, Interval] = {}
    for i, name in enumerate(NAMES):
        column = draws[np.isfinite(draws[:, i]), i]
        exists = np.isfinite(estimate[i]) and len(column) > 0
        low, high = np.quantile(column, (0.025, 0.975)).tolist() if exists else (None, None)
        found[name] = {"mean": float(estimate[i]) if exists else None, "low": low, "high": high}
    return found


def _moments(logp: Tensor, logq: Tensor, reward: Tensor, *, k: int) -> Moments:
    y, q, r = (x.double().cpu().numpy().reshape(-1, k) for x in (logp, logq, reward))
    y, change, q, r = (x - x.mean(axis=1, keepdims=True) for x in (y, y - q, q, r))
    x = np.stack([q, r], axis=2)
    gram, cross = np.einsum("pki,pkj->pij", x, x), np.einsum("pki,pk->pi", x, change)
    # regress the change, not the level: near the reference its coefficients are not lost in those of log q
    return Moments(gram, cross, (y**2).sum(1), (change**2).sum(1))


def _fit(moments: Moments, counts: Floats) -> Floats:
    """[draws, 4], in the order of NAMES, with each prompt counted as often as `counts` [draws, p] says."""
    gram, cross = np.einsum("dp,pij->dij", counts, moments.gram), counts @ moments.cross
    level, change = counts @ moments.level, counts @ moments.change
    # least squares that take the smallest solution where log q and the reward are collinear
    coefficients = np.einsum("dij,dj->di", np.linalg.pinv(gram, hermitian=True), cross)
    explained = np.einsum("di,di->d", coefficients, cross)
    missed = np.maximum(change - explained, 0.0)
    moved = change > EXACT * level
    r2_change = np.where(moved, 1 - missed / np.where(moved, change, 1.0), np.nan)
    r2_level = 1 - missed / np.where(level > 0, level, np.nan)
    return np.stack([1 + coefficients[:, 0], coefficients[:, 1], r2_level, r2_change], axis=1)
