"""What the reference says of fixed responses: log-probs, and the features the proxy reads; kept in the cache.

Samples of the reference do not change, so neither does what it says of them. On a CPU alone: on a GPU it takes a
second, and equal bits are promised between equal devices only.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from derivations.cli.errors import InputError
from llm.engine.checkpoints import first_line
from llm.engine.engine import Engine
from llm.scoring.logprobs import logps_and_features
from llm.scoring.models import cache_root
from llm.scoring.packing import Example


def view(engine: Engine, reference: Any, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """log q of each response (nats, [n]) and the features the proxy reads [n, d]."""
    with torch.no_grad(), engine.autocast():
        return logps_and_features(reference, examples)


def kept_view(engine: Engine, reference: Any, examples: Sequence[Example], *, weights: str) -> tuple[Tensor, Tensor]:
    """`view`, from the cache if this reference has seen these responses in this precision before.

    Args:
        engine: gives device and precision.
        reference: the frozen model.
        examples: the responses.
        weights: hash of the reference's weights.

    Returns:
        log q (nats, [n]) and features [n, d].

    Raises:
        InputError: the cached file is damaged.
    """
    if engine.device.type != "cpu":
        return view(engine, reference, examples)
    path = cache_root() / "views" / f"{_key(engine, reference, examples, weights)}.npz"
    if path.exists():
        return _stored(path, len(examples))
    logq, features = view(engine, reference, examples)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")  # another run may be writing the same
    np.savez(temporary, logq=logq.numpy(), features=features.numpy())
    temporary.replace(path)
    return logq, features


def _key(engine: Engine, reference: Any, examples: Sequence[Example], weights: str) -> str:
    """Hash of everything that decides the bits. Threads are among it: sums are taken in their order."""
    config = {k: v for k, v in reference.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    said = [weights, engine.accelerator.mixed_precision, torch.__version__, transformers.__version__]
    said += [str(torch.get_num_threads()), repr(sorted(config.items())), reference.config._attn_implementation]
    digest = hashlib.sha256(repr(said).encode())
    digest.update(repr([(e.prompt, e.response) for e in examples]).encode())
    return digest.hexdigest()[:24]


def _stored(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """Cached log-probs and features of so many responses. Raises InputError if the file does not hold just that."""
    try:
        with np.load(path, allow_pickle=False) as found:
            logq, features = found["logq"], found["features"]
        if logq.shape != (count,) or features.ndim != 2 or len(features) != count:
            raise ValueError(f"not {count} responses")
        if {logq.dtype, features.dtype} != {np.dtype(np.float32)}:
            raise ValueError("not float32")
        if not (np.isfinite(logq).all() and np.isfinite(features).all()):
            raise ValueError("not all of it are finite numbers")
    except Exception as error:  # zipfile and NumPy raise whatever they stumble over
        raise InputError(f"what is cached in {path} is damaged ({first_line(error)}); remove it") from None
    return torch.from_numpy(logq), torch.from_numpy(features)
