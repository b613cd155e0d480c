"""The same step, compiled: `updates.gradient` through torch.compile, on the processor or on a GPU."""

import dataclasses
import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.regularizers import Regularizer, Sum
from toybandit.bandit import World
from toybandit.interventions import Masked
from toybandit.learners import Advance, Exact, Natural, Sgd
from toybandit.updates import Problem, gradient, natural_gradient

UNROLLED = 10  # steps in one compiled call


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ValueError("--engine compiled needs torch: pip install '.[llm]'; or use --engine numpy") from error
    return torch


def check_device(device: str) -> None:
    """Raise ValueError if torch is missing or has no such device."""
    torch = _torch()
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(f"--device {device} is not available to torch here; use cpu")


def _once(logits: Any, problem: Problem, rate: float, natural: bool) -> Any:
    return logits + (natural_gradient if natural else gradient)(logits, problem, rate=rate)


def _several(logits: Any, problem: Problem, rate: float, natural: bool) -> Any:
    for _ in range(UNROLLED):
        logits = _once(logits, problem, rate, natural)
    return logits


@functools.cache
def _compiled() -> Any:
    return _torch().compile(_several, dynamic=False)


def tensors(value: Any, device: str) -> Any:
    """Arrays of a problem or regularizer as tensors on the device; numbers stay numbers."""
    if isinstance(value, np.ndarray):
        return _torch().tensor(value, device=device)
    if isinstance(value, Sum):
        return Sum(tuple(tensors(part, device) for part in value.parts))
    if isinstance(value, Problem | Masked | Regularizer):
        fields = {f.name: tensors(getattr(value, f.name), device) for f in dataclasses.fields(value)}  # type: ignore[arg-type]
        return type(value)(**fields)
    return value


@dataclass(frozen=True)
class Compiled:
    """Plain steps along the exact or natural gradient of a table of logits, through torch.compile.

    learner: `Exact` or `Natural`, with `Sgd`. device: cpu or cuda. Compilation takes some seconds for the first
    block; blocks of the same shape share it.
    """

    learner: Exact | Natural
    device: str = "cpu"

    @property
    def lr(self) -> float:
        return self.learner.lr

    @property
    def block_bytes(self) -> int:
        return self.learner.block_bytes if self.device == "cpu" else 2**30

    def check(self, world: World) -> None:
        plain = isinstance(self.learner, Natural) or (isinstance(self.learner, Exact) and self.learner.optimizer is Sgd)
        if not plain or world.policy != "table":
            raise ValueError("the compiled engine runs softmax and natural gradient with sgd in the tabular world only")

    def start(self, world: World, problem: Problem, leading: tuple[int, ...], seeds: slice) -> Advance:
        return CompiledAscent(self, problem, leading)


class CompiledAscent:
    """The compiled steps of one block."""

    def __init__(self, learner: Compiled, problem: Problem, leading: tuple[int, ...]) -> None:
        self.torch = _torch()
        self.problem = tensors(problem, learner.device)
        start = np.broadcast_to(problem.ref_logp, (*leading, *problem.ref_logp.shape))
        self.logits = tensors(start, learner.device).clone()
        self.options = (learner.lr, isinstance(learner.learner, Natural))

    def __call__(self, steps: int) -> np.ndarray:
        several = _compiled()
        with self.torch.no_grad(), warnings.catch_warnings():
            # The array namespace is looked up through a cache; what the compiler traces instead is the same look-up.
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            self.logits -= self.logits.amax(dim=-1, keepdim=True)
            for _ in range(steps // UNROLLED):
                self.logits = several(self.logits, self.problem, *self.options)
            for _ in range(steps % UNROLLED):
                self.logits = _once(self.logits, self.problem, *self.options)
            return self.torch.log_softmax(self.logits.double(), dim=-1).cpu().numpy()
