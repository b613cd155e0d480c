"""A run that was killed goes on to the same numbers and the same weights."""

import json
import random

import pytest

from derivations.cli.errors import InputError
from derivations.cli.files import write_json
from llm.engine.run_folder import Run
from tests.helpers.llm_runs import (
    ONLINE,
    assert_same_weights,
    command_line,
    kill_after,
    read_rows,
    run_offline,
    run_online,
    write_pairs,
)


@pytest.fixture
def places(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 8), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    return {"data": str(data), "eval_data": str(held), "model": str(tiny_folder)}


OPTIONS = {"max_steps": 9, "eval_every": 2, "checkpoint_every": 2, "batch_size": 3, "save": True, "lr": 1e-2}


def assert_same_run(a, b):
    for name in ("metrics.jsonl", "examples.jsonl", "samples.jsonl"):
        assert read_rows(a, name) == read_rows(b, name), name
    assert_same_weights(a, b)


@pytest.mark.cpu_bits
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_killed_run_resumes_to_the_uninterrupted_one_bit_for_bit(lora_rank, places, tmp_path):
    model = places.pop("model")
    whole = run_offline(model, tmp_path / "whole", **places, **OPTIONS, lora_rank=lora_rank)
    killed = tmp_path / "killed"
    options = {"objective": "dpo", "model": model, **places, **OPTIONS, "lora_rank": lora_rank, "out": killed}
    before = kill_after(6, command_line("train", options | {"quiet": True}), killed)
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


@pytest.mark.cpu_bits
@pytest.mark.parametrize("crash", ["before the first checkpoint", "while a checkpoint is written", "between renames"])
def test_no_moment_of_a_crash_loses_the_run(crash, places, tmp_path, monkeypatch):
    model = places.pop("model")
    whole = run_offline(model, tmp_path / "whole", **places, **OPTIONS)
    out = tmp_path / "crashed"
    with monkeypatch.context() as patch:
        if crash == "while a checkpoint is written":
            patch.setattr("llm.engine.checkpoints.write_json", stopping_at(2, write_json))
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
    with pytest.raises(InputError, match="other settings: max_steps"):  # its summary is not that of a longer run
        run_offline(model, out, **places, resume=True, max_steps=30)


def test_a_run_is_resumed_with_its_own_settings_and_data_only(places, tmp_path):
    model = places.pop("model")
    out = run_offline(model, tmp_path / "a", **places)
    (out / "summary.json").unlink()
    with pytest.raises(InputError, match="other settings: lr, schedule"):
        run_offline(model, out, **places, lr=0.5, schedule="constant", resume=True)
    write_pairs(tmp_path / "train.jsonl", 8, seed=5)
    with pytest.raises(InputError, match="other settings: data_fingerprint"):
        run_offline(model, out, **places, resume=True)


# ---- online

LONG = ONLINE | {"regularizer": "kl=0.1", "max_steps": 7, "eval_every": 3, "checkpoint_every": 2, "save": True}
LONG |= {"lr": 1e-2}


def untimed(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_online_run(a, b):
    assert untimed(read_rows(a)) == untimed(read_rows(b))
    assert read_rows(a, "samples.jsonl") == read_rows(b, "samples.jsonl")
    summaries = [json.loads((out / "summary.json").read_text()) for out in (a, b)]
    for summary in summaries:
        assert summary.pop("seconds") > 0
        summary.pop("peak_memory_gib")
    assert summaries[0] == summaries[1]
    assert_same_weights(a, b)


@pytest.mark.cpu_bits
def test_an_online_run_killed_at_a_random_step_resumes_to_the_uninterrupted_one_bit_for_bit(
    tiny_folder, tmp_path, shared_cache
):
    options = LONG | {"max_steps": 20}  # far enough from the last row at which it may be killed
    whole, killed = run_online(tiny_folder, tmp_path / "whole", **options), tmp_path / "killed"
    rows = random.randint(2, 12)  # noqa: S311 (any step must do; the assertion names it)
    before = kill_after(rows, command_line("online", options | {"model": tiny_folder, "out": killed}), killed)
    run_online(tiny_folder, killed, **options, resume=True)
    assert before < len(read_rows(killed)), f"killed after {rows} rows"
    assert_same_online_run(whole, killed)
    assert not (killed / "checkpoints" / "resume").exists()


@pytest.mark.cpu_bits
@pytest.mark.parametrize(("call", "dtype"), [(1, "float32"), (3, "bf16")])
def test_an_online_run_that_stops_before_a_checkpoint_loses_no_step(
    call, dtype, tiny_folder, tmp_path, shared_cache, monkeypatch
):
    options = LONG | {"dtype": dtype}
    whole, out = run_online(tiny_folder, tmp_path / "whole", **options), tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", stopping_at(call, Run.save))
        with pytest.raises(Stop):
            run_online(tiny_folder, out, **options)
    run_online(tiny_folder, out, **options, resume=True)
    assert_same_online_run(whole, out)


def test_an_online_run_is_resumed_with_its_own_settings_only_and_once_finished_to_its_summary(
    tiny_folder, tmp_path, shared_cache
):
    out = run_online(tiny_folder, tmp_path / "a")
    text = (out / "summary.json").read_text()
    run_online(tiny_folder, out, resume=True)
    assert (out / "summary.json").read_text() == text
    (out / "summary.json").unlink()
    with pytest.raises(InputError, match="other settings: wrong_bonus, lr"):
        run_online(tiny_folder, out, lr=0.5, wrong_bonus=0.1, resume=True)
