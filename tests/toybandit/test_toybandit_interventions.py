"""Interventions on sets of arms, and combinations of settings that do not exist."""

from dataclasses import replace

import numpy as np
import pytest

from derivations.arrays import log_softmax
from derivations.regularizers import KL, NONE, Entropy
from toybandit.compiled import Compiled
from toybandit.interventions import Masked, replace_by_gold
from toybandit.learners import Adam, Exact, Natural
from toybandit.online import policy_gradient
from toybandit.updates import Problem


def test_the_penalty_can_be_confined_to_a_set_of_arms(small_world):
    world, proxy = small_world()
    nowhere, everywhere = np.zeros_like(proxy, dtype=bool), np.ones_like(proxy, dtype=bool)
    options = {"steps": 30, "dtype": np.float64}
    plain = {name: policy_gradient(world, proxy, regularizer=reg, **options).logp
             for name, reg in (("none", NONE), ("entropy", Entropy(0.5)))}  # fmt: skip
    masked = [
        policy_gradient(world, proxy, regularizer=Entropy(0.5), regularize_on=m, **options).logp
        for m in (nowhere, everywhere)
    ]
    assert masked[0] == pytest.approx(plain["none"], abs=1e-12)
    assert masked[1] == pytest.approx(plain["entropy"], abs=1e-12)
    half = rng_mask(proxy.shape)
    problem = Problem(proxy, world.length, world.ref_logp, Masked(KL(0.7), half))
    logp = log_softmax(np.random.default_rng(1).normal(size=proxy.shape))
    assert (proxy - problem.shaped(logp))[~half] == pytest.approx(0)
    assert (proxy - problem.shaped(logp))[half] == pytest.approx(0.7 * (logp - world.ref_logp + 1)[half])


def rng_mask(shape):
    return np.random.default_rng(3).random(shape) < 0.5


def test_gold_on_a_set_replaces_the_proxy_there_and_can_keep_the_level():
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 2, 3, 10))
    arms = rng_mask(proxy.shape)
    replaced, kept = (replace_by_gold(proxy, gold, arms, keep_level=k) for k in (False, True))
    assert np.array_equal(replaced[arms], gold[arms])
    assert np.array_equal(replaced[~arms], proxy[~arms])
    assert np.array_equal(kept[~arms], proxy[~arms])
    assert (kept * arms).sum(-1) == pytest.approx((proxy * arms).sum(-1))
    shift = (kept - gold)[0, 0][arms[0, 0]]
    assert shift == pytest.approx(np.full_like(shift, shift[0]))


@pytest.mark.parametrize(
    ("learner", "policy", "message"),
    [
        (Natural(), "tree", "natural is for a table"),
        (Compiled(Exact(optimizer=Adam)), "table", "compiled engine runs"),
        (Compiled(Natural()), "tree", "compiled engine runs"),
    ],
)
def test_a_combination_that_does_not_exist_is_refused(learner, policy, message, small_world):
    world, proxy = small_world()
    with pytest.raises(ValueError, match=message):
        policy_gradient(replace(world, policy=policy), proxy, regularizer=NONE, steps=1, learner=learner)
