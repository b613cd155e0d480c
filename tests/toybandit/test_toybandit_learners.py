"""Natural gradient, RLOO, Adam, other policies and the compiled step, against closed forms and enumeration."""

import itertools

import numpy as np
import pytest

from derivations.arrays import log_softmax
from derivations.names import parse_regularizer
from derivations.regularizers import Entropy, LengthNormalized
from derivations.retention import retention_law
from toybandit.bandit import seed_streams, shared_world
from toybandit.compiled import Compiled
from toybandit.experiment import draw, learner_of, run
from toybandit.learners import Adam, Ascent, Exact, Natural
from toybandit.online import natural_flow, policy_gradient
from toybandit.policies import make_policy
from toybandit.settings import Settings
from toybandit.tree import tree_world
from toybandit.updates import Problem, gradient, natural_gradient, rloo_weights


def objective(logits, reward, *, regularizer, length, ref_logp):
    """J, written with phi: [...] of logits [..., arms]. The simulator knows only its gradient, written with s."""
    logp = log_softmax(logits)
    penalty = regularizer.phi(logp, length=length, ref_logp=ref_logp)
    return (np.exp(logp) * reward - penalty).sum(axis=-1)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.0), (0.0, 0.5), (0.4, 0.3), (0.0, 0.0)])
def test_natural_gradient_in_small_steps_is_the_closed_form(alpha, beta, small_world):
    world, proxy = small_world()
    regularizer = parse_regularizer(f"entropy={alpha}+kl={beta}")
    found = policy_gradient(world, proxy, regularizer=regularizer, learner=Natural(1e-3), steps=2000, dtype=np.float64)
    closed = natural_flow(world.ref_logp, proxy, t=2.0, alpha=alpha, beta=beta)
    assert np.exp(found.logp) == pytest.approx(np.exp(closed), abs=1e-3)
    assert np.abs(np.exp(closed) - np.exp(world.ref_logp)).max() > 0.1
    kappa, tau = retention_law(np.asarray(2.0), alpha=alpha, beta=beta)
    assert found.metrics["retention/kappa"][-1] == pytest.approx(kappa, abs=1e-3)
    assert found.metrics["retention/tau"][-1] == pytest.approx(float(tau), abs=2e-3)


def test_discrete_mirror_steps_keep_kappa_on_its_line_exactly(small_world):
    world, proxy = small_world()
    regularizer = parse_regularizer("entropy=0.5+kl=0.2")
    metrics = policy_gradient(
        world, proxy, regularizer=regularizer, learner=Natural(0.3), steps=20, dtype=np.float64
    ).metrics
    assert metrics["retention/kappa"] == pytest.approx(1 - 0.5 * metrics["retention/tau"], abs=1e-9)
    assert metrics["retention/kappa"][-1] == pytest.approx(1 - 0.5 * (1 - (1 - 0.3 * 0.7) ** 20) / 0.7, abs=1e-9)


def test_the_natural_gradient_is_the_fisher_inverse_of_the_gradient():
    rng = np.random.default_rng(0)
    logits, reward, score = rng.normal(size=(3, 5))
    problem = Problem(reward, np.ones(5), log_softmax(score), parse_regularizer("entropy=0.3+jensen-shannon=0.4"))
    policy = np.exp(log_softmax(logits))
    fisher = np.diag(policy) - np.outer(policy, policy)
    assert fisher @ natural_gradient(logits, problem) == pytest.approx(gradient(logits, problem), abs=1e-14)


def rloo_case(arms=4):
    rng = np.random.default_rng(5)
    logits, reward, score = rng.normal(size=(3, 1, 1, arms))
    return logits, Problem(
        reward, rng.uniform(0.5, 2, (1, 1, arms)), log_softmax(score), parse_regularizer("entropy=0.6")
    )


@pytest.mark.parametrize("k", [2, 3])
def test_rloo_averaged_over_every_possible_sample_is_the_exact_gradient(k):
    logits, problem = rloo_case()
    policy = np.exp(log_softmax(logits))[0, 0]
    ends = np.cumsum(policy)
    middles = ends - policy / 2  # a draw that lands on each arm
    mean = np.zeros_like(logits)
    for sample in itertools.product(range(4), repeat=k):
        uniforms = middles[list(sample)].reshape(1, 1, k)
        mean += np.prod(policy[list(sample)]) * rloo_weights(logits, problem, uniforms)
    assert mean == pytest.approx(gradient(logits, problem), abs=1e-14)
    assert np.abs(mean).max() > 0.05


def test_rloo_s_mean_gradient_is_the_exact_one_within_monte_carlo_error():
    logits, problem = rloo_case()
    count = 40_000
    uniforms = np.random.default_rng(0).random((count, 1, 4))
    draws = rloo_weights(np.repeat(logits, count, axis=0), problem, uniforms)
    error = draws.std(axis=0) / np.sqrt(count)
    assert np.all(np.abs(draws.mean(axis=0) - gradient(logits, problem)[0]) < 4.5 * error)


def test_adam_is_torch_s():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    theirs, ours, theta = torch.optim.Adam([parameter], lr=0.03, maximize=True), Adam(0.03), np.zeros(5)
    for slope in rng.normal(size=(20, 5)):
        parameter.grad = torch.tensor(slope)
        theirs.step()
        theta += ours.step(lambda theta, rate, slope=slope: rate * slope, theta)
    assert theta == pytest.approx(parameter.detach().numpy(), rel=1e-6)


@pytest.mark.parametrize("world", ["shared", "tree"])
def test_other_policies_climb_along_the_slope_of_their_objective(world):
    streams = seed_streams(4, 2)
    drawn = shared_world(streams, prompts=3, arms=12) if world == "shared" else tree_world(streams, prompts=2)
    rng = np.random.default_rng(0)
    policy, proxy = make_policy(drawn, np.float64), rng.normal(size=drawn.gold.shape)
    options = {
        "regularizer": parse_regularizer("entropy=0.4+kl=0.3"), "length": drawn.length, "ref_logp": drawn.ref_logp,
    }  # fmt: skip
    theta = policy.start(()) + 0.3 * rng.normal(size=policy.start(()).shape)
    found = policy.pull_back(theta, gradient(policy.logits(theta), Problem(reward=proxy, **options)))
    for place in list(np.ndindex(theta.shape))[:: max(1, theta.size // 12)]:
        step = np.zeros_like(theta)
        step[place] = 1e-5
        values = [objective(policy.logits(theta + e), proxy, **options)[place[0]] for e in (step, -step)]
        slope = (values[0] - values[1]).sum() / 2e-5
        # the shared policy follows the mean over prompts, a table or tree each prompt's own objective
        assert found[place] == pytest.approx(slope / (3 if world == "shared" else 1), abs=1e-8)
    assert np.abs(found).max() > 0.01


@pytest.mark.parametrize(
    "options", [{"method": "rloo"}, {"optimizer": "adam"}, {"world": "tree"}, {"method": "rloo", "optimizer": "adam"}]
)
def test_every_way_to_learn_is_independent_of_the_blocks_and_climbs(options):
    settings_ = Settings(coefficient=0.1, seeds=4, arms=None if "world" in options else 20, lr=0.1, **options)
    bandit = draw(settings_)
    how = {"regularizer": Entropy(0.1), "steps": 200, "learner": learner_of(settings_, bandit.streams)}
    whole, single = (policy_gradient(bandit.world, bandit.proxy, block_bytes=b, **how) for b in (2**20, 1))
    assert single.logp == pytest.approx(whole.logp, abs=1e-6)
    assert np.all(whole.metrics["proxy"][-1] > 0.05)


def test_the_compiled_step_ends_at_the_same_policy(small_world):
    pytest.importorskip("torch")
    world, proxy = small_world()
    strengths = LengthNormalized(np.array([0.1, 0.5], dtype=np.float32).reshape(2, 1, 1, 1))
    for learner in (Exact(0.05), Natural(0.05)):
        ours, theirs = (
            policy_gradient(world, proxy, regularizer=strengths, steps=35, learner=own)
            for own in (learner, Compiled(learner))
        )
        assert theirs.logp == pytest.approx(ours.logp, abs=1e-4)
        assert theirs.metrics["gold"] == pytest.approx(ours.metrics["gold"], abs=1e-5)


def test_an_optimizer_replaced_by_one_that_does_nothing_makes_every_effect_vanish(monkeypatch):
    def effects():
        over = [
            run(Settings(coefficient=0.5, seeds=20, **how))
            for how in ({}, {"regularizer": "kl"}, {"proxy": "heavy-tailed"})
        ]
        return [
            abs(r.summary[name].mean) for r in over for name in ("overoptimization", "gold_gain", "proxy_gain", "kl")
        ]

    assert max(effects()) > 0.4
    monkeypatch.setattr(Ascent, "step", lambda self: None)
    assert max(effects()) < 1e-6  # float32 of the reference
