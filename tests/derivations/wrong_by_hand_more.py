"""More wrong losses in the manner of `wrong_by_hand`: sets written after descriptions had been given a grammar.

The fifth was written and committed before it was tried for the first time.
"""

from tests.derivations.wrong_by_hand import FORMS, PAIR, PAIR_BODY, written  # noqa: F401

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
