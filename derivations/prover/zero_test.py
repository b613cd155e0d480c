"""Deciding that an expression is identically zero, in a domain where that is decidable.

An expression built from symbols with +, *, integer powers, exp and log is rewritten as a rational
function over Q of its symbols and of *kernels*: exp(monomial / d) with d the common denominator of all
exponents, log(polynomial), log(prime). The rewriting only uses identities that hold wherever the
expression is defined and its symbols obey their assumptions (log of a product is split only over
factors that are positive there). So:

    zero in the field  =>  zero everywhere: proved;
    not zero there     =>  nothing is proved; `derivations.prover.balls` must find a point where it is not 0.

No call of `simplify`, no heuristics, no random numbers.
"""

import math
from collections.abc import Iterator
from typing import Any

import sympy as sp
from sympy.polys.fields import field

from derivations.prover.numerators import numerator


class Undecided(Exception):
    """The expression is outside of what a procedure can decide. Counts as a failure of the claim."""


class FractionalExponent(Exception):
    """A kernel to a fractional power: the rewriting starts again with finer kernels."""

    def __init__(self, denominator: int) -> None:
        super().__init__(denominator)
        self.denominator = denominator


def is_zero(expr: sp.Expr) -> bool:
    """True if the expression is proved to be identically zero; False proves nothing by itself."""
    kernels, reduced = reduce(expr)
    polynomial = numerator(reduced)
    return polynomial == 0 or kernels.vanishes(polynomial.as_expr())


def is_positive(expr: sp.Expr) -> bool:
    """True if the expression is proved positive: a ratio of polynomials with positive coefficients in positive things.

    Even powers of anything real count as >= 0, e^x with x > 0 as 1 plus something positive, and log x with x > 1 as
    positive. Sufficient, not necessary; False proves nothing.
    """
    return _plain(expr) or any(
        numerator != 0 and (sign := _sign(numerator)) is not None and sign == _sign(denominator)
        for numerator, denominator in _forms(expr)
    )


def _plain(expr: sp.Expr) -> bool:
    """Positive by its tree alone: sums, products and whole powers of exponentials and of what is positive."""
    if expr.is_Add or expr.is_Mul:
        return all(map(_plain, expr.args))
    if isinstance(expr, sp.exp):
        return _rational(expr.args[0])
    if expr.is_Pow:
        return bool(expr.exp.is_Integer) and _plain(expr.base)
    return bool((expr.is_Rational or expr.is_Symbol) and expr.is_positive)


def _rational(expr: sp.Expr) -> bool:
    """A rational expression in real symbols."""
    if expr.is_Add or expr.is_Mul:
        return all(map(_rational, expr.args))
    if expr.is_Pow:
        return bool(expr.exp.is_Integer) and _rational(expr.base)
    return bool(expr.is_Rational or (expr.is_Symbol and expr.is_real))


def is_nonnegative(expr: sp.Expr) -> bool:
    """True if the expression is proved >= 0 wherever it is defined, in the same way."""
    return any(
        numerator == 0 or ((sign := _sign(numerator, strict=False)) is not None and sign == _sign(denominator))
        for numerator, denominator in _forms(expr)
    )


def _forms(expr: sp.Expr) -> Iterator[tuple[Any, Any]]:
    """The expression as a fraction in kernels, and again knowing that e^x > 1 for x > 0, and log x > 0 for x > 1."""
    kernels, reduced = reduce(expr)
    yield _fraction(reduced)
    above = {}
    for generator, argument in kernels.exp_argument.items():
        top, bottom = _fraction(argument)
        signs = _sign(top), _sign(bottom)
        if None not in signs:
            larger = 1 + sp.Dummy(generator.name, positive=True)
            above[generator] = larger if signs[0] == signs[1] else 1 / larger
    for generator, argument in kernels.log_argument.items():
        if argument.is_Integer or is_positive(argument - 1):
            above[generator] = sp.Dummy(generator.name, positive=True)
    if above:
        yield _fraction(reduced.subs(above))


def reduce(expr: sp.Expr) -> tuple["Kernels", sp.Expr]:
    """The kernels, and the expression as a rational expression in them and its symbols."""
    scale = 1
    while True:
        kernels = Kernels(scale)
        try:
            return kernels, kernels.reduce(expr)
        except FractionalExponent as found:
            scale = math.lcm(scale, found.denominator)


def _fraction(expr: sp.Expr) -> tuple[Any, Any]:
    """Numerator and denominator of a rational expression, coprime, as elements of Q[symbols]."""
    symbols = sorted(expr.free_symbols, key=str) or [sp.Symbol("unused")]
    element = field(symbols, sp.QQ)[0].from_expr(expr)
    return element.numer, element.denom


def _sign(polynomial: Any, *, strict: bool = True) -> int | None:
    """+1 or -1 if all terms share that sign wherever the symbols obey their assumptions, else None.

    strict: one term at least must be certain not to be 0.
    """
    symbols = polynomial.ring.symbols
    signs, certain = set(), not strict
    for monomial, coefficient in polynomial.terms():
        used = [(symbol, degree) for symbol, degree in zip(symbols, monomial, strict=True) if degree]
        if not all(symbol.is_nonnegative or (symbol.is_real and degree % 2 == 0) for symbol, degree in used):
            return None
        certain = certain or all(symbol.is_positive for symbol, _ in used)
        signs.add(1 if coefficient > 0 else -1)
    return signs.pop() if certain and len(signs) == 1 else None


class Kernels:
    """One rewriting: remembers which generator stands for which exp(monomial / scale) or log."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.by_key: dict[tuple[str, sp.Expr], sp.Symbol] = {}
        self.exp_argument: dict[sp.Symbol, sp.Expr] = {}
        self.log_argument: dict[sp.Symbol, sp.Expr] = {}
        self.roots: dict[sp.Symbol, sp.Expr] = {}  # generator -> what its `scale`-th power is
        self.memo: dict[sp.Expr, sp.Expr] = {}

    def reduce(self, expr: sp.Expr) -> sp.Expr:
        """The expression as a rational expression in symbols and generators."""
        if expr not in self.memo:
            self.memo[expr] = self._reduce(expr)
        return self.memo[expr]

    def _reduce(self, expr: sp.Expr) -> sp.Expr:
        if expr.is_Symbol and not expr.is_real:
            raise Undecided(f"{expr} is not declared real, and the rules for exp and log are those of real numbers")
        if expr.is_Rational or expr.is_Symbol:
            return expr
        if expr.is_Add or expr.is_Mul:
            return expr.func(*[self.reduce(arg) for arg in expr.args])
        if expr is sp.E:
            return self._exp(sp.Integer(1))
        if isinstance(expr, sp.exp):
            return self._exp(self.reduce(expr.args[0]))
        if isinstance(expr, sp.log):
            return self._log(self.reduce(expr.args[0]))
        if expr.is_Pow:
            base, exponent = expr.args
            if exponent.is_Integer:
                return self.reduce(base) ** exponent
            inner = self.reduce(base)
            top, bottom = _fraction(inner)
            # (10 - n)^m is defined, and negative, where log(10 - n) is neither
            if None in (signs := (_sign(top), _sign(bottom))) or signs[0] != signs[1]:
                raise Undecided(f"power of {base}, which is not known to be positive")
            return self._exp(self.reduce(exponent) * self._log(inner))
        raise Undecided(f"no rule for {type(expr).__name__} in {expr}")

    def _generator(self, kind: str, argument: sp.Expr) -> sp.Symbol:
        key = (kind, argument)
        if key not in self.by_key:
            name = f"{kind}{len(self.by_key)}"  # a dummy, so that no symbol of the user's is taken for it
            self.by_key[key] = sp.Dummy(name, positive=True) if kind == "exp" else sp.Dummy(name, real=True)
            if kind == "exp":
                self.exp_argument[self.by_key[key]] = argument / self.scale
            else:
                self.log_argument[self.by_key[key]] = argument
        return self.by_key[key]

    def _exp(self, argument: sp.Expr) -> sp.Expr:
        """exp of a sum is a product with one generator per monomial; exp(n log a) is a^n."""
        numerator, denominator = _fraction(argument)
        divisor, unit = denominator.as_expr().as_content_primitive()  # 2 v and v give powers of one kernel
        product: sp.Expr = sp.Integer(1)
        for monomial, coefficient in numerator.terms():
            power = sp.Rational(coefficient.numerator, coefficient.denominator) / divisor
            content = 1 / unit
            for symbol, degree in zip(numerator.ring.symbols, monomial, strict=True):
                content = content * symbol**degree
            base = self.log_argument.get(content) if content.is_Symbol else None
            if base is None:
                power = power * self.scale
                if not power.is_Integer:
                    raise FractionalExponent(power.q)
                base = self._generator("exp", content)
            elif not power.is_Integer:
                product = product * self._root(content, base, power)
                continue
            product = product * base**power
        return product

    def _root(self, log: sp.Symbol, base: sp.Expr, power: sp.Rational) -> sp.Expr:
        """base^power by a generator for the root, which `vanishes` knows to be algebraic."""
        if not (power * self.scale).is_Integer:
            raise FractionalExponent(power.q)
        whole = sp.floor(power)
        generator = self._generator("exp", log)
        self.roots[generator] = base
        return base**whole * generator ** ((power - whole) * self.scale)

    def vanishes(self, polynomial: sp.Expr) -> bool:
        """True if the polynomial is 0 once every root's power is replaced by what it is a root of."""
        if not self.roots:
            return False
        for generator, base in self.roots.items():
            top, bottom = _fraction(base)
            relation = bottom.as_expr() * generator**self.scale - top.as_expr()
            polynomial = sp.numer(sp.together(sp.rem(polynomial, relation, generator)))
        return sp.expand(polynomial) == 0

    def _log(self, argument: sp.Expr) -> sp.Expr:
        """log of a product, split over the factors that are positive; the rest stays together."""
        numerator, denominator = _fraction(argument)
        total: sp.Expr = sp.Integer(0)
        rest: sp.Expr = sp.Integer(1)
        for part, direction in ((numerator, 1), (denominator, -1)):
            constant, factors = part.factor_list()
            constant = sp.Rational(constant.numerator, constant.denominator)
            for factor, multiplicity in factors:
                sign = _sign(factor)
                if sign is None:
                    rest = rest * factor.as_expr() ** (direction * multiplicity)
                    continue
                constant = constant * sign**multiplicity
                total = total + direction * multiplicity * self._log_positive((sign * factor).as_expr())
            for prime, multiplicity in sp.factorrat(abs(constant)).items():
                if prime != 1:
                    total = total + direction * multiplicity * self._generator("log", sp.Integer(prime))
            if constant < 0:
                rest = -rest
        if rest != 1:
            top, bottom = _fraction(rest)
            total = total + self._generator("log", top.as_expr() / bottom.as_expr())
        return total

    def _log_positive(self, factor: sp.Expr) -> sp.Expr:
        return self.exp_argument[factor] if factor in self.exp_argument else self._generator("log", factor)
