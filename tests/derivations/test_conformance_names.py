"""Names: what a parameter is called elsewhere, where the loss is in what comes back, and what a wrong loss is."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from wrong_by_hand import FIRST, SECOND, THIRD, written  # noqa: E402

from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import prepared  # noqa: E402
from derivations.conformance.calls import loss_of, with_loss  # noqa: E402
from derivations.conformance.field_names import readings, said  # noqa: E402
from derivations.conformance.identify import identify  # noqa: E402


@pytest.mark.parametrize(
    ("names", "means"),
    [
        ("policy_chosen_logps pi_chosen logp_w chosen_log_probs policy_logprob_preferred chosenLogps", ("", "chosen_")),
        ("reference_rejected_logps ref_rejected_logprobs ref_l logp_l_ref reference_logp_l", ("ref_", "rejected_")),
        ("log_prob log_probs curr_logprobs trainer_logprobs per_token_logps new_logp pi_logprobs log_pi", ("", "")),
        ("old_log_prob old_log_probs prev_logprobs inference_logprobs pi_old_logprobs logp_old", ("old_", "")),
    ],
)
def test_log_probs_are_known_by_the_names_of_other_codes(names, means):
    for name in names.split():
        meant = said(name)
        assert meant is not None, name
        assert (meant.quantity, meant.role, meant.side) == ("logp", *means), name


def test_masks_lengths_advantages_and_groups_are_known_and_what_nobody_can_know_is_not():
    for name in ("response_mask", "action_mask", "completion_mask", "loss_mask", "token_mask", "padding_masks"):
        assert said(name).quantity == "mask", name
    assert said("chosen_loss_mask").side == "chosen_"
    assert [said(name).quantity for name in ("adv", "num_generations", "index", "len_chosen")] == [
        *("advantages", "group_size", "group", "length")
    ]
    for name in ("padding_mask", "reference_free", "model", "beta", "chosen_logratios", "old_ref_logps_cache"):
        assert said(name) is None, name


def test_the_usual_form_comes_first_tokens_with_a_mask_means_for_simpo_and_sums_else():
    arrays = {f"{side}_{kind}" for side in ("chosen", "rejected") for kind in ("logp", "logps", "mean_logp", "mask")}
    bare = {"policy_chosen_logps": None, "policy_rejected_logps": None}
    masked = bare | {"chosen_mask": None, "rejected_mask": None}
    for parameters, averaged, first in ((bare, False, "logp"), (bare, True, "mean_logp"), (masked, False, "logps")):
        found = readings(parameters, arrays, (), averaged=averaged)
        assert found[0]["policy_chosen_logps"] == f"chosen_{first}"
        assert len(found) == 3
    assert readings({"chosen_logp": None}, arrays, (), averaged=True) == [{"chosen_logp": "chosen_logp"}]


def test_the_reading_is_said_and_another_is_taken_only_if_the_loss_is_right_in_it():
    def means(policy_chosen_logps, policy_rejected_logps, beta=2.0, gamma=1.0):
        return -torch.nn.functional.logsigmoid(beta * (policy_chosen_logps - policy_rejected_logps) - gamma), None

    read = prepared(means, "simpo").read
    assert read.startswith("read policy_chosen_logps as chosen_mean_logp, policy_rejected_logps as rejected_mean_logp")
    assert read.endswith("; of what it returns, [0] is taken as the loss")

    def with_tau(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, tau=0.1):
        return np.logaddexp(0, -tau * (chosen_logp - ref_chosen_logp - rejected_logp + ref_rejected_logp))

    assert prepared(with_tau, "dpo").read == "the option tau is beta"
    assert (
        "summed over each response" in prepared(means, "maxent", options={"alpha": 2.0, "gamma": 1.0, "beta": 2.0}).read
    )
    with pytest.raises(InputError, match="'chosen_logratios' is not in the contract"):
        prepared(lambda chosen_logratios, rejected_logp: chosen_logratios, "dpo", options={"beta": 0.1})


def test_the_loss_is_found_in_tuples_dictionaries_and_records_and_put_back():
    record = dataclasses.make_dataclass("Record", ["loss", "margin"], frozen=True)
    for result, part in (
        ((1.0, 2.0), "[0]"),
        ({"loss": 1.0, "n": 2}, '["loss"]'),
        (record(1.0, 2.0), ".loss"),
        (1.0, ""),
    ):
        assert loss_of(result) == (1.0, part)
        assert loss_of(with_loss(result, 5.0)) == (5.0, part)


# ---------------------------------------------------------------- wrong losses; all 120: python wrong_by_hand.py

NAMED = {
    "-torch.log(torch.sigmoid(beta * m).mean())": "the log of the mean probability, not the mean of the logs",
    "-ls(beta * (w.detach() - rw - l + rl))": "; no gradient reaches chosen_logps",
    "-ls((beta * m).clamp(-0.2, 0.2))": ", not below 0.598139 and not above 0.798139",
    "-ls(beta * m) * m.detach().abs()": "dpo as named, each pair times a detached weight: |x| for x = the margin of",
    "-ls(beta * m) / nw": "dpo as named, times 1/|w|",
    "-(1 - torch.sigmoid(beta * m)) ** 2 * ls(beta * m)": "-log sigmoid(0.1 x) times sigmoid(-0.1 x)^2, where x is",
    "where(desirable, 1 - torch.sigmoid(beta * h - kl), 1 - torch.sigmoid(kl - beta * h))": "point without beta",
    "z.clamp(-1, 1).reshape(-1)": "over the sample deviation + 0.0001, clamped at 1",
    "(d.exp() * d).sum(-1)": "the ratio times the log-ratio summed over tokens",
    "where(mask, ppo(a), 0.0).sum(-1).mean() / n.max()": "PPO's clip; divided by the longest response's length",
    "tok(ppo(a) * (r < 1 + eps))": "for A > 0: r up to 1.2, then 0; for A < 0: 0 up to 0.8, r up to 1.2, then 0",
}


@pytest.mark.parametrize("returns", NAMED)
def test_a_wrong_loss_is_called_by_its_name(returns):
    (case,) = [case for case in (*FIRST, *SECOND, *THIRD) if case[2] == returns]
    assert NAMED[returns] in str(identify(prepared(written(*case[1:]), case[0])))
