"""`derive --from-score`: which scores are the slope of a regularizer, of which one, and why not."""

import functools

import mpmath
import numpy as np
import pytest
import sympy as sp

from derivations.__main__ import COMMANDS, formulas_apart
from derivations.cli.command_line import read_command
from derivations.cli.errors import InputError
from derivations.custom import from_score as module
from derivations.custom.derive import derive
from derivations.custom.from_score import from_score, integral, per_token
from derivations.custom.parser import parse_formula
from derivations.proofs.symbols import alpha, beta, length, order, p, q
from derivations.prover.symbolic import SymArray
from derivations.prover.zero_test import is_zero
from derivations.regularizers import KL, LengthNormalized

found_from = functools.cache(from_score)
LOG_P, LOG_Q = SymArray(sp.log(p)), SymArray(sp.log(q))


def kl(strength: sp.Expr) -> sp.Expr:
    return KL(SymArray(strength)).phi(LOG_P, ref_logp=LOG_Q).item()


# score -> the regularizer, by the ground floor or by hand; None where it exists and has no formula here
OPTIMA = {
    "beta*log(p/q)": kl(beta) - beta * p,  # DPO
    "beta/length*log(p)": LengthNormalized(SymArray(beta)).phi(LOG_P, length=SymArray(length)).item(),  # SimPO
    "beta/length*log(p/q)": kl(beta / length) - beta / length * p,  # length-normalized DPO
    "beta*log(p/q) + alpha*length": kl(beta) - beta * p + alpha * length * p,  # R-DPO
    "beta*(log(p/q) + p/q)": kl(beta) - beta * p + beta * p**2 / (2 * q),  # chi-PO
    "beta*(log(p) + 1)": beta * p * sp.log(p),  # MaxEnt
    "-beta*q/p": -beta * q * sp.log(p),  # forward KL
    "(1 - (p/q)**(-order))/order": p / order - p ** (1 - order) * q**order / (order * (1 - order)),
    "beta*log(2*p/(p + q))": beta * (p * sp.log(2 * p / (p + q)) - q * sp.log(p + q)),  # Jensen-Shannon
    "log(p/(1 - p))": p * sp.log(p) + (1 - p) * sp.log(1 - p),  # ORPO's odds ratio of one token
    "log(p)**3 + log(p)": p * sp.log(p) ** 3 - 3 * p * sp.log(p) ** 2 + 7 * p * sp.log(p) - 7 * p,
    "log(p**(1/length)/(1 - p**(1/length)))": None,  # ORPO's odds ratio
    "-exp(1/p)": None,
}
# score -> which condition fails, and a word of the reason
NONE = {
    "beta*p/q": ("falls to -oo", "slope at 0 is 0"),
    "beta*sqrt(p)": ("falls to -oo", "slope at 0 is 0"),
    "-log(p)": ("increases strictly", "derivative = -"),
    "p*log(p)": ("increases strictly", "derivative = -"),
    "log(p) - 2*p": ("increases strictly", "derivative = -"),
    "log(p) - log(p_other)": ("own p", "p_other"),
    "beta*log(p/(p + p_l))": ("own p", "p_l"),
    "log(p)/length_other": ("own p", "length_other"),
    "log(p - 1/2)": ("real and smooth", "not defined at"),
}


@pytest.mark.parametrize("score", OPTIMA)
def test_a_score_of_a_regularized_optimum_gives_its_regularizer(score):
    found = found_from(score)
    assert found.ok, found.conditions
    if OPTIMA[score] is None:
        assert (found.phi, found.derivation) == (None, None)
        return
    odds = sp.Symbol("odds", positive=True)  # p = 1 / (1 + odds), so that the zero test sees that 1 - p is positive
    for difference in (sp.diff(found.phi - OPTIMA[score], p), found.derivation.phi_prime - parse_formula(score)):
        assert is_zero(difference.subs(p, 1 / (1 + odds)))
    assert found.derivation.ok


@pytest.mark.parametrize("score", NONE)
def test_a_score_of_no_regularizer_is_answered_with_the_condition_that_fails(score):
    condition, reason = NONE[score]
    found = from_score(score)
    assert not found.ok
    failed = [item for item in found.conditions if item.holds is False]
    assert any(condition in item.statement and reason in item.how and item.consequence for item in failed), failed


@pytest.mark.parametrize("score", [score for score, phi in OPTIMA.items() if phi is not None])
def test_the_regularizer_is_the_integral_of_the_score_by_quadrature(score):
    """The oracle is mpmath's quadrature, which knows nothing of the rules of integration."""
    values = {
        q: sp.Rational(1, 3),
        length: 4,
        alpha: sp.Rational(1, 2),
        beta: sp.Rational(3, 2),
        order: sp.Rational(1, 4),
    }
    s, phi = (sp.lambdify(p, expr.subs(values), "mpmath") for expr in (parse_formula(score), found_from(score).phi))
    with mpmath.workdps(30):
        for low, high in ((0.1, 0.4), (0.5, 0.9)):
            assert abs(phi(mpmath.mpf(high)) - phi(mpmath.mpf(low)) - mpmath.quad(s, [low, high])) < 1e-20


def test_a_score_per_token_increases_with_p_just_where_it_does_with_its_root():
    """Against differences of the score itself, which has length 5: x = p^(1/5)."""
    score = parse_formula("log(p**(1/length)/(1 - p**(1/length)))")
    root = per_token(score)
    assert is_zero(root - sp.log(p / (1 - p)))
    assert per_token(parse_formula("beta/length*log(p)")) is None
    values = sp.lambdify(p, score.subs(length, 5), "numpy")(np.linspace(1e-9, 1 - 1e-9, 1000))
    assert (np.diff(values) > 0).all()


def test_derive_and_from_score_are_inverse_to_each_other():
    for phi in ("beta*p*log(p/q) + alpha*p*log(p)", "beta*p**2/q + p*log(p)", "alpha*p*log(p)/length - beta*log(p)"):
        slope = derive(phi).phi_prime
        again = integral(slope)
        assert again is not None
        assert is_zero(sp.diff(again, p) - slope)


def test_a_wrong_rule_of_integration_gives_no_regularizer(monkeypatch):
    """The zero test looks at phi' - s: a slip in the rules is no answer instead of a wrong one."""
    monkeypatch.setattr(module, "_power_with_logs", lambda term: p * term)
    found = from_score("beta*log(p)")
    assert found.ok
    assert found.phi is None


@pytest.mark.parametrize(("score", "words"), [("length", "does not contain p"), ("log(p", "cannot read"), ("z", "z")])
def test_what_is_no_score_is_refused_in_a_sentence(score, words):
    with pytest.raises(InputError, match=words):
        from_score(score)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["-log(p)"], 1, "FAILS        the score increases strictly"),
        (["log(p**(1/length)/(1 - p**(1/length)))"], 0, "integral of s from 1/2 to p"),
        (["beta*log(p/q)"], 0, "regularizer      phi(p) = beta*p*log(p/q) - beta*p"),
        (["beta*log(p/q)", "--format", "json"], 0, '"phi": "beta*p*log(p/q) - beta*p"'),
    ],
)
def test_the_command_answers_people_and_machines(words, status, told, capsys):
    arguments = formulas_apart(["derive", "--from-score", *words])
    assert read_command(COMMANDS, prog="python -m derivations", about="", arguments=arguments).run() == status
    assert told in capsys.readouterr().out
