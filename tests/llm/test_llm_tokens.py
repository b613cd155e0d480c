"""Tokens of a comparison: a boundary that nothing crosses, one EOS where a response ends, no row lost in silence."""

import copy
import io

import pytest
from rich.console import Console

from derivations.cli.errors import InputError
from llm.data.files import read_source
from llm.data.inspect import inspect_data, token_text
from llm.data.measure import histogram
from llm.data.row_formats import Comparison
from llm.data.tokens import Turn, encode, encode_prompt
from llm.scoring.packing import Example
from llm.settings.inspect import InspectConfig
from tests.llm.test_llm_data import SHAPES, SYSTEM, TEXT, USER, write


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from llm.scoring.models import bundled_folder

    return AutoTokenizer.from_pretrained(bundled_folder())


def pair_of(*, prompt="Which is taller?", chosen="The oak.", rejected="Grass."):
    return Comparison(({"role": "user", "content": prompt},), (chosen, rejected), "here")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_prompt_is_the_chat_template_up_to_the_assistant_and_a_prefix_of_both_sequences(shape, tokenizer, tmp_path):
    row, prompt, _ = SHAPES[shape]
    (encoded,), skipped = encode(read_source(write(tmp_path / "a.jsonl", [row])).comparisons, tokenizer, max_length=200)
    assert skipped == []
    template = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    assert template.endswith("<|im_start|>assistant\n")
    for example, text in zip(encoded.examples, ("The oak.", "Grass."), strict=True):
        assert tokenizer.decode(example.prompt) == template
        assert example.prompt == encode_prompt(prompt, tokenizer)
        assert tokenizer.decode(example.prompt + example.response) == f"{template}{text}{tokenizer.eos_token}"
        assert example.complete


@pytest.mark.parametrize("text", ["Grass.", "Grass.<|im_end|>", "Grass.<|im_end|><|im_end|>", "Grass.<|im_end|>\n"])
def test_a_complete_response_ends_with_exactly_one_eos(text, tokenizer):
    ids, complete = Turn((USER,), tokenizer).respond(text, room=50)
    assert complete
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == "Grass."


def test_text_behind_an_end_of_sequence_and_an_end_alone_are_reasons_to_skip(tokenizer):
    """Two EOS in one response would train the model to go on after its end."""
    rows = [pair_of(chosen="Yes.<|im_end|>And no."), pair_of(rejected="<|im_end|>"), pair_of()]
    kept, skipped = encode(rows, tokenizer, max_length=80)
    assert len(kept) == 1
    assert [reason for _, reason in skipped] == [
        "a response goes on behind its end-of-sequence token",
        "empty response",
    ]


@pytest.mark.parametrize("template", [None, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"])
def test_a_prompt_has_exactly_one_bos_if_the_model_has_one(template, tiny_tokenizer):
    """Whether the chat template writes it or the tokenizer adds it."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    assert tokenizer("a").input_ids[0] == bos
    tokenizer.chat_template = template
    (group,), _ = encode([pair_of()], tokenizer, max_length=80)
    for example in group.examples:
        assert example.prompt[0] == bos
        assert (example.prompt + example.response).count(bos) == 1


def test_a_truncated_response_has_no_eos_and_says_so(tokenizer):
    text = "One two three four five six."
    whole, _ = Turn((USER,), tokenizer).respond(text, room=99)
    for room in range(1, len(whole) + 2):
        ids, complete = Turn((USER,), tokenizer).respond(text, room=room)
        assert ids == whole[:room]
        assert complete == (room >= len(whole)) == (tokenizer.eos_token_id in ids)


def test_sequences_fill_max_length_and_never_pass_it(tokenizer):
    pair = pair_of(chosen="yes " * 300, rejected="no " * 300)
    (encoded,), _ = encode([pair], tokenizer, max_length=100)
    assert [len(e) for e in encoded.examples] == [100, 100]
    assert not any(e.complete for e in encoded.examples)


def test_rows_that_cannot_be_used_come_back_with_their_reason(tokenizer):
    useless = {
        "empty response": [pair_of(chosen=""), pair_of(rejected=" \n")],
        "chosen and rejected are the same": [pair_of(chosen="Grass.")],
        "leaves no room": [pair_of(prompt="word " * 100)],
        "the same after truncation": [pair_of(chosen="so " * 90 + "good", rejected="so " * 90 + "bad")],
    }
    pairs = [Comparison(p.prompt, p.responses, reason) for reason, some in useless.items() for p in some]
    kept, skipped = encode([*pairs, pair_of()], tokenizer, max_length=80)
    assert [k.where for k in kept] == ["here"]
    assert len(skipped) == len(pairs)
    for (where, reason), pair in zip(skipped, pairs, strict=True):
        assert where == pair.where
        assert where in reason
    with pytest.raises(InputError, match="no usable comparison among 5; first: empty response: empty response"):
        encode(pairs, tokenizer, max_length=80)


def test_a_prompt_takes_more_than_half_of_max_length_only_if_the_responses_fit_whole(tokenizer):
    size = len(encode_prompt(pair_of().prompt, tokenizer))
    long = pair_of(chosen="yes " * 90)
    (encoded,), _ = encode([long], tokenizer, max_length=2 * size)
    assert len(encoded.examples[0].response) == size
    with pytest.raises(InputError, match="leaves no room"):
        encode([long], tokenizer, max_length=2 * size - 1)
    short = pair_of()
    longest = max(len(e) for e in encode([short], tokenizer, max_length=200)[0][0].examples)
    assert longest < 2 * size
    (encoded,), _ = encode([short], tokenizer, max_length=longest)
    assert all(e.complete for e in encoded.examples), "responses that fit whole need no half"


def test_a_model_without_chat_template_gets_the_plain_text(tiny_tokenizer):
    plain = copy.deepcopy(tiny_tokenizer)
    plain.chat_template = None
    assert plain.decode(encode_prompt([SYSTEM, USER], plain)) == "Be brief.\nWhich is taller?"
    with pytest.raises(InputError, match="empty prompt"):
        encode([pair_of(prompt="")], plain, max_length=50)


@pytest.mark.parametrize("field", ["prompt", "chosen"])
def test_a_lone_surrogate_is_a_reason_to_skip(field, tokenizer):
    kept, skipped = encode([pair_of(**{field: "half \ud83d"}), pair_of()], tokenizer, max_length=80)
    assert len(kept) == 1
    assert "lone surrogate" in skipped[0][1]


def test_a_prompt_that_the_chat_template_refuses_is_skipped_with_its_words(tiny_tokenizer):
    strict = copy.deepcopy(tiny_tokenizer)
    strict.chat_template = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    pairs = [Comparison((SYSTEM, USER), ("a", "b"), "first"), Comparison((USER,), ("a", "b"), "second")]
    kept, skipped = encode(pairs, strict, max_length=80)
    assert [g.where for g in kept] == ["second"]
    assert skipped == [("first", "the model's chat template refuses the prompt: roles must alternate")]
    strict.chat_template = "{% if %}"
    with pytest.raises(InputError, match=r"no usable comparison among 2; first: first: the model's chat template"):
        encode(pairs, strict, max_length=80)


def test_rankings_keep_their_order_and_give_every_pair_where_pairs_are_wanted(tiny_tokenizer):
    def words(ranking, **options):
        groups, _ = encode([ranking], tiny_tokenizer, max_length=80, **options)
        return [[tiny_tokenizer.decode(e.response[:-1]) for e in group.examples] for group in groups]

    ranking = Comparison((USER,), ("a", "bb", "ccc"), "there")
    (group,), _ = encode([ranking], tiny_tokenizer, max_length=80, pairs_only=False)
    assert words(ranking, pairs_only=False) == [["a", "bb", "ccc"]]
    assert len(group) == len(group.examples[0].prompt) + 2 + 3 + 4
    assert words(ranking) == [["a", "bb"], ["a", "ccc"], ["bb", "ccc"]]
    with pytest.raises(InputError, match="a ranking of 3 has no top 3"):
        encode([ranking], tiny_tokenizer, max_length=80, pairs_only=False, top=3)
    same = Comparison((USER,), ("a", "b", "a"), "same")
    assert words(same, pairs_only=False) == [["a", "b"], ["b", "a"]], "only the comparison of a with itself is lost"


# ---- inspect-data


def test_inspect_data_shows_shape_counts_lengths_and_the_boundary(tiny_folder, tmp_path):
    data = write(tmp_path / "a.jsonl", [TEXT, TEXT | {"chosen": ""}, TEXT | {"chosen": "The oak. " * 20}])
    out = io.StringIO()
    config = InspectConfig(data=str(data), model=str(tiny_folder), max_length=100, example=1)
    inspect_data(config, Console(file=out, width=200))
    text = out.getvalue()
    assert "format: pairs" in text
    assert "rows: 3; comparisons: 2 usable; 1 rows skipped" in text
    assert "25.0 % of responses are cut" in text
    assert f"skipped 1: empty response (first: {data} line 2)" in text
    assert f"{data} line 3" in text
    assert "‖T|h|e| |o|a|k|." in text
    assert "truncated (no EOS)" in text
    assert "complete (ends with EOS)" in text


def test_prompt_and_response_tokens_have_different_colours(tiny_tokenizer):
    text = token_text(Example((65, 66), (67,), False), tiny_tokenizer)
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    words = [tiny_tokenizer.decode([i]) for i in (65, 66, 67)]
    assert [styles[w] for w in words] == ["dim", "dim", "bold green"]
    assert styles["‖"] == "bold red"


def test_the_histogram_counts_every_value_once():
    values = [3, 3, 4, 9, 20, 21, 50]
    rows = histogram(values, bins=5)
    assert sum(count for _, _, count in rows) == len(values)
    assert len(rows) <= 5
    for low, high, count in rows:
        assert count == sum(low <= v <= high for v in values)
    assert histogram([7, 7]) == [(7, 7, 2)]


def test_an_example_that_is_not_there_is_refused(tiny_folder, tmp_path):
    data = write(tmp_path / "a.jsonl", [TEXT])
    with pytest.raises(InputError, match="--example 1, but there are 1"):
        inspect_data(InspectConfig(data=str(data), model=str(tiny_folder), example=1))
