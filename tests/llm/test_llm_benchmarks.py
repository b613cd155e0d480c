"""The language-model benchmarks on a CPU: models by size, clocks and memory, and one arm from end to end."""

import json
from types import SimpleNamespace

import pytest
import torch

import benchmarks.device
import llm.scoring.models
from benchmarks.device import SIZES, device_memory, device_name, model_place, now, take_device, trl_at_its_best
from benchmarks.llm_offline import CASES, GPU_CASES, Settings, markdown
from benchmarks.llm_offline_data import make_batches
from benchmarks.llm_online import Settings as Online
from benchmarks.worker import Worker
from derivations.cli.errors import InputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.device, "PLACE", tmp_path)
    return tmp_path


def test_random_models_have_the_sizes_of_those_they_stand_for():
    from transformers import LlamaConfig, LlamaForCausalLM

    counts = {}
    for name, sizes in SIZES.items():
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=name != "random-1b"))
        counts[name] = sum(p.numel() for p in model.parameters())
    assert counts["random-135m"] == 134_515_008
    assert counts["random-1b"] == 1_100_048_384


def test_a_random_model_is_made_once_and_loads_as_any_other(place):
    folder = model_place("random-tiny")
    made = (place / "random-tiny" / "model.safetensors").stat().st_mtime_ns
    assert model_place("random-tiny") == folder
    assert (place / "random-tiny" / "model.safetensors").stat().st_mtime_ns == made
    model, tokenizer = llm.scoring.models.load_model(folder)
    assert model.config.hidden_size == SIZES["random-tiny"]["hidden_size"]
    settings = Settings(model="random-tiny", batches=1, pairs=2)
    ids = [i for batch in make_batches(settings, seed=0) for pair in batch for own in pair.values() for i in own]
    assert 0 <= min(ids) <= max(ids) < len(tokenizer)
    assert model_place("bundled") == "bundled"


def test_what_is_not_there_is_refused(monkeypatch):
    for kind in (Settings, Online):
        with pytest.raises(InputError, match="--model random-9b: there are random-tiny, random-135m, random-1b"):
            kind(model="random-9b")
    with pytest.raises(InputError, match="needs --device cuda"):
        Settings(cases=("simpo-flex_attention-against-plain",))
    with pytest.raises(InputError, match="no case 'x'; there are: simpo-float32, "):
        Settings(cases=("x",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch sees no CUDA device"):
        take_device("cuda")


def test_each_device_has_its_own_rows():
    assert Settings().chosen() == list(CASES.values())
    gpu = Settings(device="cuda").chosen()
    assert gpu == list(GPU_CASES.values())
    assert {(c.attention, c.trl) for c in gpu} == {
        (a, t) for a in ("packed", "flex_attention") for t in ("plain", "best")
    }


def test_a_gpu_s_clock_waits_for_it_and_its_memory_is_its_own(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 5 * 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert now("cpu") <= now("cuda")
    assert waited == [1]
    assert device_memory("cuda") == {"peak_gib": 5, "allocated_gib": 4}
    assert device_memory("cpu") == {}
    assert device_name("cuda") == "one Some GPU"


def test_the_page_says_what_trl_could_be_given(monkeypatch):
    monkeypatch.setattr(benchmarks.device, "find_spec", lambda name: None)
    assert trl_at_its_best("dpo")[:2] == ({"optim": "adamw_torch_fused"}, {})
    text = markdown([], Settings(cases=("dpo-packed-against-best",), model="random-tiny"))
    assert "random-tiny on a CPU" in text
    assert "TRL at its best here, dpo: fused AdamW, no Liger kernels (liger_kernel is not installed), SDPA" in text
    monkeypatch.setattr(benchmarks.device, "find_spec", lambda name: SimpleNamespace())
    options, loading, said = trl_at_its_best("dpo")
    assert options == {"optim": "adamw_torch_fused", "use_liger_kernel": True, "padding_free": True}
    assert loading == {"attn_implementation": "flash_attention_2"}
    assert said == ["fused AdamW", "Liger's kernels", "flash attention", "no padding"]
    assert "padding_free" not in trl_at_its_best("simpo")[0]  # CPO has none


def test_random_weights_are_rewarded_by_what_varies_among_their_samples(tmp_path):
    golds = [
        json.loads(Online(**o).worker_options(0, tmp_path))["gold"]
        for o in ({}, {"model": "random-1b"}, {"model": "random-1b", "gold": "length"})
    ]
    assert golds == ["on-topic-sentiment", "fluency", "length"]


def test_our_arm_trains_a_random_model(tmp_path, monkeypatch):
    """In a process of its own, as the benchmark runs it."""
    settings = Settings(model="random-tiny", cases=("simpo-packed-against-plain",), batches=1, pairs=3, max_length=64)
    (case,) = settings.chosen()
    worker = Worker("ours", "benchmarks.llm_offline_worker", [settings.worker_options(case)])
    try:
        first, second = (worker.ask(batch) for batch in make_batches(settings, seed=0))
    finally:
        worker.close()
    for row in (first, second):
        assert row["seconds"] > 0
        assert row["loss"] > 0
        assert row["grad_norm"] > 0
        assert row["peak_gib"] > 0.05
    assert json.loads(settings.worker_options(case))["attention"] == "packed"
