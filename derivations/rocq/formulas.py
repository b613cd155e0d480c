"""Formulas as trees that print as Rocq terms: what the exporter reads, without simplifying anything.

A tree is made from a SymPy expression as it stands; a condition (`given`) is put in for its symbols here, node by node,
so that no algebra of SymPy's stands between a step and the lemma that is printed for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

# Words of Rocq and of its real numbers that a variable must not be called.
WORDS = """
as at by cofix else end exists exists2 fix for forall fun if in is let match mod return then using where with
Prop Set Type IF SProp R I S O PI INR IZR Z exp ln sin cos tan up pow sum sigma Rpower sqrt nat lnis
"""
RESERVED = re.compile(f"K[0-9]+|{'|'.join(WORDS.split())}")  # the proofs call their rewritings K1, K2, ...


class NotExpressible(Exception):
    """The step has no lemma, and why."""

    word = "not expressible"


class NotClosed(NotExpressible):
    """The step could be written as a lemma, but a side condition does not follow from the claim's assumptions."""

    word = "not closed"


@dataclass(frozen=True)
class Node:
    """A formula; two nodes are one if they print alike.

    op: `symbol`, `number`, `+`, `*`, `^` (integer power), `exp` or `ln`.
    value: the symbol or number, or the exponent of `^`.
    """

    op: str
    args: tuple["Node", ...] = field(compare=False)
    value: Any = field(compare=False)
    text: str

    def kernels(self) -> set["Node"]:
        """The exponentials and logarithms in it, itself included."""
        found = {self} if self.op in ("exp", "ln") else set()
        return found.union(*(arg.kernels() for arg in self.args))

    def powers(self) -> set["Node"]:
        """The powers in it, itself included: the negative ones are what must not divide by 0."""
        found = {self} if self.op == "^" else set()
        return found.union(*(arg.powers() for arg in self.args))


class Names:
    """What each symbol is called in Rocq: its own name where that is possible and free."""

    def __init__(self) -> None:
        self.by_symbol: dict[sp.Symbol, str] = {}

    def __getitem__(self, symbol: sp.Symbol) -> str:
        if symbol not in self.by_symbol:
            name = re.sub(r"\W", "_", symbol.name, flags=re.ASCII) or "x"
            name = name if name[0].isalpha() else f"x{name}"
            while RESERVED.fullmatch(name) or name in self.by_symbol.values():
                name += "_"
            self.by_symbol[symbol] = name
        return self.by_symbol[symbol]


def number(value: sp.Rational) -> str:
    """A rational number as a Rocq term."""
    top = f"{value.p}" if value.p >= 0 else f"({value.p})"
    return top if value.q == 1 else f"({top} / {value.q})"


def read(expr: sp.Expr, names: Names, given: Mapping[sp.Symbol, Node] | None = None) -> Node:
    """The tree of a SymPy expression, with `given` put in for its symbols. Raises NotExpressible."""
    given = given or {}
    if expr.is_Symbol:
        if expr in given:
            return given[expr]
        if not expr.is_real:
            raise NotExpressible(f"{expr} is not declared real")
        return Node("symbol", (), expr, names[expr])
    if expr.is_Rational:
        return Node("number", (), expr, number(expr))
    if expr is sp.E:
        return _call("exp", Node("number", (), sp.S.One, "1"))
    if expr.is_Add or expr.is_Mul:
        sign = "+" if expr.is_Add else "*"
        args = tuple(read(arg, names, given) for arg in expr.args)
        return Node(sign, args, None, "(" + f" {sign} ".join(arg.text for arg in args) + ")")
    if isinstance(expr, sp.exp | sp.log):
        return _call("exp" if isinstance(expr, sp.exp) else "ln", read(expr.args[0], names, given))
    if expr.is_Pow:
        base, exponent = (read(arg, names, given) for arg in expr.args)
        if expr.exp.is_Integer:
            return power(base, int(expr.exp))
        # a power with another exponent means exp (exponent * ln base), which is Rpower; the base must be positive
        product = Node("*", (exponent, _call("ln", base)), None, f"({exponent.text} * ln {base.text})")
        return Node("exp", (product,), base, f"(exp {product.text})")
    raise NotExpressible(f"{type(expr).__name__} has no counterpart")


def power(base: Node, exponent: int) -> Node:
    """base^exponent for an integer exponent."""
    magnitude = base.text if abs(exponent) == 1 else f"({base.text} ^ {abs(exponent)})"
    return Node("^", (base,), sp.Integer(exponent), f"(/ {magnitude})" if exponent < 0 else magnitude)


def _call(function: str, argument: Node) -> Node:
    return Node(function, (argument,), None, f"({function} {argument.text})")
