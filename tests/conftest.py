"""Shared by tests: a language model small enough for brute force (random weights, bytes as tokens), a small bandit."""

import gc
import os
import sys
from types import SimpleNamespace

import pytest

from tests.helpers import work
from tests.stress import tiny

# Test processes that run side by side start torchrun on ports of their own.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ.setdefault("PET_MASTER_PORT", str(29500 + WORKER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, with what shares a fixture of the session in one process."""
    return work.Units(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):  # one of several processes: what takes longest begins first
        items.sort(key=lambda item: work.turn_of(item.nodeid))


def pytest_collection_finish(session):
    """Leave what importing all tests has made (torch, transformers, sympy) out of every later garbage collection.

    Each training run ends with two full ones, which otherwise walk through a million objects that stay to the end.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return tiny.tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model():
    """Maker of models: tied (head is the input embedding), seed, spread."""
    return tiny.tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The tiny model as a folder that `from_pretrained` loads."""
    return tiny.save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of its own, so samples of the tiny model are not mixed with the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def cache_of_the_session(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(cache_of_the_session, monkeypatch):
    """One cache for many runs of the tiny model: what is in it is keyed by everything that decides it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_of_the_session))


@pytest.fixture(scope="session")
def naive_logps():
    """log-probs of responses in float64, one sequence at a time, through the model's own logits: float64 [n].

    Llama norms and rotates in float32 whatever the weights are, which leaves about 1e-7 a token.
    """
    import torch

    def logps(model, examples):
        assert next(model.parameters()).dtype == torch.float64
        values = []
        for e in examples:
            logits = model(input_ids=torch.tensor([e.prompt + e.response])).logits[0]
            values.append(
                sum(logits[len(e.prompt) + i - 1].log_softmax(-1)[token] for i, token in enumerate(e.response))
            )
        return torch.stack(values)

    return logps


@pytest.fixture(scope="session")
def small_world():
    """Maker of small bandits: a tabular world of 2 prompts in `count` copies, and its fitted proxy."""
    from toybandit.bandit import seed_streams, tabular_world
    from toybandit.data import draw_pairs
    from toybandit.proxy import fitted_proxy

    def make(count=3, arms=12):
        streams = seed_streams(11, count)
        world = tabular_world(streams, prompts=2, arms=arms)
        return world, fitted_proxy(draw_pairs(world, streams, count=60), streams)

    return make


@pytest.fixture
def toybandit(tmp_path, monkeypatch, capsys):
    """The bandit's command line in this process, from an empty folder: status, output and errors."""
    from derivations.cli.command_line import run_command
    from toybandit.__main__ import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["toybandit", *arguments])
        with pytest.raises(SystemExit) as left:
            run_command(main)
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=left.value.code, stdout=out, stderr=err)

    return call


@pytest.fixture(scope="session")
def every_claim():
    """The results of all claims with their wrong versions on trial: what `python -m derivations check` reports."""
    from derivations.prover.claims import check_claims, load_claims

    return check_claims(load_claims())


@pytest.fixture(scope="session")
def report_page(every_claim, tiny_folder, tmp_path_factory):
    """Path of the page of `make report`, with every stage made small, and the claims not checked once more."""
    from tests.helpers.report_page import make_page

    return make_page(tmp_path_factory.mktemp("report"), tiny_folder, every_claim)
