"""Offline training: metrics and gradients against formulas written out in float64, and planted truths."""

import json

import numpy as np
import pytest
import torch

from derivations.cli.errors import InputError
from derivations.names import OBJECTIVES as ALL_OBJECTIVES
from llm.offline.train import micro_batches
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import (
    NOTHING,
    OURS,
    TRL,
    encoded,
    grad_norm,
    load_double,
    read_rows,
    run_offline,
    write_pairs,
    write_rankings,
)

OBJECTIVES = {
    "dpo": {"beta": 0.2},
    "simpo": {"beta": 2.5, "gamma": 0.7},
    "maxent": {"alpha": 0.03},
    "ipo": {"beta": 0.5},
    "cdpo": {"beta": 0.2, "label_smoothing": 0.2},
    "simpo-shannon": {"beta": 2.5, "gamma": 0.0},
    "f-dpo": {"beta": 0.4, "divergence": "jensen-shannon"},
}


@pytest.fixture
def run(tiny_folder, tmp_path, own_cache):
    """Train the tiny model on 6 pairs, evaluate on 5; returns the run folder. Options may be replaced."""
    data, held = write_pairs(tmp_path / "train.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)

    def start(out="run", objective="dpo", **options):
        own = OBJECTIVES.get(objective, {})
        own = {"data": data, "eval_data": held, "objective": objective} | own | options
        return run_offline(tiny_folder, tmp_path / out, **own)

    return start


def naive(objective, model, reference, groups, naive_logps):
    """log-probs, implicit rewards [pairs, 2] and losses [pairs] of THEORY 1 and 2, written out in float64."""
    options = OBJECTIVES[objective]
    flat = [e for g in groups for e in g.examples]
    logp, ref = naive_logps(model, flat).reshape(-1, 2), naive_logps(reference, flat).detach().reshape(-1, 2)
    size = torch.tensor([float(len(e.response)) for e in flat], dtype=torch.float64).reshape(-1, 2)
    ratio = logp - ref
    reward = {
        "dpo": lambda: options["beta"] * ratio,
        "cdpo": lambda: options["beta"] * ratio,
        "ipo": lambda: options["beta"] * ratio,
        "simpo": lambda: options["beta"] * logp / size,
        "simpo-shannon": lambda: options["beta"] * (logp + 1) / size,
        "maxent": lambda: options["alpha"] * logp,
        "f-dpo": lambda: options["beta"] * torch.log(2 * ratio.exp() / (1 + ratio.exp())),
    }[objective]()
    margin = reward[:, 0] - reward[:, 1] - options.get("gamma", 0.0)
    smooth = options.get("label_smoothing", 0.0)
    loss = (1 - smooth) * torch.log1p(torch.exp(-margin)) + smooth * torch.log1p(torch.exp(margin))
    if objective == "ipo":
        loss = (ratio[:, 0] - ratio[:, 1] - 1 / (2 * options["beta"])) ** 2
    return logp, reward, loss


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_leaves_named_metrics_that_brute_force_on_its_saved_model_reproduces(
    objective, run, tiny_folder, tiny_tokenizer, tmp_path, naive_logps
):
    out = run(objective=objective, save=True)
    rows = read_rows(out)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 3]
    assert rows[0].keys() == rows[-1].keys() == {f"eval/{name}" for name in TRL + OURS} | {"step"}
    assert all(row.keys() == {*TRL, *OURS, "step", "lr", "grad_norm"} for row in rows[1:-1])

    groups = encoded(tmp_path / "eval.jsonl", tiny_tokenizer)
    reference = load_double(tiny_folder)
    for row, model in ((rows[0], reference), (rows[-1], load_double(out / "checkpoints/last"))):
        with torch.no_grad():
            logp, reward, loss = naive(objective, model, reference, groups, naive_logps)
        margin = reward[:, 0] - reward[:, 1]
        size = torch.tensor([[float(len(e.response)) for e in g.examples] for g in groups])
        exact = {
            "loss": loss,
            "rewards/chosen": reward[:, 0],
            "rewards/rejected": reward[:, 1],
            "rewards/margins": margin,
            "logps/chosen": logp[:, 0],
            "logps/rejected": logp[:, 1],
            "logps_per_token/chosen": logp[:, 0] / size[:, 0],
            "logps_per_token/rejected": logp[:, 1] / size[:, 1],
            "tokens/chosen": size[:, 0],
        }
        for name, values in exact.items():
            # float32 sums of about 10 token log-probs of size 5
            assert row[f"eval/{name}"] == pytest.approx(values.mean().item(), rel=5e-5, abs=2e-5), name
        # margins that are 0 in float64 may fall to either side
        sure, possible = ((margin > limit).double().mean().item() for limit in (1e-4, -1e-4))
        assert sure <= row["eval/rewards/accuracies"] <= possible
    assert rows[-1]["eval/logps/chosen"] != pytest.approx(rows[0]["eval/logps/chosen"], abs=0.1)  # it did train

    summary = json.loads((out / "summary.json").read_text())
    assert summary["after"]["loss"]["mean"] == pytest.approx(rows[-1]["eval/loss"], rel=1e-6)
    assert (summary["train_pairs"], summary["eval_pairs"]) == (6, 5)
    assert {row["step"] for row in read_rows(out, "samples.jsonl")} == {0, 3}
    assert "versions" in json.loads((out / "config.json").read_text())


def test_every_logged_number_is_the_mean_of_the_rows_of_single_comparisons(run):
    out = run(eval_every=2)
    examples = read_rows(out, "examples.jsonl")
    assert len(examples) == 3 * 4 + 3 * 5
    for row in read_rows(out):
        split = "eval" if "eval/loss" in row else "train"
        own = [e for e in examples if e["step"] == row["step"] and e["split"] == split]
        for name in TRL + OURS:
            logged = row["eval/" + name if split == "eval" else name]
            assert logged == pytest.approx(np.mean([e[name] for e in own]), rel=1e-12)
    assert {e["where"][-6:] for e in examples if e["split"] == "eval"} == {f"line {n}" for n in range(1, 6)}


@pytest.mark.parametrize("reference", ["precompute", "every-step"])
def test_dpo_starts_at_log_2_with_margins_0(reference, run):
    rows = read_rows(run(max_steps=1, reference=reference))
    for row, prefix in ((rows[0], "eval/"), (rows[1], "")):
        assert row[f"{prefix}loss"] == pytest.approx(np.log(2), abs=1e-6)
        assert row[f"{prefix}rewards/margins"] == pytest.approx(0, abs=1e-5)  # other batches, other roundings
    assert rows[0]["eval/rewards/margins"] == pytest.approx(0, abs=NOTHING)


@pytest.mark.cpu_bits
@pytest.mark.parametrize("reference", ["precompute", "every-step"])
def test_margins_of_exactly_0_are_half_right(reference, run):
    first = read_rows(run(max_steps=1, reference=reference))[0]
    assert first["eval/rewards/margins"] == 0
    assert first["eval/rewards/accuracies"] == 0.5


@pytest.mark.parametrize("objective", ["dpo", "simpo", "maxent"])
def test_the_gradient_is_that_of_the_mean_loss_over_the_batch_however_it_is_split(
    objective, run, tiny_folder, tiny_tokenizer, tmp_path, naive_logps
):
    norms = []
    for size in (1, 2, 4, 6):  # 4 splits the batch of 6 unevenly
        out = run(f"micro-{size}", objective=objective, max_steps=1, batch_size=6, micro_batch_size=size)
        norms.append(read_rows(out)[1]["grad_norm"])
    out = run("tokens", objective=objective, max_steps=1, batch_size=6, micro_batch_tokens=70)
    norms.append(read_rows(out)[1]["grad_norm"])
    np.testing.assert_allclose(norms, norms[0], rtol=1e-6)
    model, reference = load_double(tiny_folder), load_double(tiny_folder)
    groups = encoded(tmp_path / "train.jsonl", tiny_tokenizer)
    naive(objective, model, reference, groups, naive_logps)[2].mean().backward()
    assert norms[-1] == pytest.approx(grad_norm(model), rel=1e-4)  # float32 against float64


def test_micro_batches_hold_every_group_once_within_their_limits():
    groups = [range(n) for n in (5, 9, 2, 30, 4, 4)]
    for size, tokens in ((1, 100), (2, 100), (None, 10), (3, 12), (None, 1)):
        parts = list(micro_batches(groups, size=size, tokens=tokens))
        assert sorted(map(len, (g for part in parts for g in part))) == sorted(map(len, groups))
        assert all(len(part) <= (size or 99) for part in parts)
        assert all(sum(map(len, part)) <= tokens or len(part) == 1 for part in parts)


def test_rankings_of_several_sizes_are_trained_on_together(run, tiny_folder, tiny_tokenizer, tmp_path, naive_logps):
    data = write_rankings(tmp_path / "ranked.jsonl", (2, 3, 4, 3))
    rows = read_rows(run(objective="maxent-pl", alpha=0.1, data=str(data), max_steps=1, lr=1e-2))
    model = load_double(tiny_folder)
    losses = []
    for group in encoded(data, tiny_tokenizer, pairs_only=False):
        s = 0.1 * naive_logps(model, group.examples)
        losses.append(sum(s[k:].logsumexp(0) - s[k] for k in range(len(s) - 1)))
    torch.stack(losses).mean().backward()
    assert rows[1]["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert rows[1]["grad_norm"] == pytest.approx(grad_norm(model), rel=1e-4)
    top = read_rows(run("top", objective="maxent-pl", alpha=0.1, top=1, data=str(data), max_steps=1))
    assert top[1]["loss"] < rows[1]["loss"]  # fewer factors


@pytest.mark.parametrize("objective", sorted(ALL_OBJECTIVES))
def test_every_objective_of_the_ground_floor_lowers_its_own_loss(objective, run, tmp_path):
    listwise = objective.endswith("-pl")
    data = write_rankings(tmp_path / "r.jsonl", [3] * 4) if listwise else write_pairs(tmp_path / "p.jsonl", 4)
    options = {"divergence": "kl"} if objective.startswith("f-dpo") else {}
    rate = 3e-4 if objective == "ipo" else 3e-3  # a parabola, which longer steps overshoot
    rows = read_rows(run(objective=objective, data=data, eval_data=data, lr=rate, **options))
    assert rows[-1]["eval/loss"] < rows[0]["eval/loss"] - 1e-3


@pytest.mark.parametrize("objective", ["dpo", "simpo", "maxent"])
def test_a_planted_signal_is_learned_and_carries_to_pairs_never_seen(objective, run, tmp_path):
    data = write_pairs(tmp_path / "signal.jsonl", 40, chosen="Q", rejected="Z")
    held = write_pairs(tmp_path / "held.jsonl", 10, seed=2, chosen="Q", rejected="Z")
    control = write_pairs(tmp_path / "control.jsonl", 10, seed=2, chosen="Z", rejected="Q")
    options = {"objective": objective, "data": str(data), "max_steps": 10, "lr": 1e-2}
    change = {}
    for path in (held, control):
        before, *_, after = read_rows(run(path.stem, eval_data=str(path), **options))
        change[path] = {name: after[f"eval/{name}"] - before[f"eval/{name}"] for name in ("loss", "rewards/margins")}
    assert change[held]["rewards/margins"] > 0.1  # at a temperature of 0.03 that is 3 nats
    assert change[held]["loss"] < -0.03
    # the control: the same training judged by pairs that prefer the other letter
    assert change[control]["rewards/margins"] < -0.1
    assert change[control]["loss"] > 0.03


def test_training_stops_early_when_held_out_loss_no_longer_falls(run, tmp_path):
    other = write_pairs(tmp_path / "other.jsonl", 5, seed=1, chosen="y", rejected="x")  # judged the other way round
    out = run(eval_data=str(other), max_steps=20, eval_every=1, patience=2, lr=1e-2)
    summary = json.loads((out / "summary.json").read_text())
    losses = [row["eval/loss"] for row in read_rows(out) if "eval/loss" in row]
    assert summary["steps"] < 20
    best = int(np.argmin(losses))
    assert summary["steps"] == best + 2 == len(losses) - 1
    assert summary["after"]["loss"]["mean"] == pytest.approx(losses[-1], rel=1e-12)


def test_settings_of_every_objective_have_defaults_and_refuse_what_they_do_not_take():
    for name in ALL_OBJECTIVES:
        options = {"divergence": "kl"} if name.startswith("f-dpo") else {}
        TrainConfig(objective=name, **options)
    for wrong in ({"dtype": "float16"}, {"reference": "everystep"}, {"schedule": "linear"}, {"save": 1}, {"out": "a"}):
        (name,) = wrong  # from Python, where nothing else looks at types; silently it would be another run
        with pytest.raises(InputError, match=f"--{name} is {wrong[name]!r}, expected "):
            TrainConfig(objective="dpo", **wrong)
    with pytest.raises(InputError, match="--export adapter needs adapters"):
        TrainConfig(objective="dpo", export="adapter")
    with pytest.raises(InputError, match="--max-length is 1, expected"):
        TrainConfig(objective="dpo", max_length=1)
    assert TrainConfig(objective="dpo", lr=np.float64(1), max_steps=np.int64(3)).lr == 1
    with pytest.raises(InputError, match="divergence is None"):
        TrainConfig(objective="f-dpo")
    with pytest.raises(InputError, match="takes no gamma"):
        TrainConfig(objective="dpo", gamma=1.0)
