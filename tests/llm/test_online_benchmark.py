"""The online benchmark: its arithmetic, and that both sides give the same samples the same reward and gradient."""

import json

import numpy as np
import pytest
import torch

from benchmarks.llm_online import Settings, compare, markdown, reward_figure
from benchmarks.llm_online_worker import HeadReward, config_of, make_proxy, make_trainer, open_world, step_topics
from derivations.cli.errors import InputError
from llm.online.train import accumulate


def rows(form="plain", *, seeds=2, factor=2.0):
    """Four steps a seed: ours take 1, 2, 3, 4 s, TRL's `factor` times that, of which a quarter is the reward."""
    found = []
    for seed in range(seeds):
        for step in (1, 2, 3, 4):
            shared = {"form": form, "seed": seed, "step": step, "reward": 0.1 * step, "length": 20.0}
            seconds = step + 0.0
            found.append(shared | {"arm": "ours", "seconds": seconds, "reward_seconds": 0.0, "peak_gib": 1.0 + step})
            slow = 99.0 if step == 1 else factor * (1 + seed) * seconds  # the first step warms up
            found.append(shared | {"arm": "trl", "seconds": slow, "reward_seconds": slow / 4, "peak_gib": 10.0})
    return found


def test_ratios_are_of_total_times_without_the_first_step_and_of_the_highest_memory():
    line = compare("plain", rows() + rows("accumulated", factor=50.0))
    assert line["time"]["seeds"] == pytest.approx([1 / 2, 1 / 4])
    assert line["time_without_reward"]["seeds"] == pytest.approx([1 / 1.5, 1 / 3])
    assert line["memory"]["seeds"] == pytest.approx([0.5, 0.5])  # 5 GiB at our last step
    assert line["seconds"] == pytest.approx({"ours": 3.0, "trl": 9.0})
    assert line["reached"] is True
    assert compare("plain", rows(factor=1.4))["reached"] is False  # its slower seed is at 0.71
    # two seeds: Student's quantile with one degree of freedom is 12.706, deviation 0.25/sqrt(2), divided by sqrt(2)
    assert line["time"]["high"] - line["time"]["mean"] == pytest.approx(12.706 * 0.25 / 2, rel=1e-4)


def test_the_benchmark_s_page_says_what_was_measured_and_what_differs():
    text = markdown([compare("plain", rows())], Settings(seeds=2, steps=3))
    assert "| all samples in one batch | 3.00 | 9.00 | 0.38 [" in text
    assert "| reached |" in text
    assert "reward function" in text
    one = markdown([compare("plain", rows(seeds=1))], Settings(seeds=1, steps=3))
    assert "0.50 (1 seed)" in one
    assert len(reward_figure(rows() + rows("accumulated")).axes[0].lines) == 8


def test_counts_that_measure_nothing_are_refused():
    with pytest.raises(InputError, match="1 or more"):
        Settings(seeds=0)
    with pytest.raises(InputError, match="--samples 2 or more"):
        Settings(samples=1)


@pytest.fixture
def options(tiny_folder, tmp_path, own_cache):
    settings = Settings(model=str(tiny_folder), gold="length", prompts=3, samples=3, tokens=8, steps=1, dtype="float32")
    found = json.loads(settings.worker_options(0, tmp_path / "proxy"))
    make_proxy(found)
    return found


def test_both_sides_give_the_same_samples_the_same_reward_and_gradient(options, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)  # TRL makes its output folder
    config = config_of(options, proxy=options["proxy"])
    world, regularizer = open_world(config)
    # A policy that is not the reference, so that KL takes part: both sides' weights are moved alike.
    trainer, reward = make_trainer(options, accumulate=False)
    for model in (world.engine.transformer, trainer.model):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)

    topics = step_topics(config, 1)
    batch = world.draw(topics, k=config.samples, max_new_tokens=config.max_new_tokens, seed=(0, 1, 0))
    rated = reward.rate([e.prompt for e in batch.examples], [list(e.response) for e in batch.examples])
    np.testing.assert_allclose(rated, batch.proxy.tolist(), rtol=0, atol=2e-4)  # float32 states, units of a deviation
    assert np.std(rated) > 0.1

    row = accumulate(world.engine, batch, regularizer, config)
    ours = {name: p.grad.clone() for name, p in world.engine.transformer.named_parameters()}
    assert row["kl"] > 0.01

    monkeypatch.setattr(trainer, "_generate_single_turn", lambda *_: [list(e.response) for e in batch.examples])
    questions = trainer.train_dataset.select(range(len(topics)))
    assert list(questions["topic"]) == topics
    inputs = [question for question in questions for _ in range(config.samples)]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer.training_step(trainer.model, inputs, num_items_in_batch=None)
    theirs = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert theirs.keys() == ours.keys()
    norm = torch.stack([g.norm() for g in ours.values()]).norm()
    gap = torch.stack([(ours[name] - theirs[name]).norm() for name in ours]).norm()
    assert norm > 0.1
    assert gap < 1e-3 * norm  # rewards and log-probs in float32, and differences of near ones


def test_the_reward_function_reads_the_response_and_nothing_else(tiny_tokenizer):
    class Fixed:
        """States that are the token ids themselves."""

        def base_model(self, input_ids, attention_mask):
            states = torch.nn.functional.one_hot(input_ids, 258).float()
            return type("Out", (), {"last_hidden_state": states})()

    class Count:
        def __call__(self, features):
            return features[:, 7]  # the share of sevens

    head = HeadReward(Count(), tiny_tokenizer, dtype="float32")
    head.model = Fixed()
    assert head.rate([(7, 7), (1,)], [[7, 2], [7, 7, 7, 0]]) == pytest.approx([0.5, 0.75])
