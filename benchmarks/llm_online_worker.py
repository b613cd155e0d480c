"""One arm of `benchmarks.llm_online`: an optimizer step for each line it reads, answered with its measurements.

Arms: proxy (fits the reward that both sides train on, and ends), ours, trl-plain (all samples in one batch),
trl-accumulated (one prompt's samples at a time) and trl-best (one batch, what is installed to make it fast).
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.device import Device, device_memory, model_place, now, take_device, trl_at_its_best
from benchmarks.worker import answer, requests
from llm.engine.engine import Engine
from llm.online.proxy import Proxy, load_proxy, save_proxy
from llm.online.setup import make_world
from llm.online.train import train_step
from llm.sampling.reference_pool import topic_prompt, weights_hash
from llm.sampling.topics import PROMPT, TOPICS
from llm.scoring.models import bundled_folder, load_model
from llm.settings.online import OnlineConfig

Options = dict[str, Any]


def config_of(options: Options, *, proxy: str) -> OnlineConfig:
    """Our settings of the benchmark's."""
    names = ("seed", "lr", "dtype", "prompts_per_step", "samples", "max_new_tokens", "gold", "sampler")
    kept = {name: options[name] for name in names if name in options}
    kept |= {"model": model_place(options["model"])} if "model" in options else {}
    return OnlineConfig(regularizer=f"kl={options['beta']}", proxy=proxy, quiet=True, **kept)


def step_topics(config: OnlineConfig, step: int) -> list[str]:
    """The topics of our step, so that both sides ask the same."""
    n = config.prompts_per_step
    rng = np.random.default_rng([config.seed, step])
    return [str(topic) for topic in rng.choice(TOPICS, n, replace=n > len(TOPICS))]


# ---- ours


def open_world(config: OnlineConfig) -> tuple[Any, Any]:
    """World and regularizer as `online` makes them."""
    model, tokenizer = load_model(config.model)
    regularizer = config.make_regularizer()
    return make_world(config, Engine.of(config, model), tokenizer, regularizer), regularizer


def make_proxy(options: Options) -> None:
    """Fit the proxy and save it; also fills the cache of reference samples."""
    world, _ = open_world(config_of(options, proxy=""))
    save_proxy(world.proxy, Path(options["proxy"]), reference=world.reference_hash)


def run_ours(options: Options) -> None:
    config = config_of(options, proxy=options["proxy"])
    world, regularizer = open_world(config)
    device = options["device"]
    for step in requests():
        began = now(device)
        row = train_step(world, regularizer, config, step)
        said = {"seconds": now(device) - began, "reward_seconds": 0.0, "reward": row["proxy"], "length": row["length"]}
        answer(**said, **device_memory(device))


# ---- TRL


class HeadReward:
    """The same proxy as a reward function of TRL: mean last hidden state of the response, then the head.

    TRL does not show a reward function its own pass of the reference, so this needs one of its own; it reuses
    the reference's weights, so it costs time and no memory for a third model. seconds: spent here so far.
    """

    __name__ = "head"

    def __init__(self, proxy: Proxy, tokenizer: Any, *, dtype: str, device: Device = "cpu") -> None:
        self.proxy, self.tokenizer, self.dtype, self.device = proxy, tokenizer, dtype, device
        self.model: Any = None  # the trainer's reference, once there is one
        self.seconds = 0.0

    def __call__(self, *, completion_ids: Sequence[list[int]], topic: Sequence[str], **_: Any) -> list[float]:
        began = now(self.device)
        rewards = self.rate([topic_prompt(t, self.tokenizer) for t in topic], completion_ids)
        self.seconds += now(self.device) - began
        return rewards

    def rate(self, prompts: Sequence[tuple[int, ...]], responses: Sequence[list[int]]) -> list[float]:
        """Rewards of the responses to the prompts, padded on the right into one batch."""
        rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.device)
        place = torch.arange(width, device=self.device)
        seen = place < torch.tensor([len(row) for row in rows], device=self.device)[:, None]
        response = seen & (place >= torch.tensor([len(p) for p in prompts], device=self.device)[:, None])
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bf16"):
            states = self.model.base_model(input_ids=ids, attention_mask=seen.long()).last_hidden_state.float()
        mean = torch.where(response[..., None], states, 0.0).sum(1) / response.sum(1, keepdim=True)
        return self.proxy(mean).tolist()


def make_trainer(options: Options, *, accumulate: bool, best: bool = False) -> tuple[Any, HeadReward]:
    """RLOOTrainer at our settings, asking our topics in our order, and its reward function."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import RLOOConfig, RLOOTrainer

    config = config_of(options, proxy=options["proxy"])
    folder = bundled_folder() if config.model == "bundled" else config.model
    extra, loading, _ = trl_at_its_best("rloo") if best else ({}, {}, [])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **loading)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    proxy, device = load_proxy(Path(config.proxy), reference=weights_hash(model)), options["device"]
    reward = HeadReward(proxy, tokenizer, dtype=config.dtype, device=device)
    topics = [topic for step in range(1, options["steps"] + 1) for topic in step_topics(config, step)]
    questions = [[{"role": "user", "content": PROMPT.format(topic=topic)}] for topic in topics]
    require_same_prompt(tokenizer, questions[0], topics[0])
    parts = config.prompts_per_step if accumulate else 1
    arguments = RLOOConfig(
        output_dir="out/bench-trl",
        beta=options["beta"],
        learning_rate=config.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        num_generations=config.samples,
        per_device_train_batch_size=config.prompts_per_step * config.samples // parts,
        gradient_accumulation_steps=parts,
        max_completion_length=config.max_new_tokens,
        max_steps=options["steps"],
        shuffle_dataset=False,
        seed=config.seed,
        bf16=config.dtype == "bf16",
        use_cpu=device == "cpu",
        gradient_checkpointing=False,  # TRL's default is True, which would slow it further
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **({"optim": "adamw_torch"} | extra),
    )
    dataset = Dataset.from_dict({"prompt": questions, "topic": topics})
    trainer = RLOOTrainer(
        model=model, reward_funcs=reward, train_dataset=dataset, processing_class=tokenizer, args=arguments
    )
    reward.model = trainer.ref_model
    return trainer, reward


def run_trl(options: Options, form: str) -> None:
    from transformers import TrainerCallback

    device = options["device"]
    trainer, reward = make_trainer(options, accumulate=form == "trl-accumulated", best=form == "trl-best")

    class Turns(TrainerCallback):
        """Wait for a request before a step and answer it after."""

        began, spent = 0.0, 0.0
        asked = requests()

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if next(self.asked, None) is None:
                sys.exit(0)
            self.began, self.spent = now(device), reward.seconds

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seconds, own = now(device) - self.began, trainer._metrics["train"]
            spent = reward.seconds - self.spent
            length = own["completions/mean_length"][-1]
            said = {"seconds": seconds, "reward_seconds": spent, "reward": own["reward"][-1], "length": length}
            answer(**said, **device_memory(device))

    trainer.add_callback(Turns())
    trainer.train()


def require_same_prompt(tokenizer: Any, question: list[dict[str, str]], topic: str) -> None:
    """Both sides must ask with the same tokens."""
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=True, return_dict=True)
    if tuple(ids["input_ids"]) != tuple(topic_prompt(topic, tokenizer)):
        raise RuntimeError("TRL and we would not ask the model with the same tokens")


def main() -> None:
    arm, text = sys.argv[1:]
    options = json.loads(text)
    torch.set_num_threads(options["threads"])
    take_device(options["device"])
    if arm == "proxy":
        make_proxy(options)
    elif arm == "ours":
        run_ours(options)
    else:
        run_trl(options, arm)


if __name__ == "__main__":
    main()
