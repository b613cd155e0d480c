"""Sequence level against token level on the token tree, where everything can be enumerated."""

import numpy as np
import pytest

from derivations.arrays import log_softmax
from derivations.regularizers import Entropy
from derivations.tokens import token_entropy
from toybandit.bandit import seed_streams
from toybandit.optimum import optimum
from toybandit.tree import (
    LENGTHS,
    PATHS,
    PREFIXES,
    RESPONSES,
    VISITS,
    entropy,
    entropy_gradients,
    pull_back,
    sequence_logp,
    soft_values,
    token_logits,
    tree_world,
)


def theta(seed=0):
    return np.random.default_rng(seed).normal(size=(len(PREFIXES), 3))


def slope(function, point):
    """Central differences in every parameter."""
    found = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        step = np.zeros_like(point)
        step[place] = 1e-5
        found[place] = (function(point + step) - function(point - step)) / 2e-5
    return found


def test_the_tree_has_15_prefixes_and_31_responses_that_end_in_0_or_are_4_long():
    assert (len(PREFIXES), len(RESPONSES), len(set(RESPONSES))) == (15, 31, 31)
    for response, length in zip(RESPONSES, LENGTHS, strict=True):
        assert len(response) == length
        assert 0 not in response[:-1]
        assert response[-1] == 0 or len(response) == 4


def test_responses_of_any_policy_have_probability_1_together_and_the_product_of_their_tokens_each():
    logp, token = sequence_logp(theta()), log_softmax(theta())
    assert np.exp(logp).sum() == pytest.approx(1, abs=1e-14)
    for response, value in zip(RESPONSES, logp, strict=True):
        expected = sum(token[PREFIXES.index(response[:n]), t] for n, t in enumerate(response))
        assert value == pytest.approx(expected, abs=1e-13)


def test_every_distribution_over_responses_is_a_policy_of_the_tree():
    logp = log_softmax(2 * np.random.default_rng(1).normal(size=(2, 31)))
    assert sequence_logp(token_logits(logp)) == pytest.approx(logp, abs=1e-12)


def test_the_entropy_of_a_response_is_the_expected_sum_of_its_token_entropy():
    visited = np.exp(sequence_logp(theta())) @ VISITS
    assert entropy(theta()) == pytest.approx(visited @ token_entropy(theta()), abs=1e-13)
    assert entropy(theta()) > 1


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0])
def test_the_maxent_optimum_is_the_sum_of_soft_advantages_of_its_tokens(alpha):
    reward = np.random.default_rng(2).normal(size=(2, 31))
    q, v = soft_values(reward, alpha=alpha)
    logp = optimum(reward, regularizer=Entropy(alpha))
    assert np.einsum("...nv,ynv->...y", (q - v[..., None]) / alpha, PATHS) == pytest.approx(logp, abs=1e-11)
    assert v[..., 0] == pytest.approx(alpha * np.log(np.exp(reward / alpha).sum(axis=-1)), rel=1e-12)


def test_pull_back_is_the_slope_of_weighted_log_probs():
    weights = np.random.default_rng(3).normal(size=31)
    expected = slope(lambda t: weights @ sequence_logp(t), theta())
    assert pull_back(theta(), weights) == pytest.approx(expected, abs=1e-8)


def test_only_the_exact_entropy_bonus_has_the_gradient_of_the_entropy():
    found = entropy_gradients(theta())
    truth = slope(entropy, theta())
    assert found["exact"] == pytest.approx(truth, abs=1e-8)
    assert found["sampled log-prob"] == pytest.approx(np.zeros_like(truth), abs=1e-14)
    # Token entropies summed along a sampled sequence: right where no choice of token changes what follows,
    held = np.exp(sequence_logp(theta())) @ VISITS  # prefix probabilities, held fixed while differentiating
    expected = slope(lambda t: held @ token_entropy(t), theta())
    assert found["summed token entropies"] == pytest.approx(expected, abs=1e-8)
    # so wrong at every prefix that is not of the last level, and right at those.
    wrong = np.abs(found["summed token entropies"] - truth).max(axis=-1)
    last = np.array([len(prefix) == 3 for prefix in PREFIXES])
    assert wrong[last] == pytest.approx(0, abs=1e-8)
    assert np.all(wrong[~last] > 1e-3)


def test_the_tree_world_is_the_tabular_world_on_its_responses():
    world = tree_world(seed_streams(0, 60))
    assert world.gold.shape == (60, 4, 31)
    assert np.exp(world.ref_logp).sum(axis=-1) == pytest.approx(1, abs=1e-12)
    scores = world.ref_logp - world.ref_logp.mean(axis=-1, keepdims=True)
    assert np.corrcoef(scores.ravel(), world.gold.ravel())[0, 1] == pytest.approx(0.6, abs=0.05)
    assert np.array_equal(world.length[3, 2], LENGTHS)
    few = tree_world(seed_streams(0, 5))
    assert np.array_equal(few.gold, world.gold[:5])
