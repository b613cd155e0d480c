"""Compiling it all with `coqc`: the theorems, the traced code, and the identities and signs of the claims.

What the kernel refuses is said by name. A step outside of what the exporter can write is `not expressible`, one
whose denominators and logarithms are not known to be defined is `not closed`; every other one must compile.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from derivations.cli.errors import InputError
from derivations.cli.files import write_text
from derivations.prover.claims import Claim
from derivations.prover.kinds import Step
from derivations.rocq import traced
from derivations.rocq.identities import HEADER, Lemma, lemmas
from derivations.rocq.theorems import AXIOMS, THEOREMS, THEORIES

HERE = Path(__file__).parent
AT_ONCE = 25  # lemmas in one file: enough to pay for loading the reals, few enough to share between processes
SENTENCE_SECONDS = 120  # what one command of a proof may take
FILE_SECONDS = 1800


class MissingKernel(InputError):
    """There is no `coqc` on this machine."""

    def __init__(self) -> None:
        super().__init__("coqc is not installed: the kernel needs Rocq (Debian and Ubuntu: apt-get install coq)")


@dataclass(frozen=True)
class Outcome:
    """What became of one identity or sign.

    number: of the step in its claim, from 1.
    word: `checked`, `refused`, `not expressible` (it has no lemma) or `not closed` (a denominator or logarithm is not
    known to be defined, or a condition not known to keep the assumptions).
    why: for all but `checked`.
    same: both sides print alike, so that there was nothing but their definedness to prove.
    """

    number: int
    statement: str
    word: str
    why: str = ""
    same: bool = False


@dataclass
class Verdict:
    """What the kernel says.

    theorems: the compiled ones, as THEORY.NAME. refused: theory -> why. axioms: file -> what its theorems rest on.
    """

    theorems: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    axioms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    steps: dict[str, list[Outcome]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Everything that should compile does, and rests on the classical reals alone."""
        return not self.problems()

    def problems(self) -> list[str]:
        """One line for everything for which it is not ok."""
        found = [f"{theory}.v: {why}" for theory, why in self.refused.items()]
        for name, axioms in self.axioms.items():
            if extra := sorted(set(axioms) - AXIOMS):
                found.append(f"{name} rests on {', '.join(extra)}")
        for claim, outcomes in self.steps.items():
            found += [f"{claim}, step {o.number}: {o.why}" for o in outcomes if o.word == "refused"]
        return found

    def count(self, word: str) -> int:
        """How many steps came out so."""
        return sum(outcome.word == word for outcomes in self.steps.values() for outcome in outcomes)

    def proves(self, theorem: str) -> bool:
        """A theorem, as THEORY.NAME, was compiled and rests on nothing but the classical reals."""
        return theorem in self.theorems and set(self.axioms.get("Theorems", ("unknown",))) <= AXIOMS


def check(
    claims: Sequence[tuple[Claim, list[Step]]], *, jobs: int = 1, folder: Path | None = None, theories: bool = True
) -> Verdict:
    """Compile the theorems and the identities and signs of these claims.

    Args:
        claims: each claim with its steps.
        jobs: processes of `coqc` at a time; the result does not depend on it.
        folder: where the files are written and compiled (default: a temporary folder).
        theories: also the theorems, and that the traced code is their formulas.

    Returns:
        The verdict; `steps` has an entry for every claim.

    Raises:
        MissingKernel: there is no `coqc`.
        InputError: the folder cannot be written.
    """
    start = time.perf_counter()
    require()
    verdict = Verdict()
    with tempfile.TemporaryDirectory() as spare, ThreadPoolExecutor(jobs) as pool:
        place = folder or Path(spare)
        _theory(place, "Identities", verdict)
        chain = pool.submit(_theories, place, verdict) if theories else None
        todo: dict[str, list[Lemma]] = {}
        for claim, steps in claims:
            verdict.steps[claim.id] = []
            for number, item in lemmas(claim, steps):
                if isinstance(item, Lemma):
                    todo.setdefault(claim.chapter, []).append(item)
                else:
                    outcome = Outcome(number, steps[number - 1].statement, item.word, str(item))
                    verdict.steps[claim.id].append(outcome)
        if "Identities" not in verdict.refused:
            for found in pool.map(lambda part: _outcomes(place, part[0], part[1], verdict), _parts(todo)):
                for lemma, outcome in found:
                    verdict.steps[lemma.claim].append(outcome)
        if chain is not None:
            chain.result()
    for outcomes in verdict.steps.values():
        outcomes.sort(key=lambda outcome: outcome.number)
    verdict.seconds = time.perf_counter() - start
    return verdict


def require() -> None:
    """Raise MissingKernel where there is no `coqc`."""
    if shutil.which("coqc") is None:
        raise MissingKernel


def _theories(place: Path, verdict: Verdict) -> None:
    """Compile the hand-written files and the traced code, and print what their top theorems together rest on."""
    for theory in THEORIES:
        _theory(place, theory, verdict)
    verdict.theorems = [f"{t}.{name}" for t, names in THEOREMS.items() if t not in verdict.refused for name in names]
    if verdict.theorems:
        files = " ".join(theory for theory in THEOREMS if theory not in verdict.refused)
        write_text(place / "Theorems.v", f"Require {files}.\n{print_assumptions(verdict.theorems)}")
        done = _coqc(place, "Theorems")
        if isinstance(done, str):
            (verdict.axioms["Theorems"],) = axioms(done)
        else:
            verdict.refused["Theorems"] = done[1]


def print_assumptions(names: Sequence[str]) -> str:
    """The commands that print what these theorems together rest on: one walk through the library instead of many."""
    return f"Definition all := ({', '.join(names)}).\nPrint Assumptions all.\n"


def _theory(place: Path, theory: str, verdict: Verdict) -> None:
    try:
        text = traced.source() if theory == "Traced" else (HERE / f"{theory}.v").read_text(encoding="utf-8")
    except (TypeError, ValueError, AttributeError) as error:  # of the code that was called; its theory is refused
        verdict.refused[theory] = f"the code could not be recorded: {type(error).__name__}: {error}"
        return
    write_text(place / f"{theory}.v", text)
    needed = {word for line in re.findall(r"^Require Import (.*)\.$", text, re.MULTILINE) for word in line.split()}
    if broken := sorted(needed & set(verdict.refused)):
        verdict.refused[theory] = f"rests on {', '.join(broken)}, which the kernel refused"
    elif not isinstance(done := _coqc(place, theory), str):
        verdict.refused[theory] = f"line {done[0]}: {done[1]}"


def axioms(printed: str) -> list[tuple[str, ...]]:
    """What each `Print Assumptions` of a run printed, as names."""
    answers = re.split(r"^(?=Axioms:|Closed under the global context)", printed, flags=re.MULTILINE)[1:]
    names = r"^(?!Axioms:|Closed)([\w.']+)(?= :|$)"
    return [tuple(re.findall(names, answer, re.MULTILINE)) for answer in answers]


def _parts(todo: dict[str, list[Lemma]]) -> Iterator[tuple[str, list[Lemma]]]:
    for chapter, chosen in todo.items():
        for start in range(0, len(chosen), AT_ONCE):
            yield f"Steps_{chapter}_{start // AT_ONCE + 1}", chosen[start : start + AT_ONCE]


def _outcomes(place: Path, name: str, todo: list[Lemma], verdict: Verdict) -> list[tuple[Lemma, Outcome]]:
    """Compile lemmas; where one is refused, say so and go on behind it: what stands before it was accepted."""
    found: list[tuple[Lemma, Outcome]] = []
    while todo:
        text, first = HEADER + f"Set Default Timeout {SENTENCE_SECONDS}.\n\n", []
        for lemma in todo:
            first.append(text.count("\n") + 1)
            text += lemma.source + "\n"
        write_text(place / f"{name}.v", text + print_assumptions([lemma.name for lemma in todo]))
        done, bad = _coqc(place, name), len(todo)
        if isinstance(done, str):
            (verdict.axioms[name],) = axioms(done)
        else:
            line, why = done
            bad = max((i for i, start in enumerate(first) if start <= line), default=0)
            found.append((todo[bad], Outcome(todo[bad].number, todo[bad].statement, "refused", why)))
        found += [(it, Outcome(it.number, it.statement, "checked", same=it.same)) for it in todo[:bad]]
        todo, name = todo[bad + 1 :], f"{name}_on"
    return found


def _coqc(place: Path, name: str) -> str | tuple[int, str]:
    """What compiling printed; where it was refused the line, and why."""
    command = ["coqc", "-q", "-R", ".", "MaxEnt", f"{name}.v"]
    try:
        run = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=FILE_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        return 0, f"not done after {FILE_SECONDS} s"
    if run.returncode == 0:
        return run.stdout
    where = re.search(r'^File "[^"]*", line (\d+).*?\n(?=Error|Timeout)(.*)', run.stderr, re.DOTALL | re.MULTILINE)
    if where is None:
        return 0, " ".join(run.stderr.split())[:200] or f"coqc ended with status {run.returncode}"
    return int(where[1]), f"the kernel does not accept it: {' '.join(where[2].split())[:200]}"
