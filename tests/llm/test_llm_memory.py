"""Memory of training on a CPU: what is kept, what is made a second time, and that the numbers stay the same."""

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llm.engine.engine import Engine
from llm.scoring.models import load_tokenizer
from tests.helpers.llm_runs import encoded, write_pairs

SHAPES = range(200, 340)  # more matrix products, each of a shape of its own, than the engine lets oneDNN keep

PRODUCTS = f"""
import sys, torch
from tests.stress.tiny import tiny_model
from llm.engine.engine import Engine
if sys.argv[1] == "engine":
    Engine(tiny_model(), lr=1.0, dtype="bf16", max_grad_norm=1.0, seed=0)
weight = torch.ones(64, 64, dtype=torch.bfloat16)
print("products", flush=True)
for n in [*{SHAPES!r}, {SHAPES[0]}]:
    torch.ones(n, 64, dtype=torch.bfloat16) @ weight
"""


@pytest.mark.parametrize(("who", "kept"), [("engine", False), ("nobody", True)])
def test_an_engine_lets_onednn_keep_only_its_last_kernels(who, kept):
    """oneDNN itself says of each product whether it still had its kernel; without the engine it has the first one."""
    environment = os.environ | {"ONEDNN_VERBOSE": "profile_create", "ACCELERATE_USE_CPU": "true"}
    environment.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS, who], capture_output=True, text=True, env=environment, timeout=300, check=True
    )
    lines = done.stdout.split("products\n")[1].splitlines()
    made = [",create:cache_hit," in line for line in lines if ",primitive,create:" in line]
    if not made:
        pytest.skip("on this processor torch does not multiply bf16 matrices by oneDNN")
    assert made == [False] * len(SHAPES) + [kept]


class Allocations(TorchDispatchMode):
    """Counts results the size of a tensor that are not views of one there was before."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.names = shape, []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.shape == self.shape and result.layout == torch.strided:
            dense = [a for a in arguments if isinstance(a, torch.Tensor) and a.layout == torch.strided]
            self.names += [str(function)] * (result.data_ptr() not in [a.data_ptr() for a in dense])
        return result


def step(engine, groups, *, passes=2, watch=None):
    """Gradients of a step of several passes over the groups, by Engine's own calls."""
    with engine.micro_steps():
        for number in range(passes):
            logp = engine.loss_logps([e for g in groups for e in g.examples], last=number == passes - 1)
            with watch or nullcontext():
                engine.backward(logp.sum() / passes, last=number == passes - 1)
    return [p.grad.clone() for p in engine.unwrapped.parameters()]


@pytest.fixture
def groups(tiny_folder, tmp_path):
    return encoded(write_pairs(tmp_path / "pairs.jsonl", 5), load_tokenizer(str(tiny_folder)))


@pytest.mark.parametrize("tied", [True, False])
def test_a_pass_makes_no_second_gradient_of_the_vocabulary_s_size(tied, tiny_model, groups):
    engine = Engine(tiny_model(tied=tied), lr=1e-2, dtype="float32", max_grad_norm=1e9, seed=0)
    step(engine, groups)  # the gradient itself is there now
    watch = Allocations(engine.transformer.get_output_embeddings().weight.shape)
    step(engine, groups, passes=1, watch=watch)
    assert len(watch.names) == (0 if tied else 1)  # an embedding of its own has a dense one


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_the_engine_s_gradient_is_that_of_plain_autograd(dtype, tiny_model, groups):
    engine = Engine(tiny_model(), lr=1e-2, dtype=dtype, max_grad_norm=1e9, seed=0)
    got = step(engine, groups)
    assert all(g.layout == torch.strided for g in got)
    engine.optimizer.zero_grad()
    engine.transformer.get_input_embeddings().sparse = False
    with engine.micro_steps():
        logp = engine.unwrapped([e for g in groups for e in g.examples])
    expected = torch.autograd.grad(logp.sum(), list(engine.unwrapped.parameters()))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4 if dtype == "float32" else 1e-2, atol=1e-5 * b.abs().max().item())


def test_an_optimizer_step_is_adamw_of_a_loop_to_float32_rounding(tiny_model, groups):
    model = tiny_model()
    engine = Engine(model, lr=1e-2, dtype="float32", max_grad_norm=1e9, seed=0)
    copies = [p.detach().clone().requires_grad_() for p in model.parameters()]
    loop = torch.optim.AdamW(copies, lr=1e-2, weight_decay=0.0, foreach=False)
    for _ in range(5):
        for copy, gradient in zip(copies, step(engine, groups), strict=True):
            copy.grad = gradient
        engine.step()
        loop.step()
    for got, expected in zip(model.parameters(), copies, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
