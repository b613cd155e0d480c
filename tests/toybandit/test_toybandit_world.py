"""The worlds, the preference data and the proxies: independence of the draws, and the reward model against oracles."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from derivations.arrays import log_softmax
from derivations.preferences import bradley_terry, plackett_luce
from toybandit.bandit import World, seed_streams, shared_world, tabular_world
from toybandit.data import Rankings, draw_pairs, draw_rankings
from toybandit.proxy import fitted_proxy, linear_proxy, make_proxy, map_rewards, pairwise_accuracy, standard_errors


def test_a_seed_is_the_same_world_however_many_seeds_are_drawn_beside_it():
    few, many = seed_streams(7, 2), seed_streams(7, 5)
    world, larger = tabular_world(few), tabular_world(many)
    for name in ("gold", "ref_logp", "length"):
        assert np.array_equal(getattr(world, name), getattr(larger, name)[:2])
    pairs, more = draw_pairs(world, few, count=50), draw_pairs(larger, many, count=50)
    assert np.array_equal(pairs.chosen, more.chosen[:2])
    assert np.array_equal(fitted_proxy(pairs, few), fitted_proxy(more, many)[:2])


def test_world_data_and_prior_are_drawn_from_different_streams():
    streams = seed_streams(0, 40)
    gold = tabular_world(streams).gold
    none = np.zeros((40, 4, 1), dtype=int)
    nothing_compared = Rankings(ranked=np.stack([none, none], axis=-1), kept=none.astype(bool), arms=100)
    prior = fitted_proxy(nothing_compared, streams)
    assert prior.std() == pytest.approx(1, abs=0.02)  # 16000 draws: standard error 0.006
    assert abs(np.corrcoef(gold.ravel(), prior.ravel())[0, 1]) < 5 / np.sqrt(gold.size)
    purposes = ("world", "pairs", "prior", "samples", "held_out")
    states = {tuple(getattr(seed, purpose).generate_state(4)) for seed in streams for purpose in purposes}
    assert len(states) == len(purposes) * len(streams)


def test_the_standard_world_has_the_spread_and_knowledge_it_is_said_to_have():
    world = tabular_world(seed_streams(1, 100))
    assert world.gold.shape == (100, 4, 100)
    assert np.sum(np.exp(world.ref_logp), axis=-1) == pytest.approx(1, abs=1e-12)
    scores = world.ref_logp - world.ref_logp.mean(axis=-1, keepdims=True)
    # 40000 draws: standard errors about 0.005 and 0.003.
    assert scores.std() == pytest.approx(2, abs=0.03)
    assert np.corrcoef(scores.ravel(), world.gold.ravel())[0, 1] == pytest.approx(0.6, abs=0.02)
    assert world.length.mean(axis=-1) == pytest.approx(1)
    assert np.log(world.length).std() == pytest.approx(0.4, abs=0.02)


def test_a_world_of_mismatched_arrays_is_refused():
    with pytest.raises(ValueError, match="expected one shape"):
        World(gold=np.zeros((2, 3, 4)), ref_logp=np.zeros((2, 3, 5)), length=np.ones((2, 3, 4)))


def test_pairs_come_from_the_reference_and_labels_from_gold_bradley_terry():
    streams = seed_streams(3, 30)
    world = tabular_world(streams, prompts=2, arms=4)
    pairs = draw_pairs(world, streams, count=2000)
    ref = np.exp(world.ref_logp)
    # The mean over pairs of a function of (chosen, rejected) against the exact sum over all pairs of arms.
    wins = pairs.wins() / 2000
    prefers = np.exp(bradley_terry(world.gold[..., :, None], world.gold[..., None, :]))
    expected = 2 * ref[..., :, None] * ref[..., None, :] * prefers * (1 - np.eye(4))
    deviation = (wins - expected) / np.sqrt(np.maximum(expected, 1e-9) / 2000)
    likely = expected > 0.01
    assert abs(deviation[likely].mean()) < 0.2
    assert deviation[likely].std() < 1.1


def test_wins_and_comparisons_count_the_kept_pairs_and_nothing_else():
    pairs = Rankings(
        ranked=np.stack([np.array([[[0, 0, 2, 1]]]), np.array([[[1, 1, 2, 0]]])], axis=-1),
        kept=np.array([[[True, True, False, True]]]),
        arms=3,
    )
    assert pairs.wins().tolist() == [[[[0, 2, 0], [1, 0, 0], [0, 0, 0]]]]
    assert pairs.comparisons().tolist() == [[[3, 3, 0]]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1.0, 30.0]), count=st.sampled_from([0, 1, 40, 5000]))
def test_the_reward_model_is_the_minimum_that_an_independent_solver_finds(seed, scale, count):
    rng = np.random.default_rng(seed)
    wins = rng.multinomial(count, np.full(25, 1 / 25)).reshape(5, 5) * (1 - np.eye(5))
    means = scale * rng.standard_normal(5)

    def objective(rewards):
        likelihood = bradley_terry(rewards[:, None], rewards[None, :])
        return -np.sum(wins * likelihood) + np.sum((rewards - means) ** 2) / 2

    found = map_rewards(wins, means)
    for i in range(5):  # gradient at the solution, by central differences of the objective itself
        step = 1e-5 * np.eye(5)[i]
        slope = (objective(found + step) - objective(found - step)) / 2e-5
        assert abs(slope) < 1e-5 * (1 + abs(objective(found)))  # round-off of the difference quotient
    start = np.zeros(5)
    assert found == pytest.approx(minimize(objective, start, method="BFGS").x, abs=1e-3)


def test_an_arm_without_comparisons_keeps_its_prior_and_a_compared_one_moves():
    wins = np.zeros((3, 3))
    wins[0, 1] = 10
    rewards = map_rewards(wins, np.array([0.0, 0.0, 0.7]))
    assert rewards[2] == 0.7
    assert rewards[0] == pytest.approx(-rewards[1])
    assert rewards[0] == pytest.approx(10 / (1 + np.exp(2 * rewards[0])), abs=1e-9)  # stationarity, by hand


def test_the_pessimistic_prior_shrinks_to_zero_off_the_data():
    streams = seed_streams(0, 3)
    world = tabular_world(streams)
    pairs = draw_pairs(world, streams, count=300)
    unseen = pairs.comparisons() == 0
    assert unseen.any()
    assert np.all(fitted_proxy(pairs, streams, prior_scale=0.0)[unseen] == 0)
    assert np.std(fitted_proxy(pairs, streams, prior_scale=1.0)[unseen]) > 0.5


def test_the_exact_proxy_is_the_gold_reward_and_an_unknown_one_is_refused():
    streams = seed_streams(0, 2)
    world = tabular_world(streams)
    pairs = draw_pairs(world, streams, count=5)
    assert make_proxy("exact", world, pairs, streams, prior_scale=1.0) is world.gold
    with pytest.raises(ValueError, match="unknown proxy 'gold'"):
        make_proxy("gold", world, pairs, streams, prior_scale=1.0)


def test_the_standard_reward_model_is_as_accurate_as_reward_models_are():
    streams = seed_streams(0, 50)
    world = tabular_world(streams)
    proxy = fitted_proxy(draw_pairs(world, streams, count=300), streams)
    assert 0.64 <= pairwise_accuracy(world, proxy).mean() <= 0.69


def test_pairwise_accuracy_is_the_share_of_freshly_drawn_labels_the_proxy_gets_right():
    streams = seed_streams(5, 1)
    world = tabular_world(streams, prompts=1, arms=5)
    proxy = np.array([[[0.0, 1.0, 1.0, -1.0, 2.0]]])  # one tie
    fresh = draw_pairs(world, seed_streams(6, 1), count=200_000)
    chosen, rejected = fresh.chosen[fresh.kept], fresh.rejected[fresh.kept]
    right = (1 + np.sign(proxy[0, 0, chosen] - proxy[0, 0, rejected])) / 2
    assert pairwise_accuracy(world, proxy)[0] == pytest.approx(right.mean(), abs=4 * right.std() / np.sqrt(right.size))
    assert pairwise_accuracy(world, np.zeros_like(proxy))[0] == pytest.approx(0.5)


def test_log_softmax_is_normalized_for_logits_of_any_size():
    assert np.exp(log_softmax(np.array([1e4, 1e4 - 1, -1e4]))).sum() == pytest.approx(1)


def test_rankings_have_the_plackett_luce_law_and_drop_repeated_arms():
    streams = seed_streams(3, 1)
    world = tabular_world(streams, prompts=1, arms=3)
    data = draw_rankings(world, streams, count=60_000, responses=3)
    kept = data.ranked[data.kept]
    assert np.all(np.sort(kept, axis=-1) == np.arange(3))  # of three arms, every kept ranking holds each once
    for order in itertools.permutations(range(3)):
        expected = np.exp(plackett_luce(world.gold[0, 0][list(order)]))
        share = np.mean(np.all(kept == order, axis=-1))
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / len(kept)))


def test_wins_of_a_ranking_are_those_of_all_its_pairs():
    data = Rankings(ranked=np.array([[[[2, 0, 1]]]]), kept=np.array([[[True]]]), arms=3)
    assert data.wins()[0, 0].tolist() == [[0, 1, 0], [0, 0, 0], [1, 1, 0]]
    assert data.comparisons().tolist() == [[[2, 2, 2]]]


def test_a_data_set_without_a_single_pair_is_refused():
    sure = World(gold=np.zeros((1, 1, 2)), ref_logp=np.array([[[-1e-12, -40.0]]]), length=np.ones((1, 1, 2)))
    with pytest.raises(ValueError, match="has no preference pair"):
        draw_pairs(sure, seed_streams(0, 1), count=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": np.array([[[0.0, np.nan]]])}, "gold has NaN"),
        ({"ref_logp": np.array([[[0.0, -np.inf]]])}, "a probability above 0"),
        ({"length": np.array([[[1.0, 0.0]]])}, "positive length"),
        ({name: np.zeros((1, 1, 1)) for name in ("gold", "ref_logp", "length")}, "a world of 1 arm"),
    ],
)
def test_a_world_that_cannot_be_one_is_refused(change, message):
    arrays = {"gold": np.zeros((1, 1, 2)), "ref_logp": np.log([[[0.5, 0.5]]]), "length": np.ones((1, 1, 2))}
    with pytest.raises(ValueError, match=message):
        World(**arrays | change)


def test_the_shared_world_hides_its_quadratic_cost_from_the_reference():
    streams = seed_streams(0, 30)
    world, control = shared_world(streams), shared_world(streams, quad=0.0)
    hidden = (world.features[..., :8] ** 2).sum(axis=-1)
    assert world.gold == pytest.approx(control.gold - (hidden - 8) / 4)
    assert np.array_equal(world.ref_logp, control.ref_logp)
    under_reference = np.sum(np.exp(world.ref_logp) * hidden, axis=-1).mean()
    assert under_reference < 0.4 * hidden.mean()
    assert control.gold.std() == pytest.approx(1, abs=0.3)  # 30 draws of |w|, sd of the mean of |w|^2 about 0.06


def test_the_linear_reward_model_is_the_ridge_minimum_that_an_independent_solver_finds():
    streams = seed_streams(2, 1)
    world = shared_world(streams, prompts=3, arms=20)
    pairs = draw_pairs(world, streams, count=40)

    def objective(theta):
        rewards = world.features[0] @ theta
        likelihood = bradley_terry(rewards[:, :, None], rewards[:, None, :])
        return -np.sum(pairs.wins()[0] * likelihood) + 0.3 * theta @ theta / 2

    best = minimize(objective, np.zeros(16), method="BFGS").x
    assert linear_proxy(world, pairs)[0] == pytest.approx(world.features[0] @ best, abs=1e-3)
    assert np.abs(best).max() > 0.1


def test_standard_errors_shrink_with_data_and_are_the_prior_s_without():
    wins = np.zeros((3, 3))
    wins[0, 1] = wins[1, 0] = 10
    errors = standard_errors(wins, np.zeros(3))
    assert errors[2] == pytest.approx(1)  # never compared: the prior's standard deviation
    # Two arms, 20 comparisons at equal rewards: information 20/4 on the difference, prior 1 on each.
    assert errors[0] ** 2 == pytest.approx((1 + 5) / (1 + 10))


def test_noisy_proxies_are_gold_plus_noise_independent_of_it():
    streams = seed_streams(0, 40)
    world = tabular_world(streams)
    pairs = draw_pairs(world, streams, count=5)
    for name in ("iid", "heavy-tailed"):
        noise = make_proxy(name, world, pairs, streams, noise=0.5) - world.gold
        assert np.array_equal(make_proxy(name, world, pairs, streams, noise=0.0), world.gold)
        assert np.median(np.abs(noise)) == pytest.approx(
            {"iid": 0.5 * 0.6745, "heavy-tailed": 0.5 * 0.8165}[name], abs=0.01
        )
        assert abs(np.corrcoef(np.sign(noise).ravel(), world.gold.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


def test_pessimism_takes_standard_errors_off_and_needs_a_fitted_proxy():
    streams = seed_streams(0, 2)
    world = tabular_world(streams)
    pairs = draw_pairs(world, streams, count=50)
    plain, careful = (make_proxy("fitted", world, pairs, streams, pessimism=c) for c in (0.0, 2.0))
    assert plain - careful == pytest.approx(2 * standard_errors(pairs.wins(), plain))
    with pytest.raises(ValueError, match="pessimism needs"):
        make_proxy("iid", world, pairs, streams, pessimism=1.0)
