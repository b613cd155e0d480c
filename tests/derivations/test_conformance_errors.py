"""`conform` and code that misbehaves: it leaves, hangs, raises late, or hands back what is no loss."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import conform  # noqa: E402
from derivations.conformance.report import FORMATS  # noqa: E402


def maxent(before="pass", returns="F.softplus(-alpha * (chosen_logp - rejected_logp))"):
    """A correct loss with a statement in front of it, or another value handed back."""
    names = {"torch": torch, "np": np, "F": torch.nn.functional}
    source = f"def loss(chosen_logp, rejected_logp, alpha=1.0):\n    {before}\n    return {returns}\n"
    exec(source, names)  # noqa: S102
    return names["loss"]


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


def raising(error):
    def loss(chosen_logp, rejected_logp, alpha=1.0):
        raise error

    return loss


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), Unprintable(), BaseException("odd")])
def test_a_loss_that_leaves_or_raises_anything_is_refused_with_the_contract(error):
    with pytest.raises(InputError, match=rf"it raised {type(error).__name__}(.|\n)*contract"):
        conform(raising(error), "maxent")


def test_the_user_s_own_interrupt_still_interrupts():
    with pytest.raises(KeyboardInterrupt):
        conform(raising(KeyboardInterrupt()), "maxent")


def test_a_loss_that_leaves_on_one_law_s_input_fails_that_law():
    outcome = conform(maxent("if len(chosen_logp) > 1: raise SystemExit(0)"), "maxent")
    broken = {trial.law.id: trial.verdict for trial in outcome.broken}
    assert "SystemExit" in broken["partition"].found
    assert "value" not in broken


@pytest.mark.parametrize("returns", ['np.array("x")', "np.array(None)", "chosen_logp + 0j", "1j"])
def test_what_is_no_real_number_is_refused(returns):
    with pytest.raises(InputError, match=r"it returned(.|\n)*contract"):
        conform(maxent(returns=returns), "maxent")


def test_a_backward_pass_that_raises_is_refused():
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, slope):
            raise ValueError("no slope")

    with pytest.raises(InputError, match=r"gradient could not be taken: ValueError: no slope(.|\n)*contract"):
        conform(lambda chosen_logp, alpha=1.0: torch.exp(Bad.apply(chosen_logp)), "maxent")


def test_a_loss_that_hangs_is_refused_although_it_catches_every_exception():
    hang = """while True:
        try:
            while True: pass
        except Exception: pass"""
    with pytest.raises(InputError, match=r"did not come back within 0.2 s \(--timeout\)(.|\n)*contract"):
        conform(maxent(hang), "maxent", timeout=0.2)


@pytest.mark.parametrize(
    ("objective", "options", "says"),
    [
        ("maxent", {"alpha": "abc"}, "alpha has to be a number"),
        ("maxent", {"alpha": float("nan")}, "alpha has to be a number"),
        ("simpo", {"gamma_beta_ratio": 0.5}, "give --option beta=NUMBER"),
        ("dpo", {}, r"dpo needs beta.*give --option beta=NUMBER\n(.|\n)*contract"),
    ],
)
def test_options_that_are_no_numbers_or_missing_say_what_to_give(objective, options, says):
    with pytest.raises(InputError, match=says):
        conform(maxent(), objective, options=options)


def test_a_signature_of_anything_says_why_it_is_refused():
    with pytest.raises(InputError, match=r"\*\*kwargs or \*args"):
        conform(lambda **arrays: 0.0, "maxent", options={"alpha": 1.0})


def test_control_characters_and_lone_surrogates_are_escaped_in_every_format():
    message = "if len(chosen_logp) > 1: raise ValueError('\\x1b[31m \\x00 \\ud800 <&> ]]>')"
    outcome = conform(maxent(message), "maxent")
    assert not outcome.ok
    for report in FORMATS.values():
        text = report(outcome, "here:f")
        text.encode()
        assert "\x1b" not in text
    ElementTree.fromstring(FORMATS["junit"](outcome, "here:f"))  # noqa: S314


def test_a_loss_that_is_right_on_small_examples_alone_is_not_called_as_named_without_a_but():
    outcome = conform(maxent("chosen_logp = chosen_logp.clamp(min=-100)"), "maxent")
    assert "maxent as named on small examples, but breaks: extremes" in FORMATS["text"](outcome, "here:f")
