"""Correct losses as libraries write them, in torch, into which `planted_bugs` plants its mistakes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float = 0.1,
) -> Tensor:
    chosen = torch.where(chosen_mask, chosen_logps - ref_chosen_logps, 0.0).sum(-1)
    rejected = torch.where(rejected_mask, rejected_logps - ref_rejected_logps, 0.0).sum(-1)
    losses = -F.logsigmoid(beta * (chosen - rejected))
    return losses


def ipo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float = 0.1,
) -> Tensor:
    chosen = torch.where(chosen_mask, chosen_logps - ref_chosen_logps, 0.0).sum(-1)
    rejected = torch.where(rejected_mask, rejected_logps - ref_rejected_logps, 0.0).sum(-1)
    return ((chosen - rejected - 1 / (2 * beta)) ** 2).mean()


def simpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    chosen_length, rejected_length = chosen_mask.sum(-1), rejected_mask.sum(-1)
    if (chosen_length == 0).any() or (rejected_length == 0).any():
        raise ValueError("a response is empty")
    chosen = torch.where(chosen_mask, chosen_logps, 0.0).sum(-1) / chosen_length
    rejected = torch.where(rejected_mask, rejected_logps, 0.0).sum(-1) / rejected_length
    margin = beta * (chosen - rejected) - gamma
    losses = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
    return losses.mean()


def simpo_pl(logps: Tensor, mask: Tensor, ranking: Tensor, beta: float = 2.0) -> Tensor:
    scores = beta * torch.where(mask, logps, 0.0).sum(-1) / mask.sum(-1)
    ordered = scores.gather(-1, ranking)
    remaining = ordered.flip(-1).logcumsumexp(-1).flip(-1)
    return -(ordered - remaining)[:, :-1].sum(-1).mean()


def rloo(logps: Tensor, mask: Tensor, rewards: Tensor, group: Tensor) -> Tensor:
    same = group[:, None] == group[None, :]
    others = torch.where(same, rewards[None, :], 0.0).sum(-1) - rewards
    advantage = rewards - others / (same.sum(-1) - 1)
    logp = torch.where(mask, logps, 0.0).sum(-1)
    return -(advantage.detach() * logp).mean()


def rloo_advantage(rewards: Tensor, group: Tensor) -> Tensor:
    same = group[:, None] == group[None, :]
    others = torch.where(same, rewards[None, :], 0.0).sum(-1) - rewards
    return rewards - others / (same.sum(-1) - 1)


def grpo_advantage(rewards: Tensor, group: Tensor) -> Tensor:
    found = torch.zeros_like(rewards)
    for prompt in group.unique():
        rows = group == prompt
        found[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-4)
    return found


def kl_metric(logps: Tensor, ref_logps: Tensor, mask: Tensor) -> Tensor:
    log_ratio = torch.where(mask, logps - ref_logps, 0.0)
    return (torch.expm1(-log_ratio) + log_ratio).sum(-1).mean()


def kl_reward(logps: Tensor, ref_logps: Tensor, mask: Tensor) -> Tensor:
    log_ratio = torch.where(mask, logps - ref_logps, 0.0).sum(-1)
    return log_ratio.detach()


def kl_loss(logps: Tensor, ref_logps: Tensor, mask: Tensor) -> Tensor:
    log_ratio = torch.where(mask, logps - ref_logps, 0.0).sum(-1)
    return (log_ratio**2 / 2).mean()


def kl_loss_token(logps: Tensor, ref_logps: Tensor, mask: Tensor) -> Tensor:
    log_ratio = torch.where(mask, logps - ref_logps, 0.0)
    return (log_ratio**2 / 2).sum(-1).mean()


def entropy_token(logits: Tensor, mask: Tensor, coefficient: float = 1.0) -> Tensor:
    logp = logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    mean = torch.where(mask, entropy, 0.0).sum(-1) / mask.sum(-1)
    return -coefficient * mean.mean()


def entropy_sequence(logps: Tensor, logits: Tensor, mask: Tensor, coefficient: float = 1.0) -> Tensor:
    logp = torch.where(mask, logps, 0.0).sum(-1)
    return coefficient * (logp.detach() * logp).mean()


CORRECT: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "simpo": simpo,
    "simpo-pl": simpo_pl,
    "rloo": rloo,
    "rloo-advantage": rloo_advantage,
    "grpo-advantage": grpo_advantage,
    "kl-metric": kl_metric,
    "kl-reward": kl_reward,
    "kl-loss": kl_loss,
    "kl-loss-token": kl_loss_token,
    "entropy-token": entropy_token,
    "entropy-sequence": entropy_sequence,
}
