"""What a user may ask of `train`: precision, adapters, exports, caches, trackers; and how it ends when numbers fail."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from derivations.cli.errors import InputError
from llm.engine.engine import rate_factor
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import load_model
from tests.helpers.llm_runs import encoded, read_rows, run_offline, write_pairs


@pytest.fixture
def run(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)

    def start(out="run", **options):
        return run_offline(tiny_folder, tmp_path / out, **({"data": data, "eval_data": held} | options))

    return start


@pytest.mark.cpu_bits
def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(run):
    first, again, other = (read_rows(run(out, seed=s, batch_size=2)) for out, s in (("a", 5), ("b", 5), ("c", 6)))
    assert first == again
    assert first[1:] != other[1:]


@pytest.mark.cpu_bits
def test_bf16_and_float32_runs_follow_one_another_in_one_process(run):
    first, second, third = (read_rows(run(d, dtype=d.split("-")[0])) for d in ("float32", "bf16", "float32-again"))
    assert first == third
    assert second != first
    assert second[-1]["eval/logps/chosen"] == pytest.approx(first[-1]["eval/logps/chosen"], rel=0.05)


def test_recomputing_layers_changes_nothing_but_memory(run):
    plain, recomputed = (read_rows(run(str(c), gradient_checkpointing=c)) for c in (False, True))
    for a, b in zip(plain, recomputed, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


def loaded_logps(folder, groups):
    """Through `AutoModelForCausalLM.from_pretrained` alone, as anybody would load it."""
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    examples = [e for g in groups for e in g.examples]
    values = []
    with torch.no_grad():
        for e in examples:
            table = model(input_ids=torch.tensor([e.prompt + e.response])).logits[0].log_softmax(-1)
            values.append(sum(table[len(e.prompt) + i - 1, t] for i, t in enumerate(e.response)).item())
    return np.array(values).reshape(-1, 2)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_adapters_train_alone_and_both_exports_load_as_the_model_that_was_measured(
    form, run, tiny_folder, tiny_tokenizer, tmp_path
):
    out = run(form, lora_rank=4, lora_alpha=8.0, lr=1e-2, export=form, save=True)
    rows = read_rows(out)
    assert rows[0]["eval/loss"] == pytest.approx(np.log(2), abs=1e-6)  # adapters start as nothing
    last = out / "checkpoints" / "last"
    assert (last / "adapter_config.json").exists() == (form == "adapter")
    logp = loaded_logps(last, encoded(tmp_path / "eval.jsonl", tiny_tokenizer))
    assert rows[-1]["eval/logps/chosen"] == pytest.approx(logp[:, 0].mean(), rel=5e-5)
    assert abs(rows[-1]["eval/logps/chosen"] - rows[0]["eval/logps/chosen"]) > 0.05
    if form == "merged":
        before, after = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (tiny_folder, last))
        assert before.keys() == after.keys()
        assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
        assert not torch.equal(before["model.layers.0.mlp.up_proj.weight"], after["model.layers.0.mlp.up_proj.weight"])


def test_the_saved_folder_has_a_card_that_says_what_was_measured(run, tiny_folder):
    out = run(save=True)
    card = (out / "checkpoints" / "last" / "README.md").read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert f"| loss | {summary['before']['loss']['mean']:.4f} | {summary['after']['loss']['mean']:.4f} |" in card
    assert "Nothing was measured about safety" in card
    assert '"objective": "dpo"' in card
    assert "pairs, 6 comparisons used" in card
    assert AutoTokenizer.from_pretrained(out / "checkpoints" / "last").eos_token_id == 256
    model, _ = load_model(str(out / "checkpoints" / "last"))  # and it can be trained on
    assert model.config.model_type == "llama"


def test_skipped_and_truncated_rows_are_counted_where_the_user_sees_them(run, tmp_path, capsys):
    data = write_pairs(tmp_path / "some.jsonl", 4)
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "p", "chosen": "", "rejected": "b"}) + "\n")
        file.write(json.dumps({"prompt": "p", "chosen": "c" * 300, "rejected": "b"}) + "\n")
    out = run(data=data, max_length=100, max_steps=1, quiet=False)
    note = json.loads((out / "config.json").read_text())["config"]["data_note"]
    assert "5 comparisons used, 1 skipped, 1 responses truncated" in note
    printed = capsys.readouterr().out.replace("\n", " ")
    assert f"skipped 1: empty response (first: {data} line 5)" in printed
    assert "runs on: 1 process, " in printed
    (row,) = read_rows(out, "skipped.jsonl")
    assert row == {"where": f"{data} line 5", "reason": "empty response"}


@pytest.mark.cpu_bits
@pytest.mark.parametrize("objective", ["maxent", "maxent-pl"])
def test_comparisons_of_its_own_come_from_a_cache_the_second_time(objective, run, monkeypatch):
    def letters(text, topic):
        return sum(c.isalpha() for c in text) / 20

    monkeypatch.setattr("llm.sampling.reference_pool.on_topic_sentiment", letters)
    options = {"objective": objective, "data": None, "eval_data": None, "eval_size": 10, "max_steps": 1}
    with pytest.raises(InputError, match="--max-length is 16, but the model's own comparisons take up to "):
        run("short", **options, max_length=16)
    first = read_rows(run("a", **options))
    # the three continuations of an evaluation are drawn anew, the pool of 8 a prompt is not
    monkeypatch.setattr("llm.sampling.sampler.sample", lambda *a, **k: pytest.fail("sampled again"))
    assert read_rows(run("b", **options)) == first


def test_metrics_reach_the_tracker(run):
    out = run(tracker="tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "maxent-rlhf"))
    events.Reload()
    logged = [(e.step, e.value) for e in events.Scalars("loss")]
    expected = [(row["step"], row["loss"]) for row in read_rows(out)[1:-1]]
    assert [s for s, _ in logged] == [s for s, _ in expected]
    np.testing.assert_allclose([v for _, v in logged], [v for _, v in expected], rtol=1e-6)  # float32 in the file


def test_a_run_that_diverges_ends_in_one_line_with_the_batch_for_replay(run, tmp_path):
    with pytest.raises(InputError, match=r"diverged at step \d+: loss .*lower --lr \(now 1e\+30\)"):
        run(lr=1e30, schedule="constant", max_steps=5)
    saved = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert saved["step"] >= 1
    assert saved["batch"]
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_loss_that_is_infinite_before_the_first_step_is_not_blamed_on_the_learning_rate(run):
    with pytest.raises(InputError, match="the loss of the untrained model is inf; check --beta, --alpha"):
        run(objective="ipo", beta=1e-30)


@pytest.mark.parametrize(("schedule", "steps"), [("cosine", 1), ("cosine", 20), ("constant", 5)])
def test_no_step_has_rate_0_and_the_cosine_rises_a_tenth_and_falls(schedule, steps):
    factors = [rate_factor(step, steps, schedule) for step in range(steps)]
    assert all(0 < f <= 1 for f in factors)
    if schedule == "constant":
        assert set(factors) == {1.0}
    elif steps > 1:
        peak = int(np.argmax(factors))
        assert peak <= steps // 10
        assert factors[peak:] == sorted(factors[peak:], reverse=True)
        assert factors[-1] < 0.02


def test_adapters_leave_log_probs_as_they_are_until_trained(tiny_model):
    from llm.scoring.models import add_lora
    from llm.scoring.packing import Example

    examples = [Example((1, 2), (3, 4), False), Example((1, 2), (5,), False)]
    model = tiny_model()
    with torch.no_grad():
        plain = sequence_logps(model, examples)
        peft = add_lora(model, rank=2, alpha=4.0)
        assert torch.equal(sequence_logps(peft.get_base_model(), examples), plain)
    trained = [name for name, p in peft.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and "lm_head" not in name for name in trained)
