"""Exact conditions as objects: `Iff` computes when an identity holds, `EnumeratedIff` counts cases.

The sentence "if and only if ..." is made from what was decided, so it can say nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import sympy as sp

from derivations.prover import balls
from derivations.prover.domains import outside
from derivations.prover.enumerations import Enumerated, shared
from derivations.prover.equality import Equal
from derivations.prover.inequality import Differs, Positive
from derivations.prover.steps import Mutant, Step, StepFailed
from derivations.prover.words import words
from derivations.prover.wrong_versions import variants

SMALL = 40  # operations in a factor whose exact zero is looked for at simple values
SEARCHED = 150  # random exact points among which both signs of a factor are looked for


@dataclass(frozen=True)
class Iff(Step):
    """lhs = rhs if and only if one of the factors is 0: decided from lhs - rhs = nonzero x product of the factors.

    nonzero: shown positive, or negative, throughout. at: a counterexample, where the two sides differ. where: what the
    short names in the factors stand for. relation: with ">" there is one factor and `nonzero` is positive, and
    lhs > rhs if and only if the factor is > 0; "< " likewise. Each factor must be able to vanish.
    """

    lhs: sp.Expr
    rhs: sp.Expr
    nonzero: sp.Expr
    factors: tuple[sp.Expr, ...]
    at: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    where: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    relation: Literal["=", ">", "<"] = "="

    procedures = ("zero set of a product", "ball arithmetic")

    def expressions(self) -> tuple[sp.Expr, ...]:
        return (self.lhs, self.rhs)

    @property
    def condition(self) -> str:
        """The sentence, from the zero sets of the factors."""
        return "if and only if " + " or ".join(zero_set(factor, self.relation) for factor in self.factors)

    def _spelled(self, expr: sp.Expr) -> sp.Expr:
        return expr.subs(dict(self.where), simultaneous=True)

    def identity(self) -> Equal:
        """lhs - rhs = the product, as an identity."""
        product = self._spelled(sp.Mul(self.nonzero, *self.factors))
        return Equal(self.statement, self._spelled(self.lhs - self.rhs), product, unit=self.unit, every=self.every)

    def check(self) -> None:
        if not self.factors or (self.relation != "=" and len(self.factors) != 1):
            raise StepFailed(f"{len(self.factors)} factors do not make a condition with {self.relation}")
        self.require_defined(*map(self._spelled, (self.lhs, self.rhs, self.nonzero)))
        self.identity().check()
        self._check_sign()
        for factor in self.factors:
            if not self._vanishes_somewhere(self._spelled(factor)):
                raise StepFailed(f"no place is found inside the hypotheses where {words(factor)} is 0")
        Differs(self.statement, self._spelled(self.lhs), self._spelled(self.rhs), self.at, unit=self.unit).check()

    def _check_sign(self) -> None:
        try:
            Positive(self.statement, self._spelled(self.nonzero), unit=self.unit).check()
        except StepFailed:
            if self.relation != "=":
                raise
            Positive(self.statement, -self._spelled(self.nonzero), unit=self.unit).check()

    def _vanishes_somewhere(self, factor: sp.Expr) -> bool:
        """An exact zero at a simple value of one symbol; or both signs, where the factor is continuous between."""
        symbols = sorted(factor.free_symbols, key=str)
        small = factor.count_ops() < SMALL
        simple = [(s, value) for s in symbols for value in (sp.S.Zero, sp.S.One, *symbols)] if small else []
        for symbol, value in simple:
            if value != symbol and outside(symbol, value, self.unit) is None:
                there = factor.subs(symbol, value)
                if there == 0 or sp.expand(there) == 0:
                    return True
        whole: dict[sp.Symbol, sp.Rational] = {}  # whole numbers do not move: between them nothing is continuous
        signs: set[int | None] = set()
        for place, _ in self.points([factor], SEARCHED):
            whole = whole or {symbol: value for symbol, value in place.items() if symbol.is_integer}
            signs.add(balls.sign(factor, {**place, **whole}))
            if {1, -1} <= signs:
                return True
        return False

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        """The identity's mutants; the condition with a factor left out, changed, or one too many."""
        yield from self.identity().mutants(per_side)
        for place, factor in enumerate(self.factors):
            rest = (*self.factors[:place], *self.factors[place + 1 :])
            for wrong in (rest, *((*rest, changed) for changed in variants(factor, limit=min(3, per_side)))):
                mutant = replace(self, factors=wrong)
                says = "if and only if " + " or ".join(zero_set(f, self.relation) for f in wrong)
                yield Mutant((says,), self.identity().fate(mutant.identity()) if wrong else _fate_of_none(mutant))


def _fate_of_none(mutant: Iff) -> Any:
    """Without any factor the sentence says that it never holds."""
    try:
        mutant.check()
    except StepFailed:
        return "refuted"
    return "survived"


def zero_set(factor: sp.Expr, relation: str = "=") -> str:
    """Where a factor is 0 (or > 0, < 0), as an equation (or inequality) between its positive and its negative part."""
    if isinstance(factor, sp.log):
        return f"{words(factor.args[0])} {relation} 1"
    terms = sp.Add.make_args(factor)
    left = [term for term in terms if not term.could_extract_minus_sign()]
    right = [-term for term in terms if term.could_extract_minus_sign()]
    both = (*left, *right) if len(left) == len(right) == 1 else ()
    if both and any(all(isinstance(side, function) for side in both) for function in (sp.log, sp.exp)):
        left, right = list(left[0].args), list(right[0].args)  # both functions increase strictly
    elif len(left) == 1 and isinstance(left[0], sp.exp) and right == [1]:
        left, right = list(left[0].args), []
    return f"{words(sp.Add(*left))} {relation} {words(sp.Add(*right))}"


@dataclass(frozen=True)
class EnumeratedIff(Enumerated):
    """For each of finitely many cases: one property holds if and only if another does.

    left, right: the two properties, each named by the first line of its docstring; `holds` and `confirm` are made from
    them and from a second algorithm for each.
    """

    holds: Callable[[Any], bool] = field(init=False)
    confirm: Callable[[Any], bool] = field(init=False)
    left: Callable[[Any], bool] = field(kw_only=True)
    right: Callable[[Any], bool] = field(kw_only=True)
    left_again: Callable[[Any], bool] = field(kw_only=True)
    right_again: Callable[[Any], bool] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", partial(_both_or_none, self.left, self.right))
        object.__setattr__(self, "confirm", partial(_both_or_none, self.left_again, self.right_again))

    def algorithms(self) -> tuple[tuple[Callable[[Any], bool], ...], tuple[Callable[[Any], bool], ...]]:
        return (self.left, self.right), (self.left_again, self.right_again)

    def check(self) -> None:
        common = shared((self.left,), (self.right,))
        if common:
            raise StepFailed(f"the condition is what it is a condition for: both properties use {', '.join(common)}")
        super().check()
        if len({self.left(case) for case in self.cases()}) != 2:
            raise StepFailed("the condition is the same in all cases: it is none")

    @property
    def condition(self) -> str:
        """The sentence, from the docstrings of the two properties, with the number of cases it is decided for."""
        first, second = ((f.__doc__ or f.__name__).strip().split("\n")[0].rstrip(".") for f in (self.left, self.right))
        return f"in each of {self.count} cases: {first.lower()} if and only if {second.lower()}"


def _both_or_none(left: Callable[[Any], bool], right: Callable[[Any], bool], case: Any) -> bool:
    return left(case) == right(case)
