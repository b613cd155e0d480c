"""A test of somebody's tests: each planted bug in the place of their function, and their tests run on it.

Every run is a child process that is forked from this one, which has torch loaded already; where the system cannot
fork, it says so. What survives is reported worst first, with the assertion that would have noticed it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from derivations.conformance.assertions import HEAD, Assertion, as_code, assertions
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.mutants import Mutant, mutants_of
from derivations.conformance.swap import forget, install

TESTS_FAILED = 1  # pytest's exit status


@dataclass(frozen=True)
class MutationReport:
    """What a test suite noticed. wanted: assertions that would notice the rest, with what each of them notices."""

    place: str
    subject: Subject
    mutants: list[Mutant]
    survivors: list[Mutant]
    seconds: float
    wanted: dict[Assertion, list[Mutant]] = field(default_factory=dict)
    unshown: list[Mutant] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing survives."""
        return not self.survivors


def mutate(place: str, subject: Subject, arguments: Sequence[str], *, timeout: float = 60.0) -> MutationReport:
    """Run pytest with these arguments on every planted bug of the subject's objective.

    Args:
        place: `module:function` or `path/file.py:function`, whose function is replaced.
        subject: the function with its contract (`loss_under_test.make_subject`).
        arguments: of pytest.
        timeout: seconds a run of the tests may take; one that takes longer counts as noticed.

    Returns:
        The report; `as_text` prints it.

    Raises:
        InputError: the tests fail without a bug, or there are none, or the system cannot fork.
    """
    import pytest  # noqa: F401  once, before the children are forked

    start = time.perf_counter()
    status, output = run_tests(place, None, arguments, timeout)
    if status != 0:
        words = "there are no tests" if status == 5 else f"the tests fail as they are (pytest says {status})"
        raise InputError(f"{words}: pytest {' '.join(arguments)}", below=output[-1500:])
    mutants = mutants_of(subject)
    survivors = [m for m in mutants if run_tests(place, m.subject.function, arguments, timeout)[0] == 0]
    wanted, unshown = assertions(subject, survivors)
    return MutationReport(place, subject, mutants, survivors, time.perf_counter() - start, wanted, unshown)


def run_tests(
    place: str, function: Callable[..., Any] | None, arguments: Sequence[str], timeout: float
) -> tuple[int, str]:
    """Exit status and output of pytest, in a child process in which the function is another one."""
    if not hasattr(os, "fork"):
        raise InputError("planted bugs need a system that can fork (Linux, macOS)")
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os._exit(_in_child(place, function, arguments))
    os.close(writer)
    output = _read(reader, time.monotonic() + timeout)
    if output is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return TESTS_FAILED, "it ran out of time"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output


def _in_child(place: str, function: Callable[..., Any] | None, arguments: Sequence[str]) -> int:
    """Forget the user's modules, put the bug in, and run the tests."""
    import pytest

    if "torch" in sys.modules:  # its other threads stayed with the parent, and to wait for them would be for ever
        sys.modules["torch"].set_num_threads(1)
    root = Path.cwd().resolve()
    own = Path(__file__).resolve().parents[1]
    forget(
        lambda file: file.is_relative_to(root) and "site-packages" not in file.parts and not file.is_relative_to(own)
    )
    if function is not None:
        install(place, lambda _: function)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.path.insert(0, str(root))
    os.environ["PLANTED_BUG"] = "1"  # the plugin does not plant bugs in bugs
    status = int(pytest.main([*arguments, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]))
    sys.stdout.flush()
    return status


def _read(reader: int, until: float) -> str | None:
    """All that comes out of a pipe, or None when the time is over."""
    import select

    parts: list[bytes] = []
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            part = pipe.read(65536)
            if not part:
                return b"".join(parts).decode(errors="replace")
            parts.append(part)


def as_text(report: MutationReport) -> str:
    """Survivors worst first, in words; then the assertions that are missing, as code."""
    total, left = len(report.mutants), len(report.survivors)
    lines = [f"{total - left} of {total} planted bugs of {report.subject.target.name} are noticed, {left} survive"]
    for mutant in report.survivors:
        lines.append(f"  survives  {mutant.bug.pain}  (breaks {', '.join(mutant.breaks[:4])})")
    if report.wanted:
        lines += ["", "missing, as words:"]
        for assertion, notices in report.wanted.items():
            lines.append(f"  {assertion.words}  ({len(notices)} of them)")
    for mutant in report.unshown:
        first = mutant.trials[0].law
        lines.append(f"  no single call shows {mutant.bug.pain!r}: {first.says}")
    if report.survivors:
        lines += ["", "missing, as code:", "", code_of(report)]
    return "\n".join(lines) + f"\n{report.seconds:.0f} s\n"


def code_of(report: MutationReport) -> str:
    """A file of tests that notice what survives, to be pasted; `assert_conforms` for what no single call shows."""
    module, _, name = report.place.rpartition(":")
    head, name = name.partition(".")[0], name.partition(".")[0]
    home = Path(module).stem if module.endswith(".py") else module
    parts = [HEAD + f"from {home} import {head}\n"]
    parts += [
        as_code(assertion, report.subject, report.place, number + 1, notices)
        for number, (assertion, notices) in enumerate(report.wanted.items())
    ]
    if report.unshown:
        options = "".join(f", {key}={value!r}" for key, value in report.subject.target.options.items())
        parts.append(
            f"def test_{name}_conforms():\n    from derivations.conformance import assert_conforms\n\n"
            f'    assert_conforms({name}, "{report.subject.target.name}"{options})\n'
        )
    return "\n\n".join(parts)
