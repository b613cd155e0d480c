"""Arrays of SymPy expressions with just enough of the array API to trace the ground floor.

`SymArray` wraps a NumPy object array; `array_namespace` of it is this module's `NAMESPACE`, whose
`log_sigmoid`, `logsumexp` and `masked_sum` have their textbook meaning. So calling
`objectives.simpo(SymArray(...), ...)` returns the very formula that the model trains on.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy as sp

from derivations.prover.domains import visibly_nonnegative


class SymArray:
    """n-dimensional array of SymPy expressions; operations follow NumPy's broadcasting."""

    __array_priority__ = 1000  # NumPy scalars and arrays on the left hand over to us

    def __init__(self, values: Any) -> None:
        source = values.values if isinstance(values, SymArray) else np.asarray(values, dtype=object)
        self.values: np.ndarray = _each(sp.sympify)(source)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return NAMESPACE

    dtype = None
    device = "exact"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    def item(self) -> sp.Expr:
        """The expression of an array with one element."""
        return self.values.item()

    def __getitem__(self, key: Any) -> "SymArray":
        return SymArray(self.values[key])

    def __add__(self, other: Any) -> "SymArray":
        return SymArray(self.values + _operand(other))

    def __sub__(self, other: Any) -> "SymArray":
        return SymArray(self.values - _operand(other))

    def __rsub__(self, other: Any) -> "SymArray":
        return SymArray(_operand(other) - self.values)

    def __mul__(self, other: Any) -> "SymArray":
        return SymArray(self.values * _operand(other))

    def __truediv__(self, other: Any) -> "SymArray":
        return SymArray(self.values / _operand(other))

    def __rtruediv__(self, other: Any) -> "SymArray":
        return SymArray(_operand(other) / self.values)

    def __pow__(self, other: Any) -> "SymArray":
        return SymArray(self.values ** _operand(other))

    def __neg__(self) -> "SymArray":
        return SymArray(-self.values)

    def __pos__(self) -> "SymArray":
        return self

    __radd__ = __add__
    __rmul__ = __mul__


def _operand(other: Any) -> np.ndarray:
    """The other side of an operation as an object array; floats that are whole or simple become exact."""
    if isinstance(other, SymArray):
        return other.values
    if isinstance(other, float):
        other = sp.nsimplify(other, rational=True)
    return np.asarray(sp.sympify(other) if not isinstance(other, np.ndarray) else other, dtype=object)


def _each(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Apply a scalar function to every element; unlike np.vectorize it keeps 0-d and empty arrays as arrays."""

    def apply(values: np.ndarray) -> np.ndarray:
        out = np.empty(values.shape, dtype=object)
        for index in np.ndindex(values.shape):
            out[index] = function(values[index])
        return out

    return apply


def _elementwise(function: Callable[[Any], Any]) -> Callable[[SymArray], SymArray]:
    return lambda x: SymArray(_each(function)(x.values))


def _sum(x: SymArray, *, axis: int | None = None, keepdims: bool = False) -> SymArray:
    return SymArray(np.sum(x.values, axis=axis, keepdims=keepdims))


def _mean(x: SymArray, *, axis: int, keepdims: bool = False) -> SymArray:
    return _sum(x, axis=axis, keepdims=keepdims) / x.shape[axis]


def _masked_sum(x: SymArray, mask: Any, *, axis: int = -1) -> SymArray:
    return SymArray(np.sum(np.where(np.asarray(mask, dtype=bool), x.values, sp.Integer(0)), axis=axis))


def _where(mask: Any, x: SymArray, y: SymArray) -> SymArray:
    return SymArray(np.where(np.asarray(mask, dtype=bool), x.values, y.values))


def _smaller(x: sp.Expr, y: sp.Expr) -> sp.Expr:
    """The smaller of two, where the assumptions on their symbols decide it; a proof takes one region after another."""
    if visibly_nonnegative(sp.factor(y - x)):
        return x
    if visibly_nonnegative(sp.factor(x - y)):
        return y
    raise ValueError(f"which of {x} and {y} is smaller is not decided; say in which region the symbols lie")


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[[SymArray, SymArray], SymArray]:
    def apply(x: SymArray, y: SymArray) -> SymArray:
        one, other = np.broadcast_arrays(x.values, y.values)
        out = np.empty(one.shape, dtype=object)
        for index in np.ndindex(one.shape):
            out[index] = function(one[index], other[index])
        return SymArray(out)

    return apply


NAMESPACE: Any = SimpleNamespace(
    __name__="derivations.prover.symbolic",
    is_exact=True,
    asarray=lambda values, dtype=None: SymArray(values),
    exp=_elementwise(sp.exp),
    log=_elementwise(sp.log),
    expm1=_elementwise(lambda x: sp.exp(x) - 1),
    sign=_elementwise(lambda x: sp.sign(sp.factor(x))),  # 1 or -1 where the assumptions on the symbols decide it
    where=_where,
    minimum=_pairwise(_smaller),
    maximum=_pairwise(lambda x, y: -_smaller(-x, -y)),
    zeros_like=_elementwise(lambda x: sp.Integer(0)),
    stack=lambda arrays, *, axis: SymArray(np.stack([x.values for x in arrays], axis=axis)),
    sum=_sum,
    mean=_mean,
    log_sigmoid=_elementwise(lambda x: -sp.log(1 + sp.exp(-x))),
    logsumexp=lambda x, *, axis=-1: NAMESPACE.log(_sum(NAMESPACE.exp(x), axis=axis)),
    masked_sum=_masked_sum,
)
