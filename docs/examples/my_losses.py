"""The losses of docs/conformance.md: one as it is often written, and one mended."""

import torch
import torch.nn.functional as F


def simpo_loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
    chosen = (chosen_logps * chosen_mask).sum(-1) / chosen_mask.sum(-1)
    rejected = (rejected_logps * rejected_mask).sum(-1) / rejected_mask.sum(-1)
    loss = -F.logsigmoid(beta * (chosen - rejected - gamma)).mean()
    return loss - chosen.mean()


def mended(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
    chosen = torch.where(chosen_mask, chosen_logps, 0.0).sum(-1) / chosen_mask.sum(-1)
    rejected = torch.where(rejected_mask, rejected_logps, 0.0).sum(-1) / rejected_mask.sum(-1)
    return -F.logsigmoid(beta * (chosen - rejected) - gamma).mean()
