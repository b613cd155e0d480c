"""Losses of installed libraries under the kit: TRL and Liger as they ship, and set to what they are named after."""

import dataclasses
import inspect

import pytest

pytest.importorskip("torch", reason="the libraries' losses are written in torch")

from derivations.cli.errors import InputError
from derivations.conformance import adapters, conform


@pytest.fixture(scope="module")
def trl():
    return pytest.importorskip("trl", minversion="1.16", reason="pip install '.[bench]'")


@pytest.fixture(scope="module")
def liger():
    return pytest.importorskip("liger_kernel", reason="pip install '.[bench]'")


def broken(outcome):
    return [(trial.law.id, trial.verdict) for trial in outcome.broken]


def test_trl_s_dpo_loss_is_dpo(trl):
    outcome = conform(adapters.trl_dpo, "dpo")
    assert broken(outcome) == []
    assert str(outcome.identity) == "dpo as named"


def test_trl_s_ipo_averages_over_tokens_and_is_told_apart(trl):
    outcome = conform(adapters.trl_dpo, "ipo", options={"loss_type": "ipo"})
    assert not outcome.ok
    assert str(outcome.identity) == "IPO of length-averaged log-probs"


def test_trl_s_cpo_trainer_in_simpo_mode_keeps_an_nll_and_a_margin_of_5_nats_a_token(trl):
    outcome = conform(adapters.trl_cpo, "simpo")
    assert not outcome.ok
    words = str(outcome.identity)
    assert "gamma/beta = 5 nats a token" in words
    assert "+ NLL of the chosen response (mean over tokens)" in words
    assert "pairs weigh by their length" in words  # the NLL is pooled over the batch
    assert "reach" in {trial.law.id for trial in outcome.advice}


def test_trl_s_cpo_trainer_set_to_simpo_s_options_is_simpo(trl):
    outcome = conform(adapters.trl_cpo, "simpo", options={"cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0})
    assert broken(outcome) == []
    assert str(outcome.identity) == "simpo as named (gamma/beta = 0.5 nats a token)"


def test_the_cpo_adapter_s_defaults_are_the_library_s(trl):
    import os

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOConfig

    theirs = {field.name: field.default for field in dataclasses.fields(CPOConfig)}
    ours = {name: p.default for name, p in inspect.signature(adapters.trl_cpo).parameters.items()}
    for name in ("beta", "simpo_gamma", "cpo_alpha", "label_smoothing"):
        assert ours[name] == theirs[name]


def test_trl_s_rloo_leaves_one_out_and_its_grpo_does_not(trl):
    assert broken(conform(adapters.trl_rloo_advantages, "rloo-advantage")) == []
    assert broken(conform(adapters.trl_grpo_advantages, "grpo-advantage")) == []
    outcome = conform(adapters.trl_grpo_advantages, "rloo-advantage", options={"scale_rewards": "none"})
    assert "leave-one-out" in {trial.law.id for trial in outcome.broken}
    assert str(outcome.identity) == "reward minus the group's mean, the sample's own included"


def test_liger_s_dpo_is_dpo_and_its_simpo_is_simpo_once_its_nll_is_off(liger):
    assert broken(conform(adapters.liger_dpo, "dpo")) == []
    assert "+ NLL of the chosen response" in str(conform(adapters.liger_simpo, "simpo").identity)
    options = {"compute_nll_loss": False, "beta": 2.0, "gamma": 1.0}
    assert broken(conform(adapters.liger_simpo, "simpo", options=options)) == []


def test_without_the_library_the_adapter_says_what_to_install(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "trl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(InputError, match=r"^trl cannot be imported .*; pip install '\.\[bench\]'$"):
        conform(adapters.trl_dpo, "dpo")
