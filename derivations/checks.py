"""The steps a proof is made of, and how each is decided.

A step is one statement. `Equal`, `Positive`, `Differs`, `TendsTo` and `Enumerated` are *decided* by a
procedure and confirmed by a second one that shares no code with it; `Argued` is a sentence of ordinary
mathematics (a theorem on convex functions, an interchange of sum and limit) and is shown as such.
Undecided counts as failure. Two procedures that contradict each other raise InternalError: then
nothing can be trusted.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import sympy as sp
from flint import arb

from derivations import balls
from derivations.expressions import variants
from derivations.fields import Undecided, is_positive, is_zero

ARRIVED = arb(10) ** -100  # a gap this small is arrival: closer than that the bits run out
CONFIRMATIONS = 12  # random exact points at which a proof is held against balls
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
    """A statement; `unit` names the symbols that are probabilities in (0, 1).

    direction: in a claim that holds if and only if a condition does, which way this step goes.
    """

    statement: str
    unit: frozenset[sp.Symbol] = field(default=frozenset(), kw_only=True)
    direction: Literal["", "if", "only if", "both"] = field(default="", kw_only=True)

    decided = True

    def check(self) -> None:
        """Raise StepFailed unless the statement is decided to be true."""
        raise TypeError(f"{type(self).__name__} has no deciding procedure")

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """Wrong versions of the statement, `per_side` of each side of an identity, and what the check says of each."""
        yield from ()

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
    """lhs = rhs identically: zero in the field of kernels, confirmed by balls.

    given: a condition, as what each symbol is replaced by on both sides. Mutants are made of both sides
    and of the condition.
    """

    lhs: sp.Expr
    rhs: sp.Expr
    given: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def residual(self) -> sp.Expr:
        """lhs - rhs under the condition."""
        return (self.lhs - self.rhs).subs(dict(self.given), simultaneous=True)

    def check(self) -> None:
        residual = self.residual()
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

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        for wrong in variants(self.lhs, limit=per_side):
            yield Mutant((wrong, "=", self.rhs), self.fate(replace(self, lhs=wrong)))
        for wrong in variants(self.rhs, limit=per_side):
            yield Mutant((self.lhs, "=", wrong), self.fate(replace(self, rhs=wrong)))
        for symbol, value in self.given.items():
            for wrong in variants(value, limit=min(3, per_side)):
                given = {**self.given, symbol: wrong}
                yield Mutant(("given", symbol, "=", wrong), self.fate(replace(self, given=given)))

    def fate(self, wrong: "Equal") -> Fate:
        """Refuted by a point inside the hypotheses where the two sides differ or one of them is not defined."""
        try:
            residual = wrong.residual()
            if residual.has(sp.zoo, sp.nan, sp.I):  # nowhere a real number
                return "refuted"
            for point in self.points(residual, CONFIRMATIONS):
                value = balls.evaluate(residual, point)
                if not value.is_finite():  # undefined there, or too few bits? ask with ten times as many
                    value = balls.evaluate(residual, point, bits=2000)
                if not value.is_finite() or balls.excludes_zero(value):
                    return "refuted"
            return "equivalent" if is_zero(residual) else "survived"
        except ZeroDivisionError:
            return "refuted"  # divides by zero at an exact point inside the hypotheses
        except (Undecided, TypeError):
            return "survived"


@dataclass(frozen=True)
class Positive(Step):
    """expr > 0 throughout: positive coefficients in positive quantities, confirmed by balls; for a number, a ball."""

    expr: sp.Expr

    def check(self) -> None:
        for point in self.points(self.expr, CONFIRMATIONS):
            if not balls.evaluate(self.expr, point) > 0:
                raise StepFailed(f"not positive at {show(point)}")
        if not self.expr.free_symbols:  # a number: the ball around it, which is all positive, is the proof
            if not sp.N(self.expr, 50) > 0:  # mpmath, which shares no code with the balls
                raise InternalError(f"balls say positive, mpmath does not: {self.statement}")
            return
        try:
            if not is_positive(self.expr):
                raise StepFailed("undecided: positive at every point tried, but no proof")
        except Undecided as error:
            raise StepFailed(f"undecided: {error}") from error

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """Only the negation: another wrong version may well be positive too."""
        try:
            replace(self, expr=-self.expr).check()
            yield Mutant((-self.expr, "> 0"), "survived")
        except StepFailed as error:
            yield Mutant((-self.expr, "> 0"), "refuted" if "not positive" in str(error) else "survived")


@dataclass(frozen=True)
class Differs(Step):
    """lhs != rhs at one exact rational point: a counterexample, certified by a ball that excludes 0."""

    lhs: sp.Expr
    rhs: sp.Expr
    point: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def check(self) -> None:
        point = {symbol: sp.Rational(value) for symbol, value in self.point.items()}
        outside = [symbol for symbol, value in point.items() if symbol.is_positive and not value > 0]
        if outside:
            raise StepFailed(f"the counterexample is outside of the hypotheses: {outside}")
        if not balls.excludes_zero(balls.evaluate(self.lhs - self.rhs, point)):
            raise StepFailed(f"the two sides do not differ at {show(point)}")
        exact = (self.lhs - self.rhs).subs(point)
        if abs(sp.N(exact, 50)) < sp.Float(10) ** -40:  # mpmath, which shares no code with the balls
            raise InternalError(f"balls say different, mpmath says equal: {self.statement}")

    def numbers(self) -> tuple[float, float]:
        """Both sides at the point, for people to read."""
        return float(balls.evaluate(self.lhs, self.point)), float(balls.evaluate(self.rhs, self.point))

    def exact(self) -> tuple[sp.Expr, sp.Expr]:
        """Both sides at the point, exactly."""
        return self.lhs.subs(dict(self.point)), self.rhs.subs(dict(self.point))


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
        for rest in self.points(self.expr, 3):
            self._confirm(rest)

    def _confirm(self, rest: balls.Point) -> None:
        """Balls from 10^-2 (or 2^2) to 10^-200 (or 2^200): moving away contradicts, creeping decides nothing."""
        ways = [balls.evaluate(self.expr, {**rest, self.symbol: self._near(k)}, bits=2000) for k in (2, 20, 200)]
        if self.limit.is_finite:
            target = balls.evaluate(self.limit, rest, bits=2000)
            far, mid, near = (abs(value - target) for value in ways)
            coming, arrived = near < mid and mid < far, 10 * near < far
            if near < ARRIVED and mid < far:
                return
        else:
            far, mid, near = (value if self.limit is sp.oo else -value for value in ways)
            coming, arrived = far < mid and mid < near, near > 0 and 10 * far < near
        if not coming:
            raise InternalError(f"limit {self.limit} by Gruntz, but balls do not approach it: {self.statement}")
        if not arrived:
            raise StepFailed(f"undecided: limit {self.limit} by Gruntz, but balls approach it too slowly to confirm it")

    def _near(self, k: int) -> sp.Rational:
        """A point close to the place: 10^-k beside a finite one, 2^k towards infinity."""
        if self.place.is_finite:
            return self.place + sp.Rational(1, 10**k)
        return sp.Integer(2**k if self.place is sp.oo else -(2**k))

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        for wrong in (-self.limit, self.limit + 1 if self.limit.is_finite else sp.S.Zero):
            if wrong == self.limit:
                continue
            try:
                replace(self, limit=wrong).check()
                yield Mutant(("limit", wrong), "survived")
            except StepFailed:
                yield Mutant(("limit", wrong), "refuted")


@dataclass(frozen=True)
class Enumerated(Step):
    """A statement about finitely many cases, each of them looked at.

    cases: what to look at. holds: the statement about one case. confirm: the same by another algorithm.
    wrong: named wrong versions of `holds`, each of which must fail for some case.
    """

    cases: Callable[[], Iterator[Any]]
    holds: Callable[[Any], bool]
    confirm: Callable[[Any], bool]
    wrong: Mapping[str, Callable[[Any], bool]]

    def check(self) -> None:
        looked = False
        for case in self.cases():
            looked = True
            if not self.holds(case):
                raise StepFailed(f"does not hold for {case}")
            if not self.confirm(case):
                raise InternalError(f"two algorithms disagree on {case}: {self.statement}")
        if not looked:
            raise StepFailed("there is no case to look at")

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        for name, holds in self.wrong.items():
            yield Mutant((name,), "survived" if all(map(holds, self.cases())) else "refuted")


def show(point: balls.Point | None) -> str:
    """A point as `a=1/2, b=3`."""
    return ", ".join(f"{symbol}={value}" for symbol, value in (point or {}).items()) or "every point"
