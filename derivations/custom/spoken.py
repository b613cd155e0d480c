"""Formulas as a person writes them: p log p, beta/|y| log(p/q), and pi(y) for the probability of a response."""

import sympy as sp
from sympy.printing.str import StrPrinter

from derivations.proofs.symbols import length, order, p, q

PLAIN = {p: "p", q: "q", length: "|y|", order: "a"}


class _Spoken(StrPrinter):
    """Factors side by side: strengths and what divides them, sums in brackets, probabilities, logarithms last."""

    def __init__(self, names: dict[sp.Symbol, str]) -> None:
        super().__init__()
        self.names = names

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return self.names.get(expr, expr.name)

    def _print_log(self, expr: sp.Expr) -> str:
        inside = expr.args[0]
        return f"log {self.doprint(inside)}" if inside.is_Symbol else f"log({self.doprint(inside)})"

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if exponent == sp.Rational(1, 2):
            return f"sqrt({self.doprint(base)})"
        if exponent.is_negative or (exponent.is_Mul and exponent.could_extract_minus_sign()):
            return f"1/{self._factor(base**-exponent, below=True)}"
        power = self.doprint(exponent)
        return f"{self._factor(base)}^{power if exponent.is_Integer or exponent.is_Symbol else f'({power})'}"

    def _print_Add(self, expr: sp.Add, order: str | None = None) -> str:
        terms = sorted(expr.args, key=lambda term: (term.could_extract_minus_sign(), _weight(term), str(term)))
        text = self.doprint(terms[0])
        for term in terms[1:]:
            minus = term.could_extract_minus_sign()
            text += f" - {self._term(-term)}" if minus else f" + {self._term(term)}"
        return text

    def _print_Mul(self, expr: sp.Mul) -> str:
        if expr.could_extract_minus_sign():
            return f"-{self._term(-expr)}"
        above, below = sp.fraction(expr)
        if isinstance(above, sp.exp) and above.args[0].could_extract_minus_sign():
            above, below = expr, sp.S.One
        plain = [f for f in sp.Mul.make_args(above) if f != 1 and not f.has(p, q)]
        rest = [f for f in sp.Mul.make_args(above) if f.has(p, q)]
        strengths = " ".join(map(self._factor, sorted(plain, key=_weight)))
        if below != 1 and below.has(p, q):  # what is divided stands before, all of it
            whole = " ".join(filter(None, (strengths, *map(self._factor, sorted(rest, key=_weight)))))
            return f"{whole or '1'}/{self._factor(below, below=True)}"
        if below != 1:
            part = f"{strengths or '1'}/{self._factor(below, below=True)}"
            strengths = part if strengths or not rest else f"({part})"
        return " ".join(filter(None, (strengths, *map(self._factor, sorted(rest, key=_weight)))))

    def _term(self, expr: sp.Expr) -> str:
        text = self.doprint(expr)
        return f"({text})" if expr.is_Add else text

    def _factor(self, expr: sp.Expr, below: bool = False) -> str:
        text = self.doprint(expr)
        if expr.is_Add or (below and expr.is_Mul):
            return f"({text})"
        alone = expr.is_Symbol or expr.is_Integer or (isinstance(expr, sp.exp | sp.log) and not below)
        return text if alone or (expr.is_Pow and not text.startswith("1/")) else f"({text})"


def _weight(term: sp.Expr) -> tuple[int, int, str]:
    """Numbers, strengths, sums, probabilities, logarithms."""
    if term.is_number:
        return 0, 0, str(term)
    if not term.has(p, q):
        return 1, int(term.is_Add), str(term)
    if term.has(sp.log):
        return 4, int(term.is_Add), str(term)
    return 3 if not term.is_Add else 5, 0, str(term)


def spoken(expr: sp.Expr, response: str = "") -> str:
    """The formula in p, q and |y|; or in pi(w), pi_ref(w) and |w| of a response w."""
    names = PLAIN
    if response:
        names = {p: f"pi({response})", q: f"pi_ref({response})", length: f"|{response}|", order: "a"}
    return _Spoken(names).doprint(expr)


def difference(first: str, expr: sp.Expr, response: str) -> str:
    """first - the formula of a response, with a minus of its own turned over, and brackets where it is a sum."""
    if not expr.is_Add and expr.could_extract_minus_sign():
        return f"{first} + {spoken(-expr, response)}"
    text = spoken(expr, response)
    return f"{first} - {f'[{text}]' if expr.is_Add else text}"
