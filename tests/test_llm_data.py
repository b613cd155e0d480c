"""Preference data: every file shape is read alike, bad files are named by line and field, no row is lost in silence."""

import gzip
import json

import pytest

from derivations.commands import InputError
from llm.data import Pair, encode_pairs, encode_prompt, encode_response, read_pairs, split_pairs

USER = {"role": "user", "content": "Which is taller?"}
YES = {"role": "assistant", "content": "The oak."}
NO = {"role": "assistant", "content": "Grass."}
SYSTEM = {"role": "system", "content": "Be brief."}
TEXT = {"prompt": "Which is taller?", "chosen": "The oak.", "rejected": "Grass."}

SHAPES = {
    "TRL text": (TEXT, [USER], "prompt/chosen/rejected"),
    "TRL chat": (
        {"prompt": [SYSTEM, USER], "chosen": [YES], "rejected": [NO]},
        [SYSTEM, USER],
        "prompt/chosen/rejected",
    ),
    "chat prompt, text responses": (TEXT | {"prompt": [USER]}, [USER], "prompt/chosen/rejected"),
    "transcripts": (
        {"chosen": [USER, NO, USER, YES], "rejected": [USER, NO, USER, NO]},
        [USER, NO, USER],
        "chosen/rejected transcripts",
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Which is taller?"},
                {"from": "gpt", "value": "Grass."},
                {"from": "human", "value": "Which is taller?"},
            ],
            "chosen": {"from": "gpt", "value": "The oak."},
            "rejected": {"from": "gpt", "value": "Grass."},
        },
        [SYSTEM, USER, NO, USER],
        "ShareGPT",
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from llm.models import bundled_folder

    return AutoTokenizer.from_pretrained(bundled_folder())


def write(path, rows):
    """Rows as the file name says: .json a list, .jsonl one a line, .gz compressed."""
    text = json.dumps(rows, indent=1) if ".jsonl" not in path.name else "".join(json.dumps(r) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def pair_of(*, prompt="Which is taller?", chosen="The oak.", rejected="Grass."):
    return Pair(({"role": "user", "content": prompt},), chosen, rejected, "here")


# ---- reading


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_every_container_becomes_the_same_pair(shape, name, tmp_path):
    row, prompt, label = SHAPES[shape]
    path = write(tmp_path / name, [row, row])
    pairs, found = read_pairs(path)
    assert found == label
    assert [(list(p.prompt), p.chosen, p.rejected) for p in pairs] == [(prompt, "The oak.", "Grass.")] * 2
    assert [p.where for p in pairs] == [f"{path} {'line' if '.jsonl' in name else 'row'} {n}" for n in (1, 2)]


def test_blank_lines_are_passed_over_and_still_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(TEXT) + "\n\n" + json.dumps(TEXT) + "\n")
    assert [p.where for p in read_pairs(path)[0]] == [f"{path} line 2", f"{path} line 4"]


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_broken_json_is_named_by_file_and_line(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    good = json.dumps(TEXT)
    lines = [good] * 6 + [good[:-5]] + [good] if suffix == "jsonl" else ["[", *[good + ","] * 5, good[:-5], good, "]"]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"a\.{suffix} line 7: broken JSON"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TEXT | {"chosen": 3}, r"line 2, field 'chosen': .*got 3"),
        (TEXT | {"rejected": None}, r"line 2, field 'rejected'"),
        (TEXT | {"chosen": ["The oak."]}, r"line 2, field 'chosen'"),
        (TEXT | {"chosen": [YES, YES]}, r"line 2, field 'chosen': .*exactly one assistant message"),
        (TEXT | {"chosen": [USER]}, r"line 2, field 'chosen': .*exactly one assistant message"),
        (TEXT | {"prompt": 5}, r"line 2, field 'prompt': .*got 5"),
        (TEXT | {"prompt": []}, r"line 2, field 'prompt': expected a list of messages"),
        (TEXT | {"prompt": [{"role": "wizard", "content": "a"}]}, r"line 2, field 'prompt': .*role"),
        (TEXT | {"prompt": [{"role": ["user"], "content": "a"}]}, r"line 2, field 'prompt': .*role"),
        (TEXT | {"prompt": [{"role": "user", "content": 1}]}, r"line 2, field 'prompt': .*text"),
        ({"prompt": "a", "chosen": "b"}, r"line 2: field 'rejected' is missing"),
        ("only text", r"line 2: field 'prompt' is missing"),
    ],
)
def test_a_wrong_type_is_named_by_file_row_and_field(row, message, tmp_path):
    path = write(tmp_path / "a.jsonl", [TEXT, row])
    with pytest.raises(InputError, match=r"a\.jsonl " + message):
        read_pairs(path)


def test_a_file_of_an_unknown_shape_is_told_which_shapes_there_are(tmp_path):
    with pytest.raises(InputError, match=r"line 1: no known shape among fields \['a', 'b'\].*prompt/chosen/rejected"):
        read_pairs(write(tmp_path / "a.jsonl", [{"a": 1, "b": 2}]))
    with pytest.raises(InputError, match=r"row 1: expected an object"):
        read_pairs(write(tmp_path / "a.json", [1]))


def test_transcripts_that_part_before_their_last_message_are_refused(tmp_path):
    row = {"chosen": [USER, YES, USER, YES], "rejected": [USER, NO, USER, NO]}
    with pytest.raises(InputError, match=r"line 1: chosen and rejected must agree"):
        read_pairs(write(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_an_empty_file_is_refused(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no rows"):
        read_pairs(path)


def test_files_that_are_not_text_are_refused_by_name(tmp_path):
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(json.dumps(TEXT, ensure_ascii=False).replace("oak", "h\xeatre").encode("latin-1"))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(TEXT).encode() * 50)[:-12])
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_text(json.dumps(TEXT))
    for path in (latin, cut, plain, tmp_path / "missing.jsonl"):
        with pytest.raises(InputError, match=rf"cannot read .*{path.name}"):
            read_pairs(path)


def test_a_damaged_gz_is_refused_by_name(tmp_path):
    path = tmp_path / "damaged.jsonl.gz"
    whole = bytearray(gzip.compress(json.dumps(TEXT).encode() * 50))
    whole[12:20] = b"\xff" * 8
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match=r"cannot read .*damaged"):
        read_pairs(path)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_line_of_jsonl_ends_at_a_newline_and_nowhere_else(character, tmp_path):
    """JSON strings may hold these as they are; Python's splitlines() would cut there."""
    path = tmp_path / "a.jsonl"
    row = TEXT | {"chosen": f"The oak.{character}It is."}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n" + json.dumps(TEXT) + "\n", encoding="utf-8")
    pairs, _ = read_pairs(path)
    assert [p.chosen for p in pairs] == [row["chosen"], "The oak."]
    assert pairs[1].where.endswith("line 2")


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes((json.dumps(TEXT) + "\r\n").encode() * 2)
    assert [p.where for p in read_pairs(path)[0]] == [f"{path} line 1", f"{path} line 2"]


# ---- tokens


@pytest.mark.parametrize("shape", SHAPES)
def test_the_prompt_is_the_chat_template_up_to_the_assistant_and_a_prefix_of_both_sequences(shape, tokenizer, tmp_path):
    row, prompt, _ = SHAPES[shape]
    pairs, _ = read_pairs(write(tmp_path / "a.jsonl", [row]))
    (encoded,), skipped = encode_pairs(pairs, tokenizer, max_length=200)
    assert skipped == []
    template = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    assert template.endswith("<|im_start|>assistant\n")
    for example, text in ((encoded.chosen, "The oak."), (encoded.rejected, "Grass.")):
        assert tokenizer.decode(example.prompt) == template
        assert example.prompt == encode_prompt(prompt, tokenizer)
        assert tokenizer.decode(example.prompt + example.response) == f"{template}{text}{tokenizer.eos_token}"
        assert example.complete


@pytest.mark.parametrize("text", ["Grass.", "Grass.<|im_end|>", "Grass.<|im_end|><|im_end|>"])
def test_a_complete_response_ends_with_exactly_one_eos(text, tokenizer):
    ids, complete = encode_response(text, tokenizer, room=50)
    assert complete
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == "Grass."


def test_a_truncated_response_has_no_eos_and_says_so(tokenizer):
    text = "One two three four five six."
    whole, _ = encode_response(text, tokenizer, room=99)
    for room in range(1, len(whole) + 2):
        ids, complete = encode_response(text, tokenizer, room=room)
        assert ids == whole[:room]
        assert complete == (room >= len(whole)) == (tokenizer.eos_token_id in ids)


def test_sequences_fill_max_length_and_never_pass_it(tokenizer):
    pair = pair_of(chosen="yes " * 300, rejected="no " * 300)
    (encoded,), _ = encode_pairs([pair], tokenizer, max_length=100)
    assert (len(encoded.chosen), len(encoded.rejected)) == (100, 100)
    assert not encoded.chosen.complete
    assert not encoded.rejected.complete


def test_rows_that_cannot_be_used_come_back_with_their_reason(tokenizer):
    useless = {
        "empty response": [pair_of(chosen=""), pair_of(rejected=" \n")],
        "chosen and rejected are the same": [pair_of(chosen="Grass.")],
        "leaves no room": [pair_of(prompt="word " * 100)],
        "the same after truncation": [pair_of(chosen="so " * 90 + "good", rejected="so " * 90 + "bad")],
    }
    pairs = [Pair(p.prompt, p.chosen, p.rejected, reason) for reason, some in useless.items() for p in some]
    kept, skipped = encode_pairs([*pairs, pair_of()], tokenizer, max_length=80)
    assert [k.where for k in kept] == ["here"]
    assert len(skipped) == len(pairs)
    for (where, reason), pair in zip(skipped, pairs, strict=True):
        assert where == pair.where
        assert where in reason
    with pytest.raises(InputError, match="no usable pair among 5; first: empty response: empty response"):
        encode_pairs(pairs, tokenizer, max_length=80)


def test_a_prompt_may_take_half_of_max_length_and_no_more(tokenizer):
    size = len(encode_prompt(pair_of().prompt, tokenizer))
    long = pair_of(chosen="yes " * 90)
    (encoded,), _ = encode_pairs([long], tokenizer, max_length=2 * size)
    assert len(encoded.chosen.response) == size
    with pytest.raises(InputError, match="leaves no room"):
        encode_pairs([long], tokenizer, max_length=2 * size - 1)


def test_a_model_without_chat_template_gets_the_plain_text(tiny_tokenizer):
    import copy

    plain = copy.deepcopy(tiny_tokenizer)
    plain.chat_template = None
    assert plain.decode(encode_prompt([SYSTEM, USER], plain)) == "Be brief.\nWhich is taller?"
    with pytest.raises(InputError, match="empty prompt"):
        encode_pairs([pair_of(prompt="")], plain, max_length=50)


# ---- splitting


def test_the_split_is_disjoint_whole_and_decided_by_the_seed():
    pairs = list(range(100))
    train, held = split_pairs(pairs, eval_size=24, seed=0)
    assert (len(train), len(held)) == (76, 24)
    assert sorted(train + held) == pairs
    assert held != pairs[:24]
    assert split_pairs(pairs, eval_size=24, seed=0) == (train, held)
    assert split_pairs(pairs, eval_size=24, seed=1) != (train, held)
    assert pairs == list(range(100))


def test_nothing_left_to_train_on_is_refused():
    assert len(split_pairs(range(25), eval_size=24, seed=0)[0]) == 1
    with pytest.raises(InputError, match=r"24 usable pairs are too few to hold out 24.*--eval-size"):
        split_pairs(range(24), eval_size=24, seed=0)
