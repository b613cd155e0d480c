"""Losses with the names and habits of other libraries, in our words: read without --map, and no false alarm.

Names are those of TRL, Liger, OpenRLHF, verl, NeMo-RL, torchtune, HALOs, SimPO's and DPO's authors and prime-rl.
"""

from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")
F = torch.nn.functional

from derivations.conformance import conform  # noqa: E402
from tests.helpers.float32 import ONLY, OUTSIDE, computed_in  # noqa: E402

# ---------------------------------------------------------------- pairs


def dpo_authors(
    policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1,
    label_smoothing=0.0, ipo=False, reference_free=False,
):  # fmt: skip
    h = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    losses = (h - 1 / (2 * beta)) ** 2 if ipo else -F.logsigmoid(beta * h)
    return losses, (beta * (policy_chosen_logps - reference_chosen_logps)).detach(), -beta * h.detach()


def trl_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    chosen, rejected = chosen_logps - ref_chosen_logps, rejected_logps - ref_rejected_logps
    return -F.logsigmoid(beta * (chosen - rejected)), beta * chosen.detach(), beta * rejected.detach()


class TorchtuneDPO(torch.nn.Module):
    def __init__(self, beta=0.1, label_smoothing=0.0):
        super().__init__()
        self.beta, self.label_smoothing = beta, label_smoothing

    def forward(self, policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps):
        ratios = policy_chosen_logps - policy_rejected_logps
        m = self.beta * (ratios - (reference_chosen_logps - reference_rejected_logps))
        e = self.label_smoothing
        return -(1 - e) * F.logsigmoid(m) - e * F.logsigmoid(-m), m.detach()


def halos_simpo(policy_chosen_logps, policy_rejected_logps, beta=2.0, gamma_beta_ratio=0.5):
    return F.softplus(-beta * (policy_chosen_logps - policy_rejected_logps - gamma_beta_ratio))


def liger_chunks(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    """A batch in chunks of two, each chunk's sum over the number of all."""
    total, n = chosen_logps.new_zeros(()), len(chosen_logps)
    for i in range(0, n, 2):
        w, l = (
            chosen_logps[i : i + 2] - ref_chosen_logps[i : i + 2],
            rejected_logps[i : i + 2] - ref_rejected_logps[i : i + 2],
        )
        total = total + F.softplus(-beta * (w - l)).sum() / n
    return total, (beta * (chosen_logps - ref_chosen_logps).detach(),)


class Preference(NamedTuple):
    loss: torch.Tensor
    accuracy: torch.Tensor


def nemo_dpo(policy_chosen_logprobs, policy_rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, chosen_mask, rejected_mask, beta=0.1):  # noqa: E501  # fmt: skip
    def total(x, ref, mask):
        return torch.where(mask, x - ref, 0.0).sum(-1)

    lead = total(policy_chosen_logprobs, ref_chosen_logprobs, chosen_mask)
    lead = lead - total(policy_rejected_logprobs, ref_rejected_logprobs, rejected_mask)
    return Preference(-F.logsigmoid(beta * lead).mean(), (lead > 0).float().mean())


def short_names(pi_w, pi_l, ref_w, ref_l, beta=0.1):
    return {"loss": np.logaddexp(0.0, -beta * (pi_w - ref_w - pi_l + ref_l)).mean(), "margin": 0.0}


def averaged_ipo(avg_chosen_logps, avg_rejected_logps, ref_avg_chosen_logps, ref_avg_rejected_logps, beta=0.1):
    return (avg_chosen_logps - ref_avg_chosen_logps - avg_rejected_logps + ref_avg_rejected_logps - 1 / (2 * beta)) ** 2


# ---------------------------------------------------------------- policy gradients


def masked_mean(x, mask):
    return torch.where(mask.bool(), x, 0.0).sum() / mask.sum()


def clipped(ratio, advantages, low, high):
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def verl_loss(old_log_prob, log_prob, advantages, response_mask, cliprange_low=0.2, cliprange_high=0.28, config=None):
    ratio = torch.where(response_mask, log_prob - old_log_prob, 0.0).exp()
    loss = masked_mean(clipped(ratio, advantages, cliprange_low, cliprange_high), response_mask)
    return loss, {"actor/ratio": ratio.mean().item()}


class OpenRLHF(torch.nn.Module):
    def __init__(self, clip_eps_low=0.2, clip_eps_high=0.2, token_level_loss=False):
        super().__init__()
        self.low, self.high, self.by_token = clip_eps_low, clip_eps_high, token_level_loss

    def forward(self, log_probs, old_log_probs, advantages, action_mask=None, rollout_log_probs=None):
        assert rollout_log_probs is None
        ratio = torch.where(action_mask, log_probs - old_log_probs, 0.0).exp()
        loss = torch.where(action_mask, clipped(ratio, advantages, self.low, self.high), 0.0)
        return (loss.sum(-1) / action_mask.sum(-1)).mean(), ratio.detach().mean(), None


def torchtune_grpo(pi_old_logprobs, pi_logprobs, advantages, padding_masks, epsilon=0.2):
    ratio = torch.where(padding_masks, pi_logprobs - pi_old_logprobs, 0.0).exp()
    loss = torch.where(padding_masks, clipped(ratio, advantages[:, None], epsilon, epsilon), 0.0)
    return (loss.sum(-1) / padding_masks.sum(-1)).mean(), ratio.detach()


def trl_grpo(per_token_logps, old_per_token_logps, advantages, completion_mask, epsilon=0.2, epsilon_high=0.28):
    ratio = torch.where(completion_mask, per_token_logps - old_per_token_logps, 0.0).exp()
    loss = torch.where(completion_mask, clipped(ratio, advantages.unsqueeze(1), epsilon, epsilon_high), 0.0)
    return (loss.sum(-1) / completion_mask.sum(-1).clamp(min=1.0)).mean()


def nemo_pg(curr_logprobs, prev_logprobs, advantages, token_mask, clip_eps=0.2):
    mask = token_mask.to(curr_logprobs.dtype)
    ratio = (torch.where(token_mask, curr_logprobs, 0.0) - torch.where(token_mask, prev_logprobs, 0.0)).exp()
    return (clipped(ratio, advantages, clip_eps, clip_eps) * mask).sum() / mask.sum(), {}


def prime_cispo(trainer_logprobs, inference_logprobs, advantages, loss_mask, epsilon=1.0, epsilon_high=4.0):
    ratio = torch.where(loss_mask, trainer_logprobs - inference_logprobs, 0.0).exp().detach()
    return -masked_mean(ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantages * torch.where(loss_mask, trainer_logprobs, 0.0), loss_mask)  # noqa: E501  # fmt: skip


def numpy_ratio(new_logp, old_logp, mask):
    return np.exp(np.where(mask, new_logp - old_logp, 0.0))


def numpy_ppo(new_logp, old_logp, adv, mask, clip=0.2):
    ratio = numpy_ratio(new_logp, old_logp, mask)
    gain = np.minimum(ratio * adv[:, None], np.clip(ratio, 1 - clip, 1 + clip) * adv[:, None])
    return -np.where(mask, gain, 0.0).sum() / mask.sum()


def numpy_grpo(new_logp, old_logp, rewards, group_size, mask, clip=0.2):
    r = rewards.reshape(-1, group_size)
    adv = ((r - r.mean(1, keepdims=True)) / (r.std(1, ddof=1, keepdims=True) + 1e-4)).reshape(-1, 1)
    ratio = numpy_ratio(new_logp, old_logp, mask)
    gain = np.minimum(ratio * adv, np.clip(ratio, 1 - clip, 1 + clip) * adv)
    return -(np.where(mask, gain, 0.0).sum(-1) / mask.sum(-1)).mean()


def numpy_cispo(new_logp, old_logp, adv, mask, epsilon=1.0, epsilon_high=4.0):
    ratio = numpy_ratio(new_logp, old_logp, mask)
    return (
        -(ratio.clip(1 - epsilon, 1 + epsilon_high) * adv[:, None] * np.where(mask, new_logp, 0.0)).sum() / mask.sum()
    )


PAIRS = {
    "DPO's authors": (dpo_authors, "dpo", {}),
    "TRL": (trl_dpo, "dpo", {}),
    "torchtune, a class": (TorchtuneDPO, "dpo", {}),
    "torchtune, smoothed": (TorchtuneDPO, "cdpo", {"label_smoothing": 0.1}),
    "HALOs and SimPO's authors": (halos_simpo, "simpo", {}),
    "Liger's chunks": (liger_chunks, "dpo", {}),
    "NeMo-RL's pairs": (nemo_dpo, "dpo", {}),
    "short names in NumPy": (short_names, "dpo", {}),
}
ONLINE = {
    "verl": (verl_loss, "ppo-clip", {}),
    "OpenRLHF, a class": (OpenRLHF, "ppo-clip", {}),
    "torchtune": (torchtune_grpo, "grpo", {}),
    "TRL": (trl_grpo, "grpo", {}),
    "NeMo-RL": (nemo_pg, "ppo-clip", {}),
    "prime-rl": (prime_cispo, "cispo", {}),
    "NumPy's PPO": (numpy_ppo, "ppo-clip", {}),
    "NumPy's GRPO": (numpy_grpo, "grpo", {}),
    "NumPy's CISPO": (numpy_cispo, "cispo", {}),
}
EVERY = {f"{name}, {case[1]}": case for table in (PAIRS, ONLINE) for name, case in table.items()}


@pytest.mark.parametrize("name", EVERY)
def test_a_correct_loss_of_another_library_is_read_by_its_own_names_and_raises_no_alarm(name):
    function, objective, options = EVERY[name]
    outcome = conform(function, objective, options=options)
    assert [(trial.law.id, trial.verdict) for trial in outcome.broken] == []
    assert outcome.subject.read.startswith("read ") or "TRL, dpo" not in name
    assert str(outcome.identity).startswith(f"{objective} as named")


ADVICE = {"torchtune, smoothed, cdpo": {"half-precision"}, "HALOs and SimPO's authors, simpo": {"empty-response"}}


@pytest.mark.parametrize("name", [name for name in EVERY if "NumPy" not in name])
def test_in_float32_it_raises_no_alarm_either_and_has_the_advice_and_the_name_of_float64(name):
    function, objective, options = EVERY[name]
    precision = OUTSIDE if objective in ("dpo", "cdpo", "simpo") else ONLY
    outcome = conform(computed_in(function, precision), objective, options=options)
    assert outcome.subject.single
    assert [(trial.law.id, trial.verdict) for trial in outcome.broken] == []
    assert {trial.law.id for trial in outcome.advice} == ADVICE.get(name, set())
    assert str(outcome.identity).startswith(f"{objective} as named")
