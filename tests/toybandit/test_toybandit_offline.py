"""Offline training: gradients against autograd and finite differences, and what becomes of arms the data never saw."""

import numpy as np
import pytest

from derivations.arrays import log_softmax
from derivations.custom.derive import derive
from derivations.names import make_objective, parse_regularizer
from derivations.objectives import Objective
from tests.helpers.small_world import small
from toybandit.bandit import seed_streams, shared_world, tabular_world
from toybandit.data import Rankings, draw_pairs, draw_rankings
from toybandit.offline import (
    collect,
    default_lr,
    descend,
    loss_gradient,
)
from toybandit.online import Diverged
from toybandit.policies import make_policy
from toybandit.proxy import map_rewards

PAIRWISE = {
    "dpo": {"beta": 0.5},
    "cdpo": {"beta": 0.5, "label_smoothing": 0.2},
    "ipo": {"beta": 0.5},
    "simpo": {"beta": 0.7, "gamma": 0.4},
    "simpo-shannon": {"beta": 0.7, "label_smoothing": 0.1},
    "maxent": {"alpha": 0.5},
}
F_DPO = {name: {"beta": 0.5, "divergence": name} for name in ("kl", "forward-kl", "jensen-shannon", "alpha-divergence")}
LISTWISE = {"dpo-pl": {"beta": 0.5}, "simpo-pl": {"beta": 0.7, "top": 2}, "maxent-pl": {"alpha": 0.5}}
OBJECTIVES = [
    *(make_objective(name, **options) for name, options in PAIRWISE.items()),
    *(make_objective("f-dpo", **options) for options in F_DPO.values()),
    *(make_objective(name, **options) for name, options in LISTWISE.items()),
    make_objective("f-dpo-pl", beta=0.4, divergence="jensen-shannon"),
    Objective("sum", parse_regularizer("entropy=0.3+kl=0.2+jensen-shannon=0.1"), gamma=0.2),
    derive("0.4/length*(p*log(p) - p) + 0.2*p*log(p/q)").objective(),
    derive("0.5*p*log(p/q)", "plackett-luce").objective(),
]


def named(objective):
    return f"{objective.name} {objective.regularizer.name}"


def data_for(objective, world, streams, count=40):
    if objective.listwise:
        return draw_rankings(world, streams, count=20 * count, responses=3)  # most draws repeat an arm
    return draw_pairs(world, streams, count=count)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
def test_slopes_are_what_autograd_finds_for_the_ground_floor_s_own_functions(objective):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(20, 4 if objective.listwise else 2))
    tensor = torch.tensor(rewards, requires_grad=True)
    objective.loss(tensor).sum().backward()
    assert objective.slope(rewards) == pytest.approx(tensor.grad.numpy(), abs=1e-12)

    logp, ref_logp, length = -rng.uniform(0.1, 4, (20, 3)), -rng.uniform(0.1, 4, (20, 3)), rng.uniform(0.3, 2, (20, 3))
    tensor = torch.tensor(logp, requires_grad=True)
    given = {"length": length, "ref_logp": ref_logp}
    objective.rewards(tensor, **{k: torch.tensor(v) for k, v in given.items()}).sum().backward()
    assert objective.regularizer.slope(logp, **given) == pytest.approx(tensor.grad.numpy(), rel=1e-12)
    assert tensor.grad.min() > 0.001


@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
def test_the_gradient_is_the_slope_of_the_mean_loss_over_a_prompt_s_kept_draws(objective):
    world, streams, _ = small()
    data = data_for(objective, world, streams)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=world.gold.shape)

    def loss(logits):  # one draw at a time, from the definition
        logp, total = log_softmax(logits), 0.0
        for s, x in np.ndindex(data.kept.shape[:2]):
            kept = data.ranked[s, x][data.kept[s, x]]
            pick = [array[s, x][kept] for array in (logp, world.length, world.ref_logp)]
            total += objective.loss(objective.rewards(pick[0], length=pick[1], ref_logp=pick[2])).mean()
        return total

    found = loss_gradient(world, collect(data), objective, log_softmax(logits))
    for place in list(np.ndindex(logits.shape))[::3]:
        step = np.zeros_like(logits)
        step[place] = 1e-5
        assert found[place] == pytest.approx((loss(logits + step) - loss(logits - step)) / 2e-5, abs=1e-8)
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
def test_training_lowers_the_loss_and_the_metrics_are_those_of_the_final_policy(objective):
    world, streams, held_out = small()
    data = data_for(objective, world, streams)
    run = descend(world, data, objective=objective, held_out=held_out, steps=60, lr=0.1 * default_lr(world, objective))
    assert np.all(run.metrics["loss"][-1] < run.metrics["loss"][0])
    accuracy = []
    for s in range(2):
        shares = []
        for x in range(2):
            kept = data.ranked[s, x][data.kept[s, x]]
            pick = [array[s, x][kept] for array in (run.logp, world.length, world.ref_logp)]
            rewards = objective.rewards(pick[0], length=pick[1], ref_logp=pick[2])
            shares.append(np.mean((1 + np.sign(rewards[:, 0] - rewards[:, -1])) / 2))
        accuracy.append(np.mean(shares))
    assert run.metrics["rewards/accuracies"][-1] == pytest.approx(accuracy)


def test_early_stopping_takes_the_first_time_of_best_held_out_accuracy():
    world, streams, data = small(arms=12)
    held_out = draw_pairs(world, streams, count=60, held_out=True)
    run = descend(world, data, objective=make_objective("dpo", beta=0.1), held_out=held_out, steps=300)
    accuracy = run.metrics["eval/rewards/accuracies"]
    assert run.stopped.tolist() == accuracy.argmax(axis=0).tolist()
    assert run.at_stop("eval/rewards/accuracies") == pytest.approx(accuracy.max(axis=0))
    gold = np.sum((np.exp(run.stopped_logp) - np.exp(world.ref_logp)) * world.gold, axis=-1).mean(axis=-1)
    assert run.at_stop("gold") == pytest.approx(gold)
    assert run.stopped.max() > 0


def test_held_out_pairs_are_not_the_training_pairs():
    world, streams, data = small(arms=30, count=200)
    held_out = draw_pairs(world, streams, count=200, held_out=True)
    assert np.mean(np.all(held_out.ranked == data.ranked, axis=-1)) < 0.2


def test_an_arm_in_no_pair_keeps_its_logit_under_dpo_and_equal_lengths_and_moves_otherwise():
    streams = seed_streams(0, 4)
    world = tabular_world(streams)
    data = draw_pairs(world, streams, count=100)
    unseen = data.comparisons() == 0
    assert unseen.mean() > 0.2

    def moved(world, name):
        run = descend(world, data, objective=make_objective(name, beta=0.5), held_out=data, steps=50)
        before = np.exp(world.ref_logp)[unseen]
        return np.abs(run.logits - world.ref_logp)[unseen].max(), np.abs(np.exp(run.logp)[unseen] - before).max()

    assert moved(world, "dpo")[0] == 0
    assert moved(world.with_equal_lengths(), "simpo")[0] == 0
    assert moved(world, "dpo")[1] > 1e-4  # its mass moves with the others'
    assert moved(world, "simpo")[0] > 1e-3


def test_simpo_converges_on_the_seen_arms_to_the_maximum_likelihood_rewards_over_beta():
    # every arm of the first four beats every other at least once, so the graph is strongly connected
    rng = np.random.default_rng(0)
    ranked = np.array(
        [pair for _ in range(3) for pair in np.ndindex(4, 4) if pair[0] != pair[1] and rng.random() < 0.9]
    )
    data = Rankings(ranked[None, None], np.ones((1, 1, len(ranked)), dtype=bool), 6)
    world = tabular_world(seed_streams(0, 1), prompts=1, arms=6).with_equal_lengths()
    beta = 0.5
    run = descend(world, data, objective=make_objective("simpo", beta=beta), held_out=data, steps=4000)
    likely = map_rewards(data.wins()[0, 0][:4, :4], np.zeros(4), precision=1e-9)
    assert log_softmax(run.logp[0, 0, :4]) == pytest.approx(log_softmax(likely / beta), abs=1e-6)
    assert np.ptp(likely) > 0.1
    # logits on S sum to what they began with, so the unseen mass is known too
    logits = likely / beta - np.mean(likely / beta) + world.ref_logp[0, 0, :4].mean()
    whole = log_softmax(np.concatenate([logits, world.ref_logp[0, 0, 4:]]))
    assert run.logp[0, 0] == pytest.approx(whole, abs=1e-6)


def test_shared_parameters_follow_the_slope_of_the_loss_too():
    streams = seed_streams(1, 1)
    world = shared_world(streams, prompts=2, arms=10)
    data, objective = draw_pairs(world, streams, count=30), make_objective("simpo", beta=0.5)
    policy, examples = make_policy(world, np.float64), collect(draw_pairs(world, streams, count=30))
    theta = 0.1 * np.random.default_rng(0).normal(size=(1, 16))

    def loss(theta):
        logp = log_softmax(policy.logits(theta))
        picked, length = (array.ravel()[examples.index] for array in (logp, world.length))
        values = objective.loss(objective.rewards(picked, length=length, ref_logp=picked))
        return np.sum(examples.weight * values) / 2  # mean over two prompts

    found = policy.pull_back(theta, loss_gradient(world, examples, objective, log_softmax(policy.logits(theta))))
    for j in range(16):
        step = 1e-5 * np.eye(16)[j][None]
        assert found[0, j] == pytest.approx((loss(theta + step) - loss(theta - step)) / 2e-5, abs=1e-8)
    assert np.all(data.kept.any(axis=-1))


def test_a_step_size_that_is_too_large_is_reported():
    world, _, data = small()
    with pytest.raises(Diverged, match="lower the lr"):
        descend(
            world, data, objective=make_objective("f-dpo", beta=0.5, divergence="forward-kl"), held_out=data, lr=1e4
        )
