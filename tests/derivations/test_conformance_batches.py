"""Losses that are wrong only in large batches, long responses, big groups, or when something multiplies them."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")
F = torch.nn.functional

from derivations.conformance import conform  # noqa: E402


def broken(function, name, **options):
    return {trial.law.id for trial in conform(function, name, options=options or None).broken}


def dpo(reduce=torch.mean, margin=lambda m: -F.logsigmoid(m)):
    """DPO with another reduction of its losses, or another loss of its margins."""

    def loss(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
        return reduce(margin(beta * (chosen_logp - rejected_logp - ref_chosen_logp + ref_rejected_logp)))

    return loss


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("chunk", [2, 4, 8, 16])
def test_the_mean_of_the_means_of_chunks_is_seen_and_their_sum_over_the_number_of_pairs_conforms(chunk):
    def mean_of_means(losses):
        return torch.stack([part.mean() for part in losses.split(chunk)]).mean()

    def remainder_dropped(losses):
        return losses[: max(len(losses) // chunk, 1) * chunk].mean()

    def right(losses):
        return sum(part.sum() for part in losses.split(chunk)) / len(losses)

    assert "partition" in broken(dpo(mean_of_means), "dpo")
    assert "partition" in broken(dpo(remainder_dropped), "dpo")
    assert broken(dpo(right), "dpo") == set()


@pytest.mark.parametrize("reduced", ["(torch.expm1(-d) + d).sum()", "(torch.expm1(-d) + d).sum() / mask.sum() * 3"])
def test_a_metric_without_gradient_is_held_to_the_partition_by_its_value(reduced):
    names = {"torch": torch}
    exec(  # noqa: S102
        "def loss(logps, ref_logps, mask):\n    d = torch.where(mask, logps - ref_logps, 0.0).detach()\n"
        f"    return {reduced}\n",
        names,
    )
    assert "partition" in broken(names["loss"], "kl-metric")


@pytest.mark.parametrize("denominator", ["(a != 0).sum()", "len(a)"])
def test_samples_without_an_advantage_belong_to_the_mean(denominator):
    names = {"torch": torch}
    exec(  # noqa: S102
        "def loss(logp, rewards, group):\n    same = (group[:, None] == group).to(rewards.dtype)\n"
        "    a = rewards - (same @ rewards - rewards) / (same.sum(-1) - 1)\n"
        "    a = torch.where(a.abs() < 1e-12, 0.0, a)\n"
        f"    return -(a * logp).sum() / max({denominator}, 1)\n",
        names,
    )
    assert broken(names["loss"], "rloo") == (set() if denominator == "len(a)" else {"partition", "unequal-groups"})


def test_one_mean_for_all_samples_is_no_penalty_and_no_advantage():
    def penalty(logp, ref_logp):
        return (logp - ref_logp).detach().mean()

    outcome = conform(penalty, "kl-reward")
    assert any("one value a sample" in trial.verdict.found for trial in outcome.broken)


# ---------------------------------------------------------------- the backward pass


class Frozen(torch.autograd.Function):
    """-log sigmoid, whose backward pass forgets what came from above, or averages it."""

    @staticmethod
    def forward(ctx, margin, forget):
        ctx.save_for_backward(margin)
        ctx.forget = forget
        return -F.logsigmoid(margin).mean() if forget else -F.logsigmoid(margin)

    @staticmethod
    def backward(ctx, above):
        (margin,) = ctx.saved_tensors
        slope = -torch.sigmoid(-margin)
        return (slope / len(margin) if ctx.forget else slope * above.mean()), None


@pytest.mark.parametrize("forget", [True, False])
def test_a_backward_pass_that_ignores_or_averages_what_comes_from_above_is_seen(forget):
    assert broken(dpo(lambda x: x, lambda m: Frozen.apply(m, forget)), "dpo") == {"upstream"}


# ---------------------------------------------------------------- long responses


@pytest.mark.parametrize("limit", [64, 512, 2048])
def test_a_limit_on_the_number_of_tokens_is_seen_in_every_family(limit):
    def simpo(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
        sides = ((chosen_logps[:, :limit], chosen_mask[:, :limit]), (rejected_logps, rejected_mask))
        w, l = (torch.where(m, x, 0.0).sum(-1) / m.sum(-1) for x, m in sides)
        return -F.logsigmoid(beta * (w - l) - gamma)

    def kl(logps, ref_logps, mask):
        return torch.where(mask, logps - ref_logps, 0.0)[:, :limit].sum(-1).detach()

    def entropy(logits, mask, coefficient=0.1):
        logits, mask = logits[:, :limit], mask[:, :limit]
        tokens = torch.where(mask, -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1), 0.0)
        return -coefficient * tokens.sum(-1) / mask.sum(-1)

    for loss, name in ((simpo, "simpo"), (kl, "kl-reward"), (entropy, "entropy-token")):
        assert "every-token" in broken(loss, name), name


# ---------------------------------------------------------------- margins, groups, vocabularies


@pytest.mark.parametrize("won", [3.0, 5.0])
def test_pairs_left_out_because_they_are_won_are_seen(won):
    def skipping(margin):
        return torch.where(margin > won, 0.0, -F.logsigmoid(margin))

    assert "extremes" in broken(dpo(margin=skipping), "dpo")


def test_a_softplus_that_turns_linear_too_early_is_seen():
    assert broken(dpo(margin=lambda m: F.softplus(-m, threshold=5)), "dpo") == {"extremes"}
    assert broken(dpo(margin=lambda m: F.softplus(-m)), "dpo") == set()


@pytest.mark.parametrize("limit", [2.0, 5.0, 10.0])
def test_a_clip_of_standardized_advantages_is_seen(limit):
    """One outlier of 128 rewards is 11 deviations away; of four rewards none can be."""

    def advantages(rewards, group):
        found = torch.zeros_like(rewards)
        for prompt in group.unique():
            own = rewards[group == prompt]
            found[group == prompt] = (own - own.mean()) / (own.std() + 1e-4)
        return found

    assert broken(lambda rewards, group: advantages(rewards, group).clamp(-limit, limit), "grpo-advantage") == {
        "standardized"
    }
    assert broken(advantages, "grpo-advantage") == set()


@pytest.mark.parametrize("size", ["k[0]", "k.max()"])
def test_groups_of_unequal_size_are_each_treated_for_themselves_or_refused(size):
    names = {"torch": torch}
    exec(  # noqa: S102
        "def shared(rewards, group):\n    k = torch.bincount(group)\n"
        "    means = torch.zeros(len(k), dtype=rewards.dtype).index_add(0, group, rewards) / k\n"
        f"    return (rewards - means[group]) * {size} / ({size} - 1)\n"
        "def loss(logp, rewards, group): return -shared(rewards, group) * logp\n",
        names,
    )
    assert broken(names["shared"], "rloo-advantage") == {"unequal-groups"}
    assert broken(names["loss"], "rloo") == {"unequal-groups"}


def test_an_entropy_of_the_likeliest_tokens_alone_is_seen():
    def loss(logits, mask, coefficient=0.1):
        logits = logits.topk(min(20, logits.shape[-1])).values
        tokens = torch.where(mask, -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1), 0.0)
        return -coefficient * tokens.sum(-1) / mask.sum(-1)

    assert {"value", "gradient"} <= broken(loss, "entropy-token")
