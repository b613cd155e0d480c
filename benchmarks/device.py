"""Clocks, memory and models of the language-model benchmarks, on a CPU or a GPU."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from derivations.cli.errors import InputError

Device = Literal["cpu", "cuda"]

# Llamas with random weights: time and memory depend on sizes alone. 135m and 1b are SmolLM2-135M and TinyLlama-1.1B.
SIZES: dict[str, dict[str, int]] = {
    "random-tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "num_key_value_heads": 1, "vocab_size": 300},
    "random-135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                    "num_key_value_heads": 3, "vocab_size": 49152},
    "random-1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
                  "num_key_value_heads": 4, "vocab_size": 32000},
}  # fmt: skip
PLACE = Path("out/bench-models")


def require_model(name: str) -> None:
    """Refuse (InputError) a random model of a size that there is not."""
    if name.startswith("random-") and name not in SIZES:
        raise InputError(f"--model {name}: there are {', '.join(SIZES)}, `bundled` and local folders")


def model_place(name: str) -> str:
    """What `--model` loads: a folder made once for `random-...`, everything else as it is.

    The tokenizer of a random model is one token a byte.
    """
    if name not in SIZES:
        return name
    folder = PLACE / name
    if not (folder / "model.safetensors").is_file():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from llm.scoring.export import save_model
        from tests.stress.tiny import tiny_tokenizer

        torch.manual_seed(0)
        ends = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257}
        config = LlamaConfig(
            max_position_embeddings=8192, tie_word_embeddings=name != "random-1b", **SIZES[name], **ends
        )
        save_model(LlamaForCausalLM(config), tiny_tokenizer(), folder)
    return str(folder)


def take_device(device: Device) -> None:
    """Keep accelerate and TRL to the device that is measured. Raises InputError if it is not there."""
    import os

    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here")
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"


def now(device: Device) -> float:
    """Seconds, when all that was asked of the device so far is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def device_memory(device: Device) -> dict[str, float]:
    """The most the process has held on a GPU, GiB: of the allocator (peak_gib) and of tensors. {} on a CPU."""
    if device == "cpu":
        return {}
    import torch

    reserved, allocated = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
    return {"peak_gib": reserved / 2**30, "allocated_gib": allocated / 2**30}


def device_name(device: Device) -> str:
    """As the report names it."""
    if device == "cpu":
        return "a CPU"
    import torch

    return f"one {torch.cuda.get_device_name()}"


def trl_at_its_best(objective: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What TRL can be given here to be fast.

    Args:
        objective: `dpo` or `rloo` (whose trainers take Liger's kernels), `dpo` alone runs without padding.

    Returns:
        Options of its config, options of `from_pretrained`, and what was to be had and what not, in words.
    """
    options: dict[str, Any] = {"optim": "adamw_torch_fused"}
    loading: dict[str, Any] = {}
    said = ["fused AdamW"]
    if find_spec("liger_kernel"):
        options["use_liger_kernel"] = True
        said.append("Liger's kernels")
    else:
        said.append("no Liger kernels (liger_kernel is not installed)")
    if find_spec("flash_attn"):
        loading["attn_implementation"] = "flash_attention_2"
        said.append("flash attention")
        if objective == "dpo":
            options["padding_free"] = True
            said.append("no padding")
    else:
        said.append("SDPA and padding (flash_attn is not installed)")
    return options, loading, said
