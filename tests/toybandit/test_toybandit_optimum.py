"""The exact optimum against a generic convex solver, against closed forms, and against the theorem itself."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, minimize

from derivations.arrays import log_softmax
from derivations.names import parse_regularizer
from derivations.regularizers import KL, NONE, REGULARIZERS, Entropy
from toybandit.optimum import is_affine, optimum

EVERY = [
    *(f"{name}=0.7" for name in REGULARIZERS),
    "alpha-divergence:0.2=0.4",
    "entropy=0.5+kl=0.1",
    "entropy=0.2+forward-kl=0.3",
    "length-normalized=0.3+jensen-shannon=0.5",
]


def case(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), {
        "length": rng.uniform(0.3, 3, size=shape),
        "ref_logp": log_softmax(rng.normal(size=shape)),
    }


@pytest.mark.parametrize("text", EVERY)
def test_it_is_the_maximum_that_a_generic_convex_solver_finds_on_the_simplex(text):
    reward, options = case(3, 5)
    regularizer = parse_regularizer(text)

    def loss(policy):  # written with phi; the solver knows neither s nor the multiplier
        return np.sum(regularizer.phi(np.log(policy), **options)) - policy @ reward

    solved = minimize(
        loss,
        np.full(5, 0.2),
        jac="3-point",
        method="trust-constr",
        bounds=Bounds(1e-9, 1, keep_feasible=True),
        constraints=LinearConstraint(np.ones(5), 1, 1),
        options={"gtol": 1e-10, "xtol": 1e-14, "barrier_tol": 1e-12, "maxiter": 3000},
    )
    found = np.exp(optimum(reward, regularizer=regularizer, **options))
    assert found == pytest.approx(solved.x, abs=1e-6)
    assert np.abs(found - 0.2).max() > 0.05


@pytest.mark.parametrize("text", EVERY)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_reward_minus_implicit_reward_is_one_number_a_prompt(text, seed, scale):
    reward, options = case(seed, 3, 2, 8)
    regularizer = parse_regularizer(text)
    logp = optimum(scale * reward, regularizer=regularizer, **options)
    assert np.exp(logp).sum(axis=-1) == pytest.approx(1, abs=1e-12)
    multiplier = scale * reward - regularizer.phi_prime(logp, **options)
    spread = np.ptp(multiplier, axis=-1)
    # MASS_ERROR of 1e-10 is relative to a probability; s amplifies it by its own size for the f-divergences
    assert np.all(spread <= 1e-6 * (1 + np.abs(multiplier).max()))


@pytest.mark.parametrize(
    ("text", "alpha", "beta"), [("entropy=0.7", 0.7, 0), ("kl=0.3", 0, 0.3), ("entropy=0.5+kl=0.1", 0.5, 0.1)]
)
def test_entropy_and_kl_have_the_softmax_as_closed_form_and_as_solution_of_the_multiplier_equation(text, alpha, beta):
    reward, options = case(0, 4, 6)
    closed = log_softmax((reward + beta * options["ref_logp"]) / (alpha + beta))
    assert optimum(reward, regularizer=parse_regularizer(text), **options) == pytest.approx(closed, abs=1e-12)
    # a vanishing f-divergence takes the general road and must arrive at the same place
    general = parse_regularizer(f"{text}+forward-kl=1e-13")
    assert not is_affine(general)
    assert optimum(reward, regularizer=general, **options) == pytest.approx(closed, abs=1e-8)


def test_length_normalized_affine_inversion_agrees_with_the_general_road():
    reward, options = case(1, 4, 6)
    affine = optimum(reward, regularizer=parse_regularizer("length-normalized=0.4"), **options)
    general = optimum(reward, regularizer=parse_regularizer("length-normalized=0.4+forward-kl=1e-13"), **options)
    assert general == pytest.approx(affine, abs=1e-8)


def test_an_array_of_strengths_is_as_many_optima():
    reward, options = case(2, 2, 3, 5)
    strengths = np.array([0.2, 1.0]).reshape(2, 1, 1, 1)
    together = optimum(reward, regularizer=KL(strengths), **options)
    for i, strength in enumerate(strengths.ravel()):
        assert together[i] == pytest.approx(optimum(reward, regularizer=KL(float(strength)), **options), abs=1e-12)


def test_affine_regularizers_are_recognized():
    assert [name for name in REGULARIZERS if is_affine(parse_regularizer(f"{name}=0.5"))] == [
        "entropy", "kl", "length-normalized", "length-normalized-shannon",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("regularizer", "reward", "message"),
    [
        (NONE, [0.0, 1.0], "no barrier"),
        (Entropy(0.0), [0.0, 1.0], "coefficient > 0"),
        (Entropy(1.0), [0.0, np.nan], "NaN or infinite"),
    ],
)
def test_where_there_is_no_optimum_it_says_why(regularizer, reward, message):
    with pytest.raises(ValueError, match=message):
        optimum(np.array(reward), regularizer=regularizer)


def exact_optimum(inverse, reward, ref_logp, beta):
    """p = q u(r - lambda) with the multiplier by bisection in 300 digits: float64 [arms]. inverse: s -> u, at beta."""
    with mpmath.workdps(300):
        r, q = [mpmath.mpf(x) for x in reward], [mpmath.exp(mpmath.mpf(t)) for t in ref_logp]
        low, high = max(r) - inverse.top * beta, max(r) + 100
        for _ in range(1000):
            middle = (low + high) / 2
            mass = sum(a * inverse((x - middle) / beta) for a, x in zip(q, r, strict=True))
            low, high = (middle, high) if mass > 1 else (low, middle)
        return np.array([float(a * inverse((x - high) / beta)) for a, x in zip(q, r, strict=True)])


def forward_kl(s):  # s = -1/u
    return -1 / s


def jensen_shannon(s):  # s = log(2u / (1 + u))
    return mpmath.exp(s) / (2 - mpmath.exp(s))


def half_order(s):  # s = 2 (1 - u^(-1/2))
    return (1 - s / 2) ** -2


forward_kl.top, jensen_shannon.top, half_order.top = 0, mpmath.log(2), 2


@pytest.mark.parametrize(
    ("text", "inverse"),
    [("forward-kl=0.5", forward_kl), ("jensen-shannon=0.5", jensen_shannon), ("alpha-divergence:0.5=0.5", half_order)],
)
@pytest.mark.parametrize("t", [-2.0, -30.0, -37.0, -40.0, -100.0, -600.0])
def test_an_arm_that_the_reference_all_but_excludes_gets_what_300_digits_give_it(text, inverse, t):
    reward, ref_logp = np.array([0.0, 0.3, 1.0]), np.array([np.log(0.5), np.log(0.5), t])
    with mpmath.workdps(300):
        inverse.top = mpmath.log(2) if inverse is jensen_shannon else inverse.top
    expected = exact_optimum(inverse, reward, ref_logp, 0.5)
    found = np.exp(optimum(reward, regularizer=parse_regularizer(text), ref_logp=ref_logp))
    assert found == pytest.approx(expected, abs=1e-9)  # MASS_ERROR is 1e-10


def test_an_optimum_nearer_to_its_bound_than_floats_reach_is_an_error_and_no_wrong_policy():
    with pytest.raises(ValueError, match="raise the coefficient"):
        optimum(np.array([0.0, 1.0]), regularizer=parse_regularizer("forward-kl=0.5"), ref_logp=np.array([0.0, -690.0]))


@pytest.mark.parametrize("text", EVERY)
def test_the_score_below_its_top_is_the_score_up_to_one_constant(text):
    _, options = case(4, 3, 6)
    regularizer, logp = parse_regularizer(text), log_softmax(np.random.default_rng(1).normal(size=(3, 6)))
    difference = regularizer.implicit_reward(logp, **options) - regularizer.below_top(logp, **options)
    assert np.ptp(difference) == pytest.approx(0, abs=1e-13)
