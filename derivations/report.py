"""What a run of the checks looks like to people (text) and to machines (JSON)."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from rich.table import Table

from derivations.checks import Differs, Equal, Positive, TendsTo
from derivations.checks import show as show_point
from derivations.claims import Claim, Result

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """The function's value and how many seconds it took."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def as_json(results: list[Result], seconds: float) -> dict[str, Any]:
    """The run as plain data."""
    return {
        "ok": all(result.ok for result in results),
        "seconds": round(seconds, 3),
        "claims": [_claim_json(result) for result in results],
    }


def _claim_json(result: Result) -> dict[str, Any]:
    claim, tally = result.claim, result.mutants
    return {
        "id": claim.id,
        "title": claim.title,
        "latex": claim.latex,
        "verdict": result.verdict,
        "expected": claim.expected,
        "condition": claim.condition,
        "hypotheses": claim.hypotheses,
        "source": claim.source,
        "scope": claim.scope,
        "method": method(result),
        "seconds": round(result.seconds, 4),
        "depends_on": list(claim.depends_on),
        "problems": result.problems,
        "steps": [{"statement": s.statement, "by": "decided" if s.decided else "argued"} for s in result.steps],
        "mutants": {
            "made": tally.made,
            "refuted": tally.refuted,
            "equivalent": len(tally.equivalent),
            "survived": len(tally.survived),
        },
    }


def method(result: Result) -> str:
    """Which procedures the proof used, in words."""
    kinds = {
        Equal: "equality in a field of kernels",
        Positive: "positive coefficients",
        TendsTo: "Gruntz limits",
        Differs: "exact counterexample",
    }
    used = [words for kind, words in kinds.items() if any(isinstance(step, kind) for step in result.steps)]
    argued = sum(not step.decided for step in result.steps)
    return "; ".join(used) + (f"; {argued} steps argued in words" if argued else "")


def as_text(results: list[Result], seconds: float) -> str:
    """One line a claim, problems under it, and a last line that sums up."""
    lines = []
    for result in results:
        tally = result.mutants
        trial = f"mutants {tally.refuted}/{tally.made}" if tally.made else ""
        if tally.equivalent:
            trial += f" ({len(tally.equivalent)} equivalent)"
        mark = "ok  " if result.ok else "FAIL"
        lines.append(f"{mark} {result.verdict:8} {result.claim.id:42} {trial}".rstrip())
        if result.ok and result.claim.condition:
            lines.append(f"     holds {result.claim.condition}")
        lines += [f"     {problem}" for problem in result.problems]
        lines += [f"     mutant survived: {wrong}" for wrong in tally.survived]
    verdicts = [result.verdict for result in results if result.ok]
    failed = len(results) - len(verdicts)
    made = sum(result.mutants.made for result in results)
    survived = sum(len(result.mutants.survived) for result in results)
    lines.append(
        f"{len(results)} claims in {seconds:.1f} s: {verdicts.count('proved')} proved, {verdicts.count('refuted')} "
        f"refuted as written, {failed} not as stated; {made} mutants, {survived} survived"
    )
    return "\n".join(lines) + "\n"


def claims_table(claims: list[Claim]) -> Table:
    """The claims as a table for the terminal."""
    table = Table("claim", "we say", "sentence")
    for claim in claims:
        table.add_row(claim.id, claim.expected, claim.title)
    return table


def show(result: Result) -> str:
    """One claim in full."""
    claim = result.claim
    rows = [
        (claim.id, ""),
        ("claim", claim.title),
        ("formula", claim.latex),
        ("hypotheses", claim.hypotheses),
        ("source", claim.source),
        ("scope", claim.scope),
        ("rests on", ", ".join(claim.depends_on) or "nothing else"),
        ("verdict", result.verdict + (f"; it holds {claim.condition}" if claim.condition else "")),
        ("mutants", f"{result.mutants.refuted} of {result.mutants.made} refuted"),
    ]
    lines = [f"{name:11} {value}".rstrip() for name, value in rows]
    for step in result.steps:
        lines.append(f"  [{'decided' if step.decided else 'argued '}] {step.statement}")
        if isinstance(step, Equal):
            lines.append(f"            {step.rhs}")
        if isinstance(step, Differs):
            left, right = step.numbers()
            place = f" at {show_point(step.point)}" if step.point else ""
            lines.append(f"            {left:.6g} against {right:.6g}{place}")
    lines += [f"  PROBLEM {problem}" for problem in result.problems]
    return "\n".join(lines) + "\n"
