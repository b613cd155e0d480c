"""What ascends: learners by their direction (exact, natural, sampled) and their optimizer (SGD, Adam).

A learner is what `online.policy_gradient` is given; an `Ascent` is that learner at work on one block of seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.random import Generator, default_rng

from derivations.arrays import log_softmax
from toybandit.bandit import Streams, World
from toybandit.policies import Policy, Table, make_policy
from toybandit.updates import Problem, gradient, natural_gradient, rloo_weights

BLOCK_BYTES = 2**18  # logits of one block: they and their temporaries stay in the processor's cache
RECENTRED = 100  # steps between two subtractions of the largest logit, far below what exp can overflow in

Advance = Callable[[int], np.ndarray]  # steps -> log-probs, float64 [..., seeds, prompts, arms], after that many more
Direction = Callable[[np.ndarray, float], np.ndarray]  # theta, rate -> rate times the direction of ascent


class Learner(Protocol):
    """How a policy learns. lr: step size; block_bytes: how large a block of logits it works on best."""

    @property
    def lr(self) -> float: ...

    @property
    def block_bytes(self) -> int: ...

    def check(self, world: World) -> None:
        """Raise ValueError for a world whose policy this learner cannot move."""

    def start(self, world: World, problem: Problem, leading: tuple[int, ...], seeds: slice) -> Advance:
        """The learner at work on a block of seeds; leading: axes of configurations before [seeds, prompts, arms]."""


@dataclass
class Sgd:
    """Plain steps: the increment is lr times the direction."""

    lr: float

    def step(self, direction: Direction, theta: np.ndarray) -> np.ndarray:
        return direction(theta, self.lr)


@dataclass
class Adam:
    """Adam with its usual constants (arXiv:1412.6980), as ascent: an increment for each gradient it is given."""

    lr: float
    steps: int = 0
    mean: Any = 0.0
    square: Any = 0.0

    def step(self, direction: Direction, theta: np.ndarray) -> np.ndarray:
        gradient = direction(theta, 1.0)
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        scale = self.lr / (1 - 0.9**self.steps)
        return scale * self.mean / (np.sqrt(self.square / (1 - 0.999**self.steps)) + 1e-8)


OPTIMIZERS: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam}


class Ascent:
    """The steps of one block in NumPy."""

    def __init__(self, policy: Policy, leading: tuple[int, ...], direction: Direction, optimizer: Sgd | Adam) -> None:
        self.policy, self.direction, self.optimizer = policy, direction, optimizer
        self.theta = policy.start(leading)

    def step(self) -> None:
        self.theta += self.optimizer.step(self.direction, self.theta)

    def __call__(self, steps: int) -> np.ndarray:
        table = isinstance(self.policy, Table)
        for i in range(steps):
            if table and i % RECENTRED == 0:
                self.theta -= np.max(self.theta, axis=-1, keepdims=True)
            self.step()
        return log_softmax(self.policy.logits(self.theta.astype(np.float64)))


@dataclass(frozen=True)
class Exact:
    """Ascent along the exact gradient in the policy's parameters; optimizer: `Sgd` or `Adam`."""

    lr: float = 0.2
    optimizer: type[Sgd] | type[Adam] = Sgd
    block_bytes: ClassVar[int] = BLOCK_BYTES

    def check(self, world: World) -> None:
        pass

    def start(self, world: World, problem: Problem, leading: tuple[int, ...], seeds: slice) -> Advance:
        policy = make_policy(world, problem.reward.dtype)

        def direction(theta: np.ndarray, rate: float) -> np.ndarray:
            return policy.pull_back(theta, gradient(policy.logits(theta), problem, rate=rate))

        return Ascent(policy, leading, direction, self.optimizer(self.lr))


@dataclass(frozen=True)
class Natural:
    """Ascent along the exact natural gradient (mirror ascent) of a table of logits."""

    lr: float = 0.2
    block_bytes: ClassVar[int] = BLOCK_BYTES

    def check(self, world: World) -> None:
        if world.policy != "table":
            raise ValueError("method natural is for a table of logits and sgd (the tabular world); use softmax here")

    def start(self, world: World, problem: Problem, leading: tuple[int, ...], seeds: slice) -> Advance:
        policy = make_policy(world, problem.reward.dtype)

        def direction(theta: np.ndarray, rate: float) -> np.ndarray:
            return natural_gradient(policy.logits(theta), problem, rate=rate)

        return Ascent(policy, leading, direction, Sgd(self.lr))


@dataclass(frozen=True)
class Rloo:
    """Ascent along a sampled gradient with leave-one-out advantages (arXiv:2402.14740).

    streams: one per seed of the world. samples: per prompt and step, at least 2.
    """

    streams: Sequence[Streams]
    lr: float = 0.2
    optimizer: type[Sgd] | type[Adam] = Sgd
    samples: int = 4
    block_bytes: ClassVar[int] = BLOCK_BYTES

    def check(self, world: World) -> None:
        pass

    def start(self, world: World, problem: Problem, leading: tuple[int, ...], seeds: slice) -> Advance:
        policy = make_policy(world, problem.reward.dtype)
        generators = [default_rng(stream.samples) for stream in self.streams[seeds]]
        uniforms = Uniforms(generators, (world.gold.shape[1], self.samples))

        def direction(theta: np.ndarray, rate: float) -> np.ndarray:
            return policy.pull_back(theta, rate * rloo_weights(policy.logits(theta), problem, uniforms()))

        return Ascent(policy, leading, direction, self.optimizer(self.lr))


DRAWN_AHEAD = 64  # steps of uniforms drawn at once: as many numbers, fewer calls


@dataclass
class Uniforms:
    """U(0, 1) for RLOO from one stream per seed, [seeds, prompts, k] per step, whatever seeds are run beside it."""

    generators: Sequence[Generator]
    shape: tuple[int, int]
    _ahead: list[np.ndarray] = field(default_factory=list)

    def __call__(self) -> np.ndarray:
        if not self._ahead:
            drawn = [generator.random((DRAWN_AHEAD, *self.shape)) for generator in self.generators]
            self._ahead = list(np.stack(drawn, axis=1))[::-1]
        return self._ahead.pop()
