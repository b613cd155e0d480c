"""`derive`: from a user's regularizer to rewards, losses and arrays; what is refused, and how."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from derivations.cli.errors import InputError
from derivations.custom.derive import derive
from derivations.custom.parser import parse_formula
from derivations.names import make_objective, parse_regularizer
from derivations.prover.symbolic import SymArray
from derivations.prover.zero_test import is_zero
from derivations.regularizers import AlphaDivergence, Regularizer

ROOT = Path(__file__).parents[2]
# formula -> its parameters, and the objective it must give
KNOWN = {
    "beta*p*log(p/q)": ({"beta": 0.5}, make_objective("dpo", beta=0.5)),
    "alpha*p*log(p)": ({"alpha": 0.5}, make_objective("maxent", alpha=0.5)),
    "beta/length*(p*log(p) - p)": ({"beta": 0.5}, make_objective("simpo", beta=0.5)),
    "beta/length*p*log(p)": ({"beta": 0.5}, make_objective("simpo-shannon", beta=0.5)),
    "-beta*q*log(p/q)": ({"beta": 0.5}, make_objective("f-dpo", beta=0.5, divergence="forward-kl")),
    "beta*(p*log(p/q) - (p + q)*log((p + q)/(2*q)))": (
        {"beta": 0.5},
        make_objective("f-dpo", beta=0.5, divergence="jensen-shannon"),
    ),
    "beta*((1 - order)*p - p**(1 - order)*q**order + order*q)/(order*(1 - order))": (
        {"beta": 0.5, "order": 0.25},
        make_objective("f-dpo", beta=0.5, divergence="alpha-divergence", order=0.25),
    ),
}


def responses(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = -rng.uniform(1, 60, (9, m))
    return reference + rng.uniform(-3, 3, (9, m)), rng.integers(1, 40, (9, m)).astype(float), reference


@pytest.mark.parametrize("formula", KNOWN)
def test_the_known_objectives_come_out_of_their_regularizers_on_numpy_and_torch(formula):
    parameters, known = KNOWN[formula]
    derivation = derive(formula)
    assert derivation.ok
    logps, lengths, references = responses(2)
    for make, tolerance in (
        (np.asarray, 1e-10),
        (torch.tensor, 1e-10),
    ):  # expm1 near 0 loses what the formula's 1 - x loses
        arrays = make(logps), {"length": make(lengths), "ref_logp": make(references)}
        ours = derivation.objective(**parameters)
        loss, expected = (o.loss(o.rewards(arrays[0], **arrays[1])) for o in (ours, known))
        np.testing.assert_allclose(np.asarray(loss), np.asarray(expected), rtol=tolerance)
    assert np.ptp(np.asarray(expected)) > 1e-4


@pytest.mark.parametrize("formula", [f for f in KNOWN if "(p + q)" not in f and "order" not in f])
def test_the_known_objectives_come_out_symbolically(formula):
    _, known = KNOWN[formula]
    derivation = derive(formula)
    logp, ref, length = [sp.symbols(f"{name}:2", real=True) for name in ("x", "y", "n")]
    parameters = {name: sp.Rational(1, 2) for name in derivation.parameters}
    arrays = SymArray(list(logp)), {"length": SymArray(list(length)), "ref_logp": SymArray(list(ref))}
    losses = [o.loss(o.rewards(arrays[0], **arrays[1])).item() for o in (derivation.objective(**parameters), known)]
    assert is_zero(losses[0] - losses[1])


@pytest.mark.parametrize(
    ("formula", "parameters", "known"),
    [
        ("beta*p*log(p/q) + alpha*p*log(p)", {"alpha": 0.3, "beta": 0.2}, parse_regularizer("entropy=0.3+kl=0.2")),
        (
            "beta*((1 - order)*p - p**(1 - order)*q**order + order*q)/(order*(1 - order))",
            {"beta": 0.5, "order": 0.25},
            AlphaDivergence(0.5, 0.25),
        ),
    ],
)
def test_a_derived_regularizer_has_the_phi_and_implicit_reward_of_the_built_in_one(formula, parameters, known):
    regularizer = derive(formula).regularizer(**parameters)
    assert isinstance(regularizer, Regularizer)
    rng = np.random.default_rng(1)
    logp, options = np.log(rng.uniform(0.01, 0.99, 20)), {"ref_logp": np.log(rng.uniform(0.01, 0.99, 20))}
    np.testing.assert_allclose(regularizer.phi(logp, **options), known.phi(logp, **options), atol=1e-12)
    reward = regularizer.phi_prime(logp, **options)
    difference = reward - known.phi_prime(logp, **options)
    np.testing.assert_allclose(difference, difference[0], atol=1e-12)  # the same constant for every response


@pytest.mark.parametrize(
    ("formula", "parameters", "known"),
    [
        ("beta*(p*log(p/q) - (p + q)*log((p + q)/(2*q)))", {"beta": 0.5}, "jensen-shannon=0.5"),
        ("-beta*q*log(p/q)", {"beta": 0.5}, "forward-kl=0.5"),
        (
            "beta*((1 - order)*p - p**(1 - order)*q**order + order*q)/(order*(1 - order))",
            {"beta": 0.5, "order": 0.25},
            "alpha-divergence:0.25=0.5",
        ),
        # the textbooks' Jensen-Shannon divergence, written as two relative entropies
        ("p*log(2*p/(p + q)) + q*log(2*q/(p + q))", {}, "jensen-shannon=1"),
    ],
)
def test_scores_and_gradients_are_right_where_probabilities_underflow(formula, parameters, known):
    reference = torch.tensor([-2000.0, -1000.0, -1e4, -5.0, -1.0], dtype=torch.float64)
    gap = torch.tensor([-1.0, 2.0, -3.0, 1.0, 0.5], dtype=torch.float64)
    slopes, scores = [], []
    for regularizer in (derive(formula).regularizer(**parameters), parse_regularizer(known)):
        logp = (reference + gap).requires_grad_()
        reward = regularizer.phi_prime(logp, ref_logp=reference)
        reward.sum().backward()
        scores.append(reward.detach().numpy())
        slopes.append(logp.grad.numpy())
    # a regularizer's s is fixed up to one constant for all responses
    np.testing.assert_allclose(scores[0] - scores[0][0], scores[1] - scores[1][0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-9)


@pytest.mark.parametrize("formula", ["p*log(p/(p + q))", "q*(q/p)**order", "q*exp(q/p)"])
def test_any_score_is_finite_at_the_log_probs_of_long_sequences(formula):
    derivation = derive(formula)
    regularizer = derivation.regularizer(**dict.fromkeys(derivation.parameters, 0.5))
    score = regularizer.implicit_reward(np.array([-1000.0, -10.0]), ref_logp=np.array([-999.0, -9.0]))
    assert np.isfinite(score).all()


@pytest.mark.parametrize(
    "formula", ["p*log(p/(p + q))", "p*log(p) + (p + q)**2", "q*exp(q/p)", "p*log(p) + p/(p + 3*q)"]
)
def test_scores_in_log_space_are_the_derivative_up_to_a_constant(formula):
    derivation = derive(formula)
    p, q = np.array([0.2, 0.5, 0.9]), np.array([0.6, 0.5, 0.3])
    score = derivation.regularizer().implicit_reward(np.log(p), ref_logp=np.log(q))
    symbols = {str(symbol): symbol for symbol in derivation.phi.free_symbols}
    slope = sp.diff(derivation.phi, symbols["p"])
    exact = [
        float(slope.subs({symbols["p"]: a, symbols.get("q", sp.Symbol("q")): b})) for a, b in zip(p, q, strict=True)
    ]
    np.testing.assert_allclose(score - score[0], np.array(exact) - exact[0], rtol=1e-12)


@pytest.mark.parametrize(
    "formula",
    [
        "-log(p) + 1000*(39/40 - p)**(length + 2)",  # not convex near p = 1
        "(10 - length)**beta*p*log(p)",  # not real for long responses
        "p*log(p) + (39/40 - p)**(alpha + 2)",  # not real for p > 0.975
    ],
)
def test_a_power_of_unknown_sign_is_never_taken_for_positive(formula):
    assert not derive(formula).ok


@pytest.mark.parametrize(
    "formula", ["p*log(p) + (p - q)**2", "p*log(p) + 1000*p", "p*2**0.5*log(p)", "-sqrt(p)", "p*log(p) - 3*p + 7"]
)
def test_good_regularizers_in_odd_clothes_are_recognized(formula):
    assert derive(formula).ok


def test_squared_hellinger_passes_as_it_is_written():
    assert derive("beta*(sqrt(p) - sqrt(q))**2").ok


@pytest.mark.parametrize("formula", ["alpha*p*log(p)*(1 + exp(-length))", "alpha*p*log(p)*log(1 + exp(beta))"])
def test_sums_of_exponentials_of_lengths_and_strengths_alone_are_numbers(formula):
    derivation = derive(formula)
    assert derivation.ok
    given = {"length": np.array([3.0, 5.0])}
    score = derivation.regularizer(**dict.fromkeys(derivation.parameters, 0.5)).implicit_reward(
        np.array([-2.0, -2.0]), **given
    )
    factor = 1 + np.exp(-given["length"]) if "length" in formula else np.log(1 + np.exp(0.5)) * np.ones(2)
    difference = score - 0.5 * factor * -2.0
    # the score is s = alpha (log p + 1) factor up to the same constant for both
    assert any(np.allclose(difference, left, rtol=1e-12) for left in (0.5 * factor, 0 * factor, 0.5 * (factor - 1)))


def test_ln_is_log_and_a_leading_minus_is_no_option():
    assert parse_formula("p*ln(p)") == parse_formula("p*log(p)")
    command = [sys.executable, "-m", "derivations", "derive", "-beta*q*log(p/q)"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "implicit reward  s = -beta q/p" in run.stdout
    assert "the objective f-dpo, divergence forward-kl" in run.stdout


@pytest.mark.parametrize(
    ("formula", "failing", "words"),
    [
        ("-alpha*p*log(p)", "strictly convex", "phi'' = -"),
        ("p", "strictly convex", "0 everywhere"),
        ("beta*q*(p/q - 1)**2/2", "slope of phi at 0", "the slope at 0 is -beta"),
        ("beta*p**3", "slope of phi at 0", "the slope at 0 is 0"),
        ("p*log(p - q)", "real and smooth", "not defined at"),
    ],
)
def test_a_condition_that_fails_is_named_with_what_follows(formula, failing, words):
    derivation = derive(formula)
    assert not derivation.ok
    condition = next(c for c in derivation.conditions if failing in c.statement)
    assert condition.holds is False
    assert words in condition.how
    assert condition.consequence


def test_what_no_procedure_decides_is_not_called_met():
    derivation = derive("p*log(p) + (p - q)**4 - (p - q)**2/4")  # convex, but not visibly
    assert not derivation.ok
    assert derivation.conditions[1].holds is None
    assert "no proof" in derivation.conditions[1].how


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("__import__('os').system('true')", "not part of a formula"),
        ("beta*(p*log(p/q)", "never closed"),
        ("beta*x*p", "unknown symbol 'x'"),
        ("lgo(p)", "did you mean 'log'"),
        ("p**1000", "exponent"),
        ("((2**64)**64)**64*p", "digits"),
        ("p*" + "(" * 300 + "1" + ")" * 300, "cannot read"),
        ("p/0", "divides by zero"),
        ("beta", "does not contain p"),
        ("p + True", "not part of a formula"),
        ("p\x00", "cannot read"),
        ("p" * 2000, "at most 1000"),
        ("(p + q + length + alpha + beta)**64", "more than"),
        ("sqrt((p - q)**2) + p*log(p)", "absolute value"),
        ("exp(exp(exp(exp(9))))*p*log(p)", "exp of"),
    ],
)
def test_malicious_or_malformed_formulas_are_refused_in_one_line(formula, words):
    with pytest.raises(InputError, match=words) as refused:
        derive(formula)
    assert "\n" not in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="pqabeltordgh()+-*/.0123456789 ,_'[]{}=:\\", max_size=30))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    try:
        answer = parse_formula(text)
    except InputError as refused:
        answer = str(refused)
    assert isinstance(answer, sp.Expr) or "\n" not in answer


def test_the_command_exits_0_1_and_2_and_its_json_is_complete():
    def run(*arguments):
        command = [sys.executable, "-m", "derivations", "derive", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    good = run("beta/length*(p*log(p) - p)", "--format", "json", "--preference", "rao-kupper")
    assert good.returncode == 0
    answer = json.loads(good.stdout)
    assert answer["ok"]
    assert answer["score"] == "beta*log(p)/length"
    assert r"\gamma" in answer["loss_latex"]
    bad = run("beta*q*(p/q - 1)**2/2")
    assert bad.returncode == 1
    assert "FAILS        the slope of phi at 0 is -oo (the slope at 0 is -beta)" in bad.stdout
    assert "so no barrier at 0" in bad.stdout
    wrong = run("__import__('os')")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
