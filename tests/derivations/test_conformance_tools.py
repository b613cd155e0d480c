"""The kit's own tools held against sums and formulas written by hand."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.arrays import log_sigmoid  # noqa: E402
from derivations.conformance import conform  # noqa: E402
from derivations.conformance.backends import NumpyBackend  # noqa: E402
from derivations.conformance.batches import examples, join, pad, refill, repeat_tokens, splits, take  # noqa: E402
from derivations.conformance.contracts import Target  # noqa: E402
from derivations.conformance.expected import expected  # noqa: E402
from derivations.conformance.families import ADVANTAGE, OFF_POLICY, PAIRS  # noqa: E402
from derivations.conformance.tree import ONE_TOKEN, TWO_TOKENS, mean_reward, minus_entropy, probabilities  # noqa: E402
from derivations.objectives import kl_k1, kl_k2, kl_k3  # noqa: E402

SUMS = ("logp", "mean_logp")


def test_exact_expectations_agree_with_sums_written_out():
    for tree in (ONE_TOKEN, TWO_TOKENS):
        chance = probabilities(tree)
        assert chance.sum() == pytest.approx(1.0, abs=1e-12)
        assert float(minus_entropy(tree, tree.logits)) == pytest.approx(float(chance @ np.log(chance)), abs=1e-12)
        rewards = np.array([1.0, -0.5, 2.0, 0.25])[: len(chance)]
        assert float(mean_reward(tree, tree.logits)) == pytest.approx(float(chance @ rewards), abs=1e-12)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k2, kl_k3])
def test_each_kl_estimator_passes_exactly_the_roles_it_is_right_for(estimator):
    """THEORY 3.4: metric k1 or k3, reward k1, loss k2."""

    def loss(logp, ref_logp):
        return estimator(logp, ref_logp)

    def detached(logp, ref_logp):
        return estimator(logp, ref_logp).detach()

    right = {"kl-metric": (kl_k1, kl_k3), "kl-reward": (kl_k1,), "kl-loss": (kl_k2,)}
    for role, estimators in right.items():
        assert conform(detached if role == "kl-reward" else loss, role).ok == (estimator in estimators), role


def test_padding_joining_and_refilling_leave_what_is_supervised_alone():
    first, second = examples(PAIRS)[1], examples(PAIRS)[4]
    joined = join(PAIRS, [first, second])
    target = Target("simpo", {"beta": 2.0, "gamma": 0.5})
    alone = np.concatenate([target.losses(first), target.losses(second)])
    for batch in (joined, pad(PAIRS, joined, left=2, right=1), refill(PAIRS, joined, -99.0), take(joined, [0, 1])):
        assert np.allclose(target.losses(batch), alone, rtol=0, atol=1e-12)  # sums of five numbers near 1
    assert not np.allclose(target.losses(take(joined, [1, 0])), alone)
    assert np.array_equal(repeat_tokens(PAIRS, first, 2)["rejected_mask"].sum(-1), [4])
    assert list(splits(3)) == [[[0], [1, 2]], [[0, 1], [2]], [[0], [1], [2]]]


def test_what_follows_from_a_batch_is_there_by_name_exactly_where_it_can_be_computed():
    pairs = {f"{role}{side}_{sum_}" for role in ("", "ref_") for side in ("chosen", "rejected") for sum_ in SUMS}
    first = examples(PAIRS)[1]
    assert set(PAIRS.derive(first)) == {*first, *pairs, "chosen_length", "rejected_length"}
    alone = PAIRS.derive({name: array for name, array in first.items() if not name.startswith("ref_")})
    assert "ref_chosen_logp" not in alone
    assert "ref_chosen_mean_logp" not in alone
    known = OFF_POLICY.derive(examples(OFF_POLICY)[3])
    assert np.allclose(known["token_advantages"], known["advantages"][:, None])
    assert np.array_equal((known | {"advantages": known["advantages"] + 1})["advantages"], known["advantages"] + 1)
    one, other = examples(ADVANTAGE)[0], examples(ADVANTAGE)[1]
    assert ADVANTAGE.derive(join(ADVANTAGE, [one, one]))["group_size"] == 2
    assert "group_size" not in ADVANTAGE.derive(join(ADVANTAGE, [one, other]))


def test_expected_values_are_kept_apart_by_batch_and_options_and_nobody_can_change_them():
    batches = examples(PAIRS)[:2]
    targets = [Target("simpo", {"beta": beta, "gamma": 0.5}) for beta in (2.0, 3.0)]
    for _ in range(2):
        for target in targets:
            for batch in batches:
                value, slopes = expected(NumpyBackend(), target, batch, gradient=True)
                assert np.array_equal(value, target.losses(batch))
                assert np.abs(slopes["chosen_logps"]).min() > 0
                value += 1
                slopes["chosen_logps"] *= 0
                assert expected(NumpyBackend(), target, batch, gradient=False)[1] == {}


def test_expected_values_are_those_of_a_formula_written_by_hand():
    """A guard that the kit's own target is not wrong in the same way as what it judges."""
    batch = examples(PAIRS)[3]
    w, l = (batch[f"{s}_logps"][0] for s in ("chosen", "rejected"))
    rw, rl = (batch[f"ref_{s}_logps"][0] for s in ("chosen", "rejected"))
    hand = {
        "simpo": math.log1p(math.exp(-(2 * (w.mean() - l.mean()) - 0.5))),
        "dpo": math.log1p(math.exp(-2 * (w.sum() - rw.sum() - l.sum() + rl.sum()))),
        "ipo": (w.sum() - rw.sum() - l.sum() + rl.sum() - 1 / 4) ** 2,
    }
    for name, meant in hand.items():
        options = {"beta": 2.0} | ({"gamma": 0.5} if name == "simpo" else {})
        assert float(Target(name, options).losses(batch)[0]) == pytest.approx(meant, rel=1e-12)
    assert float(log_sigmoid(np.array([0.0]))[0]) == pytest.approx(-math.log(2))
