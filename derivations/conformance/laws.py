"""Laws: what every correct implementation of an objective satisfies, one function a law.

A law looks at a `Subject` and gives None (holds), a `Failure` with the smallest failing input as numbers,
or `Skip` with the reason it does not apply. `verdict` laws decide the exit status; a correct
implementation cannot fail them. `advice` laws only speak. This file has what all laws share and the
registry; the laws themselves are in `conformance/*_laws.py`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from derivations.conformance.batches import Batch, show
from derivations.conformance.calls import CallError
from derivations.conformance.families import ADVANTAGE, Family
from derivations.conformance.loss_under_test import Result, Subject

Kind = Literal["verdict", "advice"]
SLOPE = 1e-3  # relative tolerance of gradients by differences of float32 values
CHAPTERS = ("batch", "option", "pair", "extreme", "online", "off_policy", "advantage")
REPOSITORIES = {
    "trl": "huggingface/trl",
    "SimPO": "princeton-nlp/SimPO",
    "PaddleFormers": "PaddlePaddle/PaddleFormers",
    "ms-swift": "modelscope/ms-swift",
    "verl": "verl-project/verl",
    "speculators": "vllm-project/speculators",
    "Relax": "redai-studio/Relax",
    "dpo": "eric-mitchell/direct-preference-optimization",
    "open-instruct": "allenai/open-instruct",
    "Liger": "linkedin/Liger-Kernel",
    "fla": "fla-org/flash-linear-attention",
}


@dataclass(frozen=True)
class Failure:
    """How a law fails: on which input, what was expected, what was found."""

    given: str
    expected: str
    found: str


@dataclass(frozen=True)
class Skip:
    """A law that does not apply, and why."""

    reason: str


Verdict = Failure | Skip | None
Check = Callable[[Subject], Verdict]


@dataclass(frozen=True)
class Law:
    """One law. threads: public threads that report the mistake, as `trl#1760`. why: what it adds to other laws."""

    id: str
    says: str
    claim: str
    check: Check
    kind: Kind = "verdict"
    families: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    why: str = ""

    def applies(self, subject: Subject) -> bool:
        return (not self.families or subject.target.family.name in self.families) and (
            not self.objectives or subject.target.name in self.objectives
        )

    @property
    def links(self) -> tuple[str, ...]:
        """Addresses of the threads."""
        return tuple(link(thread) for thread in self.threads)

    def try_on(self, subject: Subject) -> Verdict:
        """The verdict; an exception in the function on this law's input is a failure of the law."""
        try:
            with np.errstate(all="ignore"):  # infinite and undefined numbers are compared, not warned about
                return self.check(subject)
        except CallError as error:
            return Failure(f"the inputs of this law ({self.says})", "a loss", str(error))


def link(thread: str) -> str:
    """Address of `trl#1760`; issues and pull requests share their numbers, and the site sends one to the other."""
    name, _, number = thread.partition("#")
    return f"https://github.com/{REPOSITORIES[name]}/issues/{number}"


@dataclass
class Registry:
    """The laws in the order in which they are defined."""

    laws: list[Law] = field(default_factory=list)


_registry = Registry()


def law(
    id: str,
    says: str,
    *,
    claim: str,
    kind: Kind = "verdict",
    families: tuple[Family, ...] = (),
    objectives: tuple[str, ...] = (),
    threads: tuple[str, ...] = (),
    why: str = "",
) -> Callable[[Check], Check]:
    """Register a law; see `Law` for the fields. No families, no objectives: it applies to all."""

    def register(check: Check) -> Check:
        names = tuple(family.name for family in families)
        _registry.laws.append(Law(id, says, claim, check, kind, names, objectives, threads, why))
        return check

    return register


def all_laws() -> list[Law]:
    """Every law of the kit."""
    for chapter in CHAPTERS:
        importlib.import_module(f"derivations.conformance.{chapter}_laws")
    return _registry.laws


def tolerance(found: Result, expected: np.ndarray, *, slope: bool = False) -> float:
    """Allowed difference: 1e-6 of the size of what is expected.

    Float64 would give 1e-12, but a correct implementation may hold a constant in float32 (6e-8; TRL's standard
    deviation does), and gradients by central differences are worth about 1e-8. One that computes in float32
    throughout is allowed 6e-8 times a few dozen operations, and its gradients by differences the same over their step.
    """
    relative = SLOPE if slope and found.rough else 1e-6 if found.exact else 1e-5
    return relative * max(1.0, float(np.max(np.abs(expected), initial=0.0)))


def close(found: np.ndarray, expected: np.ndarray, allowed: float) -> bool:
    """Elementwise closeness; NaN or inf on either side is close to nothing, itself included."""
    return bool(np.all(np.abs(found - expected) <= allowed))


def number(value: float) -> str:
    """A number for a report."""
    return f"{value:.6g}"


def numbers(values: np.ndarray) -> str:
    """An array for a report, six digits each."""
    return str(_rounded(np.asarray(values).tolist())).replace("'", "")


def _rounded(values: Any) -> Any:
    return [_rounded(value) for value in values] if isinstance(values, list) else number(float(values))


def compare(
    subject: Subject, batch: Batch, found: Result, expected: Result, *, value: bool = True, gradient: bool = True
) -> Failure | None:
    """The first difference between what was found and what was expected on a batch: value, then each gradient."""
    if value:
        allowed = tolerance(found, expected.value)
        if found.value.ndim and found.value.shape == expected.value.shape:
            if not close(found.value, expected.value, allowed):
                words = "" if subject.target.family is ADVANTAGE else "losses "
                return Failure(describe(subject, batch), words + numbers(expected.value), words + numbers(found.value))
        elif not close(np.asarray(found.mean), np.asarray(expected.mean), allowed):
            words = "loss "
            return Failure(describe(subject, batch), words + number(expected.mean), words + number(found.mean))
    for leaf, slope in expected.gradient.items() if gradient else ():
        allowed = tolerance(found, slope, slope=True)
        if not close(found.gradient[leaf], slope, allowed):
            words = f"gradient of the mean loss by {leaf} "
            return Failure(describe(subject, batch), words + numbers(slope), words + numbers(found.gradient[leaf]))
    return None


def option_words(name: str, value: Any) -> str:
    """`beta = 0.15`, without the last digits of binary fractions."""
    return f"{name} = {number(value)}" if isinstance(value, int | float) else f"{name} = {value}"


def describe(subject: Subject, batch: Batch) -> str:
    """The input as numbers, options first; arrays that neither the objective nor the function reads are left out."""
    options = [
        option_words(name, value) for name, value in subject.target.options.items() if value not in (None, "given")
    ]
    read = subject.names.values()
    needed = subject.target.needs_reference
    unread = [n for n in batch if n not in read and (n.startswith("old_") or (n.startswith("ref_") and not needed))]
    return "; ".join([*options, show(batch, hide=unread)])
