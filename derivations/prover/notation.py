"""What a claim may assume of its symbols: no less general than the notation, and one meaning for each name.

A sentence about "every reward" is not decided by a symbol r that is declared positive, and a name that stands for two
symbols of different assumptions can be read as an equation between two different things.
"""

import re
from collections.abc import Iterable
from itertools import combinations

import sympy as sp

from derivations.prover.derivatives import Derivative
from derivations.prover.domains import Unit, is_probability
from derivations.prover.steps import Step

# what the notation of docs/theory.md calls by these names, with or without an index, and all that is assumed of it
NOTATION = (
    (re.compile(r"(r|logp|ref|ref_logp|log_q|s)(_\w+)?"), {"real": True}),
    (re.compile(r"len(_\w+)?"), {"positive": True, "integer": True}),
    (re.compile(r"(alpha|beta|gamma)(_\w+)?"), {"positive": True}),
)
PARTITION = re.compile(r"Z(_\w+)?")
SHOWN = ("positive", "negative", "nonnegative", "nonpositive", "nonzero", "integer", "even", "odd", "prime", "real")


def wrong_symbols(steps: Iterable[Step], taken: Iterable[Derivative] = ()) -> list[str]:
    """Symbols that narrow the notation or share a name, in words."""
    steps = list(steps)
    spoken = [(step.statement, _symbols(step)) for step in steps]
    spoken += [(f"d/d{item.symbol} of {item.expr}", {item.symbol} | item.expr.free_symbols) for item in taken]
    symbols = sorted(set().union(*(found for _, found in spoken)), key=str)
    return [
        *(reason for symbol in symbols if (reason := _narrow(symbol))),
        *(
            f"{statement}: two different symbols are called {one}: {_assumed(one)}, and {_assumed(other)}"
            for statement, found in spoken
            for one, other in combinations(sorted(found, key=str), 2)
            if one.name == other.name
        ),
        *_units(steps),
        *_partition_functions(steps),
    ]


def _symbols(step: Step) -> set[sp.Symbol]:
    found = set().union(*(expr.free_symbols for expr in step.expressions()))
    for name in ("given", "point", "at", "where"):
        for symbol, value in getattr(step, name, {}).items():
            found |= {symbol} | sp.sympify(value).free_symbols
    return {symbol for symbol in found if not isinstance(symbol, sp.Dummy)}


def _narrow(symbol: sp.Symbol) -> str | None:
    for pattern, assumptions in NOTATION:
        if pattern.fullmatch(symbol.name):
            general = sp.Symbol(symbol.name, **assumptions).assumptions0
            more = [name for name in SHOWN if symbol.assumptions0.get(name) is not None and name not in general]
            if more:
                return f"{symbol} is declared {_assumed(symbol)}, and the notation does not restrict it so"
    return None


def _partition_functions(steps: list[Step]) -> list[str]:
    """Z in a computed condition is what the notation calls Z: a sum of positive weights, and no other short name."""
    return [
        f"{step.statement}: {symbol} stands for {value}, which is no sum of positive weights, so no partition function"
        for step in steps
        for symbol, value in getattr(step, "where", {}).items()
        if PARTITION.fullmatch(symbol.name) and not (value.is_Add and all(term.is_nonnegative for term in value.args))
    ]


def _units(steps: list[Step]) -> list[str]:
    """Of strengths, rewards and lengths the notation does not say that they lie in (0, 1); nor do some steps alone."""
    wrong = []
    for step in steps:
        wrong += [
            f"{step.statement}: {symbol} is taken for a probability, which the notation does not say"
            for symbol in step.unit
            if any(pattern.fullmatch(symbol.name) for pattern, _ in NOTATION)
        ]
    unit: Unit = frozenset().union(*(step.unit for step in steps))
    for step in steps:
        free = set().union(*(expr.free_symbols for expr in step.expressions()))
        mixed = free & (unit - step.unit)
        wrong += [f"{step.statement}: {symbol} is a probability in another step, and not in this one"
                  for symbol in mixed if not is_probability(symbol)]  # fmt: skip
    return wrong


def _assumed(symbol: sp.Symbol) -> str:
    return " ".join(name for name in SHOWN if symbol.assumptions0.get(name))
