"""The numbers that the explorer's page carries: worlds, data and proxies, drawn as `toybandit run` draws them."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from derivations.evidence.intervals import CONFIDENCE
from toybandit.bandit import seed_streams, tabular_world
from toybandit.data import draw_pairs
from toybandit.interventions import arm_set
from toybandit.online import logged_steps
from toybandit.proxy import fitted_proxy, make_proxy

PAIRS = (10, 30, 100, 300, 1000, 3000)  # per prompt
ERRORS = (0, 0.5, 1, 2)  # reward units: the spread of a fitted proxy's initial rewards, or the scale of a noise
NOISES = ("iid", "heavy-tailed")
STEPS = (250, 1000, 2500)

# Every named regularizer as a formula in p, q and length, with its strength open; a test holds them to the code.
FORMULAS = {
    "entropy": "alpha*p*log(p)",
    "kl": "beta*p*log(p/q)",
    "length-normalized": "beta/length*(p*log(p) - p)",
    "length-normalized-shannon": "beta/length*p*log(p)",
    "forward-kl": "-beta*q*log(p/q)",
    "jensen-shannon": "beta*(p*log(2*p/(p + q)) + q*log(2*q/(p + q)))",
    "alpha-divergence": "2*beta*(p + q - 2*sqrt(p*q))",
}


def explorer_data(
    *, seeds: int, seed: int, on_progress: Callable[[float], None] = lambda share: None
) -> dict[str, Any]:
    """Worlds and proxies of the tabular world for the page, as JSON.

    Args:
        seeds: worlds, at least 2.
        seed: root of all random numbers.
        on_progress: gets the share of the work done.

    Returns:
        Arrays [seeds, prompts, arms] as base64 of little-endian float32 (or bytes, for `rare`); the rest are plain
        numbers.
    """
    streams = seed_streams(seed, seeds)
    world = tabular_world(streams)
    rare, fitted = {}, {}
    for i, pairs in enumerate(PAIRS):
        data = draw_pairs(world, streams, count=pairs)
        rare[str(pairs)] = _bytes(arm_set("rare", data.comparisons()))
        for j, error in enumerate(ERRORS):
            with threadpool_limits(limits=1, user_api="blas"):  # small systems: threads cost more than they give
                fitted[f"{pairs} {error:g}"] = _floats(fitted_proxy(data, streams, prior_scale=error))
            on_progress((i * len(ERRORS) + j + 1) / (len(PAIRS) * len(ERRORS)))
    noises = {name: make_proxy(name, world, data, streams) - world.gold for name in NOISES}
    return {
        "worlds": seeds,
        "prompts": world.gold.shape[1],
        "arms": world.gold.shape[2],
        "seed": seed,
        "pairs": PAIRS,
        "errors": ERRORS,
        "formulas": FORMULAS,
        "logged": {str(steps): logged_steps(steps).tolist() for steps in STEPS},
        "student": {str(n): float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) for n in range(2, seeds + 1)},
        "gold": _floats(world.gold),
        "ref": _floats(world.ref_logp),
        "length": _floats(world.length),
        "rare": rare,
        "fitted": fitted,
        "noise": {name: _floats(values) for name, values in noises.items()},
    }


def _floats(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()
