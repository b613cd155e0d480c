"""Any split of a step has one gradient, two processes give the numbers of one; what accelerate would replace in
silence is refused."""

import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType

from derivations.cli.errors import InputError
from llm.engine.engine import Engine, require_what_was_asked
from tests.helpers.llm_gradient import make_engine, step_gradient
from tests.helpers.llm_runs import encoded, read_rows, run_offline, torchrun, write_pairs

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])}


def relative_difference(a, b):
    return ((a - b).norm() / b.norm()).item()


def launched(command):
    return subprocess.run(
        list(command), capture_output=True, text=True, env=os.environ | ENVIRONMENT, timeout=300, check=False
    )


@pytest.fixture
def whole(tiny_folder, tmp_path):
    """Gradient of a step over 7 pairs of mixed lengths in one pass, and a maker of the same in parts."""
    data = write_pairs(tmp_path / "pairs.jsonl", 7)

    def gradient(double=False, **options):
        engine, tokenizer = make_engine(tiny_folder, double=double)
        return step_gradient(engine, encoded(data, tokenizer), **options)

    return SimpleNamespace(data=data, of=gradient, gradient=gradient(micro_batch_tokens=4096))


@pytest.mark.parametrize("split", [{"micro_batch_size": n} for n in (1, 2, 4)] + [{"micro_batch_tokens": 70}])
def test_any_split_of_a_step_has_the_gradient_of_the_whole(split, whole):
    got = whole.of(**split)
    assert 0 < relative_difference(got, whole.gradient) < 1e-6  # float32 sums in another order; 0: nothing was split
    assert whole.gradient.norm() > 0.1


def test_the_gradient_is_not_divided_by_what_the_environment_calls_accumulation(whole, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert relative_difference(whole.of(micro_batch_size=2), whole.gradient) < 1e-6


def test_two_processes_under_accelerate_launch_have_the_gradient_of_one(whole, tiny_folder, tmp_path):
    """The command of docs/how-to/multi-gpu.md. Four pairs in one process and three in the other, passes of two."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += [
        "--main_process_port",
        "0",
        "-m",
        "tests.helpers.llm_gradient",
        tiny_folder,
        whole.data,
        "2",
        tmp_path / "g",
    ]
    done = launched(map(str, command))
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in (0, 1):
        processes, gradient = torch.load(f"{tmp_path / 'g'}.{rank}")
        assert processes == 2
        assert relative_difference(gradient, whole.gradient) < 1e-6


def test_two_processes_with_uneven_parts_give_the_gradients_and_metrics_of_one(tiny_folder, tmp_path, own_cache):
    """Batches of 3 pairs of mixed lengths: one process has two of them, the other one; gloo, on a CPU."""
    data, held = write_pairs(tmp_path / "train.jsonl", 7), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    options = {"data": data, "eval_data": held, "batch_size": 3, "micro_batch_size": 1, "lr": 1e-3, "seed": 4}
    one = run_offline(tiny_folder, tmp_path / "one", **options, save=True, checkpoint_every=2)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    command = torchrun([sys.executable, "-m", "llm", "train"])
    command += ["--objective=dpo", f"--model={tiny_folder}", *flags, "--max-steps=3", f"--out={tmp_path / 'two'}"]
    done = launched(command)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("runs on")]
    assert line == "runs on: 2 processes (MULTI_CPU), cpu, float32"
    first, second = read_rows(one), read_rows(tmp_path / "two")
    assert len(first) == len(second) == 5
    for a, b in zip(first, second, strict=True):
        for name in a:
            # the same float32 gradients, summed in another order; after Adam's division they differ a little more
            close = 1e-6 if a["step"] <= 1 and "eval/loss" not in a else 1e-4
            assert b[name] == pytest.approx(a[name], rel=close, abs=2e-6), name
    assert read_rows(one, "samples.jsonl")[:3] == read_rows(tmp_path / "two", "samples.jsonl")[:3]
    assert [r["where"] for r in read_rows(one, "examples.jsonl")] == [
        r["where"] for r in read_rows(tmp_path / "two", "examples.jsonl")
    ]


def test_the_wrapped_model_is_gone_before_the_process_group_is(tiny_model, monkeypatch):
    """Otherwise two processes hang at their end, now and then: the reducer joins threads that wait for Python."""
    engine = Engine(tiny_model(), lr=1.0, dtype="float32", max_grad_norm=1.0, seed=0)
    engine.scorer = torch.nn.Sequential(engine.unwrapped)  # in the place of DistributedDataParallel
    engine.scorer.itself = [engine.scorer]  # as autocast's forward refers to its module
    engine.accelerator._models.append(engine.scorer)
    wrapped, alive = weakref.ref(engine.scorer), []
    monkeypatch.setattr(engine.accelerator, "end_training", lambda: alive.append(wrapped() is not None))
    engine.close()
    assert alive == [False]
    assert engine.transformer is not None  # saved after the end


def test_a_batch_smaller_than_the_processes_is_refused(tiny_folder, tmp_path, own_cache, monkeypatch):
    data, held = write_pairs(tmp_path / "train.jsonl", 7), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    monkeypatch.setattr("llm.engine.engine.Engine.processes", 8)
    with pytest.raises(InputError, match="--batch-size 4 leaves some of 8 processes without work"):
        run_offline(tiny_folder, tmp_path / "out", data=data, eval_data=held)


def test_fsdp_on_a_cpu_is_refused_because_it_would_be_something_else(tiny_model, monkeypatch):
    accelerator = Accelerator()
    require_what_was_asked(accelerator)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="FSDP was asked for, but accelerate runs NO on"):
        require_what_was_asked(accelerator)
    with pytest.raises(InputError, match="FSDP was asked for"):
        Engine(tiny_model(), lr=1.0, dtype="float32", max_grad_norm=1.0, seed=0)


def test_processes_that_would_each_be_a_run_of_their_own_are_refused(monkeypatch):
    """torchrun on a machine without a GPU, unless accelerate is told to use CPUs."""
    accelerator = Accelerator()
    assert accelerator.num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"started 2 processes, but each would .*ACCELERATE_USE_CPU=true"):
        require_what_was_asked(accelerator)


@pytest.mark.parametrize("kind", list(DistributedType))
def test_a_model_split_over_devices_is_refused_and_copies_of_it_are_not(kind):
    fake = SimpleNamespace(distributed_type=kind, device=torch.device("cpu"))
    if kind is DistributedType.NO or kind.value.startswith("MULTI_"):
        require_what_was_asked(fake)
    else:
        with pytest.raises(InputError, match=f"accelerate runs {kind.value}, but only --shard splits a model"):
            require_what_was_asked(fake)


def test_a_tracker_without_its_package_is_refused_instead_of_left_out(tiny_model, monkeypatch):
    monkeypatch.setattr("llm.engine.engine.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(InputError, match="--tracker wandb: its package is not installed; pip install wandb"):
        Engine(tiny_model(), lr=1.0, dtype="float32", max_grad_norm=1.0, seed=0, tracker="wandb")


def test_bf16_where_there_is_none_is_refused(tiny_model, monkeypatch):
    """What accelerate says on a GPU that is too old."""

    def refuse(**options):
        raise ValueError(f"{options['mixed_precision']} mixed precision requires a supported device.")

    monkeypatch.setattr("llm.engine.engine.Accelerator", refuse)
    with pytest.raises(InputError, match="bf16 mixed precision requires"):
        Engine(tiny_model(), lr=1.0, dtype="bf16", max_grad_norm=1.0, seed=0)


def test_flex_attention_without_a_gpu_is_refused(tiny_folder, tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr("llm.engine.engine.Engine.device", torch.device("cpu"))
    data, held = write_pairs(tmp_path / "train.jsonl", 7), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    with pytest.raises(InputError, match="flex_attention needs a CUDA device, this is cpu"):
        run_offline(tiny_folder, tmp_path / "out", data=data, eval_data=held, attention="flex_attention")
    assert not (tmp_path / "out").exists()
