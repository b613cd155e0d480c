"""The head: logits in chunks, never rounded, with the gradient of finite differences."""

import pytest
import torch

from llm.scoring.head import head_logps, weight_gradient_in_place
from llm.scoring.logprobs import sequence_logps
from tests.llm.test_llm_logprobs import MIXED, PER_TOKEN


def head_problem(*, bias, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(11, 16, generator=generator), torch.randn(50, 16, generator=generator)
    extra = torch.randn(50, generator=generator) if bias else None
    targets = torch.randint(50, (11,), generator=generator)
    tensors = [x.to(dtype).requires_grad_() for x in (hidden, weight, extra) if x is not None]
    return tensors, targets


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("chunk", "block"), [(1, 8192), (4, 20), (11, 20), (11, 50), (99, 8192)])
def test_the_head_s_gradients_are_those_of_finite_differences(bias, chunk, block, monkeypatch):
    monkeypatch.setattr("llm.scoring.head.BLOCK", block)  # of a vocabulary of 50
    tensors, targets = head_problem(bias=bias, dtype=torch.float64)

    def f(hidden, weight, extra=None):
        return head_logps(hidden, weight, targets, bias=extra, chunk_tokens=chunk)

    exact = torch.nn.functional.linear(*tensors).log_softmax(-1)[torch.arange(11), targets]
    torch.testing.assert_close(f(*tensors), exact, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(f, tensors)


@pytest.mark.parametrize("chunk", [1, 5, 256])
def test_logits_are_never_held_for_more_than_one_chunk(chunk, tiny_model, monkeypatch):
    import llm.scoring.head as module

    seen, original = [], module._logits

    def spy(hidden, weight, bias, block):
        seen.append(len(hidden))
        return original(hidden, weight, bias, block)

    monkeypatch.setattr(module, "_logits", spy)
    model = tiny_model()
    sequence_logps(model, MIXED, chunk_tokens=chunk).sum().backward()
    assert max(seen) <= chunk
    assert sum(seen) == 2 * sum(len(e.response) for e in MIXED)  # response positions only, forward and again backward


def test_on_a_cpu_no_logits_are_held_for_more_than_a_block_of_the_vocabulary(monkeypatch):
    import llm.scoring.head as module

    seen, original = [], module._logits

    def spy(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(module, "BLOCK", 20)
    monkeypatch.setattr(module, "_logits", spy)
    tensors, targets = head_problem(bias=True)
    head_logps(*tensors[:2], targets, bias=tensors[2], chunk_tokens=11).sum().backward()
    assert [x.shape[1] for x in seen] == [20, 20, 10] * 2


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_gradient_added_in_place_is_the_gradient(tied, dtype, tiny_model):
    def gradients(allowed):
        model = tiny_model(tied=tied)
        for _ in range(2):  # the second pass adds to what the first left
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                loss = sequence_logps(model, MIXED, chunk_tokens=7).sum()
            with weight_gradient_in_place(allowed):
                loss.backward()
        return [p.grad for p in model.parameters()]

    for got, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_in_place_no_second_gradient_of_the_head_is_made(tiny_model):
    model = tiny_model(tied=False)
    weight = model.lm_head.weight
    arrived = []
    weight.register_hook(lambda gradient: arrived.append(gradient is not None))  # what goes through autograd
    sequence_logps(model, MIXED).sum().backward()
    kept, whole = weight.grad.data_ptr(), weight.grad.clone()
    with weight_gradient_in_place(True):
        sequence_logps(model, MIXED).sum().backward()
    assert sum(arrived) == 1
    assert weight.grad.data_ptr() == kept
    torch.testing.assert_close(weight.grad, 2 * whole)


def test_a_frozen_head_gets_no_gradient(tiny_model):
    model = tiny_model(tied=False)
    model.lm_head.weight.requires_grad_(False)
    with weight_gradient_in_place(True):
        sequence_logps(model, MIXED).sum().backward()
    assert model.lm_head.weight.grad is None
    assert model.model.layers[0].mlp.up_proj.weight.grad.norm() > 0


def test_under_bf16_autocast_no_logit_is_rounded(tiny_model, monkeypatch):
    import llm.scoring.logprobs as module

    seen = []

    def spy(hidden, weight, targets, **options):
        seen.append((hidden, targets, head_logps(hidden, weight, targets, **options)))
        return seen[-1][-1]

    monkeypatch.setattr(module, "head_logps", spy)
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert sequence_logps(model, MIXED).dtype == torch.float32
        ((hidden, targets, values),) = seen
        rounded = model.lm_head(hidden).double().log_softmax(-1)  # what a head under autocast would give
    exact = (hidden.double() @ model.lm_head.weight.double().T).log_softmax(-1)
    at = (torch.arange(len(targets)), targets)
    assert (values - exact[at]).abs().max() < PER_TOKEN
    assert (rounded[at] - exact[at]).abs().max() > 50 * PER_TOKEN


def test_under_bf16_autocast_the_head_passes_gradients_on_to_a_percent():
    tensors, targets = head_problem(bias=False)
    head_logps(*tensors, targets, chunk_tokens=4).sum().backward()
    exact = [x.grad.clone() for x in tensors]
    for x in tensors:
        x.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        values = head_logps(*tensors, targets, chunk_tokens=4)
    values.sum().backward()
    for x, g in zip(tensors, exact, strict=True):
        assert x.grad.dtype == torch.float32
        error = (x.grad - g).norm() / g.norm()
        assert 0 < error < 1e-2  # bf16 keeps 8 bits; 0 would mean that nothing ran narrowed
