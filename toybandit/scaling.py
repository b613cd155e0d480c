"""Scaling of overoptimization: exact best-of-n, and the curves of Gao et al. (arXiv:2210.10760) with their fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from toybandit.bandit import World
from toybandit.metrics import measure, wins_against_reference

LEADING = -60.0  # nats; below, 1 - (1 - e^x)^n is n e^x to far more digits than float64 has


def best_of_n(ref_logp: np.ndarray, reward: np.ndarray, n: int) -> np.ndarray:
    """Log-probs of the best of n independent reference draws by reward, ties broken by chance: [..., arms].

    P(best = y) = [F(r_y)^n - F(r_y -)^n] q(y) / q(tie of y), F the distribution function of the reward
    under pi_ref. n >= 1. With x = q(tie) / F the bracket is F^n (1 - (1 - x)^n), and log F is summed from
    below where F < 1/2 and is log1p(-P(r > r_y)) elsewhere: no arm loses its digits, however improbable.
    """
    order = np.argsort(reward, axis=-1)
    sorted_reward = np.take_along_axis(reward, order, axis=-1)
    logq = np.take_along_axis(ref_logp, order, axis=-1)
    # Runs of equal rewards: the last place of each, and its mass.
    ends = np.concatenate([np.diff(sorted_reward, axis=-1) > 0, np.ones_like(logq[..., :1], bool)], axis=-1)
    places = np.where(ends, np.arange(logq.shape[-1]), logq.shape[-1])
    last = np.flip(np.minimum.accumulate(np.flip(places, axis=-1), axis=-1), axis=-1)
    begins = np.flatnonzero(np.concatenate([[True], ends.ravel()[:-1]]))
    tie = np.repeat(np.logaddexp.reduceat(logq.ravel(), begins), np.diff([*begins, logq.size])).reshape(logq.shape)
    at_most = np.take_along_axis(np.logaddexp.accumulate(logq, axis=-1), last, axis=-1)
    from_above = np.flip(np.logaddexp.accumulate(np.flip(logq, axis=-1), axis=-1), axis=-1)
    nothing = np.full_like(logq[..., :1], -np.inf)
    above = np.take_along_axis(np.concatenate([from_above[..., 1:], nothing], axis=-1), last, axis=-1)
    log_f = np.where(at_most < np.log(0.5), at_most, np.log1p(-np.exp(np.minimum(above, np.log(0.5)))))
    share = np.minimum(0.0, tie - log_f)
    with np.errstate(divide="ignore"):  # a share of 1, the lowest run: log1p(-1) = -inf, and the bracket is F^n
        bracket = np.log(-np.expm1(n * np.log1p(-np.exp(np.maximum(share, LEADING)))))
    bracket = np.where(share > LEADING, bracket, np.log(n) + share)
    logp = n * log_f + bracket + logq - tie
    result = np.empty_like(logp)
    np.put_along_axis(result, order, logp, axis=-1)
    return result


def best_of_n_curve(world: World, proxy: np.ndarray, ns: list[int]) -> dict[str, np.ndarray]:
    """Metrics of `metrics.measure` of best-of-n by the proxy: name -> [n, seeds]; no retention (no fit)."""
    wins = wins_against_reference(world)
    rows = []
    for n in ns:
        logp = best_of_n(world.ref_logp, proxy, n)
        row = measure(world, proxy, wins, logp)
        rows.append({name: row[name] for name in ("proxy", "gold", "win_rate", "kl", "entropy")})
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True)
class GaoFit:
    """gold = d (a - b d) (`quadratic`) or d (a - b log d) (`logarithmic`), d = sqrt(KL), by least squares.

    r2: 1 - residual sum of squares / sum of squares about the mean. peak: the d where the curve is highest.
    """

    form: str
    a: float
    b: float
    r2: float

    @property
    def peak(self) -> float:
        """Where the fitted curve turns down; infinite for b <= 0."""
        if self.b <= 0:
            return np.inf
        with np.errstate(over="ignore"):
            return float(self.a / (2 * self.b) if self.form == "quadratic" else np.exp(self.a / self.b - 1))

    def __call__(self, d: Any) -> Any:
        """The fitted gold gain at distance d."""
        return d * self.a - self.b * _second(self.form, d)


def _second(form: str, d: Any) -> Any:
    d = np.asarray(d, dtype=float)
    if form == "quadratic":
        return d**2
    return d * np.log(np.where(d > 0, d, 1.0))


def fit_gao(kl: np.ndarray, gold: np.ndarray, form: str) -> GaoFit:
    """Fit one form, linear in a and b, to a curve.

    Args:
        kl: to the reference, nats, [points], 3 or more.
        gold: gain over the reference, reward units, [points].
        form: `quadratic` or `logarithmic`.

    Raises:
        ValueError: another form, or fewer than 3 points.
    """
    if len(kl) < 3 or form not in ("quadratic", "logarithmic"):
        raise ValueError(f"a fit of form {form!r} to {len(kl)} points: expected quadratic or logarithmic, and 3 points")
    d = np.sqrt(np.maximum(kl, 0.0))
    design = np.column_stack([d, -_second(form, d)])
    (a, b), *_ = np.linalg.lstsq(design, gold, rcond=None)
    residual = gold - design @ (a, b)
    spread = np.sum((gold - gold.mean()) ** 2)
    return GaoFit(form, float(a), float(b), float(1 - np.sum(residual**2) / spread))
