"""Losses and gradients are finite for any finite log-probs; a run that meets NaN says all that it knows."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.names import DIVERGENCES, OBJECTIVES, make_objective
from llm.__main__ import main
from llm.engine.checkpoints import last_checkpoint
from llm.offline.replay import replay
from tests.helpers.llm_runs import read_rows, run_offline, write_pairs

# f-dpo's other divergences pay exp(reference - policy) for a response: log-ratios beyond this overflow float32 itself.
EXPONENTIAL = {"forward-kl": 80.0, "alpha-divergence": 80.0}
LARGEST = {
    torch.float32: float(np.float32(1e18)),
    torch.float64: 1e150,
}  # the square of ipo's difference is still a number


def variants():
    """Every objective, with all its options in use and with each divergence."""
    for name, recipe in OBJECTIVES.items():
        extra = {"label_smoothing": 0.1, "gamma": 1.0}
        options = {recipe.strength: 0.5} | {key: value for key, value in extra.items() if key in recipe.options}
        for divergence in DIVERGENCES if "divergence" in recipe.options else [None]:
            chosen = {"divergence": divergence} if divergence else {}
            yield pytest.param(name, options | chosen, id=f"{name}-{divergence}")


for_every_objective = pytest.mark.parametrize(("name", "options"), list(variants()))


def logps(largest, dtype):
    sizes = st.sampled_from((0.0, 1e-45, 1e-6, 1.0, 87.0, 104.0, 710.0, 1e4, 1e9, largest))
    anywhere = st.floats(0, largest, width=32 if dtype is torch.float32 else 64)
    return st.one_of(sizes, anywhere).map(lambda x: -min(x, largest))


@for_every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_losses_and_gradients_are_finite_for_any_finite_log_probs(name, options, dtype, data):
    objective = make_objective(name, **options)
    m = 4 if objective.listwise else 2
    value = logps(EXPONENTIAL.get(options.get("divergence"), LARGEST[dtype]), dtype)
    policy, reference = (torch.tensor(data.draw(st.lists(value, min_size=m, max_size=m)), dtype=dtype) for _ in "ab")
    length = torch.tensor(data.draw(st.lists(st.integers(1, 10**6), min_size=m, max_size=m)), dtype=dtype)
    policy.requires_grad_()
    loss = objective.loss(objective.rewards(policy, length=length, ref_logp=reference))
    (gradient,) = torch.autograd.grad(loss, policy)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert loss >= 0


@pytest.mark.parametrize("divergence", EXPONENTIAL)
def test_a_log_ratio_that_overflows_is_no_finite_number_of_another_size(divergence):
    """What the guard of training then sees: the loss is beyond the precision, so it may only be inf or NaN."""
    objective = make_objective("f-dpo", beta=0.5, divergence=divergence)
    policy, reference = torch.tensor([-400.0, -400.0]), torch.tensor([-10.0, -11.0])
    loss = objective.loss(objective.rewards(policy, ref_logp=reference))
    assert not math.isfinite(loss.item())


@pytest.fixture
def run(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)

    def start(**options):
        given = {"data": data, "eval_data": held, "lr": 1e30, "schedule": "constant", "max_steps": 9} | options
        return run_offline(tiny_folder, tmp_path / "run", **given)

    return start


@pytest.mark.parametrize(("objective", "lora_rank"), [("dpo", 0), ("simpo", 4)])
def test_a_run_that_diverges_says_step_batch_and_checkpoint_and_the_batch_diverges_again(
    run, tmp_path, objective, lora_rank, monkeypatch, capsys
):
    with pytest.raises(InputError, match=r"diverged at step \d+: loss .*; lower --lr \(now 1e\+30\)") as stopped:
        run(objective=objective, lora_rank=lora_rank, checkpoint_every=1)
    out = tmp_path / "run"
    kept = json.loads((out / "diverged.json").read_text())
    words = str(stopped.value)
    assert f"at step {kept['step']}:" in words
    assert f"Batch: {kept['batch'][0]['where']}, " in words
    good = last_checkpoint(out / "checkpoints" / "resume")
    assert f"Last good checkpoint: {good or 'none was written'}" in words
    assert (good is not None) == (kept["step"] > 1)
    assert "\n" not in words

    monkeypatch.setattr(sys, "argv", ["llm", "replay", str(out)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"the batch of step {kept['step']}" in printed
    assert "NOT FINITE" in printed
    rows = replay(out)
    assert [row["where"] for row in rows] == [row["where"] for row in kept["batch"]]
    assert not all(row["finite"] for row in rows)


def test_replay_of_a_finite_batch_gives_the_numbers_of_the_step(run, tmp_path, monkeypatch):
    """A planted NaN: only the norm of step 3 is said to be one, so the replay can be held against a whole run."""
    from llm.engine.engine import Engine

    whole = run(lr=1e-3)
    rows = [r for r in read_rows(whole, "examples.jsonl") if r["step"] == 3 and r["split"] == "train"]
    norms, real = iter([1.0, 1.0, math.nan]), Engine.gradient_norm
    monkeypatch.setattr(Engine, "gradient_norm", lambda self: real(self) * next(norms))
    with pytest.raises(InputError, match="diverged at step 3"):
        run(lr=1e-3)
    monkeypatch.setattr(Engine, "gradient_norm", real)
    again = replay(tmp_path / "run")
    assert all(row["finite"] for row in again)
    for row, expected in zip(again, rows, strict=True):
        assert row["where"] == expected["where"]
        for name in ("loss", "logps/chosen", "logps/rejected", "rewards/margins"):
            # alone instead of packed with others: float32 sums in another order
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-5, atol=1e-6)


def test_replay_without_a_divergence_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llm", "replay", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert "only a run that diverged can be replayed" in capsys.readouterr().err
