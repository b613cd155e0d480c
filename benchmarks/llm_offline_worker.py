"""One arm of `benchmarks.llm_offline`: reads a batch a line, does one optimizer step, answers with its measurements.

Arms: ours, trl-plain, trl-checkpointing, trl-best, and peak (prints the machine's GFLOP/s once).
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.device import Device, device_memory, model_place, now, take_device, trl_at_its_best
from benchmarks.worker import answer, requests

BETA = {"simpo": 2.0, "dpo": 0.1}
GAMMA = 1.0
LR = 1e-6
Pairs = list[dict[str, list[int]]]


Options = dict[str, Any]


def load_plain(model: str, **options: Any) -> tuple[Any, Any]:
    """The model as transformers gives it, with its default attention unless the options say otherwise."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llm.scoring.models import bundled_folder

    folder = bundled_folder() if model == "bundled" else model_place(model)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return loaded, AutoTokenizer.from_pretrained(folder)


# ---- ours


def run_ours(options: Options) -> None:
    from llm.data.tokens import Group
    from llm.engine.engine import Engine
    from llm.engine.reference import EveryStep
    from llm.offline.train import accumulate
    from llm.scoring.models import add_lora, load_model
    from llm.scoring.packing import Example
    from llm.settings.train import TrainConfig

    objective, dtype, lora_rank, device = (options[name] for name in ("objective", "dtype", "lora_rank", "device"))
    model, _ = load_model(model_place(options["model"]), implementation=options["attention"])
    if lora_rank:
        model = add_lora(model, rank=lora_rank, alpha=16.0)
    extra = {"gamma": GAMMA} if objective == "simpo" else {}
    config = TrainConfig(objective=objective, beta=BETA[objective], dtype=dtype, lr=LR, schedule="constant", **extra)
    engine = Engine(model, lr=LR, dtype=dtype, max_grad_norm=1.0, seed=0)
    made = config.make_objective()
    reference = EveryStep(engine) if made.regularizer.needs_reference else None
    flop = step_gflop(engine.transformer, lora_rank, reference is not None)
    for pairs in requests():
        groups = [
            Group(tuple(Example(tuple(p["prompt"]), tuple(p[s]), True) for s in ("chosen", "rejected")), "")
            for p in pairs
        ]
        began = now(device)
        rows = accumulate(engine, made, groups, reference, config)
        norm = engine.gradient_norm()
        engine.step()
        seconds = now(device) - began
        loss = sum(r["loss"] for r in rows) / len(rows)
        answer(seconds=seconds, loss=loss, grad_norm=norm, gflop=flop(groups), **device_memory(device))


def step_gflop(model: Any, lora_rank: int, with_reference: bool) -> Callable[[Any], float]:
    """GFLOP of a step's matrix products, attention left out: 2 a weight and token forward, twice that backward."""
    head = model.get_output_embeddings().weight.numel()
    layers = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)) - head
    passes = 2 if lora_rank else 3  # frozen weights need no gradient of their own
    passes += 1 if with_reference else 0

    def count(groups: Any) -> float:
        tokens = sum(len(g) for g in groups)
        supervised = sum(len(e.response) for g in groups for e in g.examples)
        return 2e-9 * passes * (layers * tokens + head * supervised)

    return count


# ---- TRL


def run_trl(asked: Options, form: str) -> None:
    from datasets import Dataset
    from peft import LoraConfig

    objective, dtype, lora_rank, device = (asked[name] for name in ("objective", "dtype", "lora_rank", "device"))
    extra, loading, _ = trl_at_its_best(objective) if form == "trl-best" else ({}, {}, [])
    model, tokenizer = load_plain(asked["model"], **loading)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    peft = LoraConfig(
        r=lora_rank, lora_alpha=16.0, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    batches = requests()
    first = next(batches)
    options = {
        "output_dir": "out/bench-trl",
        "per_device_train_batch_size": len(first),
        "max_steps": 10**6,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": dtype == "bf16",
        "use_cpu": device == "cpu",
        "gradient_checkpointing": form == "trl-checkpointing",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "max_length": 4096,
        "disable_tqdm": True,
        "beta": BETA[objective],
        "dataloader_num_workers": 0,
    } | extra
    trainer_class, config = (_dpo if objective == "dpo" else _cpo)(options)
    trainer = trainer_class(
        model=model,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"} | _columns(first[0])]),
        processing_class=tokenizer,
        peft_config=peft if lora_rank else None,
    )
    step_by_step(trainer, first, batches, _rows_dpo if objective == "dpo" else _rows_cpo, device)


def _columns(pair: dict[str, list[int]]) -> dict[str, list[int]]:
    return {f"{name}_ids": ids for name, ids in pair.items()}


def _dpo(options: dict[str, Any]) -> tuple[Any, Any]:
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])  # tokens as they are

    return Trainer, DPOConfig(**options)


def _cpo(options: dict[str, Any]) -> tuple[Any, Any]:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    # cpo_alpha 0: SimPO itself, without the log-likelihood that CPO adds to it by default
    return CPOTrainer, CPOConfig(**options, loss_type="simpo", simpo_gamma=GAMMA, cpo_alpha=0.0)


def _rows_dpo(pairs: Pairs) -> list[dict[str, Any]]:
    return [_columns(p) for p in pairs]


def _rows_cpo(pairs: Pairs) -> list[dict[str, Any]]:
    rows = []
    for p in pairs:
        row: dict[str, Any] = {"prompt": "", "chosen": "", "rejected": ""}
        row |= {"prompt_input_ids": p["prompt"], "prompt_attention_mask": [1] * len(p["prompt"])}
        for side in ("chosen", "rejected"):
            ids = p["prompt"] + p[side]
            row |= {f"{side}_input_ids": ids, f"{side}_attention_mask": [1] * len(ids)}
            row |= {f"{side}_labels": [-100] * len(p["prompt"]) + p[side]}
        rows.append(row)
    return rows


def step_by_step(
    trainer: Any, first: Pairs, batches: Iterator[Pairs], rows: Callable[[Pairs], list[Any]], device: Device
) -> None:
    """TRL's own collator and `training_step` with its loss, then clipping and AdamW, a batch at a time."""
    trainer.create_optimizer()
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.model_wrapped = model
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    pairs: Pairs | None = first
    while pairs is not None:
        began = now(device)
        inputs = trainer.data_collator(rows(pairs))
        loss = trainer.training_step(model, inputs, num_items_in_batch=None)
        norm = trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()
        seconds = now(device) - began
        answer(seconds=seconds, loss=float(loss), grad_norm=float(norm), gflop=0.0, **device_memory(device))
        pairs = next(batches, None)


# ---- the machine


def print_peak(device: Device) -> None:
    best = {}
    shapes = ((512, 576, 1536), (1024, 1536, 576), (1536, 512, 576)) if device == "cpu" else ((8192, 4096, 4096),)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        rates = []
        for n, k, m in shapes:
            a, b = (torch.randn(size, device=device).to(dtype) for size in ((n, k), (k, m)))
            for _ in range(20):
                began = now(device)
                a @ b
                rates.append(2e-9 * n * k * m / (now(device) - began))
        best[name] = max(rates)
    print(json.dumps(best))


def main() -> None:
    arm, text = sys.argv[1:]
    options = json.loads(text)
    torch.set_num_threads(options["threads"])
    take_device(options["device"])
    if arm == "peak":
        print_peak(options["device"])
    elif arm == "ours":
        run_ours(options)
    else:
        run_trl(options, arm)


if __name__ == "__main__":
    main()
