"""Derivatives of the ground floor's losses and implicit rewards: descent without automatic differentiation.

These are no second definitions: the tests hold each one to finite differences and to torch's autograd
of the very functions in `derivations.objectives` and `derivations.regularizers`.
"""

import numpy as np
from scipy.special import expit, softmax

from derivations.objectives import Objective
from derivations.regularizers import (
    KL,
    AlphaDivergence,
    Entropy,
    ForwardKL,
    JensenShannon,
    LengthNormalized,
    LengthNormalizedShannon,
    Regularizer,
)


def loss_slope(objective: Objective, rewards: np.ndarray) -> np.ndarray:
    """d loss / d reward of each response: implicit rewards [..., m], preferred first -> [..., m].

    The components of an example sum to 0 exactly for pairs: the loss knows only differences.
    """
    if objective.listwise:
        return _ranking_slope(rewards, objective.top)
    margin = rewards[..., 0] - rewards[..., 1] - objective.gamma
    if objective.least_squares:
        chosen = 2 * (margin - 0.5) / objective.regularizer.coefficient**2  # type: ignore[attr-defined]
    else:
        eps = objective.label_smoothing
        chosen = eps * expit(margin) - (1 - eps) * expit(-margin)
    return np.stack([chosen, -chosen], axis=-1)


def _ranking_slope(rewards: np.ndarray, top: int | None) -> np.ndarray:
    """Of -log Plackett-Luce: each place takes the softmax over those still in the race, minus 1 for its winner."""
    places = rewards.shape[-1] - 1 if top is None else top
    slope = np.zeros_like(rewards)
    for k in range(places):
        slope[..., k:] += softmax(rewards[..., k:], axis=-1)
        slope[..., k] -= 1
    return slope


def score_slope(regularizer: Regularizer, logp: np.ndarray, *, length: np.ndarray, ref_logp: np.ndarray) -> np.ndarray:
    """d s / d log pi, elementwise > 0, of one named regularizer; reward units per nat, shape of logp."""
    beta = getattr(regularizer, "coefficient", None)
    match regularizer:
        case Entropy() | KL():
            return np.full_like(logp, beta)
        case LengthNormalized() | LengthNormalizedShannon():
            return np.broadcast_to(beta / length, logp.shape)
        case ForwardKL():
            return beta * np.exp(ref_logp - logp)
        case JensenShannon():
            return beta * expit(ref_logp - logp)
        case AlphaDivergence():
            return beta * np.exp(regularizer.order * (ref_logp - logp))
    raise TypeError(f"no slope for {type(regularizer).__name__}: offline descent takes one named regularizer")
