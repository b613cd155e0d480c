"""The hot path on a GPU: one masked call and FlexAttention against float64 on the CPU. `make gpu-check` runs it."""

import json

import pytest
import torch

from llm.engine.determinism import set_determinism
from llm.scoring.logprobs import sequence_logps
from tests.helpers.llm_runs import assert_same_weights, read_rows, run_offline, write_pairs
from tests.llm.test_llm_logprobs import ARCHITECTURES, MIXED, WEIGHTS, assert_same_gradients, assert_same_logps, make

BIG = {"hidden_size": 64, "head_dim": 16, "n_embd": 64}  # FlexAttention takes heads of 16 or more

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("implementation", ["packed", "flex_attention"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_and_gradients_on_the_device_are_those_of_float64_on_the_cpu(name, implementation, naive_logps):
    if (name, implementation) == ("gpt2", "flex_attention"):
        pytest.skip("transformers has no FlexAttention for it")
    double = make(name, **BIG).double()
    exact = naive_logps(double, MIXED)
    (exact @ WEIGHTS.double()).backward()
    model = make(name, **BIG)
    model.set_attn_implementation(implementation)
    model.to("cuda")
    got = sequence_logps(model, MIXED, batch_tokens=200)
    assert got.device.type == "cuda"
    assert_same_logps(got.cpu(), exact, MIXED)
    (got @ WEIGHTS.cuda()).backward()
    host = make(name, **BIG)
    for p, q in zip(host.parameters(), model.parameters(), strict=True):
        p.grad = q.grad.cpu()
    assert_same_gradients(host, double)


def test_bf16_on_the_device_stays_near_float32(tiny_model):
    model = tiny_model().cuda()
    with torch.no_grad():
        exact = sequence_logps(model, MIXED)
        with torch.autocast("cuda", torch.bfloat16):
            got = sequence_logps(model, MIXED)
    assert got.dtype == torch.float32
    assert 0 < (got - exact).abs().max() < 2.0  # nats a sequence; LLM: 0.3 RMS on 87 tokens of a trained model


def test_a_deterministic_run_is_the_same_run_twice_bit_for_bit(tiny_folder, tmp_path, own_cache):
    data = write_pairs(tmp_path / "train.jsonl", 12)
    options = {"data": data, "eval_size": 4, "batch_size": 8, "lr": 1e-2, "deterministic": True, "save": True}
    try:
        a, b = (run_offline(tiny_folder, tmp_path / name, **options) for name in "ab")
    finally:
        set_determinism(False)
    assert read_rows(a) == read_rows(b)
    assert read_rows(a, "examples.jsonl") == read_rows(b, "examples.jsonl")
    assert_same_weights(a, b)


def test_a_run_takes_the_device_s_passes(tiny_folder, tmp_path, own_cache):
    data = write_pairs(tmp_path / "train.jsonl", 6)
    out = run_offline(tiny_folder, tmp_path / "run", data=data, eval_size=2, max_steps=1)
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["passes"] == {"micro_batch_tokens": 16384, "batch_tokens": 16384, "chunk_tokens": 2048}
    assert 0 < json.loads((out / "summary.json").read_text())["peak_memory_gib"] < 4  # the device's, not the host's
