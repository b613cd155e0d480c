"""A tenth set of wrong losses: slips of ordinary code, written without a look at the kit.

It was committed before it was tried: one was unknown then, and four got a name that was false or said too little.
"""

TENTH = (  # (objective, form, what it returns, what that is)
    ("dpo", "pair", "-ls(beta * (w - rw - l - rl))", "parentheses: the rejected reference has the wrong sign"),
    ("dpo", "pair", "-ls(beta * m.mean())", "the mean of the batch inside of the sigmoid"),
    ("dpo", "pair", "-ls(beta * m).sum() / nw.sum()", "the sum over pairs per chosen token"),
    ("dpo", "pair", "-ls(beta * (w / rw - l / rl))", "quotients of log-probs"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt).mean(-1) - (lt - rlt).mean(-1)))", "means over the padded width"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt)[:, 1:].sum(-1) - (lt - rlt)[:, 1:].sum(-1)))", "shifted once too often"),
    ("dpo", "tokens", "-ls(beta * ((wt - ref_chosen_logps).sum(-1) - (lt - ref_rejected_logps).sum(-1)))",
     "the references without a mask"),
    ("ipo", "pair", "(beta * m - 1 / (2 * beta)) ** 2", "beta twice"),
    ("ipo", "pair", "(w / nw - l / nl - 1 / (2 * beta)) ** 2", "the reference left out of means"),
    ("simpo", "margin", "-ls(beta * (w / nw**2 - l / nl**2) - gamma)", "means are divided by the length again"),
    ("simpo", "margin", "-ls(beta * (w / nw.float().mean() - l / nl.float().mean()) - gamma)", "the mean length"),
    ("cdpo", "smoothed", "-(1 - label_smoothing) * ls(beta * m) - label_smoothing * ls(beta * m)", "no flip: DPO"),
    ("cdpo", "smoothed", "(-(1 - label_smoothing) * ls(beta * m) + label_smoothing * ls(-beta * m)) / "
     "(1 - label_smoothing)", "robust DPO over 1 - e for 1 - 2 e"),
    ("orpo", "pair", "-w / nw - beta * ls(w / nw - l / nl - torch.log1p(-w.exp()) + torch.log1p(-l.exp()))",
     "sums in log(1 - p), means elsewhere"),
    ("orpo", "pair", "-(w + l) / (nw + nl) - beta * ls(w / nw - l / nl - torch.log1p(-(w / nw).exp()) + "
     "torch.log1p(-(l / nl).exp()))", "the NLL is of both responses"),
    ("dpop", "penalized", "-ls(beta * m - penalty * torch.relu(rw - w))", "the penalty without beta"),
    ("ln-dpo", "pair", "-ls(beta * ((w - rw) / (nw + 1) - (l - rl) / (nl + 1)))", "one token too many in the length"),
    ("sppo", "pair", "(w - rw - 0.5 / beta) ** 2 + (l - rl - 0.5 / beta) ** 2", "both go up"),
    ("apo-zero", "pair", "1 - torch.sigmoid(beta * (w - rw)) + 1 - torch.sigmoid(beta * (l - rl))", "both go up"),
    ("slic", "pair", "torch.relu(beta - (w - l))", "beta is the margin, and no reference"),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (h - kl))", "all are desirable"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), torch.sigmoid(beta * (kl - h)))",
     "1 - is missing on the undesirable"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * h), 1 - torch.sigmoid(-beta * h))", "kl left out"),
    ("kto", "weighed", "where(desirable, undesirable_weight * (1 - torch.sigmoid(beta * (h - kl))), "
     "desirable_weight * (1 - torch.sigmoid(beta * (kl - h))))", "the weights exchanged"),
    ("kl-loss-token", "kl", "((-d).exp() - 1 - d).sum(-1)", "k3 with a sign"),
    ("kl-loss-token", "kl", "where(mask, logps.exp() * d, 0.0).sum(-1)", "the sum over words, on samples"),
    ("kl-loss", "kl", "d.clamp(min=0).sum(-1)", "k1 without its negative terms"),
    ("kl-loss-token", "kl", "((-d).clamp(-1, 1).exp() - 1 + d).sum(-1)", "k3 with the clamp on one of two"),
    ("entropy-token", "entropy", "-coefficient * where(mask, (p * q).sum(-1), 0.0).sum(-1) / n", "the sign"),
    ("entropy-token", "entropy", "coefficient * where(mask, (p.detach() * q).sum(-1), 0.0).sum(-1) / n",
     "the probabilities are detached: no gradient"),
    ("grpo-advantage", "advantage", "(rewards - mean.reshape(-1).repeat(group_size)) / "
     "(std.reshape(-1).repeat(group_size) + 1e-4)", "repeat for repeat_interleave"),
    ("grpo-advantage", "advantage", "z.clamp(min=0).reshape(-1)", "only positive advantages"),
    ("rloo-advantage", "advantage", "loo / (std + 1e-4).repeat(1, group_size).reshape(-1)", "divided by the deviation"),
    ("grpo-advantage", "advantage", "((g - g.min(1, keepdim=True).values) / (g.max(1, keepdim=True).values - "
     "g.min(1, keepdim=True).values + 1e-4)).reshape(-1)", "min-max"),
    ("ppo-clip", "ratio", "tok(-torch.maximum(r * a, clip(r) * a))", "maximum for minimum"),
    ("ppo-clip", "ratio", "(where(mask, ppo(a), 0.0).sum(0) / mask.sum(0).clamp(min=1)).mean()", "the other axis"),
    ("grpo", "ratio", "seq(-torch.minimum(r, clip(r)) * a)", "the advantage outside of the minimum"),
    ("gspo", "ratio", "seq(ppo(a, (d.sum(-1, keepdim=True) / n[:, None]).exp().detach() * r))", "both ratios"),
    ("cispo", "ratio", "tok(-torch.minimum(r * a, clip(r) * a).detach() * lp)", "PPO's minimum stays"),
    ("ppo-clip", "ratio", "tok(ppo(a) * r.detach())", "the ratio once more"),
)  # fmt: skip
