"""Wrong losses of the kinds people write, as (objective, form, what it returns): the sets on which names are tried.

Each set was written after the one before had been looked at and mended; 19, 8, 9 and 9 of the 40 were unknown when they
were tried for the first time (`wrong_by_hand_more` and `_last`: 19, 11 and 11; `_threads`: 3 and 6; `_tenth`: 1,
`_eleventh`: 5, `_twelfth`: 4, `_thirteenth`: 1). A few are right after all, or on small examples. Run this file for
what they are called. A loss counts as named if the words predict it on inputs that were not used to find them: an
objective, a formula, or a structure of which one function has no name.
"""

import functools

import torch
import torch.nn.functional as F

PAIR = "chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, chosen_length, rejected_length, beta=0.1"
PAIR_BODY = """
    w, l, rw, rl = chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp
    nw, nl = chosen_length, rejected_length
    m = w - rw - l + rl
"""
RATIO_BODY = """
    r, d, n = where(mask, logps - old_logps, 0.0).exp(), where(mask, logps - old_logps, 0.0), mask.sum(-1)
    lp = where(mask, logps, 0.0)
    def tok(x): return where(mask, x, 0.0).sum() / mask.sum()
    def seq(x): return (where(mask, x, 0.0).sum(-1) / n).mean()
    def clip(x, lo=eps, hi=eps): return x.clamp(1 - lo, 1 + hi)
    def ppo(a, ratio=r): return -torch.minimum(ratio * a, clip(ratio) * a)
"""
GROUP_BODY = """
    g = rewards.view(-1, group_size)
    mean, std = g.mean(1, keepdim=True), g.std(1, keepdim=True)
    loo = (g - (g.sum(1, keepdim=True) - g) / (group_size - 1)).reshape(-1)
    z = (g - mean) / (std + 1e-4)
"""
FORMS = {  # parameters, lines before the last
    "pair": (PAIR, PAIR_BODY),
    "smoothed": (PAIR + ", label_smoothing=0.1", PAIR_BODY),
    "margin": (PAIR.replace("0.1", "2.0") + ", gamma=1.0", PAIR_BODY),
    "ratio": ("logps, old_logps, mask, advantages, eps=0.2", RATIO_BODY + "    a = advantages[:, None]\n"),
    "ratio of rewards": (
        "logps, old_logps, mask, rewards, group_size, eps=0.2",
        RATIO_BODY + GROUP_BODY + "    def loss_(a): return seq(ppo(a.reshape(-1, 1)))\n",
    ),
    "advantage": ("rewards, group_size", GROUP_BODY),
    "kl": (
        "logps, ref_logps, mask",
        "    d = where(mask, logps - ref_logps, 0.0)\n    s = d.sum(-1)\n",
    ),
    "unpaired": ("logp, ref_logp, desirable, kl, beta=0.1", "    h = logp - ref_logp\n"),
    "online": (
        "logps, mask, rewards, group_size",
        GROUP_BODY + "    lp, n = where(mask, logps, 0.0).sum(-1), mask.sum(-1)\n",
    ),
}


@functools.cache
def written(form, returns):
    """The loss of this form that returns so."""
    parameters, body = FORMS[form]
    names = {"torch": torch, "where": torch.where, "ls": F.logsigmoid, "F": F}
    exec(f"def loss({parameters}):\n{body}\n    return {returns}\n", names)  # noqa: S102
    return names["loss"]


FIRST = (
    ("dpo", "pair", "-torch.log(torch.sigmoid(beta * m).mean())"),
    ("dpo", "pair", "-ls(m) * beta"),
    ("dpo", "pair", "-ls(beta * (w - l) - (rw - rl))"),
    ("dpo", "pair", "-ls(beta * (w - l + rw - rl))"),
    ("dpo", "pair", "-ls(beta * (w / nw - l - rw / nw + rl))"),
    ("dpo", "pair", "-ls(beta * (w / nw - rw - l / nl + rl))"),
    ("dpo", "pair", "-ls(beta * (w - rl - l + rw))"),
    ("dpo", "pair", "-ls(beta * (w.detach() - rw - l + rl))"),
    ("dpo", "pair", "1 - torch.sigmoid(beta * m)"),
    ("dpo", "pair", "(-ls(beta * m)).clamp(min=0.6)"),
    ("dpo", "pair", "-ls((beta * m).clamp(-0.2, 0.2))"),
    ("cdpo", "smoothed", "-ls(beta * m) * (1 - label_smoothing) + ls(-beta * m) * label_smoothing"),
    ("cdpo", "smoothed", "-ls((1 - 2 * label_smoothing) * beta * m)"),
    ("ipo", "pair", "(beta * m - 0.5) ** 2"),
    ("ipo", "pair", "(m - 1 / (2 * beta)).abs()"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nw) - gamma)"),
    ("simpo", "margin", "-ls(beta * (w - l) / (nw + nl) - gamma)"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl)) + gamma"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl) - gamma) - w"),
    ("orpo", "pair", "-w / nw - beta * ls(w / nw - l / nl)"),
    (
        "orpo",
        "pair",
        "-w / nw + beta * ls(w / nw - l / nl - torch.log1p(-(w / nw).exp()) + torch.log1p(-(l / nl).exp()))",
    ),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (h - kl)) * where(desirable, 1.0, -1.0)"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h + kl)), 1 - torch.sigmoid(beta * (-kl - h)))"),
    ("ppo-clip", "ratio", "tok(ppo(a.clamp(-1, 1)))"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, d.clamp(-eps, eps).exp() * a))"),
    ("ppo-clip", "ratio", "ppo(a).mean()"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r.detach() * a, clip(r) * a))"),
    ("ppo-clip", "ratio", "tok(-r.detach() * lp * a)"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(d * a, d.clamp(-eps, eps) * a))"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, r.clamp(max=1 + eps) * a))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / (g.var(1, keepdim=True) + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / std.clamp(min=1.0))"),
    ("grpo", "ratio of rewards", "loss_((rewards - rewards.mean()) / (rewards.std() + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_(g / (std + 1e-4))"),
    ("grpo-advantage", "advantage", "z.clamp(-1, 1).reshape(-1)"),
    ("grpo-advantage", "advantage", "((g - g.median(1, keepdim=True).values) / (std + 1e-4)).reshape(-1)"),
    ("kl-loss", "kl", "(d.exp() * d).sum(-1)"),
    ("kl-loss", "kl", "s.abs()"),
    ("rloo", "online", "-(loo * lp / n).sum()"),
    ("rloo", "online", "-z.reshape(-1).mul(lp).mean()"),
)

SECOND = (
    ("dpo", "pair", "-ls(beta * (m - 1))"),
    ("dpo", "pair", "-(beta * m).sigmoid().mean().log()"),
    ("dpo", "pair", "-ls(beta * (l - rl - w + rw))"),
    ("dpo", "pair", "-ls(beta * w - beta * rw - l + rl)"),
    ("dpo", "pair", "-ls(beta * m / (nw + nl))"),
    ("dpo", "pair", "-ls(beta * m) - 0.2 * w / nw"),
    ("dpo", "pair", "-ls(m / beta)"),
    ("dpo", "pair", "-ls(beta * (w - rw) - beta * (l - rl).detach())"),
    ("dpo", "pair", "torch.exp(-beta * m)"),
    ("dpo", "pair", "-ls(beta * m.clamp(-5, 5))"),
    ("dpo", "pair", "(nw * -ls(beta * m)).sum() / nw.sum()"),
    ("dpo", "pair", "F.relu(1 - beta * m) ** 2"),
    ("dpo", "pair", "-ls(beta * (w - rw)) - ls(-beta * (l - rl))"),
    ("dpo", "pair", "-ls(beta * m) * m.detach().abs()"),
    ("cdpo", "smoothed", "-ls(beta * m) * (1 - label_smoothing) - ls(-beta * m)"),
    ("cdpo", "smoothed", "-ls(beta * m - label_smoothing)"),
    ("ipo", "pair", "(m - 1 / beta) ** 2"),
    ("ipo", "pair", "(w / nw - rw / nw - l / nl + rl / nl - 1 / (2 * beta)) ** 2 / 2"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl) + gamma)"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl - gamma / beta**2))"),
    ("simpo", "margin", "-beta * ls(w / nw - l / nl - gamma)"),
    ("orpo", "pair", "-w - beta * ls(w / nw - l / nl - torch.log1p(-(w / nw).exp()) + torch.log1p(-(l / nl).exp()))"),
    ("kto", "unpaired", "where(desirable, -ls(beta * (h - kl)), -ls(beta * (kl - h)))"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * h - kl), 1 - torch.sigmoid(kl - beta * h))"),
    ("ppo-clip", "ratio", "tok(-torch.maximum(-torch.minimum(r * a, clip(r) * a), 3 * a))"),
    ("ppo-clip", "ratio", "seq(ppo((a - a.mean()) / (a.std() + 1e-8)))"),
    ("ppo-clip", "ratio", "where(mask, ppo(a), 0.0).sum(-1).mean() / logps.shape[1]"),
    (
        "ppo-clip",
        "ratio",
        "tok(ppo(a, (lp.sum(-1, keepdim=True) - lp.sum(-1, keepdim=True).detach()).exp() * r.detach()))",
    ),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, r.clamp(-eps, eps) * a))"),
    ("ppo-clip", "ratio", "tok(-clip(r).detach() * a * lp)"),
    ("ppo-clip", "ratio", "-tok(ppo(a))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / (g.std(unbiased=False) + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / (std + 1))"),
    ("grpo", "ratio of rewards", "loss_((g - g.max(1, keepdim=True).values) / (std + 1e-6))"),
    ("cispo", "ratio", "tok(-clip(r) * a)"),
    ("gspo", "ratio", "ppo(advantages, (d.sum(-1) / n).exp()).sum()"),
    ("grpo-advantage", "advantage", "((g - mean) / std.mean()).reshape(-1)"),
    ("rloo-advantage", "advantage", "(g - g.sum(1, keepdim=True) / (group_size - 1)).reshape(-1)"),
    ("kl-loss", "kl", "(torch.expm1(-d) + d).detach().sum(-1)"),
    ("rloo", "online", "-(loo * lp).sum() / mask.numel()"),
)

THIRD = (  # held back until the second had been mended
    ("dpo", "pair", "-ls(beta * (w - l)) + ls(beta * (rw - rl))"),
    ("dpo", "pair", "-(1 - torch.sigmoid(beta * m)) ** 2 * ls(beta * m)"),
    ("dpo", "pair", "-ls(beta * m) / nw"),
    ("dpo", "pair", "-ls(beta * m).sum() / (nw + nl).sum()"),
    ("dpo", "pair", "-ls(beta * (w / nw - rw / nw) - beta * (l / nw - rl / nw))"),
    ("dpo", "pair", "-ls(beta * (w - rw - l - rl))"),
    ("dpo", "pair", "-ls(beta * m) + 0.1 * l / nl"),
    ("dpo", "pair", "-ls(beta * m) - 0.5 * ls(beta * (w - rw))"),
    ("dpo", "pair", "-ls(beta * m - 0.05 * (nw - nl))"),
    ("dpo", "pair", "-ls((w.exp() - l.exp()) / beta)"),
    ("dpo", "pair", "-ls(beta * (w - rw.detach() - l + rl).detach() + (w - w.detach()) * beta)"),
    ("dpo", "pair", "(beta * m - 1).relu() - ls(beta * m)"),
    ("dpo", "pair", "torch.log1p(torch.exp(-m)) ** beta"),
    ("cdpo", "smoothed", "-ls(beta * m) * (1 - label_smoothing / 2) - ls(-beta * m) * label_smoothing / 2"),
    ("cdpo", "smoothed", "-ls(beta * m) * label_smoothing - ls(-beta * m) * (1 - label_smoothing)"),
    ("ipo", "pair", "m**2 - m / beta"),
    ("ipo", "pair", "(m + 1 / (2 * beta)) ** 2"),
    ("ipo", "pair", "F.smooth_l1_loss(m, torch.full_like(m, 1 / (2 * beta)), reduction='none')"),
    ("simpo", "margin", "-ls(beta * (w - l) - gamma)"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl) - gamma * nw)"),
    ("simpo", "margin", "F.relu(gamma - beta * (w / nw - l / nl))"),
    ("orpo", "pair", "-w / nw - beta * ls(w - l - torch.log1p(-w.exp()) + torch.log1p(-l.exp()))"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), torch.sigmoid(beta * (kl - h)))"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * h), 1 - torch.sigmoid(-beta * h))"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, r.clamp(1 - eps, 1 + eps)))"),
    ("ppo-clip", "ratio", "tok(ppo(a / (a.abs() + 1e-8)))"),
    ("ppo-clip", "ratio", "tok(ppo(a) * (r < 1 + eps))"),
    ("ppo-clip", "ratio", "where(mask, ppo(a), 0.0).sum(-1).mean() / n.max()"),
    ("ppo-clip", "ratio", "tok(ppo(a, (-d).exp()))"),
    ("ppo-clip", "ratio", "tok(-r.clamp(max=1 + eps) * a)"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, clip(r).detach() * a * lp))"),
    ("grpo", "ratio of rewards", "loss_(loo.view(-1, group_size) / (std + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_((rewards - g.mean()) / (std.repeat_interleave(group_size) + 1e-4))"),
    ("grpo", "ratio of rewards", "seq(-(r * z.reshape(-1, 1)))"),
    ("gspo", "ratio", "ppo(advantages, d.sum(-1).exp() / n).mean()"),
    ("grpo-advantage", "advantage", "((g - mean) / (g.std(1, keepdim=True) ** 2 + 1e-4).sqrt()).reshape(-1)"),
    ("rloo-advantage", "advantage", "(loo - loo.mean()) / (loo.std() + 1e-8)"),
    ("kl-loss", "kl", "(torch.exp(ref_logps) * (ref_logps - logps) * mask).nan_to_num().sum(-1)"),
    ("kl-loss", "kl", "where(d > 0, d, -d).sum() / mask.sum()"),
    ("rloo", "online", "-(where(loo > 0, loo, 0.0) * lp).mean()"),
)

FOURTH = (  # held back until the third had been mended
    ("dpo", "pair", "-ls(beta * (w / rw - l / rl))"),
    ("dpo", "pair", "-ls(beta * m + 0.1)"),
    ("dpo", "pair", "-ls(2 * beta * m) / 2"),
    ("dpo", "pair", "-ls(beta * (w - rw) / nw - beta * (l - rl) / nl)"),
    ("dpo", "pair", "-ls(beta * m).mean() + 0.01 * (w - rw)"),
    ("dpo", "pair", "-ls(beta * m.mean())"),
    ("dpo", "pair", "-ls(beta * m).max()"),
    ("dpo", "pair", "-ls(beta * (w - rw - (l - rl).clamp(min=-2)))"),
    ("dpo", "pair", "ls(beta * m)"),
    ("dpo", "pair", "-ls(beta * (w - l)) * (nw / nl)"),
    ("dpo", "pair", "(-ls(beta * m)) ** 2"),
    ("dpo", "pair", "-ls(beta * (w - rw).detach() - beta * (l - rl).detach()) - 0.1 * w"),
    ("cdpo", "smoothed", "-ls(beta * m) + label_smoothing * beta * m"),
    ("cdpo", "smoothed", "-ls(beta * m) * (1 - label_smoothing) - label_smoothing * 0.6931"),
    ("ipo", "pair", "(m - beta / 2) ** 2"),
    ("ipo", "pair", "(beta * m - 1 / (2 * beta)) ** 2"),
    ("ipo", "pair", "F.relu(1 / (2 * beta) - m) ** 2"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl)) * gamma"),
    ("simpo", "margin", "-ls(beta * (w / (nw + 1) - l / (nl + 1)) - gamma)"),
    ("simpo", "margin", "-ls(w / nw - l / nl - gamma)"),
    ("simpo", "margin", "-ls(beta * ((w - rw) / nw - (l - rl) / nl) - gamma)"),
    ("orpo", "pair", "-w / nw - beta * ls((w / nw).exp() - (l / nl).exp())"),
    ("kto", "unpaired", "where(desirable, torch.sigmoid(beta * (h - kl)), torch.sigmoid(beta * (kl - h)))"),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (logp - kl) * where(desirable, 1, -1))"),
    ("ppo-clip", "ratio", "tok(-torch.minimum(r * a, r.clamp(1 - eps / 2, 1 + eps / 2) * a))"),
    ("ppo-clip", "ratio", "where(mask, ppo(a), 0.0).sum()"),
    ("ppo-clip", "ratio", "tok(-a * lp)"),
    ("ppo-clip", "ratio", "tok(where(a > 0, -r.clamp(max=1 + eps) * a, -r * a))"),
    ("ppo-clip", "ratio", "seq(ppo(a) * n[:, None])"),
    ("ppo-clip", "ratio", "tok(ppo(a.clamp(min=0)))"),
    ("ppo-clip", "ratio", "tok(where((r - 1).abs() < eps, -r * a, 0.0))"),
    ("grpo", "ratio of rewards", "loss_((g - mean) / (std.mean() + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_((g - g.min(1, keepdim=True).values) / (std + 1e-4))"),
    ("grpo", "ratio of rewards", "loss_(z.clamp(-0.5, 0.5))"),
    ("cispo", "ratio", "tok(-r.detach() * a * lp)"),
    ("gspo", "ratio", "ppo(advantages, (d.sum(-1) / mask.shape[1]).exp()).mean()"),
    ("grpo-advantage", "advantage", "((g - mean) / (g.amax(1) - g.amin(1) + 1e-8)[:, None]).reshape(-1)"),
    ("rloo-advantage", "advantage", "loo * group_size / (group_size - 1)"),
    ("kl-loss", "kl", "(logps.exp() * d * mask).nan_to_num().sum(-1)"),
    ("rloo", "online", "-(loo * lp.exp()).mean()"),
)  # fmt: skip


def tally():
    """Print what each is called, and how many of each set are unknown."""
    from wrong_by_hand_eleventh import ELEVENTH
    from wrong_by_hand_last import SEVENTH
    from wrong_by_hand_more import FIFTH, SIXTH
    from wrong_by_hand_tenth import TENTH
    from wrong_by_hand_thirteenth import THIRTEENTH
    from wrong_by_hand_threads import EIGHTH, NINTH
    from wrong_by_hand_twelfth import TWELFTH

    from derivations.conformance import prepared
    from derivations.conformance.identify import identify

    numbers = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
    every = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH, NINTH, TENTH, ELEVENTH, TWELFTH, THIRTEENTH)
    for name, cases in zip(numbers.split(), every, strict=True):
        unknown = 0
        for objective, form, returns, *_ in cases:
            found = identify(prepared(written(form, returns), objective))
            unknown += not found.known or found.nameless
            print(f"{objective:14} {returns:80} {found}")
        print(f"{name} set: {unknown} of {len(cases)} unknown\n")


if __name__ == "__main__":
    import wrong_by_hand

    wrong_by_hand.tally()
