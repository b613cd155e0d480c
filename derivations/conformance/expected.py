"""The value and gradient of an objective on a batch: the same for every law and every function, so computed once."""

from typing import Any

import numpy as np

from derivations.conformance.backends import DOUBLE
from derivations.conformance.contracts import Target
from derivations.conformance.single import Batch

Expected = tuple[np.ndarray, dict[str, np.ndarray]]
MOST_KEPT = 4096  # small batches: some megabytes
_KEPT: dict[tuple[Any, ...], Expected] = {}


def expected(backend: Any, target: Target, batch: Batch, *, gradient: bool) -> Expected:
    """Losses of the objective, float64 [] or [B], and the gradient of their mean by each leaf (none without gradient).

    Args:
        backend: what it is computed with; by NumPy gradients are differences.
        target: the objective with its options.
        batch: canonical arrays of its family.
        gradient: whether the gradient is wanted.
    """
    options = tuple(sorted((name, repr(option)) for name, option in target.options.items()))
    inputs = tuple((name, array.dtype.str, array.shape, array.tobytes()) for name, array in batch.items())
    key = backend.name, getattr(backend, "step", None), target.name, options, gradient, inputs
    if key not in _KEPT:
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.clear()
        leaves = target.family.leaves if gradient else ()
        value, slopes = backend.gradient(target.losses, batch, leaves, DOUBLE)
        _KEPT[key] = backend.numpy(value), slopes
    value, slopes = _KEPT[key]
    return value.copy(), {leaf: slope.copy() for leaf, slope in slopes.items()}
