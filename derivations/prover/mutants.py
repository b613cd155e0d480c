"""The checker on trial: it must refute every wrong version of what it proves.

Each decided step makes its own mutants (`derivations.prover.kinds`): of both sides of an identity and of the
condition it stands under, of a limit, of the sign of an inequality. One that is neither refuted nor
proved equal to the original has survived, and then the claim counts as failed.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from derivations.prover import balls
from derivations.prover.kinds import Argued, Differs, Enumerated, Equal, Iff, Positive, Step
from derivations.prover.sentences import promised, without_code
from derivations.prover.tracing import Traced, changed

VALUES = ("objectives", "preferences", "preference_losses", "off_policy", "advantages", "tokens")
ABOUT_SLOPES = re.compile(
    r"gradient|\bgrad\b|slope|deriv|differentiat|stationary|convex|concave|\brates?\b|descent|flow|differences?|constant|\bmoves?\b"
    r"|optim|maxim|minim",
    re.IGNORECASE,
)
LOOKED_AT = 2  # points at which a changed function must show
PER_CLAIM, MOST_PER_SIDE = 60, 6  # a claim of many identities has fewer mutants of each


@dataclass
class Tally:
    """How the mutants of one claim fared."""

    made: int = 0
    refuted: int = 0
    equivalent: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)


def try_mutants(steps: list[Step]) -> Tally:
    """Put every mutant of every step on trial and count what the checks say."""
    tally = Tally()
    identities = sum(isinstance(step, Equal) for step in steps)
    per_side = max(1, min(MOST_PER_SIDE, PER_CLAIM // max(1, 2 * identities)))
    for step in steps:
        for mutant in step.mutants(per_side):
            tally.made += 1
            if mutant.fate == "refuted":
                tally.refuted += 1
            else:
                getattr(tally, mutant.fate).append(f"{step.statement}: {' '.join(map(str, mutant.says))}")
    return tally


def unnoticed(
    proof: Callable[[], list[Step]], steps: list[Step], traced: Iterable[Traced], *, title: str = "", refuted: str = ""
) -> list[str]:
    """What says that the claim is not about the code it traces, in words.

    The proof is made again with one function's formulas changed; a step must then fail, or the proof break off: else
    the function could compute something else, and all steps would hold. title: the sentence; a theorem that gives
    what it promises ("has a minimum") is about the objectives it names. refuted: the sentence, where it is said to be
    refuted; a counterexample or condition that is the same whatever the code of what it names computes is none of it.
    """
    idle = []
    about: dict[Argued, list[Traced]] = {step: [] for step in steps if isinstance(step, Argued)}
    telling = _exact(steps) if refuted else []
    before = [step.expressions() for step in steps]
    moved: list[Traced] = []
    for function in sorted(traced):
        with changed(function):
            try:
                again = proof()
                noticed = any(map(_fails, again))
            except Exception:  # that the proof breaks off is what is asked for
                again, noticed = [], True
        other, moves = {step.statement for step in steps}, True  # all of it, where the steps are others in number
        if len(again) == len(steps):
            same = [old == step.expressions() for old, step in zip(before, again, strict=True)]
            other = {step.statement for step, kept in zip(steps, same, strict=True) if not kept}
            moves = not all(kept for step, kept in zip(steps, same, strict=True) if isinstance(step, Differs | Iff))
        for argued, functions in about.items():
            functions += [function] if any(s.startswith(argued.uses) for s in other if s != argued.statement) else []
        moved += [function] if moves else []
        if not noticed:
            idle.append(f"it does not notice when {function.module}.{function.name} is changed")
    if telling and traced and not moved:
        idle.append("its counterexample or condition is the same whatever the code it traces computes")
    elif telling:
        idle += [f"its counterexample or condition is the same whatever the code of {said} computes"
                 for said in without_code(refuted, moved)]  # fmt: skip
    for argued, functions in about.items():
        own = not any(any(s.statement.startswith(use) for s in steps) for use in argued.uses)  # it rests on claims
        about_it = f"{argued.statement} {title if argued.by in promised(title) else ''}"
        idle += [
            f"{argued.statement}: it says so of {said}, and rests on steps that are the same whatever its code computes"
            for said in ([] if own else without_code(about_it, functions))
        ]
    return idle


def up_to_a_constant(proof: Callable[[], list[Step]], title: str, traced: Iterable[Traced]) -> list[str]:
    """What says that only slopes of the code were looked at, where the sentence does not say that it is about slopes.

    The proof is made again with a constant added to what one function computes. A claim on its values notices that.
    Regularizers are left out: an implicit reward has no constant of its own.
    """
    if ABOUT_SLOPES.search(title):
        return []
    wrong = []
    for function in sorted(traced):
        if function.module in VALUES:
            with changed(function, constant=True):
                try:
                    unmoved = not any(map(_fails, proof()))
                except Exception:  # that the proof breaks off is as good
                    unmoved = False
            if unmoved:
                wrong.append(
                    f"a constant more in {function.module}.{function.name} changes nothing that was decided: the steps "
                    "are about its slopes, and the sentence is not"
                )
    return wrong


def _exact(steps: Iterable[Step]) -> list[Step]:
    """The steps that refute, or decide a condition, about expressions."""
    return [step for step in steps if isinstance(step, Differs | Iff)]


def _fails(step: Step) -> bool:
    """Whether a step is wrong at one of the first points inside its hypotheses, or cannot be decided at all."""
    if isinstance(step, Iff):
        step = step.identity()
    if isinstance(step, Equal):
        return any(step.agrees(point) is not True for point in step.near(LOOKED_AT))
    if isinstance(step, Enumerated):
        return not all(map(step.holds, step.cases()))
    if isinstance(step, Positive):
        return any((balls.sign(step.expr, point) or 1) < 0 for point, far in step.points([step.expr], 8) if not far)
    return False
