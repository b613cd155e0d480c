"""`train --objective kto`: loss, gradient and reference point against the formula in float64, and its data."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from derivations.cli.errors import InputError
from llm.data.files import read_source
from llm.data.tokens import Group, encode
from llm.data.unpair import unpaired
from llm.engine.engine import Engine
from llm.offline.replay import replay
from llm.offline.train import accumulate
from llm.offline.unpaired import mismatched, reference_point
from llm.scoring.packing import Example
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import load_double, read_rows, run_offline, write_pairs, write_rankings
from tests.llm.test_llm_data import TEXT, write

OPTIONS = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7}


def write_judged(path, n, *, seed=0):
    """Good responses that begin with x and bad ones that begin with y, two good ones to each bad one."""
    rng = np.random.default_rng(seed)

    def text(low, high):
        return "".join(rng.choice(list("abcdefghij "), size=rng.integers(low, high)))

    rows = [{"prompt": f"{i}{text(3, 9)}?", "completion": "xxy"[i % 3] + text(1, 16), "label": i % 3 < 2}
            for i in range(n)]  # fmt: skip
    return write(path, rows)


def judged(path, tokenizer):
    return encode(unpaired(read_source(path)).comparisons, tokenizer, max_length=256)[0]


def by_hand(model, reference, groups, naive_logps):
    """Loss of each response, implicit reward and reference point (arXiv:2402.01306), written out in float64."""
    own = [g.examples[0] for g in groups]
    others = own[1:] + own[:1]  # all prompts differ
    strange = [Example(e.prompt, o.response, o.complete) for e, o in zip(own, others, strict=True)]
    with torch.no_grad():
        ref, z = naive_logps(reference, own), (naive_logps(model, strange) - naive_logps(reference, strange)).mean()
    reward = OPTIONS["beta"] * (naive_logps(model, own) - ref)
    lead = reward - OPTIONS["beta"] * z.clamp(min=0)
    good = torch.tensor([g.good for g in groups])
    gain = torch.where(good, torch.sigmoid(lead), torch.sigmoid(-lead))
    weight = torch.where(good, OPTIONS["desirable_weight"], OPTIONS["undesirable_weight"])
    return weight * (1 - gain), reward, max(0.0, z.item())


def test_a_run_logs_the_loss_and_the_reference_point_of_the_formula(
    tiny_folder, tmp_path, tiny_tokenizer, naive_logps, own_cache
):
    data, held = write_judged(tmp_path / "a.jsonl", 9), write_judged(tmp_path / "b.jsonl", 6, seed=1)
    options = {"objective": "kto", "data": data, "eval_data": held, "lr": 1e-2, "batch_size": 3, **OPTIONS}
    out = run_offline(tiny_folder, tmp_path / "run", save=True, **options)
    rows, groups = read_rows(out), judged(held, tiny_tokenizer)
    before, after = load_double(tiny_folder), load_double(out / "checkpoints/last")
    for row, model in ((rows[0], before), (rows[-1], after)):
        with torch.no_grad():
            losses, reward, z = by_hand(model, before, groups, naive_logps)
        good = torch.tensor([g.good for g in groups])
        exact = {"loss": losses.mean(), "kl": z, "desirable": 2 / 3, "rewards/chosen": reward[good].mean(),
                 "rewards/rejected": reward[~good].mean()}  # fmt: skip
        for name, value in exact.items():
            assert row[f"eval/{name}"] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    assert rows[0]["eval/kl"] == 0
    assert rows[-1]["eval/kl"] > 0.1, "else the reference point was not tried"
    assert all({"loss", "kl", "desirable"} < row.keys() for row in rows[1:-1])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["change"]["rewards/chosen"]["mean"] == pytest.approx(rows[-1]["eval/rewards/chosen"], abs=1e-5)
    split = run_offline(tiny_folder, tmp_path / "split", micro_batch_size=1, reference="every-step", **options)
    for a, b in zip(rows, read_rows(split), strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=2e-5), "the passes a step is cut into change nothing"


def test_the_gradient_is_that_of_the_formula_and_none_goes_through_the_reference_point(
    tiny_model, tmp_path, tiny_tokenizer, naive_logps
):
    groups = judged(write_judged(tmp_path / "a.jsonl", 6), tiny_tokenizer)
    model, reference = tiny_model(seed=1), tiny_model(seed=0)
    config = TrainConfig(objective="kto", data="a", max_length=256, micro_batch_size=4, **OPTIONS)
    engine, policy = Engine(model, lr=1.0, dtype="float32", max_grad_norm=1e9, seed=0), tiny_model(seed=1).double()
    base = reference.double()
    losses, _, z = by_hand(policy, base, groups, naive_logps)
    assert z > 0.5
    losses.mean().backward()

    def ref_logp(some):
        with torch.no_grad():
            return naive_logps(base, [e for g in some for e in g.examples]).float()

    assert reference_point(groups, ref_logp, engine, max_length=256, tokens=64) == pytest.approx(z, rel=1e-5)
    rows = accumulate(engine, config.make_objective(), groups, ref_logp, config)
    assert [row["loss"] for row in rows] == pytest.approx(losses.tolist(), rel=1e-4)
    for (name, ours), theirs in zip(model.named_parameters(), policy.parameters(), strict=True):
        found = ours.grad.to_dense().double()
        torch.testing.assert_close(found, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)


def group(prompt, response, where="a"):
    return Group((Example(prompt, response, True),), where, True)


def test_a_strange_response_is_the_next_one_to_another_prompt():
    prompts = [1, 1, 2, 2, 2, 1]
    found = mismatched([group((p,), (i, 9)) for i, p in enumerate(prompts)], max_length=3)
    assert [g.examples[0].response[0] for g in found] == [2, 2, 5, 5, 5, 2]
    same = mismatched([group((1,), (i, 9)) for i in range(3)], max_length=3)
    assert [g.examples[0].response[0] for g in same] == [1, 2, 0]
    cut, long = mismatched([group((1, 1, 1), (7,)), group((2,), (8, 8, 8, 8))], max_length=5)
    assert (cut.examples[0], long.examples[0]) == (Example((1, 1, 1), (8, 8), False), Example((2,), (7,), True))
    with pytest.raises(InputError, match="a is the only response held out"):
        mismatched([group((1,), (2,))], max_length=3)


@pytest.mark.parametrize(("ratio", "point"), [(-0.5, 0.0), (0.5, 0.5)])
def test_the_reference_point_is_never_below_0(ratio, point):
    """Where mismatched pairs lost probability their mean is no estimate of a KL: the paper cuts it at 0."""
    engine = SimpleNamespace(
        rank=0, processes=1, gather=list, evenly=list, logps=lambda es: torch.full((len(es),), ratio)
    )
    pairs = [group((p,), (p, 9)) for p in range(3)]
    found = reference_point(pairs, lambda part: torch.zeros(len(part)), engine, max_length=9, tokens=64)
    assert found == point


def test_pairs_are_taken_apart_and_rankings_skipped_with_the_reason(tmp_path):
    rows = [TEXT, {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
            {"prompt": "q", "completion": "r", "label": False}]  # fmt: skip
    source = unpaired(read_source(write(tmp_path / "a.jsonl", rows)))
    assert [(c.responses, c.scores) for c in source.comparisons] == [
        (("r",), (0.0,)), (("The oak.",), (1.0,)), (("Grass.",), (0.0,))]  # fmt: skip
    ((_, reason),) = source.skipped
    assert reason == "a ranking does not say which responses are good and which are bad"


def test_a_run_on_pairs_learns_which_side_is_good_and_says_what_it_used(tiny_folder, tmp_path, own_cache):
    data, held = write_pairs(tmp_path / "a.jsonl", 12), write_pairs(tmp_path / "b.jsonl", 6, seed=1)
    out = run_offline(tiny_folder, tmp_path / "run", objective="kto", data=data, eval_data=held, max_steps=8, lr=1e-2)
    first, *_, last = read_rows(out)
    assert last["eval/loss"] < first["eval/loss"] - 0.01
    assert last["eval/rewards/chosen"] > last["eval/rewards/rejected"]
    assert "24 single responses used, 0 skipped" in json.loads((out / "config.json").read_text())["config"]["data_note"]
    ranked = write_rankings(tmp_path / "r.jsonl", [3] * 4)
    with pytest.raises(InputError, match=r"no usable comparison; first: .* a ranking does not say"):
        run_offline(tiny_folder, tmp_path / "none", objective="kto", data=ranked)


def test_a_batch_that_diverged_is_replayed_response_by_response(tiny_folder, tmp_path, own_cache, capsys):
    data = write_judged(tmp_path / "a.jsonl", 12)
    with pytest.raises(InputError, match="training diverged"):
        run_offline(tiny_folder, tmp_path / "run", objective="kto", data=data, lr=1e30, schedule="constant")
    kept = json.loads((tmp_path / "run" / "diverged.json").read_text())["batch"]
    assert [row.keys() >= {"good", "kl"} for row in kept] == [True] * 4
    rows = replay(tmp_path / "run")
    assert [row["desirable"] for row in rows] == [float(row["good"]) for row in kept]
    assert not all(row["finite"] for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "--batch-size 1: kto estimates its reference point"),
        ({"data": None}, "--objective kto needs --data"),
        ({"gamma": 1.0}, "objective kto takes no gamma"),
        ({"desirable_weight": 0.0}, "objective kto: desirable_weight is 0.0, expected a number > 0"),
        ({"objective": "dpo", "desirable_weight": 1.0}, "objective dpo takes no desirable_weight"),
        ({"objective": "kot"}, "did you mean 'kto'"),
    ],
)
def test_what_kto_cannot_do_is_refused_with_the_mend(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**({"objective": "kto", "data": "a.jsonl"} | options))
