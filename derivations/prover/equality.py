"""Identities: `Equal`."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from derivations.prover import balls
from derivations.prover.domains import check_values
from derivations.prover.sampling import Point
from derivations.prover.steps import Fate, InternalError, Mutant, Step, StepFailed, show
from derivations.prover.wrong_versions import variants
from derivations.prover.zero_test import Undecided, is_zero


@dataclass(frozen=True)
class Equal(Step):
    """lhs = rhs identically: the difference is 0 in the field of kernels, and balls of the two sides agree.

    The balls evaluate each side by itself, with the condition's values as balls, so SymPy's simplifications of
    the difference are no part of the second opinion.

    given: a condition, as what each symbol is replaced by on both sides; each value must lie in its symbol's range.
    """

    lhs: sp.Expr
    rhs: sp.Expr
    given: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def residual(self) -> sp.Expr:
        """lhs - rhs under the condition."""
        return self.under(self.lhs - self.rhs)

    def under(self, expr: sp.Expr) -> sp.Expr:
        """The expression under the condition."""
        return expr.subs(dict(self.given), simultaneous=True) if self.given else expr

    @functools.cached_property
    def by_construction(self) -> bool:
        """Whether SymPy's automatic rewriting alone makes the two sides the same."""
        return bool(self.residual() == 0)

    @property
    def procedures(self) -> tuple[str, ...]:  # type: ignore[override]
        return (
            "the same expression on both sides" if self.by_construction else "algebraic normal form",
            "ball arithmetic",
        )

    def expressions(self) -> tuple[sp.Expr, ...]:
        return (self.lhs, self.rhs)

    def check(self) -> None:
        self._check_given()
        undecided = None
        for point, far in self._places():
            agree = balls.compare(self.lhs, self.rhs, self._leaves(point))
            if agree is False:
                self._check_contradiction(point)
                raise StepFailed(f"not equal, for example at {show(point)}")
            if agree is None and not far:
                undecided = point
        self.require_defined(self.under(self.lhs), self.under(self.rhs))
        if undecided is not None:
            raise StepFailed(f"undecided: at {show(undecided)} the sides are not finite, or not settled by their balls")
        try:
            proved = is_zero(self.residual())
        except Undecided as error:
            raise StepFailed(f"undecided: {error}") from error
        if not proved:
            raise StepFailed("undecided: the sides agree to 40 digits at every point tried, but no proof")

    def _check_contradiction(self, point: Point) -> None:
        """Balls of the two sides differ: then the field of kernels must not call them equal."""
        try:
            contradiction = is_zero(self.residual())
        except Undecided:
            return
        if contradiction:
            raise InternalError(f"field says 0, balls say not, at {show(point)}: {self.statement}")

    def _check_given(self) -> None:
        idle = set(self.given) - self.lhs.free_symbols - self.rhs.free_symbols
        if idle:
            raise StepFailed(f"the condition is about {', '.join(sorted(map(str, idle)))}, which neither side has")
        wrong = check_values(self.given, self.unit)
        if wrong:
            raise StepFailed(f"the condition is outside of the hypotheses: {'; '.join(wrong)}")

    def _places(self) -> Iterator[tuple[Point, bool]]:
        """Points for the symbols that the condition leaves free."""
        values = [sp.sympify(value) for value in self.given.values()]
        free = (self.lhs.free_symbols | self.rhs.free_symbols) - set(self.given)
        return self.points([self.lhs, self.rhs], symbols=free.union(*(value.free_symbols for value in values)))

    def near(self, count: int) -> Iterator[Point]:
        """Points near 1."""
        return itertools.islice((point for point, far in self._places() if not far), count)

    def agrees(self, point: Point) -> bool | None:
        """Whether balls of the two sides agree at a point; None where they are not finite or not settled."""
        return balls.compare(self.lhs, self.rhs, self._leaves(point))

    def _leaves(self, point: Point) -> Mapping[sp.Symbol, Any]:
        """The point, and the condition's values there as balls."""
        return {
            **point,
            **{s: balls.evaluate(sp.sympify(v), point, bits=60 * balls.BITS) for s, v in self.given.items()},
        }

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """Both sides changed, the condition changed, and the condition left out."""
        for wrong in variants(self.lhs, limit=per_side):
            yield Mutant((wrong, "=", self.rhs), self.fate(replace(self, lhs=wrong)))
        for wrong in variants(self.rhs, limit=per_side):
            yield Mutant((self.lhs, "=", wrong), self.fate(replace(self, rhs=wrong)))
        for symbol, value in self.given.items():
            for wrong in variants(sp.sympify(value), limit=min(3, per_side)):
                given = {**self.given, symbol: wrong}
                yield Mutant(("given", symbol, "=", wrong), self.fate(replace(self, given=given)))
            rest = {other: kept for other, kept in self.given.items() if other != symbol}
            yield Mutant(("without the condition on", symbol), self.fate(replace(self, given=rest)))

    def fate(self, wrong: "Equal") -> Fate:
        """Refuted by a point inside the hypotheses where the two sides differ or one of them is not defined."""
        try:
            sides = wrong.under(wrong.lhs), wrong.under(wrong.rhs)
            if any(side.has(sp.zoo, sp.nan, sp.I) for side in sides):  # nowhere a real number
                return "refuted"
            for point, far in wrong._places():
                agree = balls.compare(wrong.lhs, wrong.rhs, wrong._leaves(point))
                if agree is False or (agree is None and not far):
                    return "refuted"
            return "equivalent" if is_zero(wrong.residual()) else "survived"
        except ZeroDivisionError:
            return "refuted"  # divides by zero at an exact point inside the hypotheses
        except (Undecided, TypeError):
            return "survived"
