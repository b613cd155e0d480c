"""A run that was killed goes on to the same numbers and the same weights."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from derivations.commands import InputError, write_json
from llm.runs import Run
from tests.llm_runs import read_rows, run_offline, write_pairs


@pytest.fixture
def places(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 8), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    return {"data": str(data), "eval_data": str(held), "model": str(tiny_folder)}


OPTIONS = {"max_steps": 9, "eval_every": 2, "checkpoint_every": 2, "batch_size": 3, "save": True, "lr": 1e-2}


def assert_same_run(a, b):
    for name in ("metrics.jsonl", "examples.jsonl", "samples.jsonl"):
        assert read_rows(a, name) == read_rows(b, name), name
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def arguments(options):
    flags = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return [sys.executable, "-m", "llm", "train", *flags]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_killed_run_resumes_to_the_uninterrupted_one_bit_for_bit(lora_rank, places, tmp_path):
    model = places.pop("model")
    whole = run_offline(model, tmp_path / "whole", **places, **OPTIONS, lora_rank=lora_rank)
    killed = tmp_path / "killed"
    options = {"objective": "dpo", "model": model, **places, **OPTIONS, "lora_rank": lora_rank, "out": killed}
    process = subprocess.Popen(arguments(options | {"quiet": True}), env=os.environ | {"OMP_NUM_THREADS": "1"})
    metrics = killed / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 6):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "summary.json").exists(), "it ended before it was killed; nothing was tested"
    before = len(read_rows(killed))
    run_offline(model, killed, **places, **OPTIONS, lora_rank=lora_rank, resume=True)
    assert before < len(read_rows(killed))
    assert_same_run(whole, killed)
    assert not (killed / "checkpoints" / "resume").exists()  # a finished run keeps its end only


class Stop(Exception):
    """Stands for a crash."""


def stopping_at(call, real):
    """The real function until its nth call, which never returns."""
    calls = []

    def function(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise Stop
        return real(*args, **kwargs)

    return function


@pytest.mark.parametrize("crash", ["before the first checkpoint", "while a checkpoint is written", "between renames"])
def test_no_moment_of_a_crash_loses_the_run(crash, places, tmp_path, monkeypatch):
    model = places.pop("model")
    whole = run_offline(model, tmp_path / "whole", **places, **OPTIONS)
    out = tmp_path / "crashed"
    with monkeypatch.context() as patch:
        if crash == "while a checkpoint is written":
            patch.setattr("llm.checkpoints.write_json", stopping_at(2, write_json))
        else:
            patch.setattr(Run, "save", stopping_at(1 if "first" in crash else 3, Run.save))
        with pytest.raises(Stop):
            run_offline(model, out, **places, **OPTIONS)
    if crash == "between renames":  # the moment in which only the old name exists
        (out / "checkpoints" / "resume").rename(out / "checkpoints" / ".resume.old")
    run_offline(model, out, **places, **OPTIONS, resume=True)
    assert_same_run(whole, out)


def test_a_finished_run_resumes_to_its_summary(places, tmp_path):
    model = places.pop("model")
    out = run_offline(model, tmp_path / "a", **places)
    summary = json.loads((out / "summary.json").read_text())
    run_offline(model, out, **places, resume=True)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("a.")] == []  # nothing was moved aside


def test_a_run_is_resumed_with_its_own_settings_and_data_only(places, tmp_path):
    model = places.pop("model")
    out = run_offline(model, tmp_path / "a", **places)
    (out / "summary.json").unlink()
    with pytest.raises(InputError, match="other settings: lr, schedule"):
        run_offline(model, out, **places, lr=0.5, schedule="constant", resume=True)
    write_pairs(tmp_path / "train.jsonl", 8, seed=5)
    with pytest.raises(InputError, match="other settings: data_fingerprint"):
        run_offline(model, out, **places, resume=True)
