"""What a learner can vary: a table of logits, weights of shared features, or next-token logits of a tree.

A policy turns parameters theta into logits over arms, and a vector of weights over arms into the
gradient sum_y weights(y) d log pi(y) / d theta. Weights that sum to 0 over the arms are assumed, as those
of every policy gradient with a baseline do, so the normalization of log pi drops out (except in a tree,
where each prefix has its own). Leading axes (configurations) are allowed everywhere.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from derivations.arrays import log_softmax
from toybandit import tree
from toybandit.bandit import World


class Policy(Protocol):
    """theta -> logits [..., seeds, prompts, arms], and back."""

    def start(self, leading: tuple[int, ...]) -> np.ndarray:
        """Parameters of the reference policy, with leading axes for configurations."""

    def logits(self, theta: np.ndarray) -> np.ndarray:
        """log pi up to a constant per prompt, bounded above by about 0."""

    def pull_back(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """sum_y weights(y) d log pi(y) / d theta."""


@dataclass(frozen=True)
class Table:
    """One logit per arm: theta is the logits themselves, [..., seeds, prompts, arms]."""

    ref_logp: np.ndarray

    def start(self, leading: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self.ref_logp, (*leading, *self.ref_logp.shape)).copy()

    def logits(self, theta: np.ndarray) -> np.ndarray:
        return theta

    def pull_back(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights


@dataclass(frozen=True)
class LogLinear:
    """log pi = log pi_ref + features.u + const, u shared by the prompts: theta = u, [..., seeds, d].

    features: [seeds, prompts, arms, d]. The gradient is the mean over prompts.
    """

    ref_logp: np.ndarray
    features: np.ndarray

    def start(self, leading: tuple[int, ...]) -> np.ndarray:
        seeds, *_, d = self.features.shape
        return np.zeros((*leading, seeds, d), dtype=self.ref_logp.dtype)

    def logits(self, theta: np.ndarray) -> np.ndarray:
        seeds, prompts, arms, d = self.features.shape
        flat = self.features.reshape(seeds, prompts * arms, d) @ theta[..., None]
        return log_softmax(self.ref_logp + flat.reshape(*theta.shape[:-1], prompts, arms))

    def pull_back(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        seeds, prompts, arms, d = self.features.shape
        flat = weights.reshape(*theta.shape[:-1], 1, prompts * arms)
        return (flat @ self.features.reshape(seeds, prompts * arms, d))[..., 0, :] / prompts


@dataclass(frozen=True)
class Tree:
    """One softmax over tokens per prefix: theta [..., seeds, prompts, prefixes, vocabulary]."""

    ref_logp: np.ndarray

    def start(self, leading: tuple[int, ...]) -> np.ndarray:
        theta = tree.token_logits(self.ref_logp)
        return np.broadcast_to(theta, (*leading, *theta.shape)).copy()

    def logits(self, theta: np.ndarray) -> np.ndarray:
        return tree.sequence_logp(theta).astype(theta.dtype)

    def pull_back(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return tree.pull_back(theta, weights).astype(theta.dtype)


def make_policy(world: World, dtype: Any) -> Policy:
    """The policy class of the world, starting at its reference, with parameters of `dtype`."""
    ref_logp = world.ref_logp.astype(dtype)
    if world.policy == "log-linear":
        if world.features is None:
            raise ValueError("a log-linear policy needs a world with features")
        return LogLinear(ref_logp, world.features.astype(dtype))
    return Tree(ref_logp) if world.policy == "tree" else Table(ref_logp)
