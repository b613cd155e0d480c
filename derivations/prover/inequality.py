"""Inequalities and counterexamples: `Positive` and `Differs`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import sympy as sp

from derivations.prover import balls
from derivations.prover.domains import check_values, visibly_positive
from derivations.prover.steps import InternalError, Mutant, Step, StepFailed, show


@dataclass(frozen=True)
class Positive(Step):
    """expr > 0 throughout: positive coefficients in positive quantities, confirmed by balls; for a number, a ball."""

    expr: sp.Expr

    @property
    def procedures(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("positive coefficients", "ball arithmetic") if self.expr.free_symbols else ("ball arithmetic", "mpmath")

    def expressions(self) -> tuple[sp.Expr, ...]:
        return (self.expr,)

    def check(self) -> None:
        signs = []
        for point, far in self.points([self.expr]):
            sign = balls.sign(self.expr, point)
            if sign is not None and sign <= 0:
                raise StepFailed(f"not positive at {show(point)}")
            signs.append(sign is not None or far)
        self.require_defined(self.expr)
        if not all(signs):
            raise StepFailed("undecided: at some point the sign does not show in the balls")
        if not self.expr.free_symbols:  # a number: the ball around it, which is all positive, is the proof
            if not sp.N(self.expr, 50) > 0:  # mpmath, which shares no code with the balls
                raise InternalError(f"balls say positive, mpmath does not: {self.statement}")
        elif not visibly_positive(self.expr, self.unit):
            raise StepFailed("undecided: positive at every point tried, but no proof")

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """Only the negation: another wrong version may well be positive too."""
        try:
            replace(self, expr=-self.expr).check()
            yield Mutant((-self.expr, "> 0"), "survived")
        except StepFailed as error:
            yield Mutant((-self.expr, "> 0"), "refuted" if "not positive" in str(error) else "survived")


@dataclass(frozen=True)
class Differs(Step):
    """lhs != rhs at one exact rational point inside the hypotheses, certified by balls that do not meet."""

    lhs: sp.Expr
    rhs: sp.Expr
    point: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    procedures = ("ball arithmetic", "mpmath")

    def expressions(self) -> tuple[sp.Expr, ...]:
        return (self.lhs, self.rhs)

    def check(self) -> None:
        point = {symbol: sp.Rational(value) for symbol, value in self.point.items()}
        wrong = check_values(point, self.unit, inside=True)
        if wrong:
            raise StepFailed(f"the counterexample is outside of the hypotheses: {'; '.join(wrong)}")
        missing = (self.lhs.free_symbols | self.rhs.free_symbols) - set(point)
        if missing:
            raise StepFailed(f"the counterexample has no value for {', '.join(sorted(map(str, missing)))}")
        if balls.compare(self.lhs, self.rhs, point) is not False:
            raise StepFailed(f"the two sides are not shown to differ at {show(point)}")
        exact = (self.lhs - self.rhs).subs(point)
        if abs(sp.N(exact, 50)) < sp.Float(10) ** -40:  # mpmath, which shares no code with the balls
            raise InternalError(f"balls say different, mpmath says equal: {self.statement}")

    @property
    def about_something(self) -> bool:
        """Whether it is about expressions at a point; two numbers differ for no reason of the claim's."""
        return bool(self.point) and bool(self.lhs.free_symbols | self.rhs.free_symbols)

    def numbers(self) -> tuple[float, float]:
        """Both sides at the point, for people to read."""
        return float(balls.evaluate(self.lhs, self.point)), float(balls.evaluate(self.rhs, self.point))

    def exact(self) -> tuple[sp.Expr, sp.Expr]:
        """Both sides at the point, exactly."""
        return self.lhs.subs(dict(self.point)), self.rhs.subs(dict(self.point))
