"""Online training against brute force in float64, planted retention, and repetition by seed."""

import json

import numpy as np
import pytest
import torch

from derivations.commands import InputError
from llm.online import distinct_2, online, retention, topic_batches
from llm.online_config import OnlineConfig
from llm.packing import Example
from tests.llm_runs import grad_norm, load_double, read_rows


def test_retention_finds_the_planted_kappa_and_tau_whatever_each_prompt_adds():
    rng = np.random.default_rng(0)
    k = 8
    logq, reward, offset = rng.normal(-40, 17, (12, k)), rng.normal(size=(12, k)), rng.normal(0, 100, (12, 1))
    tensors = [torch.tensor(x.ravel()) for x in (0.7 * logq + 2.5 * reward + offset, logq, reward)]
    kappa, tau = retention(*tensors, k=k)
    assert (kappa, tau) == pytest.approx((0.7, 2.5), abs=1e-10)
    assert retention(tensors[1], *tensors[1:], k=k) == pytest.approx((1, 0), abs=1e-12)
    single = [x.float() for x in tensors]
    assert retention(single[1], *single[1:], k=k) == pytest.approx((1, 0), abs=1e-12)  # solved in float64


def test_the_share_of_distinct_bigrams_counts_within_responses():
    assert distinct_2([[1, 2, 1, 2], [1, 2]]) == pytest.approx(2 / 4)
    assert distinct_2([[1], [2]]) == 0.0


@pytest.fixture
def run_online(tiny_folder, tmp_path, own_cache, monkeypatch):
    """Two online steps of the tiny model; gold is the share of letters, since it writes no English."""
    monkeypatch.setattr("llm.online.on_topic_sentiment", lambda text, topic: sum(c.isalpha() for c in text) / 10)

    def start(regularizer, out="run", **options):
        defaults = {"model": str(tiny_folder), "proxy_pairs": 200, "max_steps": 2, "prompts_per_step": 3, "samples": 3}
        defaults |= {"max_new_tokens": 8, "eval_samples": 2, "lr": 1e-3, "quiet": True, "save": False}
        online(OnlineConfig(regularizer=regularizer, out=tmp_path / out, **(defaults | options)))
        return tmp_path / out

    return start


@pytest.mark.parametrize("regularizer", ["entropy=0.05", "kl=0.1", "none"])
def test_an_online_run_starts_at_the_reference_and_names_what_it_measures(regularizer, run_online):
    rows = read_rows(run_online(regularizer))
    assert [row["step"] for row in rows] == [0, 1, 2, 2]
    for row in rows[1:-1]:
        assert row.keys() >= {"step", "proxy", "gold", "kl", "entropy", "length"}
    before, first, second, after = rows
    assert before["eval/retention/kappa"] == pytest.approx(1, abs=1e-6)
    assert before["eval/retention/tau"] == pytest.approx(0, abs=1e-6)
    assert before["eval/kl"] == pytest.approx(0, abs=1e-5)  # policy and reference are the same weights
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert abs(second["kl"]) > 1e-4
    assert abs(after["eval/retention/kappa"] - 1) > 1e-5
    assert 1 <= first["length"] <= 8
    # 258 tokens: nats a token are between 0 and log 258
    assert 0 < first["entropy"] < 8 * np.log(258) * 1.5


def test_online_runs_repeat_by_seed(run_online):
    first, again, other = (read_rows(run_online("kl=0.1", out, seed=s)) for out, s in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert first[1:] != other[1:]


@pytest.mark.parametrize("regularizer", ["entropy=0.05", "length-normalized=0.4", "kl=0.1", "none"])
def test_the_online_gradient_is_that_of_leave_one_out_on_reward_minus_implicit_reward(
    regularizer, run_online, tiny_folder, naive_logps, monkeypatch
):
    """Step 1 by brute force: every sample's r - s written out, baseline by a loop, float64."""
    import llm.online as module

    drawn, proxies = [], []

    def keep(name, kept):
        original = getattr(module, name)

        def spy(*args, **kwargs):
            result = original(*args, **kwargs)
            kept.append(result)
            return result

        monkeypatch.setattr(module, name, spy)

    keep("sample", drawn)
    keep("fit_proxy", proxies)
    row = read_rows(run_online(regularizer, max_steps=1))[1]
    (examples,) = [batch for batch in drawn if len(batch) == 9]  # 3 topics, 3 samples; evaluations have 24
    proxy = proxies[0]

    model = load_double(tiny_folder)
    logp = naive_logps(model, examples)
    name, _, strength = regularizer.partition("=")
    shaped = []
    for e, lp in zip(examples, logp.tolist(), strict=True):
        with torch.no_grad():
            states = model.base_model(input_ids=torch.tensor([e.prompt + e.response])).last_hidden_state[0]
        reward = float(states[len(e.prompt) :].mean(0).numpy() @ proxy.weights / proxy.scale)
        score = {"entropy": lp, "length-normalized": lp / len(e.response)}.get(name, 0.0)  # log pi - log q is 0 yet
        shaped.append(reward - score * float(strength or 0))
    loss = 0.0
    for i in range(9):
        others = [shaped[j] for j in range(9) if j // 3 == i // 3 and j != i]
        loss = loss - (shaped[i] - sum(others) / 2) * logp[i] / 9
    loss.backward()
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-3, abs=1e-4)
    assert row["grad_norm"] == pytest.approx(grad_norm(model), rel=1e-3)  # rewards in float32, differences of near ones


def test_policy_gradient_raises_the_proxy_reward(run_online):
    out = run_online("none", max_steps=12, prompts_per_step=8, samples=8, lr=1e-2)
    before, *_, after = read_rows(out)
    assert after["eval/proxy"] > before["eval/proxy"] + 0.5  # standard deviations of the reference's samples
    assert after["eval/kl"] > 0.1


def test_a_strong_kl_keeps_the_policy_nearer_to_the_reference(run_online):
    settings = {"max_steps": 12, "prompts_per_step": 8, "samples": 8, "lr": 1e-2}
    free, held = (read_rows(run_online(r, r, **settings))[-1] for r in ("none", "kl=2"))
    assert held["eval/kl"] < free["eval/kl"] / 2


@pytest.mark.parametrize("regularizer", ["entropy=0.05", "kl=0.1"])
def test_any_split_of_the_topics_gives_the_same_gradient(regularizer, run_online):
    norms = [
        read_rows(run_online(regularizer, str(n), max_steps=1, micro_batch_tokens=n))[1]["grad_norm"]
        for n in (1, 150, 10_000)
    ]
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)  # advantages of near-equal rewards in float32


def test_topics_stay_whole_in_their_batches():
    drawn = [Example((1,) * p, (2,) * n, False) for p, n in ((5, 3), (2, 4), (9, 1), (3, 3)) for _ in range(2)]
    for tokens, expected in ((1, 4), (21, 2), (1000, 1)):
        parts = list(topic_batches(drawn, k=2, tokens=tokens))
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(8))
        assert all(part.start % 2 == 0 for part in parts)
        assert len(parts) == expected


def test_an_online_run_that_diverges_ends_in_one_line(run_online, tmp_path):
    with pytest.raises(InputError, match="diverged at step"):
        run_online("none", lr=1e30, max_steps=6)
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["batch"]
