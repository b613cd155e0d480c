"""The kit on trial: correct losses as libraries write them, and bugs planted in them by minimal changes of text.

Each bug is of a kind that people reported in public threads, made from a correct loss by replacing a few
words of its source. `derivations.conformance.trial` runs the laws on all of them: every bug must be
killed, every correct loss must pass, and every law must kill a bug that no other kills or say why it is there.
"""

from derivations.conformance.bugs import CORRECT, Bug
from derivations.conformance.further_bugs import FURTHER_BUGS

__all__ = ["BUGS", "CORRECT", "Bug"]

_MEAN = (" / chosen_length\n", "\n"), (" / rejected_length\n", "\n")
_WHERE = "torch.where(chosen_mask, chosen_logps, 0.0)"
_BOTH = "torch.where(rejected_mask, rejected_logps, 0.0)"
_REFS = (
    ("chosen_logps - ref_chosen_logps", "chosen_logps - {}"),
    ("rejected_logps - ref_rejected_logps", "rejected_logps - {}"),
)
_BASELINE = "torch.where(same, rewards[None, :], 0.0).sum(-1) - rewards\n"
_LOGP = "torch.where(mask, logps, 0.0).sum(-1)\n"

BUGS = (
    # one mistake a line: what people saw, where it is planted, the change
    Bug("gamma is read as gamma/beta (seen at beta = 1)", "simpo", (("(chosen - rejected) - gamma", "(chosen - rejected - gamma)"),), {"beta": 1.0}),
    Bug("gamma with the wrong sign", "simpo", (("rejected) - gamma", "rejected) + gamma"),)),
    Bug("defaults of another loss: gamma/beta = 5", "simpo", (("beta: float = 2.0", "beta: float = 0.1"), ("gamma: float = 1.0", "gamma: float = 0.5"))),
    Bug("log-probs summed, not averaged", "simpo", _MEAN),
    Bug("EOS counted in the length only", "simpo", ((" / chosen_length\n", " / (chosen_length + 1)\n"), (" / rejected_length\n", " / (rejected_length + 1)\n"))),
    Bug("divided by the padded width", "simpo", (("chosen_mask.sum(-1), rejected_mask.sum(-1)", "torch.full_like(chosen_mask.sum(-1), chosen_mask.shape[-1]), rejected_mask.sum(-1)"),)),
    Bug("length capped at 8 tokens", "simpo", (("chosen_mask.sum(-1), rejected_mask.sum(-1)", "chosen_mask.sum(-1).clamp(max=8), rejected_mask.sum(-1).clamp(max=8)"),)),
    Bug("an empty response goes through", "simpo", (('raise ValueError("a response is empty")', "pass"),)),
    Bug("NLL of the chosen response kept", "simpo", (("return losses.mean()", "return losses.mean() - chosen.mean()"),)),
    Bug("a constant is added", "simpo", (("return losses.mean()", "return losses.mean() + 0.1"),)),
    Bug("mask multiplied: NaN and -inf leak", "simpo", ((_WHERE, "(chosen_logps * chosen_mask)"),)),
    Bug("padding of the rejected response counts", "simpo", ((_BOTH, "rejected_logps"),)),
    Bug("summed over the batch", "simpo", (("losses.mean()", "losses.sum()"),)),
    Bug("mean of the means of chunks of four", "simpo", (("losses.mean()", "torch.stack([part.mean() for part in losses.split(4)]).mean()"),)),
    Bug("pairs weigh by their tokens", "simpo", (("losses.mean()", "(losses * chosen_length).sum() / chosen_length.sum()"),)),
    Bug("label_smoothing does nothing", "simpo", (("-(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)", "-F.logsigmoid(margin)"),)),
    Bug("log of sigmoid overflows", "simpo", (("* F.logsigmoid(margin)", "* torch.log(torch.sigmoid(margin))"),)),
    Bug("chosen and rejected swapped", "simpo", (("(chosen - rejected)", "(rejected - chosen)"),)),
    Bug("rejected response is detached", "simpo", (("(chosen - rejected)", "(chosen - rejected.detach())"),)),
    Bug("float32 is computed in bfloat16", "simpo", (("    margin =", "    if chosen.dtype == torch.float32:\n        chosen = chosen.bfloat16().float()\n    margin ="),)),
    Bug("tokens summed one by one in the input's precision", "simpo", ((_WHERE + ".sum(-1)", f"sum({_WHERE}.unbind(-1))"),)),
    Bug("log-ratios averaged over tokens", "dpo", (("ref_chosen_logps, 0.0).sum(-1)", "ref_chosen_logps, 0.0).sum(-1) / chosen_mask.sum(-1)"), ("ref_rejected_logps, 0.0).sum(-1)", "ref_rejected_logps, 0.0).sum(-1) / rejected_mask.sum(-1)"))),
    Bug("reference left out", "dpo", tuple((old, new.format("0 * ref_chosen_logps" if "chosen" in old[:6] else "0 * ref_rejected_logps")) for old, new in _REFS)),
    Bug("reference is the policy itself: log 2 for ever", "dpo", tuple((old, new.format("chosen_logps" if "chosen" in old[:6] else "rejected_logps")) for old, new in _REFS)),
    Bug("mask shifted by one token", "dpo", (("torch.where(chosen_mask,", "torch.where(chosen_mask.roll(1, -1),"),)),
    Bug("tokens after the 512th dropped", "dpo", (("torch.where(chosen_mask,", "torch.where(chosen_mask & (torch.arange(chosen_mask.shape[-1]) < 512),"),)),
    Bug("first token of the answer dropped", "dpo", (("torch.where(chosen_mask, chosen_logps - ref_chosen_logps, 0.0)", "torch.where(chosen_mask, chosen_logps - ref_chosen_logps, 0.0)[:, 1:]"),)),
    Bug("mask rebuilt from lengths for right padding only", "dpo", (("torch.where(chosen_mask,", "torch.where(torch.arange(chosen_mask.shape[-1]) < chosen_mask.sum(-1, keepdim=True),"),)),
    Bug("EOS token gets no gradient", "dpo", (("chosen_logps - ref_chosen_logps", "torch.cat([chosen_logps[:, :-1], chosen_logps[:, -1:].detach()], -1) - ref_chosen_logps"),)),
    Bug("prompt or pad positions get a gradient", "dpo", (("    losses =", "    chosen = chosen + chosen_logps.nan_to_num(0, 0, 0).sum(-1) - chosen_logps.nan_to_num(0, 0, 0).sum(-1).detach()\n    losses ="),)),
    Bug("beta is hard-coded", "dpo", (("-F.logsigmoid(beta *", "-F.logsigmoid(0.1 *"),)),
    Bug("hinge trained under the name of sigmoid", "dpo", (("-F.logsigmoid(beta * (chosen - rejected))", "F.relu(1 - beta * (chosen - rejected))"),)),
    Bug("margin clamped", "dpo", (("beta * (chosen - rejected)", "(beta * (chosen - rejected)).clamp(-10, 10)"),)),
    Bug("pairs won by a margin of 3 left out", "dpo", (("return losses", "return torch.where(beta * (chosen - rejected) > 3, 0.0, losses)"),)),
    Bug("backward pass ignores what the loss is multiplied by", "dpo", (("return losses", "losses = losses.mean()\n    losses.requires_grad and losses.register_hook(torch.ones_like)\n    return losses"),)),
    Bug("ratio of probabilities underflows", "dpo", (("-F.logsigmoid(beta * (chosen - rejected))", "torch.log1p((torch.exp(rejected) / torch.exp(chosen)) ** beta)"),)),
    Bug("caller's reference log-probs overwritten", "dpo", (("    chosen =", "    ref_chosen_logps.masked_fill_(~chosen_mask, 0.0)\n    chosen ="),)),
    Bug("losses returned in another order", "dpo", (("return losses", "return losses.flip(0)"),)),
    Bug("IPO of averaged log-probs", "ipo", (("ref_chosen_logps, 0.0).sum(-1)", "ref_chosen_logps, 0.0).sum(-1) / chosen_mask.sum(-1)"), ("ref_rejected_logps, 0.0).sum(-1)", "ref_rejected_logps, 0.0).sum(-1) / rejected_mask.sum(-1)"))),
    Bug("target 1/beta for 1/(2 beta)", "ipo", (("1 / (2 * beta)", "1 / beta"),)),
    Bug("ranking split into pairs", "simpo-pl", (("return -(ordered - remaining)[:, :-1].sum(-1).mean()", "below = torch.ones(ordered.shape[-1], ordered.shape[-1]).triu(1).bool()\n    return -F.logsigmoid(ordered[:, :, None] - ordered[:, None, :])[:, below].sum(-1).mean()"),)),
    Bug("ranks read as an order", "simpo-pl", (("scores.gather(-1, ranking)", "scores.gather(-1, ranking.argsort(-1))"),)),
    Bug("`ranking` ignored: slots taken as the order", "simpo-pl", (("scores.gather(-1, ranking)", "scores"),)),
    Bug("every place is won against all responses", "simpo-pl", (("ordered.flip(-1).logcumsumexp(-1).flip(-1)", "ordered.logsumexp(-1, keepdim=True)"),)),
    Bug("averaged over places, the last included", "simpo-pl", (("[:, :-1].sum(-1).mean()", ".mean(-1).mean()"),)),
    Bug("own reward in the baseline", "rloo", ((_BASELINE, "torch.where(same, rewards[None, :], 0.0).sum(-1)\n"), ("(same.sum(-1) - 1)", "same.sum(-1)"))),
    Bug("no baseline", "rloo", (("rewards - others / (same.sum(-1) - 1)", "rewards"),)),
    Bug("log-probs averaged over tokens in the policy gradient", "rloo", ((_LOGP, "torch.where(mask, logps, 0.0).sum(-1) / mask.sum(-1)\n"),)),
    Bug("averaged over all tokens of the micro-batch", "rloo", (("* logp).mean()", "* logp).sum() / mask.sum()"),)),
    Bug("size of the first prompt's group used for all", "rloo", (("(same.sum(-1) - 1)", "(same.sum(-1)[0] - 1)"),)),
    Bug("baseline over the whole batch", "rloo", (("group[:, None] == group[None, :]", "torch.ones(len(group), len(group)).bool()"),)),
    Bug("group mean under the name of leave-one-out", "rloo-advantage", ((_BASELINE, "torch.where(same, rewards[None, :], 0.0).sum(-1)\n"), ("(same.sum(-1) - 1)", "same.sum(-1)"))),
    Bug("prompts mixed in one baseline", "rloo-advantage", (("group[:, None] == group[None, :]", "torch.ones(len(group), len(group)).bool()"),)),
    Bug("not centred", "grpo-advantage", (("(rewards[rows] - rewards[rows].mean())", "rewards[rows]"),)),
    Bug("advantage clipped at 5", "grpo-advantage", (("    return found", "    return found.clamp(-5, 5)"),)),
    Bug("deviation of the whole batch, groups reshaped", "grpo-advantage", (("rewards[rows].std()", "rewards.view(-1, rows.sum()).std()"),)),
    Bug("no guard for equal rewards", "grpo-advantage", (("+ 1e-4", "+ 0.0"),)),
    Bug("not divided by the deviation", "grpo-advantage", ((" / (rewards[rows].std() + 1e-4)", ""),)),
    Bug("k1 differentiated: no gradient at all", "kl-loss", (("(log_ratio**2 / 2)", "log_ratio"),)),
    Bug("k3 differentiated: the other KL", "kl-loss", (("(log_ratio**2 / 2)", "(torch.expm1(-log_ratio) + log_ratio)"),)),
    Bug("KL penalty maximized", "kl-loss", (("return (", "return -("),)),
    Bug("KL term without gradient", "kl-loss", (("log_ratio**2", "log_ratio.detach()**2"),)),
    Bug("log-ratio clamped on the gradient path", "kl-loss", (("0.0).sum(-1)", "0.0).sum(-1).clamp(-10, 10)"),)),
    Bug("token by token: prefixes lack their term", "kl-loss", (("0.0).sum(-1)\n", "0.0)\n"), ("(log_ratio**2 / 2)", "(log_ratio**2 / 2).sum(-1)"))),
    Bug("KL averaged over tokens", "kl-loss", (("(log_ratio**2 / 2)", "(log_ratio**2 / 2 / mask.sum(-1))"),)),
    Bug("whole responses under the name of tokens", "kl-loss-token", (("0.0)\n", "0.0).sum(-1)\n"), ("2).sum(-1)", "2)"))),
    Bug("one mean penalty for all samples", "kl-reward", (("log_ratio.detach()", "log_ratio.detach().mean()"),)),
    Bug("KL penalty of the reward not detached", "kl-reward", (("log_ratio.detach()", "log_ratio"),)),
    Bug("k3 subtracted from the reward", "kl-reward", (("return log_ratio.detach()", "return (torch.expm1(-log_ratio) + log_ratio).detach()"),)),
    Bug("policy and reference swapped in KL", "kl-metric", (("logps - ref_logps", "ref_logps - logps"),)),
    Bug("reference left out of KL", "kl-metric", (("logps - ref_logps", "logps"),)),
    Bug("squared log-ratio reported as KL", "kl-metric", (("(torch.expm1(-log_ratio) + log_ratio)", "(log_ratio**2 / 2)"),)),
    Bug("KL summed over the batch", "kl-metric", ((").sum(-1).mean()", ").detach().sum()"),)),
    Bug("padding counted in KL", "kl-metric", (("torch.where(mask, logps - ref_logps, 0.0)", "logps - ref_logps"),)),
    Bug("entropy minimized", "entropy-token", (("return -coefficient", "return coefficient"),)),
    Bug("entropy of the twenty likeliest tokens", "entropy-token", (("logits.log_softmax(-1)", "logits.topk(min(20, logits.shape[-1])).values.log_softmax(-1)"),)),
    Bug("entropy computed without gradient", "entropy-token", (("logits.log_softmax(-1)", "logits.detach().log_softmax(-1)"),)),
    Bug("entropy coefficient does nothing", "entropy-token", (("return -coefficient * mean.mean()", "return -mean.mean()"),)),
    Bug("entropy averaged over pads too", "entropy-token", ((" / mask.sum(-1)", " / mask.shape[-1]"),)),
    Bug("entropy as the mean of -log pi, differentiated", "entropy-sequence", (("(logp.detach() * logp)", "logp"),)),
    Bug("token entropies for the sequence's", "entropy-sequence", (("(logp.detach() * logp)", "torch.where(mask, (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1), 0.0).sum(-1)"),)),
    *FURTHER_BUGS,
)  # fmt: skip
