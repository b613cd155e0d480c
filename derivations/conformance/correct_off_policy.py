"""Correct losses of off-policy samples and further preference losses as libraries write them, in torch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def ppo_clip(
    logps: Tensor, old_logps: Tensor, mask: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.28
) -> Tensor:
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()
    advantage = advantages[:, None]
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = -torch.minimum(ratio * advantage, clipped * advantage)
    return torch.where(mask, losses, 0.0).sum() / mask.sum()


def grpo(
    logps: Tensor, old_logps: Tensor, mask: Tensor, rewards: Tensor, group: Tensor, epsilon: float = 0.2
) -> Tensor:
    advantage = torch.zeros_like(rewards)
    for prompt in group.unique():
        rows = group == prompt
        advantage[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-4)
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    losses = -torch.minimum(ratio * advantage[:, None], clipped * advantage[:, None])
    return (torch.where(mask, losses, 0.0).sum(-1) / mask.sum(-1)).mean()


def gspo(
    logps: Tensor,
    old_logps: Tensor,
    mask: Tensor,
    advantages: Tensor,
    epsilon: float = 3e-4,
    epsilon_high: float = 4e-4,
) -> Tensor:
    log_ratio = torch.where(mask, logps - old_logps, 0.0).sum(-1) / mask.sum(-1)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon_high)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def cispo(
    logps: Tensor, old_logps: Tensor, mask: Tensor, advantages: Tensor, epsilon: float = 1.0, epsilon_high: float = 4.0
) -> Tensor:
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()
    weight = ratio.clamp(1 - epsilon, 1 + epsilon_high).detach()
    losses = -weight * advantages[:, None] * torch.where(mask, logps, 0.0)
    return losses.sum() / mask.sum()


def rloo_ratio(logps: Tensor, old_logps: Tensor, mask: Tensor, rewards: Tensor, group: Tensor) -> Tensor:
    same = group[:, None] == group[None, :]
    others = torch.where(same, rewards[None, :], 0.0).sum(-1) - rewards
    advantage = rewards - others / (same.sum(-1) - 1)
    log_ratio = torch.where(mask, logps - old_logps, 0.0).sum(-1)
    return -(advantage * log_ratio.exp()).mean()


def rloo_at_ratio_one(logps: Tensor, old_logps: Tensor, mask: Tensor, advantages: Tensor) -> Tensor:
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    return -torch.where(mask, gain, 0.0).sum(-1).mean()


def orpo(
    chosen_logp: Tensor, rejected_logp: Tensor, chosen_length: Tensor, rejected_length: Tensor, beta: float = 0.1
) -> Tensor:
    w, l = chosen_logp / chosen_length, rejected_logp / rejected_length
    w_odds, l_odds = w.clamp(max=-1e-12), l.clamp(max=-1e-12)
    odds = (w_odds - l_odds) - (torch.log(-torch.expm1(w_odds)) - torch.log(-torch.expm1(l_odds)))
    return -w - beta * F.logsigmoid(odds)


def kto(
    logp: Tensor,
    ref_logp: Tensor,
    desirable: Tensor,
    kl: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.5,
) -> Tensor:
    lead = beta * (logp - ref_logp - kl.detach())
    good, bad = desirable_weight * (1 - torch.sigmoid(lead)), undesirable_weight * (1 - torch.sigmoid(-lead))
    return torch.where(desirable, good, bad)


def dpop(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    beta: float = 0.1,
    lam: float = 5.0,
) -> Tensor:
    margin = (chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)
    penalty = F.relu(ref_chosen_logp - chosen_logp)
    return -F.logsigmoid(beta * (margin - lam * penalty))


def slic(
    chosen_logp: Tensor, rejected_logp: Tensor, ref_chosen_logp: Tensor, ref_rejected_logp: Tensor, beta: float = 0.1
) -> Tensor:
    margin = (chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)
    return F.relu(1 - beta * margin)


def sppo(
    chosen_logp: Tensor, rejected_logp: Tensor, ref_chosen_logp: Tensor, ref_rejected_logp: Tensor, beta: float = 0.1
) -> Tensor:
    w, l = chosen_logp - ref_chosen_logp, rejected_logp - ref_rejected_logp
    return (w - 0.5 / beta) ** 2 + (l + 0.5 / beta) ** 2


def apo_zero(
    chosen_logp: Tensor, rejected_logp: Tensor, ref_chosen_logp: Tensor, ref_rejected_logp: Tensor, beta: float = 0.1
) -> Tensor:
    w, l = beta * (chosen_logp - ref_chosen_logp), beta * (rejected_logp - ref_rejected_logp)
    return 1 - torch.sigmoid(w) + torch.sigmoid(l)


def apo_down(
    chosen_logp: Tensor, rejected_logp: Tensor, ref_chosen_logp: Tensor, ref_rejected_logp: Tensor, beta: float = 0.1
) -> Tensor:
    w, l = beta * (chosen_logp - ref_chosen_logp), beta * (rejected_logp - ref_rejected_logp)
    return torch.sigmoid(w) + 1 - torch.sigmoid(w - l)


def chi_po(
    chosen_logp: Tensor, rejected_logp: Tensor, ref_chosen_logp: Tensor, ref_rejected_logp: Tensor, beta: float = 0.1
) -> Tensor:
    w, l = chosen_logp - ref_chosen_logp, rejected_logp - ref_rejected_logp
    return -F.logsigmoid(beta * (w.exp() + w) - beta * (l.exp() + l))


def r_dpo(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    chosen_length: Tensor,
    rejected_length: Tensor,
    beta: float = 0.1,
    alpha: float = 0.02,
) -> Tensor:
    margin = (chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)
    return -F.logsigmoid(beta * margin + alpha * (chosen_length - rejected_length))


def ln_dpo(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    chosen_length: Tensor,
    rejected_length: Tensor,
    beta: float = 5.0,
) -> Tensor:
    w = (chosen_logp - ref_chosen_logp) / chosen_length
    l = (rejected_logp - ref_rejected_logp) / rejected_length
    return -F.logsigmoid(beta * (w - l))


def wpo(
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    chosen_length: Tensor,
    rejected_length: Tensor,
    beta: float = 0.1,
) -> Tensor:
    margin = (chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)
    weight = torch.exp(chosen_logp / chosen_length + rejected_logp / rejected_length).detach()
    return -weight * F.logsigmoid(beta * margin)


CORRECT: dict[str, Callable[..., Tensor]] = {
    "ppo-clip": ppo_clip,
    "grpo": grpo,
    "gspo": gspo,
    "cispo": cispo,
    "rloo-ratio": rloo_ratio,
    "orpo": orpo,
    "kto": kto,
    "dpop": dpop,
    "slic": slic,
    "sppo": sppo,
    "apo-zero": apo_zero,
    "apo-down": apo_down,
    "chi-po": chi_po,
    "r-dpo": r_dpo,
    "ln-dpo": ln_dpo,
    "wpo": wpo,
}
