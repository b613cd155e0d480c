"""From a regularizer of one's own to its implicit reward, its losses and its shaped reward.

`derive` takes phi as a formula of p (policy probability of a response), q (reference probability) and
length, checks the conditions of the master theorem on it (claim `master-theorem`), and returns what
follows: s = phi'(p), the offline loss under a preference model, the online shaped reward, and a
`Regularizer` that toybandit and llm take like any other. A condition that fails is reported with what
then follows instead; one that no procedure decides counts as not met.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy as sp

from derivations import balls
from derivations.arrays import Array, is_exact, log_sigmoid, namespace
from derivations.checks import InternalError, StepFailed, TendsTo, show
from derivations.commands import InputError
from derivations.expression_parser import SYMBOLS, parse_formula
from derivations.fields import Undecided, is_positive, is_zero
from derivations.objectives import Objective
from derivations.proofs.tools import length, order, p, q
from derivations.regularizers import Regularizer

Preference = Literal["bradley-terry", "rao-kupper", "plackett-luce"]
LOGP, REF_LOGP = sp.symbols("logp ref_logp", real=True)
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
    """What follows from a regularizer. score: s without the part that is the same for all responses."""

    phi: sp.Expr
    implicit_reward: sp.Expr
    score: sp.Expr
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
        return DerivedRegularizer(self.phi, self.score, {SYMBOLS[name]: value for name, value in parameters.items()})

    def objective(self, *, margin: float = 0.0, **parameters: Any) -> Objective:
        """The offline objective, for pairs (margin > 0 only under Rao-Kupper) or rankings. Raises InputError."""
        if margin and self.preference != "rao-kupper":
            raise InputError(f"preference model {self.preference} has no margin; rao-kupper has")
        listwise = self.preference == "plackett-luce"
        return Objective("derived", self.regularizer(**parameters), gamma=margin, listwise=listwise)

    def loss_latex(self) -> str:
        """The offline loss of one example, as LaTeX."""
        if self.preference == "plackett-luce":
            return (
                rf"-\sum_{{k}} \Big[ s_k - \log\sum_{{j \ge k}} e^{{s_j}} \Big],\quad s_k = {_latex(self.score, 'y_k')}"
            )
        margin = r" - \gamma_{\mathrm{margin}}" if self.preference == "rao-kupper" else ""
        return rf"-\log\sigma\Big( {_latex(self.score, 'w')} - \Big[ {_latex(self.score, 'l')} \Big]{margin} \Big)"

    def online_latex(self) -> str:
        """The shaped reward of policy gradient, as LaTeX."""
        return rf"r(x, y) - \Big[ {_latex(self.score, 'y')} \Big]"


@dataclass(frozen=True)
class DerivedRegularizer(Regularizer):
    """A regularizer made from formulas; on NumPy, torch and symbolic arrays, like the others."""

    formula: sp.Expr
    score_formula: sp.Expr
    parameters: Mapping[sp.Symbol, Any] = field(hash=False)

    name = "derived"

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_length", self.formula.has(length))
        object.__setattr__(self, "needs_reference", self.formula.has(q))

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._value(self.formula, logp, length, ref_logp)

    def score(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._value(self.score_formula, logp, length, ref_logp)

    @property
    def constant(self) -> Any:
        rest = sp.expand(sp.diff(self.formula, p) - self.score_formula).subs(dict(self.parameters))
        return float(rest) if rest.is_number else rest

    def _value(self, formula: sp.Expr, logp: Array, lengths: Array, ref_logp: Array) -> Array:
        # in log-probs: e^-1000 cannot be stored, and exp(logp - ref_logp) stays one exp
        in_logs = sp.powsimp(sp.expand_log(formula).subs({p: sp.exp(LOGP), q: sp.exp(REF_LOGP)}), combine="exp")
        xp = namespace(logp)
        return _evaluate(in_logs, {LOGP: logp, REF_LOGP: ref_logp, length: lengths, **self.parameters}, xp) + 0 * logp


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
    conditions = (_defined(expr, s), _strictly_convex(sp.diff(s, p)), _barrier(s))
    return Derivation(expr, s, _without_constant(s), preference, conditions)


def _without_constant(s: sp.Expr) -> sp.Expr:
    """s without the terms that are the same for all responses, in a short form."""
    varying = sp.Add(*[term for term in sp.Add.make_args(sp.expand(s)) if term.has(p, q, length)])
    shorter = sp.simplify(varying)  # finds a form; whether it is the same is decided, not believed
    try:
        same = is_zero(shorter - varying)
    except Undecided:
        same = False
    return shorter if same and sp.count_ops(shorter) < sp.count_ops(varying) else varying


def _places(expr: sp.Expr, count: int) -> list[balls.Point]:
    rng = random.Random(0)  # noqa: S311 (places, not secrets)
    return [balls.random_point(expr.free_symbols | {p}, rng, unit=UNIT) for _ in range(count)]


def _defined(phi: sp.Expr, s: sp.Expr) -> Condition:
    """phi and phi' are real numbers on (0, 1); elementary functions are smooth wherever they are defined."""
    statement = "phi is real and smooth on 0 < p < 1"
    for place in _places(phi, PLACES):
        if not (balls.evaluate(phi, place).is_finite() and balls.evaluate(s, place).is_finite()):
            return Condition(statement, False, f"not defined at {show(place)}", "nothing follows: J is not defined")
    return Condition(statement, True, f"seen at {PLACES} random exact places, not proved")


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
    odds = {symbol: 1 / (1 + sp.Symbol(f"odds_{symbol}", positive=True)) for symbol in UNIT}
    roots = {symbol: sp.Symbol(f"root_{symbol}", positive=True) ** _root(curvature) for symbol in (p, q)}
    if any(_visibly_positive(curvature.subs(change)) for change in ({}, odds, roots)):
        return Condition(statement, True, "phi'' has positive coefficients in positive quantities")
    how = f"positive at {PLACES} random exact places, but no proof"
    return Condition(statement, None, how, "uniqueness of the optimum is not established")


def _root(expr: sp.Expr) -> int:
    """d such that p = x^d and q = y^d turn fractional powers into whole ones."""
    powers = [power.exp for power in expr.atoms(sp.Pow) if power.exp.is_Rational]
    return math.lcm(1, *(power.q for power in powers))


def _visibly_positive(expr: sp.Expr) -> bool:
    try:
        return is_positive(expr)
    except Undecided:
        return False


def _barrier(s: sp.Expr) -> Condition:
    """phi'(0+) = -oo, symbolically where Gruntz's algorithm can, else at exact parameter values."""
    statement = "the slope of phi at 0 is -oo"
    consequence = (
        "no barrier at 0: the optimum may give a response probability exactly 0; there only r <= s(0) + lambda holds, "
        "and reward differences are bounded by differences of s, not equal to them"
    )
    found = _limit(s)
    if found is not None and not found.has(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.Limit, sp.AccumBounds):
        return Condition(statement, False, f"the slope at 0 is {found}", consequence)
    if found == sp.oo:
        return Condition(statement, False, "the slope at 0 is +oo", consequence)
    for place in _places(s, 5):
        try:
            TendsTo(statement, s.subs({k: v for k, v in place.items() if k != p}), p, sp.S.Zero, -sp.oo).check()
        except (StepFailed, InternalError, NotImplementedError, ValueError) as error:
            where = show({k: v for k, v in place.items() if k != p})
            return Condition(statement, None, f"{error} at {where}", "an interior optimum is not established")
    how = "for all parameters" if found == -sp.oo else "at 5 random exact values of the parameters"
    return Condition(statement, True, f"limit decided {how}")


def _limit(s: sp.Expr) -> sp.Expr | None:
    """The limit at 0+ with all parameters symbolic; None where SymPy cannot say."""
    try:
        return sp.limit(s, p, 0, "+")
    except (NotImplementedError, ValueError, TypeError):
        return None


def _evaluate(expr: sp.Expr, values: Mapping[sp.Symbol, Any], xp: Any) -> Any:
    """The formula on arrays; the log of a sum of exponentials so that none of them under- or overflows."""
    if expr.is_Symbol:
        return values[expr]
    if expr.is_number:
        return expr if is_exact(xp) else float(expr)
    if isinstance(expr, sp.log):
        exponents = _exponents(expr.args[0])
        if exponents:
            total, *others = [_evaluate(exponent, values, xp) for exponent in exponents]
            for other in others:  # log(e^a + e^b) = a - log sigmoid(a - b)
                total = total - log_sigmoid(total - other)
            return total
        return xp.log(_evaluate(expr.args[0], values, xp))
    if isinstance(expr, sp.exp):
        return xp.exp(_evaluate(expr.args[0], values, xp))
    parts = [_evaluate(arg, values, xp) for arg in expr.args]
    if expr.is_Pow:
        return parts[0] ** parts[1]
    total = parts[0]
    for part in parts[1:]:
        total = total + part if expr.is_Add else total * part
    return total


def _exponents(expr: sp.Expr) -> list[sp.Expr]:
    """[z_1, ...] if the expression is e^z_1 + e^z_2 + ..., one that varies first; empty if it is anything else."""
    exponents = []
    for term in sp.Add.make_args(expr):
        coefficient, factor = term.as_coeff_Mul()
        if coefficient <= 0 or not (factor == 1 or isinstance(factor, sp.exp)):
            return []
        exponents.append(sp.log(coefficient) + (factor.args[0] if isinstance(factor, sp.exp) else 0))
    return sorted(exponents, key=lambda exponent: exponent.is_number)


def readable(expr: sp.Expr) -> str:
    """The formula in the words a user types."""
    return str(expr.subs({length: sp.Symbol("length"), order: sp.Symbol("order")}))


def _latex(expr: sp.Expr, response: str) -> str:
    """The formula with pi(y), pi_ref(y) and |y| in the place of p, q and length."""
    names = {p: rf"\pi({response})", q: rf"\pi_{{\mathrm{{ref}}}}({response})", length: rf"|{response}|", order: "a"}
    return sp.latex(expr.subs({symbol: sp.Symbol(name, positive=True) for symbol, name in names.items()}))
