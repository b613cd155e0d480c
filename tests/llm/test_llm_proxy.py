"""The proxy against planted weights: fit, calibration, what it says off its distribution, saving."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from derivations.cli.errors import InputError
from llm.online.proxy import calibration_slope, fit_bradley_terry, fit_proxy, load_proxy, save_proxy, within_deviation
from llm.online.proxy_report import report
from llm.scoring.packing import Example


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


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_calibration_finds_the_factor_a_head_should_be_multiplied_by(factor):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 1.5, (10, 6))
    assert calibration_slope(log_odds / factor, log_odds) == pytest.approx(factor, rel=1e-3)  # L-BFGS-B's tolerance


def test_calibration_is_that_of_prompts_the_fit_has_not_seen():
    """6 features that rule gold, 100 of noise, 300 pairs: slope 0.47 on 400 fresh prompts, 0.87 on those it fitted."""
    features, gold = planted_pool()
    wide = np.concatenate([features, np.random.default_rng(0).normal(size=(*gold.shape, 100))], 2)
    proxy = fit_proxy(wide, gold, pairs=300, seed=0)
    fresh, its_gold = planted_pool(p=400, seed=8)
    raw = np.concatenate([fresh, np.random.default_rng(1).normal(size=(*its_gold.shape, 100))], 2) @ proxy.weights
    truth = calibration_slope(raw, its_gold / within_deviation(gold))
    assert proxy.slope == pytest.approx(truth, abs=0.2)  # half way to the other; 12 prompts judge
    assert proxy.judged == 12 * 28


def test_a_head_fitted_on_few_pairs_is_overconfident():
    """30 features of noise and 60 pairs: the fit explains noise, and held-out pairs say so."""
    features, gold = planted_pool()
    noise = np.random.default_rng(0).normal(size=(*gold.shape, 30))
    few, many = (fit_proxy(np.concatenate([features, noise], 2), gold, pairs=n, seed=0) for n in (60, 4000))
    assert few.slope < 0.7
    assert many.slope == pytest.approx(1, abs=0.25)  # a ridge of 1e-3 and 4000 noisy pairs


def test_a_proxy_is_read_back_to_the_bit(tmp_path):
    features, gold = planted_pool()
    proxy = replace(fit_proxy(features, gold, pairs=200, seed=0), off_distribution={"held-out": {"accuracy": 0.5}})
    save_proxy(proxy, tmp_path / "proxy", reference="abc")
    read = load_proxy(tmp_path / "proxy", reference="abc")
    assert read.weights.tobytes() == proxy.weights.tobytes()
    assert read.summary() == proxy.summary()
    x = torch.tensor(features.reshape(-1, 6), dtype=torch.float32)
    assert torch.equal(read(x), proxy(x))
    with pytest.raises(InputError, match="features of another model"):
        load_proxy(tmp_path / "proxy", reference="other")


@pytest.mark.parametrize("damage", ["cut", "no weights", "nan", "a list"])
def test_a_damaged_proxy_is_one_line(damage, tmp_path):
    features, gold = planted_pool()
    save_proxy(fit_proxy(features, gold, pairs=50, seed=0), tmp_path, reference="abc")
    path = tmp_path / "proxy.json"
    saved = json.loads(path.read_text())
    if damage == "nan":
        saved["weights"][0] = None
    del saved["weights" if damage == "no weights" else "ridge"]
    text = "[]" if damage == "a list" else json.dumps(saved)
    path.write_text(text[:-20] if damage == "cut" else text)
    with pytest.raises(InputError, match="proxy"):
        load_proxy(tmp_path, reference="abc")


def test_the_off_distribution_report_says_what_the_proxy_pays_for_strange_responses():
    """A proxy that counts token 9, and a gold that counts tokens in ascending order: who likes what is known."""
    rng = np.random.default_rng(0)
    prompts = [(1,), (2,), (3,)]
    bodies = [[sorted([*rng.choice(40, 5).tolist(), 50 + p[0]]) for _ in range(4)] for p in prompts]
    pool = [[Example(p, (*b, 99), True) for b in own] for p, own in zip(prompts, bodies, strict=True)]

    def rate(examples):
        proxy = [float(e.response.count(9)) + 2 * (50 + e.prompt[0] in e.response) for e in examples]
        gold = [float(np.mean(np.diff(e.response) >= 0)) for e in examples]
        return np.reshape(proxy, (3, 4)), np.reshape(gold, (3, 4))

    real = rate([e for own in pool for e in own])
    found = report(pool, *real, rate=rate, tokens=[9])
    assert found["other topic"]["proxy"]["mean"] == pytest.approx(-2)  # the topic's own token is missing
    assert found["other topic"]["gold"]["mean"] == pytest.approx(0)
    assert found["shuffled"]["proxy"]["mean"] == pytest.approx(0)
    assert found["shuffled"]["gold"]["mean"] < -0.2
    assert found["random tokens"]["proxy"]["mean"] == pytest.approx(6 - real[0].mean())  # six 9s before the EOS
    assert found["random tokens"]["preferred"] == 1
    assert found["other topic"]["preferred"] < 0.2
    assert found["held-out"]["pairs"] == sum((a != b) for g in real[1] for i, a in enumerate(g) for b in g[:i])
