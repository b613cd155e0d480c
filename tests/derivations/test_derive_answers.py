"""What `derive` says: the named objective that a formula is, the formula a person would write, convexity by balls."""

import shlex

import pytest
import sympy as sp

from derivations.__main__ import COMMANDS, START, formulas_apart, main
from derivations.custom.derive import derive
from derivations.custom.parser import parse_formula
from derivations.custom.recognize import recognize
from derivations.custom.spoken import difference, spoken
from derivations.custom.unit_interval import positive_on_unit_interval
from derivations.pages.plain import plain
from derivations.pages.text import derivation_text
from derivations.proofs.symbols import alpha, beta, p
from derivations.prover.claims import load_claims

HALF = sp.Rational(1, 2)

# formula -> regularizer, coefficient, order, objective under Bradley-Terry
NAMED = {
    "alpha*p*log(p/2) + 3*p": ("entropy", alpha, None, "maxent"),
    "0.1*beta*p*log(p)": ("entropy", beta / 10, None, "maxent"),
    "beta*(p*log(p/q) - p + q)": ("kl", beta, None, "dpo"),
    "2*beta/length*(p*log(p) - p)": ("length-normalized", 2 * beta, None, "simpo"),
    "beta/length*p*log(p)": ("length-normalized-shannon", beta, None, "simpo-shannon"),
    "-beta*q*log(p)": ("forward-kl", beta, None, "f-dpo"),
    "beta*(p*log(p/q) - (p + q)*log((p + q)/q))": ("jensen-shannon", beta, None, "f-dpo"),
    "beta*(sqrt(p) - sqrt(q))**2": ("alpha-divergence", beta / 2, HALF, "f-dpo"),
    "-beta*p**0.3*q**0.7": ("alpha-divergence", 21 * beta / 100, sp.Rational(7, 10), "f-dpo"),
    "q**2/p": ("alpha-divergence", sp.Integer(2), sp.Integer(2), None),
}
UNNAMED = [
    "p*log(p) + p**2*log(p)",
    "-alpha*sqrt(p)",
    "p*log(p/q)/length",
    "p*log(p)*q",
    "p*log(p) + p/length",
    "p*log(p*q)",
]


def named(formula, preference="bradley-terry"):
    found = derive(formula, preference)
    return recognize(found.phi_prime, found.preference)


@pytest.mark.parametrize("formula", NAMED)
def test_a_named_objective_is_found_up_to_strength_and_constant(formula):
    regularizer, strength, order, objective = NAMED[formula]
    found = named(formula)
    assert (found.regularizer, found.order, found.objective) == (regularizer, order, objective)
    assert sp.expand(found.strength - strength) == 0


@pytest.mark.parametrize("formula", UNNAMED)
def test_what_is_none_of_ours_is_not_named(formula):
    assert named(formula) is None


def test_the_preference_model_chooses_the_objective():
    names = [named("alpha*p*log(p)", model).objective for model in ("rao-kupper", "plackett-luce")]
    assert names == ["maxent", "maxent-pl"]
    assert named("beta*p*log(p/q)", "rao-kupper").objective is None  # DPO by name takes no margin


SPOKEN = {
    "beta/length*(p*log(p) - p)": "beta/|y| (p log p - p)",
    "beta*p*log(p/q)": "beta p log(p/q)",
    "-beta*q/p": "-beta q/p",
    "alpha*p**1.5": "alpha p^(3/2)",
    "log(p)/length": "(1/|y|) log p",
    "1/(2*p)": "1/(2 p)",
    "alpha*(1 + exp(-length))*log(p)": "alpha (1 + exp(-|y|)) log p",
    "p**(1 - order)*q**order": "p^(1 - a) q^a",
}


@pytest.mark.parametrize("formula", SPOKEN)
def test_formulas_are_written_as_a_person_writes_them(formula):
    assert spoken(parse_formula(formula)) == SPOKEN[formula]


def test_the_answer_has_no_artefacts():
    text = derivation_text(derive("beta/length*(p*log(p) - p)"))
    assert "implicit reward  s = beta/|y| log p\n" in text
    assert "-log sigmoid(beta/|w| log pi(w) - beta/|l| log pi(l))" in text
    assert "this is          the objective simpo: " in text
    assert "r(y) + beta pi_ref(y)/pi(y)" in derivation_text(derive("-beta*q*log(p)"))
    assert "log(p/q)" in spoken(derive("beta*p*log(p/q)").implicit_reward)
    assert "log(p**" not in str(derive("p*log(p) + p**2*log(p)").implicit_reward)
    assert "\\" not in text
    assert difference("r", parse_formula("-p - q"), "l").startswith("r - [")


def test_convexity_is_shown_by_balls_where_coefficients_do_not_show_it():
    log_p = sp.log(p)
    assert derive("p*log(p) + p**2*log(p)").ok
    least = 2 * log_p + 1 / p  # its minimum on (0, 1) is 2 - 2 log 2 = 0.6137, at 1/2
    assert positive_on_unit_interval(least - sp.Rational(6137, 10**4))
    assert not positive_on_unit_interval(least - sp.Rational(6138, 10**4))
    assert positive_on_unit_interval(alpha * least + beta / p)
    assert not positive_on_unit_interval(alpha * least - beta / p)
    assert not positive_on_unit_interval(1 / p - sp.Rational(10**6) * sp.sqrt(p) * log_p**2)
    assert not positive_on_unit_interval(log_p**3)
    assert not derive("p*log(p) + 3*p**2*log(p) - 6*p**2").ok


@pytest.mark.parametrize("formula", ["-p", "-sqrt(p)", "-.5*sqrt(p)"])
def test_no_formula_is_taken_for_an_option(formula):
    words = ["derive", formula, "--preference", "rao-kupper", "-h"]
    assert formulas_apart(words) == ["derive", f" {formula}", *words[2:]]
    assert parse_formula(f" {formula}") == parse_formula(formula)


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\phi = \beta p\log\frac{p}{q}", "phi = beta p log(p/q)"),
        (r"s = \frac{\beta}{|y|}\log\pi(y)", "s = beta/|y| log pi(y)"),
        (r"\frac{\beta}{a}\left(1 - \left(\frac{q}{p}\right)^{a}\right)", "beta/a (1 - (q/p)^a)"),
        (r"h = \tfrac23\cdot\tfrac1{2\beta}", "h = 2/3 * 1/(2 beta)"),
        (r"E[\nabla k_2] = \nabla\mathrm{KL}(\pi\|q)", "E[grad k_2] = grad KL(pi || q)"),
        (
            r"\sum_\rho \prod_k \frac{e^{s_{\rho_k}}}{\sum_{j\ge k} e^{s_j}}",
            "sum_rho prod_k (e^(s_rho_k))/(sum_(j >= k) e^s_j)",
        ),
    ],
)
def test_formulas_of_claims_are_plain_text_in_a_terminal(latex, text):
    assert plain(latex).replace(" ", "") == text.replace(" ", "")


def test_no_formula_keeps_its_latex():
    assert not [claim.id for claim in load_claims() if set("\\{}") & set(plain(claim.latex))]


def test_alone_the_program_says_how_to_begin(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["derivations"])
    assert main() == 0
    assert capsys.readouterr().out == START
    commands = [line.split("  ")[1] for line in START.splitlines() if line.startswith("  python")]
    assert len(commands) == 3
    for command in commands:
        name, *rest = shlex.split(command)[3:]
        assert name in COMMANDS
        assert not rest or name != "derive" or derive(rest[0]).ok
