"""Worlds: bandits whose gold reward, reference policy and response lengths are known exactly.

An arm is a response. Every array of a world has shape [seeds, prompts, arms]; a seed is a fresh world
drawn from its own stream of random numbers, so its result does not depend on which other seeds are
run beside it. Source: TOY, "Worlds".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence, default_rng

from derivations.arrays import Array, logsumexp

PROMPTS, ARMS = 4, 100
SHARPNESS = 2.0  # k: spread of the reference's log-probs, nats per unit of its score
KNOWLEDGE = 0.6  # rho: correlation of the reference's score with the gold reward
MEAN_LENGTH, LENGTH_SPREAD, SHORTEST, LONGEST = 30, 0.4, 5, 120  # tokens; the spread is of the logarithm


@dataclass(frozen=True)
class World:
    """What the experimenter knows and the learner does not. All arrays float64 [seeds, prompts, arms].

    gold: the true reward r*, reward units (the logistic scale of Bradley-Terry is 1).
    ref_logp: log pi_ref, nats; normalized over arms.
    length: response lengths in units of their mean over the arms of the prompt.
    """

    gold: np.ndarray
    ref_logp: np.ndarray
    length: np.ndarray

    def __post_init__(self) -> None:
        if not self.gold.shape == self.ref_logp.shape == self.length.shape or self.gold.ndim != 3:
            raise ValueError(
                f"gold {self.gold.shape}, ref_logp {self.ref_logp.shape}, length {self.length.shape}: "
                "expected one shape [seeds, prompts, arms]"
            )


@dataclass(frozen=True)
class Streams:
    """Independent random streams of one seed, one a purpose.

    They must differ: a reward model's prior drawn from the world's stream equals the gold reward, and
    every effect of this package vanishes.
    """

    world: SeedSequence
    pairs: SeedSequence
    prior: SeedSequence


def seed_streams(seed: int, count: int) -> list[Streams]:
    """Streams of `count` seeds under one root seed; the i-th does not depend on `count`."""
    return [Streams(*child.spawn(3)) for child in SeedSequence(seed).spawn(count)]


def log_softmax(logits: Array) -> Array:
    """Log-probs (nats) of logits [..., arms]."""
    return logits - logsumexp(logits, axis=-1)[..., None]


def tabular_world(
    streams: Sequence[Streams], *, prompts: int = PROMPTS, arms: int = ARMS, knowledge: float = KNOWLEDGE
) -> World:
    """The standard world: independent arms, and a reference that knows the gold reward only in part.

    gold ~ N(0, 1); pi_ref = softmax(2 (rho gold + sqrt(1 - rho^2) eps)), rho = `knowledge` in [-1, 1];
    lengths round(30 exp(0.4 N(0, 1))) clipped to 5..120 tokens. One world a stream.
    """
    drawn = [_draw(default_rng(stream.world), (prompts, arms), knowledge) for stream in streams]
    gold, scores, tokens = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return World(gold=gold, ref_logp=log_softmax(scores), length=tokens / tokens.mean(axis=-1, keepdims=True))


def _draw(
    rng: np.random.Generator, shape: tuple[int, int], knowledge: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    gold, noise, size = rng.standard_normal((3, *shape))
    scores = SHARPNESS * (knowledge * gold + np.sqrt(1 - knowledge**2) * noise)
    tokens = np.clip(np.round(MEAN_LENGTH * np.exp(LENGTH_SPREAD * size)), SHORTEST, LONGEST)
    return gold, scores, tokens
