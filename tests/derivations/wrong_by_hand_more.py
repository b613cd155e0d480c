"""More wrong losses in the manner of `wrong_by_hand`: sets written after descriptions had been given a grammar.

Each was written and committed before it was tried for the first time: 19 of the fifth and 11 of the sixth were unknown
then, and `wrong_by_hand_last` has the seventh.
"""

from wrong_by_hand import FORMS, PAIR, PAIR_BODY

FORMS |= {
    "penalized": (PAIR + ", penalty=5.0", PAIR_BODY),
    "length-regularized": (PAIR + ", alpha=0.05", PAIR_BODY),
    "entropy": (
        "logits, mask, coefficient=1.0",
        "    q = logits.log_softmax(-1)\n    p, n = q.exp(), mask.sum(-1)\n",
    ),
}

FIFTH = (
    ("dpo", "pair", "-ls(beta * (w - rw) * (l - rl))"),
    ("dpo", "pair", "-ls(beta * (w - l - rw + rw))"),
    ("dpo", "pair", "-ls(beta * ((w - rw) / nw - (l - rl)))"),
    ("dpo", "pair", "-torch.log(torch.sigmoid(beta * m) + 0.1)"),
    ("dpo", "pair", "-ls(beta * (m - m.mean().detach()))"),
    ("dpo", "pair", "-ls(beta * m) - 0.5 * w / nw - 0.5 * l / nl"),
    ("dpo", "pair", "-ls(beta * m) + (w - rw - 1 / (2 * beta)) ** 2 + (l - rl + 1 / (2 * beta)) ** 2"),
    ("dpo", "pair", "-ls(beta * (w - rw)) - 0.5 * ls(-beta * (w - rw)) - 0.5 * ls(-beta * (l - rl))"),
    ("dpo", "pair", "-ls(beta * m) * (nw >= nl)"),
    ("dpo", "pair", "-ls(beta * ((w - rw).sort().values - (l - rl).sort().values))"),
    ("cdpo", "smoothed", "-ls(beta * m * (1 - label_smoothing)) - ls(-beta * m * label_smoothing)"),
    ("ipo", "pair", "((w - rw) / nw - (l - rl) / nw - 1 / (2 * beta)) ** 2"),
    ("ipo", "pair", "(m - 1 / (2 * beta)) ** 2 * beta"),
    ("simpo", "margin", "-ls(beta * (w / nl - l / nw) - gamma)"),
    ("simpo", "margin", "-ls(beta * (w / nw**0.5 - l / nl**0.5) - gamma)"),
    ("simpo", "margin", "-ls(beta * ((w / nw).exp() - (l / nl).exp()) - gamma)"),
    ("simpo", "margin", "-ls(beta * (w / nw.max() - l / nl.max()) - gamma)"),
    ("orpo", "pair", "-w / nw - beta * ls(w / nw - l / nl - torch.log1p(-w / nw) + torch.log1p(-l / nl))"),
    ("dpop", "penalized", "-ls(beta * m) + penalty * F.relu(rw - w)"),
    ("r-dpo", "length-regularized", "-ls(beta * m - alpha * (nw / nl))"),
    ("sppo", "pair", "(w - rw - 0.5 * beta) ** 2 + (l - rl + 0.5 * beta) ** 2"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(-beta * h))"),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (h - kl).abs() * where(desirable, 1, -1))"),
    ("ppo-clip", "ratio", "tok(torch.minimum(-torch.minimum(r * a, clip(r) * a), 3 * a.abs()))"),
    ("ppo-clip", "ratio", "tok(-torch.maximum(r * a, clip(r) * a))"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, clip(r) * a.abs()))"),
    ("ppo-clip", "ratio", "tok(ppo(a) + 0.1 * (r - 1 - d))"),
    ("ppo-clip", "ratio", "tok(ppo(a, 1 + d))"),
    ("ppo-clip", "ratio", "(where(mask, ppo(a), 0.0).sum(-1) / n).sum() / n.sum()"),
    ("ppo-clip", "ratio", "tok(ppo(a, (d.cumsum(-1)).exp()))"),
    ("grpo", "ratio of rewards", "loss_(torch.softmax(g, 1) - 1 / group_size)"),
    ("grpo", "ratio of rewards", "loss_(z * std)"),
    ("grpo", "ratio of rewards", "seq(ppo(z.reshape(-1, 1)) / n[:, None])"),
    ("gspo", "ratio", "seq(ppo(a, (d.sum(-1, keepdim=True) / n[:, None]).exp().detach() * r))"),
    ("cispo", "ratio", "tok(-clip(r).detach() * a * r)"),
    ("grpo-advantage", "advantage", "torch.tanh(z).reshape(-1)"),
    ("rloo-advantage", "advantage", "(g - g.mean(0, keepdim=True)).reshape(-1)"),
    ("kl-loss", "kl", "F.smooth_l1_loss(d, torch.zeros_like(d), reduction='none').sum(-1)"),
    ("entropy-token", "entropy", "-coefficient * where(mask, 1 - (p * p).sum(-1), 0.0).sum(-1) / n"),
    ("rloo", "online", "-((rewards - rewards.mean()) * lp / n.float().mean()).mean()"),
)

FORMS |= {
    "tokens": (
        "chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, chosen_mask, rejected_mask, beta=0.1",
        "    wt, lt = where(chosen_mask, chosen_logps, 0.0), where(rejected_mask, rejected_logps, 0.0)\n"
        "    rwt, rlt = where(chosen_mask, ref_chosen_logps, 0.0), where(rejected_mask, ref_rejected_logps, 0.0)\n"
        "    m = (wt - rwt).sum(-1) - (lt - rlt).sum(-1)\n",
    ),
    "weighed": ("logp, ref_logp, desirable, kl, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5",
                "    h = logp - ref_logp\n"),
}  # fmt: skip

SIXTH = (  # held back until the fifth had been mended
    ("dpo", "tokens", "-ls(beta * (wt - rwt)).sum(-1) - ls(-beta * (lt - rlt)).sum(-1)"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt)[:, 1:].sum(-1) - (lt - rlt)[:, 1:].sum(-1)))"),
    ("dpo", "tokens", "-ls(beta * (wt.exp().sum(-1) - rwt.exp().sum(-1) - lt.exp().sum(-1) + rlt.exp().sum(-1)))"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt).mean(-1) - (lt - rlt).mean(-1)))"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt).clamp(-1, 1).sum(-1) - (lt - rlt).clamp(-1, 1).sum(-1)))"),
    ("dpo", "pair", "-ls(beta * (w - l)) - beta * (rl - rw)"),
    ("dpo", "pair", "-ls(beta * m) + 0.5 * (w - rw) ** 2 / nw"),
    ("dpo", "pair", "-ls(beta * m / (m.detach().abs() + 1))"),
    ("dpo", "pair", "-torch.sigmoid(beta * m).detach() * beta * m"),
    ("dpo", "pair", "-ls(beta * (w - rw)) + ls(beta * (l - rl))"),
    ("dpo", "pair", "-ls(beta * (torch.exp(w - rw) - torch.exp(l - rl)))"),
    ("dpo", "pair", "F.binary_cross_entropy_with_logits(beta * m, torch.full_like(m, 0.9), reduction='none')"),
    ("dpo", "pair", "-ls(beta * m) * torch.sigmoid(-beta * m)"),
    (
        "cdpo",
        "smoothed",
        "(-ls(beta * m) * (1 - label_smoothing) + ls(-beta * m) * label_smoothing) / (1 - 2 * label_smoothing)",
    ),
    ("ipo", "pair", "((w - rw) / nw - (l - rl) / nl - 1 / (2 * beta)) ** 2 * nw"),
    ("ipo", "pair", "(w - l - 1 / (2 * beta)) ** 2"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl) - gamma * beta) - 0.1 * w / nw"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl - gamma * (nl / nw)))"),
    ("simpo", "margin", "-ls(beta * (w - l) / torch.maximum(nw, nl) - gamma)"),
    ("simpo", "margin", "-ls(beta * w / nw - gamma) - ls(-beta * l / nl - gamma)"),
    ("orpo", "pair", "-w / nw - beta * ls(torch.log(-torch.expm1(l / nl)) - torch.log(-torch.expm1(w / nw)))"),
    ("dpop", "penalized", "-ls(beta * (m - penalty * F.relu(rl - l)))"),
    ("apo-zero", "pair", "1 - torch.sigmoid(beta * (w - rw)) + 1 - torch.sigmoid(beta * (l - rl))"),
    ("slic", "pair", "F.relu(beta - m)"),
    (
        "kto",
        "weighed",
        "where(desirable, desirable_weight - torch.sigmoid(beta * (h - kl)),"
        " undesirable_weight - torch.sigmoid(beta * (kl - h)))",
    ),
    (
        "kto",
        "unpaired",
        "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(beta * (kl - h))) * beta",
    ),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, clip(r) * a) * r.detach())"),
    ("ppo-clip", "ratio", "tok(where(a > 0, ppo(a), -clip(r, 0.5, 0.5) * a))"),
    ("ppo-clip", "ratio", "tok(ppo(a) - 0.01 * lp.exp() * lp)"),
    ("ppo-clip", "ratio", "(where(mask, ppo(a), 0.0).sum(0) / mask.sum(0).clamp(min=1)).mean()"),
    ("ppo-clip", "ratio", "tok(-F.logsigmoid(r * a))"),
    ("ppo-clip", "ratio", "tok(ppo(a, r / r.mean()))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / (g - mean).abs().sum(1, keepdim=True).clamp(min=1e-6))"),
    ("grpo", "ratio of rewards", "loss_(z - z.mean()) + 0.04 * seq((-d).exp() + d - 1)"),
    ("gspo", "ratio", "ppo(advantages, (where(mask, r, 0.0).sum(-1) / n)).mean()"),
    ("cispo", "ratio", "tok(-clip(r).detach() * lp * a.clamp(min=0))"),
    ("grpo-advantage", "advantage", "((g - mean) / (g.std() + 1e-4)).reshape(-1)"),
    ("rloo-advantage", "advantage", "(g - g.mean(1, keepdim=True).roll(1, 0)).reshape(-1)"),
    ("kl-loss", "kl", "(d.exp() * d - d.exp() + 1).sum(-1)"),
    ("rloo", "online", "-(loo * (lp - lp.detach()).exp()).mean() - 0.01 * lp.mean()"),
)
