"""What every step of a proof has: a statement, the range of its symbols, a check, and wrong versions of itself."""

import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import sympy as sp

from derivations.prover.domains import Unit
from derivations.prover.obligations import undefined
from derivations.prover.sampling import Point, points

CONFIRMATIONS = 12  # random exact points at which a proof is held against balls, and more at thresholds
Fate = Literal["refuted", "equivalent", "survived"]


class Mutant(NamedTuple):
    """A wrong statement, in parts that are printed only when it is shown (most never are), and what became of it.

    fate: `refuted` (shown wrong), `equivalent` (proved the same as the right one), or `survived`.
    """

    says: tuple[object, ...]
    fate: Fate


class InternalError(Exception):
    """Two independent procedures disagree: a defect of the checker itself."""


class StepFailed(Exception):
    """The statement of a step is false or could not be decided; the message says which and where."""


@dataclass(frozen=True)
class Step:
    """A statement.

    Args:
        statement: what it says, in words.
        unit: symbols that are probabilities, besides those whose names say so (`derivations.prover.domains`).
        every: symbols that stand for any number of things, a count or the sum over all that is not written out; a
            claim that says "any number" needs a step that has one.
        direction: a remark for the reader; conditions are computed from `Iff` steps.
    """

    statement: str
    unit: Unit = field(default=frozenset(), kw_only=True)
    every: tuple[sp.Symbol, ...] = field(default=(), kw_only=True)
    direction: Literal["", "if", "only if", "both"] = field(default="", kw_only=True)

    decided = True
    procedures: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Raise StepFailed unless the statement is decided to be true."""
        raise TypeError(f"{type(self).__name__} has no deciding procedure")

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """Wrong versions of the statement, `per_side` of each side of an identity, and what the check says of each."""
        yield from ()

    def expressions(self) -> tuple[sp.Expr, ...]:
        """What the step speaks about."""
        return ()

    def points(
        self, exprs: Sequence[sp.Expr], count: int = CONFIRMATIONS, symbols: Iterable[sp.Symbol] | None = None
    ) -> Iterator[tuple[Point, bool]]:
        """The same random points on every run and machine (the seed is the statement), each with whether it is far out.

        symbols: those that need a value, if not all that occur.
        """
        rng = random.Random(zlib.crc32(self.statement.encode()))  # noqa: S311 (points, not secrets)
        if symbols is None:
            symbols = set().union(*(expr.free_symbols for expr in exprs))
        return points(exprs, symbols, rng, count, unit=self.unit)

    def require_defined(self, *exprs: sp.Expr) -> None:
        """Raise StepFailed unless all of them are shown to be defined wherever the symbols may lie."""
        for expr in exprs:
            reason = undefined(expr, self.unit)
            if reason:
                raise StepFailed(f"not shown to be defined: {reason}")
        for symbol in self.every:
            if not any(expr.has(symbol) for expr in self.expressions()):
                raise StepFailed(f"it is said to hold for every {symbol}, which does not occur in it")
            if not symbol.is_positive:
                raise StepFailed(f"it is said to hold for every {symbol}, which is no count and no sum of weights")


def show(point: Point | None) -> str:
    """A point as `a=1/2, b=3`."""
    return ", ".join(f"{symbol}={value}" for symbol, value in (point or {}).items()) or "every point"
