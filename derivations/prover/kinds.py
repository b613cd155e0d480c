"""The steps a proof is made of, and how each is decided.

`Equal`, `Positive`, `Differs`, `TendsTo`, `Enumerated` and `Iff` are *decided* by a procedure, and a second one
of another library must agree (balls, mpmath, power series; a second algorithm for enumerations); `Argued`
applies a named theorem to decided steps and is shown as such. Every step carries its domain: what is not shown
to be defined, and every value outside of the declared range of its symbol, fails. Undecided counts as failure.
Two procedures that contradict each other raise InternalError: then nothing can be trusted.
"""

from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs, Positive
from derivations.prover.limits import TendsTo
from derivations.prover.steps import CONFIRMATIONS, Fate, InternalError, Mutant, Step, StepFailed, show
from derivations.prover.theorems import Argued

__all__ = [
    "CONFIRMATIONS", "Argued", "Differs", "Enumerated", "EnumeratedIff", "Equal", "Fate", "Iff", "InternalError",
    "Mutant", "Positive", "Step", "StepFailed", "TendsTo", "show",
]  # fmt: skip
