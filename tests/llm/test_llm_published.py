"""`train` with a published loss: the loss and its gradient are those of the formula, on the log-probs in float64."""

import inspect
import json

import pytest
import torch

from derivations.cli.errors import InputError
from derivations.conformance.further import PREFERENCE
from derivations.published import PUBLISHED, make_published
from llm.data.files import read_source
from llm.data.tokens import encode
from llm.engine.engine import Engine
from llm.offline.train import accumulate
from llm.scoring.packing import lengths
from llm.settings.train import TrainConfig
from llm.settings.words import objective_words
from tests.helpers.llm_runs import load_double, read_rows, run_offline, write_pairs

OPTIONS = {"dpop": {"penalty": 3.0}, "r-dpo": {"alpha": 0.2}}


@pytest.fixture
def groups(tmp_path, tiny_tokenizer):
    return encode(read_source(write_pairs(tmp_path / "a.jsonl", 5)).comparisons, tiny_tokenizer, max_length=256)[0]


def test_every_published_loss_of_pairs_that_the_kit_knows_can_be_trained_and_under_the_same_name():
    assert set(PUBLISHED) == {name for name, known in PREFERENCE.items() if name != "kto"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_gradient_of_a_step_is_that_of_the_formula(name, groups, tiny_folder, naive_logps):
    options = {"beta": 0.3} | OPTIONS.get(name, {})
    objective = make_published(name, **options)
    model, reference = load_double(tiny_folder), load_double(tiny_folder)
    with torch.no_grad():
        for p in model.parameters():  # away from the reference, where every log-ratio is 0
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)
    examples = [e for g in groups for e in g.examples]
    with torch.no_grad():
        ref = naive_logps(reference, examples)
    logp = naive_logps(model, examples)
    count = lengths(examples, logp.device)
    all_named = {
        "chosen_logp": logp[::2], "rejected_logp": logp[1::2], "ref_chosen_logp": ref[::2],
        "ref_rejected_logp": ref[1::2], "chosen_length": count[::2], "rejected_length": count[1::2],
    }  # fmt: skip
    function = PUBLISHED[name]
    losses = function(**{k: v for k, v in all_named.items() if k in inspect.signature(function).parameters}, **options)
    losses.mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    config = TrainConfig(objective=name, batch_size=5, micro_batch_size=2, **options)
    engine = Engine.of(config, model)

    def known(part):
        own = {e: float(value) for e, value in zip(examples, ref, strict=True)}
        return torch.tensor([own[e] for g in part for e in g.examples], dtype=torch.float64)

    needs = objective.regularizer.needs_reference
    rows = accumulate(engine, objective, groups, known if needs else None, config)
    assert [row["loss"] for row in rows] == pytest.approx(losses.tolist(), rel=1e-9)
    for got, want in zip(engine.transformer.parameters(), expected, strict=True):
        # Llama norms and rotates in float32 whatever the weights are
        assert float((got.grad - want).abs().max()) < 1e-5 * float(want.abs().max())


@pytest.mark.parametrize("name", ["orpo", "dpop", "sppo"])
def test_a_whole_run_moves_the_policy(name, tiny_folder, tmp_path, shared_cache):
    data = write_pairs(tmp_path / "a.jsonl", 10)
    out = run_offline(tiny_folder, tmp_path / "run", objective=name, data=data, lr=1e-2)
    rows = [row for row in read_rows(out) if "eval/loss" in row]
    assert rows[0]["eval/logps/chosen"] != rows[-1]["eval/logps/chosen"]
    assert json.loads((out / "summary.json").read_text())["objective"] == name


def test_what_a_loss_does_not_take_is_refused_with_what_it_takes():
    with pytest.raises(InputError, match=r"slic takes no penalty \(it takes: beta\)"):
        TrainConfig(objective="slic", penalty=2.0)
    with pytest.raises(InputError, match=r"dpop: penalty is -1\.0, expected a number >= 0"):
        TrainConfig(objective="dpop", penalty=-1.0)
    with pytest.raises(InputError, match=r"beta is 0\.0, expected a number > 0"):
        TrainConfig(objective="sppo", beta=0.0)
    assert objective_words(TrainConfig(objective="r-dpo").make_objective()) == "R-DPO (beta 0.1, alpha 0.05)"
