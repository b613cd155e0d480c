"""What a run of the kernel looks like, to people and to machines."""

from collections.abc import Sequence
from typing import Any

from derivations.prover.claims import Claim
from derivations.rocq.kernel import Outcome, Verdict
from derivations.rocq.theorems import BY_CLAIM


def as_text(verdict: Verdict, claims: Sequence[Claim]) -> str:
    """One line a claim, what is not checked under it, and a last line that sums up."""
    lines = ["kernel: identities and signs among the steps, checked by Rocq"]
    for claim in claims:
        outcomes = verdict.steps.get(claim.id, [])
        checked = sum(outcome.word == "checked" for outcome in outcomes)
        share = f"{checked} of {len(outcomes)} steps" if outcomes else "no identity or sign among its steps"
        lines.append(f"  {claim.id:42} {share}")
        lines += [f"     step {o.number}, {o.word}: {o.why}" for o in outcomes if o.word != "checked"]
        lines += [f"     the whole sentence, for any finite Y: {theorem}" for theorem in whole(verdict, claim.id)]
    lines += [f"  REFUSED {problem}" for problem in verdict.problems()]
    return "\n".join([*lines, summary(verdict)]) + "\n"


def summary(verdict: Verdict) -> str:
    """The run in one line."""
    same = sum(outcome.same for outcomes in verdict.steps.values() for outcome in outcomes)
    theorems = sum(map(verdict.proves, verdict.theorems))
    return (
        f"kernel: {theorems} theorems and {verdict.count('checked')} steps checked in {verdict.seconds:.0f} s "
        f"({same} of them alike on both sides as written), {verdict.count('not expressible')} not expressible, "
        f"{verdict.count('not closed')} not closed, "
        f"{len(verdict.problems())} refused"
    )


def whole(verdict: Verdict, claim: str) -> list[str]:
    """The theorems, proved in this run, that are the whole sentence of a claim."""
    return [theorem for theorem in BY_CLAIM.get(claim, ()) if verdict.proves(theorem)]


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The run as plain data."""
    return {
        "ok": verdict.ok,
        "seconds": round(verdict.seconds, 3),
        "checked": verdict.count("checked"),
        "not_expressible": verdict.count("not expressible"),
        "not_closed": verdict.count("not closed"),
        "problems": verdict.problems(),
        "axioms": sorted({axiom for axioms in verdict.axioms.values() for axiom in axioms}),
        "theorems": {name: verdict.proves(name) for name in verdict.theorems},
        "claims": {
            claim: {"theorems": whole(verdict, claim), "steps": [_step(outcome) for outcome in outcomes]}
            for claim, outcomes in verdict.steps.items()
        },
    }


def mark(facts: dict[str, Any], verdict: Verdict) -> None:
    """Say of every step in the JSON of a check whether the kernel checked it, and if not, why (a step it has no word
    for is neither identity nor sign)."""
    for claim in facts["claims"]:
        outcomes = {outcome.number: outcome for outcome in verdict.steps.get(claim["id"], [])}
        for number, step in enumerate(claim["steps"], 1):
            outcome = outcomes.get(number)
            step["kernel"] = outcome is not None and outcome.word == "checked"
            step["kernel_says"] = outcome.word if outcome else "no identity or sign"


def _step(outcome: Outcome) -> dict[str, Any]:
    return {
        "number": outcome.number,
        "statement": outcome.statement,
        "kernel": outcome.word,
        "why": outcome.why,
        "alike_as_written": outcome.same,
    }


def note(outcomes: Sequence[Outcome], theorems: Sequence[str]) -> str:
    """The kernel's part in a claim, in a phrase."""
    checked = sum(outcome.word == "checked" for outcome in outcomes)
    parts = [f"{checked} of {len(outcomes)} identities and signs checked"] if outcomes else []
    parts += [f"the whole sentence, for any finite Y: {', '.join(theorems)}"] if theorems else []
    return "; ".join(parts) or "nothing: there is no identity or sign among its steps"
