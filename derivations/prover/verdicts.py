"""What a claim of each kind must show before it counts: the rules that tie the verdict to what was decided."""

import re
from collections.abc import Sequence

from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.derivatives import Derivative
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs
from derivations.prover.steps import Step
from derivations.prover.theorems import Argued
from derivations.prover.tracing import Traced

UNIVERSAL = re.compile(
    r"\b(any|every|each|all|arbitrary|whatever the)\s+(finite\s+)?(number|numbers|size|sizes|count|m|k|n|rankings?)\b"
    r"|\brankings? of (any|every|all|arbitrary) lengths?\b|\bhowever (many|long)\b|\barbitrarily many\b"
    r"|\b[mnk] (responses|samples|tokens|pairs|arms|places)\b",
    re.IGNORECASE,
)
ANY_SET = re.compile(r"\b(any|every|all|each)\s+(finite\s+|countable\s+)?(Y|response sets?|data sets?)\b")
CASE = re.compile(r"\b[mknKN] ?= ?(\d+)|\b(\d+) (?:responses|samples|tokens|pairs|arms|places)\b")
EXACTLY = re.compile(r"\bif and only if\b|\biff\b|\bexactly (if|when|where)\b|\bonly if\b", re.IGNORECASE)
# what a sentence calls an objective, and which traced code is about it
NAMED = {
    "DPO": r"objectives\.(dpo|make_objective|Objective\.\w+)|regularizers\.KL\.\w+",
    "SimPO": r"objectives\.(simpo|make_objective|Objective\.\w+)|regularizers\.LengthNormalized\w*\.\w+",
    "IPO": r"objectives\.(ipo_loss|make_objective|Objective\.\w+)",
}


def missing(
    title: str,
    scope: str,
    expected: str,
    condition: str,
    depends_on: Sequence[str],
    steps: list[Step],
    traced: set[Traced],
    derivatives: list[Derivative],
) -> list[str]:
    """What a claim of its kind must show and this one does not, in words."""
    return [
        *_decided(steps, traced, derivatives),
        *_of_its_kind(title, expected, condition, steps),
        *_quantifier(title, scope, steps),
        *_names(title, depends_on, traced),
        *_uses(depends_on, steps),
    ]


def _decided(steps: list[Step], traced: set[Traced], derivatives: list[Derivative]) -> list[str]:
    """Something must have been decided: not a difference alone, nor what SymPy makes equal before anyone looks.

    Code that was traced, or a derivative that was taken, is something to decide about even then.
    """
    decided = [step for step in steps if step.decided]
    if not decided:
        return ["no step was decided by a procedure"]
    if all(isinstance(step, Differs) for step in decided):
        return ["a difference proves nothing but a difference: no other step was decided"]
    telling = [step for step in decided if not isinstance(step, Differs)]
    if not any(isinstance(step, Enumerated) or any(e.free_symbols for e in step.expressions()) for step in telling):
        return ["every decided step is about numbers alone: nothing general was decided"]
    if not traced and not derivatives and all(isinstance(step, Equal) and step.by_construction for step in telling):
        return ["every equality is equal by construction and no code was traced: nothing was decided"]
    return []


def _of_its_kind(title: str, expected: str, condition: str, steps: list[Step]) -> list[str]:
    exact = any(isinstance(step, Iff | EnumeratedIff) for step in steps)
    wrong = []
    if condition:
        wrong.append(f"the condition {condition!r} is words: it must be computed, by a step `Iff` or `EnumeratedIff`")
    if expected == "iff" and not exact:
        wrong.append("no step decides an exact condition (`Iff` or `EnumeratedIff`), in both directions")
    said = EXACTLY.search(title)
    if said and not exact and expected != "iff":
        wrong.append(f"the sentence says {said[0]!r}, and no step (`Iff`, `EnumeratedIff`) decides an exact condition")
    if expected == "refuted" and not exact and not any(isinstance(s, Differs) and s.about_something for s in steps):
        wrong.append("a refutation needs a counterexample inside the hypotheses, or an exact condition")
    return wrong


def _quantifier(title: str, scope: str, steps: list[Step]) -> list[str]:
    """Examples decide examples: "any number" needs a step with a symbol for any number (`every`)."""
    text = f"{title} {scope}"
    cases = {number for step in steps for number in CASE.findall(step.statement)}
    found = UNIVERSAL.search(text) or (ANY_SET.search(text) if len(cases) > 1 else None)
    if found and not any(step.decided and step.every for step in steps):
        return [f"it says {found[0]!r}, but no decided step has a symbol that stands for any number (`every`)"]
    return []


def _names(title: str, depends_on: Sequence[str], traced: set[Traced]) -> list[str]:
    """A sentence about an objective must be about its code."""
    code = [f"{function.module}.{function.name}" for function in traced]
    return [
        f"the sentence names {name}, but no code of {name} was traced"
        for name, pattern in NAMED.items()
        if re.search(rf"\b{name}('s)?\b", title) and not any(re.fullmatch(pattern, function) for function in code)
    ]


def _uses(depends_on: Sequence[str], steps: list[Step]) -> list[str]:
    """A step in words rests on steps and claims that are there."""
    said = [step.statement for step in steps]
    return [
        f"{step.statement}: it rests on {use!r}, which is no other step of this claim and no claim it depends on"
        for step in steps
        if isinstance(step, Argued)
        for use in step.uses
        if use not in depends_on and not any(s.startswith(use) and s != step.statement for s in said)
    ]
