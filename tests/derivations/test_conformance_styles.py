"""Correct losses written in other ways, and NumPy ones: none of them may raise a false alarm."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="most losses on trial here are written in torch")
F = torch.nn.functional

from derivations.conformance import conform  # noqa: E402
from derivations.conformance.backends import WIDE  # noqa: E402
from tests.helpers.float32 import INSIDE, ONLY, OUTSIDE, computed_in  # noqa: E402

TWO = pytest.mark.parametrize("precision", ["float64", ONLY])
FOUR = pytest.mark.parametrize("precision", ["float64", ONLY, INSIDE, OUTSIDE])


def broken(function, name, precision="float64", **options):
    return {trial.law.id for trial in conform(computed_in(function, precision), name, options=options or None).broken}


# ---------------------------------------------------------------- NumPy


def float32(*arrays):
    return (np.asarray(array, dtype=np.float32) for array in arrays)


def numpy_dpo(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
    w, l, rw, rl = float32(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp)
    return np.logaddexp(np.float32(0), -np.float32(beta) * (w - l - rw + rl))


def numpy_simpo(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
    sides = ((chosen_logps, chosen_mask), (rejected_logps, rejected_mask))
    w, l = (np.where(m, x, 0).astype(np.float32).sum(-1) / m.sum(-1).astype(np.float32) for x, m in sides)
    return np.logaddexp(np.float32(0), np.float32(gamma) - np.float32(beta) * (w - l)).mean()


@pytest.mark.parametrize(("function", "name"), [(numpy_dpo, "dpo"), (numpy_simpo, "simpo")])
def test_a_numpy_loss_that_computes_in_float32_conforms_and_is_named(function, name):
    outcome = conform(function, name)
    assert outcome.broken == []
    assert outcome.subject.backend.step == WIDE
    assert str(outcome.identity).startswith(f"{name} as named")


def test_wrong_numpy_losses_in_float32_are_still_seen():
    def doubled(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
        return numpy_dpo(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, 2 * beta)

    def overflows(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
        w, l, rw, rl = float32(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp)
        return -np.log(1 / (1 + np.exp(-np.float32(beta) * (w - l - rw + rl))))

    outcome = conform(doubled, "dpo")
    assert {"value", "gradient"} <= {trial.law.id for trial in outcome.broken}
    assert str(outcome.identity) == "DPO with 2 beta"
    assert broken(overflows, "dpo") == {"extremes"}


def test_a_loop_over_numbers_that_torch_tensors_pass_through_is_tried_in_numpy():
    """float() takes a tensor as well, but what comes back has no gradient."""

    def loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, alpha=1.0):
        found = []
        for w, l, m, n in zip(chosen_logps, rejected_logps, chosen_mask, rejected_mask, strict=True):
            total = sum(float(x) for x, kept in zip(w, m, strict=True) if kept)
            total -= sum(float(x) for x, kept in zip(l, n, strict=True) if kept)
            found.append(np.logaddexp(0.0, -alpha * total))
        return np.array(found)

    outcome = conform(loss, "maxent")
    assert outcome.subject.backend.name == "numpy"
    assert outcome.broken == []


def test_a_torch_loss_that_hands_back_a_number_is_no_numpy_loss():
    def loss(chosen_logp, rejected_logp, alpha=1.0):
        return F.softplus(-alpha * (chosen_logp - rejected_logp)).mean().item()

    outcome = conform(loss, "maxent")
    assert outcome.subject.backend.name == "torch"
    assert "gradient" in {trial.law.id for trial in outcome.broken}


@TWO
def test_a_module_is_asked_for_the_signature_of_its_forward(precision):
    class Loss(torch.nn.Module):
        def forward(self, chosen_logp, rejected_logp, alpha=1.0):
            return F.softplus(-alpha * (chosen_logp - rejected_logp))

    assert broken(Loss(), "maxent", precision) == set()


# ---------------------------------------------------------------- groups of samples


def summed(logps, mask):
    return torch.where(mask, logps, 0.0).sum(-1)


@TWO
def test_code_that_reshapes_by_the_size_of_a_group_conforms(precision):
    def found_in_the_batch(logps, mask, rewards, group):
        k = int((group == group[0]).sum())
        rows = rewards.view(-1, k)
        return -(((rows - rows.mean(1, keepdim=True)) * k / (k - 1)).flatten() * summed(logps, mask)).mean()

    def as_an_argument(logps, mask, rewards, num_generations):
        rows = rewards.view(-1, num_generations)
        others = (rows.sum(1, keepdim=True) - rows) / (num_generations - 1)
        return -((rows - others).flatten() * summed(logps, mask)).mean()

    assert broken(found_in_the_batch, "rloo", precision) == set()
    outcome = conform(computed_in(as_an_argument, precision), "rloo", mapping={"num_generations": "group_size"})
    assert outcome.broken == []
    assert str(outcome.identity) == "rloo as named"


@TWO
def test_code_that_numbers_prompts_from_0_conforms(precision):
    def loss(logps, mask, rewards, group):
        prompts = len(group.unique())
        totals = torch.zeros(prompts, dtype=rewards.dtype).index_add(0, group, rewards)
        k = torch.bincount(group)[group]
        return -((rewards - (totals[group] - rewards) / (k - 1)) * summed(logps, mask)).mean()

    assert broken(loss, "rloo", precision) == set()


@TWO
def test_ratios_to_the_policy_itself_are_policy_gradients(precision):
    def loss(logps, mask, rewards, group):
        same = (group[:, None] == group).to(rewards.dtype)
        advantage = (rewards - (same @ rewards - rewards) / (same.sum(-1) - 1))[:, None]
        logps = torch.where(mask, logps, 0.0)
        ratio = torch.exp(logps - logps.detach())
        return -torch.where(mask, torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage), 0.0).sum(-1).mean()

    outcome = conform(computed_in(loss, precision), "rloo")
    assert outcome.broken == []
    assert str(outcome.identity) == "rloo as named"


@TWO
@pytest.mark.parametrize(("weight", "named"), [("mask.sum(-1)", False), ("1", True)])
def test_a_clipped_ratio_to_the_old_policy_with_given_advantages_is_tried_as_it_stands(weight, named, precision):
    names = {"torch": torch}
    exec(  # noqa: S102
        "def loss(logps, old_logps, advantages, mask, clip=0.2):\n"
        "    difference = torch.where(mask, logps - old_logps, 0.0)\n"
        "    ratio, a = torch.exp(difference), advantages[:, None]\n"
        "    tokens = -torch.min(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)\n"
        f"    return (torch.where(mask, tokens, 0.0).sum(-1) / {weight}).mean()\n",
        names,
    )
    outcome = conform(computed_in(names["loss"], precision), "rloo")
    assert outcome.ok == named
    words = "rloo as named" if named else "policy gradient with leave-one-out, log-probs averaged over tokens"
    assert str(outcome.identity) == words


# ---------------------------------------------------------------- estimators and options


K2 = "kl-loss as named"


@FOUR
@pytest.mark.parametrize(
    "estimate",
    [
        lambda d, l: torch.expm1(d).detach() - d.detach() - (d**2 / 2).detach() + d**2 / 2,  # k3 shown, k2 trained
        lambda d, l: -d.detach() * l,
        lambda d, l: torch.exp(l - l.detach()) * (torch.expm1(d) - d),  # k3 with its importance weight
    ],
)
def test_estimators_with_the_gradient_of_k2_conform_and_are_named_by_it(estimate, precision):
    def loss(logps, ref_logps, mask):
        total = summed(logps, mask)
        return estimate(summed(ref_logps, mask) - total, total).mean()

    outcome = conform(computed_in(loss, precision), "kl-loss")
    assert outcome.broken == []
    assert str(outcome.identity) == K2


@FOUR
@pytest.mark.parametrize("top", [1, 2])
def test_the_first_places_of_a_ranking_may_be_one_or_two(top, precision):
    def loss(logp, ref_logp, ranking, beta=0.2, top=2):
        s = (beta * (logp - ref_logp)).gather(1, ranking)
        return sum(s[:, k:].logsumexp(1) - s[:, k] for k in range(top)).mean()

    def all_places(logp, ref_logp, ranking, beta=0.2, top=2):
        return loss(logp, ref_logp, ranking, beta, ranking.shape[1] - 1)

    assert broken(loss, "dpo-pl", precision, top=top) == set()
    outcome = conform(computed_in(all_places, precision), "dpo-pl", options={"top": top})
    assert "value" in {trial.law.id for trial in outcome.broken}
    assert str(outcome.identity) == "dpo-pl of all places"
