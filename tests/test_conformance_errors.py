"""`conform` and code that misbehaves: it leaves, hangs, raises late, or hands back what is no loss."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.commands import InputError  # noqa: E402
from derivations.conformance import conform  # noqa: E402


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
