"""Which way: words of rising, falling and comparing in a sentence, against the signs that its steps decided."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import sympy as sp

from derivations.prover.conditions import Iff
from derivations.prover.derivatives import Derivative
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Positive
from derivations.prover.limits import TendsTo
from derivations.prover.sentences import EXACTLY
from derivations.prover.steps import Step
from derivations.prover.theorems import Argued

Way = Literal["up", "down"]
MOTION: dict[Way, str] = {
    "up": r"ris(?:es?|ing)|rais(?:es?|ing)|increas(?:es?|ing)|grow(?:s|ing)?",
    "down": r"fall(?:s|ing)?|lower(?:s|ing)|decreas(?:es?|ing)|shrink(?:s|ing)?",
}
COMPARED: dict[Way, str] = {
    "up": r"exceeds?|above|greater|larger|higher|faster|more than|better",
    "down": r"below|smaller|lower(?! bound)|slower|less than|worse",
}
SIGNED: dict[Way, str] = {"up": "positive", "down": "negative"}
BOUNDED: dict[Way, str] = {"up": "at least", "down": "at most"}
# of these, the words that compare two things; the others may say where something is
PREDICATES: dict[Way, str] = {
    "up": r"exceeds?|greater|larger|higher|faster|more than|better",
    "down": r"smaller|slower|less than|worse",
}
CURVED: dict[Way, str] = {"up": "convex", "down": "concave"}
SLOPE = re.compile(r"\bslopes?\b", re.IGNORECASE)
WEAK = re.compile(
    r"\bat (?:most|least)\b|\bnon-?(?:negative|positive)\b|[<>]=|\b(?:not|never|no) (?:above|below|more|less)\b"
)
POSSIBLE = re.compile(r"\b(?:can|could|may|might)(?: \w+)?\s*$", re.IGNORECASE)
MOVERS = ("chain rule", "convex slope", "linear flow", "intermediate value", "induction")  # theorems about what moves
NEGATED = re.compile(r"\b(?:not?|never|cannot|neither|nor|without)(?: \w+)?\s*$", re.IGNORECASE)


def ways(text: str, *tables: dict[Way, str]) -> set[Way]:
    """Which ways the words of the tables point that occur in a text; those under a "not" are left out."""
    return {
        way
        for table in tables
        for way, words in table.items()
        for found in re.finditer(rf"\b(?:{words})\b", text, re.IGNORECASE)
        if not NEGATED.search(text[: found.start()])
    }


def undecided_motion(title: str, steps: Sequence[Step], derivatives: Sequence[Derivative]) -> list[str]:
    """What rises or falls does so by the sign of a derivative, a condition, or a theorem; two values show no motion."""
    found = [
        match
        for words in MOTION.values()
        for match in re.finditer(rf"\b(?:{words})\b", title, re.IGNORECASE)
        if not NEGATED.search(title[: match.start()]) and not POSSIBLE.search(title[: match.start()])
    ]
    if not found or any(_moves(step, derivatives) for step in steps):
        return []
    return [
        f"it says {found[0][0]!r}, and no step decides the sign of a derivative, an exact condition with < or >, or "
        f"what a theorem says of a path ({', '.join(MOVERS)})"
    ]


def _moves(step: Step, derivatives: Sequence[Derivative]) -> bool:
    if isinstance(step, Argued):
        return step.by in MOVERS
    if isinstance(step, Iff):
        return step.relation != "="
    return isinstance(step, Enumerated | TendsTo) or any(signs(step, derivatives, order) for order in (1, 2))


def signs(step: Step, derivatives: Iterable[Derivative], order: int) -> set[Way]:
    """Which way a step decides that something goes: by the sign of a derivative of that order that was taken."""
    if not isinstance(step, Positive):
        return set()
    answers = {item.answer for item in derivatives if item.order == order}
    both: tuple[tuple[Way, sp.Expr], ...] = (("up", step.expr), ("down", -step.expr))
    return {way for way, expr in both if expr in answers}


def _of_order(text: str, order: int) -> set[Way]:
    """What a text says of a function: that it rises or falls (1); that its slope does, or it is convex (2)."""
    of_slope = bool(SLOPE.search(text))
    moves = ways(text, MOTION) if of_slope == (order == 2) else set()
    return moves | (ways(text, CURVED) if order == 2 else set())


def wrong_way(title: str, steps: Sequence[Step], derivatives: Sequence[Derivative]) -> list[str]:
    """Words that point one way only, where what was decided points the other way only, in the sentence or in a step."""
    wrong = []
    for order in (1, 2):
        decided = [(step, signs(step, derivatives, order), _of_order(step.statement, order)) for step in steps]
        wrong += [
            f"{step.statement}: it says {_one(words)}, and what was decided is {_one(found)}"
            for step, found, words in decided
            if found and words and not words & found
        ]
        shown = set().union(*(found or words for _, found, words in decided))
        said = _of_order(title, order)
        if any(found for _, found, _ in decided) and said and not said & shown:
            wrong.append(f"the sentence says {_one(said)}, and what was decided is {_one(shown)}")
    return wrong + _comparisons(title, steps) + _conditions(title, steps)


def _comparisons(title: str, steps: Sequence[Step]) -> list[str]:
    """The sentence does not compare one way only where the steps that are no equations say the other way only."""
    said = ways(title, COMPARED, BOUNDED)
    shown = set().union(*(ways(step.statement, COMPARED, BOUNDED) for step in steps if not isinstance(step, Equal)))
    if said and shown and not said & shown:
        return [f"the sentence compares {_one(said)}wards, and its steps say of themselves that they go {_one(shown)}"]
    compared = ways(title, PREDICATES, BOUNDED)
    if compared and not compared & shown and not any(isinstance(step, Iff) for step in steps):
        return [
            f"the sentence compares {_one(compared)}wards, and no step that is no equation says in words that it does"
        ]
    return []


def _conditions(title: str, steps: Sequence[Step]) -> list[str]:
    """What holds if and only if a condition does is what the step decides: <, > or =, and none of them is "at most"."""
    said = EXACTLY.search(title)
    relations = {step.relation for step in steps if isinstance(step, Iff)}
    if said is None or not relations:
        return []
    head = re.split(r"[:;,.] ", title[: said.start()].rstrip(" ,"))[-1]
    pointed = ways(head, MOTION, COMPARED, SIGNED)
    if weak := WEAK.search(head):
        return [f"the sentence says {weak[0]!r} of what a step decides as {' and '.join(sorted(relations))}"]
    decided = {way for relation, way in ((">", "up"), ("<", "down")) if relation in relations}
    if pointed and not pointed & decided:
        return [
            f"the sentence says {_one(pointed)}, {head!r}, and what was decided is {_one(decided) or 'an equation'}"
        ]
    return []


def _one(found: Iterable[str]) -> str:
    return " and ".join(sorted(found))
