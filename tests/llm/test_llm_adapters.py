"""What `--export adapter` writes is a model for `--model`: merged into its base, trained on, refused where damaged."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from derivations.cli.errors import InputError
from llm.data.inspect import inspect_data
from llm.offline.replay import replay
from llm.scoring.adapters import lineage, merged_copy
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import add_lora, load_model, load_tokenizer
from llm.settings.inspect import InspectConfig
from llm.settings.plan import make_plan
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import encoded, read_rows, run_offline, run_online, write_pairs


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """Run folders of the same training, exported in the two forms, and the files of its comparisons."""
    place = tmp_path_factory.mktemp("trained")
    files = {"data": write_pairs(place / "a.jsonl", 6), "eval_data": write_pairs(place / "b.jsonl", 5, seed=1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        for form in ("adapter", "merged"):
            run_offline(tiny_folder, place / form, lora_rank=4, lr=1e-2, export=form, save=True, **files)
    return place, files


@pytest.fixture
def adapter(trained, tmp_path):
    """A copy of the exported adapter, to be spoilt."""
    return shutil.copytree(trained[0] / "adapter" / "checkpoints" / "last", tmp_path / "adapter")


def test_an_exported_adapter_is_loaded_as_the_model_that_was_exported_merged(trained, tiny_folder):
    place, _ = trained
    folders = [place / form / "checkpoints" / "last" for form in ("adapter", "merged")]
    assert not (folders[0] / "config.json").exists()
    (model, tokenizer), (whole, _) = (load_model(str(folder)) for folder in folders)
    assert not hasattr(model, "peft_config")
    assert all(p.requires_grad for p in model.parameters())
    assert tokenizer.eos_token_id == 256
    own, expected, before = (m.state_dict() for m in (model, whole, load_model(str(tiny_folder))[0]))
    assert own.keys() == expected.keys() == before.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)
    assert any(not torch.equal(own[name], before[name]) for name in own)


@pytest.mark.parametrize("rank", [0, 3])
def test_training_goes_on_from_an_adapter_with_and_without_new_ones_and_says_so(
    rank, trained, tiny_folder, tmp_path, own_cache, capsys
):
    place, files = trained
    start = place / "adapter" / "checkpoints" / "last"
    form = "adapter" if rank else "merged"
    out = run_offline(start, tmp_path / "next", lora_rank=rank, export=form, save=True, quiet=False, lr=1e-2, **files)
    assert f"model: {tiny_folder} with {start} merged into it" in capsys.readouterr().out
    first, last = read_rows(place / "adapter")[-1], read_rows(out)
    assert last[0]["eval/logps/chosen"] == pytest.approx(first["eval/logps/chosen"], rel=1e-5)
    assert abs(last[-1]["eval/logps/chosen"] - last[0]["eval/logps/chosen"]) > 0.05
    end = out / "checkpoints" / "last"
    assert lineage(str(end)) == ([str(end), str(start), str(tiny_folder)] if rank else [str(end)])
    model, tokenizer = load_model(str(end))
    groups = encoded(files["eval_data"], tokenizer)
    with torch.no_grad():
        chosen = sequence_logps(model, [g.examples[0] for g in groups]).mean().item()
    assert chosen == pytest.approx(last[-1]["eval/logps/chosen"], rel=1e-5)


def test_every_command_takes_an_adapter(trained, tiny_folder, tmp_path, own_cache, capsys):
    place, files = trained
    folder = place / "adapter" / "checkpoints" / "last"
    assert make_plan(TrainConfig(objective="simpo", model=str(folder))) == make_plan(
        TrainConfig(objective="simpo", model=str(tiny_folder))
    )
    inspect_data(InspectConfig(data=str(files["data"]), model=str(folder)))
    run_online(folder, tmp_path / "online", max_steps=1, quiet=False)
    assert f"with {folder} merged into it" in capsys.readouterr().out
    with pytest.raises(InputError, match="diverged at step"):
        run_offline(folder, tmp_path / "run", lr=1e30, max_steps=6, lora_rank=2, **files)
    assert replay(tmp_path / "run")


def test_an_adapter_without_a_tokenizer_takes_its_base_s(adapter):
    for path in [*adapter.glob("tokenizer*"), *adapter.glob("chat_template*")]:
        path.unlink()
    assert load_tokenizer(str(adapter)).eos_token_id == 256


def spoilt(adapter, damage):
    config = json.loads((adapter / "adapter_config.json").read_text())
    weights = load_file(adapter / "adapter_model.safetensors")
    if damage == "pickle":
        torch.save(weights, adapter / "adapter_model.bin")
        (adapter / "adapter_model.safetensors").unlink()
    elif damage == "missing":
        weights.pop(min(weights))
        save_file(weights, adapter / "adapter_model.safetensors")
    elif damage == "left over":
        save_file(weights | {"base_model.model.model.layers.9.lora_A.weight": torch.ones(4, 32)},
                  adapter / "adapter_model.safetensors")  # fmt: skip
    elif damage == "shape":
        save_file({k: w[:, :-1].contiguous() for k, w in weights.items()}, adapter / "adapter_model.safetensors")
    else:
        changed = {"kind": {"peft_type": "IA3"}, "itself": {"base_model_name_or_path": str(adapter)},
                   "no base": {"base_model_name_or_path": "no/such/model"}, "nameless": {"base_model_name_or_path": ""},
                   "import": {"megatron_config": {}, "megatron_core": "antigravity"}}[damage]  # fmt: skip
        if damage == "import":
            changed["megatron_config"] = {"a": 1}
        (adapter / "adapter_config.json").write_text(json.dumps(config | changed))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pickle", r"has no adapter_model\.safetensors"),
        ("missing", "does not fit its base model: base_model"),
        ("left over", r"does not fit its base model: base_model\.model\.model\.layers\.9"),
        ("shape", "cannot be loaded"),
        ("kind", "only low-rank adapters"),
        ("import", "only low-rank adapters"),
        ("itself", "names itself as its base"),
        ("no base", r"cannot be loaded \(.*no/such/model"),
        ("nameless", "does not say which model it belongs to"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_one_line(damage, message, adapter):
    spoilt(adapter, damage)
    with pytest.raises(InputError, match=message) as refusal:
        load_model(str(adapter))
    assert "\n" not in str(refusal.value)


def test_an_adapter_over_the_bundled_model_finds_it_wherever_its_cache_is_now(adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    elsewhere = "/home/other/.cache/maxent-rlhf/models/smollm2-135m-instruct-0123456789abcdef-transformers-5.20.0"
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": elsewhere}))
    assert lineage(str(adapter)) == [str(adapter), "bundled"]


@pytest.mark.parametrize("kind", ["tied", "untied", "gpt2"])
def test_a_merged_copy_is_peft_s_own_leaves_the_model_alone_and_copies_no_more_than_it_must(kind, tiny_model):
    """GPT-2 keeps its weights transposed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": 258, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
        plain = GPT2LMHeadModel(GPT2Config(**sizes)) if kind == "gpt2" else tiny_model(tied=kind == "tied")
        peft = add_lora(plain, rank=3, alpha=5.0)
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_()
    before = {name: tensor.clone() for name, tensor in peft.state_dict().items()}
    expected = copy.deepcopy(peft).merge_and_unload()
    found = merged_copy(peft)
    assert all(torch.equal(before[name], tensor) for name, tensor in peft.state_dict().items())
    own, right = found.state_dict(), expected.state_dict()
    assert own.keys() == right.keys()
    assert all(torch.equal(own[name], right[name]) for name in own)
    embedding = peft.get_base_model().get_input_embeddings().weight
    assert found.get_input_embeddings().weight.data_ptr() == embedding.data_ptr()  # no tensor is copied that stays
    assert (found.get_output_embeddings().weight is found.get_input_embeddings().weight) == (kind != "untied")
