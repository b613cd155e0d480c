"""Compiled layers: the same log-probs and gradients within their own tolerance, compiled once for all lengths."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from llm.scoring.compiled import PER_TOKEN, compile_layers, decoder_layers, is_compiled
from llm.scoring.logprobs import sequence_logps
from llm.scoring.packing import lengths
from tests.helpers.llm_runs import read_rows, run_offline, write_pairs
from tests.llm.test_llm_logprobs import ARCHITECTURES, MIXED, WEIGHTS, make


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_s_decoder_layers_are_found(name):
    assert len(decoder_layers(make(name))) == 2


def test_compiled_layers_give_the_same_within_their_tolerance():
    plain = make("llama")
    model = copy.deepcopy(plain)
    compile_layers(model)
    assert is_compiled(model)
    assert not is_compiled(plain)
    assert not is_compiled(copy.deepcopy(model))
    assert model.state_dict().keys() == plain.state_dict().keys()
    found = [sequence_logps(m, MIXED, batch_tokens=200) for m in (model, plain)]
    error = (found[0] - found[1]).abs() / lengths(MIXED)
    assert 0 < error.max() < PER_TOKEN  # 0 would mean that nothing was compiled
    for logps in found:
        (logps @ WEIGHTS).backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert (p.grad - q.grad).norm() < 1e-4 * q.grad.norm(), name


@pytest.mark.parametrize("implementation", ["packed", "sdpa"])
def test_other_packs_are_not_compiled_again(implementation):
    model = make("llama")
    model.set_attn_implementation(implementation)
    counter = CompileCounterWithBackend("aot_eager")
    compile_layers(model, backend=counter)
    frames = []
    for n in (3, 5, 7, 9, 12):
        sequence_logps(model, MIXED[:n]).sum().backward()
        frames.append(counter.frame_count)
    assert 0 < len(set(frames)) <= 2  # a second time at most, for one row and for several
    assert frames[0] > 0


def test_a_run_with_compiled_layers_measures_the_same(tiny_folder, tmp_path, own_cache, monkeypatch):
    """The policy and its frozen copy; by a backend that compiles at once, which the test of the tolerance does not."""
    compiled_models, backend = [], CompileCounterWithBackend("aot_eager")

    def quick(model):
        compiled_models.append(model)
        compile_layers(model, backend=backend)

    for module in ("offline.train", "engine.reference"):
        monkeypatch.setattr(f"llm.{module}.compile_layers", quick)
    data = write_pairs(tmp_path / "train.jsonl", 6)
    options = {"data": data, "eval_size": 2, "max_steps": 1, "reference": "every-step"}
    plain, compiled = (
        read_rows(run_offline(tiny_folder, tmp_path / str(c), compile_layers=c, **options)) for c in (False, True)
    )
    assert compiled[0]["eval/rewards/margins"] == pytest.approx(0, abs=1e-5)
    for a, b in zip(plain, compiled, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)
    assert len(compiled_models) == 2
    assert backend.frame_count > 0
