"""The master theorem backwards: from the score of a loss to the regularizer of which it is the slope.

A loss -log sigma(s(w) - s(l)) is the likelihood of a regularized optimum if its score s is phi' of a strictly convex
phi with a barrier (claim `inverse-master-theorem`): if it increases strictly with the response's own probability p,
from -oo at 0. `from_score` decides that of a formula, and integrates it where the integral has a formula.
"""

import ast
import random
import re
from dataclasses import dataclass, replace

import sympy as sp
from sympy.integrals.rationaltools import ratint

from derivations.cli.errors import InputError
from derivations.custom.derive import UNIT, Condition, Derivation, Preference, conditions_on_slope, derive
from derivations.custom.parser import SYMBOLS, parse_formula
from derivations.proofs.symbols import length, p, q
from derivations.prover import balls
from derivations.prover.domains import visibly_positive
from derivations.prover.sampling import random_point
from derivations.prover.zero_test import Undecided, is_zero

OTHER = re.compile(r"(p|q|length)_\w+")  # p_other, q_l, length_w: facts of another response
OWN = "the score of a response is a function of its own p"


@dataclass(frozen=True)
class FromScore:
    """What a score says of its loss.

    text: the score as it was given. conditions: those of the master theorem, asked of the slope; each with its reason.
    phi: the regularizer, up to a constant; None if its integral has no formula here, or if there is none.
    derivation: what follows from phi, as `derive` says it; None without phi.
    """

    text: str
    conditions: tuple[Condition, ...]
    phi: sp.Expr | None
    derivation: Derivation | None

    @property
    def ok(self) -> bool:
        """True if the loss is decided to be that of a regularized optimum."""
        return all(condition.holds for condition in self.conditions)


def from_score(score: str, preference: Preference = "bradley-terry") -> FromScore:
    """Whether a score is the slope of a regularizer that meets the conditions of the master theorem, and of which.

    Args:
        score: s as a formula in p, q, length and the strengths, as `derive` reads them, up to a constant. Names such as
            p_other or length_other stand for another response.
        preference: the preference model for what follows.

    Returns:
        The conditions, the regularizer and what follows from it.

    Raises:
        InputError: the formula cannot be read, or does not contain p.
    """
    score = score.strip()
    others = _other_responses(score)
    if others:
        how = f"it contains {', '.join(others)}"
        consequence = (
            "no sum over responses of phi(pi(y)) has it as its slope: each slope contains p of one response alone"
        )
        return FromScore(score, (Condition(OWN, False, how, consequence),), None, None)
    s = parse_formula(score)
    if not s.has(p):
        raise InputError(f"the score {score!r} does not contain p, the probability of the response")
    conditions = (Condition(OWN, True, "it contains no other response"), *_conditions(s))
    phi = integral(s) if conditions[1].holds else None
    return FromScore(score, conditions, phi, None if phi is None else derive(phi, preference))


def _other_responses(text: str) -> list[str]:
    """The names in a formula that stand for facts of another response; none if it cannot be read."""
    try:
        names = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the parser says what is wrong
        return []
    return sorted(name for name in names - set(SYMBOLS) if OTHER.fullmatch(name))


def _conditions(s: sp.Expr) -> tuple[Condition, ...]:
    """The conditions of `derive` on the slope, in the words of scores.

    A score of p^(1/length) is asked as a function of that mean probability per token: the two increase together.
    """
    defined, increasing, barrier = conditions_on_slope(per_token(s) or s)
    what = "p^(1/length)" if per_token(s) is not None else "p"
    smooth = "the score is real and smooth on 0 < p < 1"
    rising = f"the score increases strictly in {what}: its phi is strictly convex"
    falling = (
        "a response may gain probability and lose score: the stationary point r = s + lambda need not be an optimum"
    )
    bottom = f"the score falls to -oo as {what} goes to 0"
    return (
        replace(defined, statement=smooth),
        replace(increasing, statement=rising, how=_said(increasing.how, what), consequence=falling),
        replace(barrier, statement=bottom, how=_said(barrier.how, what)),
    )


def _said(how: str, what: str) -> str:
    """How a condition was decided, about the slope instead of phi; p stands for p^(1/length) if that was asked."""
    said = how.replace("phi''", "the derivative")
    return said if what == "p" else f"{said}; asked of p^(1/length)"


def per_token(s: sp.Expr) -> sp.Expr | None:
    """The score with p in the place of p^(1/length), if it has such powers; else None."""
    powers = [power for power in s.atoms(sp.Pow) if power.base.has(p) and power.exp.has(length)]
    return s.subs(p, p**length) if powers else None


def integral(s: sp.Expr) -> sp.Expr | None:
    """phi with phi' = s, or None where no formula is found; the zero test has looked at phi' - s.

    Terms p^e log(p)^k by their rule; for the rest by parts, p s - int p s', if p s' is a rational function of p.
    """
    known: list[sp.Expr] = []
    left: list[sp.Expr] = []
    for term in sp.Add.make_args(sp.expand(sp.expand_log(sp.expand(s.replace(sp.log, _log_of_quotient))))):
        found = _power_with_logs(term)
        (left if found is None else known).append(term if found is None else found)
    rest: sp.Expr = sp.Add(*left)
    by_parts = sp.cancel(sp.together(p * sp.diff(rest, p)))
    if not by_parts.is_rational_function(p):
        return None
    phi = sp.Add(*known) + (p * rest - _real_logs(ratint(by_parts, p)) if left else 0)
    if not phi.atoms(sp.Function) <= phi.atoms(sp.log, sp.exp) or phi.has(sp.RootSum):
        return None
    odds = sp.Symbol(
        "odds", positive=True
    )  # against the response: p = 1 / (1 + odds), so that 1 - p is visibly positive
    try:
        return _shortest(phi) if is_zero((sp.diff(phi, p) - s).subs(p, 1 / (1 + odds))) else None
    except Undecided:
        return None


def _shortest(phi: sp.Expr) -> sp.Expr:
    """The same with log(p/q) where that takes fewer operations than log(p) and log(q)."""
    ratio = sp.Dummy("log(p/q)", real=True)
    with_ratio = sp.expand(phi.subs(sp.log(q), sp.log(p) - ratio)).subs(ratio, sp.log(p / q))
    return min(phi, with_ratio, key=sp.count_ops)


def _power_with_logs(term: sp.Expr) -> sp.Expr | None:
    """Integral of c p^e log(p)^k, k a whole number; None for anything else."""
    factor, varying = term.as_independent(p, as_Add=False)
    exponent: sp.Expr = sp.S.Zero
    logs = 0
    for part in sp.Mul.make_args(varying):
        base, power = part.as_base_exp()
        if base == p and not power.has(p):
            exponent += power
        elif base == sp.log(p) and power.is_Integer and power > 0:
            logs += int(power)
        elif part != 1:
            return None
    above = sp.expand(exponent + 1)
    if above == 0:
        return factor * sp.log(p) ** (logs + 1) / (logs + 1)
    if not (visibly_positive(above, UNIT) or visibly_positive(-above, UNIT)):
        return None
    whole = sum((-1) ** j * sp.ff(logs, j) * sp.log(p) ** (logs - j) / above ** (j + 1) for j in range(logs + 1))
    return sp.expand(factor * p**above * whole)


def _log_of_quotient(inside: sp.Expr) -> sp.Expr:
    """log(a/b) as log(a) - log(b) where both are visibly positive."""
    top, bottom = sp.fraction(inside)
    split = visibly_positive(top, UNIT) and visibly_positive(bottom, UNIT)
    return sp.log(top) - sp.log(bottom) if split else sp.log(inside)


def _real_logs(expr: sp.Expr) -> sp.Expr:
    """log(p - 1) as log(1 - p), which differs by a constant and is real where p is a probability."""
    place = random_point(expr.free_symbols | {p}, random.Random(0), unit=UNIT)  # noqa: S311 (a place, not a secret)
    negative = [log for log in expr.atoms(sp.log) if (balls.sign(log.args[0], place) or 0) < 0]
    return expr.subs({log: sp.log(-log.args[0]) for log in negative})
