"""What a step says, whole: its equation, its conditions, the range of its symbols, and how it was decided."""

from typing import Any

import sympy as sp

from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.domains import is_probability
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs, Positive
from derivations.prover.limits import TendsTo
from derivations.prover.steps import Step, show
from derivations.prover.theorems import THEOREMS, Argued
from derivations.prover.words import domain, words

LONGEST = 600  # characters of a formula for people; JSON has all of it


def formulas(step: Step) -> list[str]:
    """The step's statement as formulas, in lines of plain text."""
    lines = [f"{_short(name + ' ' if name else '')}{_short(text)}" for name, text in _parts(step)]
    where = _domain(step)
    return lines + ([f"{'with' if isinstance(step, Differs) else 'for all'} {where}"] if where else [])


def decided_by(step: Step) -> str:
    """The procedures, or the theorem that was applied."""
    if not isinstance(step, Argued):
        return "; ".join(step.procedures)
    theorem = THEOREMS.get(step.by)
    if theorem is None:
        return "no theorem is named"
    applied = f"; applied to: {', '.join(step.uses)}" if step.uses else ""
    return f"{theorem.says} ({theorem.source}){applied}"


def as_data(step: Step) -> dict[str, Any]:
    """The step for machines: every formula in full. kernel: None until `check --kernel` has asked it."""
    data: dict[str, Any] = {
        "statement": step.statement,
        "kind": type(step).__name__,
        "by": "decided" if step.decided else "argued",
        "decided_by": list(step.procedures),
        "domain": _domain(step),
        "every": [str(symbol) for symbol in step.every],
        "by_construction": isinstance(step, Equal) and step.by_construction,
        "kernel": None,
    }
    data |= {"lhs": None, "rhs": None, "given": {}}
    for name in ("lhs", "rhs", "expr", "limit", "nonzero", "relation"):
        if hasattr(step, name):
            data[name] = str(getattr(step, name))
    for name in ("given", "point", "at", "where"):
        if hasattr(step, name):
            data[name] = {str(symbol): str(value) for symbol, value in getattr(step, name).items()}
    if isinstance(step, Positive):
        data |= {"lhs": str(step.expr), "rhs": "0", "relation": ">"}
    if isinstance(step, TendsTo):
        data |= {"lhs": str(step.expr), "rhs": str(step.limit), "relation": "->"}
        data |= {"symbol": str(step.symbol), "place": str(step.place)}
    if isinstance(step, Iff):
        data["factors"] = [str(factor) for factor in step.factors]
    if isinstance(step, Iff | EnumeratedIff):
        data["condition"] = step.condition
    if isinstance(step, Enumerated):
        data |= {"cases": step.count, "wrong": list(step.wrong)}
    if isinstance(step, Argued):
        data |= {"theorem": step.by, "theorem_says": decided_by(step), "uses": list(step.uses)}
    return data


def _parts(step: Step) -> list[tuple[str, str]]:
    """Named parts of the statement: the name may be empty."""
    if isinstance(step, Equal):
        return [
            ("", f"{words(step.lhs)} = {words(step.rhs)}"),
            *(("given", f"{words(symbol)} = {words(value)}") for symbol, value in step.given.items()),
        ]
    if isinstance(step, Positive):
        return [("", f"{words(step.expr)} > 0")]
    if isinstance(step, Differs):
        return [("", f"{words(step.lhs)} != {words(step.rhs)}"), ("counterexample:", counterexample(step))]
    if isinstance(step, TendsTo):
        side = "+" if step.place.is_finite else ""
        return [("", f"{words(step.expr)} -> {words(step.limit)} as {words(step.symbol)} -> {words(step.place)}{side}")]
    if isinstance(step, Iff):
        product = " * ".join(f"({words(factor)})" for factor in step.factors)
        sign = "> 0" if step.relation != "=" else "is never 0"
        return [
            ("", f"{words(step.lhs)} {step.relation} {words(step.rhs)}"),
            ("", step.condition),
            ("because", f"left - right = ({words(step.nonzero)}) * {product}, whose first factor {sign}"),
            *(("where", f"{words(name)} = {words(value)}") for name, value in step.where.items()),
            ("not so, for example, at", show({s: sp.sympify(v) for s, v in step.at.items()})),
        ]
    if isinstance(step, Enumerated):
        found = [("", step.condition)] if isinstance(step, EnumeratedIff) else []
        return [*found, ("", f"{step.count} cases; wrong versions refuted: {', '.join(step.wrong)}")]
    return []


def counterexample(step: Differs) -> str:
    """Both sides of a counterexample, exactly where they are short, and where it is."""
    sides = [
        f"{exact}" if exact.is_Rational else f"{number:.6g}"
        for exact, number in zip(step.exact(), step.numbers(), strict=True)
    ]
    place = f" at {show(step.point)}" if step.point else ""
    return f"{sides[0]} against {sides[1]}{place}"


def _domain(step: Step) -> str:
    symbols = set().union(*(expr.free_symbols for expr in step.expressions()))
    return domain(symbols, lambda symbol: is_probability(symbol, step.unit))


def _short(text: str) -> str:
    return (
        text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [... {len(text)} characters] {text[-LONGEST // 4 :]}"
    )
