"""Certificates: how each exponential and logarithm of an identity is a product or sum of independent ones.

`field` decides rational identities and takes every exp and ln for a variable. So exp(a + 2 b) is first shown to be
exp a * exp b ^ 2, and ln(u / v) to be ln u - ln v, for every such kernel of the identity. The search for that form
happens here, with SymPy's polynomials, and need not be believed: each certificate is a statement with its proof, and
the kernel checks it. A logarithm is split only over factors that the claim's assumptions make positive.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sympy as sp
from sympy.polys.fields import field

from derivations.rocq.formulas import Names, Node, NotClosed, NotExpressible, number


class Rewriting(NamedTuple):
    """kernel = form, and the Rocq proof of it."""

    kernel: str
    form: str
    proof: str


class FinerKernels(Exception):
    """An exponential to a fractional power: start again with the exponents divided by more."""

    def __init__(self, denominator: int) -> None:
        super().__init__(denominator)
        self.denominator = denominator


class Certificates:
    """The kernels of one identity. unit: symbols in (0, 1).

    Reduced formulas are rational expressions in the symbols and in generators, one for each independent kernel.
    """

    def __init__(self, names: Names, unit: frozenset[sp.Symbol], scale: int = 1) -> None:
        self.names, self.unit, self.scale = names, unit, scale
        self.text: dict[sp.Symbol, str] = {}  # generator -> the Rocq term it stands for
        self.argument: dict[sp.Symbol, sp.Expr] = {}  # generator of an exp -> what is exponentiated
        self.inside: dict[sp.Symbol, sp.Expr] = {}  # generator of a ln -> what it is the logarithm of
        self.by_text: dict[str, sp.Symbol] = {}
        self.memo: dict[Node, sp.Expr] = {}
        self.rewritings: dict[Node, Rewriting] = {}

    def reduce(self, node: Node) -> sp.Expr:
        """The node as a rational expression in symbols and generators; remembers what had to be rewritten."""
        if node not in self.memo:
            self.memo[node] = self._reduce(node)
        return self.memo[node]

    def _reduce(self, node: Node) -> sp.Expr:
        if not node.args:
            return node.value
        if node.op == "^":
            base = self.reduce(node.args[0])
            if node.value < 0 and _fraction(base)[0] == 0:
                raise NotClosed(f"divides by {node.args[0].text}, which is 0")
            return base**node.value
        inner = [self.reduce(arg) for arg in node.args]
        if node.op in "+*":
            return sp.Add(*inner) if node.op == "+" else sp.Mul(*inner)
        if node.op == "exp" and node.value is not None and not self.is_positive(self.reduce_base(node)):
            raise NotClosed("a power of something that is not known to be positive")
        return (self._exp if node.op == "exp" else self._ln)(node, inner[0])

    def reduce_base(self, node: Node) -> sp.Expr:
        """The base of a power with a symbolic exponent, which is written as exp (exponent * ln base)."""
        return self.reduce(node.args[0].args[1].args[0])

    # ---- exponentials ----

    def _exp(self, node: Node, argument: sp.Expr) -> sp.Expr:
        numerator, denominator = _fraction(argument)
        divisor, unit = denominator.as_expr().as_content_primitive()
        value: sp.Expr = sp.Integer(1)
        terms, forms, proofs = [], [], []
        for monomial, coefficient in numerator.terms():
            content = 1 / unit
            for symbol, degree in zip(numerator.ring.symbols, monomial, strict=True):
                content = content * symbol**degree
            count = sp.Rational(coefficient.numerator, coefficient.denominator) / divisor
            logarithm = content in self.inside
            if not logarithm:
                count = count * self.scale
            if not count.is_Integer:
                if logarithm:
                    raise NotExpressible("a root of a sum")
                raise FinerKernels(int(count.q))
            n, minus = abs(int(count)), "_opp" if count < 0 else ""
            if logarithm:
                base, what = self.inside[content], self.print(content)
                form = self.print(base)
                proof = f"exp_ln_nat{minus} {n} {n} {form} ltac:(pos) ltac:(count)"
            else:
                base = self._exp_generator(content / self.scale)
                what, form = self.print(content / self.scale), self.text[base]
                proof = f"exp_nat{minus} {n} {n} {what} ltac:(count)"
            value = value * base**count
            terms.append(f"- ({n} * {what})" if minus else f"{n} * {what}")
            forms.append(f"/ ({form} ^ {n})" if minus else f"{form} ^ {n}")
            proofs.append(proof)
        if not terms:
            return self._remember(node, sp.S.One, "0", "1", "exp_0")
        return self._remember(node, value, _join("+", terms), _join("*", forms), _nest("exp_add", proofs))

    def _exp_generator(self, argument: sp.Expr) -> sp.Symbol:
        text = f"(exp {self.print(argument)})"
        if text not in self.by_text:
            self.by_text[text] = sp.Dummy(f"e{len(self.by_text)}", positive=True)
            self.argument[self.by_text[text]] = argument
            self.text[self.by_text[text]] = text
        return self.by_text[text]

    # ---- logarithms ----

    def _ln(self, node: Node, argument: sp.Expr) -> sp.Expr:
        if argument == 0:
            raise NotClosed("the logarithm of 0")
        pieces = self._positive_factors(argument)
        if pieces is None:  # one logarithm, of the argument in its canonical form
            generator = self._ln_generator(sp.cancel(argument))
            inside = self.print(self.inside[generator])
            return self._remember(node, generator, inside, self.text[generator], "eq_refl")
        value: sp.Expr = sp.Integer(0)
        factors, forms, proofs = [], [], []
        for factor, count in pieces:
            n, minus = abs(count), "_inv" if count < 0 else ""
            if factor in self.argument:
                what = self.print(self.argument[factor])
                value += count * self.argument[factor]
                proofs.append(f"lnis_exp{minus} {n} {n} {what} ltac:(count)")
            else:
                generator = self._ln_generator(factor)
                what = self.text[generator]
                value += count * generator
                proofs.append(f"lnis_pow{minus} {n} {n} {self.print(factor)} ltac:(pos) ltac:(count)")
            factors.append(f"/ ({self.print(factor)} ^ {n})" if minus else f"{self.print(factor)} ^ {n}")
            forms.append(f"- ({n} * {what})" if minus else f"{n} * {what}")
        if not factors:
            return self._remember(node, sp.S.Zero, "1", "0", "ln_1")
        proof = f"proj2 ({_nest('lnis_mul', proofs)})"
        return self._remember(node, value, _join("*", factors), _join("+", forms), proof)

    def _positive_factors(self, argument: sp.Expr) -> list[tuple[sp.Expr, int]] | None:
        """The argument as a product of powers of positive things, primes included; None where that is not known."""
        numerator, denominator = map(self._signed, _fraction(argument))
        if numerator is None or denominator is None:
            return None
        (top, above), (bottom, under) = numerator, denominator
        if top / bottom <= 0:
            return None
        primes = [(sp.Integer(prime), power) for prime, power in sp.factorrat(top / bottom).items() if prime != 1]
        return primes + above + [(factor, -count) for factor, count in under]

    def _signed(self, polynomial: Any) -> tuple[sp.Rational, list[tuple[sp.Expr, int]]] | None:
        """A number times a product of powers of positive things; None where that is not known."""
        constant, factors = polynomial.factor_list()
        if any(self.sign(factor) is None for factor, _ in factors):
            if (whole := self.sign(polynomial)) is None:  # 1 + e^5 is positive, and its factors are not known to be
                return None
            return sp.Integer(whole), [((whole * polynomial).as_expr(), 1)]
        number = sp.Rational(constant.numerator, constant.denominator)
        pieces = []
        for factor, count in factors:
            sign = self.sign(factor) or 1
            number *= sp.Integer(sign) ** count
            pieces.append(((sign * factor).as_expr(), count))
        return number, pieces

    def product(self, expr: sp.Expr) -> str:
        """A positive expression as a Rocq product of powers of positive things."""
        factors = [(self.print(factor), count) for factor, count in self._positive_factors(expr) or ()]
        powers = [f"{text} ^ {n}" if n > 0 else f"/ ({text} ^ {-n})" for text, n in factors]
        return _join("*", powers) or "1"

    def _ln_generator(self, inside: sp.Expr) -> sp.Symbol:
        text = f"(ln {self.print(inside)})"
        if text not in self.by_text:
            self.by_text[text] = sp.Dummy(f"l{len(self.by_text)}", real=True)
            self.inside[self.by_text[text]] = inside
            self.text[self.by_text[text]] = text
        return self.by_text[text]

    # ---- signs and printing ----

    def sign(self, polynomial: Any) -> int | None:
        """+1 or -1 if the polynomial is known to have that sign under the assumptions, else None.

        All coefficients alike in positive symbols; or c - c u with u in (0, 1).
        """
        expr = polynomial.as_expr()
        coefficients = [sp.Rational(c.numerator, c.denominator) for c in polynomial.itercoeffs()]
        if all(symbol.is_positive for symbol in expr.free_symbols):
            if all(c > 0 for c in coefficients):
                return 1
            if all(c < 0 for c in coefficients):
                return -1
        if len(expr.free_symbols) == 1 and expr.free_symbols <= self.unit:
            (u,) = expr.free_symbols
            slope = sp.diff(expr, u)
            if slope.is_Rational and expr.subs(u, 1) == 0:
                return -1 if slope > 0 else 1
        return None

    def is_positive(self, expr: sp.Expr) -> bool:
        """Known to be positive under the assumptions."""
        return self._positive_factors(expr) is not None

    def _remember(self, node: Node, value: sp.Expr, inner: str, form: str, proof: str) -> sp.Expr:
        """Note how the kernel is rewritten, unless it is a generator as it stands."""
        if node.text != self.text.get(value):
            same = f"apply f_equal; {self.moves(node.args)}field_nz"
            script = f"transitivity ({node.op} ({inner})); [{same}|exact ({proof})]."
            self.rewritings[node] = Rewriting(node.text, form, script)
        return value

    def moves(self, nodes: Sequence[Node]) -> str:
        """Tactics that rewrite the kernels in these formulas, the outermost first."""
        kernels = set().union(*(node.kernels() for node in nodes)) & set(self.rewritings)
        ordered = sorted(kernels, key=lambda kernel: (-len(kernel.text), kernel.text))
        return "".join(f"try rewrite {self.label(kernel)}; " for kernel in ordered)

    def label(self, node: Node) -> str:
        """Name of the hypothesis that rewrites this kernel."""
        return f"K{list(self.rewritings).index(node) + 1}"

    def print(self, expr: sp.Expr) -> str:
        """A reduced expression as a Rocq term, generators written out."""
        if expr.is_Symbol:
            return self.text[expr] if expr in self.text else self.names[expr]
        if expr.is_Rational:
            return number(expr)
        if expr.is_Add or expr.is_Mul:
            args = sorted((self.print(arg) for arg in expr.args), key=lambda text: (len(text), text))
            return "(" + (" + " if expr.is_Add else " * ").join(args) + ")"
        if expr.is_Pow and expr.exp.is_Integer:
            base, n = self.print(expr.base), abs(int(expr.exp))
            magnitude = base if n == 1 else f"({base} ^ {n})"
            return f"(/ {magnitude})" if expr.exp < 0 else magnitude
        raise NotExpressible(f"{type(expr).__name__} in a reduced formula")


def _fraction(expr: sp.Expr) -> tuple[Any, Any]:
    """Numerator and denominator of a rational expression, coprime, in Q[symbols]."""
    symbols = sorted(expr.free_symbols, key=str) or [sp.Symbol("unused")]
    element = field(symbols, sp.QQ)[0].from_expr(expr)
    return element.numer, element.denom


def _join(sign: str, parts: list[str]) -> str:
    return f" {sign} ".join(parts)


def _nest(lemma: str, proofs: list[str]) -> str:
    """The proof of a sum or product from those of its parts, which associates to the left."""
    proof = proofs[0]
    for other in proofs[1:]:
        proof = f"{lemma} _ _ _ _ ({proof}) ({other})"
    return proof
