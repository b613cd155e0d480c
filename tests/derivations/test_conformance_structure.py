"""What a wrong loss is made of: structures found on a grid and checked on pairs that were not on it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

import wrong_by_hand_more  # noqa: E402, F401 (its forms)
from wrong_by_hand import written  # noqa: E402

from derivations.conformance import prepared  # noqa: E402
from derivations.conformance.identify import identify  # noqa: E402
from derivations.conformance.lengths import of_lengths  # noqa: E402
from derivations.conformance.one_sided import part_of  # noqa: E402

NAMED = [
    ("dpo", "pair", "-ls(beta * (w - rw) * (l - rl))", "0.1 x (log pi(w) - log ref(w)) x (log pi(l) - log ref(l))"),
    ("dpo", "pair", "-ls(beta * m) * (nw >= nl)", "dpo as named, times 1 where |w| >= |l|"),
    ("dpo", "pair", "-ls(beta * (m - m.mean().detach()))", "in a batch the mean margin is taken from every margin"),
    ("dpo", "pair", "-ls(beta * (w - rw) - beta * 2 * (l - rl))", "log pi(l) has the factor -0.2, not -0.1"),
    ("r-dpo", "length-regularized", "-ls(beta * m - alpha * (nw / nl))", "the constant is -0.05 |w|/|l|, not"),
    ("simpo", "margin", "-ls(beta * (w / nw**0.5 - l / nl**0.5) - gamma)", "factor 2/sqrt|w|, not 2/|w|"),
    ("simpo", "margin", "-ls(beta * ((w / nw).exp() - (l / nl).exp()) - gamma)", "2 exp(log pi(w)/|w|)"),
    ("ipo", "pair", "(w - l - 1 / (2 * beta)) ** 2", "(log pi(w) - log pi(l) - 5)^2"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt)[:, 1:].sum(-1) - (lt - rlt)[:, 1:].sum(-1)))", "number 1 left out"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(-beta * h))",
     "undesirable: sigmoid(0.1 log pi - 0.1 log ref), which should be sigmoid(0.1 log pi - 0.1 log ref - 0.1 kl)"),
    ("ppo-clip", "ratio", "tok(ppo(a) + 0.1 * (r - 1 - d))", "PPO's clip; averaged over all tokens; plus 0.1 x k3"),
    ("ppo-clip", "ratio", "tok(-clip(r).detach() * a * r)",
     "by the ratio r: 0.8 x r up to 0.8, r^2 up to 1.2, then 1.2 x r"),
    ("kl-loss", "kl", "(d.exp() * d - d.exp() + 1).sum(-1)", "summed over tokens"),
    ("entropy-token", "entropy", "-coefficient * where(mask, 1 - (p * p).sum(-1), 0.0).sum(-1) / n",
     "the sum of squared probabilities - 1, averaged over tokens"),
    # what a batch does to what single examples show
    ("dpo", "pair", "-torch.log_softmax(beta * m, 0)", "-log of the softmax over the batch of 0.1 x the margin"),
    ("dpo", "pair", "1 - torch.sigmoid(beta * (w - rw - (l - rl).mean().clamp(min=0)))",
     "; but in a batch every rejected score is the mean of the rejected scores"),
    ("dpo", "pair", "-ls(beta * m) * nw / nw.sum()", "dpo as named; weighed by the length of the chosen response"),
    ("dpo", "pair", "-(w - l)", "- log pi(w) + log pi(l)"),
    ("wpo", "pair", "-ls(beta * m) * (w / nw + l / nl).exp()", "a gradient flows through what wpo holds constant"),
    ("kto", "unpaired", "1 - torch.sigmoid(beta * (h - h.mean()) * where(desirable, 1, -1))",
     "kto as named, but in a batch the reference point is the batch's mean log-ratio, and a gradient flows through"),
    ("kto", "unpaired", "where(desirable, -ls(beta * (h - h.mean().clamp(min=0))), "
     "-ls(beta * (h.mean().clamp(min=0) - h)))",
     "the reference point is the batch's mean log-ratio, not below 0"),
    ("kl-loss", "kl", "((-d).exp() + d + 1).sum(-1)", "exp(-(log pi - log ref)) + 1, summed over tokens"),
    ("entropy-token", "entropy", "(logits.softmax(1) * logits.log_softmax(1)).sum(-1).sum(-1) / n",
     "where the softmax runs over the tokens, not over the vocabulary"),
    ("dpo", "tokens", "-ls(beta * ((wt - rwt).mean(-1) - (lt - rlt).mean(-1)))",
     "in a batch log-probs are divided by the padded width on their side, not by their own length"),
    ("dpo", "tokens", "-ls(beta * ((chosen_logps - rwt).sum(-1) - (rejected_logps - rlt).sum(-1)))",
     "dpo as named, but in a batch the padding counts in the log-probs of the policy"),
    ("dpo", "pair", "(lambda d: -ls(beta * (w - rw) - d) - ls(d - beta * (l - rl)))"
     "(beta * (w - rw + l - rl).mean().detach() / 2)",
     "-log sigmoid of each response's reward alone, summed, but in a batch every score is less the mean of all scores "
     "of the batch; its gradient in a batch is not that of its value"),
    ("ipo", "pair", "(torch.sort(w - l)[0] - torch.sort(rw - rl)[0] - 1 / (2 * beta)) ** 2",
     "in a batch the margins of policy and reference are sorted apart, then subtracted"),
    ("dpo", "pair", "-ls(beta * m) + (lambda v: v - v.detach())(m.var(correction=0))", "as named; its gradient in a"),
    ("dpo", "pair", "-ls(beta * m) - 0.3 * w.sum() / nw.sum()", "the NLL is averaged over all tokens of a batch"),
    ("dpo", "pair", "-ls(beta * m) - 0.3 * w / nw.sum()", "the NLL is divided by all tokens of a batch and by the num"),
    ("orpo", "pair", "-(w + l) / (nw + nl) - beta * ls(w / nw - l / nl - torch.log1p(-(w / nw).exp()) + "
     "torch.log1p(-(l / nl).exp()))", "ORPO's odds ratio, without the NLL - log pi(w)/(|w| + |l|) - log pi(l)/(|w| +"),
    ("kto", "unpaired", "where(desirable, 1 - torch.sigmoid(beta * (h - kl)), 1 - torch.sigmoid(beta * (kl - h))).sum()"
     " / desirable.sum()", "kto as named; summed and divided by the number of desirable ones"),
    ("dpo", "tokens", "-ls(beta * m) - 0.1 * wt.mean()", "the NLL is averaged over all places of the padded batch"),
    ("kl-loss-token", "kl", "(d.exp() - 1).mean(-1)", "averaged over tokens; divided by the padded width, not by the"),
    ("entropy-token", "entropy", "coefficient * (p * q).sum(-1).mean(-1)", "changes its losses, by what stands under"),
    ("rloo-advantage", "advantage", "loo.view(-1, group_size).T.reshape(-1)", "leave-one-out, handed back place by"),
    ("kl-loss-token", "kl", "((logps - ref_logps) ** 2 / 2).mean(-1)", "padding changes its losses, by what stands"),
    ("entropy-token", "entropy", "coefficient * where(mask, (p.detach() * q).sum(-1), 0.0).sum(-1) / n",
     "averaged over tokens; no gradient"),
    ("gspo", "ratio", "seq(ppo(a, (d.sum(-1, keepdim=True) / mask.sum()).exp() * torch.ones_like(d)))",
     "is the response's ratio over all tokens of the batch in the clip"),
    ("grpo-advantage", "advantage", "(rewards - mean.reshape(-1).repeat(group_size)) / "
     "(std.reshape(-1).repeat(group_size) + 1e-4)", "of the prompts in turn, not of its own"),
    ("grpo-advantage", "advantage", "((g - mean) / (g.amax(1, keepdim=True) - g.amin(1, keepdim=True) + 1e-6))"
     ".reshape(-1)", "reward minus the group's mean, over the range + 1e-06"),
    ("grpo-advantage", "advantage", "((t := rewards.view(group_size, -1)) - t.mean(0))"
     ".div(t.std(0) + 1e-4).reshape(-1)",
     "in groups of samples that stand as many places apart as there are prompts"),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "form", "returns", "says"), NAMED)
def test_a_deviation_is_said_with_the_input_it_is_in(objective, form, returns, says):
    assert says in str(identify(prepared(written(form, returns), objective)))


def test_what_fresh_pairs_do_not_bear_out_is_not_said():
    returns = "-ls(beta * m + 0.1 * torch.sin(3 * w * l))"  # no sum of parts, no product, no function of one score
    assert str(identify(prepared(written("pair", returns), "dpo"))).startswith("unknown")


def test_numbers_that_depend_on_lengths_and_parts_of_one_response_are_found_only_if_they_are_exact():
    rng = np.random.default_rng(0)
    w, l = np.array([1.0, 2, 3, 1, 4, 2]), np.array([1.0, 3, 1, 4, 2, 2])
    assert of_lengths(0.3 / np.maximum(w, l), w, l, 1e-9)[0] == "0.3/max(|w|, |l|)"
    assert of_lengths(0.3 / np.maximum(w, l) + 1e-6 * rng.normal(size=6), w, l, 1e-9) is None
    s, r, n = -rng.uniform(0.2, 3, 24), -rng.uniform(0.2, 3, 24), np.repeat([1.0, 2, 3, 4], 6)
    values = 0.5 * (s - r - 2) ** 2 + n  # a constant for each length is free
    assert part_of(values, s, r, n, (0.1,), 1e-8).words == "0.5 (log pi - log ref - 2)^2"
    assert part_of(values + 1e-4 * rng.normal(size=24), s, r, n, (0.1,), 1e-8) is None
