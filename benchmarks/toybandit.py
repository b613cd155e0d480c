"""Speed of the bandit on one thread: element-steps per second of four ways to run the same simulation.

One element-step is one arm in one gradient step. The same entropy-regularized softmax gradient on the same
worlds, K = 50 arms, float32: NumPy calls in a Python loop over configurations, worlds and steps (1x); our
batched NumPy step; the same step through torch.compile; and JAX (vmap and jit), written for this benchmark.
The process is pinned to one core. Every number is the median of several runs, and all four must end at
the same policy. `make bench-toybandit` installs JAX, which the project does not need otherwise.

usage: python benchmarks/toybandit.py [--json FILE]
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from derivations.arrays import log_softmax
from derivations.regularizers import Entropy
from toybandit.bandit import World, seed_streams, tabular_world
from toybandit.compiled import Compiled
from toybandit.learners import BLOCK_BYTES, Exact
from toybandit.online import policy_gradient
from toybandit.updates import Problem

ARMS, LR = 50, 0.2
REPEATS = 5


@dataclass(frozen=True)
class Job:
    """A simulation: strengths [C], a world of `worlds` seeds with one prompt, its proxy, and a number of steps."""

    alphas: np.ndarray
    world: World
    proxy: np.ndarray
    steps: int

    @property
    def element_steps(self) -> int:
        """Arms times worlds times configurations times steps."""
        return len(self.alphas) * self.proxy.size * self.steps


def job(configurations: int, worlds: int, steps: int) -> Job:
    """Standard worlds of 50 arms with a noisy proxy."""
    world = tabular_world(seed_streams(0, worlds), prompts=1, arms=ARMS)
    noise = np.random.default_rng(1).standard_normal(world.gold.shape)
    return Job(np.linspace(0, 1, configurations, dtype=np.float32), world, world.gold + noise, steps)


def python_loop(job: Job) -> np.ndarray:
    """The form everybody writes first; [configurations, worlds, arms] final log-probs."""
    result = np.empty((len(job.alphas), len(job.proxy), ARMS))
    proxy, start = job.proxy.astype(np.float32), job.world.ref_logp.astype(np.float32)
    for c, alpha in enumerate(job.alphas):
        for s in range(len(proxy)):
            logits, reward = start[s, 0].copy(), proxy[s, 0]
            for _ in range(job.steps):
                policy = np.exp(logits - logits.max())
                policy /= policy.sum()
                shaped = reward - alpha * np.log(policy)
                logits += np.float32(LR) * policy * (shaped - policy @ shaped)
            result[c, s] = log_softmax(logits.astype(float))
    return result


def blocks(job: Job, worlds: int) -> list[tuple[World, Problem]]:
    """The job in blocks of worlds, each with all configurations."""
    found = []
    for start in range(0, len(job.proxy), worlds):
        part = slice(start, start + worlds)
        world = job.world.part(part)
        arrays = (array.astype(np.float32) for array in (job.proxy[part], world.length, world.ref_logp))
        found.append((world, Problem(*arrays, Entropy(job.alphas.reshape(-1, 1, 1, 1)))))
    return found


def batched(job: Job, make: Callable[[World, Problem], Callable[[int], np.ndarray]]) -> np.ndarray:
    """All steps of a block before the next block."""
    worlds = max(1, BLOCK_BYTES // (len(job.alphas) * ARMS * 4))
    done = [make(world, problem)(job.steps) for world, problem in blocks(job, worlds)]
    return np.concatenate(done, axis=1)[:, :, 0]


def ours(job: Job) -> np.ndarray:
    """The engine's NumPy step."""
    leading = (len(job.alphas),)
    return batched(job, lambda world, problem: Exact(LR).start(world, problem, leading, slice(None)))


def compiled(job: Job) -> np.ndarray:
    """The same step through torch.compile."""
    leading = (len(job.alphas),)
    return batched(job, lambda world, problem: Compiled(Exact(LR)).start(world, problem, leading, slice(None)))


def jax_form(whole: bool) -> Callable[[Job], np.ndarray]:
    """JAX: one policy's steps, vmapped over worlds and configurations, jitted; at once or in the blocks of ours."""
    import jax
    import jax.numpy as jnp

    def one(reward: Any, start: Any, alpha: Any, steps: Any) -> Any:
        def step(_: Any, logits: Any) -> Any:
            weight = jnp.exp(logits)
            total = jnp.sum(weight)
            shaped = reward - alpha * (logits - jnp.log(total))
            return logits + LR / total * weight * (shaped - jnp.dot(weight, shaped) / total)

        return jax.lax.fori_loop(0, steps, step, start)

    over_worlds = jax.vmap(one, in_axes=(0, 0, None, None))
    everything = jax.jit(jax.vmap(over_worlds, in_axes=(None, None, 0, None)))

    def run(job: Job) -> np.ndarray:
        worlds = len(job.proxy) if whole else max(1, BLOCK_BYTES // (len(job.alphas) * ARMS * 4))
        proxy, start = job.proxy[:, 0].astype(np.float32), job.world.ref_logp[:, 0].astype(np.float32)
        done = [
            np.asarray(everything(proxy[i : i + worlds], start[i : i + worlds], job.alphas, job.steps))
            for i in range(0, len(proxy), worlds)
        ]
        return log_softmax(np.concatenate(done, axis=1).astype(float))

    return run


def measure(name: str, form: Callable[[Job], np.ndarray], job: Job, repeats: int) -> tuple[float, np.ndarray]:
    """Median seconds of `repeats` runs after one to warm up (compile), and the result."""
    result = form(job)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = form(job)
        seconds.append(time.perf_counter() - start)
    print(f"  {name}: {job.element_steps / statistics.median(seconds) / 1e6:.0f} M element-steps/s", file=sys.stderr)
    return statistics.median(seconds), result


def large() -> dict[str, float]:
    """1000 configurations x 100 worlds x 50 arms x 2000 steps through the engine, metrics included; peak memory."""
    task = job(1000, 100, 2000)
    start = time.perf_counter()
    regularizer = Entropy(task.alphas.reshape(-1, 1, 1, 1))
    policy_gradient(task.world, task.proxy, regularizer=regularizer, learner=Exact(LR), steps=task.steps, logged=10)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "element_steps_per_second": task.element_steps / seconds, "peak_memory_gib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    arguments = parser.parse_args()
    big = large()  # first: its peak memory is that of the process so far
    print(f"  large: {big['seconds']:.0f} s", file=sys.stderr)
    warnings.filterwarnings("ignore", module="torch")
    small, task = job(2, 3, 400), job(100, 100, 400)
    import torch

    torch.set_num_threads(1)
    base, looped = measure("Python loop", python_loop, small, REPEATS)
    loop_rate = small.element_steps / base
    forms: dict[str, Callable[[Job], np.ndarray]] = {"NumPy, ours": ours, "torch.compile, ours": compiled}
    try:
        forms |= {"JAX vmap+jit, blocks": jax_form(False), "JAX vmap+jit, at once": jax_form(True)}
    except ImportError:
        print("  JAX is not installed; `make bench-toybandit` installs it", file=sys.stderr)
    rows, expected = {"Python loop": loop_rate}, None
    assert np.abs(ours(small) - looped).max() < 1e-4  # noqa: S101 - the same simulation
    for name, form in forms.items():
        seconds, result = measure(name, form, task, REPEATS)
        rows[name] = task.element_steps / seconds
        expected = result if expected is None else expected
        assert np.abs(result - expected).max() < 1e-3, f"{name} ends at another policy"  # noqa: S101
    print("| form | element-steps/s | against the Python loop |\n| --- | ---: | ---: |")
    for name, rate in rows.items():
        print(f"| {name} | {rate / 1e6:.1f} M | {rate / loop_rate:.0f}x |")
    whole = big["element_steps_per_second"]
    print(
        f"| 1000 configurations x 100 worlds x 50 arms x 2000 steps, NumPy, with metrics: {big['seconds']:.0f} s, "
        f"peak memory {big['peak_memory_gib']:.2f} GiB | {whole / 1e6:.1f} M | {whole / loop_rate:.0f}x |"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"element_steps_per_second": rows, "large": big}, indent=2) + "\n")


if __name__ == "__main__":
    main()
