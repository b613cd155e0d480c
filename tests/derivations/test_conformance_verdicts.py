"""What the kit says beyond yes and no: rewards of 0 and 1, float32, masks that leak, arrays that an objective lacks."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import conform  # noqa: E402
from derivations.conformance.backends import SINGLE  # noqa: E402
from derivations.conformance.commands import Conform  # noqa: E402
from derivations.conformance.planted_bugs import CORRECT  # noqa: E402
from derivations.conformance.report import FORMATS  # noqa: E402
from tests.helpers.float32 import INSIDE, ONLY, OUTSIDE, computed_in  # noqa: E402


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


HALVED, EMPTIED = ("ipo", "dpop", "sppo", "chi-po", "r-dpo", "ln-dpo"), ("orpo", "r-dpo", "ln-dpo", "wpo")


@pytest.mark.parametrize("name", CORRECT)
def test_correct_losses_raise_no_alarm_in_float32_and_have_the_advice_and_the_names_of_float64(name):
    outcome = conform(computed_in(CORRECT[name], ONLY), name)
    assert outcome.subject.backend.dtype == SINGLE
    assert [(trial.law.id, trial.verdict) for trial in outcome.broken] == []
    advice = {"half-precision": name in HALVED, "empty-response": name in EMPTIED}
    assert [trial.law.id for trial in outcome.advice] == [law for law, given in advice.items() if given]
    assert str(outcome.identity).startswith("k3 summed over tokens" if name == "kl-metric" else f"{name} as named")


@pytest.mark.parametrize("name", ["simpo-pl", "rloo-advantage", "grpo-advantage", "kl-loss"])
def test_float32_is_told_behind_float64_also_where_moving_all_numbers_alike_changes_nothing(name):
    outcome = conform(computed_in(CORRECT[name], OUTSIDE), name)
    assert outcome.subject.coarse
    assert not conform(CORRECT[name], name, laws=[]).subject.coarse
    assert [(trial.law.id, trial.verdict) for trial in outcome.trials if trial.failed] == []
    assert str(outcome.identity).startswith(f"{name} as named")


def test_a_float32_loss_that_hands_back_a_number_is_told_that_it_has_no_gradient():
    def loss(chosen_logp, rejected_logp, alpha=1.0):
        return torch.nn.functional.softplus(-alpha * (chosen_logp - rejected_logp)).mean().item()

    outcome = conform(computed_in(loss, ONLY), "maxent")
    assert "gradient" in {trial.law.id for trial in outcome.broken}


@pytest.mark.parametrize("limit", [10.0, 20.0])
def test_a_clamped_estimate_is_still_seen_in_float32(limit):
    def loss(logps, ref_logps, mask):
        difference = torch.where(mask, ref_logps - logps, 0.0).sum(-1).clamp(-limit, limit)
        return (difference**2 / 2).mean()

    assert "no-clamp" in {trial.law.id for trial in conform(computed_in(loss, ONLY), "kl-loss").broken}


@pytest.mark.parametrize("precision", [INSIDE, OUTSIDE, ONLY])
def test_a_deviation_by_the_one_pass_formula_in_float32_is_no_broken_law(precision):
    def advantage(rewards, group):
        out = torch.empty_like(rewards, dtype=torch.float32)
        for g in group.unique():
            r = rewards[group == g].float()
            k, mean = len(r), r.mean()
            std = ((r.pow(2).mean() - mean**2) * k / (k - 1)).clamp(min=0).sqrt()
            out[group == g] = (r - mean) / (std + 1e-6)
        return out

    outcome = conform(computed_in(advantage, precision), "grpo-advantage")
    assert outcome.ok
    assert "1.0" not in str(outcome.identity)  # a factor of 1.00002 that another guard makes up
    assert "its sample standard deviation + 1e-06 (GRPO)" in str(outcome.identity)


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
