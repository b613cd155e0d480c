"""From a regularizer of one's own to its implicit reward, its losses and its shaped reward.

`derive` takes phi as a formula of p (policy probability of a response), q (reference probability) and
length, checks the conditions of the master theorem on it (claim `master-theorem`), and returns what
follows: s = phi'(p), the offline loss under a preference model, the online shaped reward, and a
`Regularizer` that toybandit and llm take like any other. A condition that fails is reported with what
then follows instead; one that no procedure decides counts as not met.
"""

import functools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy as sp

from derivations.arrays import Array, namespace
from derivations.cli.errors import InputError
from derivations.custom.log_space import LOGP, REF_LOGP, evaluate_in_logs, in_logs
from derivations.custom.parser import SYMBOLS, parse_formula
from derivations.custom.shortest import without_constant
from derivations.custom.unit_interval import positive_on_unit_interval
from derivations.objectives import Objective
from derivations.proofs.symbols import length, order, p, q
from derivations.prover import balls
from derivations.prover.domains import visibly_positive
from derivations.prover.kinds import InternalError, StepFailed, TendsTo, show
from derivations.prover.obligations import undefined
from derivations.prover.sampling import Point, random_point
from derivations.regularizers import Regularizer

Preference = Literal["bradley-terry", "rao-kupper", "plackett-luce"]
UNIT = frozenset({p, q, order})  # these lie in (0, 1)
PLACES = 200  # random exact places at which a counterexample to convexity is looked for


@dataclass(frozen=True)
class Condition:
    """A hypothesis of the master theorem, and what a run says of it. holds None: not decided."""

    statement: str
    holds: bool | None
    how: str
    consequence: str = ""


@dataclass(frozen=True)
class Derivation:
    """What follows from a regularizer: phi_prime is s, implicit_reward is s without its constant."""

    phi: sp.Expr
    phi_prime: sp.Expr
    implicit_reward: sp.Expr
    preference: Preference
    conditions: tuple[Condition, ...]

    @property
    def ok(self) -> bool:
        """True if every condition of the master theorem was decided to hold."""
        return all(condition.holds for condition in self.conditions)

    @property
    def parameters(self) -> list[str]:
        """Names of the strengths that the formula leaves open."""
        return sorted(name for name, symbol in SYMBOLS.items() if symbol in self.phi.free_symbols - {p, q, length})

    def regularizer(self, **parameters: Any) -> "DerivedRegularizer":
        """The regularizer as toybandit and llm take it, with a number for every parameter."""
        if set(parameters) != set(self.parameters):
            raise InputError(f"the formula has the parameters {self.parameters}, got {sorted(parameters)}")
        return DerivedRegularizer(
            self.phi, self.implicit_reward, {SYMBOLS[name]: value for name, value in parameters.items()}
        )

    def objective(self, *, margin: float = 0.0, **parameters: Any) -> Objective:
        """The offline objective, for pairs (margin > 0 only under Rao-Kupper) or rankings. Raises InputError."""
        if margin and self.preference != "rao-kupper":
            raise InputError(f"preference model {self.preference} has no margin; rao-kupper has")
        listwise = self.preference == "plackett-luce"
        return Objective("derived", self.regularizer(**parameters), gamma=margin, listwise=listwise)

    def loss_latex(self) -> str:
        """The offline loss of one example, as LaTeX."""
        if self.preference == "plackett-luce":
            reward = _latex(self.implicit_reward, "y_k")
            return rf"-\sum_{{k}} \Big[ s_k - \log\sum_{{j \ge k}} e^{{s_j}} \Big],\quad s_k = {reward}"
        margin = r" - \gamma_{\mathrm{margin}}" if self.preference == "rao-kupper" else ""
        chosen, rejected = (_latex(self.implicit_reward, response) for response in "wl")
        return rf"-\log\sigma\Big( {chosen} - \Big[ {rejected} \Big]{margin} \Big)"

    def online_latex(self) -> str:
        """The shaped reward of policy gradient, as LaTeX."""
        return rf"r(x, y) - \Big[ {_latex(self.implicit_reward, 'y')} \Big]"


@dataclass(frozen=True)
class DerivedRegularizer(Regularizer):
    """A regularizer made from formulas; on NumPy, torch and symbolic arrays, like the others."""

    formula: sp.Expr
    reward_formula: sp.Expr
    parameters: Mapping[sp.Symbol, Any] = field(hash=False)

    name = "derived"

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_length", self.formula.has(length))
        object.__setattr__(self, "needs_reference", self.formula.has(q))

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._value(self.formula, logp, length, ref_logp)

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._value(self.reward_formula, logp, length, ref_logp)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._value(p * sp.diff(self.reward_formula, p), logp, length, ref_logp)

    @property
    def constant(self) -> Any:
        """phi_prime - implicit_reward, which is the same everywhere: taken at one exact place."""
        place = {p: sp.Rational(1, 2), q: sp.Rational(1, 3), length: sp.S.One}
        difference = sp.diff(self.formula, p) - self.reward_formula
        return float(sp.N(difference.subs(place).subs(dict(self.parameters)), 17))

    def _value(self, formula: sp.Expr, logp: Array, lengths: Array, ref_logp: Array) -> Array:
        values = {LOGP: logp, REF_LOGP: ref_logp, length: lengths, **self.parameters}
        return evaluate_in_logs(in_logs(formula), values, namespace(logp)) + 0 * logp


def derive(phi: str | sp.Expr, preference: Preference = "bradley-terry") -> Derivation:
    """What follows from a regularizer phi(p, q, length) under a preference model.

    phi: a formula such as "beta*p*log(p/q)" (see `parse_formula`) or a SymPy expression in the symbols of
    `expression_parser.SYMBOLS`. Raises InputError for a formula that cannot be read or does not contain p.
    """
    expr = parse_formula(phi) if isinstance(phi, str) else sp.sympify(phi)
    unknown = expr.free_symbols - set(SYMBOLS.values())
    if unknown:
        raise InputError(f"unknown symbols {sorted(map(str, unknown))} (known: {', '.join(SYMBOLS)})")
    if not expr.has(p):
        raise InputError(f"the formula {expr} does not contain p, the probability it is meant to regularize")
    s = sp.diff(expr, p)
    reward = without_constant(s)
    conditions = (_defined(expr, s), _strictly_convex(sp.diff(s, p)), _barrier(s, reward))
    return Derivation(expr, s, reward, preference, conditions)


def conditions_on_slope(s: sp.Expr) -> tuple[Condition, ...]:
    """The same conditions asked of the slope phi' alone: defined, increasing, -oo at 0."""
    slope = sp.diff(s, p)
    return _defined(s, slope), _strictly_convex(slope), _barrier(s, s)


def regularizer_of(text: str, coefficient: float | None = None) -> DerivedRegularizer:
    """The regularizer of a formula as command lines write it; `coefficient` is the value of its one open strength.

    Raises InputError for a formula that cannot be read or does not meet the conditions of the master theorem, and
    for one that leaves more open, or less, than the coefficient settles.
    """
    derivation = _accepted(text)
    names = derivation.parameters
    if len(names) > 1 or names == ["order"]:
        raise InputError(f"regularizer {text!r} leaves {' and '.join(names)} open; write numbers for them")
    if names and coefficient is None:
        raise InputError(
            f"regularizer {text!r} leaves {names[0]} open: pass --coefficient 0.1, or write a number for it"
        )
    if coefficient is not None and not names:
        raise InputError(f"regularizer {text!r} takes no coefficient; leave --coefficient {coefficient} out")
    if coefficient is not None and not 0 < coefficient < math.inf:
        raise InputError(f"regularizer {text!r}: coefficient is {coefficient}, expected a finite number > 0")
    return derivation.regularizer(**dict.fromkeys(names, coefficient))


@functools.cache
def _accepted(text: str) -> Derivation:
    derivation = derive(text)
    for condition in derivation.conditions:
        if not condition.holds:
            raise InputError(
                f"regularizer {text!r}: it does not hold that {condition.statement} ({condition.how}); "
                f"{condition.consequence}"
            )
    return derivation


def _places(expr: sp.Expr, count: int) -> list[Point]:
    rng = random.Random(0)  # noqa: S311 (places, not secrets)
    return [random_point(expr.free_symbols | {p}, rng, unit=UNIT) for _ in range(count)]


def _defined(phi: sp.Expr, s: sp.Expr) -> Condition:
    """phi and phi' are real numbers on (0, 1); elementary functions are smooth wherever they are defined.

    Decided from the tree: every logarithm's argument and every base of a power that is not whole must be
    visibly positive, and every divisor visibly not 0.
    """
    statement = "phi is real and smooth on 0 < p < 1"
    for place in _places(phi, PLACES):
        if not (balls.evaluate(phi, place).is_finite() and balls.evaluate(s, place).is_finite()):
            return Condition(statement, False, f"not defined at {show(place)}", "nothing follows: J is not defined")
    reason = undefined(phi, UNIT, smooth=True) or undefined(s, UNIT, smooth=True)
    if reason:
        how = f"real at {PLACES} random exact places, but no proof: {reason}"
        return Condition(statement, None, how, "J may be undefined for some policies")
    return Condition(statement, True, "logarithms, roots and quotients of visibly positive quantities only")


def _strictly_convex(curvature: sp.Expr) -> Condition:
    """phi'' > 0: positive coefficients, also in odds of what lies in (0, 1); refuted by one exact place."""
    statement = "phi is strictly convex in p"
    consequence = (
        "J is not concave: a stationary point r = s + lambda may be a minimum or one of several, "
        "so s is not the reward for which pi is optimal"
    )
    if curvature == 0:
        return Condition(statement, False, "phi'' = 0 everywhere", consequence)
    for place in _places(curvature, PLACES):
        if balls.evaluate(curvature, place) < 0:
            value = float(balls.evaluate(curvature, place))
            return Condition(statement, False, f"phi'' = {value:.4g} at {show(place)}", consequence)
    if any(visibly_positive(form, UNIT) for form in (curvature, sp.expand(curvature))):
        return Condition(statement, True, "phi'' has positive coefficients in positive quantities")
    if positive_on_unit_interval(curvature, UNIT):
        return Condition(statement, True, "phi'' > 0 by balls over all of 0 < p < 1")
    how = f"positive at {PLACES} random exact places, but no proof"
    return Condition(statement, None, how, "uniqueness of the optimum is not established")


def _barrier(s: sp.Expr, reward: sp.Expr) -> Condition:
    """phi'(0+) = -oo, symbolically where Gruntz's algorithm can, else at exact parameter values.

    Looked at on the implicit reward: a constant changes neither answer, and hides how fast the slope falls.
    """
    statement = "the slope of phi at 0 is -oo"
    consequence = (
        "no barrier at 0: the optimum may give a response probability exactly 0; there only r <= s(0) + lambda holds, "
        "and reward differences are bounded by differences of s, not equal to them"
    )
    found = _limit(s)
    if found is not None and not found.has(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.Limit, sp.AccumBounds):
        return Condition(statement, False, f"the slope at 0 is {readable(found)}", consequence)
    if found == sp.oo:
        return Condition(statement, False, "the slope at 0 is +oo", consequence)
    for place in _places(reward, 5):
        parameters = {symbol: value for symbol, value in place.items() if symbol != p}
        try:
            TendsTo(statement, reward.subs(parameters), p, sp.S.Zero, -sp.oo).check()
        except (StepFailed, InternalError, NotImplementedError, ValueError) as error:
            how = f"{error} at {show(parameters)}"
            return Condition(statement, None, how, "an interior optimum is not established")
    how = "for all parameters" if found == -sp.oo else "at 5 random exact values of the parameters"
    return Condition(statement, True, f"limit decided {how}")


def _limit(s: sp.Expr) -> sp.Expr | None:
    """The limit at 0+ with all parameters symbolic; None where SymPy cannot say."""
    try:
        return sp.limit(s, p, 0, "+")
    except (NotImplementedError, ValueError, TypeError):
        return None


def readable(expr: sp.Expr) -> str:
    """The formula in the words a user types."""
    return str(expr.subs({length: sp.Symbol("length"), order: sp.Symbol("order")}))


def _latex(expr: sp.Expr, response: str) -> str:
    """The formula with pi(y), pi_ref(y) and |y| in the place of p, q and length."""
    names = {p: rf"\pi({response})", q: rf"\pi_{{\mathrm{{ref}}}}({response})", length: rf"|{response}|", order: "a"}
    return sp.latex(expr.subs({symbol: sp.Symbol(name, positive=True) for symbol, name in names.items()}))
