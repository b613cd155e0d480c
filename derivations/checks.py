"""The steps a proof is made of, and how each is decided.

A step is one statement. `Equal`, `Positive`, `Differs` and `TendsTo` are *decided* by a procedure and
confirmed by a second one that shares no code with it; `Argued` is a sentence of ordinary mathematics
(a theorem on convex functions, an interchange of sum and limit) and is shown as such. Undecided counts
as failure. Two procedures that contradict each other raise InternalError: then nothing can be trusted.
"""

import random
import zlib
from dataclasses import dataclass, field

import sympy as sp

from derivations import balls
from derivations.fields import Undecided, is_positive, is_zero

CONFIRMATIONS = 12  # random exact points at which a proof is held against balls


class InternalError(Exception):
    """Two independent procedures disagree: a defect of the checker itself."""


class StepFailed(Exception):
    """The statement of a step is false or could not be decided; the message says which and where."""


@dataclass(frozen=True)
class Step:
    """A statement; `unit` names the symbols that are probabilities in (0, 1)."""

    statement: str
    unit: frozenset[sp.Symbol] = field(default=frozenset(), kw_only=True)

    decided = True

    def check(self) -> None:
        """Raise StepFailed unless the statement is decided to be true."""
        raise TypeError(f"{type(self).__name__} has no deciding procedure")

    def points(self, expr: sp.Expr, count: int) -> list[balls.Point]:
        """The same random points on every run and machine: the seed is the statement."""
        rng = random.Random(zlib.crc32(self.statement.encode()))  # noqa: S311 (points, not secrets)
        return [balls.random_point(expr.free_symbols, rng, unit=self.unit) for _ in range(count)]


@dataclass(frozen=True)
class Argued(Step):
    """A step in words: shown to the reader, not decided by machine."""

    decided = False

    def check(self) -> None:
        """Nothing to run: the statement itself is what a referee reads."""


@dataclass(frozen=True)
class Equal(Step):
    """lhs = rhs identically: zero in the field of kernels, confirmed by balls. lhs is what gets mutated."""

    lhs: sp.Expr
    rhs: sp.Expr

    def check(self) -> None:
        residual = self.lhs - self.rhs
        away = self.counterexample(residual)
        try:
            proved = is_zero(residual)
        except Undecided as error:
            raise StepFailed(f"undecided: {error}") from error
        if proved and away is not None:
            raise InternalError(f"field says 0, balls say not, at {away}: {self.statement}")
        if away is not None:
            raise StepFailed(f"not equal, for example at {show(away)}")
        if not proved:
            raise StepFailed("undecided: 0 to 40 digits at every point tried, but no proof")

    def counterexample(self, residual: sp.Expr) -> balls.Point | None:
        """A point where the residual is certainly not 0; None if it is 0 to 40 digits at every point tried."""
        for point in self.points(residual, CONFIRMATIONS):
            value = balls.evaluate(residual, point)
            if balls.excludes_zero(value):
                return point
            if not balls.is_tiny(value):
                raise StepFailed(f"undecided: ball {value} at {show(point)} is neither 0 nor away from 0")
        return None

    def refutes(self, wrong: sp.Expr) -> str:
        """What becomes of a mutated lhs: `refuted` (a point shows it), `equivalent` (proved equal), `survived`."""
        residual = wrong - self.rhs
        try:
            for point in self.points(residual, CONFIRMATIONS):
                value = balls.evaluate(residual, point)
                # a mutant that is not even defined inside the hypotheses is wrong as well
                if not value.is_finite() or balls.excludes_zero(value):
                    return "refuted"
            return "equivalent" if is_zero(residual) else "survived"
        except (Undecided, TypeError, ZeroDivisionError):
            return "survived"


@dataclass(frozen=True)
class Positive(Step):
    """expr > 0 throughout: positive coefficients in positive quantities, confirmed by balls; for a number, a ball."""

    expr: sp.Expr

    def check(self) -> None:
        for point in self.points(self.expr, CONFIRMATIONS):
            if not balls.evaluate(self.expr, point) > 0:
                raise StepFailed(f"not positive at {show(point)}")
        if not self.expr.free_symbols:
            return  # a number: the ball around it, which is all positive, is the proof
        try:
            if not is_positive(self.expr):
                raise StepFailed("undecided: positive at every point tried, but no proof")
        except Undecided as error:
            raise StepFailed(f"undecided: {error}") from error


@dataclass(frozen=True)
class Differs(Step):
    """lhs != rhs at one exact rational point: a counterexample, certified by a ball that excludes 0."""

    lhs: sp.Expr
    rhs: sp.Expr
    point: dict[sp.Symbol, sp.Rational] = field(default_factory=dict)

    def check(self) -> None:
        point = {symbol: sp.Rational(value) for symbol, value in self.point.items()}
        if not balls.excludes_zero(balls.evaluate(self.lhs - self.rhs, point)):
            raise StepFailed(f"the two sides do not differ at {show(point)}")
        exact = (self.lhs - self.rhs).subs(point)
        if abs(sp.N(exact, 50)) < sp.Float(10) ** -40:  # mpmath, which shares no code with the balls
            raise InternalError(f"balls say different, mpmath says equal: {self.statement}")

    def numbers(self) -> tuple[float, float]:
        """Both sides at the point, for people to read."""
        return float(balls.evaluate(self.lhs, self.point)), float(balls.evaluate(self.rhs, self.point))


@dataclass(frozen=True)
class TendsTo(Step):
    """expr -> limit (a number, oo or -oo) as symbol -> place+, by Gruntz's algorithm, confirmed by balls on the way."""

    expr: sp.Expr
    symbol: sp.Symbol
    place: sp.Expr
    limit: sp.Expr

    def check(self) -> None:
        found = sp.limit(self.expr, self.symbol, self.place, "+" if self.place.is_finite else "-")
        if found != self.limit:
            raise StepFailed(f"the limit is {found}, not {self.limit}")
        rest = self.points(self.expr, 1)[0]
        values = [balls.evaluate(self.expr, {**rest, self.symbol: self._near(k)}, bits=2000) for k in (2, 20, 200)]
        if self.limit.is_finite:
            target = balls.evaluate(self.limit, rest)
            gaps = [abs(value - target) for value in values]
        else:
            gaps = [-value if self.limit is sp.oo else value for value in values]
        if not gaps[2] < gaps[1] < gaps[0]:
            raise InternalError(f"limit {self.limit} by Gruntz, but balls do not approach it: {self.statement}")

    def _near(self, k: int) -> sp.Rational:
        """A point close to the place: 10^-k beside a finite one, k itself towards infinity."""
        return (
            self.place + sp.Rational(1, 10**k)
            if self.place.is_finite
            else (k if self.place is sp.oo else -k) * sp.S.One
        )


def show(point: balls.Point | None) -> str:
    """A point as `a=1/2, b=3`."""
    return ", ".join(f"{symbol}={value}" for symbol, value in (point or {}).items()) or "every point"
