"""Worlds: bandits whose gold reward, reference policy and response lengths are known exactly.

An arm is a response. Every array of a world has shape [seeds, prompts, arms]; a seed is a fresh world
drawn from its own stream of random numbers, so its result does not depend on which other seeds are
run beside it. The third world, a tree of tokens, is in `toybandit.tree`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from derivations.arrays import log_softmax

PROMPTS, ARMS = 4, 100
SHARPNESS = 2.0  # k: spread of the reference's log-probs, nats per unit of its score
KNOWLEDGE = 0.6  # rho: correlation of the reference's score with the gold reward
MEAN_LENGTH, LENGTH_SPREAD, SHORTEST, LONGEST = 30, 0.4, 5, 120  # tokens; the spread is of the logarithm
SHARED_PROMPTS, FEATURES, HIDDEN = 6, 16, 8  # of the shared-parameter world; HIDDEN features carry the quadratic cost
AVOIDANCE = 4.0  # how strongly the reference avoids large hidden features, nats per squared feature


@dataclass(frozen=True)
class World:
    """What the experimenter knows and the learner does not. All arrays float64 [seeds, prompts, arms].

    gold: the true reward r*, reward units (the logistic scale of Bradley-Terry is 1).
    ref_logp: log pi_ref, nats; normalized over arms, finite.
    length: response lengths in units of their mean over the arms of the prompt (tokens in a tree).
    policy: what a learner can vary: `table` (one logit per arm), `log-linear` (weights of `features`,
    shared by the prompts) or `tree` (logits of the next token). features: [seeds, prompts, arms, d] or None.
    """

    gold: np.ndarray
    ref_logp: np.ndarray
    length: np.ndarray
    policy: str = "table"
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.gold.shape == self.ref_logp.shape == self.length.shape or self.gold.ndim != 3:
            raise ValueError(
                f"gold {self.gold.shape}, ref_logp {self.ref_logp.shape}, length {self.length.shape}: "
                "expected one shape [seeds, prompts, arms]"
            )
        if self.policy not in ("table", "log-linear", "tree"):
            raise ValueError(f"policy {self.policy!r}: expected table, log-linear or tree")
        if self.gold.shape[-1] < 2:
            raise ValueError("a world of 1 arm: nothing can be preferred to it; give it 2 or more arms")
        if not np.all(np.isfinite(self.gold)):
            raise ValueError("gold has NaN or infinite rewards; every arm needs a finite one")
        if not np.all(np.isfinite(self.ref_logp)):
            raise ValueError("ref_logp is not finite: the reference must give every arm a probability above 0")
        if not np.all(self.length > 0):
            raise ValueError("length has entries <= 0 or NaN; every response needs a positive length")

    def with_equal_lengths(self) -> "World":
        """The same world with every response of length 1: length normalization then does nothing."""
        return replace(self, length=np.ones_like(self.length))

    def part(self, seeds: slice) -> "World":
        """The world of some of the seeds."""
        features = None if self.features is None else self.features[seeds]
        return World(self.gold[seeds], self.ref_logp[seeds], self.length[seeds], self.policy, features)


@dataclass(frozen=True)
class Streams:
    """Independent random streams of one seed, one a purpose.

    They must differ: a reward model's prior drawn from the world's stream equals the gold reward, and
    every effect of this package vanishes.
    """

    world: SeedSequence
    pairs: SeedSequence
    prior: SeedSequence
    samples: SeedSequence
    held_out: SeedSequence


def seed_streams(seed: int, count: int) -> list[Streams]:
    """Streams of `count` seeds under one root seed; the i-th does not depend on `count`."""
    return [Streams(*child.spawn(5)) for child in SeedSequence(seed).spawn(count)]


def tabular_world(
    streams: Sequence[Streams], *, prompts: int = PROMPTS, arms: int = ARMS, knowledge: float = KNOWLEDGE
) -> World:
    """The standard world: independent arms, and a reference that knows the gold reward only in part.

    gold ~ N(0, 1); pi_ref = softmax(2 (rho gold + sqrt(1 - rho^2) eps)), rho = `knowledge` in [-1, 1];
    lengths round(30 exp(0.4 N(0, 1))) clipped to 5..120 tokens. One world per stream.
    """
    drawn = [_draw(default_rng(stream.world), (prompts, arms), knowledge) for stream in streams]
    gold, scores, tokens = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return World(gold=gold, ref_logp=log_softmax(scores), length=tokens / tokens.mean(axis=-1, keepdims=True))


def _draw(rng: Generator, shape: tuple[int, int], knowledge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    gold, noise, size = rng.standard_normal((3, *shape))
    scores = SHARPNESS * (knowledge * gold + np.sqrt(1 - knowledge**2) * noise)
    return gold, scores, _tokens(size)


def _tokens(size: np.ndarray) -> np.ndarray:
    return np.clip(np.round(MEAN_LENGTH * np.exp(LENGTH_SPREAD * size)), SHORTEST, LONGEST)


def shared_world(
    streams: Sequence[Streams],
    *,
    prompts: int = SHARED_PROMPTS,
    arms: int = ARMS,
    knowledge: float = KNOWLEDGE,
    quad: float = 1.0,
) -> World:
    """The world where generalization carries the hacking: features phi ~ N(0, I_16), w ~ N(0, I_16 / 16).

    gold = w.phi - quad sum_{j < 8} (phi_j^2 - 1) / 4; pi_ref proportional to
    exp(2 (rho w.phi + sqrt(1 - rho^2) eps) - 4 sum_{j < 8} phi_j^2). The reference avoids the quadratic
    cost, so data drawn from it does not show it, and a linear reward model cannot represent it. quad = 0
    is the control. The scale of w makes w.phi a standard normal, as the tabular gold is.
    """
    drawn = []
    for stream in streams:
        rng = default_rng(stream.world)
        weights = rng.standard_normal(FEATURES) / np.sqrt(FEATURES)
        phi = rng.standard_normal((prompts, arms, FEATURES))
        noise, size = rng.standard_normal((2, prompts, arms))
        value = phi @ weights
        hidden = phi[..., :HIDDEN] ** 2
        gold = value - quad * np.sum(hidden - 1, axis=-1) / 4
        scores = SHARPNESS * (knowledge * value + np.sqrt(1 - knowledge**2) * noise)
        drawn.append((gold, scores - AVOIDANCE * np.sum(hidden, axis=-1), _tokens(size), phi))
    gold, scores, tokens, phi = (np.stack(parts) for parts in zip(*drawn, strict=True))
    length = tokens / tokens.mean(axis=-1, keepdims=True)
    return World(gold=gold, ref_logp=log_softmax(scores), length=length, policy="log-linear", features=phi)
