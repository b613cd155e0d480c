"""Sizes of passes by device, and batches by tokens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.scoring.passes import CPU, GPU, by_tokens, pass_sizes, scored
from llm.settings.online import OnlineConfig
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import run_offline, write_pairs


def test_a_gpu_takes_large_passes_and_a_cpu_what_it_always_took():
    assert pass_sizes("cpu") is CPU
    assert pass_sizes("cuda") is GPU
    assert pass_sizes("meta") is GPU  # where kernels are counted
    assert (CPU.offline_tokens, CPU.online_tokens, CPU.batch_tokens, CPU.chunk_tokens) == (512, 1024, 4096, 256)
    assert (GPU.offline_tokens, GPU.online_tokens, GPU.batch_tokens, GPU.chunk_tokens) == (16_384,) * 3 + (2048,)
    assert TrainConfig(objective="dpo").micro_batch_tokens is None
    assert OnlineConfig(regularizer="none").micro_batch_tokens is None


@pytest.mark.parametrize(("options", "tokens"), [({}, 512), ({"micro_batch_tokens": 77}, 77)])
def test_a_run_s_config_says_which_passes_it_made(options, tokens, tiny_folder, tmp_path, own_cache):
    data = write_pairs(tmp_path / "train.jsonl", 6)
    out = run_offline(tiny_folder, tmp_path / "run", data=data, max_steps=1, eval_size=2, **options)
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["passes"] == {"micro_batch_tokens": tokens, "batch_tokens": 4096, "chunk_tokens": 256}
    assert config["micro_batch_tokens"] == options.get("micro_batch_tokens")


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120), st.none() | st.integers(1, 4))
def test_every_item_is_in_one_batch_and_batches_keep_to_their_limits(sizes, tokens, most):
    parts = list(by_tokens(sizes, tokens=tokens, most=most))
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    for part in parts:
        assert part
        assert sum(sizes[i] for i in part) <= tokens or len(part) == 1
        assert most is None or len(part) <= most


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_what_is_scored_in_batches_comes_back_in_order(sizes, tokens):
    groups, calls = [range(n) for n in sizes], []
    assert scored(groups, tokens, lambda part: calls.append(part) or [2 * len(g) for g in part]) == [
        2 * n for n in sizes
    ]
    assert sum(map(len, calls)) == len(sizes)
