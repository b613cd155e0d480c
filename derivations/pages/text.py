"""What a run of the checks looks like: to people (text, Markdown) and to machines (JSON, JUnit)."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from rich.table import Column, Table

from derivations.cli.files import to_json
from derivations.cli.junit import Case, junit
from derivations.custom.derive import Derivation, readable
from derivations.custom.recognize import recognize
from derivations.custom.spoken import difference, spoken
from derivations.pages.plain import plain
from derivations.prover.claims import Claim, Result
from derivations.prover.kinds import Differs, Enumerated, Equal, Iff, Positive, TendsTo
from derivations.prover.shown import as_data, decided_by, formulas

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
        "in_words": result.in_words,
        "condition": result.condition,
        "hypotheses": claim.hypotheses,
        "source": claim.source,
        "scope": claim.scope,
        "method": method(result),
        "seconds": round(result.seconds, 4),
        "depends_on": list(claim.depends_on),
        "problems": result.problems,
        "traced": [f"{module}.{name}" for module, _, name in result.traced],
        "equalities": dict(zip(("all", "by_construction"), result.equalities, strict=True)),
        "steps": [as_data(step) for step in result.steps],
        "mutants": {
            "made": tally.made,
            "refuted": tally.refuted,
            "equivalent": len(tally.equivalent),
            "survived": len(tally.survived),
            "equivalent_list": tally.equivalent,
            "survived_list": tally.survived,
        },
    }


def method(result: Result) -> str:
    """Which procedures the proof used, in words."""
    kinds = {
        Equal: "algebraic normal form",
        Positive: "positive coefficients",
        TendsTo: "Gruntz limits",
        Iff: "zero set of a product",
        Differs: "exact counterexample",
        Enumerated: "exhaustive enumeration",
    }
    used = [words for kind, words in kinds.items() if any(isinstance(step, kind) for step in result.steps)]
    argued = sum(not step.decided for step in result.steps)
    return "; ".join(used) + (f"; {argued} step{'s' * (argued > 1)} argued in words" if argued else "")


def as_text(results: list[Result], seconds: float) -> str:
    """One line a claim, problems under it, and a last line that sums up."""
    lines = []
    for result in results:
        tally = result.mutants
        trial = f"mutants {tally.refuted}/{tally.made}" if tally.made else ""
        if tally.equivalent:
            trial += f", {len(tally.equivalent)} equivalent"
        mark = "ok  " if result.ok else "FAIL"
        lines.append(f"{mark} {result.in_words:25} {result.claim.id:42} {trial}".rstrip())
        if result.ok and result.condition:
            lines.append(f"     {condition(result)}")
        lines += [f"     {problem}" for problem in _complaints(result)]
    lines.append(summary(results, seconds))
    return "\n".join(lines) + "\n"


def _complaints(result: Result) -> list[str]:
    """Everything for which a claim is not ok."""
    return result.problems + [f"mutant survived: {wrong}" for wrong in result.mutants.survived]


def condition(result: Result) -> str:
    """When exactly it holds, as a phrase."""
    return result.condition if result.claim.expected == "iff" else f"holds {result.condition}"


def summary(results: list[Result], seconds: float | None) -> str:
    """The run in one line. seconds: what it took; None for a page that is the same whenever it is written."""
    verdicts = [result.verdict for result in results if result.ok]
    made = sum(result.mutants.made for result in results)
    equivalent = sum(len(result.mutants.equivalent) for result in results)
    survived = sum(len(result.mutants.survived) for result in results)
    equal, same = (sum(counts) for counts in zip(*(result.equalities for result in results), strict=True))
    argued = sum(bool(result.ok and result.argued) for result in results)
    decided, exact, refuted = (verdicts.count(kind) for kind in ("proved", "iff", "refuted"))
    took = "" if seconds is None else f" in {seconds:.1f} s"
    lines = (
        f"{len(results)} claims{took}: {decided} decided, {exact} decided with their exact condition",
        f"{refuted} refuted as written, {len(results) - len(verdicts)} not as stated",
        f"{argued} of them with steps argued in words; {equal} equalities, {same} of them equal by construction",
        f"{made} mutants, {equivalent} equivalent, {survived} survived",
    )
    return f"{lines[0]}, {lines[1]}; {lines[2]}; {lines[3]}"


def as_markdown(results: list[Result], seconds: float) -> str:
    """For the summary of a pull request: what failed first, then every claim in a table."""
    lines = [
        f"## Derivations: {'ok' if all(result.ok for result in results) else 'FAILED'}",
        "",
        summary(results, seconds),
        "",
    ]
    for result in results:
        if not result.ok:
            lines += [f"- **{result.claim.id}**: {_cell(problem)}" for problem in _complaints(result)]
    lines += ["", "| claim | verdict | mutants refuted | sentence |", "|---|---|---|---|"]
    for result in results:
        said = result.in_words + (f"; {condition(result)}" if result.condition else "")
        equivalent = len(result.mutants.equivalent)
        trial = f"{result.mutants.refuted}/{result.mutants.made}" + (f", {equivalent} equivalent" if equivalent else "")
        lines.append(f"| `{result.claim.id}` | {_cell(said)} | {trial} | {_cell(result.claim.title)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def as_junit(results: list[Result], seconds: float) -> str:
    """One test case a claim, as CI servers read it."""
    cases = []
    for result in results:
        place = f"derivations.{result.claim.chapter}", result.claim.id, result.seconds
        problems = [] if result.ok else _complaints(result)
        cases.append(Case(*place, "failure", problems[0], "\n".join(problems)) if problems else Case(*place))
    return junit("derivations", cases, seconds)


FORMATS: dict[str, Callable[[list[Result], float], str]] = {
    "text": as_text,
    "json": lambda results, seconds: to_json(as_json(results, seconds), indent=2) + "\n",
    "markdown": as_markdown,
    "junit": as_junit,
}


def claims_table(claims: list[Claim]) -> Table:
    """The claims as a table for the terminal."""
    table = Table(Column("claim", no_wrap=True, min_width=max(len(claim.id) for claim in claims)), "we say", "sentence")
    for claim in claims:
        table.add_row(claim.id, claim.expected, claim.title)
    return table


def show(result: Result) -> str:
    """One claim in full."""
    claim = result.claim
    rows = [
        (claim.id, ""),
        ("claim", claim.title),
        ("formula", plain(claim.latex)),
        ("hypotheses", claim.hypotheses),
        ("source", claim.source),
        ("scope", claim.scope),
        ("rests on", ", ".join(claim.depends_on) or "nothing else"),
        ("traces", ", ".join(f"{module}.{name}" for module, _, name in result.traced) or "nothing"),
        ("verdict", result.in_words + (f"; {condition(result)}" if result.condition else "")),
        (
            "mutants",
            f"{result.mutants.refuted} of {result.mutants.made} refuted, {len(result.mutants.equivalent)} equivalent",
        ),
    ]
    lines = [f"{name:11} {value}".rstrip() for name, value in rows]
    for step in result.steps:
        lines.append(f"  [{'decided' if step.decided else 'argued '}] {step.statement}")
        lines += [f"            {line}" for line in [*formulas(step), f"by {decided_by(step)}"]]
    lines += [f"  PROBLEM {problem}" for problem in result.problems]
    return "\n".join(lines) + "\n"


def derivation_text(derivation: Derivation) -> str:
    """What follows from a user's regularizer, for people."""
    marks = {True: "holds", False: "FAILS", None: "NOT DECIDED"}
    reward = derivation.implicit_reward
    same = (reward - derivation.phi_prime).expand() == 0
    lines = [
        f"regularizer      phi = {spoken(derivation.phi)}",
        f"this is          {_named(derivation)}",
        f"implicit reward  s = {spoken(reward if same else derivation.phi_prime)}",
    ]
    if not same:
        lines.append(f"                 or {spoken(reward)}, which differs by the same constant for all responses")
    lines.append("conditions of the master theorem")
    for condition in derivation.conditions:
        lines.append(f"  {marks[condition.holds]:11}  {condition.statement} ({condition.how})")
        if not condition.holds:
            lines.append(f"               so {condition.consequence}")
    lines += [
        f"offline loss     {_loss(derivation)}",
        f"online           policy gradient with the reward {difference('r(y)', reward, 'y')}",
    ]
    if derivation.ok:
        options = ", ".join(f"{name}=0.1" for name in derivation.parameters)
        lines.append(
            f"in Python        derive({readable(derivation.phi)!r}, {derivation.preference!r}).objective({options})"
        )
    return "\n".join(lines) + "\n"


def _named(derivation: Derivation) -> str:
    """The named regularizer and objective that it is."""
    found = recognize(derivation.phi_prime, derivation.preference)
    if found is None:
        return "none of the named regularizers"
    of_order = "" if found.order is None else f" of order {spoken(found.order)}"
    regularizer = f"{found.regularizer}{of_order} with coefficient {spoken(found.strength)}"
    if found.objective is None:
        return f"the regularizer {regularizer}; no objective of this kind has a name"
    options = "".join(f", {name} {value}" for name, value in found.options.items())
    return f"the objective {found.objective}{options}: the regularizer {regularizer}"


def _loss(derivation: Derivation) -> str:
    """The offline loss of one example."""
    reward = derivation.implicit_reward
    if derivation.preference == "plackett-luce":
        return f"-sum_k [s_k - log sum_(j >= k) e^(s_j)], s_k = {spoken(reward, 'y_k')}"
    margin = " - margin" if derivation.preference == "rao-kupper" else ""
    return f"-log sigmoid({difference(spoken(reward, 'w'), reward, 'l')}{margin})"


def derivation_json(derivation: Derivation) -> str:
    """The same for machines."""
    found = recognize(derivation.phi_prime, derivation.preference)
    named = found and {
        "regularizer": found.regularizer,
        "coefficient": str(found.strength),
        "order": None if found.order is None else readable(found.order),
        "objective": found.objective,
        "options": found.options,
    }
    facts = {
        "ok": derivation.ok,
        "phi": readable(derivation.phi),
        "named": named,
        "implicit_reward": readable(derivation.phi_prime),
        "score": readable(derivation.implicit_reward),
        "preference": derivation.preference,
        "parameters": derivation.parameters,
        "conditions": derivation.conditions,
        "loss": _loss(derivation),
        "loss_latex": derivation.loss_latex(),
        "online_latex": derivation.online_latex(),
    }
    return to_json(facts, indent=2) + "\n"
