"""Limits: `TendsTo`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy as sp
from flint import arb

from derivations.prover import balls
from derivations.prover.domains import is_probability, visibly_positive
from derivations.prover.sampling import Point
from derivations.prover.steps import InternalError, Mutant, Step, StepFailed

ARRIVED = arb(10) ** -100  # a gap this small is arrival: closer than that the bits run out


@dataclass(frozen=True)
class TendsTo(Step):
    """expr -> limit (a number, oo or -oo) as symbol -> place+: Gruntz's algorithm, confirmed by balls on the way.

    Gruntz's algorithm is asked about functions of the one symbol only. Other symbols may be factors of the terms, or
    stand in the exponent of a power of the symbol whose sign is decided: that holds for their whole range.
    """

    expr: sp.Expr
    symbol: sp.Symbol
    place: sp.Expr
    limit: sp.Expr

    procedures = ("Gruntz limits, parameters term by term", "ball arithmetic")

    def expressions(self) -> tuple[sp.Expr, ...]:
        return (self.expr,)

    def check(self) -> None:
        self._check_place()
        self.require_defined(self.expr)
        found = self._found()
        if found != self.limit and not (found.is_finite and sp.expand(found - self.limit) == 0):
            raise StepFailed(f"the limit is {found}, not {self.limit}")
        for rest, far in self.points([self.expr], 4):
            if not far:
                self._confirm(rest)

    def _check_place(self) -> None:
        """The symbol must be able to come there from above (or to grow without bound) inside its range."""
        x, place = self.symbol, sp.sympify(self.place)
        wrong = ""
        if x not in self.expr.free_symbols:
            wrong = "does not occur in it"
        elif is_probability(x, self.unit) and not (place.is_Rational and 0 <= place < 1):
            wrong = "is a probability"
        elif x.is_integer and place.is_finite:
            wrong = "is a whole number, and does not come close to it"
        elif x.is_nonnegative and not (place is sp.oo or place.is_nonnegative):
            wrong = "is never negative"
        elif place not in (sp.oo, -sp.oo) and not place.is_Rational:
            wrong = "goes to a number, oo or -oo"
        if wrong:
            raise StepFailed(f"outside of the hypotheses: {x} -> {place}, but {x} {wrong}")

    def _found(self) -> sp.Expr:
        """The limit, the same for all values of the other symbols; StepFailed where that is not decided."""
        if not self.expr.free_symbols - {self.symbol}:
            return self._gruntz(self.expr)
        finite: sp.Expr = sp.S.Zero
        endless: set[sp.Expr] = set()
        for term in sp.Add.make_args(sp.expand(self.expr)):
            factor, varying = term.as_independent(self.symbol, as_Add=False)
            limit = self._of_one(varying)
            if limit.is_finite:
                finite += factor * limit
            elif visibly_positive(factor, self.unit) or visibly_positive(-factor, self.unit):
                endless.add(limit if visibly_positive(factor, self.unit) else -limit)
            else:
                raise StepFailed(f"undecided: the sign of {factor}, which multiplies {varying} -> {limit}")
        if len(endless) > 1:
            raise StepFailed("undecided: some terms tend to oo and some to -oo")
        return endless.pop() if endless else finite

    def _of_one(self, varying: sp.Expr) -> sp.Expr:
        """Limit of one term's varying part: of one symbol, or x^e log(x)^k, or e^(c x), with a sign that is decided."""
        if not varying.free_symbols - {self.symbol}:
            return self._gruntz(varying)
        power, logs, rate = self._parts(varying)
        if rate == 0 and power is not None and self.place in (sp.S.Zero, sp.oo):
            up = self._sign_of(power) == (1 if self.place is sp.oo else -1)
            return (sp.oo if self.place is sp.oo or logs % 2 == 0 else -sp.oo) if up else sp.S.Zero
        if power is None and logs == 0 and self.place in (sp.oo, -sp.oo):
            return sp.oo if self._sign_of(rate) == (1 if self.place is sp.oo else -1) else sp.S.Zero
        raise StepFailed(f"undecided: the limit of {varying} may depend on the other symbols in it")

    def _parts(self, varying: sp.Expr) -> tuple[sp.Expr | None, int, sp.Expr]:
        """e, k and c of x^e log(x)^k e^(c x); e is None if there is no power of x."""
        power: sp.Expr | None = None
        logs, rate = 0, sp.S.Zero
        for factor in sp.Mul.make_args(varying):
            base, exponent = (factor, sp.S.One) if isinstance(factor, sp.exp) else factor.as_base_exp()
            if base == self.symbol and not exponent.has(self.symbol):
                power = exponent + (power or 0)
            elif base == sp.log(self.symbol) and exponent.is_Integer and exponent > 0:
                logs += int(exponent)
            elif isinstance(factor, sp.exp) and not (slope := sp.cancel(factor.args[0] / self.symbol)).has(self.symbol):
                rate += slope
            else:
                raise StepFailed(f"undecided: the limit of {varying} may depend on the other symbols in it")
        return power, logs, rate

    def _sign_of(self, expr: sp.Expr) -> int:
        for sign in (1, -1):
            if visibly_positive(sign * expr, self.unit):
                return sign
        raise StepFailed(f"undecided: the sign of {expr}, on which the limit depends")

    def _gruntz(self, expr: sp.Expr) -> sp.Expr:
        return sp.limit(expr, self.symbol, self.place, "+" if self.place.is_finite else "-")

    def _confirm(self, rest: Point) -> None:
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
