"""Claims: what is stated, under which hypotheses, from where, and what a run of the proof says about it.

A proof file registers claims with the `claim` decorator on a function that returns the steps. Verdicts
are computed by `check_claims`, never written by hand, and a claim is never greener than what it depends
on. `expected` is what we say in public; a run that finds anything else fails.
"""

import fnmatch
import importlib
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from derivations.checks import Differs, Step, StepFailed
from derivations.commands import InputError
from derivations.mutants import Tally, try_mutants
from derivations.proofs import CHAPTERS

Expected = Literal["proved", "refuted"]


@dataclass(frozen=True)
class Claim:
    """One statement with its proof.

    title: the sentence. expected: `proved`, or `refuted` (as written in the source; then `condition`
    says exactly when it does hold, and the steps hold the counterexample and both directions).
    scope: for which response sets the proof holds. depends_on: ids of claims the proof uses.
    """

    id: str
    title: str
    latex: str
    hypotheses: str
    source: str
    scope: str
    steps: Callable[[], list[Step]]
    depends_on: tuple[str, ...] = ()
    expected: Expected = "proved"
    condition: str = ""


@dataclass
class Result:
    """What a run says about a claim. verdict: `proved`, `refuted`, or `failed`."""

    claim: Claim
    verdict: str
    problems: list[str]
    steps: list[Step]
    seconds: float
    mutants: Tally = field(default_factory=Tally)

    @property
    def ok(self) -> bool:
        return self.verdict == self.claim.expected and not self.mutants.survived


CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    title: str,
    *,
    latex: str,
    source: str,
    scope: str,
    hypotheses: str = "none beyond those of THEORY's notation",
    depends_on: tuple[str, ...] = (),
    expected: Expected = "proved",
    condition: str = "",
) -> Callable[[Callable[[], list[Step]]], Callable[[], list[Step]]]:
    """Register a claim whose proof is the decorated function."""

    def register(steps: Callable[[], list[Step]]) -> Callable[[], list[Step]]:
        if id in CLAIMS:
            raise ValueError(f"two claims are called {id}")
        CLAIMS[id] = Claim(id, title, latex, hypotheses, source, scope, steps, depends_on, expected, condition)
        return steps

    return register


def load_claims(pattern: str = "*") -> list[Claim]:
    """All claims whose id matches the glob, in the order of the chapters. InputError if none does."""
    for chapter in CHAPTERS:
        importlib.import_module(f"derivations.proofs.{chapter}")
    chosen = [claim for claim in CLAIMS.values() if fnmatch.fnmatch(claim.id, pattern)]
    if not chosen:
        raise InputError(f"no claim matches {pattern!r}; `python -m derivations list` shows their ids")
    return chosen


def check_claim(claim: Claim, *, mutants: bool = True) -> Result:
    """Run one proof and put its mutants on trial. Dependencies are not looked at here."""
    start = time.perf_counter()
    problems = []
    steps = claim.steps()
    for step in steps:
        try:
            step.check()
        except StepFailed as error:
            problems.append(f"{step.statement}: {error}")
    if not any(step.decided for step in steps):
        problems.append("no step was decided by a procedure")
    if claim.expected == "refuted" and not any(isinstance(step, Differs) for step in steps):
        problems.append("a refutation needs a counterexample")
    verdict = "failed" if problems else claim.expected
    tally = try_mutants(steps) if mutants and not problems else Tally()
    return Result(claim, verdict, problems, steps, time.perf_counter() - start, tally)


def check_claims(claims: list[Claim], *, mutants: bool = True, jobs: int = 1) -> list[Result]:
    """Run the proofs, in `jobs` processes; results come in the order of `claims` whatever `jobs` is.

    A claim whose dependency failed in the same run fails as well, and says so. Dependencies outside of
    `claims` are run too (without mutants), so that no verdict rests on something unchecked.
    """
    wanted = {claim.id for claim in claims}
    needed = _with_dependencies(claims)
    tasks = [(claim.id, mutants and claim.id in wanted) for claim in needed]
    if jobs > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
            results = {result[0]: result[1] for result in pool.map(_check_by_id, tasks)}
    else:
        results = dict(map(_check_by_id, tasks))
    ordered = []
    for item in needed:  # dependencies come first, so failure spreads in one pass
        verdict, problems, seconds, tally = results[item.id]
        broken = [name for name in item.depends_on if results[name][0] == "failed"]
        if broken:
            verdict, problems = "failed", [*problems, f"rests on {', '.join(broken)}, which failed"]
            results[item.id] = (verdict, problems, seconds, tally)
        if item.id in wanted:
            ordered.append(Result(item, verdict, problems, item.steps(), seconds, tally))
    return ordered


def _check_by_id(task: tuple[str, bool]) -> tuple[str, tuple[str, list[str], float, Tally]]:
    """Worker: only the id travels to it, since proofs are functions; the answer is plain data."""
    name, mutants = task
    if name not in CLAIMS:
        load_claims()
    result = check_claim(CLAIMS[name], mutants=mutants)
    return name, (result.verdict, result.problems, result.seconds, result.mutants)


def _with_dependencies(claims: list[Claim]) -> list[Claim]:
    """The claims and everything they rest on, dependencies first."""
    order: dict[str, Claim] = {}

    def visit(item: Claim, path: tuple[str, ...]) -> None:
        if item.id in path:
            raise ValueError(f"claims depend on each other in a circle: {' -> '.join((*path, item.id))}")
        for name in item.depends_on:
            visit(CLAIMS[name], (*path, item.id))
        order.setdefault(item.id, item)

    for item in claims:
        visit(item, ())
    return list(order.values())
