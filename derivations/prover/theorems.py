"""Steps in words: `Argued` applies a theorem of the literature to steps that are decided."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from derivations.prover.steps import Step, StepFailed


class Theorem(NamedTuple):
    """says: the theorem in a sentence. source: where it is proved. premises: steps that it has to rest on, at least.

    of: the kinds of step that must be among them (joined by `|` where one of several will do); "Curved" is a step that
    decides the sign of a second derivative. gives: a pattern of the words of its conclusion, one of which must be in
    what is concluded from it.
    """

    says: str
    source: str
    premises: int = 1
    of: tuple[str, ...] = ()
    gives: str = ""


THEOREMS: dict[str, Theorem] = {
    "summation": Theorem(
        "What holds term by term holds for the sum over all responses, absolutely convergent series included.",
        "Rudin, Principles, ch. 3",
        of=("Equal | Positive | TendsTo",),
        gives=r"sum\w*|means?|total|add\w*",
    ),
    "induction": Theorem(
        "What holds at the start, and goes over from each case to the next, holds for all.",
        "Peano's axiom",
        of=("Equal",),
        gives=r"induction|for (?:all|any)|whole|up to|m - 1",
    ),
    "extreme value": Theorem(
        "An upper semicontinuous function on a compact set attains its supremum.",
        "Weierstrass; Bourbaki, General Topology IV.6",
        of=("TendsTo",),
        gives=r"exists?|attain\w*",
    ),
    "strict concavity": Theorem(
        "A strictly concave function has at most one maximizer on a convex set.",
        "Boyd and Vandenberghe, Convex Optimization, 4.2",
        of=("Curved",),
        gives=r"unique|only|concave",
    ),
    "convex sums": Theorem(
        "Sums and positive multiples of (strictly) convex functions are (strictly) convex.",
        "Boyd and Vandenberghe, 3.2.1",
        of=("Curved | Equal",),
        gives=r"(?:convex|concave)\w*|definite|curvature|squares|at most",
    ),
    "first order": Theorem(
        "At a maximizer no slope into the feasible set is positive; for a concave function that suffices.",
        "Boyd and Vandenberghe, 4.2.3 and 5.5.3",
        of=("Equal",),
        gives=r"stationary|slopes?|interior|lambda|maximiz\w+|optimum",
    ),
    "tangent": Theorem(
        "A strictly convex function lies above each of its tangents and touches it only where they meet.",
        "Boyd and Vandenberghe, 3.1.3",
        of=("Curved", "Equal"),
        gives=r"tangents?|touch\w*|[<>]=?",
    ),
    "convex slope": Theorem(
        "The slope of a convex function increases, so a minimizer lies on the side to which the function falls.",
        "Boyd and Vandenberghe, 3.1.3",
        of=("Curved",),
        gives=r"minimizer|slope",
    ),
    "recession": Theorem(
        "A closed convex function has no minimum exactly if it falls for ever in some direction in which it "
        "never rises.",
        "Rockafellar, Convex Analysis, 27.1",
        of=("Positive | EnumeratedIff",),
        gives=r"minimum|levels?",
    ),
    "gradient descent": Theorem(
        "Gradient descent on a smooth convex function that has a minimum reaches one if its steps are at most 1/L.",
        "Nesterov, Lectures on Convex Optimization, 2.1.5",
        2,
        of=("Positive | EnumeratedIff",),
        gives=r"small|at most 1/L",
    ),
    "intermediate value": Theorem(
        "A continuous, strictly increasing function takes each value between its limits exactly once.",
        "Rudin, 4.23",
        2,
        of=("Positive", "TendsTo"),
        gives=r"once",
    ),
    "limits": Theorem(
        "Limits may be multiplied by constants and added up.",
        "Rudin, 3.3",
        of=("TendsTo",),
        gives=r"oo|limits?",
    ),
    "identity theorem": Theorem(
        "Two analytic functions that agree on an interval agree on every interval around it where both are analytic.",
        "Rudin, 8.5",
        2,
        gives=r"analytic",
    ),
    "linear flow": Theorem(
        "A linear differential equation has one solution through each start.",
        "Picard and Lindelof; Hartman, ch. II",
        of=("Equal",),
        gives=r"solution|moves?",
    ),
    "fundamental theorem": Theorem(
        "A continuous function is the derivative of its integral from a fixed point.",
        "Rudin, 6.20",
        0,
        gives=r"antiderivative|int_\S+",
    ),
    "integral rule": Theorem(
        "d/dt of int_0^t f(t, u) du is f(t, t) plus the integral of the derivative.",
        "Leibniz; Rudin, 9.42",
        0,
        gives=r"int_\S+",
    ),
    "chain rule": Theorem(
        "A rate along a path is the sum of the partial derivatives times the rates of the coordinates.",
        "Rudin, 9.15",
        gives=r"rates?|move|gradient",
    ),
    "baseline": Theorem(
        "E[b grad log pi] = 0 for every b that does not depend on the sample.",
        "Williams 1992; claim score-mean-zero",
        of=("Equal",),
        gives=r"baseline",
    ),
    "largest of n": Theorem(
        "The largest of n independent draws with distribution function F has distribution function F^n.",
        "David and Nagaraja, Order Statistics, 2.1",
        0,
        gives=r"best-of-n",
    ),
    "jensen": Theorem(
        "The mean of a strictly convex function exceeds its value at the mean unless the variable is constant.",
        "Jensen; Durrett, 1.6",
        of=("Curved",),
        gives=r"exceeds|strictly|[<>]",
    ),
    "conditional density": Theorem(
        "A joint density that factors into f(g | r) h(r) has f as its conditional density.",
        "Durrett, 4.1",
        gives=r"mean|density",
    ),
    "tweedie": Theorem(
        "With Gaussian noise of variance v, E[g | r] = r + v f'(r)/f(r), f the density of r.",
        "Robbins 1956; Efron 2011",
        0,
        gives=r"E\[g \| r\]",
    ),
    "cramer": Theorem(
        "If a sum of independent variables is Gaussian, so is each of them.",
        "Cramer 1936",
        gives=r"Gaussian",
    ),
    "no function": Theorem(
        "What takes two values where all arguments of a function agree is not that function.",
        "the definition of a function",
        2,
        of=("Equal", "Differs"),
        gives=r"values?",
    ),
}


@dataclass(frozen=True)
class Argued(Step):
    """A step in words: not decided by machine, shown to the reader with the theorem it applies and to which steps.

    by: a key of THEOREMS. uses: beginnings of the statements of other steps of the same claim, or ids of claims that it
    depends on: what the theorem is applied to.
    """

    by: str = ""
    uses: tuple[str, ...] = ()

    decided = False

    def check(self) -> None:
        """Nothing to run, but a jump carries nothing: the theorem must be named, and what it is applied to."""
        if self.by not in THEOREMS:
            named = f"no theorem is called {self.by!r}" if self.by else "it names no theorem"
            raise StepFailed(
                f"cannot decide: argued in words, and {named} (by=..., one of derivations.prover.theorems.THEOREMS)"
            )
        if len(self.uses) < THEOREMS[self.by].premises:
            raise StepFailed(
                f"the theorem {self.by!r} needs at least {THEOREMS[self.by].premises} step to rest on (uses=...)"
            )
        if not re.search(rf"(?<!\w)(?:{THEOREMS[self.by].gives})(?!\w)", self.statement, re.IGNORECASE):
            raise StepFailed(f"it does not say what the theorem {self.by!r} gives: {THEOREMS[self.by].says}")
