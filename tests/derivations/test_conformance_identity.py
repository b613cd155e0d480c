"""What `conform` says a loss is: exact or silent."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.conformance import conform  # noqa: E402
from derivations.conformance.planted_bugs import BUGS  # noqa: E402


def pair_loss_of(expression):
    """A loss of summed log-probs cw, cl, lengths nw, nl and references rw, rl."""
    source = f"""
def loss(chosen_logp, rejected_logp, chosen_length, rejected_length, ref_chosen_logp, ref_rejected_logp, beta, gamma):
    cw, cl, nw, nl, rw, rl = (
        chosen_logp, rejected_logp, chosen_length, rejected_length, ref_chosen_logp, ref_rejected_logp)
    return {expression}
"""
    names = {"torch": torch, "ls": torch.nn.functional.logsigmoid}
    exec(source, names)  # noqa: S102
    return names["loss"]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("-ls(beta * (cw / nw - cl / nl) - gamma)", "simpo as named (gamma/beta = 0.25 nats a token)"),
        ("-ls(beta * (cw / nw - cl / nl - gamma))", "SimPO, gamma read as gamma/beta, or SimPO, gamma doubled"),
        ("-ls(beta * (cw / nw - cl / nl))", "SimPO, gamma left out"),
        ("-cw / nw", "NLL of the chosen response (mean over tokens)"),
        ("0.5 + 0 * cw", "0.5 x a constant"),
        ("-ls(2 * beta * (cw / nw - cl / nl) - gamma)", "SimPO with 2 beta"),
        ("-ls(beta * (cw - rw - cl + rl))", "DPO, gamma left out"),
        ("-ls(beta * (cw - cl))", "MaxEnt (CPO's contrastive part), gamma left out"),
        ("(cw - rw - cl + rl - 1 / (2 * beta)) ** 2", "IPO, gamma left out"),
        ("-ls(beta * (cl / nl - cw / nw) - gamma)", "SimPO, chosen and rejected swapped"),
        (
            "-ls(beta * (cw / nw - cl / nl) - gamma) - 0.2 * cw / nw",
            "simpo as named (gamma/beta = 0.25 nats a token) + 0.2 x NLL of the chosen response (mean over tokens)",
        ),
        (
            "-3 * ls(beta * (cw / nw - cl / nl) - gamma)",
            "simpo (gamma/beta = 0.25 nats a token), times 3 (a constant factor)",
        ),
        (
            "-ls(beta * (cw / nw - cl / nl) - gamma).sum()",
            "simpo as named (gamma/beta = 0.25 nats a token); summed over the batch, not averaged",
        ),
    ],
)
def test_a_known_loss_is_named_with_its_reading_of_the_options_and_its_extra_terms(expression, says):
    outcome = conform(pair_loss_of(expression), "simpo", options={"beta": 2.0, "gamma": 0.5})
    assert str(outcome.identity) == says
    assert outcome.ok == (says.startswith("simpo as named") and says.endswith("a token)"))


@pytest.mark.parametrize(
    "expression",
    [
        "-ls(beta * (cw / nw - cl / nl) - gamma) * (2 + torch.cos(cw * cl))",
        "-ls(beta * (cw / nw - cl / nl) - gamma) * (cw / nw).exp()",  # reweighted, and the weight has a gradient
        "-ls(beta * (cw / nw - cl / nl) - gamma + 0.1 * torch.sin(cw * cl))",
    ],
)
def test_a_loss_that_is_no_sum_of_known_terms_is_unknown_and_not_guessed_at(expression):
    outcome = conform(pair_loss_of(expression), "simpo", options={"beta": 2.0, "gamma": 0.5})
    assert not outcome.ok
    assert not outcome.identity.known
    assert str(outcome.identity).startswith("unknown")


def test_a_reading_that_has_no_name_is_printed_as_a_formula():
    loss = pair_loss_of("-ls(3 * beta * (cw / nw - cl / nl) - gamma)")
    outcome = conform(loss, "simpo", options={"beta": 2.0, "gamma": 0.5})
    assert str(outcome.identity) == (
        "-log sigmoid(6 log pi(w)/|w| - 6 log pi(l)/|l| - 0.5) (against simpo: its log-probs count 3 times as much)"
    )


@pytest.mark.parametrize(
    ("pain", "says"),
    [
        ("ranking split into pairs", "on all pairs of the ranking"),
        ("own reward in the baseline", "the sample's own included"),
        ("log-probs averaged over tokens in the policy gradient", "leave-one-out, log-probs averaged over tokens"),
        ("not divided by the deviation", "reward minus the group's mean"),
        ("k3 differentiated: the other KL", "k3 of whole responses"),
        ("token by token: prefixes lack their term", "k2 summed over tokens"),
        ("entropy as the mean of -log pi, differentiated", "no gradient in expectation"),
        ("token entropies for the sequence's", "entropy of the token distributions, summed over tokens"),
        ("NLL of the chosen response kept", "+ NLL of the chosen response (mean over tokens)"),
        ("IPO of averaged log-probs", "IPO of length-averaged log-probs"),
    ],
)
def test_planted_bugs_of_every_family_are_recognized_for_what_they_are(pain, says):
    (bug,) = [bug for bug in BUGS if bug.pain == pain]
    assert says in str(conform(bug.function, bug.objective, options=bug.options).identity)


@pytest.mark.parametrize(
    ("returns", "says"),
    [
        ("eps * a + (1 - eps) * b", "0.1 x DPO + 0.9 x DPO, chosen and rejected swapped"),
        ("a + eps * b", "DPO + 0.1 x DPO, chosen and rejected swapped"),
        ("((1 - eps) * a - eps * b) / (1 - 2 * eps)", "1.125 x DPO + -0.125 x DPO, chosen and rejected swapped"),
    ],
)
def test_a_label_smoothed_in_another_way_is_a_sum_of_the_pair_and_its_swap(returns, says):
    def loss(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1, label_smoothing=0.1):
        m = beta * (chosen_logp - rejected_logp - ref_chosen_logp + ref_rejected_logp)
        names = {"a": torch.nn.functional.softplus(-m), "b": torch.nn.functional.softplus(m), "eps": label_smoothing}
        return eval(returns, names)  # noqa: S307

    outcome = conform(loss, "cdpo")
    assert not outcome.ok
    assert str(outcome.identity) == says


GROUP_MEAN = "reward minus the group's mean, the sample's own included"


@pytest.mark.parametrize(
    ("returns", "says"),
    [
        ("-(a * logp).mean() / 2", "rloo, times 0.5 (a constant factor)"),
        ("(a * logp).mean()", "rloo, with the wrong sign"),
        ("-(a * logp).sum()", "policy gradient with leave-one-out, summed over samples"),
        (
            "-(a * logp).sum() / mask.sum()",
            "policy gradient with leave-one-out, averaged over all tokens of the batch",
        ),
        ("-(own * logp).mean() / 128", f"0.0078125 x policy gradient with {GROUP_MEAN}"),
    ],
)
def test_reductions_of_policy_gradients_are_named(returns, says):
    def loss(logps, mask, rewards, group):
        same = (group[:, None] == group).to(rewards.dtype)
        k, total = same.sum(-1), same @ rewards
        logp = torch.where(mask, logps, 0.0).sum(-1)
        names = {"a": rewards - (total - rewards) / (k - 1), "own": rewards - total / k, "logp": logp, "mask": mask}
        return eval(returns, names)  # noqa: S307

    outcome = conform(loss, "rloo")
    assert not outcome.ok
    assert str(outcome.identity) == says


def test_an_unusual_estimator_that_conforms_is_not_called_unknown():
    """Entropy of the tokens still to come, as a reward for the ones before: exact in expectation."""
    from derivations.conformance.report import FORMATS

    def loss(logits, logps, mask, coefficient=0.1):
        h = torch.where(mask, -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1), 0.0)
        later = (h.flip(-1).cumsum(-1).flip(-1) - h).detach()
        return -coefficient * (h + later * torch.where(mask, logps, 0.0)).sum(-1).mean()

    outcome = conform(loss, "entropy-sequence")
    assert outcome.ok
    assert "entropy-sequence, by an estimator that is none of the usual ones" in FORMATS["text"](outcome, "here:f")
