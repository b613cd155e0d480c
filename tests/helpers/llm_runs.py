"""What tests of training runs share: data with nothing but a planted letter in it, and brute force in float64."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm.data.files import read_source
from llm.data.tokens import encode
from llm.offline.train import train
from llm.online.train import online
from llm.settings.online import OnlineConfig
from llm.settings.train import TrainConfig

TRL = ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]
TRL += ["logps/chosen", "logps/rejected"]
OURS = ["logps_per_token/chosen", "logps_per_token/rejected", "tokens/chosen", "tokens/rejected"]


# For what is 0 since both sides have equal weights: on a GPU passes of other shapes round otherwise.
NOTHING = 1e-4 if torch.cuda.is_available() else 1e-9


def read_rows(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def write_pairs(path, n, *, seed=0, chosen="x", rejected="y"):
    """n pairs of random text of mixed lengths; nothing but its first letter tells chosen from rejected."""
    rng = np.random.default_rng(seed)

    def text(low, high):
        return "".join(rng.choice(list("abcdefghij "), size=rng.integers(low, high)))

    rows = [
        {"prompt": text(3, 9) + "?", "chosen": chosen + text(1, 16), "rejected": rejected + text(1, 16)}
        for _ in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_rankings(path, sizes, *, seed=0):
    """Rankings of the given sizes: random text after x, y, z, ... from best to worst."""
    rng = np.random.default_rng(seed)
    rows = [
        {"prompt": "?", "responses": ["xyzw"[i] + "ab"[i % 2] * rng.integers(1, 9) for i in range(n)],
         "ranking": list(range(n))}
        for n in sizes
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_offline(folder, out, **options):
    """Three short steps of the tiny model in `folder`, unless the options say otherwise; returns `out`."""
    defaults = {"objective": "dpo", "model": str(folder), "max_steps": 3, "lr": 1e-3, "quiet": True, "save": False}
    paths = {name: str(options[name]) for name in ("data", "eval_data") if options.get(name) is not None}
    train(TrainConfig(out=out, **(defaults | options | paths)))
    return out


ONLINE = {"regularizer": "none", "gold": "tests.helpers.llm_golds:letters", "proxy_pairs": 200, "max_steps": 2}
ONLINE |= {"prompts_per_step": 3, "samples": 3, "max_new_tokens": 8, "eval_samples": 2, "lr": 1e-3}
ONLINE |= {"quiet": True, "save": False}


def run_online(folder, out, **options):
    """Two online steps of the tiny model in `folder`, unless the options say otherwise; returns `out`."""
    online(OnlineConfig(model=str(folder), out=out, **(ONLINE | options)))
    return out


def kill_after(rows, command, folder, **environment):
    """Start a training command and kill it, and every process it started, as soon as its metrics have so many rows;
    returns how many it then has."""
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= rows):
        time.sleep(0.005)
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    for child in started:
        child.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(started)
    assert not (folder / "summary.json").exists(), "it ended before it was killed; nothing was tested"
    return len(read_rows(folder))


def torchrun(command):
    """A `python -m ...` command on two processes."""
    python, *rest = command
    return [python, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d",
            "--rdzv_endpoint=localhost:0", *rest]  # fmt: skip


def command_line(command, options):
    """`python -m llm COMMAND` with the options."""
    flags = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return [sys.executable, "-m", "llm", command, *flags]


def assert_same_weights(a, b):
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def load_double(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def encoded(path, tokenizer, **options):
    return encode(read_source(path).comparisons, tokenizer, max_length=256, **options)[0]


def grad_norm(model):
    return torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
