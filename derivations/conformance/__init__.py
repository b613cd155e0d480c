"""Hold anybody's loss against an objective: does it compute what its name says, and if not, what does it compute?

    python -m derivations conform my_losses.py:simpo_loss --objective simpo --option beta=2 --option gamma=1

The laws (`conformance.laws`) are tried on the function; each failure shows the smallest input that fails.
Whatever they say, `identify` (`conformance.identify`) names the objective from losses and gradients alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from derivations.conformance.identify import Identity, identify
from derivations.conformance.laws import Failure, Law, Skip, Verdict, all_laws
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.readings import prepared

__all__ = ["Conformance", "Trial", "assert_conforms", "conform", "prepared", "try_laws"]


@dataclass(frozen=True)
class Trial:
    """One law and what came of it."""

    law: Law
    verdict: Verdict
    seconds: float

    @property
    def failed(self) -> bool:
        return isinstance(self.verdict, Failure)

    @property
    def skipped(self) -> bool:
        return isinstance(self.verdict, Skip)


@dataclass(frozen=True)
class Conformance:
    """The outcome: every law that concerns the objective, and what the function was found to compute."""

    subject: Subject
    trials: tuple[Trial, ...]
    identity: Identity
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no verdict law fails; advice does not count."""
        return not self.broken

    @property
    def unsafe_mask(self) -> bool:
        """Whether it computes the objective, and all that is wrong is that inf or NaN under a false mask gets out."""
        return [trial.law.id for trial in self.broken] == ["mask-leak"]

    @property
    def broken(self) -> list[Trial]:
        """Verdict laws that fail."""
        return [trial for trial in self.trials if trial.failed and trial.law.kind == "verdict"]

    @property
    def advice(self) -> list[Trial]:
        """Advice laws that have something to say."""
        return [trial for trial in self.trials if trial.failed and trial.law.kind == "advice"]


def conform(
    function: Callable[..., Any],
    objective: str,
    *,
    options: dict[str, Any] | None = None,
    mapping: dict[str, str] | None = None,
    backend: str = "auto",
    laws: list[Law] | None = None,
    timeout: float = 60.0,
) -> Conformance:
    """Try every law of an objective on a function.

    objective: a name of `conformance.families.NAMES`. options: the objective's, and any other the function
    takes. mapping: the function's parameter names -> ours. backend: torch, numpy or auto (torch if it is
    installed, NumPy if the function cannot take tensors). laws: only these. timeout: seconds a call may take, 0 for no
    limit. Raises InputError, with the
    contract, if the function does not fit it or cannot be called.
    """
    start = time.perf_counter()
    subject = prepared(function, objective, options=options, mapping=mapping, backend=backend, timeout=timeout)
    trials = try_laws(subject, laws if laws is not None else all_laws())
    return Conformance(subject, trials, identify(subject), time.perf_counter() - start)


def assert_conforms(
    function: Callable[..., Any], objective: str, *, mapping: dict[str, str] | None = None, **options: Any
) -> None:
    """A whole conformance run as one assertion of a test.

    Args:
        function: the loss.
        objective: its name, as `python -m derivations conform --objective` takes it.
        mapping: the function's parameter names -> ours.
        options: the objective's, and any other the function takes.

    Raises:
        AssertionError: it does not conform; the message says which laws break, and on which input.
        InputError: the function does not fit the contract.
    """
    outcome = conform(function, objective, options=options, mapping=mapping)
    if not outcome.ok:
        lines = [f"{getattr(function, '__name__', 'the function')} does NOT conform to {objective}: {outcome.identity}"]
        for trial in outcome.broken:
            failure = trial.verdict
            assert isinstance(failure, Failure)  # noqa: S101
            lines += [f"{trial.law.id}: {trial.law.says}", f"  input {failure.given}"]
            lines += [f"  expected {failure.expected}", f"  found {failure.found}"]
        raise AssertionError("\n".join(lines))


def try_laws(subject: Subject, laws: Sequence[Law]) -> tuple[Trial, ...]:
    """Those of the laws that concern the objective, each tried once."""
    trials = []
    for law in laws:
        if law.applies(subject):
            began = time.perf_counter()
            verdict = law.try_on(subject)
            trials.append(Trial(law, verdict, time.perf_counter() - began))
    return tuple(trials)
