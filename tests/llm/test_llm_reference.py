"""The reference: precomputed or beside the policy, the same numbers; and a cache that knows what it holds."""

import json
import shutil

import numpy as np
import pytest
import torch

from llm.engine.reference import EveryStep, Precomputed, _computed
from llm.offline.train import accumulate
from llm.settings.train import TrainConfig
from tests.helpers.llm_gradient import make_engine
from tests.helpers.llm_runs import NOTHING, encoded, read_rows, run_offline, write_pairs


@pytest.fixture
def run(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)

    def start(out="run", model=tiny_folder, **options):
        return run_offline(model, tmp_path / out, **({"data": data, "eval_data": held} | options))

    return start


@pytest.mark.parametrize(("double", "close"), [(False, 1e-6), (True, 1e-12)])
def test_precomputed_and_every_step_log_probs_agree_however_they_are_packed(
    double, close, tiny_folder, tmp_path, own_cache
):
    """One is packed comparison by comparison, the other with others: in float32 sums are rounded in another order."""
    engine, tokenizer = make_engine(tiny_folder, double=double)
    groups = encoded(write_pairs(tmp_path / "a.jsonl", 12), tokenizer)
    once, beside = Precomputed(engine, groups)(groups), EveryStep(engine)(groups)
    assert once.dtype == beside.dtype == (torch.float64 if double else torch.float32)
    assert ((once - beside).abs() / beside.abs()).max() < close
    assert beside.std() > 10  # not a comparison of equal numbers


def test_in_float64_training_with_either_reference_is_the_same_training(tiny_folder, tmp_path, own_cache):
    """So what differs in float32 is rounding, which Adam's division carries into later steps."""
    rows = []
    for kind in (Precomputed, EveryStep):
        engine, tokenizer = make_engine(tiny_folder, double=True)
        groups = encoded(write_pairs(tmp_path / "a.jsonl", 6), tokenizer)
        reference = Precomputed(engine, groups) if kind is Precomputed else EveryStep(engine)
        config = TrainConfig(objective="dpo", batch_size=6)
        for _ in range(3):
            rows.append(accumulate(engine, config.make_objective(), groups, reference, config))
            engine.gradient_norm()
            engine.step()
    for first, second in zip(rows[:3], rows[3:], strict=True):
        for a, b in zip(first, second, strict=True):
            assert a.pop("where") == b.pop("where")
            assert a == pytest.approx(b, rel=1e-9, abs=1e-9)
    assert abs(rows[2][0]["rewards/margins"]) > 0.01  # it moved


def without_ties(row):
    """A row of metrics; without accuracies where the policy still is the reference: every margin is 0 there but for
    rounding, which on a GPU differs between the two ways of packing.
    """
    return {name: value for name, value in row.items() if row["step"] > 1 or not name.endswith("accuracies")}


def test_runs_with_either_reference_leave_the_same_metrics(run):
    first, second = (read_rows(run(r, reference=r, lr=1e-2)) for r in ("precompute", "every-step"))
    for a, b in zip(map(without_ties, first), map(without_ties, second), strict=True):
        # the first step's numbers come from the same weights; later ones from weights that float32 set apart
        close = 1e-6 if a["step"] <= 1 else 1e-5
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=close, abs=2e-6)  # margins: beta times log-probs of 50 nats
    assert abs(first[-1]["eval/rewards/margins"]) > 1e-3  # both moved


@pytest.mark.cpu_bits
def test_every_margin_is_0_at_the_start(run):
    for reference in ("precompute", "every-step"):
        out = run(reference, max_steps=1, reference=reference)
        rows = [r for r in read_rows(out, "examples.jsonl") if r["step"] == 0]
        assert len(rows) == 5
        assert all(r["rewards/margins"] == 0 and r["loss"] == pytest.approx(np.log(2), abs=1e-6) for r in rows)


def test_the_reference_of_adapters_is_the_model_without_them(run):
    first, second = (read_rows(run(r, lora_rank=4, lr=1e-2, reference=r)) for r in ("precompute", "every-step"))
    for a, b in zip(map(without_ties, first), map(without_ties, second), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=2e-6)
    assert abs(first[-1]["eval/rewards/margins"]) > 1e-3


@pytest.mark.parametrize("kind", [Precomputed, EveryStep])
def test_a_step_asks_the_reference_once_a_pass(kind, run, monkeypatch):
    """And not once a comparison, for the records of a batch that did not diverge."""
    asked, original = [], kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, groups: (asked.append(len(groups)), original(self, groups))[1])
    name = {Precomputed: "precompute", EveryStep: "every-step"}[kind]
    run(reference=name, batch_size=6, max_steps=3)
    assert asked == [5, 6, 6, 6, 5]  # before, three steps of one pass, after


@pytest.mark.cpu_bits
def test_reference_log_probs_are_computed_once_for_the_same_model_and_tokens(run, tmp_path, monkeypatch):
    from llm.engine.engine import Engine

    calls, original = [], Engine.logps
    monkeypatch.setattr(Engine, "logps", lambda self, e: calls.append(len(e)) or original(self, e))
    first = read_rows(run("a"))
    reference, evaluations = 2 * (6 + 5), 2 * 2 * 5  # responses scored: 6 + 5 comparisons, and 5 before and after
    assert sum(calls) == reference + evaluations
    assert len(calls) < 11  # several comparisons a call
    calls.clear()
    assert read_rows(run("b")) == first
    assert sum(calls) == evaluations  # the rest was looked up
    calls.clear()
    run("c", data=write_pairs(tmp_path / "more.jsonl", 6, seed=9))
    assert sum(calls) == 2 * 6 + evaluations  # other tokens were not; the evaluation's were


def test_every_process_scores_its_share_of_the_reference(tiny_folder, tmp_path, own_cache, monkeypatch):
    """None waits for another that does all of it, which NCCL lets it do for ten minutes only."""
    engine, tokenizer = make_engine(tiny_folder)
    groups = encoded(write_pairs(tmp_path / "a.jsonl", 7), tokenizer)
    whole = _computed(engine, groups, 512)
    shares = []
    monkeypatch.setattr("llm.engine.engine.Engine.processes", 2)
    monkeypatch.setattr("llm.engine.engine.Engine.gather", lambda self, rows: shares.append(rows) or rows)
    for rank in (0, 1):
        monkeypatch.setattr("llm.engine.engine.Engine.rank", rank)
        _computed(engine, groups, 512)
    assert [len(rows) for rows in shares] == [4, 3]
    assert np.concatenate([shares[i % 2][i // 2] for i in range(7)]) == pytest.approx(whole, rel=1e-6)


def test_the_same_weights_under_another_configuration_are_another_reference(run, tiny_folder, tmp_path):
    run("a")
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 0.1}))
    first = read_rows(run("b", model=other))[0]
    assert first["eval/loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert first["eval/rewards/margins"] == pytest.approx(0, abs=NOTHING)
    assert first["eval/logps/chosen"] != pytest.approx(read_rows(run("c"))[0]["eval/logps/chosen"], abs=0.01)
