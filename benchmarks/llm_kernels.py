"""What a training step asks of a GPU, counted without one: passes, kernels, and how often it waits.

The step runs on torch's `meta` device, which has shapes and no numbers, through the code that a GPU takes (all but
one fused call of attention, which stands for itself). Counted are operations of ATen that compute on the device,
each of them at least one kernel; operations on CPU tensors beside them; and synchronizations: values read back, and
copies in either direction that are waited for. The optimizer's own step is left out.

The file needs nothing but `llm` and `benchmarks.llm_offline_data`, so it also counts an older version of them:

    python benchmarks/llm_kernels.py
    git worktree add /tmp/before 1e825dc && PYTHONPATH=/tmp/before python benchmarks/llm_kernels.py
"""

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
ALLOCATE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"}
READ = {"tolist", "item", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "nonzero"}


@dataclass
class Count:
    """Of everything inside `with Counter() as count:`."""

    passes: int = 0
    kernels: int = 0
    cpu_operations: int = 0
    synchronizations: int = 0


class Counter:
    """Counts what runs on the meta device in its `with` block."""

    def __init__(self) -> None:
        self.count = Count()
        self.modes = [_Functions(self.count), _Operations(self.count)]

    def __enter__(self) -> Count:
        for mode in self.modes:
            mode.__enter__()
        return self.count

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)


class _Functions(TorchFunctionMode):
    """Answers what the meta device cannot: values that are read back (all 1), and fused attention."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if name in READ and isinstance(first, torch.Tensor) and first.device == META:
            self.count.synchronizations += 1
            ones = torch.ones(first.shape)
            return ones if name == "cpu" else getattr(ones, name)()
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu") == META:
            self.count.synchronizations += 1  # it is copied there, and waited for
            return torch.empty_like(torch.tensor(*args, **kwargs | {"device": None}), device=META)
        if func is torch.nn.functional.scaled_dot_product_attention and first.device == META:
            return _Attention.apply(self.count, *args[:3])
        return func(*args, **kwargs)


class _Attention(torch.autograd.Function):
    """One kernel forward and one backward, as the fused ones are."""

    @staticmethod
    def forward(ctx: Any, count: Count, query: Any, key: Any, value: Any) -> Any:
        ctx.count = count
        ctx.shapes = query.shape, key.shape, value.shape
        count.kernels += 1
        return torch.empty_like(query)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.count.kernels += 1
        return None, *(gradients[0].new_empty(shape) for shape in ctx.shapes)


class _Operations(TorchDispatchMode):
    """Operations of ATen below autograd, forward and backward."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [x.device for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        out = func(*args, **kwargs)
        made = [x.device for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        if func.is_view or func.overloadpacket.__name__ in ALLOCATE:
            return out
        if META not in (*given, *made):
            self.count.cpu_operations += 1
            return out
        self.count.kernels += 1
        whole = [x.device for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
        crossing = len({device.type for device in (*whole, *made)}) > 1
        if crossing and not kwargs.get("non_blocking", False):
            self.count.synchronizations += 1
        return out


@contextmanager
def without_autocast() -> Iterator[None]:
    """Float32: the meta device is none that autocast knows."""
    enabled, region = torch.is_autocast_enabled, torch.autocast

    def is_enabled(kind: str = "cpu") -> bool:
        return kind != "meta" and enabled(kind)

    def make_region(kind: str, *args: Any, **options: Any) -> Any:
        return nullcontext() if kind == "meta" else region(kind, *args, **options)

    with mock.patch.object(torch, "is_autocast_enabled", is_enabled), mock.patch.object(torch, "autocast", make_region):
        yield


def dialogue(pairs: int, *, seed: int = 0, max_length: int = 512) -> list[Any]:
    """Comparisons with the lengths of human dialogue (`benchmarks.llm_offline_data`); their ids do not matter."""
    from benchmarks.llm_offline_data import _dialogue
    from llm.data.tokens import Group
    from llm.scoring.packing import Example

    rng = random.Random(seed)  # noqa: S311
    drawn = [_dialogue(SimpleNamespace(max_length=max_length), list(range(9, 9000)), rng) for _ in range(pairs)]
    return [
        Group(tuple(Example(tuple(p["prompt"]), tuple(p[s]), True) for s in ("chosen", "rejected")), "") for p in drawn
    ]


def meta_model(layers: int) -> Any:
    """A Llama with the sizes of SmolLM2-135M and so many layers, without numbers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from llm.scoring import attention

    config = AutoConfig.for_model(
        "llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.set_attn_implementation(attention.NAME)
    return model


def count_step(groups: list[Any], *, layers: int, **options: Any) -> Count:
    """A step of SimPO on the comparisons: forward, losses, measurements, backward.

    options: of `TrainConfig`.
    """
    from llm.offline.train import accumulate
    from llm.scoring.logprobs import sequence_logps
    from llm.settings.train import TrainConfig

    model = meta_model(layers)
    passes: list[int] = []
    model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    engine = SimpleNamespace(
        rank=0,
        processes=1,
        device=META,
        micro_steps=nullcontext,
        loss_logps=lambda examples, last: sequence_logps(model, examples),
        backward=lambda loss, last: loss.backward(),
        gather=lambda rows: rows,
        evenly=lambda parts: parts,
    )
    config = TrainConfig(objective="simpo", batch_size=len(groups), **options)
    objective = config.make_objective()
    with without_autocast(), Counter() as count:
        accumulate(engine, objective, groups, None, config)  # type: ignore[arg-type]
    count.passes = len(passes)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--layers", type=int, default=30, help="30 as SmolLM2-135M has")
    options = parser.parse_args()
    print(json.dumps(asdict(count_step(dialogue(options.pairs), layers=options.layers))))


if __name__ == "__main__":
    main()
