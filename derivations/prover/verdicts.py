"""What a claim of each kind must show before it counts: the rules that tie the verdict to what was decided."""

from collections.abc import Callable, Sequence

import sympy as sp

from derivations.prover import directions, extent, properties, sentences
from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.derivatives import Derivative
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs
from derivations.prover.steps import Step
from derivations.prover.theorems import THEOREMS, Argued
from derivations.prover.tracing import Call, Traced


def missing(
    title: str,
    scope: str,
    expected: str,
    condition: str,
    depends_on: Sequence[str],
    steps: list[Step],
    traced: set[Traced],
    derivatives: list[Derivative],
    calls: Sequence[Call] = (),
    kinds_of: Callable[[str], set[str]] = lambda name: set(),
    replaced: Sequence[tuple[sp.Expr, sp.Expr]] = (),
    hypotheses: str = "",
    latex: str = "",
) -> list[str]:
    """What a claim of its kind must show and this one does not, in words.

    kinds_of: of the id of a claim it depends on, which kinds of step that has, which theorems, and its own kind.
    replaced: what the claim's own substitutions put in the place of what.
    """
    whole = f"{title} {scope} {hypotheses}"
    argued = [step for step in steps if isinstance(step, Argued)]
    return [
        *_decided(steps, traced, derivatives),
        *_of_its_kind(expected, condition, steps),
        *sentences.condition(title, expected, steps),
        *sentences.quantifier(title, scope, steps),
        *sentences.names(title, traced),
        *sentences.calls(title, scope, calls, steps, replaced),
        *sentences.promises(title, _all_kinds(steps, derivatives), argued, depends_on, kinds_of),
        *sentences.refuted(title, expected, steps),
        *directions.wrong_way(title, steps, derivatives),
        *directions.undecided_motion(title, steps, derivatives),
        *properties.missing(title, properties.Evidence(steps, derivatives, calls)),
        *extent.numbers(title, steps),
        *extent.numbers_of_formula(latex, steps),
        *extent.ranges(whole, steps),
        *extent.approach(title, steps),
        *extent.sizes(whole, steps, calls),
        *extent.conditions(whole, steps),
        *extent.special(whole, calls, replaced),
        *_uses(depends_on, steps, kinds_of),
        *_premises(depends_on, steps, kinds_of, derivatives),
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


def _of_its_kind(expected: str, condition: str, steps: list[Step]) -> list[str]:
    exact = any(isinstance(step, Iff | EnumeratedIff) for step in steps)
    wrong = []
    if condition:
        wrong.append(f"the condition {condition!r} is words: it must be computed, by a step `Iff` or `EnumeratedIff`")
    if expected == "iff" and not exact:
        wrong.append("no step decides an exact condition (`Iff` or `EnumeratedIff`), in both directions")
    if expected == "refuted" and not exact and not any(isinstance(s, Differs) and s.about_something for s in steps):
        wrong.append("a refutation needs a counterexample inside the hypotheses, or an exact condition")
    return wrong


def _uses(depends_on: Sequence[str], steps: list[Step], kinds_of: Callable[[str], set[str]]) -> list[str]:
    """A step in words rests on steps and claims that are there, and on none whose sentence is refuted."""
    said = [step.statement for step in steps]
    refuted = [
        f"{step.statement}: it rests on the claim {use!r}, whose sentence is refuted"
        for step in steps
        if isinstance(step, Argued)
        for use in step.uses
        if use in depends_on and "refuted" in kinds_of(use)
    ]
    return refuted + [
        f"{step.statement}: it rests on {use!r}, which is no other step of this claim and no claim it depends on"
        for step in steps
        if isinstance(step, Argued)
        for use in step.uses
        if use not in depends_on and not any(s.startswith(use) and s != step.statement for s in said)
    ]


def _premises(
    depends_on: Sequence[str],
    steps: list[Step],
    kinds_of: Callable[[str], set[str]],
    derivatives: Sequence[Derivative] = (),
) -> list[str]:
    """A theorem about convex functions rests on a step that shows convexity, one about limits on a limit, and so on."""
    wrong = []
    for step in steps:
        if not isinstance(step, Argued) or step.by not in THEOREMS:
            continue
        found = _kinds(step, depends_on, steps, kinds_of, derivatives)
        wrong += [
            f"{step.statement}: the theorem {step.by!r} needs a step of the kind {kind} to rest on, and has "
            f"{', '.join(sorted(found)) or 'none'}"
            for kind in THEOREMS[step.by].of
            if not found & set(kind.split(" | "))
        ]
    return wrong


def kinds(step: Step, derivatives: Sequence[Derivative]) -> set[str]:
    """The kind of a step, and "Curved" if it decides the sign of a second derivative."""
    return {type(step).__name__} | ({"Curved"} if directions.signs(step, derivatives, 2) else set())


def _all_kinds(steps: Sequence[Step], derivatives: Sequence[Derivative]) -> set[str]:
    """The kinds of all steps, and the theorems that are applied."""
    return set().union(*({step.by} if isinstance(step, Argued) else kinds(step, derivatives) for step in steps))


def _kinds(
    step: Argued,
    depends_on: Sequence[str],
    steps: list[Step],
    kinds_of: Callable[[str], set[str]],
    derivatives: Sequence[Derivative],
) -> set[str]:
    """The kinds of what a step in words rests on, through other steps in words and through claims."""
    found: set[str] = set()
    for use in step.uses:
        if use in depends_on:
            found |= kinds_of(use)
        for other in steps:
            if other is not step and other.statement.startswith(use):
                if isinstance(other, Argued) and not any(step.statement.startswith(again) for again in other.uses):
                    found |= _kinds(other, depends_on, steps, kinds_of, derivatives)
                else:
                    found |= kinds(other, derivatives)
    return found
