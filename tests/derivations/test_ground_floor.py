"""The formulas: one function on NumPy, torch and SymPy, finite everywhere, in value and gradient."""

import inspect

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from derivations import preference_losses, preference_slopes
from derivations.arrays import log_sigmoid, logsumexp, masked_sum
from derivations.names import OBJECTIVES, make_objective, parse_regularizer
from derivations.objectives import Objective, pair_loss, preference_metrics, rloo_advantage
from derivations.preferences import plackett_luce, rao_kupper, rao_kupper_tie
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.published import PUBLISHED, SCORES, make_published
from derivations.regularizers import KL, NONE, REGULARIZERS, Entropy, Sum

mpmath.mp.dps = 50
EXTREMES = [-1e4, -745.0, -104.0, -30.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 30.0, 104.0, 1e4]


EXAMPLES = {"gamma": 0.5, "label_smoothing": 0.125, "divergence": "jensen-shannon", "top": 1}


def objective_by_name(name: str) -> Objective:
    recipe = OBJECTIVES[name]
    return make_objective(name, **{recipe.strength: 1.5}, **{k: v for k, v in EXAMPLES.items() if k in recipe.options})


def responses(m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return -rng.uniform(0.1, 60, (7, m)), rng.integers(1, 40, (7, m)).astype(float), -rng.uniform(0.1, 60, (7, m))


def test_log_sigmoid_and_its_gradient_match_50_digits_at_extreme_arguments_in_float32():
    x = torch.tensor(EXTREMES, requires_grad=True)
    value = log_sigmoid(x)
    value.sum().backward()
    for i, at in enumerate(EXTREMES):
        at = float(np.float32(at))
        exact = -mpmath.log1p(mpmath.exp(-at))
        slope = 1 / (1 + mpmath.exp(at))
        # 4 units in the last place of float32; below 1e-38 float32 has nothing but 0
        assert value[i].item() == pytest.approx(float(exact), rel=5e-7, abs=1e-38)
        assert x.grad[i].item() == pytest.approx(float(slope), rel=5e-7, abs=1e-38)
    # two libraries' exp and log1p may each round once
    np.testing.assert_allclose(log_sigmoid(np.array(EXTREMES, "f4")), value.detach().numpy(), rtol=3e-7)


def test_logsumexp_and_its_gradient_match_50_digits_and_treat_minus_infinity_as_probability_zero():
    rows = [[-1e4, -1e4 + 1, 3.0], [1e4, 1e4, -1e4], [-1.0, -float("inf"), 2.0]]
    x = torch.tensor(rows, requires_grad=True)
    value = logsumexp(x)
    value.sum().backward()
    for row, got, slopes in zip(rows, value, x.grad, strict=True):
        exact = mpmath.log(sum(mpmath.exp(float(np.float32(a))) for a in row))
        assert got.item() == pytest.approx(float(exact), rel=2e-7)
        expected = [float(mpmath.exp(float(np.float32(a)) - exact)) for a in row]
        np.testing.assert_allclose(slopes.numpy(), expected, rtol=1e-6, atol=1e-38)
    assert logsumexp(torch.full((2, 3), -torch.inf)).tolist() == [-np.inf, -np.inf]


def test_masked_sum_never_reads_what_is_masked():
    x = torch.tensor([1.0, float("nan"), float("inf"), 2.0], requires_grad=True)
    mask = torch.tensor([True, False, False, True])
    total = masked_sum(x, mask)
    total.backward()
    assert total.item() == 3.0
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]
    a, b = sp.symbols("a b")
    assert masked_sum(SymArray([a, b]), np.array([False, True])).item() == b


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_the_same_number_through_sympy_numpy_and_torch(name):
    objective = objective_by_name(name)
    m = 3 if objective.listwise else 2
    logps, lengths, references = responses(m, np.random.default_rng(0))

    def loss(make):
        arrays = [make(a) for a in (logps, lengths, references)]
        return objective.loss(objective.rewards(arrays[0], length=arrays[1], ref_logp=arrays[2]))

    by_numpy = loss(np.asarray)
    by_torch = loss(torch.tensor)
    by_sympy = [float(sp.N(e, 50)) for e in loss(lambda a: SymArray([[sp.Rational(x) for x in r] for r in a])).values]
    assert np.ptp(by_numpy) > 0.1  # not a comparison of zeros
    np.testing.assert_allclose(by_numpy, by_sympy, rtol=1e-12, atol=1e-14)  # rewards of 60 leave 1e-14 in a small loss
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=1e-14)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_finite_in_float32_with_finite_gradients_at_extreme_logps(name):
    objective = objective_by_name(name)
    m = 3 if objective.listwise else 2
    extremes = torch.cartesian_prod(*[torch.tensor([-1e4, -500.0, -1e-3])] * m).clone().requires_grad_()
    lengths, references = torch.ones_like(extremes), torch.full_like(extremes, -20.0)
    loss = objective.loss(objective.rewards(extremes, length=lengths, ref_logp=references))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(extremes.grad).all()
    assert loss.max() > 1e3  # the huge wrong margin is linear, not saturated


@pytest.mark.parametrize("name", OBJECTIVES)
def test_autograd_of_every_objective_is_the_symbolic_derivative(name):
    objective = objective_by_name(name)
    m = 3 if objective.listwise else 2
    logps, lengths, references = (a[:2] for a in responses(m, np.random.default_rng(1)))
    x = torch.tensor(logps, requires_grad=True)
    rewards = objective.rewards(x, length=torch.tensor(lengths), ref_logp=torch.tensor(references))
    objective.loss(rewards).sum().backward()
    symbols = sp.symbols(f"x:{m}", real=True)
    for row in range(2):
        exact = [[sp.Rational(v) for v in a[row]] for a in (lengths, references)]
        formula = trace(
            lambda s: objective.loss(objective.rewards(s, length=SymArray(exact[0]), ref_logp=SymArray(exact[1]))),  # noqa: B023
            list(symbols),
        )
        at = dict(zip(symbols, map(sp.Rational, logps[row]), strict=True))
        slopes = [float(sp.N(sp.diff(formula, s).subs(at), 50)) for s in symbols]
        np.testing.assert_allclose(x.grad[row].numpy(), slopes, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("regularizer", [*(cls(0.7) for cls in REGULARIZERS.values()), Entropy(0.3) + KL(0.2)])
def test_implicit_reward_is_the_derivative_of_phi_by_finite_differences(regularizer):
    rng = np.random.default_rng(2)
    p, q, length = rng.uniform(0.05, 0.9, 20), rng.uniform(0.05, 0.9, 20), rng.integers(1, 9, 20).astype(float)
    options = {"length": length, "ref_logp": np.log(q)}
    h = 1e-5
    slope = (regularizer.phi(np.log(p + h), **options) - regularizer.phi(np.log(p - h), **options)) / (2 * h)
    # central differences: error h^2 phi'''/6 + 1e-16/h, below 1e-7 at these p
    np.testing.assert_allclose(regularizer.phi_prime(np.log(p), **options), slope, atol=1e-6)


def test_rao_kupper_probabilities_sum_to_one_and_the_tie_is_finite_for_huge_rewards():
    first, second = np.array([0.3, 1e4, -2.0]), np.array([-1.0, -1e4, -2.0])
    for gamma in (1e-3, 0.5, 30.0):
        win, loss = rao_kupper(first, second, gamma=gamma), rao_kupper(second, first, gamma=gamma)
        tie = rao_kupper_tie(first, second, gamma=gamma)
        assert np.isfinite(tie).all()
        np.testing.assert_allclose(np.exp(win) + np.exp(loss) + np.exp(tie), 1, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.floats(-50, 50))
def test_plackett_luce_does_not_see_a_shift_and_is_a_log_probability(rewards, shift):
    s = np.array(rewards)
    value = plackett_luce(s)
    assert value <= 1e-12
    assert plackett_luce(s + shift) == pytest.approx(value, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=2, max_size=8), st.floats(-9, 9))
def test_rloo_advantages_sum_to_zero_and_ignore_a_constant_reward(rewards, shift):
    r = np.array(rewards)
    advantage = rloo_advantage(r)
    assert abs(advantage.sum()) < 1e-9
    np.testing.assert_allclose(rloo_advantage(r + shift), advantage, atol=1e-9)
    np.testing.assert_allclose(advantage[0], r[0] - np.mean(r[1:]), atol=1e-9)


PAIR = {name: st.floats(-6, -0.05) for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")}
PAIR |= {"chosen_length": st.floats(0.2, 9), "rejected_length": st.floats(0.2, 9), "beta": st.floats(0.1, 2)}


def published_batch(drawn, options):
    """Log-probs, lengths and references [1, 2] of the drawn pair, and its options."""
    logp, ref = ([[drawn[f"{side}{end}"] for end in ("chosen", "rejected")]] for side in ("", "ref_"))
    length = [[drawn["chosen_length"], drawn["rejected_length"]]]
    return np.array(logp), {"length": np.array(length), "ref_logp": np.array(ref)}, options | {"beta": drawn["beta"]}


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=60, deadline=None)
@given(drawn=st.fixed_dictionaries(PAIR), other=st.floats(0, 3))
def test_slopes_of_published_losses_are_central_differences_of_the_loss_with_its_weight_held(name, drawn, other):
    extra = {"dpop": {"penalty": other}, "r-dpo": {"alpha": other}}.get(name, {})
    logp, given, options = published_batch(drawn, extra)
    objective, h = make_published(name, **options), 1e-5
    log_ratio = logp - given["ref_logp"]
    corner = {"dpop": log_ratio[0, 0], "slic": 1 - drawn["beta"] * (log_ratio[0, 0] - log_ratio[0, 1])}
    assume(abs(corner.get(name, 1)) > 1e-3)  # differences across a corner are no slope

    def weight(at):
        return np.exp(np.sum(at / given["length"])) if name == "wpo" else 1.0

    found = objective.slopes(logp, **given)[0]
    for i, step in enumerate(h * np.eye(2)):
        high, low = (objective.losses(at, **given)[0] / weight(at) for at in (logp + step, logp - step))
        # error h^2/6 times the third derivative, which is largest where a response is nearly certain (orpo)
        assert found[i] == pytest.approx((high - low) / (2 * h) * weight(logp), rel=1e-5, abs=1e-7)


def test_on_corners_and_at_certainty_the_slopes_are_those_of_autograd_and_finite():
    # at the reference, where training starts, the penalty of dpop has its corner; the hinge has one at a margin of 1
    cases = {"dpop": ((-2.0, -3.0), (-2.0, -1.0)), "slic": ((-1.0, -4.0), (-2.0, -3.0)), "orpo": ((-0.0, -1.0),) * 2}
    for name, (logp, ref) in cases.items():
        objective, given = make_published(name, beta=0.5), {"length": np.ones((1, 2)), "ref_logp": np.array([ref])}
        x = torch.tensor([logp], dtype=torch.float64, requires_grad=True)
        objective.losses(x, **{key: torch.tensor(value) for key, value in given.items()}).sum().backward()
        found = objective.slopes(np.array([logp]), **given)
        np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-12)
        assert np.abs(found).max() > 0.1
    assert make_published("orpo").slopes(np.array([[-1.0, 0.0]]), **given).tolist()[0][1] == 0  # its odds are held


@settings(max_examples=20, deadline=None)
@given(drawn=st.fixed_dictionaries(PAIR))
def test_the_losses_that_have_an_implicit_reward_are_its_likelihood(drawn):
    for name in SCORES:
        logp, given, options = published_batch(drawn, {"alpha": 0.7} if name == "r-dpo" else {})
        objective = make_published(name, **options)
        rewards = objective.rewards(logp, **given)
        assert pair_loss(rewards[:, 0], rewards[:, 1]) == pytest.approx(objective.losses(logp, **given), rel=1e-12)
    assert set(SCORES) == {"chi-po", "r-dpo", "ln-dpo"}


def test_every_published_loss_has_a_slope_that_takes_the_same_arguments():
    for function in (*PUBLISHED.values(), preference_losses.kto):
        assert getattr(preference_losses, function.__name__) is function
        slope = getattr(preference_slopes, function.__name__)
        assert inspect.signature(slope).parameters == inspect.signature(function).parameters


def test_accuracy_counts_ties_as_one_half():
    chosen, rejected = np.array([2.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0])
    metrics = preference_metrics(chosen, rejected, chosen, rejected)
    assert metrics["rewards/accuracies"].tolist() == [1.0, 0.5, 0.0]


def test_a_sum_of_regularizers_adds_up_and_the_empty_one_is_none():
    logp, ref = np.log([0.2, 0.5]), np.log([0.4, 0.1])
    both = parse_regularizer("entropy=0.5+kl=0.1")
    expected = Entropy(0.5).phi(logp) + KL(0.1).phi(logp, ref_logp=ref)
    np.testing.assert_allclose(both.phi(logp, ref_logp=ref), expected)
    assert both.needs_reference
    assert not both.needs_length
    assert parse_regularizer("none") == NONE == Sum(())
    assert parse_regularizer("entropy+kl=0.1", 0.5) == Sum((Entropy(0.5), KL(0.1)))
    assert NONE.implicit_reward(logp).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: parse_regularizer("entropi=1"), "did you mean 'entropy'"),
        (lambda: parse_regularizer("kl"), "no coefficient"),
        (lambda: parse_regularizer("kl=x"), "not a number"),
        (lambda: parse_regularizer("none", 0.5), "no part takes the coefficient 0.5"),
        (lambda: parse_regularizer("entropy=0.5+kl=0.1", 1.0), "no part takes the coefficient 1.0"),
        (lambda: parse_regularizer("kl", -1.0), "expected a finite number >= 0"),
        (lambda: parse_regularizer("kl", float("nan")), "expected a finite number >= 0"),
        (lambda: make_objective("sipmo", beta=1), "did you mean 'simpo'"),
        (lambda: make_objective("dpo", beta=-1), "expected a number > 0"),
        (lambda: make_objective("dpo"), "beta is None"),
        (lambda: make_objective("dpo", beta=1, gamma=1), "takes no gamma"),
        (lambda: make_objective("maxent", beta=1), "takes no beta"),
        (lambda: make_objective("simpo", beta=1, gamma=-1), "expected a finite margin"),
        (lambda: plackett_luce(np.ones(1)), "need m >= 2"),
        (lambda: plackett_luce(np.ones(3), top=3), "1 <= top <= m - 1"),
        (lambda: rloo_advantage(np.ones((3, 1))), "needs k >= 2"),
        (lambda: objective_by_name("dpo").loss(np.ones((4, 3))), "takes pairs"),
    ],
)
def test_wrong_options_say_what_was_wrong_and_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call()
