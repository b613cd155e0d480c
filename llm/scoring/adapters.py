"""Folders that `--export adapter` wrote: low-rank adapters over a base model that they name.

They are merged into that base when they are loaded, so everything else sees an ordinary model.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from derivations.cli.errors import InputError
from derivations.cli.files import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BUNDLED = re.compile(r".*/maxent-rlhf/models/smollm2-135m-instruct-[^/]+")  # wherever the cache was, and in any version


def lineage(name: str) -> list[str]:
    """A model's name and, while it is the folder of an adapter, the base that the adapter names: [name, ..., base].

    Raises InputError for an adapter folder that cannot be used.
    """
    names = [name]
    while is_adapter(names[-1]):
        base = _base(Path(names[-1]))
        if base in names:
            raise InputError(f"the adapter {name} names itself as its base; set `base_model_name_or_path` in {CONFIG}")
        names.append(base)
    return names


def is_adapter(name: str) -> bool:
    """Whether a name is that of a folder with an adapter and no model of its own."""
    folder = Path(name)
    return name != "bundled" and (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def note(name: str) -> str | None:
    """What the user should know of a model that is an adapter, in one line."""
    *adapters, base = lineage(name)
    if not adapters:
        return None
    return f"model: {base} with {' and '.join(reversed(adapters))} merged into it; training goes on from that"


def _base(folder: Path) -> str:
    """The base model that an adapter names, by a name as for `--model`."""
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or config.get("megatron_config"):
        raise InputError(f"{folder / CONFIG}: only low-rank adapters (peft_type LORA) can be loaded")
    if not (folder / WEIGHTS).is_file():  # a pickle, adapter_model.bin, is not read
        raise InputError(f"the adapter {folder} has no {WEIGHTS}")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise InputError(f"{folder / CONFIG} does not say which model it belongs to; set `base_model_name_or_path`")
    return "bundled" if BUNDLED.fullmatch(base) else base


def merged(model: Any, folder: str) -> Any:
    """The model with the adapter of a folder added to its weights, which it changes.

    Raises ValueError if the adapter does not fit the model in every tensor.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with warnings.catch_warnings():  # peft asks for an attribute that transformers renamed; what is missing we refuse
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        peft = PeftModel.from_pretrained(model, folder)
    with safe_open(Path(folder) / WEIGHTS, framework="pt") as file:
        differing = set(file.keys()) ^ set(get_peft_model_state_dict(peft, save_embedding_layers=False))
    if differing:  # peft only warns of what is missing, and says nothing of what is left over
        raise ValueError(f"the adapter {folder} does not fit its base model: {min(differing)}")
    plain = peft.merge_and_unload().requires_grad_(True)
    plain.name_or_path = folder  # the base of an adapter that is trained on it
    return plain


@torch.no_grad()
def merged_copy(peft: Any) -> Any:
    """What `peft.merge_and_unload()` would give, on the CPU, one tensor at a time; the model stays as it is.

    To be saved, not trained: weights without an adapter are the model's own tensors where it is on the CPU.
    """
    from peft.tuners.lora import LoraLayer

    base, weights = peft.get_base_model(), {}
    for name, tensor in base.state_dict().items():
        parent, _, kind = name.rpartition(".")
        if ".lora_" in name:
            continue
        layer = base.get_submodule(parent.removesuffix(".base_layer"))
        if kind == "weight" and isinstance(layer, LoraLayer):
            for adapter in layer.active_adapters:
                tensor = tensor + layer.get_delta_weight(adapter)
        weights[name.replace(".base_layer.", ".")] = tensor.cpu()
    with torch.device("meta"):
        copy = type(base)(base.config)
    copy.load_state_dict(weights, assign=True)
    copy.tie_weights()
    copy.generation_config = base.generation_config
    return copy.eval()
