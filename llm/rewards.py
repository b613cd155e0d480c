"""Gold rewards, which stand for what we want, and the fitted proxy, which is what training sees.

Gold is the sentiment of a response where it stays on its topic. The proxy is a linear Bradley-Terry
head on frozen features of the reference model (mean last hidden state of the response), fitted on
noisy preference pairs, so its errors are those of a real reward model: finite data and blind spots.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from derivations.commands import InputError
from derivations.preferences import bradley_terry

Floats = NDArray[np.float64]
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
SINGULARS = ((r"ies$", "y"), (r"ves$", "f"), (r"(?<=[ox])es$", ""), (r"(?<!s)s$", ""))

_ANALYZER = SentimentIntensityAnalyzer()


def sentiment(text: str) -> float:
    """VADER's compound sentiment in [-1, 1] (Hutto and Gilbert 2014)."""
    return float(_ANALYZER.polarity_scores(text)["compound"])


def on_topic(text: str, topic: str) -> bool:
    """Whether the text mentions the topic as a word, in the singular or plural, ignoring case."""
    forms = {topic, *(re.sub(ending, singular, topic) for ending, singular in SINGULARS)}
    return re.search(rf"\b({'|'.join(map(re.escape, forms))})(s|es)?\b", text, re.IGNORECASE) is not None


def on_topic_sentiment(text: str, topic: str) -> float:
    """Sentiment in [-1, 1] where the topic is mentioned, else 0: the gold reward."""
    return sentiment(text) if on_topic(text, topic) else 0.0


@dataclass(frozen=True)
class Proxy:
    """reward = features @ weights / scale. scale: within-prompt standard deviation of the raw reward
    between reference samples, so one reward unit is one such deviation. accuracy: on held-out pairs."""

    weights: Floats
    scale: float
    accuracy: float
    ridge: float

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, d] -> rewards float32 [n]."""
        weights = torch.tensor(self.weights / self.scale, dtype=torch.float32, device=features.device)
        return features @ weights


def fit_bradley_terry(differences: Floats, *, ridge: float) -> Floats:
    """Weights w that minimize mean -log sigmoid(d . w) + ridge/2 |w|^2 over differences d [n, k] (convex)."""
    x = torch.from_numpy(differences)
    zero = torch.zeros(len(x), dtype=x.dtype)

    def value_and_gradient(w: Floats) -> tuple[float, Floats]:
        weights = torch.from_numpy(w).requires_grad_()
        loss = -bradley_terry(x @ weights, zero).mean() + ridge / 2 * weights @ weights
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
    another fifth gives the accuracy. Raises InputError if gold does not vary within any prompt.
    """
    rng = np.random.default_rng(seed)
    p, k, _ = features.shape
    flat = features.reshape(-1, features.shape[-1])
    scaled = features / np.maximum(flat.std(0), 1e-6)
    deviation = _within_deviation(gold)
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
    y = _ordered_differences(scaled[chooses], gold[chooses])
    zero = np.zeros(len(y))
    ridge = max(RIDGES, key=lambda r: float(bradley_terry(y @ fits[r], zero).sum()))
    ahead = _ordered_differences(scaled[judges], gold[judges]) @ fits[ridge] > 0
    return Proxy(
        weights=fits[ridge] / np.maximum(flat.std(0), 1e-6),
        scale=_within_deviation(scaled @ fits[ridge]),
        accuracy=float(ahead.mean()) if len(ahead) else float("nan"),
        ridge=ridge,
    )


def _ordered_differences(features: Floats, gold: Floats) -> Floats:
    """Feature differences, better minus worse by gold, of all pairs within a prompt that gold does not tie."""
    i, j = np.triu_indices(gold.shape[1], 1)
    gap = (gold[:, i] - gold[:, j]).ravel()
    differences = (features[:, i] - features[:, j]).reshape(len(gap), -1)
    return (np.sign(gap)[:, None] * differences)[gap != 0]


def _within_deviation(values: Floats) -> float:
    """Standard deviation within prompts of values [p, k], averaged as a variance."""
    return float(np.sqrt(values.var(axis=1, ddof=1).mean()))
