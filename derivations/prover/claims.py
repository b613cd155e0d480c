"""Claims: what is stated, under which hypotheses, from where, and what a run of the proof says about it.

A proof file registers claims with the `claim` decorator on a function that returns the steps. Its author
says what kind of verdict they amount to (`expected`): `proved`; `refuted` as written in the source, with
a counterexample, and the exact condition where one is decided; `iff`: something holds if and only if a
condition does. A run computes whether that stands, and the condition: a claim fails if one of its steps
does, if a rule of its kind is not met (`derivations.prover.verdicts`), if a derivative it took is contradicted, if
no wrong version of it is refuted, or if a claim it rests on fails.
"""

import fnmatch
import functools
import gc
import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from derivations.cli.errors import InputError
from derivations.proofs import CHAPTERS
from derivations.prover.derivatives import watching, wrong_derivatives
from derivations.prover.kinds import Argued, EnumeratedIff, Equal, Iff, InternalError, Step, StepFailed
from derivations.prover.mutants import Tally, try_mutants, unnoticed, up_to_a_constant
from derivations.prover.notation import wrong_symbols
from derivations.prover.tracing import Traced, recording, recording_calls
from derivations.prover.verdicts import kinds, missing
from derivations.prover.written import not_allowed, replacements, writing

Expected = Literal["proved", "refuted", "iff"]
SELDOM = 50_000, 20, 100  # thresholds of garbage collection while claims are checked


@dataclass(frozen=True)
class Claim:
    """One statement with its proof.

    title: the sentence. condition: must stay empty, since conditions are computed (`Result.condition`); words that
    claim one make the claim fail. scope: for which response sets the proof holds. depends_on: ids of claims the
    proof uses.
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

    @property
    def chapter(self) -> str:
        """The proof file it is in."""
        return getattr(self.steps, "func", self.steps).__module__.rpartition(".")[2]  # `func`: a partial's function


@dataclass
class Result:
    """What a run says about a claim. verdict: `proved`, `refuted`, `iff`, or `failed`.

    traced: the ground-floor functions whose formulas the proof is about.
    """

    claim: Claim
    verdict: str
    problems: list[str]
    steps: list[Step]
    seconds: float
    mutants: Tally = field(default_factory=Tally)
    traced: list[Traced] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.verdict == self.claim.expected and not self.mutants.survived

    @property
    def condition(self) -> str:
        """When exactly it holds, as the steps decided it; empty if no step decides a condition."""
        exact = [step for step in self.steps if isinstance(step, Iff | EnumeratedIff)]
        if len(exact) == 1:
            return exact[0].condition
        return "; ".join(f"{step.statement}: {step.condition}" for step in exact)

    @property
    def argued(self) -> int:
        """How many steps are in words."""
        return sum(not step.decided for step in self.steps)

    @property
    def in_words(self) -> str:
        """The verdict as it is printed: what was decided, and how much of it was argued."""
        if self.verdict == "failed":
            return (
                "false"
                if any(word in problem for problem in self.problems for word in SHOWN_FALSE)
                else "cannot decide"
            )
        kind = {"proved": "decided", "refuted": "refuted", "iff": "holds iff"}[self.verdict]
        return kind + (f", {self.argued} step{'s' * (self.argued > 1)} argued" if self.argued else "")

    @property
    def equalities(self) -> tuple[int, int]:
        """How many equalities it has, and how many of them SymPy's rewriting alone makes the same."""
        equal = [step for step in self.steps if isinstance(step, Equal)]
        return len(equal), sum(step.by_construction for step in equal)


SHOWN_FALSE = ("not equal, for example at", "not positive at", "the limit is", "does not hold for")
CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    title: str,
    *,
    latex: str,
    source: str,
    scope: str,
    hypotheses: str = "only those of the notation (docs/theory.md)",
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
    """Run one proof and put its mutants on trial. Dependencies are not looked at here.

    Whatever goes wrong inside the proof, a formula that cannot even be traced included, is a problem of
    this claim, which then has failed.
    """
    start = time.perf_counter()
    steps: list[Step] = []
    tally = Tally()
    with recording() as traced:
        try:
            with watching() as derivatives, writing() as written, recording_calls() as calls:
                steps = claim.steps()
            unit = frozenset().union(*(step.unit for step in steps))
            problems = [problem for step in steps for problem in _problems(step)]
            problems += wrong_derivatives(derivatives, unit) + not_allowed(written, unit)
            problems += wrong_symbols(steps, derivatives)
            about = claim.title, claim.scope, claim.expected, claim.condition, claim.depends_on
            problems += missing(
                *about,
                steps,
                traced,
                derivatives,
                calls,
                _kinds_of,
                replacements(written),
                claim.hypotheses,
                claim.latex,
            )
            if mutants and not problems:
                tally = try_mutants(steps)
                problems += unnoticed(
                    claim.steps,
                    steps,
                    traced,
                    title=claim.title,
                    refuted=claim.title if claim.expected == "refuted" else "",
                )
                problems += up_to_a_constant(claim.steps, claim.title, traced) if derivatives else []
                if not tally.refuted:
                    problems.append("no wrong version of its statement was made and refuted")
        except (Exception, SystemExit) as error:  # reported under the claim's name; the claim fails
            problems = [f"the proof broke off: {type(error).__name__}: {error}"]
            steps = []  # nothing can be shown of what cannot be evaluated
    verdict = "failed" if problems else claim.expected
    return Result(claim, verdict, problems, steps, time.perf_counter() - start, tally, sorted(traced))


@functools.cache
def _kinds_of(name: str) -> set[str]:
    """Which kinds of step a claim has that another rests on, the theorems it applies, and its own kind."""
    with recording(), recording_calls(), watching() as taken:  # its own: not of the claim that rests on it
        steps = CLAIMS[name].steps()
    theorems = {step.by for step in steps if isinstance(step, Argued)}
    return set().union(*(kinds(step, taken) for step in steps)) | theorems | {CLAIMS[name].expected}


def _problems(step: Step) -> list[str]:
    """What is wrong with a step; nothing if it holds."""
    try:
        step.check()
    except StepFailed as error:
        return [f"{step.statement}: {error}"]
    except InternalError as error:
        return [f"INTERNAL ERROR, trust nothing until it is mended: {error}"]
    return []


def check_claims(claims: list[Claim], *, mutants: bool = True, jobs: int = 1) -> list[Result]:
    """Run the proofs, in `jobs` processes; results come in the order of `claims` whatever `jobs` is.

    A claim whose dependency failed in the same run fails as well, and says so. Dependencies outside of
    `claims` are run too (without mutants), so that no verdict rests on something unchecked. Raises
    InputError for jobs < 1.
    """
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}, expected at least 1")
    wanted = {claim.id for claim in claims}
    needed = _with_dependencies(claims)
    tasks = [(claim.id, mutants and claim.id in wanted) for claim in needed]
    if jobs > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_prepare_worker) as pool:
            results = dict(pool.map(_check_by_id, tasks))
    else:
        with _seldom_collected():
            results = dict(map(_check_by_id, tasks))
    ordered = []
    for item in needed:  # dependencies come first, so failure spreads in one pass
        result = results[item.id]
        broken = [name for name in item.depends_on if results[name].verdict == "failed"]
        if broken:
            result.verdict = "failed"
            result.problems.append(f"rests on {', '.join(broken)}, which failed")
        if item.id in wanted:
            ordered.append(result)
    return ordered


def _prepare_worker() -> None:
    """Load the claims, and have them left alone by garbage collection, which else reads all of them again and again."""
    load_claims()
    gc.freeze()
    gc.set_threshold(*SELDOM)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Garbage collection at fewer allocations: terms are many, and few of them refer to each other in a circle."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _check_by_id(task: tuple[str, bool]) -> tuple[str, Result]:
    """Worker: only the id travels to it, since proofs are functions, and only the outcome travels back."""
    name, mutants = task
    return name, check_claim(CLAIMS[name], mutants=mutants)


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
