"""Log-probs under the untrained model: once for all (kept in the cache by content), or at every step."""

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from derivations.cli.errors import InputError
from llm.data.tokens import Group, tokens_of
from llm.engine.checkpoints import first_line
from llm.engine.engine import Engine
from llm.sampling.reference_pool import weights_hash
from llm.scoring.compiled import compile_layers, is_compiled
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import cache_root
from llm.scoring.packing import Example
from llm.scoring.passes import pass_sizes, scored


def frozen(engine: Engine) -> Any:
    """A copy of the model as it is now, without gradient, to be run under the engine's autocast.

    Its linear layers but the head are stored in autocast's precision: the same numbers as narrowing them at every
    pass, in half the memory. The head stays float32, as its logits do.
    """
    model = copy.deepcopy(engine.transformer).requires_grad_(False).eval()
    if engine.accelerator.mixed_precision == "bf16":
        head = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                module.to(torch.bfloat16)
    if is_compiled(engine.transformer):  # a copy is not
        compile_layers(model)
    return model


class EveryStep:
    """The reference runs beside the policy: a frozen copy, or the policy without its adapters."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.peft: Any = engine.unwrapped.model if hasattr(engine.unwrapped.model, "peft_config") else None
        model = engine.transformer
        self.model = model if self.peft else frozen(engine)

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """float32 [responses of all groups], nats."""
        off = self.peft.disable_adapter() if self.peft else nullcontext()
        # A region of its own: autocast must not keep weights it narrowed without gradient for the policy's pass.
        with off, torch.no_grad(), self.engine.autocast():
            return sequence_logps(self.model, _examples(groups))


class Precomputed:
    """Reference log-probs of fixed sets of comparisons, computed before training and looked up.

    Each set by itself, in passes of at most `tokens` tokens, as evaluation scores the policy: equal weights then give
    equal bits. None: the device's own size (`llm.scoring.passes`). `counted` gets the tokens of each part that is done.
    """

    def __init__(
        self,
        engine: Engine,
        *sets: Sequence[Group],
        tokens: int | None = None,
        counted: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        tokens = tokens or pass_sizes(engine.device.type).offline_tokens
        self.table: dict[tuple[Example, ...], Tensor] = {}
        for groups in sets:
            parts = _cached(engine, groups, tokens, counted).split([len(g.examples) for g in groups])
            self.table |= {g.examples: part for g, part in zip(groups, parts, strict=True)}

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """float32 [responses of all groups], nats."""
        return torch.cat([self.table[g.examples] for g in groups])


def _cached(engine: Engine, groups: Sequence[Group], tokens: int, counted: Callable[[int], None]) -> Tensor:
    """Log-probs of every response, from the cache if this model has scored these tokens in this precision before."""
    model = engine.transformer
    digest = hashlib.sha256(weights_hash(model).encode())
    digest.update(f"{engine.accelerator.mixed_precision} {engine.device.type} {torch.__version__} ".encode())
    digest.update(f"{transformers.__version__} {tokens} ".encode())
    digest.update(_architecture(model).encode())
    digest.update(b"sharded" if engine.sharded else b"")  # under bf16 it narrows norms, too
    for group in groups:
        digest.update(repr([(e.prompt, e.response) for e in group.examples]).encode())
    path = cache_root() / "reference" / f"{digest.hexdigest()[:24]}.npy"
    count = sum(len(g.examples) for g in groups)
    values = engine.agree(stored(path, count) if engine.is_main and path.exists() else None)
    if values is None:
        values = _computed(engine, groups, tokens, counted)
        if engine.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")  # another run may be writing the same
            np.save(temporary, values, allow_pickle=False)
            temporary.replace(path)
    return torch.from_numpy(values).to(engine.device)


def _computed(
    engine: Engine, groups: Sequence[Group], tokens: int, counted: Callable[[int], None] = lambda tokens: None
) -> np.ndarray:
    """Every process its share: the first alone would let the others wait longer than NCCL does."""

    def score(part: Sequence[Group]) -> Sequence[np.ndarray]:
        logps = engine.logps(_examples(part)).cpu().numpy()
        counted(tokens_of(part) * engine.processes)
        return np.split(logps, np.cumsum([len(g.examples) for g in part])[:-1])

    own = scored(groups[engine.rank :: engine.processes], tokens, score, engine=engine)
    return np.concatenate(engine.gather(own))


def stored(path: Path, count: int) -> np.ndarray:
    """`count` cached log-probs, float32 or float64. Raises InputError if the file does not hold just that."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header may promise more than there is
        if (
            not isinstance(values, np.ndarray)
            or values.shape != (count,)
            or values.dtype not in (np.float32, np.float64)
        ):
            raise ValueError(f"not {count} numbers of float32 or float64")
        if not np.isfinite(values).all():
            raise ValueError("not all of it are finite numbers")
    except Exception as error:  # NumPy reads the header as Python and raises what its tokenizer and parser do
        raise InputError(f"the cached reference {path} is damaged ({first_line(error)}); remove it") from None
    return np.array(values)


def _architecture(model: Any) -> str:
    """What decides log-probs besides the weights: rotary base, norms, heads, attention, number format."""
    settings = model.config.to_dict()
    told = {name: value for name, value in settings.items() if name not in ("_name_or_path", "transformers_version")}
    return f"{sorted(told.items())} {model.config._attn_implementation} {model.dtype}"


def _examples(groups: Sequence[Group]) -> list[Example]:
    return [e for g in groups for e in g.examples]
