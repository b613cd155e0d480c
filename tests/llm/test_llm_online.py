"""Online training against brute force in float64, step by step, and what a run says and leaves."""

import json

import numpy as np
import pytest
import torch

import llm.online.train
from derivations.cli.errors import InputError
from derivations.names import parse_regularizer
from llm.online.setup import Batch, spread
from llm.online.train import sample_losses, topic_batches
from llm.scoring.packing import Example
from llm.settings.online import OnlineConfig
from tests.helpers.llm_runs import NOTHING, grad_norm, load_double, read_rows
from tests.helpers.llm_runs import run_online as run


@pytest.fixture
def run_online(tiny_folder, tmp_path, shared_cache):
    return lambda regularizer, out="run", **options: run(
        tiny_folder, tmp_path / out, regularizer=regularizer, **options
    )


def kept_batches(monkeypatch):
    """The batch of every step to come."""
    batches, real = [], llm.online.train.accumulate

    def keep(engine, batch, *rest):
        batches.append(batch)
        return real(engine, batch, *rest)

    monkeypatch.setattr(llm.online.train, "accumulate", keep)
    return batches


@pytest.mark.parametrize("regularizer", ["entropy=0.05", "kl=0.1", "none"])
def test_an_online_run_starts_at_the_reference_and_names_what_it_measures(regularizer, run_online):
    out = run_online(regularizer, max_steps=4, eval_every=2)
    rows, summary = read_rows(out), json.loads((out / "summary.json").read_text())
    assert [row["step"] for row in rows] == [0, 1, 2, 2, 3, 4, 4]
    names = {"loss", "proxy", "gold", "kl", "entropy", "length", "grad_norm", "lr", "seconds"}
    steps = [row for row in rows if "loss" in row]
    for row in steps:
        assert row.keys() == {"step"} | names
    evaluations = summary["evaluations"]
    assert [e["step"] for e in evaluations] == [0, 2, 4]
    assert (summary["before"], summary["after"]) == (evaluations[0], evaluations[-1])
    metrics = {"gold", "sentiment", "on_topic", "fluency", "logq_per_token", "length", "complete", "proxy"}
    metrics |= {"proxy_accuracy", "kl", "kl_k1", "kl_reverse", "entropy", "distinct_2"}
    for e in evaluations:
        assert e["eval"].keys() == e["eval-train"].keys() == metrics
        assert e["retention"].keys() == {"kappa", "tau", "r2_level", "r2_change"}
        for value in (*e["eval"].values(), *e["eval-train"].values(), *e["retention"].values()):
            assert value.keys() == {"mean", "low", "high"}
    start, end = evaluations[0], evaluations[-1]
    assert start["retention"]["kappa"] == pytest.approx({"mean": 1, "low": 1, "high": 1}, abs=NOTHING)
    assert start["retention"]["tau"]["mean"] == pytest.approx(0, abs=NOTHING)
    if NOTHING < 1e-6:
        assert start["retention"]["r2_change"]["mean"] is None  # nothing has changed
    assert abs(end["retention"]["kappa"]["mean"] - 1) > 1e-5
    assert 0 < end["retention"]["r2_change"]["mean"] < 1
    for split in ("eval", "eval-train"):  # policy and reference are the same weights
        assert start[split]["kl"]["mean"] == pytest.approx(0, abs=NOTHING)
        assert start[split]["kl_reverse"]["mean"] == pytest.approx(0, abs=NOTHING)
        assert start[split]["entropy"]["mean"] > 0
    assert steps[0]["kl"] == pytest.approx(0, abs=NOTHING)
    assert steps[1]["kl"] > 1e-6
    # 258 tokens: nats a token are between 0 and log 258
    assert 0 < steps[0]["entropy"] < 8 * np.log(258) * 1.5
    assert 1 <= steps[0]["length"] <= 8
    assert rows[-1]["eval/gold"] == end["eval"]["gold"]["mean"]
    samples = read_rows(out, "samples.jsonl")
    assert len(samples) == 3 * 2 * 8 * 2  # evaluations, splits, topics, samples
    own = [s["gold"] for s in samples if (s["step"], s["split"]) == (4, "eval-train")]
    assert np.mean(own) == pytest.approx(end["eval-train"]["gold"]["mean"], rel=1e-6)
    assert summary["proxy"].keys() >= {"accuracy", "calibration", "scale", "ridge", "pairs", "off_distribution"}
    assert summary["proxy"]["off_distribution"].keys() == {"held-out", "other topic", "shuffled", "random tokens"}


@pytest.mark.cpu_bits
def test_online_runs_repeat_by_seed(run_online):
    first, again, other = (read_rows(run_online("kl=0.1", out, seed=s)) for out, s in (("a", 1), ("b", 1), ("c", 2)))
    for row in (*first, *again, *other):
        row.pop("seconds", None)
    assert first == again
    assert first[1:] != other[1:]


@pytest.mark.parametrize("regularizer", ["entropy=0.05", "length-normalized=0.4", "kl=0.1", "none"])
def test_the_online_gradient_is_that_of_leave_one_out_on_reward_minus_implicit_reward(
    regularizer, run_online, tiny_folder, naive_logps, monkeypatch
):
    """Step 1 by brute force: every sample's r - s written out, baseline by a loop, float64."""
    batches = kept_batches(monkeypatch)
    out = run_online(regularizer, max_steps=1)
    row, proxy = read_rows(out)[1], json.loads((out / "proxy" / "proxy.json").read_text())
    (batch,) = batches
    examples = batch.examples
    assert len(examples) == 9  # 3 topics, 3 samples
    assert len({e.prompt for e in examples}) == 3

    model = load_double(tiny_folder)
    logp = naive_logps(model, examples)
    name, _, strength = regularizer.partition("=")
    shaped = []
    for e, lp in zip(examples, logp.tolist(), strict=True):
        with torch.no_grad():
            states = model.base_model(input_ids=torch.tensor([e.prompt + e.response])).last_hidden_state[0]
        reward = float(states[len(e.prompt) :].mean(0).numpy() @ np.array(proxy["weights"]) / proxy["scale"])
        score = {"entropy": lp, "length-normalized": lp / len(e.response)}.get(name, 0.0)  # log pi - log q is 0 yet
        shaped.append(reward - score * float(strength or 0))
    loss = 0.0
    for i in range(9):
        others = [shaped[j] for j in range(9) if j // 3 == i // 3 and j != i]
        loss = loss - (shaped[i] - sum(others) / 2) * logp[i] / 9
    loss.backward()
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-3, abs=1e-4)
    assert row["grad_norm"] == pytest.approx(grad_norm(model), rel=1e-3)  # rewards in float32, differences of near ones


def batch_of(n, *, on_topic):
    rng = np.random.default_rng(0)
    logq, proxy = (torch.tensor(rng.normal(size=n)) for _ in range(2))
    examples = [Example((1,), (2,) * (1 + i), False) for i in range(n)]
    zero = torch.zeros(n)
    return Batch(examples, ["x"] * n, [""] * n, logq, proxy, zero, zero, torch.tensor(on_topic))


def test_a_regularizer_on_topic_leaves_other_samples_their_bare_reward():
    """phi = 0 off topic; on topic s = alpha (log pi + 1): the constant must stay, as it is not everyone's."""
    batch = batch_of(4, on_topic=[True, False, True, False])
    logp = torch.tensor([-3.0, -40.0, -7.0, -1.0], dtype=torch.float64, requires_grad=True)
    config = OnlineConfig(regularizer="entropy=0.5", regularizer_on="on-topic", samples=4)
    (slope,) = torch.autograd.grad(
        sample_losses(logp, batch, slice(0, 4), config.make_regularizer(), config).sum(), logp
    )
    r = batch.proxy.tolist()
    shaped = [r[0] - 0.5 * (-3 + 1), r[1], r[2] - 0.5 * (-7 + 1), r[3]]
    expected = [-(shaped[i] - (sum(shaped) - shaped[i]) / 3) for i in range(4)]
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


def test_the_wrong_bonus_adds_its_weight_to_the_slope_of_every_log_prob_and_nothing_to_the_advantages():
    batch, regularizer = batch_of(3, on_topic=[True] * 3), parse_regularizer("kl=0.3")
    logp = torch.tensor([-3.0, -4.0, -7.0], dtype=torch.float64, requires_grad=True)
    slopes = []
    for weight in (0.0, 0.7):
        config = OnlineConfig(regularizer="kl=0.3", wrong_bonus=weight, samples=3)
        loss = sample_losses(logp, batch, slice(0, 3), regularizer, config).sum()
        slopes.append(torch.autograd.grad(loss, logp)[0])
    np.testing.assert_allclose(slopes[1] - slopes[0], 0.7, rtol=1e-12)
    assert slopes[0].abs().min() > 0.01


def test_sgd_takes_the_gradient_itself_as_its_step(run_online, tiny_folder):
    from safetensors.torch import load_file

    options = {"optimizer": "sgd", "lr": 0.5, "max_grad_norm": 1e9, "save": True, "max_steps": 1}
    out = run_online("none", **options)
    row = read_rows(out)[1]
    before, after = (load_file(f / "model.safetensors") for f in (tiny_folder, out / "checkpoints" / "last"))
    moved = torch.stack([(after[name].double() - before[name].double()).norm() for name in before]).norm().item()
    assert moved == pytest.approx(0.5 * row["grad_norm"], rel=1e-4)  # float32 differences of near weights


def test_policy_gradient_raises_the_proxy_reward(run_online):
    out = run_online("none", max_steps=12, prompts_per_step=8, samples=8, lr=1e-2)
    before, *_, after = read_rows(out)
    for split in ("eval", "eval-train"):
        assert (
            after[f"{split}/proxy"] > before[f"{split}/proxy"] + 0.5
        )  # standard deviations of the reference's samples
        assert after[f"{split}/kl"] > 0.1
        assert after[f"{split}/kl_reverse"] > 0.1


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


@pytest.mark.cpu_bits
def test_a_run_on_a_saved_proxy_is_the_run_that_fitted_it(run_online, tmp_path):
    fitted = read_rows(run_online("kl=0.1", "fitted"))
    loaded = read_rows(run_online("kl=0.1", "loaded", proxy=str(tmp_path / "fitted" / "proxy")))
    for row in (*fitted, *loaded):
        row.pop("seconds", None)
    assert fitted == loaded
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("fitted", "loaded")]
    assert summaries[0]["proxy"] == summaries[1]["proxy"]


def test_a_proxy_of_another_model_is_refused(run_online, tiny_model, tiny_tokenizer, tmp_path):
    from llm.scoring.export import save_model

    run_online("none", max_steps=1)
    save_model(tiny_model(seed=1), tiny_tokenizer, tmp_path / "other")
    with pytest.raises(InputError, match="features of another model"):
        run(tmp_path / "other", tmp_path / "next", proxy=str(tmp_path / "run" / "proxy"))
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize(("strength", "loud"), [(10.0, True), (1e-4, False)])
def test_a_run_says_how_loud_its_regularizer_starts_and_warns(strength, loud, run_online, capsys):
    out = run_online("entropy", coefficient=strength, max_steps=1, quiet=False, wrong_bonus=0.01)
    said = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert f"over that of the reward, at the reference: {summary['spread_ratio']:.2f}" in said
    assert ("warning" in said) == loud == (summary["spread_ratio"] > 1)
    assert "CONTROL, WRONG" in said
    assert summary["wrong_bonus"] == 0.01


def test_the_spread_ratio_compares_standard_deviations_within_topics():
    """Two topics of 8 samples with offsets that must not count; KL is silent at the reference."""
    rng = np.random.default_rng(0)
    logq, reward = (rng.normal(size=(2, 8)) + np.array([[-50], [-90]]) for _ in range(2))
    zero = torch.zeros(16)
    examples = [Example((1,), (2,) * (1 + i % 8), False) for i in range(16)]
    batch = Batch(examples, [], [], torch.tensor(logq.ravel()), torch.tensor(3 * reward.ravel()), zero, zero, zero)

    def deviation(x):
        return np.sqrt(np.mean([np.var(row, ddof=1) for row in x]))

    expected = {
        "entropy=0.1": 0.1 * deviation(logq) / deviation(3 * reward),
        "length-normalized=2": 2 * deviation(logq / np.arange(1, 9)) / deviation(3 * reward),
        "entropy=0.1+kl=5": 0.1 * deviation(logq) / deviation(3 * reward),
        "kl=5": 0,
        "none": 0,
    }
    for name, ratio in expected.items():
        assert spread(batch, parse_regularizer(name)) == pytest.approx(ratio, rel=1e-6, abs=1e-12)  # float32 lengths


def test_the_prompt_template_is_what_the_model_is_asked(run_online, tiny_tokenizer, monkeypatch):
    batches = kept_batches(monkeypatch)
    run_online("none", max_steps=1, prompt="Say {topic}!")
    for e, topic in zip(batches[0].examples, batches[0].topics, strict=True):
        assert f"Say {topic}!" in tiny_tokenizer.decode(list(e.prompt))


@pytest.mark.cpu_bits
def test_bf16_starts_at_the_reference_too(run_online):
    """The reference keeps its linear layers in bf16; under autocast that must be the same numbers."""
    before, *_, after = read_rows(run_online("entropy=0.05", dtype="bf16"))
    assert before["eval/kl_reverse"] == before["eval/kl"] == 0
    assert after["eval/kl"] != 0
