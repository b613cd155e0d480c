"""Offline preference optimization: one loop, the objective is an argument.

Each step averages the objective's loss over `batch_size` comparisons. Every pass divides by the number
of comparisons of the whole step, over all processes, so any split gives the same gradient.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from accelerate.utils import set_seed

from derivations.cli.errors import InputError
from derivations.cli.files import write_json
from derivations.published import Trained, Unpaired
from llm.data.dataset import Data, announce, load_data, read_sources
from llm.data.files import Skipped
from llm.data.tokens import Group, tokens_of
from llm.engine.determinism import set_determinism
from llm.engine.engine import Engine
from llm.engine.jsonl import Records
from llm.engine.launch import describe, is_silent
from llm.engine.memory import peak_memory_gib
from llm.engine.nan_guard import stop_if_diverged
from llm.engine.reference import EveryStep, Precomputed
from llm.engine.run_folder import Run, as_started, finished, open_run
from llm.engine.sharding import PLACEHOLDER, load_in_first
from llm.engine.working import Work, progress, working
from llm.offline.ending import print_summary
from llm.offline.metrics import Row, change, losses_and_rows, means
from llm.offline.replay import as_records
from llm.offline.unpaired import mismatched, reference_point
from llm.sampling.reference_pool import texts
from llm.sampling.sampler import sample
from llm.scoring.compiled import compile_layers
from llm.scoring.export import export, model_card
from llm.scoring.logprobs import longest_sequence, require_room
from llm.scoring.models import Model, Tokenizer, add_lora, load_model, recompute_layers
from llm.scoring.passes import by_tokens, pass_sizes, scored, what_ran
from llm.settings.train import LARGEST, TrainConfig

Reference = EveryStep | Precomputed | None


def train(config: TrainConfig, *, loaded: tuple[Model, Tokenizer] | None = None) -> dict[str, Any]:
    """Train on comparisons.

    Args:
        config: the settings.
        loaded: a model of that name and its tokenizer, as `load_model` gives them, which is trained in place; None:
            they are loaded here.

    Returns:
        The summary, also in `summary.json`.

    Raises:
        InputError: bad input.
    """
    began = time.monotonic()
    config.require_places()
    config = as_started(config)
    if config.resume and (summary := finished(config)):
        return summary
    set_determinism(config.deterministic)
    objective, silent = config.make_objective(), is_silent(config)
    with working("reading the data", quiet=silent or config.data is None):
        sources = read_sources(config)
    with working(f"loading the model {config.model}", quiet=silent):
        load = load_in_first if config.shard else load_model
        model, tokenizer = loaded or load(config.model, implementation=config.attention)
    if config.max_length is not None:
        require_room(model.config, config.max_length)
    limit = longest_sequence(model.config)
    engine = _engine(config, model)
    with working("turning the data into tokens", quiet=silent or config.data is None):
        data = load_data(config, objective, sources, engine, tokenizer, limit=limit)
    config = replace(config, max_length=data.max_length)
    runs_on = describe(engine.accelerator, sharded=engine.sharded)
    if not silent:
        announce(config, objective, data, runs_on)
    reference = _reference(config, objective, engine, data, quiet=silent)
    resolved = {"objective_resolved": str(objective), "data_note": data.note, "data_fingerprint": data.fingerprint()}
    ran = {"runs_on": runs_on, "passes": what_ran(engine.device.type, pass_tokens(config, engine))}
    run = open_run(config, resolved | ran, engine)
    if engine.is_main:
        (config.out / "skipped.jsonl").unlink(missing_ok=True)
        _list_skipped(Records(config.out / "skipped.jsonl"), data.skipped)
    state = run.restore(engine)
    engine.start_tracking(config)

    def inside(step: int) -> bool:
        """Whether the loop over the steps says what is being done."""
        return 0 < step < config.max_steps

    def evaluate(step: int) -> float:
        what = f"evaluating {len(data.evaluation)} held-out comparisons after {step} steps, in tokens"
        with working(what, quiet=silent or inside(step), total=tokens_of(data.evaluation)) as work:
            rows = _evaluate(engine, objective, data.evaluation, reference, config, work)
        row = {"step": step} | {f"eval/{name}": value for name, value in means(rows).items()}
        stop_if_diverged(0.0, row["eval/loss"], step, [r["where"] for r in rows], config.out, config.lr)
        run.examples.add(*({"step": step, "split": "eval", **r} for r in rows))
        run.metrics.add(row)
        engine.track(row)
        if config.samples and (engine.is_main or engine.sharded):
            with working(f"sampling {config.samples} continuations", quiet=silent or inside(step)):
                run.samples.add(*_continuations(engine, tokenizer, data.evaluation, step=step, config=config))
        return row["eval/loss"]

    if state["step"] == 0:
        state |= {"best": evaluate(0), "waited": 0}
    plan, step = _schedule(len(data.train), config), state["step"]
    steps = range(step + 1, config.max_steps + 1)
    for step in progress(steps, f"{objective.name}: training {len(steps)} steps", quiet=silent):
        groups = [data.train[i] for i in plan[step - 1]]
        rows = accumulate(engine, objective, groups, reference, config)
        norm, row = engine.gradient_norm(), means(rows)
        kept = partial(as_records, groups, reference, rows)
        stop_if_diverged(norm, row["loss"], step, kept, config.out, config.lr, engine=engine)
        row = {"step": step, "lr": engine.lr, "grad_norm": norm, **row}
        engine.step()
        run.examples.add(*({"step": step, "split": "train", **r} for r in rows))
        run.metrics.add(row)
        engine.track(row)
        if config.eval_every and step % config.eval_every == 0 and step < config.max_steps:
            loss = evaluate(step)
            state["waited"] = 0 if loss < state["best"] else state["waited"] + 1
            state["best"] = min(loss, state["best"])
        stop = bool(config.patience) and state["waited"] >= config.patience
        if config.checkpoint_every and step % config.checkpoint_every == 0 and step < config.max_steps and not stop:
            run.save(engine, state | {"step": step})
        if stop:
            break
    if step == config.max_steps:
        evaluate(step)
    with working("saving the model" if config.save else "writing the summary", quiet=silent):
        summary = _finish(config, objective, data, engine, tokenizer, run, step, time.monotonic() - began)
    if engine.is_main:
        print_summary(summary, config)
    return summary


def _list_skipped(records: Records, skipped: Skipped) -> None:
    """Every skipped row, some at a time."""
    rows = iter(skipped)
    while some := list(islice(rows, 1000)):
        records.add(*({"where": where, "reason": reason} for where, reason in some))


def _engine(config: TrainConfig, model: Any) -> Engine:
    if config.lora_rank:
        set_seed(config.seed)  # of the adapters' start
        model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha)
    if config.gradient_checkpointing:
        recompute_layers(model.get_base_model() if config.lora_rank else model)
    if config.compile_layers:
        compile_layers(model)
    engine = Engine.of(config, model)
    if config.attention == "flex_attention" and engine.device.type != "cuda":
        raise InputError(f"--attention flex_attention needs a CUDA device, this is {engine.device.type}; leave it out")
    if config.batch_size < engine.processes:
        raise InputError(f"--batch-size {config.batch_size} leaves some of {engine.processes} processes without work")
    return engine


def _reference(config: TrainConfig, objective: Trained, engine: Engine, data: Data, *, quiet: bool) -> Reference:
    """The untrained model, before the first step (or the checkpoint) changes the weights."""
    if not objective.regularizer.needs_reference:
        return None
    if config.reference == "every-step":
        return EveryStep(engine)
    used = sorted({i for step in _schedule(len(data.train), config) for i in step})
    sets: list[Sequence[Group]] = [[data.train[i] for i in used], data.evaluation]
    if isinstance(objective, Unpaired):
        batches = [[data.train[i] for i in step] for step in _schedule(len(data.train), config)]
        sets += [mismatched(batch, max_length=data.max_length) for batch in [*batches, data.evaluation]]
    with working("log-probs of the untrained model, in tokens", quiet=quiet, total=sum(map(tokens_of, sets))) as work:
        return Precomputed(engine, *sets, tokens=pass_tokens(config, engine), counted=work.add)


def accumulate(
    engine: Engine, objective: Trained, groups: Sequence[Group], reference: Reference, config: TrainConfig
) -> list[Row]:
    """Gradient of the mean loss over the groups (of all processes), and every group's measurements."""
    kl = _point(engine, objective, groups, reference, config)
    mine = groups[engine.rank :: engine.processes]
    parts = list(micro_batches(mine, size=config.micro_batch_size, tokens=pass_tokens(config, engine)))
    parts = engine.evenly(parts)
    references = [reference(part) if reference and part else None for part in parts]
    rows: dict[int, Row] = {}
    with engine.micro_steps():
        for number, (part, ref_logp) in enumerate(zip(parts, references, strict=True), start=1):
            last = number == len(parts)
            if part is None:  # the others' layers wait for ours
                engine.backward(0.0 * engine.loss_logps(PLACEHOLDER, last=last).sum(), last=last)
                continue
            logp = engine.loss_logps([e for g in part for e in g.examples], last=last)
            losses, measured = losses_and_rows(objective, part, logp, ref_logp, kl)
            engine.backward(losses.sum() / len(groups), last=last)
            rows |= {id(g): row for g, row in zip(part, measured, strict=True)}
    return engine.gather([rows[id(g)] for g in mine])


def _point(
    engine: Engine, objective: Trained, groups: Sequence[Group], reference: Reference, config: TrainConfig
) -> float | None:
    """The reference point of an unpaired objective on these responses, nats; None for the others."""
    if not isinstance(objective, Unpaired) or reference is None:
        return None
    length, tokens = config.max_length or LARGEST, pass_tokens(config, engine)
    return reference_point(groups, reference, engine, max_length=length, tokens=tokens)


def pass_tokens(config: TrainConfig, engine: Engine) -> int:
    """Most tokens in one forward pass: as asked, or the device's own."""
    return config.micro_batch_tokens or pass_sizes(engine.device.type).offline_tokens


def micro_batches(groups: Sequence[Group], *, size: int | None, tokens: int) -> Iterator[list[Group]]:
    """The groups by length, at most `size` together and at most `tokens` tokens (or one group)."""
    for part in by_tokens([len(g) for g in groups], tokens=tokens, most=size):
        yield [groups[i] for i in part]


def _evaluate(
    engine: Engine, objective: Trained, groups: Sequence[Group], reference: Reference, config: TrainConfig, work: Work
) -> list[Row]:
    """Measurements of every group, in order; `work` counts the tokens that are done."""
    kl, tokens = _point(engine, objective, groups, reference, config), pass_tokens(config, engine)

    def score(part: list[Group]) -> list[Row]:
        logp = engine.logps([e for g in part for e in g.examples])
        work.add(tokens_of(part) * engine.processes)
        return losses_and_rows(objective, part, logp, reference(part) if reference else None, kl)[1]

    return engine.gather(scored(groups[engine.rank :: engine.processes], tokens, score, engine=engine))


def _schedule(n: int, config: TrainConfig) -> list[list[int]]:
    """Indices of every step: shuffled passes over the data, one after another."""
    rng = random.Random(config.seed)  # noqa: S311
    order: list[int] = []
    while len(order) < config.max_steps * config.batch_size:
        order += rng.sample(range(n), n)
    return [order[s * config.batch_size : (s + 1) * config.batch_size] for s in range(config.max_steps)]


def _continuations(
    engine: Engine, tokenizer: Any, groups: Sequence[Group], *, step: int, config: TrainConfig
) -> list[dict[str, Any]]:
    """One sampled continuation (at most 32 tokens, and none past max_length) of the first evaluation prompts."""
    prompts = [g.examples[0].prompt for g in groups[: config.samples]]
    room = (config.max_length or 0) - max(map(len, prompts))
    with engine.sampling():
        drawn = sample(engine.transformer, tokenizer, prompts, k=1, max_new_tokens=min(32, room), seed=config.seed)
    prompt_texts = tokenizer.batch_decode([list(p) for p in prompts])
    return [
        {"step": step, "prompt": prompt, "response": text, "complete": example.complete}
        for prompt, text, example in zip(prompt_texts, texts(drawn, tokenizer), drawn, strict=True)
    ]


def _finish(
    config: TrainConfig,
    objective: Trained,
    data: Data,
    engine: Engine,
    tokenizer: Any,
    run: Run,
    step: int,
    seconds: float,
) -> dict[str, Any]:
    """Summary, model and its card; only the first process writes."""
    weights = engine.whole_weights() if config.save else None
    engine.close()
    if not engine.is_main:
        return {}
    summary = {
        "objective": objective.name,
        **change(run.evaluations(0), run.evaluations(step)),
        "steps": step,
        "train_pairs": len(data.train),
        "eval_pairs": len(data.evaluation),
        "seconds": seconds,
        "peak_memory_gib": peak_memory_gib(),
    }
    if config.save:
        settings = {
            k: v for k, v in vars(config).items() if k not in ("quiet", "format", "resume", "plan", "plan_processes")
        }
        card = model_card(base=config.model, objective=objective, data=data.note, settings=settings, summary=summary)
        place = config.out / "checkpoints" / "last"
        export(engine.unwrapped.model, tokenizer, place, form=config.export, card=card, weights=weights)
    write_json(config.out / "summary.json", summary)
    run.drop_checkpoint()
    return summary
