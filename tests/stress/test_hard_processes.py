"""Weights in parts over two processes (FSDP2 on gloo) give the loss and the gradients of one process."""

import json
import os
import subprocess
import sys

import pytest


def test_a_fully_sharded_scorer_on_two_processes_gives_loss_and_gradients_of_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=localhost:0", "-m", "tests.stress.sharded"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["processes"] == 2
    assert record["parameters"] == record["found"] == record["split"] > 20  # every one of them is held in parts
    assert abs(record["expected"]) > 1
    # the same float32 gradients summed in another order
    assert record["loss"] == pytest.approx(record["expected"], rel=1e-6)
    assert record["gap"] < 1e-6
