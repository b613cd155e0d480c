"""Readers of `llm` on trial: recipes, run folders, checkpoints, models, caches."""

import functools
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from derivations.cli.files import to_json, write_json
from tests.stress.adapter_readers import adapter_readers
from tests.stress.data_readers import as_jsonl, data_readers
from tests.stress.fuzz import Reader
from tests.stress.rubbish import altered, as_bytes, damaged
from tests.stress.tiny import save_tiny, tiny_model

RECIPE = {"about": "a recipe", "objective": "simpo", "model": "bundled", "beta": 2.0, "gamma": 1.0, "max_steps": 5}
RECIPE |= {"dtype": "bf16", "out": "runs/a", "schedule": "cosine", "save": True, "batch_size": 8, "lora_rank": 4}


def recipe_reader() -> Reader:
    def read(folder: Path) -> None:
        from llm.settings.recipe import train_config

        train_config(str(folder / "a.yaml"))

    text = yaml.safe_dump(RECIPE).encode()
    return Reader("recipe YAML", "a.yaml", st.one_of(damaged((text,)), altered((RECIPE,)).map(as_bytes)), read)


def run_folder_readers() -> list[Reader]:
    """config.json, summary.json and the records that `train --resume` reads."""
    from llm.engine.run_folder import Run, finished, open_run
    from llm.settings.train import TrainConfig

    def resume(folder: Path) -> None:
        engine = SimpleNamespace(is_main=True, accelerator=SimpleNamespace(wait_for_everyone=lambda: None))
        open_run(TrainConfig(objective="dpo", out=folder, resume=True), {}, engine)  # type: ignore[arg-type]

    config = {"config": json.loads(to_json(vars(TrainConfig(objective="dpo")))), "versions": {"python": "3.11"}}
    rows = [{"step": 0, "split": "eval", "where": "a line 1", "loss": 0.7}] * 3
    return [
        Reader("config.json of train", "config.json", _json_inputs(config), resume, names=False),
        Reader(
            "summary.json of train",
            "summary.json",
            _json_inputs({"before": {}, "steps": 3}),
            lambda folder: finished(TrainConfig(objective="dpo", out=folder)),
            lambda folder: write_json(folder / "config.json", {"config": vars(TrainConfig(objective="dpo"))}),
        ),
        Reader(
            "examples.jsonl of train",
            "examples.jsonl",
            st.one_of(damaged((as_jsonl(rows),)), altered((rows,)).filter(lambda r: isinstance(r, list)).map(as_jsonl)),
            lambda folder: Run(folder, main=True).evaluations(0),
        ),
    ]


def _json_inputs(good: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged((as_bytes(good),)), altered((good,)).map(as_bytes))


@functools.cache
def _engine() -> Any:
    from llm.engine.engine import Engine

    return Engine(tiny_model(), lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0)


def _checkpoint(folder: Path) -> None:
    import torch

    engine = _engine()
    with torch.enable_grad():
        sum((p**2).sum() for p in engine.scorer.parameters()).backward()
    engine.step()
    engine.save(folder / "resume", {"step": 3, "sizes": {"metrics": 10}})
    shutil.copytree(folder / "resume", folder / "good")


def checkpoint_readers() -> list[Reader]:
    """Each file of a checkpoint damaged: under its seal, and sealed again so that the loaders behind it see it."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        _checkpoint(Path(place))
        good = {path.name: path.read_bytes() for path in (Path(place) / "resume").iterdir()}

    def sealed(name: str) -> Any:
        def read(folder: Path) -> None:
            progress = _engine().load(folder / "resume")
            if name != "progress.json" and (folder / "resume" / name).read_bytes() != good[name]:
                raise AssertionError("a damaged checkpoint was loaded")
            if name == "progress.json" and progress != {"step": 3, "sizes": {"metrics": 10}}:
                raise AssertionError(f"another progress was loaded: {progress}")

        return read

    def resealed(folder: Path) -> None:
        from llm.engine.checkpoints import seal

        (folder / "resume" / "progress.json").unlink(missing_ok=True)
        seal(folder / "resume", json.loads(good["progress.json"])["progress"])
        _engine().load(folder / "resume")

    readers = [
        Reader(f"checkpoint {name}", f"resume/{name}", damaged((data,)), sealed(name), _checkpoint, names=False)
        for name, data in sorted(good.items())
    ]
    return readers + [
        Reader(f"checkpoint {name}, sealed again", f"resume/{name}", damaged((data,)), resealed, _checkpoint, False)
        for name, data in sorted(good.items())
        if name != "progress.json"
    ]


def model_readers() -> list[Reader]:
    """Each file of a model folder damaged, and its JSON altered."""
    import tempfile

    from llm.scoring.models import load_model

    with tempfile.TemporaryDirectory() as place:
        good = {path.name: path.read_bytes() for path in save_tiny(Path(place) / "tiny").iterdir()}

    def inputs(name: str, data: bytes) -> st.SearchStrategy[bytes]:
        if not name.endswith(".json"):
            return damaged((data,))
        return st.one_of(damaged((data,)), altered((json.loads(data),)).map(as_bytes))

    return [
        Reader(
            f"model {name}",
            f"tiny/{name}",
            inputs(name, data),
            lambda folder: load_model(str(folder / "tiny")),
            lambda folder: save_tiny(folder / "tiny") and None,
            names=False,
        )
        for name, data in sorted(good.items())
    ]


def replay_reader() -> Reader:
    """The batch that a diverged run kept."""
    from derivations.cli.files import read_json
    from llm.offline.replay import _groups

    example = {"prompt": [1, 2], "response": [3, 256], "complete": True}
    row = {"where": "a line 1", "examples": [example, example], "reference": [-1.5, -2.0]}
    good = {"step": 3, "loss": "nan", "grad_norm": "nan", "batch": [row, row | {"reference": None}]}
    name = "diverged.json"
    return Reader(name, name, _json_inputs(good), lambda folder: _groups(read_json(folder / name), folder))


def cache_readers() -> list[Reader]:
    """Cached log-probs of the reference."""
    from llm.engine.reference import stored
    from llm.online.proxy import load_proxy
    from llm.sampling.reference_pool import stored as samples

    values = np.linspace(-3, -1, 5, dtype=np.float32)
    with io.BytesIO() as file:
        np.save(file, values)
        good = file.getvalue()
    pool = [{"response": [1, 2, 256], "complete": True}, {"response": [3], "complete": False}]
    return [
        Reader("cache reference.npy", "a.npy", damaged((good,)), lambda folder: stored(folder / "a.npy", 5)),
        Reader(
            "cache samples.json", "a.json", _json_inputs(pool), lambda folder: samples(folder / "a.json", ((1,),), 2)
        ),
        Reader("proxy.json", "proxy.json", _json_inputs(_proxy()), lambda folder: load_proxy(folder, reference="abc")),
    ]


def _proxy() -> dict[str, Any]:
    """What `save_proxy` writes."""
    from dataclasses import asdict

    from llm.online.proxy import Proxy

    proxy = Proxy(weights=np.array([0.5, -1.0]), scale=2.0, accuracy=0.6, slope=1.0, judged=40, ridge=0.1, pairs=100)
    return {"reference": "abc"} | dict(json.loads(to_json(asdict(proxy))))


def llm_readers() -> list[Reader]:
    readers = [*data_readers(), recipe_reader(), *run_folder_readers()]
    return [*readers, *checkpoint_readers(), *model_readers(), *adapter_readers(), replay_reader(), *cache_readers()]
