"""The two clocks without training: how kappa and tau answer a small step of the weights along a gradient.

Policy gradient on the score v moves the weights along g(v) = E[v grad log pi] and log pi along K v, K the
network's tangent kernel. Under natural gradient K is the identity on deviations from a prompt's mean, so
v = log q moves kappa alone, v = r moves tau alone, and both at one rate. What the network does instead is
measured at the reference: rates of (kappa, tau) along g(log q), along g(r), and along the signs of
g(r - alpha log q), which is AdamW's first step. With A = r - alpha log q the first two predict the clock
c = alpha tau / (1 - kappa) of the first SGD step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derivations.cli.files import write_json
from derivations.objectives import rloo_advantage
from derivations.retention import bootstrap_retention
from llm.engine.engine import Engine
from llm.experiments.online_plan import Plan, Run
from llm.experiments.online_results import short
from llm.online.setup import POOL_SAMPLES, Batch, World, make_world
from llm.online.train import topic_batches
from llm.sampling.topics import TOPICS
from llm.scoring.models import load_model
from llm.settings.online import OnlineConfig

Result = dict[str, Any]


def measure_kernel(plan: Plan, run: Run, path: Path, *, out: Path) -> Result:
    """One seed's samples: write and return the rates, and the first step's clock along gradient and signs."""
    seed = run.seed
    settings, common = plan.protocol["kernel"], plan.protocol["common"]
    names = ("model", "gold", "prompt", "max_new_tokens", "proxy_pairs")
    options = {name: common[name] for name in names if name in common}
    config = OnlineConfig(regularizer="none", seed=seed, out=out, quiet=True, **options)  # float32: bf16 would drown it
    model, tokenizer = load_model(config.model)
    world = make_world(config, Engine.of(config, model), tokenizer, config.make_regularizer())
    k, alpha = settings["samples"], settings["alpha"]
    batch = world.draw(TOPICS, k=k, max_new_tokens=config.max_new_tokens, seed=(seed, 0, 9))
    of_logq, of_reward = (gradient(world.engine, batch, v, k=k) for v in (batch.logq, batch.proxy))
    shaped = [r - alpha * q for r, q in zip(of_reward, of_logq, strict=True)]
    step = settings["step"]
    along_logq, along_reward = (response(world, own, length=step) for own in (of_logq, of_reward))
    along_signs = response(world, [g.sign() for g in shaped], length=step)
    result = {
        "run": run.name,
        "seed": seed,
        "protocol": plan.fingerprint,
        "along_logq": along_logq,
        "along_reward": along_reward,
        "along_signs": along_signs,
        "ratio": along_reward["tau"] / along_logq["kappa"],
        "clock": clock(
            along_reward["kappa"] - alpha * along_logq["kappa"], along_reward["tau"] - alpha * along_logq["tau"], alpha
        ),
        "clock_signs": clock(along_signs["kappa"], along_signs["tau"], alpha),
        "norm_ratio": sum(float(g.double().abs().sum()) for g in shaped) / norm_of(shaped),
    }
    write_json(path, short(result))
    return dict(short(result))


def clock(kappa_rate: float, tau_rate: float, alpha: float) -> float:
    """c = alpha tau / (1 - kappa) of a first step from their rates."""
    return alpha * tau_rate / -kappa_rate


def gradient(engine: Engine, batch: Batch, values: Tensor, *, k: int) -> list[Tensor]:
    """Gradient of E[v log pi] with v centred within prompts, unbiased by leaving each sample out of its own centre."""
    weights = rloo_advantage(values.reshape(-1, k)).reshape(-1)
    parts = list(topic_batches(batch.examples, k=k, tokens=1024))
    with engine.micro_steps():
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            logp = engine.loss_logps(batch.examples[part], last=last)
            engine.backward((weights[part] * logp).sum() / len(batch.examples), last=last)
    found = [p.grad.detach().clone() for p in engine.transformer.parameters() if p.grad is not None]
    engine.optimizer.zero_grad()
    return found


def response(world: World, direction: Sequence[Tensor], *, length: float) -> dict[str, float]:
    """Rates of kappa and tau along a direction, per unit of weights moved along it (not of its length).

    The weights are moved by `length` to both sides and put back; log pi - log q is half the difference. bend: size of
    the second-order change, which cancels, over that of the first: small if the step was. r2_change: of the fit.
    """
    policy = [p for p in world.engine.transformer.parameters() if p.requires_grad]
    fixed = list(world.fixed.values())
    examples = [e for batch in fixed for e in batch.examples]
    logq, proxy = (torch.cat([getattr(batch, name) for batch in fixed]) for name in ("logq", "proxy"))
    scale = length / norm_of(direction)
    kept = [p.detach().clone() for p in policy]
    moved = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for p, start, d in zip(policy, kept, direction, strict=True):
                p.copy_(start + sign * scale * d)
        moved.append(world.engine.logps(examples).double())
    with torch.no_grad():
        for p, start in zip(policy, kept, strict=True):
            p.copy_(start)
    change, second = (moved[0] - moved[1]) / 2, (moved[0] + moved[1]) / 2 - logq
    columns = (logq.double() + change, logq.double(), proxy.double())
    fit = bootstrap_retention(*(x.cpu().numpy().reshape(-1, POOL_SAMPLES) for x in columns))
    kappa, tau, share = (fit[name]["mean"] for name in ("kappa", "tau", "r2_change"))
    if kappa is None or tau is None or share is None:
        raise RuntimeError("the step was so small that log-probs did not change; make [kernel] step larger")
    return {
        "kappa": (kappa - 1) / scale,
        "tau": tau / scale,
        "r2_change": share,
        "bend": float(second.norm() / change.norm()),
    }


def norm_of(direction: Sequence[Tensor]) -> float:
    """Euclidean length."""
    return float(np.sqrt(sum(float(d.double().square().sum()) for d in direction)))
