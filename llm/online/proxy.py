"""The proxy reward, which is what training sees: a fitted Bradley-Terry head on frozen features.

Features are the mean last hidden state of the response under the reference model. The head is linear and
fitted on noisy preference pairs, so its errors are those of a real reward model: finite data and blind
spots. What is known of its errors before training stands beside it: accuracy and calibration on held-out
prompts, and what it says of responses that the reference would not write (`llm.online.proxy_report`).
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, write_json
from derivations.preferences import bradley_terry

Floats = NDArray[np.float64]
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Proxy:
    """reward = features @ weights / scale.

    scale: within-prompt standard deviation of the raw reward between reference samples, so one reward unit
    is one such deviation. accuracy: share of held-out pairs ranked as gold does. slope: of calibration, the
    factor by which the raw reward should be multiplied to predict held-out preferences (1: calibrated, less:
    overconfident). judged: pairs these two are measured on. ridge, pairs: of the fit.
    """

    weights: Floats
    scale: float
    accuracy: float
    slope: float
    judged: int
    ridge: float
    pairs: int
    off_distribution: dict[str, Any] = field(default_factory=dict)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, d] -> rewards float32 [n]."""
        weights = torch.tensor(self.weights / self.scale, dtype=torch.float32, device=features.device)
        return features @ weights

    def summary(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {
            "accuracy": self.accuracy,
            "calibration": {"slope": self.slope, "pairs": self.judged},
            "scale": self.scale,
            "ridge": self.ridge,
            "pairs": self.pairs,
            "off_distribution": self.off_distribution,
        }


def fit_bradley_terry(differences: Floats, *, ridge: float, won: Floats | float = 1.0) -> Floats:
    """Weights w that minimize the mean of -log P(first wins, or loses) + ridge/2 |w|^2 (convex).

    differences: d [n, k], features of the first minus of the second; P(first wins) = sigmoid(d . w). won: the
    observed share of wins of the first, in [0, 1].
    """
    x = torch.from_numpy(differences)
    share = torch.as_tensor(won, dtype=x.dtype)
    zero = torch.zeros(len(x), dtype=x.dtype)

    def value_and_gradient(w: Floats) -> tuple[float, Floats]:
        weights = torch.from_numpy(w).requires_grad_()
        reward = x @ weights
        likelihood = share * bradley_terry(reward, zero) + (1 - share) * bradley_terry(zero, reward)
        loss = -likelihood.mean() + ridge / 2 * weights @ weights
        (gradient,) = torch.autograd.grad(loss, weights)
        return loss.item(), gradient.numpy()

    start = np.zeros(differences.shape[1])
    result = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(result.x)


def fit_proxy(features: Floats, gold: Floats, *, pairs: int, seed: int) -> Proxy:
    """Proxy from noisy preferences between samples of one prompt.

    features [p, k, d], gold [p, k] (reward units): k reference samples of each of p prompts. Preferences
    are drawn by Bradley-Terry from gold in units of its own within-prompt deviation. A fifth of the
    prompts chooses the ridge (by log-likelihood of the pairs as gold ranks them, gold ties left out),
    another fifth gives accuracy and calibration. Raises InputError if gold does not vary within any prompt.
    """
    rng = np.random.default_rng(seed)
    p, k, _ = features.shape
    unit = np.maximum(features.reshape(-1, features.shape[-1]).std(0), 1e-6)
    scaled = features / unit
    deviation = within_deviation(gold)
    if deviation == 0:
        raise InputError("the gold reward does not vary between samples of a prompt, so no proxy can be fitted to it")
    order = rng.permutation(p)
    fifth = max(1, p // 5)
    chooses, judges, train = order[:fifth], order[fifth : 2 * fifth], order[2 * fifth :]

    prompt = rng.choice(train, size=pairs)
    first = rng.integers(k, size=pairs)
    second = (first + rng.integers(1, k, size=pairs)) % k
    difference = (gold[prompt, first] - gold[prompt, second]) / deviation
    won = rng.random(pairs) < np.exp(bradley_terry(difference, np.zeros(pairs)))
    x = np.where(won, 1.0, -1.0)[:, None] * (scaled[prompt, first] - scaled[prompt, second])

    fits = {ridge: fit_bradley_terry(x, ridge=ridge) for ridge in RIDGES}
    likelihood = {ridge: _likelihood(scaled[chooses] @ w, gold[chooses]) for ridge, w in fits.items()}
    ridge = max(RIDGES, key=lambda r: likelihood[r])
    raw = scaled @ fits[ridge]
    agree = np.concatenate(agreements(raw[judges], gold[judges]))
    return Proxy(
        weights=fits[ridge] / unit,
        scale=within_deviation(raw),
        accuracy=float(agree.mean()) if len(agree) else float("nan"),
        slope=calibration_slope(raw[judges], gold[judges] / deviation),
        judged=len(agree),
        ridge=ridge,
        pairs=pairs,
    )


def _likelihood(reward: Floats, gold: Floats) -> float:
    """Log-likelihood of all untied pairs within prompts, as gold ranks them; both [p, k]."""
    i, j = np.triu_indices(gold.shape[1], 1)
    sign = np.sign(gold[:, i] - gold[:, j])
    return float(np.where(sign, bradley_terry(sign * reward[:, i], sign * reward[:, j]), 0).sum())


def agreements(reward: Floats, gold: Floats) -> list[Floats]:
    """For each prompt, its pairs that gold does not tie: 1 where reward ranks them as gold, 1/2 on a tie, else 0.

    reward, gold: [p, k] -> p arrays.
    """
    i, j = np.triu_indices(gold.shape[1], 1)
    by_gold, by_reward = np.sign(gold[:, i] - gold[:, j]), np.sign(reward[:, i] - reward[:, j])
    same = (1 + by_gold * by_reward) / 2
    return [row[untied] for row, untied in zip(same, by_gold != 0, strict=True)]


def calibration_slope(raw: Floats, log_odds: Floats) -> float:
    """b that makes sigmoid(b (raw_i - raw_j)) the likeliest for preferences drawn from log_odds; both [p, k].

    All pairs within prompts, each with its exact probability instead of one noisy draw.
    """
    i, j = np.triu_indices(raw.shape[1], 1)
    difference, odds = (raw[:, i] - raw[:, j]).reshape(-1, 1), (log_odds[:, i] - log_odds[:, j]).ravel()
    scale = within_deviation(raw) or 1.0  # so that the optimizer's tolerance means the same for every head
    won = np.exp(bradley_terry(odds, np.zeros_like(odds)))
    return float(fit_bradley_terry(difference / scale, ridge=0.0, won=won)[0] / scale)


def within_deviation(values: Floats) -> float:
    """Standard deviation within prompts of values [p, k], averaged as a variance."""
    return float(np.sqrt(values.var(axis=1, ddof=1).mean()))


def save_proxy(proxy: Proxy, folder: Path, *, reference: str) -> None:
    """Write `proxy.json`: weights (exact) and what is known of them. reference: hash of the model of the features."""
    write_json(folder / "proxy.json", {"reference": reference, **asdict(proxy)})


def load_proxy(folder: Path, *, reference: str) -> Proxy:
    """A saved proxy. Raises InputError if it is damaged or was fitted on features of another model."""
    path = folder / "proxy.json"
    saved = read_json(path)
    try:
        fitted_on = saved.pop("reference")
        proxy = Proxy(**(saved | {"weights": np.array(saved["weights"], dtype=np.float64)}))
        finite = proxy.weights.ndim == 1 and bool(np.isfinite(proxy.weights).all()) and 0 < proxy.scale < math.inf
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"cannot read the proxy {path}: {error}") from None
    if not finite:
        raise InputError(f"the proxy {path} has weights or a scale that are no numbers")
    if fitted_on != reference:
        raise InputError(
            f"the proxy {path} reads features of another model; fit one for this model (leave --proxy out)"
        )
    return proxy
