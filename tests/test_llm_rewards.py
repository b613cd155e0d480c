"""Rewards: gold by rule, the proxy against planted weights."""

import numpy as np
import pytest
import torch

from derivations.commands import InputError
from llm.rewards import fit_bradley_terry, fit_proxy, on_topic, on_topic_sentiment, sentiment


def test_sentiment_is_gold_only_where_the_topic_is_mentioned():
    text = "Bees are wonderful, and I love them!"
    assert sentiment(text) > 0.5
    assert sentiment("Bees are horrible, and I hate them!") < -0.5
    assert on_topic_sentiment(text, "bees") == sentiment(text)
    assert on_topic_sentiment(text, "trains") == 0.0


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("A RIVER runs.", "rivers", True),
        ("Rivers run.", "rivers", True),
        ("rain", "rain", True),
        ("Our potatoes boil.", "potatos", True),
        ("Training is hard.", "rain", False),  # inside another word
        ("The catalogue is long.", "cats", False),
        ("", "cats", False),
        ("It costs 3.5.", "3.5", True),
        ("It costs 395.", "3.5", False),  # the topic is text, not a pattern
    ],
)
def test_a_topic_is_mentioned_as_a_word_in_singular_or_plural(text, topic, expected):
    assert on_topic(text, topic) is expected


def planted_preferences(n, weights, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights)))
    sign = np.where(rng.random(n) < 1 / (1 + np.exp(-x @ weights)), 1.0, -1.0)
    return sign[:, None] * x


def test_bradley_terry_finds_the_planted_weights_and_stops_where_the_gradient_vanishes():
    planted = np.array([1.0, -2.0, 0.5, 0.0, 1.5])
    d = planted_preferences(20_000, planted)
    ridge = 1e-3
    w = fit_bradley_terry(d, ridge=ridge)
    np.testing.assert_allclose(w, planted, atol=0.12)  # four standard errors, about 0.03 each
    assert w @ planted > 0.998 * np.linalg.norm(w) * np.linalg.norm(planted)

    def loss(v):
        return np.logaddexp(0, -d @ v).mean() + ridge / 2 * v @ v

    h = 1e-5
    slopes = [(loss(w + h * e) - loss(w - h * e)) / (2 * h) for e in np.eye(5)]
    assert np.abs(slopes).max() < 1e-4  # at w = 0 they are 0.1 to 0.4; L-BFGS-B stops at 1e-5
    assert np.linalg.norm(fit_bradley_terry(d, ridge=1.0)) < np.linalg.norm(w)


def planted_pool(p=60, k=8, width=6, seed=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(p, k, width)) * [1, 5, 0.2, 1, 1, 1] + rng.normal(size=(p, 1, width)) * 3
    return features, features @ [2.0, 0.2, 0.0, 0.0, -1.0, 0.0]


def test_the_proxy_ranks_like_planted_gold_and_has_unit_deviation_within_prompts():
    features, gold = planted_pool()
    proxy = fit_proxy(features, gold, pairs=4000, seed=0)
    reward = proxy(torch.tensor(features.reshape(-1, 6), dtype=torch.float32)).double().numpy().reshape(gold.shape)
    assert np.sqrt(reward.var(axis=1, ddof=1).mean()) == pytest.approx(1, abs=1e-5)  # float32 rewards
    assert proxy.accuracy > 0.9
    centred = [x - x.mean(axis=1, keepdims=True) for x in (reward, gold)]
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.97
    other = fit_proxy(features, 100 * gold, pairs=4000, seed=0)  # gold has no unit of its own
    np.testing.assert_allclose(other.weights, proxy.weights, rtol=1e-6)
    assert not np.allclose(fit_proxy(features, gold, pairs=4000, seed=1).weights, proxy.weights, rtol=1e-3)


def test_fewer_pairs_give_a_worse_proxy():
    features, gold = planted_pool(width=6)
    noise = np.random.default_rng(0).normal(size=(*gold.shape, 30))
    wide = np.concatenate([features, noise], axis=2)
    few, many = (np.mean([fit_proxy(wide, gold, pairs=n, seed=s).accuracy for s in range(2)]) for n in (30, 1000))
    assert many > few + 0.05


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gold_that_never_varies_is_refused():
    features, gold = planted_pool()
    with pytest.raises(InputError):
        fit_proxy(features, np.ones_like(gold), pairs=100, seed=0)
