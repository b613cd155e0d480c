"""Sets of wrong losses from public threads and code; each was committed before it was tried."""

# Where they were met (a slip of a thread may stand here in the form of another loss of the same family):
# QwenAudio/CosyVoice 1449, haozheji/exact-optimization 2, locuslab/tofu, hpcaitech/ColossalAI 6407, axolotl 3910,
# tengxiao1/Cal-DPO 1, linkedin/Liger-Kernel 387, PaddleNLP 10239, huggingface/trl 1265 6654 and its losses "aot" and
# "kto_pair", mlx-lm-lora 65, align-anything 215, NVIDIA-NeMo/RL 1518, OpenRLHF 843 1101, AReaL 408, fla 1073,
# verl 2775.

EIGHTH = (  # (objective, form, what it returns, what that is)
    ("dpo", "pair", "-torch.log_softmax(beta * m, 0)", "the softmax runs over the batch, not over the pair"),
    ("dpo", "pair", "-ls(beta * ((w - rw) / nw - (l - rl) / nw))", "both means over the chosen response's length"),
    ("dpo", "pair", "-ls(beta * ((w - rw) - (l - rl)) / torch.maximum(nw, nl))", "means over the padded length"),
    ("dpo", "pair", "-(w - l)", "a debugging line: the margin of the policy without sigmoid, beta and reference"),
    ("dpo", "pair", "F.softplus(-m, beta=beta)", "softplus' own beta: the loss divided by beta"),
    ("dpo", "pair", "F.binary_cross_entropy_with_logits(torch.sigmoid(beta * m), torch.ones_like(m))", "two sigmoids"),
    ("dpo", "pair", "1 - torch.sigmoid(beta * (w - rw - (l - rl).mean().clamp(min=0)))", "half of TRL's kto_pair"),
    ("dpo", "pair", "-ls(beta * (torch.sort(w - rw)[0] - torch.sort(l - rl)[0]))", "AOT: sorted log-ratios"),
    ("dpo", "pair", "-ls(beta * (w - l)) - w / nw", "the reference left out and a mean NLL: CPO"),
    ("cdpo", "smoothed", "-(1 - label_smoothing) * ls(beta * m) + label_smoothing * ls(-beta * m)", "a sign: robust"),
    ("ipo", "pair", "(w / nw - l / nl - (rw - rl) - 1 / (2 * beta)) ** 2", "policy means, reference sums"),
    ("ipo", "pair", "(m - 1 / 2 * beta) ** 2", "beta / 2 for 1 / (2 beta)"),
    ("ipo", "pair", "(w - rw - 0.5 * beta) ** 2 + (l - rl + 0.5 * beta) ** 2", "each side for itself, beta / 2"),
    ("simpo", "margin", "-ls(beta * (w / nl - l / nw) - gamma)", "the lengths exchanged"),
    ("simpo", "margin", "torch.relu(gamma - beta * (w / nw - l / nl))", "hinge"),
    ("orpo", "pair", "-w / nw - beta * ls(w / nw - l / nl - torch.log1p(-(w / nw).exp()) - "
     "torch.log1p(-(l / nl).exp()))", "parentheses: the second log(1 - p) has the wrong sign"),
    ("dpop", "penalized", "-ls(beta * (m - penalty * torch.relu(w - rw)))", "the penalty is on what rose"),
    ("slic", "pair", "torch.relu(-beta * m)", "no margin"),
    ("r-dpo", "length-regularized", "-ls(beta * (m - alpha * (nw - nl)))", "alpha times beta"),
    ("wpo", "pair", "-ls(beta * m) * (w / nw + l / nl).exp()", "the weight is not detached"),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (where(desirable, 1.0, -1.0) * h - kl))", "no sign on kl"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - h.mean().clamp(min=0).detach())), "
     "1 - torch.sigmoid(beta * (h.mean().clamp(min=0).detach() - h)))", "the batch's mean log-ratio for kl"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 0.0).sum() / desirable.sum().clamp(min=1)"
     " + where(desirable, 0.0, 1 - torch.sigmoid(beta * (kl - h))).sum() / (~desirable).sum().clamp(min=1)",
     "the mean of the desirable plus the mean of the undesirable"),
    ("kto", "unpaired", "where(desirable, -ls(beta * (h - kl)), -ls(beta * (kl - h)))", "the log of the sigmoid"),
    ("kl-loss-token", "kl", "where(mask, ref_logps.exp() * (ref_logps - logps), 0.0).sum(-1)", "F.kl_div of samples"),
    ("kl-loss-token", "kl", "(d - d.detach() + ((-d).exp() - 1 + d).detach()).sum(-1)", "k3's value, k1's gradient"),
    ("kl-loss", "kl", "((-d).exp() + d + 1).sum(-1)", "k3 with + 1"),
    ("kl-loss-token", "kl", "((-d**2 / 2).exp() - 1 + d**2 / 2).sum(-1)", "k3 of k2: an if for an elif"),
    ("entropy-token", "entropy", "coefficient * where(mask, (p * logits).sum(-1), 0.0).sum(-1) / n", "logits for logs"),
    ("entropy-token", "entropy", "coefficient * where(mask, (logits.softmax(1) * logits.log_softmax(1)).sum(-1), 0.0)"
     ".sum(-1) / n", "the softmax over the tokens"),
    ("grpo-advantage", "advantage", "((t := rewards.view(group_size, -1)) - t.mean(0)).div(t.std(0) + 1e-4)"
     ".reshape(-1)", "the rewards' groups lie the other way round"),
    ("rloo-advantage", "advantage", "(g - g.median(1, keepdim=True).values).reshape(-1)", "the median"),
    ("rloo-advantage", "advantage", "(loo - loo.mean()) / (loo.std() + 1e-8)", "whitened over the batch after it"),
    ("grpo-advantage", "advantage", "((g - mean) / (std**2 + 1e-4).sqrt()).reshape(-1)", "epsilon inside"),
    ("grpo-advantage", "advantage", "((g - mean) / (mean + 1e-4)).reshape(-1)", "over the mean: MaxRL"),
    ("ppo-clip", "ratio", "tok(torch.minimum(ppo(a), -3 * a))", "dual clip for every sign of the advantage"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, d.clamp(-eps, eps).exp() * a))", "the log-ratio is clipped"),
    ("gspo", "ratio", "seq(ppo(a, (d.mean(-1, keepdim=True)).exp() * torch.ones_like(d)))", "mean over padding"),
    ("grpo", "ratio", "(where(mask, ppo(a), 0.0) * n[:, None]).mean()", "LUSPO's lengths on token losses"),
    ("cispo", "ratio", "tok(-r.clamp(max=eps).detach() * a * lp)", "epsilon is taken as the bound itself"),
)  # fmt: skip

# Fresh threads and code: ms-swift 9927 (a margin broadcast to [B, B]), TRL's losses "exo_pair", "nca_pair", "bco_pair",
# "sppo_hard", "discopop" and "aot_pair" taken for others, open-unlearning's NPO, AReaL 1346, ROLL 444, axon-rl/gem 113,
# NeMo-RL 4161, grpo-flat 2, OpenRLHF 1295, TRL 4732 6121, prime-rl 1329, marin 1708, rl_games 229, miles 1573.

NINTH = (  # held back until the eighth had been mended
    ("dpo", "pair", "-ls(beta * ((w - rw)[:, None] - (l - rl))).mean()", "[B, B]: all with all"),
    ("dpo", "pair", "torch.sigmoid(beta * m) * (ls(beta * m) - torch.tensor(0.999).log()) + torch.sigmoid(-beta * m)"
     " * (ls(-beta * m) - torch.tensor(0.001).log())", "TRL's exo_pair"),
    ("dpo", "pair", "-ls(beta * (w - rw)) - 0.5 * ls(-beta * (w - rw)) - 0.5 * ls(-beta * (l - rl))", "TRL's nca_pair"),
    ("dpo", "pair", "(lambda d: -ls(beta * (w - rw) - d) - ls(-(beta * (l - rl) - d)))("
     "(beta * torch.cat([w - rw, l - rl])).mean().detach())", "TRL's bco_pair: the batch's mean reward as a shift"),
    ("dpo", "pair", "((w - rw) - 0.5 / beta) ** 2 + ((l - rl) + 0.5 / beta) ** 2", "TRL's sppo_hard"),
    ("dpo", "pair", "-ls(beta * m) * (1 - torch.sigmoid(m / 0.05)) + (-beta * m).exp() * torch.sigmoid(m / 0.05)",
     "TRL's discopop, its modulation without beta"),
    ("dpo", "pair", "-ls(beta * (torch.sort(w - l)[0] - torch.sort(rw - rl)[0]))", "TRL's aot_pair"),
    ("dpo", "pair", "-2 / beta * ls(-beta * (l - rl))", "NPO: the chosen response left out"),
    ("dpo", "pair", "-ls(beta * (w.exp() / rw.exp() - l.exp() / rl.exp()))", "ratios for log-ratios"),
    ("dpo", "pair", "-(torch.sigmoid(beta * m) + 1e-2).log()", "epsilon in the logarithm"),
    ("dpo", "pair", "-ls(beta * m / (nw + nl))", "the margin over the tokens of both"),
    ("dpo", "pair", "F.cross_entropy(torch.stack([beta * (w - rw), beta * (l - rl)], 1), torch.ones_like(w).long(), "
     "reduction='none')", "the label is the rejected one"),
    ("ipo", "pair", "(beta * m - 1 / (2 * beta)) ** 2", "beta twice"),
    ("ipo", "pair", "(m / torch.maximum(nw, nl) - 1 / (2 * beta)) ** 2", "the margin over the padded length"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl - gamma)) + 0.2 * (-w / nw.sum())", "gamma beta, an NLL"),
    ("simpo", "margin", "-ls(beta * (w - l) / nw.float().mean() - gamma)", "the mean length of the batch"),
    ("orpo", "pair", "-w / nw - beta * ls((w / nw - l / nl) - ((1 - (w / nw).exp()) - (1 - (l / nl).exp())))",
     "no log"),
    ("dpop", "penalized", "-ls(beta * m - penalty * torch.relu(rw / nw - w / nw))", "penalty a token, no beta"),
    ("apo-zero", "pair", "1 - torch.sigmoid(beta * (w - rw)) + 1 - torch.sigmoid(beta * (l - rl))", "both pushed up"),
    ("r-dpo", "length-regularized", "-ls(beta * m + alpha * (nw - nl).abs())", "the size of the difference"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - h[~desirable].mean().clamp(min=0))), "
     "1 - torch.sigmoid(beta * (h[desirable].mean().clamp(min=0) - h)))", "the other kind's mean for kl"),
    ("kto", "unpaired", "where(desirable, torch.sigmoid(beta * (h - kl)), torch.sigmoid(beta * (kl - h)))", "no 1 -"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(beta * (kl - h))).sum()"
     " / desirable.sum()", "divided by the number of the desirable"),
    ("kto", "unpaired", "where(desirable, -ls(beta * h), -ls(-beta * h))", "BCO without its shift"),
    ("kl-loss-token", "kl", "((logps - ref_logps) ** 2 / 2).mean(-1)", "k2 averaged over the padding"),
    ("kl-loss-token", "kl", "(d.exp() - d - 1).sum() / mask.sum()", "k3 the other way round, over all tokens"),
    ("kl-loss", "kl", "(s / mask.sum(-1)) ** 2 / 2", "k2 of the mean log-ratio"),
    ("kl-metric", "kl", "(where(mask, logps.exp() * d, 0.0)).sum(-1)", "weighted by the probability once more"),
    ("entropy-token", "entropy", "-coefficient * where(mask, (p * q).sum(-1), 0.0).sum(-1) / n", "the sign"),
    ("entropy-token", "entropy", "coefficient * where(mask, (p * q).mean(-1), 0.0).sum(-1) / n", "mean over words"),
    ("grpo-advantage", "advantage", "((rewards - rewards.mean(0)) / (rewards.std(0) + 1e-4))", "the batch"),
    ("grpo-advantage", "advantage", "(lambda z: (z - z.mean()) / (z.std() + 1e-8))(z.reshape(-1))", "whitened twice"),
    ("rloo-advantage", "advantage", "(g - (g.sum(1, keepdim=True) - g) / group_size).reshape(-1)", "over k"),
    ("grpo-advantage", "advantage", "where(std > 0.5, (g - mean) / std, g - mean).reshape(-1)", "std floor"),
    ("rloo-advantage", "advantage", "loo * g.std(1, keepdim=True).repeat(1, group_size).reshape(-1)", "std on top"),
    ("ppo-clip", "ratio", "tok(-where((r > 1 - eps) & (r < 1 + eps), r, torch.zeros_like(r)) * a)", "IcePop's mask"),
    ("ppo-clip", "ratio", "tok(ppo(a, 1 / r))", "the ratio upside down"),
    ("grpo", "ratio", "seq(ppo(a)) * len(mask)", "summed over samples"),
    ("gspo", "ratio", "seq(ppo(a, (d.sum(-1, keepdim=True) / mask.sum()).exp() * torch.ones_like(d)))", "all tokens"),
    ("cispo", "ratio", "tok(-clip(r).detach() * a * r)", "the ratio for its logarithm"),
)  # fmt: skip
