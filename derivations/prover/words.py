"""Expressions as a person reads them in a terminal: |w| for len_w, pi(w) for e^logp_w."""

import sympy as sp
from sympy.printing.str import StrPrinter

PLAIN = {"len": "|y|", "len_w": "|w|", "len_l": "|l|", "lambda": "lambda"}


class _Words(StrPrinter):
    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return PLAIN.get(expr.name, expr.name)

    _print_Dummy = _print_Symbol


def words(expr: object) -> str:
    """The expression as plain text."""
    return _Words().doprint(expr)


def domain(symbols: set[sp.Symbol], is_probability) -> str:  # type: ignore[no-untyped-def]
    """What the symbols range over, as `alpha, beta > 0; p in (0, 1)`."""
    groups: dict[str, list[str]] = {}
    for symbol in sorted(symbols, key=str):
        if is_probability(symbol):
            kind = "in (0, 1)"
        elif symbol.is_integer:
            kind = "whole, >= 1" if symbol.is_positive else "whole, >= 0" if symbol.is_nonnegative else "whole"
        elif symbol.is_positive:
            kind = "> 0"
        elif symbol.is_nonnegative:
            kind = ">= 0"
        else:
            kind = "real"
        groups.setdefault(kind, []).append(words(symbol))
    return "; ".join(f"{', '.join(names)} {kind}" for kind, names in groups.items())
