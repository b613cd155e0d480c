"""Decoder layers through torch.compile: norms, rotary angles and activations fused into few kernels.

Layer by layer, not the whole model: all layers are one compiled function, lengths stay free, and attention, head and
losses are the code that is tested elsewhere. Sums are taken in another order than uncompiled, so log-probs differ by
rounding (`PER_TOKEN`). Parameters and their names stay as they are.
"""

from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

PER_TOKEN = 2e-5  # nats: how far a compiled float32 log-prob of a token may be from the uncompiled one


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The decoder layers of a transformers model, with or without adapters."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def compile_layers(model: Any, backend: Any = "inductor") -> None:
    """Compile each decoder layer in place at its first call, by a backend of torch.compile."""
    for layer in decoder_layers(model):
        layer.compile(dynamic=True, backend=backend)


def is_compiled(model: Any) -> bool:
    """Whether `compile_layers` was called on the model."""
    return any(layer._compiled_call_impl is not None for layer in decoder_layers(model))
