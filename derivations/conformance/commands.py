"""The commands of the conformance kit: `conform` a loss, `mutate` to test its tests, the `zoo` to test the kit."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from derivations.cli.command_line import tell
from derivations.cli.errors import InputError, suggest
from derivations.cli.files import write_text
from derivations.conformance import conform, prepared
from derivations.conformance import trial as zoo_matrix
from derivations.conformance.contracts import NAMES
from derivations.conformance.loading import load, parse_pairs, parse_value
from derivations.conformance.report import FORMATS

UNSAFE_MASK = 3  # exit status of a loss that is right but for inf and NaN under a mask
Options = dict[str, Any]


def given_options(
    objective: str, option: Sequence[str], mapping: Sequence[str], *, prefix: str = "--"
) -> tuple[Options, dict[str, str]]:
    """What `--objective`, `--option` and `--map` say: options by name, and names of the function -> ours.

    Raises:
        InputError: no such objective, or a word without its equals sign.
    """
    if objective not in NAMES:
        raise InputError(f"unknown objective {objective!r}{suggest(objective, list(NAMES))}")
    options = {name: parse_value(value) for name, value in parse_pairs(f"{prefix}option", option).items()}
    return options, parse_pairs(f"{prefix}map", mapping)


@dataclass(frozen=True)
class Conform:
    """Is this the objective you named, and if not, which one is it? Hold your loss function against it.

    Your function takes, by name, the arrays and options it needs (`docs/conformance.md` lists them) and returns
    a scalar or one value an example. Nothing is trained and no model is loaded; it takes seconds.

    Example: python -m derivations conform my_losses.py:simpo_loss --objective simpo --option beta=2 --option gamma=1

    Exit status: 0 it conforms, 1 it does not, 2 it could not be called, 3 it computes the objective, but lets inf or
    NaN under a false mask through (`logps * mask`; `--allow-unsafe-mask` makes this 0).
    """

    function: Annotated[str, tyro.conf.Positional]
    """MODULE:FUNCTION, imported from the current folder, or path/to/file.py:FUNCTION."""
    objective: str
    """dpo, simpo, ipo, ... and their rankings (-pl), rloo, rloo-advantage, kl-loss, entropy-token, ...; an unknown
    name lists them all. gamma is in reward units (codes that take gamma/beta = rho mean gamma = beta rho)."""
    option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=VALUE, repeatable: options of the objective and any other argument of your function. What is not given is
    taken from your function's defaults."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """THEIRS=OURS, repeatable: your function's name for an array or option, and ours."""
    backend: Literal["auto", "torch", "numpy"] = "auto"
    """What your function computes with."""
    format: Literal["text", "json", "junit"] = "text"
    """`json` and `junit` are for machines."""
    output: Path | None = None
    """Write there instead of to the terminal."""
    timeout: float = 60.0
    """Seconds one call of your function may take; 0 for no limit."""
    allow_unsafe_mask: bool = False
    """Count a loss that is wrong only where inf or NaN stands under a false mask as conforming."""
    quiet: bool = False
    """Print nothing but errors: the exit status is the answer."""

    def run(self) -> int:
        if not self.timeout >= 0:
            raise InputError(f"--timeout {self.timeout:g}: seconds, 0 or more")
        options, mapping = given_options(self.objective, self.option, self.map)
        with contextlib.redirect_stdout(sys.stderr):  # what the function prints is no part of the report
            function = load(self.function)
            outcome = conform(
                function, self.objective, options=options, mapping=mapping, backend=self.backend, timeout=self.timeout
            )
        tell(FORMATS[self.format](outcome, self.function), self.output, quiet=self.quiet)
        if outcome.unsafe_mask:
            return 0 if self.allow_unsafe_mask else UNSAFE_MASK
        return 0 if outcome.ok else 1


@dataclass(frozen=True)
class Mutate:
    """A test of your tests: put each planted bug in the place of your loss, and see whether your tests notice.

    Example: python -m derivations mutate my_losses.py:simpo_loss --objective simpo -- pytest tests/test_losses.py

    Exit status: 0 every bug is noticed, 1 some survive (each with the assertion that is missing), 2 the tests fail
    as they are, or the function does not fit.
    """

    function: Annotated[str, tyro.conf.Positional]
    """MODULE:FUNCTION or path/to/file.py:FUNCTION, as your tests import it."""
    objective: str
    """As for `conform`."""
    command: Annotated[tuple[str, ...], tyro.conf.Positional] = ("pytest",)
    """After `--`: pytest with its arguments."""
    option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=VALUE, repeatable, as for `conform`."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """THEIRS=OURS, repeatable, as for `conform`."""
    timeout: float = 60.0
    """Seconds a run of the tests may take; one that takes longer has noticed."""
    output: Path | None = None
    """Also write the missing tests there."""
    quiet: bool = False
    """Print nothing but errors: the exit status is the answer."""

    def run(self) -> int:
        try:
            from derivations.conformance.mutation import as_text, code_of, mutate
        except ImportError as error:
            raise InputError("planted bugs are written in torch: pip install '.[llm]'") from error

        words = self.command[2:] if self.command[1:2] == ("-m",) else self.command
        if not words or words[0] != "pytest":
            raise InputError(f"after -- stands {' '.join(self.command)!r}; write pytest and its arguments there")
        options, mapping = given_options(self.objective, self.option, self.map)
        with contextlib.redirect_stdout(sys.stderr):
            function = load(self.function)
            subject = prepared(function, self.objective, options=options, mapping=mapping)
            report = mutate(self.function, subject, words[1:], timeout=self.timeout)
        tell(as_text(report), quiet=self.quiet)
        if self.output is not None and report.survivors:
            write_text(self.output, code_of(report))
        return 0 if report.ok else 1


@dataclass(frozen=True)
class Zoo:
    """Put the conformance kit itself on trial: planted bugs, and correct losses, against every law.

    Exit status: 0 every bug is killed, no correct loss fails, and no law is there for nothing; 1 otherwise.

    Example: python -m derivations zoo --picture docs/zoo.svg
    """

    picture: Path | None = None
    """Also draw the matrix of bugs and laws, as SVG."""
    quiet: bool = False
    """Print nothing but errors: the exit status is the answer."""

    def run(self) -> int:
        rows = zoo_matrix.run_zoo()
        tell(zoo_matrix.as_text(rows), quiet=self.quiet)
        if self.picture is not None:
            zoo_matrix.draw(rows, self.picture)
        return 0 if zoo_matrix.ok(rows) else 1
