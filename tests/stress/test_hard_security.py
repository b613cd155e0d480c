"""What comes from disk is data: no code of a model folder, a checkpoint, a data set or a formula ever runs."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from derivations.cli.errors import InputError
from derivations.custom.parser import parse_formula
from llm.data.files import read_source
from llm.data.tokens import encode
from llm.engine.checkpoints import seal
from llm.engine.engine import Engine
from llm.scoring.models import load_model, load_tokenizer
from llm.settings.recipe import load_recipe
from tests.helpers.llm_runs import run_offline, write_pairs
from tests.stress.fuzz import listing
from tests.stress.tiny import tiny_model

ROOT = Path(__file__).parents[2]
PACKAGES = ("derivations", "toybandit", "llm")
FORBIDDEN = {
    "eval", "exec", "__import__", "pickle.load", "pickle.loads", "torch.load", "joblib.load", "yaml.load",
    "os.system", "os.popen", "marshal.loads", "shelve.open", "dill.load", "cloudpickle.load",
}  # fmt: skip
# The zoo runs the planted bugs that stand in its own file; a spool reads back what its own process wrote into a
# file without a name.
OWN = {("exec", "bugs.py"), ("pickle.loads", "spool.py")}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}, node.lineno


def test_no_call_runs_text_or_reads_pickles():
    for path in (p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        for name, keywords, line in calls(path):
            assert name not in FORBIDDEN or (name, path.name) in OWN, f"{path}:{line}"
            assert keywords.get("shell", "False") == "False", f"{path}:{line}"
            assert keywords.get("trust_remote_code", "False") == "False", f"{path}:{line}"
            assert keywords.get("allow_pickle", "False") == "False", f"{path}:{line}"
            assert keywords.get("weights_only", "True") == "True", f"{path}:{line}"
            if name in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle") == "False", f"{path}:{line}"
            if name.startswith("Auto") and name.endswith("from_pretrained") and "gguf_file" not in keywords:
                assert keywords.get("trust_remote_code") == "False" or None in keywords, f"{path}:{line}"


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path):
    """A file that exists only if somebody ran what was planted."""
    return tmp_path / "planted"


def test_the_bomb_of_these_tests_does_go_off(mark):
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_in_a_checkpoint_does_not_run_even_under_a_proper_seal(name, how, mark, tmp_path):
    engine = Engine(tiny_model(), lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0)
    folder = tmp_path / "resume"
    engine.save(folder, {"step": 1})
    if how == "torch":
        torch.save(Bomb(mark), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    progress = json.loads((folder / "progress.json").read_text())["progress"]
    (folder / "progress.json").unlink()
    seal(folder, progress)
    with pytest.raises(InputError, match="does not fit this run"):
        engine.load(folder)
    assert not mark.exists()


def test_a_file_that_was_added_to_a_checkpoint_is_refused(mark, tmp_path):
    engine = Engine(tiny_model(), lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0)
    engine.save(tmp_path / "resume", {"step": 1})
    (tmp_path / "resume" / "custom_checkpoint_0.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InputError, match=r"custom_checkpoint_0\.pkl does not belong to the checkpoint"):
        engine.load(tmp_path / "resume")
    assert not mark.exists()


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_model_folder_with_pickled_weights_alone_is_refused(folder, mark):
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Bomb(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(folder))
    assert not mark.exists()


def test_code_in_a_model_folder_does_not_run(folder, mark):
    (folder / "modeling_own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "own"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(folder))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    auto = {"AutoTokenizer": ["modeling_own.Own", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"auto_map": auto, "tokenizer_class": "Own"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_tokenizer(str(folder))
    assert not mark.exists()
    with pytest.raises((AttributeError, ImportError, ValueError)):  # asked for, it does run: the test can fail
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch planted') }}",
        "{{ 1 / 0 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ raise_exception('no system role') }}",
    ],
)
def test_a_chat_template_that_misbehaves_costs_the_row_and_says_so(template, folder, tmp_path, mark, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = "{% if 'x' in messages[0].content %}" + template + "{% endif %}"
    (folder / "chat_template.jinja").write_text(bad + "{% for m in messages %}p{{ m.content }}{% endfor %}")
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": prompt, "chosen": "b", "rejected": "c"} for prompt in ("x", "y")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups, skipped = encode(read_source(path).comparisons, load_tokenizer(str(folder)), max_length=64)
    assert len(groups) == 1
    assert "chat template refuses the prompt" in skipped[0][1]
    assert not mark.exists()


def test_a_recipe_is_no_program(mark, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"objective: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(InputError, match="is not YAML"):
        load_recipe(str(path))
    assert not mark.exists()


@pytest.mark.parametrize(
    "text", ["__import__('os').system('touch planted')", "p.__class__", "(lambda: p)()", "p if q else p"]
)
def test_a_formula_is_no_program(text, mark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        parse_formula(text)
    assert not mark.exists()


def test_a_run_writes_into_its_folder_and_the_cache_alone(tiny_folder, tmp_path, own_cache, monkeypatch):
    """Names out of data, places included, never become paths."""
    monkeypatch.chdir(tmp_path)
    data, held = write_pairs(tmp_path / "..x.jsonl", 6), write_pairs(tmp_path / "eval.jsonl", 5, seed=1)
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "../../up", "chosen": "/etc/x", "rejected": "../y"}) + "\n")
    before, model = listing(tmp_path), listing(tiny_folder)
    run_offline(tiny_folder, tmp_path / "run", data=data, eval_data=held, save=True, checkpoint_every=1)
    new = listing(tmp_path).keys() - before.keys()
    assert new
    assert {Path(name).parts[0] for name in new} == {"run", "cache"}
    assert listing(tiny_folder) == model
