"""What values a symbol may take: its SymPy assumptions, and what the notation of this project says about its name.

A probability lies in (0, 1]: a symbol called p, q, pi or prob, with or without a number, or one that a step lists
in `unit`. Probabilities with numbers, p_1, p_2, ..., are those of different responses of one policy, so together
they are at most 1. Every value that a proof puts in a symbol's place is held against this.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping

import sympy as sp

from derivations.prover.balls import sign
from derivations.prover.zero_test import Undecided, is_nonnegative, is_positive

PROBABILITY = re.compile(r"(p|q|pi|prob)(_?\d+)?")
Unit = frozenset[sp.Symbol]


def is_probability(symbol: sp.Symbol, unit: Unit = frozenset()) -> bool:
    """Whether the symbol stands for a probability, by its name or because a step says so."""
    return symbol in unit or bool(PROBABILITY.fullmatch(symbol.name))


@functools.cache
def visibly_positive(expr: sp.Expr, unit: Unit = frozenset()) -> bool:
    """Proved > 0 throughout: positive coefficients in positive quantities, also in odds of what is in (0, 1)."""
    return _visible(expr, unit, is_positive)


@functools.cache
def visibly_nonnegative(expr: sp.Expr, unit: Unit = frozenset()) -> bool:
    """Proved >= 0 throughout, likewise."""
    return _visible(expr, unit, is_nonnegative)


def _visible(expr: sp.Expr, unit: Unit, test: Callable[[sp.Expr], bool]) -> bool:
    if not expr.free_symbols:
        return _number(expr, test)
    forms = [expr]
    probabilities = [symbol for symbol in expr.free_symbols if is_probability(symbol, unit)]
    if probabilities:
        forms.append(expr.subs({s: 1 / (1 + sp.Symbol(f"odds_{s.name}", positive=True)) for s in probabilities}))
    counts = [symbol for symbol in expr.free_symbols if symbol.is_integer and symbol.is_positive]
    if counts:  # a whole number above 0 is at least 1
        forms.append(expr.subs({s: 1 + sp.Symbol(f"{s.name}_less_1", nonnegative=True) for s in counts}))
    for form in forms:
        try:
            if test(form):
                return True
        except Undecided:
            continue
    return False


def _number(expr: sp.Expr, test: Callable[[sp.Expr], bool]) -> bool:
    """A number's sign, by its ball where the field of kernels does not see it."""
    try:
        if test(expr):
            return True
        found = sign(expr, {})
    except (Undecided, TypeError):
        return False
    return found == 1 or (found == 0 and test is is_nonnegative)


def outside(symbol: sp.Symbol, value: sp.Expr, unit: Unit = frozenset(), *, inside: bool = False) -> str | None:
    """Why the value may not stand in the symbol's place; None if it is proved that it may.

    inside: a probability of 1 is not let pass, as where at least two responses have some.
    """
    value = sp.sympify(value)
    wanted = []
    if value.has(sp.I, sp.zoo, sp.nan, sp.oo):
        return f"{symbol} = {value} is no real number"
    if symbol.is_integer and not value.is_integer:
        wanted.append("a whole number")
    if is_probability(symbol, unit):
        whole = value == 1 and not inside
        if not (visibly_positive(value, unit) and (whole or visibly_positive(1 - value, unit))):
            wanted.append("a probability in (0, 1)" if inside else "a probability in (0, 1]")
    elif symbol.is_positive:
        if not visibly_positive(value, unit):
            wanted.append("positive")
    elif symbol.is_nonnegative:
        if not visibly_nonnegative(value, unit):
            wanted.append(">= 0")
    elif symbol.is_negative and not visibly_positive(-value, unit):
        wanted.append("negative")
    elif symbol.is_nonzero and not (visibly_positive(value, unit) or visibly_positive(-value, unit)):
        wanted.append("not 0")
    return f"{symbol} = {value} is not shown to be {' and '.join(wanted)}" if wanted else None


def check_values(values: Mapping[sp.Symbol, sp.Expr], unit: Unit = frozenset(), *, inside: bool = False) -> list[str]:
    """What is wrong with values for symbols: outside of their ranges, or probabilities that sum to more than 1."""
    wrong = [reason for symbol, value in values.items() if (reason := outside(symbol, value, unit, inside=inside))]
    for family in families(values):
        total = sum(sp.sympify(values[symbol]) for symbol in family)
        if total != 1 and not visibly_positive(1 - total, unit):
            wrong.append(f"the probabilities {', '.join(map(str, family))} sum to {total}, not shown to be <= 1")
    return wrong


def families(symbols: Iterable[sp.Symbol]) -> list[list[sp.Symbol]]:
    """The numbered probabilities p_1, p_2, ... that belong together, two or more of each."""
    found: dict[str, list[sp.Symbol]] = {}
    for symbol in sorted(symbols, key=str):
        match = PROBABILITY.fullmatch(symbol.name)
        if match and match[2]:
            found.setdefault(match[1], []).append(symbol)
    return [family for family in found.values() if len(family) > 1]
