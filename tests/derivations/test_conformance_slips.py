"""Everyday slips by kind: names that hold far from the examples, for other reference points, advantages and ratios."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

import wrong_by_hand_more  # noqa: E402, F401 (its forms)
from wrong_by_hand import FORMS, written  # noqa: E402

from derivations.conformance import prepared  # noqa: E402
from derivations.conformance.identify import identify  # noqa: E402

FORMS |= {
    "ranking": (
        "logp, ref_logp, ranking, beta=0.1",
        "    s = (beta * (logp - ref_logp)).gather(1, ranking)\n    k = s.shape[1]\n",
    ),
    "two bounds": (FORMS["ratio"][0] + ", eps_high=0.28", FORMS["ratio"][1]),
}

SLIPS = [
    # a bound that the examples do not reach
    ("dpo", "pair", "-ls(beta * m.clamp(max=10))", "log ref(l)), not below 0.313262"),
    ("dpo", "pair", "F.softplus(-beta * m) - F.softplus(beta * m)", "-0.1 log pi(w) + 0.1 log pi(l) + 0.1 log ref(w)"),
    ("slic", "pair", "1 - beta * m", "-0.1 log pi(w) + 0.1 log pi(l) + 0.1 log ref(w) - 0.1 log ref(l) + 1"),
    ("ipo", "pair", "(m - 1 / (2 * beta)).relu() ** 2", "- 5)^2, not below 0"),
    ("kl-loss-token", "kl", "((-d).exp() - 1 + d).clamp(max=10).sum(-1)", "k3 of the log-ratio, not above 10, summed"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl).clamp(-20, 20)), "
     "1 - torch.sigmoid(beta * (kl - h)))", "as it should be but where log pi - log ref is -31.7"),
    # another reference point, advantages as given, ratios between the bounds
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(beta * (kl - h))) + kl",
     "desirable: kl + sigmoid(-0.1 log pi + 0.1 log ref + 0.1 kl), which should be sigmoid("),
    ("kto", "unpaired", "1 - torch.sigmoid(where(desirable, beta * (h - kl), beta * (kl - h.detach())))",
     "undesirable: sigmoid(0.1 log pi - 0.1 log ref - 0.1 kl), as it should be, but without a gradient"),
    ("ppo-clip", "ratio", "tok(ppo(a - a.mean()))", "PPO's clip; the advantage centred once more over the batch"),
    ("ppo-clip", "two bounds", "tok(-torch.minimum(r * a, r.clamp(1 - eps_high, 1 + eps) * a))", "bounds exchanged"),
    ("ppo-clip", "ratio", "tok(ppo(a, d))", "PPO's clip of the log-ratio taken for the ratio"),
    # what only batches without padding show; squares with their constants
    ("dpo", "tokens", "-ls(beta * ((wt - rwt)[:, :-1].sum(-1) - (lt - rlt)[:, :-1].sum(-1)))",
     "dpo as named where padding follows every response, but without padding"),
    ("sppo", "pair", "(w - rw - 0.5 / beta) ** 2 + (l - rl - 0.5 / beta) ** 2",
     "log ref(l) - 5)^2 (against sppo: the rejected response's part is"),
    # functions of one score, detached weights, parts that are not the objective's
    ("dpo", "pair", "-ls(beta * torch.tanh(m))", "-log sigmoid(0.1 tanh(x)), where x is DPO's margin"),
    ("dpo", "pair", "-ls(beta * m) * torch.sigmoid(-beta * m).detach()", "dpo as named, each pair times a detached "
     "weight: sigmoid(-0.1 x) for x = the margin of log pi - log ref"),
    ("dpop", "penalized", "-ls(beta * (m + penalty * torch.relu(rw - w)))", "(against dpop: the chosen response's part "
     "is 0.1 (log pi(w) - log ref(w)) + 0.5 max(0, -(log pi(w) - log ref(w))), not 0.1"),
    ("dpo", "pair", "-ls(beta * m) - beta * m", "+ -1 x the margin inside of its log-sigmoid"),
    ("orpo", "pair", "-w / nw + beta * ls(l / nl - w / nw + torch.log1p(-(w / nw).exp()) - "
     "torch.log1p(-(l / nl).exp()))", "-0.1 x ORPO's odds ratio, without the NLL, chosen and rejected swapped + NLL"),
    ("kl-loss", "kl", "s**2 / 2 / mask.sum(-1)", "0.5 (log pi - log ref)^2, of whole responses, over the length"),
    # completed squares, two terms of which one is nowhere named, hinges of each response
    ("sppo", "pair", "(w - rw - 0.5 / beta) ** 2 + (l - rw + 0.5 / beta) ** 2",
     "(log pi(w) - log ref(w) - 5)^2 + (log pi(l) - log ref(w) + 5)^2 (against sppo, which is"),
    ("ipo", "pair", "((w - rw) / nw - (l - rl) / nl) ** 2 - 1 / (2 * beta)", "log ref(l)/|l|)^2 - 5 (against ipo"),
    ("sppo", "pair", "0.5 * (w - rl - 5) ** 2 + 0.5 * (l - rl + 5) ** 2 - w / nw",
     "0.5 (log pi(w) - log ref(l) - 5)^2 + 0.5 (log pi(l) - log ref(l) + 5)^2 + NLL of the chosen response (mean"),
    ("cdpo", "smoothed", "-(1 - label_smoothing) * ls(beta * m) - label_smoothing * ls(beta * (l - rl - w - rw))",
     "(where cdpo is otherwise: log ref(w) has the factor -0.1, not 0.1) + 0.9 x DPO"),
    ("orpo", "pair", "-w / nw - beta * ls(torch.log1p(-(w / nw).exp()) - torch.log1p(-(l / nl).exp()))",
     "0.1 x -log sigmoid(ln(1 - exp(log pi(w)/|w|)) - ln(1 - exp(log pi(l)/|l|))) (where orpo is otherwise: the"),
    ("slic", "pair", "torch.relu(1 - beta * (w - rw)) + torch.relu(1 + beta * (l - rl))",
     "max(0, -0.1 (log pi(w) - log ref(w)) + 1) + max(0, 0.1 (log pi(l) - log ref(l)) + 1)"),
    # inputs of other rows, tokens under other masks
    ("dpo", "pair", "-ls(beta * (w - rw.roll(1, 0) - l + rl.roll(1, 0)))",
     "but in a batch both references' log-probs are of the pair before"),
    ("simpo", "margin", "-ls(beta * (w / nw - l / nl.roll(1, 0)) - gamma)",
     "the rejected lengths are of the pair before"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt).sum(-1) - where(chosen_mask, rejected_logps - ref_rejected_logps, 0.0)"
     ".sum(-1)))", "dpo as named, but log pi(l) and log ref(l) are under the chosen response's mask"),
    ("dpo", "tokens", "-ls(beta * m) - where(rejected_mask, chosen_logps, 0.0).sum(-1) / rejected_mask.sum(-1)",
     "dpo as named + the NLL of log pi(w) under the rejected response's mask, over the rejected length"),
    ("kl-loss", "kl", "s.mean() ** 2 / 2", "but in a batch the log-ratio of every response is the mean over the batch"),
    ("kl-loss", "kl", "(s - s.mean()) ** 2 / 2",
     "kl-loss as named, but in a batch the log-ratio of every response is less their mean over the batch"),
    # advantages
    ("rloo-advantage", "advantage", "(g - g.roll(1, 1)).reshape(-1)", "of 3 samples of one prompt they are r1 - r3;"),
    ("grpo-advantage", "advantage", "((g - mean) / (g.std(0, keepdim=True) + 1e-4)).reshape(-1)",
     "over the sample deviation over prompts of the samples in its place + 0.0001; not finite for a prompt alone"),
    ("rloo", "online", "-(loo * lp).sum() / group_size", "tokens summed, divided by the number of samples a prompt"),
    ("grpo-advantage", "advantage", "(g - mean / (std + 1e-4)).reshape(-1)",
     "the reward - (the group's mean) / (the group's sample deviation + 0.0001)"),
    ("rloo-advantage", "advantage", "loo - g.max(1, keepdim=True).values.expand_as(g).reshape(-1)",
     "the reward - the mean of the others in its group - the group's best"),
    ("grpo-advantage", "advantage", "((g - mean) / (std * group_size**0.5 + 1e-4)).reshape(-1)",
     "(the reward - the group's mean) / (the group's sample deviation times the root of k + 0.0001)"),
    ("ppo-clip", "ratio", "tok(ppo(a - 0.5 * a.mean()))", "PPO's clip; the advantage - 0.5 x the batch's mean"),
    # ratios from 0.02 to 30
    ("ppo-clip", "ratio", "tok(where(a < 0, torch.maximum(ppo(a), -3.0 * a), ppo(a)))",
     "by the ratio r, for A > 0: r up to 1.2, then 0; for A < 0: 0 up to 3, then r; averaged over all tokens"),
    ("ppo-clip", "ratio", "tok(where(a < 0, torch.minimum(ppo(a), -3.0 * a), ppo(a)))",
     "ppo-clip as named; but far from ratio 1 it is another: a surrogate whose slope by the log-prob, over -A, is by "
     "the ratio r, for A > 0: r up to 1.2, then 0; for A < 0: 0 up to 0.8, r up to 3, then 0; averaged"),
    ("cispo", "ratio", "tok(-clip(d).detach() * a * lp)",
     "0.8 up to 2.2255 (e^0.8), log r up to 3.3201 (e^1.2), then 1.2"),
    ("gspo", "ratio", "seq(-clip((d.sum(-1, keepdim=True) / n[:, None]).exp().expand_as(d), 3e-4, 4e-4) * a)",
     "(r: the response's geometric mean ratio): 0 up to 0.9997, r up to 1.0004, then 0"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), "
     "1 - torch.sigmoid(beta * (kl - h.relu())))",
     "undesirable: sigmoid(0.1 max(0, log pi - log ref) - 0.1 kl), which should be sigmoid(0.1 log pi"),
    # listwise
    ("dpo-pl", "ranking", "sum(s.logsumexp(1) - s[:, i] for i in range(k - 1))", "each place against all responses"),
    ("dpo-pl", "ranking", "sum(s[:, i:].logsumexp(1) - s[:, i] for i in range(1, k - 1))", "without the first place"),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "form", "returns", "says"), SLIPS)
def test_a_slip_is_said_and_what_is_said_holds_beyond_the_examples(objective, form, returns, says):
    assert says in str(identify(prepared(written(form, returns), objective)))
