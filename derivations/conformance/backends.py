"""Values and gradients by torch (automatic differentiation) or by NumPy (central differences).

Torch is imported only when a torch backend is made, so the kit also runs where torch is not installed.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.cli.errors import InputError
from derivations.conformance.calls import guarded

Function = Callable[[dict[str, Any]], Any]
DOUBLE, SINGLE = "float64", "float32"
STEP = 1e-5  # central differences: truncation h^2 ~ 1e-10, rounding eps / h ~ 2e-11 for values near 1
WIDE = 1e-2  # of a function that computes in float32 and sees nothing of 1e-5: rounding ~ 1e-5 for values near 1


@dataclass(frozen=True)
class NumpyBackend:
    """NumPy arrays; gradients by central differences, good to about 1e-8 in float64.

    step: half their width. What is compared is taken with the same step, so that its truncation cancels.
    """

    step: float = STEP

    name = "numpy"
    dtypes = ("float32",)
    dtype = DOUBLE

    def array(self, values: np.ndarray, dtype: str = DOUBLE) -> Any:
        """The array in this library; only floating arrays take the dtype."""
        return values.astype(dtype) if np.issubdtype(values.dtype, np.floating) else values.copy()

    def numpy(self, array: Any) -> np.ndarray:
        """Back to a float64 NumPy array."""
        return np.asarray(array, dtype=np.float64)

    def value(self, function: Function, arrays: dict[str, np.ndarray], dtype: str = DOUBLE) -> Any:
        """function(arrays) with the warnings of overflow silenced: the laws look at the numbers themselves."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function({name: self.array(values, dtype) for name, values in arrays.items()})

    def gradient(
        self, function: Function, arrays: dict[str, np.ndarray], leaves: tuple[str, ...], dtype: str = DOUBLE
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """(function(arrays), gradient of its mean by each leaf). Entries that are not finite get gradient 0."""
        with np.errstate(all="ignore"):
            return self.value(function, arrays, dtype), differences(self, function, arrays, leaves, self.step)


def differences(
    backend: Any, function: Function, arrays: dict[str, np.ndarray], leaves: tuple[str, ...], width: float = STEP
) -> dict[str, np.ndarray]:
    """Gradient of the mean of function(arrays) by central differences, entry by entry, in float64."""

    def mean(changed: dict[str, np.ndarray]) -> float:
        return float(np.mean(backend.numpy(backend.value(function, changed))))

    found = {}
    for leaf in leaves:
        gradient = np.zeros(arrays[leaf].shape)
        for index in np.argwhere(np.isfinite(arrays[leaf])):
            sides = []
            for step in (width, -width):
                moved = arrays[leaf].copy()
                moved[tuple(index)] += step
                sides.append(mean(arrays | {leaf: moved}))
            gradient[tuple(index)] = (sides[0] - sides[1]) / (2 * width)
        found[leaf] = gradient
    return found


class TorchBackend:
    """Torch tensors on the CPU; gradients by automatic differentiation. dtype: of floating arrays."""

    name = "torch"
    dtypes = ("float32", "bfloat16", "float16")

    def __init__(self, dtype: str = DOUBLE) -> None:
        self.dtype = dtype
        try:
            import torch
        except ImportError as error:
            raise InputError("torch is not installed: pip install '.[llm]', or use --backend numpy") from error
        self.torch = torch

    def array(self, values: np.ndarray, dtype: str = "") -> Any:
        """The array as a tensor; only floating arrays take the dtype."""
        tensor = self.torch.tensor(values)
        return tensor.to(getattr(self.torch, dtype or self.dtype)) if tensor.is_floating_point() else tensor

    def numpy(self, array: Any) -> np.ndarray:
        """Back to a float64 NumPy array."""
        return self.torch.as_tensor(array).detach().double().cpu().numpy()

    def value(self, function: Function, arrays: dict[str, np.ndarray], dtype: str = "") -> Any:
        """function(arrays), with whatever it warns about left unsaid."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function({name: self.array(values, dtype) for name, values in arrays.items()})

    def gradient(
        self, function: Function, arrays: dict[str, np.ndarray], leaves: tuple[str, ...], dtype: str = ""
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """(function(arrays), gradient of its mean by each leaf). A leaf that the result never touches gets zeros."""
        tensors = {name: self.array(values, dtype) for name, values in arrays.items()}
        for leaf in leaves:
            tensors[leaf].requires_grad_()
        # log-probs come out of a model, so they may be overwritten in place; a leaf may not
        handed = {name: tensor.clone() for name, tensor in tensors.items()}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = function(handed)
            if isinstance(result, self.torch.Tensor) and result.requires_grad:
                guarded(lambda: result.mean().backward(), "its gradient could not be taken:")
        found = {}
        for leaf in leaves:
            gradient = tensors[leaf].grad
            found[leaf] = np.zeros(arrays[leaf].shape) if gradient is None else self.numpy(gradient)
        return result, found


def make_backend(name: str) -> Any:
    """`torch`, `numpy`, or `auto`: torch where it is installed. InputError if it is asked for and missing."""
    if name == "numpy":
        return NumpyBackend()
    if name == "auto":
        try:
            return TorchBackend()
        except InputError:
            return NumpyBackend()
    return TorchBackend()
