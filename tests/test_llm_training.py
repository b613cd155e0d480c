"""Rewards, retention and both training loops: against formulas written out, float64 brute force, and planted truths."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from derivations.commands import InputError
from llm.config import OnlineConfig, TrainConfig
from llm.data import encode_pairs, read_pairs
from llm.offline import interval, train
from llm.online import distinct_2, online, retention
from llm.rewards import fit_bradley_terry, fit_proxy, on_topic, on_topic_sentiment, sentiment

OBJECTIVES = {"dpo": {"beta": 0.2}, "simpo": {"beta": 2.5, "gamma": 0.7}, "maxent": {"alpha": 0.03}}
TRL = {
    f"eval/{name}"
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
                 "logps/chosen", "logps/rejected")
}  # fmt: skip


def read_rows(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def write_pairs(path, n, *, seed=0, chosen="x", rejected="y"):
    """n pairs of random text of mixed lengths; nothing but its first letter tells chosen from rejected."""
    rng = np.random.default_rng(seed)

    def text(low, high):
        return "".join(rng.choice(list("abcdefghij "), size=rng.integers(low, high)))

    rows = [
        {"prompt": text(3, 9) + "?", "chosen": chosen + text(1, 16), "rejected": rejected + text(1, 16)}
        for _ in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(tiny_folder, tmp_path, own_cache):
    """Train the tiny model on 6 pairs, evaluate on 5; returns the run folder. Options may be replaced."""
    data, held = write_pairs(tmp_path / "train.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)

    def start(out="run", objective="dpo", **options):
        defaults = {"model": str(tiny_folder), "data": data, "eval_data": held, "max_steps": 3, "lr": 1e-3}
        settings = defaults | OBJECTIVES[objective] | {"quiet": True, "save": False} | options
        train(TrainConfig(objective=objective, out=tmp_path / out, **settings))
        return tmp_path / out

    return start


def load_double(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def encoded(path, tokenizer):
    return encode_pairs(read_pairs(path)[0], tokenizer, max_length=256)[0]


def naive_rewards_and_loss(objective, model, reference, pairs, naive_logps):
    """log-probs, implicit rewards and losses [pairs, 2] / [pairs] of THEORY 2.3 to 2.7, written out in float64."""
    logp, ref, size = (
        torch.stack([f([p.chosen for p in pairs]), f([p.rejected for p in pairs])], 1)
        for f in (
            lambda e: naive_logps(model, e),
            lambda e: naive_logps(reference, e).detach(),
            lambda e: torch.tensor([float(len(x.response)) for x in e]),
        )
    )
    options = OBJECTIVES[objective]
    reward = {
        "dpo": lambda: options["beta"] * (logp - ref),
        "simpo": lambda: options["beta"] * logp / size,
        "maxent": lambda: options["alpha"] * logp,
    }[objective]()
    margin = reward[:, 0] - reward[:, 1] - options.get("gamma", 0.0)
    return logp, reward, torch.log1p(torch.exp(-margin))


def grad_norm(model):
    return torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()


# ---- rewards


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


# ---- measurements


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


def test_the_interval_is_student_s():
    # mean 2, standard error 1/sqrt(3); with 2 degrees of freedom the quantile has a closed form
    values = interval(torch.tensor([1.0, 2.0, 3.0]))
    half = 0.95 * (2 / (1 - 0.95**2)) ** 0.5 / 3**0.5
    assert values == pytest.approx({"mean": 2.0, "low": 2 - half, "high": 2 + half}, rel=1e-8)


# ---- offline


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_leaves_named_metrics_that_brute_force_on_its_saved_model_reproduces(
    objective, run, tiny_folder, tiny_tokenizer, tmp_path, naive_logps
):
    out = run(objective=objective, save=True)
    rows = read_rows(out)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 3]
    assert rows[0].keys() == rows[-1].keys() == TRL | {"step"}
    steps = {name.removeprefix("eval/") for name in TRL} | {"step", "lr", "grad_norm"}
    assert all(row.keys() == steps for row in rows[1:-1])

    pairs = encoded(tmp_path / "eval.jsonl", tiny_tokenizer)
    reference = load_double(tiny_folder)
    for row, model in ((rows[0], reference), (rows[-1], load_double(out / "checkpoints/last"))):
        with torch.no_grad():
            logp, reward, loss = naive_rewards_and_loss(objective, model, reference, pairs, naive_logps)
        margin = reward[:, 0] - reward[:, 1]
        exact = {
            "loss": loss,
            "rewards/chosen": reward[:, 0],
            "rewards/rejected": reward[:, 1],
            "rewards/margins": margin,
            "rewards/accuracies": (margin > 0) + 0.5 * (margin == 0),
            "logps/chosen": logp[:, 0],
            "logps/rejected": logp[:, 1],
        }
        for name, values in exact.items():
            # float32 sums of about 10 token log-probs of size 5
            assert row[f"eval/{name}"] == pytest.approx(values.mean().item(), rel=2e-5, abs=2e-5), name
    assert rows[-1]["eval/logps/chosen"] != pytest.approx(rows[0]["eval/logps/chosen"], abs=0.1)  # it did train

    summary = json.loads((out / "summary.json").read_text())
    assert summary["after"]["loss"]["mean"] == pytest.approx(rows[-1]["eval/loss"], rel=1e-6)
    assert (summary["train_pairs"], summary["eval_pairs"]) == (6, 5)
    assert {row["step"] for row in read_rows(out, "samples.jsonl")} == {0, 3}
    assert "versions" in json.loads((out / "config.json").read_text())


def test_dpo_starts_at_log_2_with_margins_0(run):
    rows = read_rows(run(max_steps=1))
    for row, prefix in ((rows[0], "eval/"), (rows[1], "")):
        assert row[f"{prefix}loss"] == pytest.approx(np.log(2), abs=1e-6)
        assert row[f"{prefix}rewards/margins"] == pytest.approx(0, abs=1e-5)  # other batches, other roundings
    assert rows[0]["eval/rewards/margins"] == 0
    assert rows[0]["eval/rewards/accuracies"] == 0.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_that_of_the_mean_loss_over_the_batch_however_it_is_split(
    objective, run, tiny_folder, tiny_tokenizer, tmp_path, naive_logps
):
    norms = []
    for size in (1, 2, 4, 6):  # 4 splits the batch of 6 unevenly
        out = run(f"micro-{size}", objective=objective, max_steps=1, batch_size=6, micro_batch_size=size)
        norms.append(read_rows(out)[1]["grad_norm"])
    np.testing.assert_allclose(norms, norms[-1], rtol=1e-5)
    model, reference = load_double(tiny_folder), load_double(tiny_folder)
    pairs = encoded(tmp_path / "train.jsonl", tiny_tokenizer)
    naive_rewards_and_loss(objective, model, reference, pairs, naive_logps)[2].mean().backward()
    assert norms[-1] == pytest.approx(grad_norm(model), rel=1e-4)  # float32 against float64


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(run):
    first, again, other = (read_rows(run(out, seed=s, batch_size=2)) for out, s in (("a", 5), ("b", 5), ("c", 6)))
    assert first == again
    assert first[1:] != other[1:]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_planted_signal_is_learned_and_carries_to_pairs_never_seen(objective, run, tmp_path):
    data = write_pairs(tmp_path / "signal.jsonl", 40, chosen="Q", rejected="Z")
    held = write_pairs(tmp_path / "held.jsonl", 10, seed=2, chosen="Q", rejected="Z")
    control = write_pairs(tmp_path / "control.jsonl", 10, seed=2, chosen="Z", rejected="Q")
    options = {"objective": objective, "data": data, "max_steps": 10, "lr": 1e-2}
    change = {}
    for path in (held, control):
        before, *_, after = read_rows(run(path.stem, eval_data=path, **options))
        change[path] = {name: after[f"eval/{name}"] - before[f"eval/{name}"] for name in ("loss", "rewards/margins")}
    assert change[held]["rewards/margins"] > 0.1  # at a temperature of 0.03 that is 3 nats
    assert change[held]["loss"] < -0.03
    # the control: the same training judged by pairs that prefer the other letter
    assert change[control]["rewards/margins"] < -0.1
    assert change[control]["loss"] > 0.03


def test_bf16_and_float32_runs_follow_one_another_in_one_process(run):
    first, second, third = (read_rows(run(d, dtype=d.split("-")[0])) for d in ("float32", "bf16", "float32-again"))
    assert first == third
    assert second != first
    assert second[-1]["eval/logps/chosen"] == pytest.approx(first[-1]["eval/logps/chosen"], rel=0.05)


def test_skipped_and_truncated_rows_are_counted_where_the_user_sees_them(run, tmp_path, capsys):
    data = write_pairs(tmp_path / "some.jsonl", 4)
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "p", "chosen": "", "rejected": "b"}) + "\n")
        file.write(json.dumps({"prompt": "p", "chosen": "c" * 300, "rejected": "b"}) + "\n")
    out = run(data=data, max_length=100, max_steps=1, quiet=False)
    note = json.loads((out / "config.json").read_text())["config"]["data_note"]
    assert "5 pairs used, 1 skipped, 1 responses truncated" in note
    assert f"skipped {data} line 5: empty response" in capsys.readouterr().out.replace("\n", " ")


def test_pairs_of_its_own_come_from_a_cache_the_second_time(run, monkeypatch):
    def letters(text, topic):
        return sum(c.isalpha() for c in text) / 20

    monkeypatch.setattr("llm.sampling.on_topic_sentiment", letters)
    options = {"data": None, "eval_data": None, "eval_size": 10, "max_steps": 1}
    first = read_rows(run("a", **options))
    monkeypatch.setattr("llm.sampling.sample", lambda *a, **k: pytest.fail("sampled again"))
    assert read_rows(run("b", **options)) == first


# ---- online


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


# ---- bad input


def llm(*arguments, cwd):
    command = [sys.executable, "-m", "llm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--objective", "dpo", "--data", "no-such.jsonl"), "no such file: no-such.jsonl"),
        (("train", "--objective", "dop"), "did you mean 'dpo'"),
        (("train", "--objective", "dpo-pl"), "takes rankings"),
        (("train", "--objective", "dpo", "--beta", "-1"), "beta is -1.0"),
        (("train", "--objective", "dpo", "--alpha", "1"), "takes no alpha"),
        (("train", "--objective", "dpo", "--lr", "nan"), "--lr is nan"),
        (("train", "--objective", "dpo", "--batch-size", "0"), "--batch-size is 0"),
        (("train", "--objective", "dpo", "--model", "./no-such-model"), "'./no-such-model' cannot be loaded"),
        (("online", "--regularizer", "entropi=1"), "did you mean 'entropy'"),
        (("online", "--regularizer", "kl", "--coefficient", "-1"), "coefficient is -1.0"),
        (("online", "--regularizer", "none", "--samples", "1"), "at least 2"),
    ],
)
def test_bad_input_is_one_line_that_names_it_with_status_2_and_leaves_no_run_folder(arguments, message, tmp_path):
    done = llm(*arguments, "--out", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_broken_data_is_found_before_the_model_is_loaded(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": ')
    done = llm("train", "--objective", "dpo", "--data", "a.jsonl", "--model", "./none", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: a.jsonl line 2: broken JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_help_answers_without_torch():
    code = "import sys, llm.config, llm.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
