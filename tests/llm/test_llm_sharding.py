"""`train --shard`: two processes that hold half of the model each give the numbers and the model of one.

Gloo, on CPUs. Runs are started once and looked at by several tests: a start takes longer than all it does.
"""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch.distributed.checkpoint import HuggingFaceStorageWriter
from transformers import AutoModelForCausalLM

from derivations.cli.errors import InputError
from llm.engine.checkpoints import unseal
from llm.engine.engine import Engine
from llm.engine.sharding import load_in_first
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import load_model
from llm.settings.train import TrainConfig
from tests.helpers.llm_gradient import CASES, make_engine, step_gradient
from tests.helpers.llm_runs import (
    assert_same_weights,
    command_line,
    encoded,
    kill_after,
    read_rows,
    run_offline,
    torchrun,
    write_pairs,
)

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])}
# Three comparisons a step, one a pass: one process makes two passes and the other one and an empty one.
OPTIONS = {"objective": "dpo", "batch_size": 3, "micro_batch_size": 1, "max_steps": 9, "eval_every": 2, "lr": 1e-3}
OPTIONS |= {"checkpoint_every": 2, "save": True, "quiet": True}


def launched(command, cache):
    environment = os.environ | ENVIRONMENT | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory):
    """The same training in one process, sharded in two, and sharded in two, killed on the way and gone on with."""
    place = tmp_path_factory.mktemp("sharded")
    data, held = write_pairs(place / "train.jsonl", 7), write_pairs(place / "eval.jsonl", 5, seed=1)
    options = OPTIONS | {"model": tiny_folder, "data": data, "eval_data": held}
    cache = place / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        one = run_offline(options.pop("model"), place / "one", **options)
    options |= {"model": tiny_folder, "shard": True}
    two, killed = place / "two", place / "killed"
    printed = launched(torchrun(command_line("train", options | {"out": two, "quiet": False})), cache)
    command = torchrun(command_line("train", options | {"out": killed}))
    rows = kill_after(6, command, killed, **ENVIRONMENT, XDG_CACHE_HOME=str(cache))
    checkpoint = load_checkpoint(tiny_folder, killed / "checkpoints")
    launched(torchrun(command_line("train", options | {"out": killed, "resume": True})), cache)
    return SimpleNamespace(one=one, two=two, killed=killed, rows=rows, printed=printed, held=held, **checkpoint)


def load_checkpoint(tiny_folder, folder):
    """What a run that was killed left, put together by safetensors alone, and as one whole process reads it."""
    place = folder / "resume" if (folder / "resume").exists() else folder / ".resume.old"
    pieces, files = {}, sorted(place.iterdir())
    for path in sorted(place.glob("shard-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                pieces.setdefault(name, []).append(file.get_tensor(name))
    model, _ = load_model(str(tiny_folder))
    engine = Engine(model, lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0)
    progress = engine.load(place)
    whole = {name: p.detach().clone() for name, p in engine.unwrapped.named_parameters()}
    names = {id(p): name for name, p in engine.unwrapped.named_parameters()}
    moments = {names[id(p)]: state for p, state in engine.rate.optimizer.state.items()}
    model.more = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(InputError) as misfit:
        Engine(model, lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0).load(place)
    damaged = next(path for path in files if path.name.startswith("shard-00002"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError) as refused:
        unseal(place)
    damaged.write_bytes(content)
    return {"pieces": pieces, "progress": progress, "whole": whole, "moments": moments,
            "names": [file.name for file in files], "refused": str(refused.value),
            "misfit": str(misfit.value)}  # fmt: skip


@pytest.fixture(scope="module")
def gradients(tiny_folder, tmp_path_factory):
    """Gradients of one step over 7 pairs of mixed lengths: of one process, and of all cases of two (accelerate launch;
    the runs above are started by torchrun)."""
    place = tmp_path_factory.mktemp("gradients")
    data = write_pairs(place / "pairs.jsonl", 7)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += [
        "--main_process_port",
        "0",
        "-m",
        "tests.helpers.llm_gradient",
        tiny_folder,
        data,
        2,
        place / "found",
        *CASES,
    ]
    launched(list(map(str, command)), place / "cache")
    one = {}
    for dtype in ("float32", "bf16"):
        engine, tokenizer = make_engine(tiny_folder, dtype=dtype)
        one[dtype] = step_gradient(engine, encoded(data, tokenizer), micro_batch_size=2)
    found = [torch.load(f"{place / 'found'}.{rank}") for rank in (0, 1)]
    assert [processes for processes, _ in found] == [2, 2]
    first, second = (cases for _, cases in found)
    assert all(torch.equal(first[case], second[case]) for case in CASES)
    return one, first


def gap(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("case", ["float32", "recomputed"])
def test_the_gradient_of_two_halves_is_that_of_one_process(case, gradients):
    one, two = gradients
    assert one["float32"].norm() > 0.1
    assert 0 < gap(two[case], one["float32"]) < 1e-6  # the same float32 numbers, summed in another order


def test_in_bf16_it_is_as_near_to_float32_as_that_of_one_process(gradients):
    """Not the same numbers: norms, too, are gathered in bf16."""
    one, two = gradients
    rounding = gap(one["bf16"], one["float32"])
    assert 1e-3 < rounding < 0.05
    assert gap(two["bf16"], one["float32"]) < 1.5 * rounding


def test_autocast_keeps_no_weights_that_it_narrowed(gradients):
    """It would give a layer the copy that was made in another pass, whose gradient goes nowhere, in silence: what the
    second of these cases shows, and the first, which runs as training does, must not."""
    one, two = gradients
    assert gap(two["bf16, gathered in float32"], one["bf16"]) < 0.01
    assert gap(two["bf16, gathered in float32, with autocast's cache"], one["bf16"]) > 0.1


def test_a_sharded_run_has_the_metrics_and_samples_of_one_process(runs):
    assert "runs on: 2 processes (MULTI_CPU), cpu, float32, sharded" in runs.printed
    first, second = read_rows(runs.one), read_rows(runs.two)
    assert len(first) == len(second) == 15
    for a, b in zip(first, second, strict=True):
        close = 1e-6 if a["step"] <= 1 and "eval/loss" not in a else 1e-3  # Adam's division carries rounding on
        assert b == pytest.approx(a, rel=close, abs=1e-5)
    assert abs(first[-1]["eval/rewards/margins"]) > 0.1
    assert read_rows(runs.one, "samples.jsonl")[:3] == read_rows(runs.two, "samples.jsonl")[:3]
    assert len(read_rows(runs.two, "samples.jsonl")) == 3 * 6
    places = [[r["where"] for r in read_rows(out, "examples.jsonl")] for out in (runs.one, runs.two)]
    assert places[0] == places[1]


def test_the_export_of_a_sharded_run_loads_in_transformers_as_the_model_that_was_measured(runs, tiny_tokenizer):
    model = AutoModelForCausalLM.from_pretrained(runs.two / "checkpoints" / "last").eval()
    groups = encoded(runs.held, tiny_tokenizer)
    with torch.no_grad():
        logps = sequence_logps(model, [e for g in groups for e in g.examples])
    last = [r for r in read_rows(runs.two, "examples.jsonl") if r["step"] == 9 and r["split"] == "eval"]
    measured = torch.tensor([[r["logps/chosen"], r["logps/rejected"]] for r in last])
    assert torch.allclose(logps.reshape(-1, 2), measured, rtol=1e-5)
    whole = AutoModelForCausalLM.from_pretrained(runs.one / "checkpoints" / "last").state_dict()
    assert all(torch.allclose(value, whole[name], atol=1e-4) for name, value in model.state_dict().items())
    files = [{p.name for p in (out / "checkpoints" / "last").iterdir()} for out in (runs.one, runs.two)]
    assert files[0] == files[1]


def test_a_sharded_run_that_was_killed_resumes_to_the_uninterrupted_one_bit_for_bit(runs):
    assert runs.rows < len(read_rows(runs.two))
    for name in ("metrics.jsonl", "examples.jsonl", "samples.jsonl"):
        assert read_rows(runs.two, name) == read_rows(runs.killed, name), name
    assert_same_weights(runs.two, runs.killed)
    assert not (runs.killed / "checkpoints" / "resume").exists()


def test_its_checkpoint_holds_every_part_once_and_one_process_can_read_it(runs):
    """As `replay` does with the weights of a run that diverged. No pickle is in it but the random states."""
    files = ["progress.json", "random_states_0.pkl", "random_states_1.pkl"]
    assert runs.names == [*files, *(f"shard-0000{i}-model-00001-of-00001.safetensors" for i in (1, 2))]
    assert runs.progress["step"] in (2, 4)
    for name, value in runs.whole.items():
        assert [len(piece) for piece in runs.pieces[name]] == [len(value) // 2] * 2
        assert torch.equal(torch.cat(runs.pieces[name]), value)
        assert torch.equal(torch.cat(runs.pieces[f"state.{name}.exp_avg"]), runs.moments[name]["exp_avg"])
        assert runs.moments[name]["step"] == runs.progress["step"]
        assert runs.moments[name]["exp_avg"].norm() > 0
    assert len(runs.pieces) == 4 * len(runs.whole)


def test_a_sharded_checkpoint_that_is_damaged_or_does_not_fit_is_refused_in_one_line(runs):
    assert "shard-00002-model-00001-of-00001.safetensors is damaged" in runs.refused
    assert re.search(r"checkpoint \S+ does not fit this run \(.*model\.more", runs.misfit)
    assert "\n" not in runs.misfit


@pytest.fixture
def alone(tiny_model):
    """A model that is whole, in one process that writes its checkpoints as sharded ones are written."""
    engine = Engine(tiny_model(), lr=1e-2, dtype="float32", max_grad_norm=1.0, seed=0)
    engine.sharded = True
    return engine


def test_a_checkpoint_is_written_where_there_is_no_folder_yet(alone, tmp_path):
    """As that of a run that diverges before its first checkpoint."""
    before = {name: p.detach().clone() for name, p in alone.unwrapped.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone.save(tmp_path / "checkpoints" / "diverged", {"step": 3})
        with torch.no_grad():
            for parameter in alone.unwrapped.parameters():
                parameter += 1.0
        assert alone.load(tmp_path / "checkpoints" / "diverged") == {"step": 3}
    assert all(torch.equal(p, before[name]) for name, p in alone.unwrapped.named_parameters())


def test_a_full_disk_is_one_line_and_leaves_nothing(alone, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", full)
    with pytest.raises(InputError, match=r"cannot write the checkpoint .*: .*No space left on device; the one before"):
        alone.save(tmp_path / "resume", {"step": 3})
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_loads_the_weights(tiny_folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    empty, tokenizer = load_in_first(str(tiny_folder), implementation="packed")
    assert {tensor.device.type for tensor in (*empty.parameters(), *empty.buffers())} == {"meta"}
    monkeypatch.setenv("RANK", "0")
    whole, same = load_in_first(str(tiny_folder), implementation="packed")
    assert {tensor.device.type for tensor in (*whole.parameters(), *whole.buffers())} == {"cpu"}
    assert [n for n, _ in empty.named_parameters()] == [n for n, _ in whole.named_parameters()]  # tied ones once
    assert empty.config._attn_implementation == whole.config._attn_implementation
    assert tokenizer.get_vocab() == same.get_vocab()


def test_one_process_has_nobody_to_share_with(tiny_folder, tmp_path, own_cache):
    data = write_pairs(tmp_path / "train.jsonl", 7)
    with pytest.raises(InputError, match=r"--shard spreads a model over processes, and there is one; .*--no-shard"):
        run_offline(tiny_folder, tmp_path / "out", data=data, eval_size=2, shard=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 4}, "--shard trains all weights; .*--no-shard"),
        ({"reference": "every-step"}, "--shard takes --reference precompute"),
        ({"data": None}, "--shard needs --data"),
        ({"plan": True}, "--plan with --shard needs the number of processes; give --plan-processes"),
    ],
)
def test_what_cannot_be_sharded_is_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**({"objective": "dpo", "data": "a.jsonl", "shard": True} | options))
    TrainConfig(**({"objective": "dpo", "data": "a.jsonl"} | options))


def test_a_model_that_does_not_name_its_layers_is_refused(tiny_model):
    from llm.engine.sharding import decoder_layers

    model = tiny_model()
    assert len(decoder_layers(model)) == json.loads(model.config.to_json_string())["num_hidden_layers"]
    model._no_split_modules = None
    with pytest.raises(InputError, match="models of type 'llama' do not name their layers"):
        decoder_layers(model)
