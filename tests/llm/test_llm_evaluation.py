"""Metrics of a policy's samples, each against a formula written out over a batch whose numbers are known."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from llm.online.evaluation import distinct_2, policy_metrics, sample_rows
from llm.online.proxy import agreements
from llm.online.setup import Batch
from llm.scoring.packing import Example


def batch(rng, topics=3, k=4):
    n = topics * k
    examples = [
        Example((1,), tuple(rng.integers(2, 6, size=rng.integers(2, 7)).tolist()), bool(i % 3)) for i in range(n)
    ]
    gold = rng.integers(0, 3, n).astype(float)
    logq = rng.normal(-20, 5, n)
    made = Batch(
        examples=examples,
        topics=[f"topic {i // k}" for i in range(n)],
        texts=[f"text {i}" for i in range(n)],
        logq=torch.tensor(logq),
        proxy=torch.tensor(rng.normal(size=n)),
        gold=torch.tensor(gold),
        sentiment=torch.tensor(rng.normal(size=n)),
        on_topic=torch.tensor(rng.random(n) < 0.5),
    )
    return made, torch.tensor(logq + rng.normal(1, 1, n))


def over_topics(values, k=4):
    means = np.asarray(values, dtype=float).reshape(-1, k).mean(1)
    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return {"mean": means.mean(), "low": means.mean() - half, "high": means.mean() + half}


def test_every_metric_is_its_formula_with_an_interval_over_topics():
    made, logp = batch(np.random.default_rng(0))
    got = policy_metrics(made, logp, k=4)
    logq, length = made.logq.numpy(), np.array([len(e.response) for e in made.examples])
    log_ratio = logq - logp.numpy()
    expected = {
        "gold": made.gold,
        "sentiment": made.sentiment,
        "on_topic": made.on_topic,
        "proxy": made.proxy,
        "length": length,
        "complete": [e.complete for e in made.examples],
        "fluency": logq / length,
        "logq_per_token": logq / length,
        "entropy": -logp,
        "kl_k1": -log_ratio,
        "kl": np.exp(log_ratio) - 1 - log_ratio,  # Schulman's k3
    }
    for name, values in expected.items():
        assert got[name] == pytest.approx(over_topics(values), rel=1e-5), name  # lengths are float32
    assert got.keys() == expected.keys() | {"proxy_accuracy", "distinct_2"}


def test_the_proxy_s_accuracy_is_over_pairs_of_a_topic_that_gold_tells_apart():
    made, logp = batch(np.random.default_rng(1))
    gold, proxy = made.gold.reshape(3, 4).tolist(), made.proxy.reshape(3, 4).tolist()
    shares = []
    for g, r in zip(gold, proxy, strict=True):
        pairs = [(r[i] > r[j]) == (g[i] > g[j]) for i in range(4) for j in range(i) if g[i] != g[j]]
        shares.append(np.mean(pairs))
    assert policy_metrics(made, logp, k=4)["proxy_accuracy"]["mean"] == pytest.approx(np.mean(shares))
    tied = Batch(**{**vars(made), "gold": torch.zeros(12)})
    assert policy_metrics(tied, logp, k=4)["proxy_accuracy"] == {"mean": None, "low": None, "high": None}


def test_the_share_of_distinct_bigrams_counts_within_responses_and_over_all_topics():
    assert distinct_2([[1, 2, 1, 2], [1, 2]]) == pytest.approx(2 / 4)
    assert distinct_2([[1], [2]]) == 0.0
    made, logp = batch(np.random.default_rng(2))
    got = policy_metrics(made, logp, k=4)["distinct_2"]
    responses = [e.response for e in made.examples]
    bigrams = [b for r in responses for b in itertools.pairwise(r)]
    assert got["mean"] == len(set(bigrams)) / len(bigrams)
    without = [distinct_2(responses[:4] + responses[8:]), distinct_2(responses[4:]), distinct_2(responses[:8])]
    half = 4.302653 * np.sqrt(2 / 3 * ((np.array(without) - np.mean(without)) ** 2).sum())  # t with 2 degrees
    assert got["high"] - got["mean"] == pytest.approx(half, rel=1e-6)


def test_agreements_leave_out_ties_of_gold_and_halve_ties_of_the_reward():
    reward, gold = np.array([[1.0, 2, 2], [5, 6, 7]]), np.array([[0.0, 1, 3], [4, 4, 4]])
    first, second = agreements(reward, gold)
    assert sorted(first) == [0.5, 1, 1]
    assert len(second) == 0
    assert sorted(agreements(-reward, gold)[0]) == [0, 0, 0.5]


def test_a_row_of_samples_says_all_that_is_known_of_its_response():
    made, logp = batch(np.random.default_rng(3))
    rows = sample_rows(made, logp, {"step": 7, "split": "eval"})
    assert len(rows) == 12
    assert rows[5] == {
        "step": 7,
        "split": "eval",
        "topic": "topic 1",
        "response": "text 5",
        "complete": made.examples[5].complete,
        "gold": made.gold[5].item(),
        "sentiment": made.sentiment[5].item(),
        "on_topic": made.on_topic[5].item(),
        "proxy": made.proxy[5].item(),
        "logq": made.logq[5].item(),
        "logp": logp[5].item(),
    }
