"""Words of a sentence that name a property, and the form of the steps that have it."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import sympy as sp

from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.derivatives import Derivative
from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs, Positive
from derivations.prover.limits import TendsTo
from derivations.prover.steps import Step
from derivations.prover.theorems import Argued
from derivations.prover.tracing import Call
from derivations.prover.wrong_versions import PARTNERS


class Evidence(NamedTuple):
    """What a claim made: its steps, the derivatives it took, and the calls of the code that it traced."""

    steps: Sequence[Step]
    derivatives: Sequence[Derivative]
    calls: Sequence[Call]

    def of(self, *kinds: type[Step]) -> Iterator[Step]:
        """The steps of these kinds."""
        return (step for step in self.steps if isinstance(step, kinds))


class Property(NamedTuple):
    """words: how a sentence says it. shown: whether the steps have it. needs: what is missing if they do not."""

    words: str
    shown: Callable[[Evidence], bool]
    needs: str


def missing(title: str, evidence: Evidence) -> list[str]:
    """The properties that a sentence names and that no step has the form of."""
    return [
        f"it says {found[0]!r}, and {row.needs}"
        for row in PROPERTIES
        if (found := re.search(rf"\b(?:{row.words})\b", title, re.IGNORECASE)) and not row.shown(evidence)
    ]


def _attained(evidence: Evidence) -> bool:
    """A bound is the best one where the gap of it that was decided is 0, or tends to 0, somewhere."""
    if any(evidence.of(Iff, EnumeratedIff)):
        return True
    gaps = {sign * step.expr for step in evidence.of(Positive) for sign in (1, -1)}  # type: ignore[attr-defined]
    limits = (step for step in evidence.of(TendsTo) if step.limit == 0)  # type: ignore[attr-defined]
    values = (step for step in evidence.of(Equal) if step.given)  # type: ignore[attr-defined]
    return any(step.expr in gaps for step in limits) or any(step.lhs - step.rhs in gaps for step in values)  # type: ignore[attr-defined]


def _from_both_sides(evidence: Evidence) -> bool:
    """A limit is from above; from below it is that of the mirrored function."""
    limits: list[TendsTo] = list(evidence.of(TendsTo))  # type: ignore[arg-type]
    return any(
        one.symbol == other.symbol
        and one.place == other.place
        and one.limit == other.limit
        and one.expr.xreplace({one.symbol: 2 * one.place - one.symbol}) == other.expr
        for one in limits
        for other in limits
    )


def _mixed(evidence: Evidence) -> bool:
    """Convexity in several variables has the mixed derivatives in it, or is a theorem's conclusion."""
    taken = evidence.derivatives
    mixed = any(two.expr == one.answer and two.symbol != one.symbol for one in taken for two in taken)
    return mixed or any(isinstance(step, Argued) and step.by == "convex sums" for step in evidence.steps)


def _swapped(evidence: Evidence) -> bool:
    """Some step has on one side what the other is with symbols exchanged, or enumerates."""
    return any(evidence.of(Enumerated)) or any(
        step.lhs != step.rhs and any(step.lhs.xreplace(swap) in (step.rhs, -step.rhs) for swap in _swaps(step))  # type: ignore[attr-defined]
        for step in evidence.of(Equal, Differs)
    )


def _swaps(step: Step) -> Iterator[dict[sp.Symbol, sp.Symbol]]:
    """Chosen for rejected everywhere, and any two symbols of one range."""
    symbols = sorted(set().union(*(side.free_symbols for side in step.expressions())), key=str)
    by_name = {symbol.name: symbol for symbol in symbols}
    yield {symbol: by_name.get(PARTNERS.get(symbol.name, ""), symbol) for symbol in symbols}
    for one, other in combinations(symbols, 2):
        if one.assumptions0 == other.assumptions0:
            yield {one: other, other: one}


def _in_bits(evidence: Evidence) -> bool:
    """Somewhere it is divided by log 2."""
    return any(expr.has(1 / sp.log(2)) for step in evidence.steps for expr in step.expressions())


def _left_out(evidence: Evidence) -> bool:
    """Some call leaves an argument to its default, or the calls are enumerated."""
    return any(call.left_out for call in evidence.calls) or any(evidence.of(Enumerated))


def _said_by_a_step(words: str) -> Callable[[Evidence], bool]:
    """For properties that are a word for a formula: the step with the formula says which it is."""
    pattern = re.compile(words, re.IGNORECASE)
    return lambda evidence: any(pattern.search(step.statement) for step in evidence.steps)


MEAN = r"mean|averag|expect|\bE\[|\bE_|sum|share|unbiased|\bd?E\b"
PROPERTIES = (
    Property(
        r"tight(?:est|ness)?|sharp|best (?:possible )?constant|best possible|cannot be improved"
        r"|no (?:smaller|larger|better) (?:bound|constant)",
        _attained,
        "no step shows the gap of the bound to be 0 or to tend to 0 anywhere",
    ),
    Property(
        r"(?:from|on) (?:both|either|each) sides?|two-sided limit",
        lambda evidence: not any(evidence.of(TendsTo)) or _from_both_sides(evidence),
        "a limit is from above: from below it needs that of the mirrored function",
    ),
    Property(
        r"jointly (?:strictly )?(?:convex|concave)|(?:convex|concave) jointly"
        r"|(?:convex|concave)[\w\s]* in (?:both|(?:the )?pair|\(\w+, ?\w+|(?:the |all )?[\w-]+s\b)",
        _mixed,
        "no mixed derivative was taken: convex in each variable is not convex in all",
    ),
    Property(
        r"swap\w*|exchang(?:e|es|ed|ing)|interchang\w*|symmetric|antisymmetric",
        _swapped,
        "no step has the one side with its symbols exchanged on the other",
    ),
    Property(r"bits?|base 2", _in_bits, "nothing is divided by log 2: logarithms are natural, and units nats"),
    Property(
        r"by default|default\w*|(?:called|asked|given) without|(?:is|are|if|when|not) (?:left out|omitted|not given)",
        _left_out,
        "every traced call gives all arguments, so no default was looked at",
    ),
    Property(r"(?:less|more|lower\w*|higher|smaller|larger|least|reduc\w+|no) (?:\w+ )?variance",
             _said_by_a_step(r"varian|\bvar\b|deviation|\bstd\b"), "no step says which formula is the variance"),
    Property(r"Lipschitz\w*", _said_by_a_step("lipschitz"), "no step says which formula is a Lipschitz constant"),
    Property(r"exponentially|geometrically", _said_by_a_step(r"e\^|exp|rate|geometric"), "no step says at which rate"),
    Property(r"polynomially|logarithmically|quadratically|linearly",
             _said_by_a_step(r"polynom|power|logarithm|quadrat|linear|\brate\b|t\^"), "no step says at which rate"),
    Property(r"on average|averaged?|in expectation|unbiased|biased|bias", _said_by_a_step(MEAN),
             "no step says which formula is the mean"),
)  # fmt: skip
