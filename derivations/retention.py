"""How much of the reference a policy keeps: log pi = kappa log q + tau r + one constant per prompt.

Under natural gradient this is a law (`retention_law`, claim `retention-law`): kappa = 1 - alpha tau under entropy
alpha, and kappa = 1 under KL alone. For any policy it is a fit by least squares (`fit_retention`), and R^2 of the
*change* log pi - log q says how good a one; R^2 of the level is high for every policy that is near the reference.
Weights do not move with the policy: those that do would change kappa by selection alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, namespace

COLLINEAR = 1e-10  # 1 - correlation^2; below, round-off leaves kappa and tau fewer than 6 digits
EXACT = 1e-12  # a change with a smaller share of the level's squares is round-off: it has no R^2
DRAWS = 2000
NAMES = ("kappa", "tau", "r2_level", "r2_change")


def retention_law(t: Array, *, alpha: Any, beta: Any) -> tuple[Array, Array]:
    """Retention and reward pressure of natural-gradient flow from the reference. Claim `retention-law`.

    Args:
        t: time (learning rate times steps), an array of any shape.
        alpha, beta: strengths of entropy and KL, >= 0, reward units per nat.

    Returns:
        kappa = 1 - alpha tau, the share of the reference that is kept, and tau = (1 - e^(-ct)) / c with
        c = alpha + beta (tau = t for c = 0), in 1 / reward unit; shapes of t.
    """
    c = alpha + beta
    tau = -namespace(t).expm1(-c * t) / c if c > 0 else t
    return 1 - alpha * tau, tau


@dataclass(frozen=True)
class Retention:
    """A least-squares fit, each [...]. kappa_error, tau_error: standard errors from the residuals (0 where the law
    holds exactly), of the sandwich form HC3, right whatever the variances of the residuals (MacKinnon and White
    1985). All four are NaN where log q and the reward are collinear: only a combination is determined then."""

    kappa: np.ndarray
    tau: np.ndarray
    kappa_error: np.ndarray
    tau_error: np.ndarray


@dataclass(frozen=True)
class Sums:
    """Weighted sums of products of deviations from the prompt's weighted mean, [...]: all that a fit needs.

    level: of log pi. change: of log pi - log q, which is regressed in place of the level: exact for the reference,
    and small changes keep their digits.
    """

    ref_ref: Any
    ref_reward: Any
    reward_reward: Any
    change_ref: Any
    change_reward: Any
    change_change: Any
    level_level: Any

    def total(self, counts: np.ndarray) -> "Sums":
        """Sums over prompts, each counted as often as `counts` [draws, prompts] says: fields [draws]."""
        return Sums(**{name: counts @ field for name, field in vars(self).items()})

    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """kappa, tau and the determinant of the normal equations; NaN where they are collinear."""
        determinant = self.ref_ref * self.reward_reward - self.ref_reward**2
        determinant = np.where(determinant > COLLINEAR * self.ref_ref * self.reward_reward, determinant, np.nan)
        kappa = 1 + (self.change_ref * self.reward_reward - self.change_reward * self.ref_reward) / determinant
        tau = (self.change_reward * self.ref_ref - self.change_ref * self.ref_reward) / determinant
        return kappa, tau, determinant


def fit_retention(logp: np.ndarray, ref_logp: np.ndarray, reward: np.ndarray, *, errors: bool = True) -> Retention:
    """Fit over all responses, weighted by the reference, with errors over responses.

    Args:
        logp: log-probs of the policy, nats [..., prompts, responses]; the others broadcast to it.
        ref_logp, reward: of the reference, nats; of the reward that was optimized, reward units.
        errors: whether standard errors are wanted (NaN otherwise).

    Returns:
        The fit, [...]; the reference itself has kappa 1 and tau 0.
    """
    weights = np.exp(ref_logp)
    change, ref, gain = (_centred(x, weights) for x in (logp - ref_logp, ref_logp, reward))
    sums = _sums(change, ref, gain, weights, axes=(-2, -1))
    kappa, tau, determinant = sums.coefficients()
    if not errors:
        return Retention(kappa, tau, np.full_like(kappa, np.nan), np.full_like(tau, np.nan))
    residual = change - _responses(kappa - 1) * ref - _responses(tau) * gain
    # How much each slope changes with the residual of one response, and how much of its value its own fit takes up.
    square = _responses(determinant)
    pull_kappa = weights * (ref * _responses(sums.reward_reward) - gain * _responses(sums.ref_reward)) / square
    pull_tau = weights * (gain * _responses(sums.ref_ref) - ref * _responses(sums.ref_reward)) / square
    leverage = weights + pull_kappa * ref + pull_tau * gain
    left_out = residual / np.maximum(1 - leverage, np.finfo(float).eps)
    found = (np.sqrt(np.sum((pull * left_out) ** 2, axis=(-2, -1))) for pull in (pull_kappa, pull_tau))
    return Retention(kappa, tau, *found)


def bootstrap_retention(logp: np.ndarray, ref_logp: np.ndarray, reward: np.ndarray) -> dict[str, dict[str, Any]]:
    """Fit on a fixed set of samples of the reference, with intervals over prompts.

    Args:
        logp, ref_logp, reward: [prompts, samples]; nats, nats, reward units.

    Returns:
        kappa, tau, r2_level, r2_change -> {mean: the estimate, low, high: 95 % by the bootstrap over prompts}; None
        where a number is not determined, as R^2 of the change at the reference.
    """
    y, q, r = (np.asarray(x, dtype=float) for x in (logp, ref_logp, reward))
    weights = np.ones_like(q) / q.shape[-1]
    change, ref, gain = (_centred(x, weights) for x in (y - q, q, r))
    sums, p = _sums(change, ref, gain, weights, axes=-1), len(q)
    estimate = _with_r2(sums.total(np.ones((1, p))))[0]
    counts = np.random.default_rng(0).multinomial(p, [1 / p] * p, size=DRAWS).astype(float)
    draws = _with_r2(sums.total(counts))
    found: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(NAMES):
        column = draws[np.isfinite(draws[:, i]), i]
        exists = bool(np.isfinite(estimate[i])) and len(column) > 0
        low, high = np.quantile(column, (0.025, 0.975)).tolist() if exists else (None, None)
        found[name] = {"mean": float(estimate[i]) if exists else None, "low": low, "high": high}
    return found


def _with_r2(sums: Sums) -> np.ndarray:
    """[draws, 4], in the order of NAMES."""
    kappa, tau, _ = sums.coefficients()
    explained = (kappa - 1) * sums.change_ref + tau * sums.change_reward
    missed = np.maximum(sums.change_change - explained, 0.0)
    moved = sums.change_change > EXACT * sums.level_level
    r2_change = np.where(moved, 1 - missed / np.where(moved, sums.change_change, 1.0), np.nan)
    r2_level = 1 - missed / np.where(sums.level_level > 0, sums.level_level, np.nan)
    return np.stack([kappa, tau, r2_level, r2_change], axis=1)


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Deviations from the weighted mean of the prompt; the weights of a prompt sum to 1."""
    return np.asarray(values - np.sum(weights * values, axis=-1, keepdims=True))


def _sums(change: np.ndarray, ref: np.ndarray, gain: np.ndarray, weights: np.ndarray, *, axes: Any) -> Sums:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.sum(weights * a * b, axis=axes))

    level = change + ref
    pairs = ((ref, ref), (ref, gain), (gain, gain), (change, ref), (change, gain), (change, change), (level, level))
    return Sums(*(product(a, b) for a, b in pairs))


def _responses(values: np.ndarray) -> np.ndarray:
    """[...] -> [..., 1, 1], to go with [..., prompts, responses]."""
    return values[..., None, None]
