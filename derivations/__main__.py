"""Claims about preference optimization, proved about the very functions that train."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from derivations.cli.command_line import read_command, run_command, show_table, tell
from derivations.cli.errors import InputError, suggest
from derivations.cli.files import to_json
from derivations.conformance.commands import Conform, Mutate, Zoo
from derivations.custom.derive import Preference, derive
from derivations.custom.from_score import from_score
from derivations.pages import text as report
from derivations.pages.book import write_book
from derivations.pages.score import score_json, score_text
from derivations.prover.claims import check_claims, load_claims


@dataclass(frozen=True)
class Check:
    """Run the proofs, put their mutants on trial, and say what holds.

    Exit status: 0 every claim came out as stated, 1 one did not, 2 the input was wrong.

    Example: python -m derivations check --jobs 2

    Example: python -m derivations check --only 'plackett*' --format json --output claims.json
    """

    only: str = "*"
    """Glob over claim ids. What a chosen claim rests on is checked as well."""
    mutants: bool = True
    """Also refute systematically made wrong versions of every identity."""
    jobs: int = 1
    """Processes; the result does not depend on it."""
    format: Literal["text", "json", "markdown", "junit"] = "text"
    """`json` and `junit` are for machines, `markdown` for the summary of a pull request."""
    output: Path | None = None
    """Write there instead of to the terminal."""
    quiet: bool = False
    """Print nothing but errors: the exit status is the answer."""
    kernel: bool = False
    """Also let Rocq's kernel check the theorems, and the identities and signs (needs coqc; formats text and json)."""

    def run(self) -> int:
        if self.kernel:
            return self._with_kernel()
        results, seconds = report.timed(
            lambda: check_claims(load_claims(self.only), mutants=self.mutants, jobs=self.jobs)
        )
        tell(report.FORMATS[self.format](results, seconds), self.output, quiet=self.quiet)
        return 0 if all(result.ok for result in results) else 1

    def _with_kernel(self) -> int:
        from derivations.rocq import kernel
        from derivations.rocq import report as kernel_report

        if self.format not in ("text", "json"):
            raise InputError(f"--kernel speaks text and json, not {self.format}")
        kernel.require()
        claims = load_claims(self.only)
        results, seconds = report.timed(lambda: check_claims(claims, mutants=self.mutants, jobs=self.jobs))
        verdict = kernel.check([(result.claim, result.steps) for result in results], jobs=self.jobs)
        if self.format == "json":
            facts = report.as_json(results, seconds) | {"kernel": kernel_report.as_json(verdict)}
            kernel_report.mark(facts, verdict)
            facts["ok"] = facts["ok"] and verdict.ok
            text = to_json(facts, indent=2) + "\n"
        else:
            text = report.as_text(results, seconds) + kernel_report.as_text(verdict, claims)
        tell(text, self.output, quiet=self.quiet)
        return 0 if all(result.ok for result in results) and verdict.ok else 1


@dataclass(frozen=True)
class List:
    """List the claims: id, what we say of it, and the sentence.

    Example: python -m derivations list --only 'simpo-*'
    """

    only: str = "*"
    """Glob over claim ids."""
    format: Literal["text", "json"] = "text"
    """`json` is for machines."""

    def run(self) -> None:
        claims = load_claims(self.only)
        if self.format == "json":
            names = ("id", "expected", "title", "scope", "source", "depends_on")
            print(to_json([{name: getattr(claim, name) for name in names} for claim in claims], indent=2))
        else:
            show_table(report.claims_table(claims))


@dataclass(frozen=True)
class Show:
    """Show one claim: sentence, hypotheses, formula, every step with how it was decided, counterexample.

    Example: python -m derivations show length-normalized-temperature
    """

    claim: Annotated[str, tyro.conf.Positional]
    """Claim id, as `list` prints it."""
    format: Literal["text", "json"] = "text"
    """`json` is for machines: an entry of `check --format json`."""

    def run(self) -> int:
        claims = {claim.id: claim for claim in load_claims()}
        if self.claim not in claims:
            near = suggest(self.claim, list(claims)).split(" (known")[0]
            raise InputError(f"no claim is called {self.claim!r}{near}; `python -m derivations list` shows them")
        (result,) = check_claims([claims[self.claim]])
        if self.format == "json":
            print(to_json(report.as_json([result], result.seconds)["claims"][0], indent=2))
        else:
            print(report.show(result), end="")
        return 0 if result.ok else 1


@dataclass(frozen=True)
class Derive:
    """From your own regularizer phi to its implicit reward, its losses and its shaped reward.

    Example: python -m derivations derive "beta/length*(p*log(p) - p)" --preference rao-kupper

    Example: python -m derivations derive --from-score "beta*log(p/q) + alpha*length"

    Exit status: 0 phi meets the conditions of the master theorem, 1 it does not (the report says which
    and what follows), 2 the formula cannot be read.
    """

    formula: Annotated[str, tyro.conf.Positional]
    """phi in p (policy probability of a response), q (reference probability), length (tokens), the strengths
    alpha, beta, gamma > 0 and order in (0, 1); numbers, + - * / **, log, exp, sqrt."""
    from_score: bool = False
    """The formula is the score s of a loss -log sigma(s(w) - s(l)): is it a regularizer's slope, and of which?"""
    preference: Preference = "bradley-terry"
    """bradley-terry: pairs; rao-kupper: pairs with a margin; plackett-luce: rankings."""
    format: Literal["text", "json"] = "text"
    """`json` is for machines."""
    quiet: bool = False
    """Print nothing but errors: the exit status is the answer."""

    def run(self) -> int:
        if self.from_score:
            found = from_score(self.formula, self.preference)
            tell((score_json if self.format == "json" else score_text)(found), quiet=self.quiet)
            return 0 if found.ok else 1
        derivation = derive(self.formula, self.preference)
        tell(
            (report.derivation_json if self.format == "json" else report.derivation_text)(derivation), quiet=self.quiet
        )
        return 0 if derivation.ok else 1


@dataclass(frozen=True)
class Book:
    """Write the book of claims: Markdown pages for Sphinx with MyST (`make book` builds them into HTML).

    Example: python -m derivations book --output docs/book
    """

    output: Path
    """Folder for the pages; pages of an earlier book there are replaced."""
    mutants: bool = True
    """Also refute mutants, and count them in the book."""
    jobs: int = 1
    """Processes; the result does not depend on it."""
    kernel: bool = False
    """Also say of each claim what Rocq's kernel checked (needs coqc)."""

    def run(self) -> int:
        from derivations.rocq import kernel

        if self.kernel:
            kernel.require()
        results = check_claims(load_claims(), mutants=self.mutants, jobs=self.jobs)
        verdict = kernel.check([(r.claim, r.steps) for r in results], jobs=self.jobs) if self.kernel else None
        write_book(results, self.output, verdict)
        return 0 if all(result.ok for result in results) and (verdict is None or verdict.ok) else 1


COMMANDS = {
    "check": Check,
    "list": List,
    "show": Show,
    "derive": Derive,
    "book": Book,
    "conform": Conform,
    "mutate": Mutate,
    "zoo": Zoo,
}


def formulas_apart(words: list[str]) -> list[str]:
    """The command line with a formula that begins with a minus sign marked, so that it is not taken for an option."""
    if words[:1] != ["derive"]:
        return words
    return [f" {word}" if re.match(r"-(?!-|h$)", word) else word for word in words]


START = """Claims about preference optimization, proved about the very functions that train. To begin with:

  python -m derivations show length-normalized-temperature          one claim, step by step
  python -m derivations derive "beta/length*(p*log(p) - p)"          from a regularizer to its loss
  python -m derivations check --jobs 2                               every proof, and its wrong versions

`python -m derivations --help` lists all commands.
"""


def main() -> int | None:
    words = formulas_apart(sys.argv[1:])
    if not words:
        tell(START, quiet=False)
        return 0
    return read_command(COMMANDS, prog="python -m derivations", about=str(__doc__), arguments=words).run()


if __name__ == "__main__":
    run_command(main)
