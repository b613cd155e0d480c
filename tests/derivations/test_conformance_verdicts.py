"""What the kit says beyond yes and no: rewards of 0 and 1, float32, masks that leak, arrays that an objective lacks."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import conform, try_laws  # noqa: E402
from derivations.conformance.backends import SINGLE, TorchBackend  # noqa: E402
from derivations.conformance.commands import Conform  # noqa: E402
from derivations.conformance.how import read_off  # noqa: E402
from derivations.conformance.identify import identify  # noqa: E402
from derivations.conformance.laws import all_laws  # noqa: E402
from derivations.conformance.loss_under_test import make_subject  # noqa: E402
from derivations.conformance.planted_bugs import CORRECT  # noqa: E402
from derivations.conformance.report import FORMATS  # noqa: E402


def leave_one_out(rewards, group_size):
    r = rewards.reshape(-1, group_size)
    return (r - (r.sum(1, keepdim=True) - r) / (group_size - 1)).reshape(-1)


def test_a_factor_by_the_number_of_rewards_that_are_not_0_is_seen():
    def advantage(rewards, group_size):
        return leave_one_out(rewards, group_size) * len(rewards) / torch.count_nonzero(rewards).clamp(min=1)

    def loss(logps, mask, rewards, group_size):
        return -(advantage(rewards, group_size) * torch.where(mask, logps, 0.0).sum(-1)).mean()

    assert "value" in {trial.law.id for trial in conform(advantage, "rloo-advantage").broken}
    assert "gradient" in {trial.law.id for trial in conform(loss, "rloo").broken}


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_rewards_of_exactly_0_or_1_are_among_the_inputs(reward):
    def advantage(rewards, group_size):
        return leave_one_out(torch.where(rewards == reward, rewards - 1, rewards), group_size)

    assert conform(leave_one_out, "rloo-advantage").ok
    assert "value" in {trial.law.id for trial in conform(advantage, "rloo-advantage").broken}


def test_an_array_that_the_objective_has_only_elsewhere_is_one_line_and_the_contract():
    def loss(logps, old_logps, advantages, mask):
        return -(torch.eye(3) @ (torch.exp(logps - old_logps) * advantages[:, None])).sum()

    with pytest.raises(InputError, match=r"could not be called: it raised RuntimeError.*\ncontract"):
        conform(loss, "rloo")


def test_a_function_that_takes_only_float32_is_tried_in_float32_and_the_report_says_so():
    def advantage(rewards, group_size):
        r = rewards.reshape(-1, group_size)
        return (r - r @ (1 - torch.eye(group_size)) / (group_size - 1)).reshape(-1)

    outcome = conform(advantage, "rloo-advantage")
    assert outcome.ok
    assert str(outcome.identity) == "rloo-advantage as named"
    assert "\ntorch, float32, " in FORMATS["text"](outcome, "f")


@pytest.mark.parametrize("name", CORRECT)
def test_correct_losses_raise_no_alarm_when_everything_is_float32(name):
    subject = read_off(make_subject(CORRECT[name], name, TorchBackend(SINGLE)))
    trials = try_laws(subject, all_laws())
    assert [t.law.id for t in trials if t.failed and t.law.kind == "verdict"] == []
    assert identify(subject).known


def test_a_deviation_by_the_one_pass_formula_in_float32_is_no_broken_law():
    def advantage(rewards, group):
        out = torch.empty_like(rewards, dtype=torch.float32)
        for g in group.unique():
            r = rewards[group == g].float()
            k, mean = len(r), r.mean()
            std = ((r.pow(2).mean() - mean**2) * k / (k - 1)).clamp(min=0).sqrt()
            out[group == g] = (r - mean) / (std + 1e-6)
        return out

    assert conform(advantage, "grpo-advantage").ok


def test_a_mask_that_is_multiplied_has_its_own_headline_and_exit_status(tmp_path):
    path = tmp_path / "leaks.py"
    path.write_text(
        "import torch.nn.functional as F\n"
        "def loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, alpha=1.0):\n"
        "    w, l = (chosen_logps * chosen_mask).sum(-1), (rejected_logps * rejected_mask).sum(-1)\n"
        "    return -F.logsigmoid(alpha * (w - l))\n"
    )
    command = Conform(f"{path}:loss", "maxent", output=tmp_path / "out.txt")
    assert command.run() == 3
    assert Conform(f"{path}:loss", "maxent", quiet=True, allow_unsafe_mask=True).run() == 0
    first, second = (tmp_path / "out.txt").read_text().splitlines()[:2]
    assert first.endswith("loss computes maxent (alpha = 1); unsafe under a mask with inf or NaN")
    assert second == "it computes: maxent as named"
