"""Two processes give the numbers of one; what accelerate would replace in silence is refused."""

import os
import subprocess
import sys

import pytest
from accelerate import Accelerator

from derivations.commands import InputError
from llm.engine import require_what_was_asked
from tests.llm_runs import read_rows, run_offline, write_pairs

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def test_two_processes_with_uneven_parts_give_the_gradients_and_metrics_of_one(tiny_folder, tmp_path, own_cache):
    """Batches of 3 pairs of mixed lengths: one process has two of them, the other one; gloo, on a CPU."""
    data, held = write_pairs(tmp_path / "train.jsonl", 7), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    options = {"data": data, "eval_data": held, "batch_size": 3, "micro_batch_size": 1, "lr": 1e-3, "seed": 4}
    one = run_offline(tiny_folder, tmp_path / "one", **options, save=True, checkpoint_every=2)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    # torchrun, because `accelerate launch --cpu --num_processes 2` starts one process unless there is MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_endpoint=localhost:0"]
    command += ["--rdzv_backend=c10d", "-m", "llm", "train"]
    command += ["--objective=dpo", f"--model={tiny_folder}", *flags, "--max-steps=3", f"--out={tmp_path / 'two'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("runs on")]
    assert line == "runs on: 2 process(es), MULTI_CPU, cpu, no"
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


def test_a_batch_smaller_than_the_processes_is_refused(tiny_folder, tmp_path, own_cache, monkeypatch):
    data, held = write_pairs(tmp_path / "train.jsonl", 7), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    monkeypatch.setattr("llm.engine.Engine.processes", 8)
    with pytest.raises(InputError, match="--batch-size 4 leaves some of 8 processes without work"):
        run_offline(tiny_folder, tmp_path / "out", data=data, eval_data=held)


def test_fsdp_on_a_cpu_is_refused_because_it_would_be_something_else(monkeypatch):
    accelerator = Accelerator()
    require_what_was_asked(accelerator)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="FSDP was asked for, but accelerate runs NO on"):
        require_what_was_asked(accelerator)
