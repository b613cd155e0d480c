"""Online policy gradient on a fitted proxy reward: one loop, the regularizer is an argument.

The gradient of E_pi[r] - sum phi is E_pi[(r - s) grad log pi] with the implicit reward s of the
regularizer (THEORY 1 and 3.2), so each sample's reward is shaped to r - s(y), detached, at the level
of whole responses, with log-probs from the training forward pass. Leave-one-out baseline
(arXiv:2402.14740). Gold is logged and never trained on.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derivations.cli.errors import InputError
from derivations.cli.files import to_json, write_json
from derivations.objectives import kl_estimate, rloo_advantage, shaped_reward
from derivations.regularizers import Regularizer
from llm.engine.determinism import set_determinism
from llm.engine.engine import Engine
from llm.engine.jsonl import read_rows
from llm.engine.launch import is_silent
from llm.engine.memory import peak_memory_gib
from llm.engine.nan_guard import stop_if_diverged
from llm.engine.run_folder import Run, finished, open_run
from llm.engine.working import progress, working
from llm.online.ending import number, print_summary
from llm.online.evaluation import evaluate, flat
from llm.online.proxy import save_proxy
from llm.online.setup import Batch, World, make_world
from llm.sampling.reference_pool import require_room_to_sample
from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS
from llm.scoring.adapters import note
from llm.scoring.export import save_model
from llm.scoring.models import Model, Tokenizer, load_model
from llm.scoring.packing import Example
from llm.scoring.passes import pass_sizes, what_ran
from llm.settings.online import OnlineConfig
from llm.settings.words import regularizer_words


def online(
    config: OnlineConfig,
    *,
    loaded: tuple[Model, Tokenizer] | None = None,
    start: tuple[dict[str, Any], list[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Train online; returns the summary (also in `summary.json`). Raises InputError on bad input.

    loaded: a model of that name and its tokenizer, as `load_model` gives them, which is trained in place; None: they
    are loaded here. start: the evaluation of the untrained model with its rows of samples, where another run of the
    same settings but the regularizer has made it; it would be the same.

    Keys: regularizer, wrong_bonus, steps, seconds, peak_memory_gib, spread_ratio (spread of the implicit reward at
    the reference over that of the reward, within topics, on reference samples), proxy {accuracy, calibration
    {slope, pairs}, scale, ridge, pairs, off_distribution {kind: {proxy, gold, preferred}}}, evaluations: a list of
    {step, eval, eval-train: {metric: {mean, low, high}}, retention: {kappa, tau, r2_level, r2_change: {mean, low,
    high}}}; before and after are its first and last. A number that does not exist (r2_change before training) is null.
    """
    config.require_places()
    if config.resume and (summary := finished(config)):
        return summary
    set_determinism(config.deterministic)
    regularizer, silent = config.make_regularizer(), is_silent(config)
    with working(f"loading the model {config.model}", quiet=silent):
        model, tokenizer = loaded or load_model(config.model)
    require_room_to_sample(
        model,
        tokenizer,
        (*TOPICS, *HELD_OUT_TOPICS),
        max_new_tokens=config.max_new_tokens,
        mend="lower --max-new-tokens or shorten --prompt",
        template=config.prompt,
    )
    engine = Engine.of(config, model)
    if engine.processes > 1:
        raise InputError(f"online runs in one process, not in {engine.processes}")
    world = make_world(config, engine, tokenizer, regularizer)
    resolved = {"regularizer_resolved": regularizer, "world_fingerprint": world.fingerprint()}
    run = open_run(config, resolved | {"passes": what_ran(engine.device.type, pass_tokens(config, engine))}, engine)
    save_proxy(world.proxy, config.out / "proxy", reference=world.reference_hash)
    announce(config, regularizer, world)
    state: dict[str, Any] = {"evaluations": [], "seconds": 0.0} | run.restore(engine)
    began = time.monotonic() - state["seconds"]
    engine.start_tracking(config)

    def look(step: int) -> None:
        with working(f"evaluating after {step} steps", quiet=silent or step > 0):
            found, rows = (step == 0 and start) or evaluate(
                world, step=step, k=config.eval_samples, max_new_tokens=config.max_new_tokens, seed=config.seed
            )
        state["evaluations"].append(json.loads(to_json(found)))  # as a checkpoint gives it back
        run.metrics.add(flat(found))
        engine.track(flat(found))
        run.samples.add(*rows)

    if state["step"] == 0:
        look(0)
    steps = range(state["step"] + 1, config.max_steps + 1)
    for step in progress(steps, f"{regularizer_words(regularizer)}: training {len(steps)} steps", quiet=silent):
        row = train_step(world, regularizer, config, step)
        run.metrics.add(row)
        engine.track(row)
        if step == config.max_steps or (config.eval_every and step % config.eval_every == 0):
            look(step)
        if config.checkpoint_every and step % config.checkpoint_every == 0 and step < config.max_steps:
            run.save(engine, state | {"step": step, "seconds": time.monotonic() - began})
    with working("saving the model" if config.save else "writing the summary", quiet=silent):
        summary = _finish(config, regularizer, world, run, state["evaluations"], time.monotonic() - began)
    print_summary(summary, read_rows(run.samples.path), config)
    return summary


def train_step(world: World, regularizer: Regularizer, config: OnlineConfig, step: int) -> dict[str, Any]:
    """Draw, score, update; returns the row of metrics. Topics and samples depend on seed and step alone."""
    began = time.monotonic()
    rng = np.random.default_rng([config.seed, step])
    n = config.prompts_per_step
    topics = [str(t) for t in rng.choice(TOPICS, n, replace=n > len(TOPICS))]
    batch = world.draw(topics, k=config.samples, max_new_tokens=config.max_new_tokens, seed=(config.seed, step, 0))
    row = accumulate(world.engine, batch, regularizer, config)
    norm, lr = world.engine.gradient_norm(), world.engine.lr
    stop_if_diverged(norm, row["loss"], step, batch.examples, config.out, config.lr)
    world.engine.step()
    return {"step": step, "lr": lr, "grad_norm": norm, **row, "seconds": time.monotonic() - began}


def accumulate(engine: Engine, batch: Batch, regularizer: Regularizer, config: OnlineConfig) -> dict[str, float]:
    """Gradient of the step's mean loss, a few topics at a time; returns the step's means.

    A topic's advantages need only its own samples, so any split into topics gives the same gradient.
    """
    parts = list(topic_batches(batch.examples, k=config.samples, tokens=pass_tokens(config, engine)))
    logps, losses = [], []
    with engine.micro_steps():
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            logp = engine.loss_logps(batch.examples[part], last=last)
            loss = sample_losses(logp, batch, part, regularizer, config)
            engine.backward(loss.sum() / len(batch.examples), last=last)
            logps.append(logp.detach())
            losses.append(loss.detach())
    logp = torch.cat(logps)
    columns = {
        "loss": torch.cat(losses),
        "proxy": batch.proxy,
        "gold": batch.gold,
        "kl": kl_estimate(logp, batch.logq, role="metric"),
        "entropy": -logp,
        "length": batch.length(),
    }
    means = torch.stack([column.mean() for column in columns.values()]).tolist()  # one transfer
    return dict(zip(columns, means, strict=True))


def pass_tokens(config: OnlineConfig, engine: Engine) -> int:
    """Most tokens in one forward and backward pass: as asked, or the device's own."""
    return config.micro_batch_tokens or pass_sizes(engine.device.type).online_tokens


def sample_losses(logp: Tensor, batch: Batch, part: slice, regularizer: Regularizer, config: OnlineConfig) -> Tensor:
    """-advantage * log pi of each sample of a part, differentiable in logp [samples] (nats)."""
    reward, logq, length = batch.proxy[part], batch.logq[part], batch.length()[part]
    shaped = shaped_reward(reward, logp.detach(), regularizer=regularizer, length=length, ref_logp=logq)
    if config.regularizer_on == "on-topic":  # phi is 0 elsewhere, so the constant of s no longer cancels
        shaped = torch.where(batch.on_topic[part], shaped - regularizer.constant, reward)
    advantage = rloo_advantage(shaped.reshape(-1, config.samples)).reshape(-1)
    # the second term is the labelled control: -log pi itself as a bonus, whose expected gradient is 0
    return -advantage * logp + config.wrong_bonus * logp


def topic_batches(drawn: Sequence[Example], *, k: int, tokens: int) -> Iterator[slice]:
    """Slices of whole topics (k samples in a row) of at most `tokens` tokens, prompts counted once (or one topic)."""
    start, total = 0, 0
    for at in range(0, len(drawn), k):
        size = len(drawn[at].prompt) + sum(len(e.response) for e in drawn[at : at + k])
        if at > start and total + size > tokens:
            yield slice(start, at)
            start, total = at, 0
        total += size
    yield slice(start, len(drawn))


def announce(config: OnlineConfig, regularizer: Regularizer, world: World) -> None:
    """What will be trained, what the proxy is worth, and how loud the regularizer starts."""
    if config.quiet or config.format == "json":
        return
    if said := note(config.model):
        print(said)
    proxy, ratio = world.proxy, world.spread_ratio
    elsewhere = proxy.off_distribution.get("held-out", {}).get("accuracy")
    print(regularizer_words(regularizer))
    if config.wrong_bonus:
        print(f"CONTROL, WRONG: -log pi differentiated directly with weight {config.wrong_bonus:g}; no entropy bonus")
    print(
        f"proxy: {proxy.pairs} pairs, held-out accuracy {number(proxy.accuracy)} ({number(elsewhere)} on held-out "
        f"topics), calibration slope {proxy.slope:.2f} (1 is calibrated), one reward unit = {proxy.scale:.3g} of the "
        "head's output"
    )
    for kind, said in proxy.off_distribution.items():
        if "preferred" in said:
            print(
                f"proxy on {kind}: {said['proxy']['mean']:+.2f} reward units against real responses (gold "
                f"{said['gold']['mean']:+.2f}), preferred to {said['preferred']:.0%} of them"
            )
    print(f"spread of the regularizer's implicit reward over that of the reward, at the reference: {ratio:.2f}")
    if ratio > 1:
        print(
            "warning: above 1 the regularizer outweighs the reward from the first step and dissolves the policy; "
            f"a coefficient {ratio:.1f} times smaller makes them equal"
        )


def _finish(
    config: OnlineConfig,
    regularizer: Regularizer,
    world: World,
    run: Run,
    evaluations: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Trained model, summary and its table."""
    world.engine.close()
    if config.save:
        save_model(world.engine.transformer, world.tokenizer, config.out / "checkpoints" / "last")
    summary = {
        "regularizer": regularizer.name,
        "wrong_bonus": config.wrong_bonus,
        "steps": config.max_steps,
        "seconds": seconds,
        "peak_memory_gib": peak_memory_gib(),
        "spread_ratio": world.spread_ratio,
        "proxy": world.proxy.summary(),
        "before": evaluations[0],
        "after": evaluations[-1],
        "evaluations": evaluations,
    }
    summary = json.loads(to_json(summary))  # what is returned is what is written: no number is null in both
    write_json(config.out / "summary.json", summary)
    run.drop_checkpoint()
    return dict(summary)
