"""Control tokens that data spells out are told, and nothing is asked for beyond the model's last position."""

import io
import json

import pytest
from rich.console import Console
from transformers import GPT2Config, GPT2LMHeadModel

from derivations.cli.errors import InputError
from llm.data.chat import control_text_warning
from llm.data.inspect import inspect_data
from llm.data.row_formats import Comparison
from llm.settings.inspect import InspectConfig
from tests.helpers.llm_runs import read_rows, run_offline, run_online, write_pairs
from tests.llm.test_llm_models import EOS, save


@pytest.mark.parametrize(
    ("prompt", "chosen", "found"),
    [
        ("Which?", "The oak.", None),
        ("What does <eos> mean?", "The end.", "<eos>"),
        ("Which?", "The oak.<eos>\n", None),
        ("Which?", "The oak.<pad>, I think", "<pad>"),
        ("Which <pad?", "The <eo s>", None),
    ],
)
def test_control_tokens_spelled_out_in_the_data_are_told_with_their_number_and_first_place(
    prompt, chosen, found, tiny_tokenizer
):
    texts = enumerate([("a", "b"), (prompt, chosen), ("a", "b"), (prompt, chosen)], start=1)
    rows = [Comparison(({"role": "user", "content": p},), (c, "Grass."), f"a line {n}") for n, (p, c) in texts]
    said = control_text_warning("a", rows, tiny_tokenizer)
    if found is None:
        assert said is None
    else:
        assert "a: 2 of 4 comparisons" in said
        assert f"(first: a line 2, {found!r})" in said


@pytest.mark.parametrize("bad", [True, False])
def test_control_tokens_in_the_data_are_announced_by_train_and_inspect_data(
    bad, tiny_folder, tmp_path, own_cache, capsys
):
    data = write_pairs(tmp_path / "a.jsonl", 4)
    with data.open("a") as file:
        file.write(
            json.dumps({"prompt": "Is <eos> an end?" if bad else "?", "chosen": "Yes.", "rejected": "No."}) + "\n"
        )
    run_offline(tiny_folder, tmp_path / "run", data=data, eval_size=1, max_steps=1, quiet=False)
    assert (f"warning: {data}: 1 of 5 comparisons" in capsys.readouterr().out) == bad
    out = io.StringIO()
    inspect_data(InspectConfig(data=str(data), model=str(tiny_folder)), Console(file=out, width=400))
    assert (f"(first: {data} line 5: '<eos>')" in out.getvalue()) == bad


# ---- positions


def test_online_refuses_responses_beyond_the_last_position_before_anything_runs(
    tiny_folder, tmp_path, own_cache, monkeypatch
):
    monkeypatch.setattr("llm.online.train.Engine.of", lambda *a: pytest.fail("it began"))
    words = (
        r"a sequence of 5\d\d tokens, but the model has positions 512; .*; lower --max-new-tokens or shorten --prompt"
    )
    with pytest.raises(InputError, match=words):
        run_online(tiny_folder, tmp_path / "run", max_new_tokens=500)
    assert not (tmp_path / "run").exists()


def test_train_samples_no_token_beyond_the_last_position(tiny_model, tiny_tokenizer, tmp_path, own_cache):
    """GPT-2 looks its 56 positions up in a table: one more is an IndexError."""
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=258, n_positions=56, n_embd=32, n_layer=1, n_head=2, eos_token_id=EOS)
    )
    save(tmp_path / "gpt2", model, tiny_tokenizer)
    data = tmp_path / "a.jsonl"
    row = json.dumps({"prompt": "ten letter", "chosen": "Yes.", "rejected": "No."}) + "\n"  # a prompt of 28 tokens
    data.write_text(row * 3)
    out = run_offline(tmp_path / "gpt2", tmp_path / "run", data=data, eval_size=1, max_length=56, max_steps=1)
    assert read_rows(out, "samples.jsonl")
    with pytest.raises(InputError, match=r"but the model has positions 56; .*pass --data or another --model"):
        run_offline(tmp_path / "gpt2", tmp_path / "own", max_length=56)
