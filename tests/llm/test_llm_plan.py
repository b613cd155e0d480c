"""Plans count what a run needs; recipes load, and plan without the hub."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from derivations.cli.errors import InputError
from llm.offline.train import micro_batches
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import add_lora, load_model, recompute_layers
from llm.scoring.packing import Example
from llm.scoring.passes import CPU
from llm.settings.plan import largest_pass, make_plan, print_plan
from llm.settings.recipe import load_recipe, recipe_names, train_config
from llm.settings.train import TrainConfig

PUBLISHED = {  # parameters, as the models' authors count them
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_loads_says_that_it_was_not_run_and_has_the_published_size(name):
    recipe = load_recipe(name)
    assert recipe["about"].startswith("not run here")
    config = train_config(name)
    assert config.model == recipe["model"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**recipe["architecture"]))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[config.model]
    assert config.max_length <= model.config.max_position_embeddings


def test_a_big_recipe_is_planned_without_loading_anything(capsys):
    plan = print_plan(train_config("pythia-1b-tldr-dpo"))
    assert plan.parameters == plan.trained == PUBLISHED["EleutherAI/pythia-1b"]
    assert plan.weights == plan.gradients == 4 * plan.parameters == plan.optimizer // 2
    assert plan.comparison_tokens == 1 + 1023 + 1023
    assert plan.update == 4 * plan.trained  # on a GPU, AdamW makes the whole update at once
    printed = capsys.readouterr().out
    assert "1,011,781,632 parameters" in printed
    assert f"{plan.step_tokens:,} a step" in printed


def kept_bytes(model, examples, dtype):
    """What autograd really keeps, counted on real tensors."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that its place is not given to another
        return tensor

    narrow = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), narrow:
        sequence_logps(model, examples)
    return sum(s.nbytes() for s in kept.values())


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True])
def test_planned_activations_are_those_of_the_real_model(recompute, dtype, rank, tiny_folder):
    config = TrainConfig(objective="simpo", model=str(tiny_folder), max_length=80, gradient_checkpointing=recompute,
                         dtype=dtype, lora_rank=rank, micro_batch_size=1)  # fmt: skip
    model, _ = load_model(str(tiny_folder))
    if rank:
        model = add_lora(model, rank=rank, alpha=16.0).get_base_model()
    if recompute:
        recompute_layers(model)
    real = kept_bytes(model, [Example((1,), (t,) * 79, False) for t in (1, 2)], dtype)
    assert make_plan(config).activations == pytest.approx(real, rel=0.02)  # a few small index tensors may differ
    assert real > 50_000


@given(st.integers(2, 40), st.integers(1, 300), st.integers(1, 9), st.none() | st.integers(1, 12))
def test_no_pass_holds_more_tokens_than_planned(max_length, tokens, batch_size, size):
    config = TrainConfig(objective="dpo", max_length=max_length, micro_batch_tokens=tokens, batch_size=batch_size,
                         micro_batch_size=size)  # fmt: skip
    planned = sum(len(a) + len(b.response) for a, b in largest_pass(config, CPU))
    rng = random.Random(tokens)  # noqa: S311
    pairs = []
    for _ in range(batch_size):  # as `llm.data.tokens.encode` lets them through
        prompt = rng.choice([1, rng.randint(1, max(1, max_length // 2))])
        pairs.append(range(prompt + sum(rng.choice([max_length - prompt, 1]) for _ in range(2))))
    for limit in (pairs, [range(2 * max_length - 1)] * batch_size):
        for part in micro_batches(limit, size=size, tokens=tokens):
            assert sum(map(len, part)) <= planned + 1  # of an odd number left, a pair of equal responses leaves one


def test_adapters_and_a_second_model_change_the_plan_as_they_should(tiny_folder):
    def plan(**options):
        return make_plan(TrainConfig(model=str(tiny_folder), max_length=64, **options))

    full, lora = plan(objective="dpo"), plan(objective="dpo", lora_rank=4)
    assert lora.trained < full.trained / 4
    assert lora.gradients == 4 * lora.trained
    assert plan(objective="dpo", reference="every-step").reference == full.weights
    assert plan(objective="simpo", reference="every-step").reference == 0
    assert plan(objective="dpo", lora_rank=4, reference="every-step").reference == 0  # its own base serves
    assert plan(objective="dpo", gradient_checkpointing=True).activations < full.activations
    assert plan(objective="dpo", dtype="bf16").narrowed == 0  # among the activations
    assert plan(objective="dpo", dtype="bf16", gradient_checkpointing=True).narrowed == full.weights // 2


def test_a_sharded_plan_counts_shares_and_what_is_gathered(tiny_folder, capsys):
    model, _ = load_model(str(tiny_folder))
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.model.layers]
    matrices = sum(p.numel() for layer in model.model.layers for p in layer.parameters() if p.dim() == 2)
    rest = sum(p.numel() for p in model.parameters()) - sum(layers)

    def plan(**options):
        data = {"objective": "dpo", "model": str(tiny_folder), "max_length": 64, "plan": True}
        return make_plan(TrainConfig(**(data | options)))

    for dtype, width in (("float32", 4), ("bf16", 2)):
        whole, shared = plan(dtype=dtype), plan(dtype=dtype, shard=True, plan_processes=4)
        for name in ("weights", "gradients", "optimizer", "update"):
            assert getattr(shared, name) == getattr(whole, name) // 4 > 0, name
        assert (shared.parameters, shared.step_tokens) == (whole.parameters, whole.step_tokens)
        assert whole.gathered == 0
        assert shared.gathered == 8 * rest + (4 * width + 4) * max(layers)
        # autocast narrows and keeps no weights where they are gathered narrow
        fewer = plan(dtype=dtype, plan_processes=4).activations - shared.activations
        assert fewer == pytest.approx(2 * matrices if dtype == "bf16" else 0, rel=0.02)
    assert plan(shard=True, plan_processes=2, dtype="bf16", gradient_checkpointing=True).narrowed == 0
    print_plan(train_config("llama-3-8b-simpo"))
    printed = capsys.readouterr().out
    assert "sharded over 8 processes" in printed
    assert "gathered" in printed


def test_a_pass_holds_no_more_than_a_process_has_comparisons():
    config = {"objective": "dpo", "max_length": 40, "batch_size": 8, "micro_batch_tokens": 10_000}
    assert len(largest_pass(TrainConfig(**config), CPU)) == 8
    assert len(largest_pass(TrainConfig(**config, plan_processes=3), CPU)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective: dpo\nbetta: 1", "`train` has no option 'betta'"),
        ("- a", "expected a mapping"),
        ("a: [", "is not YAML"),
        ("objective: dpo\nlr: -1.0", "--lr is -1.0"),
        ("objective: dpo\nlr: 1e-5", r"--lr is '1e-5', expected a number \(YAML wants a dot in a number: 1.0e-5\)"),
        ("objective: dpo\nmax_steps: 2.5", "--max-steps is 2.5, expected a whole number"),
        ("objective: dpo\ndtype: fp16", "--dtype is 'fp16', expected 'float32' or 'bf16'"),
        ("objective: dpo\nsave: 1", "--save is 1, expected true or false"),
    ],
)
def test_a_wrong_recipe_is_one_line(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        train_config(str(path))


def test_options_after_a_recipe_replace_its_own():
    from llm.__main__ import take_recipe

    rest, config = take_recipe(["train", "--recipe", "llama-3-8b-simpo", "--lr", "1e-5"])
    assert rest == ["train", "--lr", "1e-5"]
    assert (config.objective, config.gamma, config.lr) == ("simpo", 1.375, 1e-6)
    assert take_recipe(["train", "--recipe=llama-3-8b-simpo", "--lr", "1e-5"]) == (rest, config)
    assert take_recipe(["online", "--recipe", "x"])[1] is None
    with pytest.raises(InputError, match=r"--recipe needs a name: llama-3-8b-simpo, .*path\.yaml"):
        take_recipe(["train", "--recipe"])
