"""Arrays of Rocq terms: tracing code into Rocq without any algebra in between.

Calling `objectives.simpo` on these arrays records each operation as it is carried out, so the definition in `Traced.v`
is what the code computes, down to a product with 0. Nothing is simplified, and SymPy takes no part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Term:
    """One Rocq term of type R."""

    text: str

    def __add__(self, other: Any) -> "Term":
        return Term(f"({self.text} + {_term(other).text})")

    def __sub__(self, other: Any) -> "Term":
        return Term(f"({self.text} - {_term(other).text})")

    def __mul__(self, other: Any) -> "Term":
        return Term(f"({self.text} * {_term(other).text})")

    def __truediv__(self, other: Any) -> "Term":
        return Term(f"({self.text} / {_term(other).text})")

    def __pow__(self, other: Any) -> "Term":
        if not isinstance(other, int) or other < 0:
            raise TypeError(f"power {other!r}: only natural exponents are translated")
        return Term(f"({self.text} ^ {other})")

    def __neg__(self) -> "Term":
        return Term(f"(- {self.text})")

    def __radd__(self, other: Any) -> "Term":
        return _term(other) + self

    def __rsub__(self, other: Any) -> "Term":
        return _term(other) - self

    def __rmul__(self, other: Any) -> "Term":
        return _term(other) * self

    def __rtruediv__(self, other: Any) -> "Term":
        return _term(other) / self


def _term(value: Any) -> Term:
    """A number as a term, exactly: 0.5 is 1/2."""
    if isinstance(value, Term):
        return value
    exact = Fraction(value)
    top = f"{exact.numerator}" if exact.numerator >= 0 else f"({exact.numerator})"
    return Term(top if exact.denominator == 1 else f"({top} / {exact.denominator})")


class TermArray:
    """n-dimensional array of terms with just enough of the array API; operations follow NumPy's broadcasting.

    positive: the theorem assumes that the entries are greater than 0, so code that validates a strength may go on.
    """

    __array_priority__ = 1000
    dtype = None
    device = "exact"

    def __init__(self, values: Any, *, positive: bool = False) -> None:
        source = np.asarray(values, dtype=object)
        self.values: Any = np.empty(source.shape, dtype=object)
        for index in np.ndindex(source.shape):
            self.values[index] = _term(source[index])
        self.positive = positive

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return NAMESPACE

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    def __getitem__(self, key: Any) -> "TermArray":
        return TermArray(self.values[key])

    def __gt__(self, other: Any) -> bool:
        return self._within(other == 0)

    def __ge__(self, other: Any) -> bool:
        return self._within(other == 0)

    def __lt__(self, other: Any) -> bool:
        return self._within(other == float("inf"))

    def _within(self, assumed: bool) -> bool:
        if not (self.positive and assumed):
            raise TypeError("this comparison does not follow from the assumptions of the theorem")
        return True

    def __add__(self, other: Any) -> "TermArray":
        return TermArray(self.values + _values(other))

    def __radd__(self, other: Any) -> "TermArray":
        return TermArray(_values(other) + self.values)

    def __sub__(self, other: Any) -> "TermArray":
        return TermArray(self.values - _values(other))

    def __rsub__(self, other: Any) -> "TermArray":
        return TermArray(_values(other) - self.values)

    def __mul__(self, other: Any) -> "TermArray":
        return TermArray(self.values * _values(other))

    def __rmul__(self, other: Any) -> "TermArray":
        return TermArray(_values(other) * self.values)

    def __truediv__(self, other: Any) -> "TermArray":
        return TermArray(self.values / _values(other))

    def __pow__(self, other: Any) -> "TermArray":
        return TermArray(self.values**other)

    def __neg__(self) -> "TermArray":
        return TermArray(-self.values)


def variable(name: str, *shape: int, positive: bool = False) -> TermArray:
    """An array whose entries are `name 0 1`, ...: in Rocq a function of the indices; without a shape `name` itself."""
    values = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        values[index] = Term(f"({name} {' '.join(f'{i}%nat' for i in index)})" if shape else name)
    return TermArray(values, positive=positive)


def _values(other: Any) -> np.ndarray:
    return other.values if isinstance(other, TermArray) else np.asarray(_term(other), dtype=object)


def _each(function: Callable[[str], str]) -> Callable[[TermArray], TermArray]:
    def apply(x: TermArray) -> TermArray:
        out = np.empty(x.shape, dtype=object)
        for index in np.ndindex(x.shape):
            out[index] = Term(f"({function(x.values[index].text)})")
        return TermArray(out)

    return apply


def _sum(x: TermArray, *, axis: int | None = None, keepdims: bool = False) -> TermArray:
    return TermArray(np.sum(x.values, axis=axis, keepdims=keepdims))


def rows(result: TermArray) -> Sequence[str]:
    """The terms of a result, one text an entry."""
    return [result.values[index].text for index in np.ndindex(result.shape)]


NAMESPACE: Any = SimpleNamespace(
    __name__="derivations.rocq.terms",
    is_exact=True,
    exp=_each(lambda x: f"exp {x}"),
    log=_each(lambda x: f"ln {x}"),
    expm1=_each(lambda x: f"exp {x} - 1"),
    zeros_like=_each(lambda x: "0"),
    sum=_sum,
    log_sigmoid=_each(lambda x: f"- ln (1 + exp (- {x}))"),
    logsumexp=lambda x, *, axis=-1: NAMESPACE.log(_sum(NAMESPACE.exp(x), axis=axis)),
)
