"""Losses that are wrong only for certain options, masks, sizes or lengths, and correct ones that look odd."""

import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.conformance import conform  # noqa: E402
from tests.helpers.float32 import ONLY, OUTSIDE, computed_in  # noqa: E402

PAIR = "chosen_logps, rejected_logps, chosen_mask, rejected_mask"
SUMS = """
    c, r = where(chosen_mask, chosen_logps, 0.0).sum(-1), where(rejected_mask, rejected_logps, 0.0).sum(-1)
    nc, nr = chosen_mask.sum(-1), rejected_mask.sum(-1)
"""
REFERENCE = """
    rc = where(chosen_mask, ref_chosen_logps, 0.0).sum(-1)
    rr = where(rejected_mask, ref_rejected_logps, 0.0).sum(-1)
"""


def written(parameters, body, returns):
    """A torch loss from its parameters, the lines before its last, and what it returns."""
    names = {"torch": torch, "where": torch.where, "ls": torch.nn.functional.logsigmoid}
    exec(f"def loss({parameters}):\n{body}\n    return {returns}\n", names)  # noqa: S102
    return names["loss"]


def simpo(returns, **defaults):
    """A SimPO-like loss of the summed log-probs c, r and the lengths nc, nr."""
    options = ", ".join(f"{name}={value}" for name, value in defaults.items())
    return written(f"{PAIR}, {options}", SUMS, returns)


def dpo(returns, beta=0.1):
    """A DPO-like loss of the summed log-probs c, r and the references rc, rr."""
    return written(f"{PAIR}, ref_chosen_logps, ref_rejected_logps, beta={beta}", SUMS + REFERENCE, returns)


def broken(function, name, **options):
    return {trial.law.id for trial in conform(function, name, options=options or None).broken}


# ---------------------------------------------------------------- KL


KL = "    d = where(mask, logps - ref_logps, 0.0)"


@pytest.mark.parametrize(
    "returns",
    [
        "d.sum(-1) ** 2 / 2 / mask.sum(-1)",
        "(d**2 / 2).sum(-1) / mask.sum(-1)",
        "d.sum(-1) ** 2 / 2 * mask.sum(-1) ** 2",
        "(d**2 / 2).sum() / mask.sum()",
    ],
)
def test_a_kl_loss_weighted_by_the_length_of_the_response_does_not_conform(returns):
    assert "response-kl" in broken(written("logps, ref_logps, mask", KL, returns), "kl-loss")


@pytest.mark.parametrize("returns", ["d.sum(-1) ** 2 / 2", "(d**2 / 2).sum(-1)", "(d.sum(-1).detach() * d.sum(-1))"])
def test_the_kl_of_whole_responses_and_the_sum_over_tokens_go_by_two_names(returns):
    loss, by_token = written("logps, ref_logps, mask", KL, returns), returns == "(d**2 / 2).sum(-1)"
    assert broken(loss, "kl-loss") == ({"response-kl"} if by_token else set())
    assert broken(loss, "kl-loss-token") == (set() if by_token else {"response-kl"})


# ---------------------------------------------------------------- options that hide each other


SMOOTHED = "-(1 - label_smoothing) * ls({}) - label_smoothing * ls({})"


@pytest.mark.parametrize(
    ("returns", "options"),
    [
        ("-ls(beta * (c / nc - r / nr - gamma))", {"beta": 1.0, "gamma": 0.0}),
        ("-ls(beta**2 * (c / nc - r / nr) - gamma)", {"beta": 1.0, "gamma": 0.0}),
        (
            SMOOTHED.format("beta * (c / nc - r / nr) - gamma", "-beta * (c / nc - r / nr) - gamma"),
            {"beta": 2.0, "gamma": 0.0, "label_smoothing": 0.0},
        ),
        (
            SMOOTHED.format("beta * (c / nc - r / nr) - gamma", "-beta * (c / nc - r / nr)"),
            {"beta": 2.0, "gamma": 0.0, "label_smoothing": 0.0},
        ),
    ],
)
def test_a_misread_option_is_seen_although_the_defaults_hide_it(returns, options):
    assert "conventions" in broken(simpo(returns, **options), "simpo")


@pytest.mark.parametrize("bounded", ["max(beta, 0.1)", "min(beta, 0.1)"])
def test_a_bound_on_an_option_is_seen_on_either_side_of_it(bounded):
    assert "conventions" in broken(dpo(f"-ls({bounded} * (c - r - rc + rr))"), "dpo")


def test_the_right_reading_conforms_at_the_same_defaults():
    returns = SMOOTHED.format("beta * (c / nc - r / nr) - gamma", "-beta * (c / nc - r / nr) + gamma")
    assert broken(simpo(returns, beta=1.0, gamma=0.0, label_smoothing=0.0), "simpo") == set()


# ---------------------------------------------------------------- masks with holes, certain tokens, longer rankings


SPAN = """
    def span(mask):
        return (mask.int().cumsum(-1) > 0) & (mask.int().flip(-1).cumsum(-1).flip(-1) > 0)
    chosen_mask, rejected_mask = span(chosen_mask), span(rejected_mask)
"""
NONZERO = """
    chosen_mask, rejected_mask = chosen_mask & (chosen_logps != 0), rejected_mask & (rejected_logps != 0)
"""


@pytest.mark.parametrize("spoiled", [SPAN, NONZERO])
def test_a_hole_in_the_mask_and_a_certain_token_are_tried(spoiled):
    returns = "-ls(beta * (c / nc - r / nr) - gamma)"
    assert broken(simpo(returns, beta=2.0, gamma=1.0), "simpo") == set()
    wrong = written(f"{PAIR}, beta=2.0, gamma=1.0", spoiled + SUMS, returns)
    assert {"value", "gradient"} <= broken(wrong, "simpo")


ORDERED = "    s = (beta * (logp - ref_logp)).gather(1, ranking)"
PLACES = "sum(s[:, i:].logsumexp(1) - s[:, i] for i in range({}))"


def test_a_listwise_loss_of_the_first_places_only_does_not_conform_although_it_is_right_for_three():
    wrong = written("logp, ref_logp, ranking, beta=0.1", ORDERED, PLACES.format("min(2, s.shape[1] - 1)"))
    right = written("logp, ref_logp, ranking, beta=0.1", ORDERED, PLACES.format("s.shape[1] - 1"))
    assert "value" in broken(wrong, "dpo-pl")
    assert broken(right, "dpo-pl") == set()


# ---------------------------------------------------------------- far from zero


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
@pytest.mark.parametrize(
    "returns",
    [
        "-ls((beta * (c - r - rc + rr)).clamp(-20, 20))",
        "torch.log1p(torch.exp(-beta * (c - r - rc + rr)))",
        "-torch.log(torch.sigmoid(beta * (c - r - rc + rr)) + 1e-8)",
    ],
)
def test_a_loss_that_saturates_or_overflows_is_seen_whatever_beta_is(returns, beta):
    assert "extremes" in broken(dpo(returns, beta), "dpo")
    assert broken(dpo("-ls(beta * (c - r - rc + rr))", beta), "dpo") == set()


def test_overflow_in_float32_alone_is_seen():
    """exp(89) is infinite in float32 and 4e38 in float64; clamped at 600, float64 never overflows."""
    returns = (
        "torch.log1p(torch.exp((-beta * (c - r - rc + rr)).clamp(max=600))) + (-beta * (c - r - rc + rr) - 600).relu()"
    )
    assert broken(dpo(returns, 0.1), "dpo") == {"extremes"}


def test_a_listwise_loss_that_overflows_is_seen():
    for returns in (
        "sum(torch.log(s.exp()[:, i:].sum(1)) - s[:, i] for i in range(s.shape[1] - 1))",
        "sum(s.clamp(-5, 5)[:, i:].logsumexp(1) - s.clamp(-5, 5)[:, i] for i in range(s.shape[1] - 1))",
    ):
        assert "extremes" in broken(written("logp, ref_logp, ranking, beta=0.1", ORDERED, returns), "dpo-pl")


# ---------------------------------------------------------------- clips, leaks and gradients of online objectives


ONLINE = "logp, rewards, group"
ADVANTAGE = """
    a = torch.zeros_like(rewards)
    for prompt in group.unique():
        own = rewards[group == prompt]
        a[group == prompt] = (own - own.mean()) * len(own) / (len(own) - 1)
"""


def test_a_clip_of_the_advantage_at_5_is_seen():
    assert "reward-scale" in broken(written(ONLINE, ADVANTAGE, "-(a.clamp(-5, 5) * logp).mean()"), "rloo")
    assert "reward-scale" in broken(written("rewards, group", ADVANTAGE, "a.clamp(-5, 5)"), "rloo-advantage")
    assert broken(written(ONLINE, ADVANTAGE, "-(a * logp).mean()"), "rloo") == set()


@pytest.mark.parametrize(
    ("name", "returns"),
    [
        ("kl-metric", "d.clamp(max=100)"),
        ("kl-loss", "d.clamp(-100, 100) ** 2 / 2"),
        ("kl-loss", "d.clamp(min=-10) ** 2 / 2"),
        ("kl-reward", "d.clamp(min=-10).detach()"),
        ("kl-reward", "d.clamp(max=100).detach()"),
    ],
)
def test_a_clamped_log_ratio_is_seen_on_either_side_and_beyond_100(name, returns):
    assert "no-clamp" in broken(written("logp, ref_logp", "    d = logp - ref_logp", returns), name)


def test_a_mask_multiplied_into_the_log_probs_of_an_entropy_leaks():
    for summed, leaks in (("(logps * mask)", True), ("where(mask, logps, 0.0)", False)):
        returns = f"coefficient * {summed}.sum(-1) ** 2 / 2"
        found = broken(written("logps, mask, coefficient=1.0", "", returns), "entropy-sequence")
        assert found == ({"mask-leak"} if leaks else set())


def test_entropies_of_finite_logits_may_be_multiplied_by_the_mask():
    body = "    h = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)"
    returns = "-coefficient * (h * mask).sum(-1) / mask.sum(-1)"
    assert broken(written("logits, mask, coefficient=1.0", body, returns), "entropy-token") == set()


def test_a_penalty_of_the_reward_has_to_be_detached_and_is_named_when_it_is():
    leaks = conform(written("logp, ref_logp", "", "logp - ref_logp"), "kl-reward")
    right = conform(written("logp, ref_logp", "", "(logp - ref_logp).detach()"), "kl-reward")
    assert [trial.law.id for trial in leaks.broken] == ["no-gradient"]
    assert str(leaks.identity) == "k1 of whole responses"
    assert right.ok
    assert str(right.identity) == "kl-reward as named"


# ---------------------------------------------------------------- correct losses in other conventions and precisions


GRPO = """
    a = torch.zeros_like(rewards)
    for prompt in group.unique():
        own = rewards[group == prompt]
        a[group == prompt] = (own - own.mean()) / ({})
"""


@pytest.mark.parametrize("epsilon", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("deviation", ["own.std()", "own.std(correction=0)"])
@pytest.mark.parametrize("precision", ["float64", ONLY, OUTSIDE])
def test_the_guard_and_the_deviation_of_grpo_are_conventions_and_are_named(epsilon, deviation, precision):
    advantage = written("rewards, group", GRPO.format(f"{deviation} + {epsilon}"), "a")
    outcome = conform(computed_in(advantage, precision), "grpo-advantage")
    assert outcome.ok
    named = epsilon == 1e-4 and deviation == "own.std()"
    kind = "sample" if deviation == "own.std()" else "population"
    expected = "grpo-advantage as named" if named else f"{kind} standard deviation + {epsilon:g} (GRPO)"
    assert expected in str(outcome.identity)


@pytest.mark.parametrize("deviation", ["own.std() + 1e-3", "own.std().clamp(min=0.1)", "own.var() + 1e-4"])
def test_another_divisor_is_no_convention(deviation):
    assert "standardized" in broken(written("rewards, group", GRPO.format(deviation), "a"), "grpo-advantage")


def test_float32_inside_and_float64_outside_conforms():
    inside = "    c, r, rc, rr = (x.float() for x in (c, r, rc, rr))"
    parameters = f"{PAIR}, ref_chosen_logps, ref_rejected_logps, beta=0.1"
    for returns in ("-ls(beta * (c - r - rc + rr)).double()", "-ls((beta * (c - r - rc + rr)).double())"):
        assert broken(written(parameters, SUMS + REFERENCE + inside, returns), "dpo") == set()
    dead = "-ls(beta * (c - r.detach() - rc + rr)).double()"
    assert "gradient" in broken(written(parameters, SUMS + REFERENCE + inside, dead), "dpo")
