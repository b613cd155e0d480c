"""What only a GPU runs, as far as it can be seen without one: which devices and switches are asked for."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import llm.offline.replay
import llm.scoring.head
from derivations.cli.errors import InputError
from llm.engine.checkpoints import load_random_states
from llm.engine.determinism import cumulative, set_determinism, unchecked
from llm.engine.engine import Engine
from llm.engine.memory import peak_memory_gib
from llm.sampling.reference_pool import reference_pool
from llm.scoring.head import head_logps
from llm.scoring.logprobs import segments, sequence_logps
from llm.scoring.packing import Example
from llm.settings.train import TrainConfig
from tests.helpers.llm_gradient import make_engine
from tests.helpers.llm_runs import run_offline, run_online, write_pairs
from tests.llm.test_llm_logprobs import MIXED, assert_same_logps, make

META = torch.device("meta")
ROOT = Path(__file__).parents[2]


def test_the_head_s_products_are_tf32_under_bf16_alone_and_nothing_else_is(monkeypatch):
    seen, original = [], llm.scoring.head._logits

    def spy(*tensors):
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return original(*tensors)

    monkeypatch.setattr(llm.scoring.head, "_logits", spy)
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.arange(5)
    assert torch.backends.cuda.matmul.allow_tf32 is False
    with torch.autocast("cpu", torch.bfloat16):
        values = head_logps(hidden, weight, targets, chunk_tokens=5)
        assert torch.backends.cuda.matmul.allow_tf32 is False
    values.sum().backward()
    assert seen == [True, True]  # forward, and again backward
    assert torch.backends.cuda.matmul.allow_tf32 is False
    head_logps(hidden, weight, targets, chunk_tokens=5).sum().backward()
    assert seen == [True, True, False, False]

    def fail(*tensors):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(llm.scoring.head, "_logits", fail)
    with pytest.raises(RuntimeError), torch.autocast("cpu", torch.bfloat16):
        head_logps(hidden, weight, targets, chunk_tokens=5)
    assert torch.backends.cuda.matmul.allow_tf32 is False


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(11,), (11, 3)])
def test_sums_over_responses_in_one_call_are_those_of_each(how, shape):
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    sizes = [4, 1, 6]
    got = segments(values, torch.tensor(sizes), how)
    exact = torch.stack([getattr(own, how)(0) for own in values.split(sizes)])
    torch.testing.assert_close(got, exact)
    weights = torch.randn(exact.shape, dtype=torch.float64)
    slopes = [torch.autograd.grad((x * weights).sum(), values)[0] for x in (got, exact)]
    torch.testing.assert_close(*slopes)


class Drawing:
    """A sampler that says what it is asked."""

    name = "drawing"

    def __init__(self):
        self.calls = 0

    def draw(self, prompts, *, k, max_new_tokens, seed):
        self.calls += 1
        return [Example(p, (5,), False) for p in prompts for _ in range(k)]


def test_samples_of_another_device_or_precision_are_kept_apart(tiny_tokenizer, own_cache, monkeypatch):
    monkeypatch.setattr("llm.sampling.reference_pool.weights_hash", lambda model: "the same weights")
    narrow = set()
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind in narrow)
    sampler = Drawing()

    def pool(kind):
        weight = SimpleNamespace(device=torch.device(kind))
        model = SimpleNamespace(parameters=lambda: iter([weight]), generation_config=None)
        options = {"k": 1, "max_new_tokens": 1, "seed": 0, "quiet": True, "sampler": sampler}
        reference_pool(model, tiny_tokenizer, ["rain"], **options)
        return sampler.calls

    assert [pool("cpu"), pool("cpu"), pool("cuda"), pool("cuda")] == [1, 1, 2, 2]
    narrow.add("cpu")  # which is not the device's own
    assert pool("cuda") == 2
    narrow.add("cuda")
    assert pool("cuda") == 3


def test_replay_takes_the_reference_to_the_model_s_device(tiny_folder, tmp_path, own_cache, monkeypatch):
    data = write_pairs(tmp_path / "train.jsonl", 6)
    with pytest.raises(InputError, match="diverged"):
        run_offline(tiny_folder, tmp_path / "run", data=data, eval_size=2, lr=1e30, schedule="constant", max_steps=5)

    class Seen(Exception):
        pass

    def measure(objective, groups, logp, reference, kl):
        raise Seen(reference.device)

    monkeypatch.setattr(llm.offline.replay, "losses_and_rows", measure)
    monkeypatch.setattr(Engine, "device", META)
    with pytest.raises(Seen, match="meta"):
        llm.offline.replay.replay(tmp_path / "run")


def test_peak_memory_is_the_device_s_where_there_is_one(monkeypatch):
    host = peak_memory_gib()
    assert 0.05 < host < 100
    for name, value in (("is_available", True), ("is_initialized", True), ("max_memory_reserved", 3 * 2**30)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert peak_memory_gib() == 3


def test_a_checkpoint_s_generators_of_a_gpu_are_restored(tiny_folder, tmp_path, monkeypatch):
    engine, _ = make_engine(tiny_folder)
    engine.save(tmp_path / "checkpoint", {"step": 1})
    (path,) = (tmp_path / "checkpoint").glob("random_states_*.pkl")
    states, restored = torch.load(path, weights_only=False), []
    torch.save(states | {"torch_cuda_manual_seed": ["a generator's state"]}, path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    load_random_states(tmp_path / "checkpoint", engine.rank)
    assert restored == [["a generator's state"]]


def test_an_attention_that_the_model_has_not_is_one_line(tmp_path):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from llm.scoring.models import load_model
    from tests.stress.tiny import tiny_tokenizer

    sizes = {"vocab_size": 258, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=256)).save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    assert AutoTokenizer.from_pretrained(tmp_path / "gpt2").eos_token_id == 256
    with pytest.raises(InputError, match=r"--attention flex_attention: GPT2LMHeadModel .*; leave it out"):
        load_model(str(tmp_path / "gpt2"), implementation="flex_attention")


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt-neox"])
def test_flex_attention_scores_one_row_of_a_fixed_width(name, naive_logps, monkeypatch):
    """Uncompiled, as a CPU runs it: forward only. The device's suite has the compiled kernel and its gradient."""
    from torch.nn.attention import flex_attention as flex
    from transformers.integrations.flex_attention import WrappedFlexAttention

    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(WrappedFlexAttention, "__call__", lambda self: flex.flex_attention)
    model, shapes = make(name), set()
    exact = naive_logps(make(name).double(), MIXED)
    model.set_attn_implementation("flex_attention")
    model.base_model.register_forward_pre_hook(
        lambda module, args, options: shapes.add(options["input_ids"].shape), with_kwargs=True
    )
    with torch.no_grad():
        assert_same_logps(sequence_logps(model, MIXED, batch_tokens=200), exact, MIXED)
        assert_same_logps(sequence_logps(model, MIXED[:3], batch_tokens=200), exact[:3], MIXED[:3])
    assert shapes == {(1, 256)}  # whole blocks of 128; one shape, however much is in it


# ---- determinism


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    set_determinism(False)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_runs_ask_torch_and_cublas_for_it(wanted, restored, tiny_folder, tmp_path, own_cache):
    data = write_pairs(tmp_path / "train.jsonl", 6)
    if not wanted:
        set_determinism(True)  # an earlier run's
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
    run_offline(tiny_folder, tmp_path / "run", data=data, eval_size=2, max_steps=1, deterministic=wanted)
    assert torch.are_deterministic_algorithms_enabled() == wanted
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if wanted else None)


def test_what_the_caller_asked_of_torch_itself_is_left_alone(restored):
    torch.use_deterministic_algorithms(True)
    set_determinism(False)
    assert torch.are_deterministic_algorithms_enabled()


def test_online_runs_may_be_deterministic_too(restored, tiny_folder, tmp_path, shared_cache):
    run_online(tiny_folder, tmp_path / "run", max_steps=1, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()


def test_determinism_that_cannot_be_kept_is_refused(restored, monkeypatch):
    for option in ({"attention": "flex_attention"}, {"compile_layers": True}):
        with pytest.raises(InputError, match="--deterministic cannot be kept by the compiled kernels of --"):
            TrainConfig(objective="dpo", deterministic=True, **option)
        TrainConfig(objective="dpo", **option)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(InputError, match="CUBLAS_WORKSPACE_CONFIG=:0:0; set it to :4096:8 or :16:8"):
        set_determinism(True)


def test_cumulative_sums_are_taken_where_torch_would_refuse_them_and_of_two_rows_at_least(restored, monkeypatch):
    seen, original = [], torch.Tensor.cumsum

    def spy(self, *args, **options):
        seen.append((len(self), torch.are_deterministic_algorithms_enabled()))
        return original(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "cumsum", spy)
    rows = torch.rand(3, 7)
    exact = original(rows.double(), -1)
    for wanted, one in ((False, (1, False)), (True, (2, False))):
        torch.use_deterministic_algorithms(wanted)
        seen.clear()
        assert torch.equal(cumulative(rows), exact)
        assert torch.equal(cumulative(rows[:1]), exact[:1])
        assert seen == [(3, False), one]
        assert torch.are_deterministic_algorithms_enabled() == wanted
    with pytest.raises(RuntimeError), unchecked():
        raise RuntimeError
    assert torch.are_deterministic_algorithms_enabled()


def test_gpu_check_needs_neither_a_set_up_nor_a_network(tmp_path):
    command = ["make", "gpu-check", f"PYTHON={sys.executable}", f"VENV={tmp_path / 'none'}"]
    done = subprocess.run(["make", "--dry-run", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip" not in done.stdout
    assert '-m "not cpu_bits"' in done.stdout
    files = [word.rstrip(";") for word in done.stdout.split() if word.startswith("tests/")]
    assert len(files) > 4
    assert all((ROOT / file).exists() for file in files)
    if not torch.cuda.is_available():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "no CUDA device here, nothing was checked" in done.stdout
        assert not (tmp_path / "none").exists()
