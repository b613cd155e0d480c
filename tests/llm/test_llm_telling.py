"""What a run says: what it is at, what is kept of it when it stops, and in words what it found."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from derivations.cli.errors import InputError
from derivations.names import make_objective, parse_regularizer
from llm.engine import working as module
from llm.engine.engine import Engine
from llm.engine.interrupt import kept
from llm.engine.working import progress, working
from llm.offline.ending import what_next
from llm.online.views import kept_view, view
from llm.scoring.models import load_model
from llm.scoring.packing import Example
from llm.settings.threads import sleep_while_waiting
from llm.settings.train import TrainConfig
from llm.settings.words import objective_words, regularizer_words
from tests.helpers.llm_runs import read_rows, run_offline, run_online, write_pairs


@pytest.fixture
def places(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "train.jsonl", 8), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    return {"data": str(data), "eval_data": str(held)}


def test_work_that_lasts_is_said_soon_and_again_in_a_pipe_with_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(module, "EVERY", 0.05)
    monkeypatch.setattr(module, "FIRST", 0.01)
    for _ in progress([1, 2, 3], "training 3 steps", quiet=False):
        time.sleep(0.3)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "training 3 steps"
    assert any(re.fullmatch(r"  training 3 steps: 2 of 3, \d+ s so far, about \d+ s left", line) for line in lines), (
        lines
    )
    with working("loading", quiet=True):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_evaluation_and_the_reference_count_the_tokens_that_are_done_to_their_end(
    places, tiny_folder, tmp_path, monkeypatch
):
    works = {}

    @contextmanager
    def kept_working(what, *, quiet, total=0):
        works[what] = work = module.Work(what, total)
        yield work

    monkeypatch.setattr("llm.offline.train.working", kept_working)
    run_offline(tiny_folder, tmp_path / "a", **places, objective="dpo", quiet=False)
    counted = {what: work for what, work in works.items() if what.endswith("in tokens")}
    assert sum(what.startswith("evaluating 5 held-out") for what in counted) == 2
    assert "log-probs of the untrained model, in tokens" in counted
    assert all(work.done == work.total > 0 for work in counted.values()), counted


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(given, expected, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == expected


def test_the_command_line_sets_the_waiting_of_threads_before_torch_is_loaded():
    code = (
        "import os, sys, runpy; sys.argv = ['llm', 'train', '--objective', 'dpo', '--data', 'no-such.jsonl']\n"
        "try: runpy.run_module('llm', run_name='__main__')\n"
        "except SystemExit: print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    )
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["PASSIVE", "False"], done.stderr


@pytest.mark.parametrize(
    ("loss", "steps", "expected"),
    [
        ((0.1, 0.2), 20, "a smaller --lr than 1e-05"),
        ((-0.1, 0.2), 20, "the run saw 80 of 261 comparisons; one pass over them is --max-steps 66"),
        ((-0.2, -0.1), 20, "one pass over them is --max-steps 66"),
        ((-0.1, 0.2), 66, "more steps or a larger --lr than 1e-05"),
        ((-0.2, -0.1), 66, "other --seed values"),
    ],
)
def test_the_end_of_a_run_says_what_its_numbers_suggest(loss, steps, expected, tmp_path):
    config = TrainConfig(objective="dpo", out=tmp_path, lr=1e-5, batch_size=4, max_steps=steps)
    summary = {"change": {"loss": dict(zip(("low", "high"), loss, strict=True))}, "train_pairs": 261, "steps": steps}
    assert expected in what_next(summary, config)


def test_resume_without_a_checkpoint_says_so_and_keeps_the_earlier_run(places, tiny_folder, tmp_path, capsys):
    out = run_offline(tiny_folder, tmp_path / "a", **places)
    (out / "summary.json").unlink()  # as if killed before its end, with no checkpoint
    rows = read_rows(out)
    capsys.readouterr()
    run_offline(tiny_folder, out, **places, resume=True)
    assert "has no checkpoint to go on from; starting at step 1" in capsys.readouterr().err
    assert read_rows(tmp_path / "a.1") == rows == read_rows(out)


def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(places, tiny_folder, tmp_path):
    config = TrainConfig(objective="dpo", out=tmp_path / "a", checkpoint_every=2)
    assert "nothing of this run was saved" in kept(config.out, config, since=0.0)

    def stopping(step, monkey):
        from llm.offline import train as trainer

        real = trainer.stop_if_diverged

        def check(norm, loss, at, *args, **kwargs):
            if at == step and norm:
                raise KeyboardInterrupt
            return real(norm, loss, at, *args, **kwargs)

        monkey.setattr(trainer, "stop_if_diverged", check)
        with pytest.raises(KeyboardInterrupt):
            run_offline(tiny_folder, config.out, **places, max_steps=9, checkpoint_every=2)

    for step, words in ((2, "no checkpoint was written yet"), (4, "the checkpoint after step 2 is in")):
        with pytest.MonkeyPatch.context() as monkey:
            stopping(step, monkey)
        assert words in kept(config.out, config, since=0.0)
    assert "the same command with --resume goes on from there" in kept(config.out, config, since=0.0)
    assert "nothing of this run was saved" in kept(config.out, config, since=time.time() + 60)


def test_an_online_run_ends_in_words_and_texts_and_says_no_number_twice(tiny_folder, tmp_path, shared_cache, capsys):
    run_online(tiny_folder, tmp_path / "a", quiet=False)
    said = capsys.readouterr().out
    table, words = said.split("After 2 steps ")
    rows = [line for line in table.splitlines() if "│" in line and "[" in line]
    assert 8 <= len(rows) <= 12
    assert "fluency" not in said
    assert "Retention kappa is" in words
    assert len(re.findall(r"^  cheese +(before|after) +gold [+-]", words, re.M)) == 2
    assert "KL(coefficient" not in said


def test_a_run_of_train_ends_in_words_and_its_card_has_a_title(places, tiny_folder, tmp_path, capsys):
    out = run_offline(tiny_folder, tmp_path / "a", **places, objective="simpo", quiet=False, save=True)
    said = capsys.readouterr().out
    assert "SimPO (beta 2, gamma 1)\n" in said
    assert "The held-out loss " in said
    assert "Of 5 held-out comparisons " in said
    assert "Objective(" not in said
    card = (out / "checkpoints" / "last" / "README.md").read_text()
    assert f"# {tiny_folder.name}, trained with SimPO\n" in card
    assert "Objective: SimPO (beta 2, gamma 1). Data: " in card


def test_objectives_and_regularizers_are_said_in_words():
    said = {
        "DPO (beta 0.1)": ("dpo", {"beta": 0.1}),
        "conservative DPO (beta 0.1, label smoothing 0.2)": ("cdpo", {"beta": 0.1, "label_smoothing": 0.2}),
        "f-DPO (alpha-divergence, beta 0.1, order 0.3)": (
            "f-dpo",
            {"beta": 0.1, "divergence": "alpha-divergence", "order": 0.3},
        ),
        "maximum entropy on rankings (alpha 0.05, the first 2 places)": ("maxent-pl", {"alpha": 0.05, "top": 2}),
    }
    assert {objective_words(make_objective(name, **options)) for name, options in said.values()} == set(said)
    assert regularizer_words(parse_regularizer("entropy=0.02+kl=0.05", None)) == "entropy 0.02 + KL 0.05"
    assert regularizer_words(parse_regularizer("none", None)) == "no regularizer"


def test_what_the_reference_says_is_kept_and_a_damaged_file_is_refused(tiny_folder, tmp_path, own_cache):
    model, _ = load_model(str(tiny_folder))
    engine = Engine(model, lr=0.1, dtype="float32", max_grad_norm=1.0, seed=0)
    examples = [Example((1, 2), (3, 4), False), Example((1, 2), (5,), True)]
    first, again = (kept_view(engine, model, examples, weights="a") for _ in range(2))
    for own, stored, exact in zip(first, again, view(engine, model, examples), strict=True):
        assert torch.equal(own, stored)
        assert torch.equal(own, exact)
    (path,) = (tmp_path / "cache" / "maxent-rlhf" / "views").iterdir()
    kept_view(engine, model, examples, weights="b")  # another model's are not these
    assert len(list(path.parent.iterdir())) == 2
    np.savez(path, logq=np.zeros(3, np.float32), features=np.zeros((3, 2), np.float32))
    with pytest.raises(InputError, match="is damaged"):
        kept_view(engine, model, examples, weights="a")


def test_the_evaluation_before_training_can_be_taken_from_another_run_of_the_same_model(
    tiny_folder, tmp_path, shared_cache
):
    from llm.online.train import online
    from llm.settings.online import OnlineConfig

    options = json.loads((run_online(tiny_folder, tmp_path / "a", eval_on="held-out") / "config.json").read_text())
    names = OnlineConfig.__dataclass_fields__
    config = {k: v for k, v in options["config"].items() if k in names} | {"regularizer": "none", "coefficient": None}
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    rows = [row for row in read_rows(tmp_path / "a", "samples.jsonl") if row["step"] == 0]
    assert {row["split"] for row in rows} == {"eval"}
    assert "eval-train" not in summary["before"]
    found = [
        online(OnlineConfig(**config | {"out": tmp_path / name}), start=start, loaded=load_model(str(tiny_folder)))
        for name, start in (("b", None), ("c", (summary["before"], rows)))
    ]
    for name in ("before", "after"):
        assert found[0][name] == found[1][name]
    assert read_rows(tmp_path / "b", "samples.jsonl") == read_rows(tmp_path / "c", "samples.jsonl")
