"""Readers of folders that `--export adapter` wrote, on trial: the adapter's settings and its weights."""

import functools
import json
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from tests.stress.fuzz import Reader
from tests.stress.rubbish import altered, as_bytes, damaged
from tests.stress.tiny import save_tiny, tiny_tokenizer


@functools.cache
def _place() -> "tempfile.TemporaryDirectory[str]":
    """A base model and an adapter of it, for as long as this process lives: the adapter names its base by its place."""
    from llm.scoring.export import save_model
    from llm.scoring.models import add_lora, load_model

    place = tempfile.TemporaryDirectory(prefix="hard-adapter-")
    base = save_tiny(Path(place.name) / "tiny")
    model, _ = load_model(str(base))
    save_model(add_lora(model, rank=2, alpha=4.0), tiny_tokenizer(), Path(place.name) / "adapter")
    return place


def adapter_readers() -> list[Reader]:
    """Each of the two files damaged, and the settings altered. No base is looked for on the hub."""
    from llm.scoring.models import load_model

    good = {path.name: path.read_bytes() for path in (Path(_place().name) / "adapter").iterdir()}
    settings, weights = "adapter_config.json", "adapter_model.safetensors"

    def lay(folder: Path) -> None:
        (folder / "adapter").mkdir()
        for name, data in good.items():
            (folder / "adapter" / name).write_bytes(data)

    def read(folder: Path) -> None:
        with mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", new=True):
            load_model(str(folder / "adapter"))

    inputs = {
        settings: st.one_of(damaged((good[settings],)), altered((json.loads(good[settings]),)).map(as_bytes)),
        weights: damaged((good[weights],)),
    }
    return [Reader(f"adapter {name}", f"adapter/{name}", made, read, lay, names=False) for name, made in inputs.items()]
