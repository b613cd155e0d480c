"""A GRPO loss as one might write it, with a mistake that no test on fresh samples can show, and the same mended."""

import torch


def grpo_loss(logps, old_logps, mask, rewards, group_size, clip_eps=0.2):
    grouped = rewards.view(-1, group_size)
    advantages = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-6)
    advantages = advantages.view(-1, 1)
    ratio = torch.exp(logps - old_logps)
    clipped = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps)
    loss = -torch.max(ratio * advantages, clipped * advantages)
    return ((loss * mask).sum(1) / mask.sum(1)).mean()


def mended(logps, old_logps, mask, rewards, group_size, clip_eps=0.2):
    grouped = rewards.view(-1, group_size)
    advantages = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-6)
    advantages = advantages.view(-1, 1)
    ratio = torch.where(mask, logps - old_logps, 0.0).exp()  # masked before it is exponentiated
    clipped = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps)
    loss = -torch.min(ratio * advantages, clipped * advantages)
    return (torch.where(mask, loss, 0.0).sum(1) / mask.sum(1)).mean()
