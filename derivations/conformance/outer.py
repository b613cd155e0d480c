"""Outer functions of losses, with what undoes them: -log sigmoid, sigmoid, a square, an exponential, ..."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from derivations.conformance.laws import number

Vector = np.ndarray
Change = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Outer:
    """words: with {} for what stands inside. undo gives NaN where the function cannot have such a value."""

    words: str
    do: Change
    undo: Change


def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


OUTER = (
    Outer("{}", lambda x: x, lambda y: y),
    Outer("-log sigmoid({})", lambda x: np.log1p(np.exp(-x)), lambda y: -np.log(np.expm1(y))),
    Outer("({})^2", lambda x: x**2, np.sqrt),
    Outer("sigmoid({})", _sigmoid, lambda y: np.log(y) - np.log1p(-y)),
    Outer("exp({})", np.exp, np.log),
    Outer("tanh({})", np.tanh, np.arctanh),
    Outer("log({})", np.log, lambda y: np.where(np.abs(y) < 50, np.exp(y), np.nan)),
    Outer("(-log sigmoid({}))^2", lambda x: np.log1p(np.exp(-x)) ** 2, lambda y: -np.log(np.expm1(np.sqrt(y)))),
    Outer("sigmoid({})^2", lambda x: _sigmoid(x) ** 2, lambda y: np.log(np.sqrt(y)) - np.log1p(-np.sqrt(y))),
    Outer("sqrt({})", np.sqrt, lambda y: np.where(y >= 0, y**2, np.nan)),
    Outer("1/({})", lambda x: 1 / x, lambda y: 1 / y),
    Outer(
        "log(1 + (-log sigmoid({})))",
        lambda x: np.log1p(np.log1p(np.exp(-x))),
        lambda y: -np.log(np.expm1(np.expm1(y))),
    ),
    *(
        Outer(
            f"-log(sigmoid({{}}) + {e:g})",
            lambda x, e=e: -np.log(_sigmoid(x) + e),  # type: ignore[misc]
            lambda y, e=e: -np.log(1 / (np.exp(-y) - e) - 1),  # type: ignore[misc]
        )
        for e in (1e-3, 1e-2, 0.1)
    ),
)


def undone(values: Vector, *strengths: float, turns: Vector | None = None) -> Iterator[tuple[Outer, Vector]]:
    """Every outer function under which all values are possible, times the usual factors, with what stands inside.

    Args:
        values: losses, any shape. strengths: options of the objective that may be factors.
        turns: which root of a square to take, 1 or -1; None: the positive one.
    """
    with np.errstate(all="ignore"):
        for outer in OUTER:
            for factor in dict.fromkeys((1.0, -1.0, *(k**s for k in strengths for s in (1, -1)), 2.0, 0.5)):
                inside = outer.undo(values / factor)
                if outer.words == "({})^2" and turns is not None:
                    inside = inside * np.where(turns == 0, 1.0, turns)
                if outer.words != "{}" and np.allclose(np.abs(inside), np.abs(values / factor), rtol=1e-7, atol=0):
                    continue  # so large that -log sigmoid(x) is -x
                if np.all(np.isfinite(inside)):
                    yield times(outer, factor), inside
                if outer.words == "{}":
                    break


def times(outer: Outer, factor: float) -> Outer:
    """The outer function times a factor."""
    if factor == 1:
        return outer
    words = f"-({outer.words})" if factor == -1 else f"{number(factor)} x {outer.words}"
    return Outer(words, lambda x: factor * outer.do(x), lambda y: outer.undo(y / factor))
