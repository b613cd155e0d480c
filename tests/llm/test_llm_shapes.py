"""Rows become comparisons by their format; a row that cannot be used is skipped with a reason that names its field."""

import re

import pytest

from derivations.cli.errors import InputError
from llm.data.files import read_source, require_usable
from llm.data.row_formats.mapping import read_mapping
from llm.data.tokens import encode
from tests.llm.test_llm_data import NO, SHAPES, TEXT, USER, YES, write


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (TEXT | {"chosen": 3}, r"field 'chosen': .*got 3"),
        (TEXT | {"rejected": None}, r"field 'rejected'"),
        (TEXT | {"chosen": ["The oak."]}, r"field 'chosen'"),
        (TEXT | {"chosen": [YES, YES]}, r"do not agree up to their last message"),
        (TEXT | {"chosen": [USER]}, r"field 'chosen' ends with a message of the user"),
        (TEXT | {"chosen": "Grass."}, r"chosen and rejected are the same"),
        (TEXT | {"chosen": " "}, r"empty response"),
        (TEXT | {"chosen": "half \ud83d"}, r"a lone surrogate"),
        (TEXT | {"prompt": 5}, r"field 'prompt': .*got 5"),
        (TEXT | {"prompt": []}, r"field 'prompt': expected a list of messages"),
        (TEXT | {"prompt": [{"role": "wizard", "content": "a"}]}, r"field 'prompt': .*role"),
        (TEXT | {"prompt": [{"role": ["user"], "content": "a"}]}, r"field 'prompt': .*role"),
        (TEXT | {"prompt": [{"role": "user", "content": 1}]}, r"field 'prompt': .*text"),
        (TEXT | {"prompt": [{"role": "user", "content": None}]}, r"a content that is null"),
        (TEXT | {"prompt": [USER, {"role": "tool", "content": "12 C"}]}, r"a message of the role 'tool'"),
        (TEXT | {"prompt": [USER, YES | {"content": None, "tool_calls": [{}]}]}, r"a tool call"),
        (TEXT | {"prompt": [USER | {"content": [{"type": "image", "image": "a.png"}]}]}, r"content that is no text"),
        ({"prompt": "a", "chosen": "b"}, r"field 'rejected' is missing"),
        ({"a": 1}, r"field 'chosen' is missing|field 'prompt' is missing"),
        ("only text", r"no object with fields"),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, r"no prompt field"),
    ],
)
def test_a_row_that_cannot_be_used_is_skipped_and_named(row, reason, tmp_path):
    source = read_source(write(tmp_path / "a.jsonl", [TEXT, row]))
    assert len(source.comparisons) == 1
    ((where, why),) = source.skipped
    assert where.endswith("a.jsonl line 2")
    assert re.search(reason, why)


def test_a_file_of_no_known_format_is_told_its_fields_the_nearest_format_and_the_map_that_reads_it(tmp_path):
    row = {"query_text": "Which is taller?", "good_answer": "The oak.", "bad_answer": "Grass.", "id": 3}
    path = write(tmp_path / "a.jsonl", [row])
    with pytest.raises(InputError) as refused:
        read_source(path)
    words = str(refused.value)
    assert "a.jsonl line 1: no known format has the fields query_text, good_answer, bad_answer, id" in words
    options = re.findall(r"--map (\S+)", words)
    assert options == ["query_text=prompt", "good_answer=chosen", "bad_answer=rejected"]
    (pair,) = read_source(path, mapping=options).comparisons
    assert (list(pair.prompt), pair.responses) == ([USER], ("The oak.", "Grass."))
    with pytest.raises(InputError, match=r"fields a, b; the nearest is `.*--map FIELD=.* for FIELD"):
        read_source(write(tmp_path / "b.jsonl", [{"a": 1, "b": 2}]))
    with pytest.raises(InputError, match=r"row 1: expected an object"):
        read_source(write(tmp_path / "a.json", [1]))


@pytest.mark.parametrize(
    ("text", "message"),
    [("a", "expected THEIRS=OURS"), ("=chosen", "expected THEIRS=OURS"), ("a=chose", "did you mean 'chosen'")],
)
def test_a_map_that_is_none_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_mapping([text])


def test_a_map_reaches_into_objects_and_outranks_the_name_it_takes(tmp_path):
    row = {"data": {"ask": "Which is taller?"}, "prompt": "an id", "a": "The oak.", "b": "Grass."}
    path = write(tmp_path / "a.jsonl", [row])
    (pair,) = read_source(path, mapping=["data.ask=prompt", "a=chosen", "b=rejected"]).comparisons
    assert list(pair.prompt) == [USER]


def test_transcripts_that_part_before_their_last_message_are_skipped_with_the_reason(tmp_path):
    row = {"chosen": [USER, YES, USER, YES], "rejected": [USER, NO, USER, NO]}
    source = read_source(write(tmp_path / "a.jsonl", [row, {"chosen": [USER, YES], "rejected": [USER, NO]}]))
    assert [c.where[-6:] for c in source.comparisons] == ["line 2"]
    ((where, reason),) = source.skipped
    assert where.endswith("line 1")
    assert "do not agree up to their last message" in reason


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"ranking": [0, 0, 1]}, "indices 0 to 2, best first"),
        ({"ranking": [0, 1]}, "indices 0 to 2"),
        ({"ranking": [1, 2, 3]}, "indices 0 to 2"),
        ({"ranking": ["0", "1", "2"]}, "indices 0 to 2"),
        ({"scores": [1, 2]}, "expected 3 numbers"),
        ({"scores": [1, 2, float("nan")]}, "expected a number"),
        ({"scores": [1, 2, "a"]}, "expected a number"),
        ({"scores": [2, 2, 2]}, "all responses are tied"),
        ({"scores": None}, "field 'scores' is null"),
        ({}, "field 'scores' is missing"),
    ],
)
def test_a_ranking_that_is_none_is_named(extra, message, tmp_path):
    row = {"prompt": "p", "responses": ["a", "b", "c"]} | extra
    ((_, reason),) = read_source(write(tmp_path / "a.jsonl", [row])).skipped
    assert message in reason


def test_responses_come_best_first_and_a_tie_drops_only_the_tied_comparison(tmp_path, tiny_tokenizer):
    rows = [
        {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [0.5, 3, 1]},
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 1]},
    ]
    comparisons = read_source(write(tmp_path / "a.jsonl", rows)).comparisons
    assert [c.responses for c in comparisons] == [("c", "a", "b"), ("b", "c", "a"), ("b", "a", "c")]
    assert [c.tied for c in comparisons] == [False, False, True]
    assert [c.decided() for c in comparisons] == [[(0, 1), (0, 2), (1, 2)]] * 2 + [[(0, 1), (0, 2)]]

    def words(**options):
        groups, _ = encode(comparisons, tiny_tokenizer, max_length=64, **options)
        return ["".join(tiny_tokenizer.decode(e.response[:-1]) for e in g.examples) for g in groups]

    assert words(pairs_only=False) == ["cab", "bca", "ba", "bc"]
    assert words() == ["ca", "cb", "ab", "bc", "ba", "ca", "ba", "bc"]


def test_a_named_shape_overrides_what_the_rows_look_like(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": [USER, YES], "rejected": [USER, NO]}])
    assert read_source(path).shape == "pairs"
    assert read_source(path, shape="transcripts").comparisons[0].prompt == (USER,)
    source = read_source(path, shape="sharegpt")
    with pytest.raises(InputError, match="field 'conversations' is missing"):
        require_usable(source)


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_of_other_shapes_that_hold_nothing_change_nothing(shape, tmp_path):
    """A table has every column in every row; those a row does not use are null, in messages too."""
    row, prompt, label = SHAPES[shape]
    columns = ("responses", "conversations", "ranking", "prompt", "chosen", "rejected", "scores")
    union = {"role": None, "content": None, "from": None, "value": None}

    def widen(value):
        if isinstance(value, list):
            return [widen(v) for v in value]
        return union | value if isinstance(value, dict) else value

    wide = dict.fromkeys(columns) | {name: widen(value) for name, value in row.items()}
    source = read_source(write(tmp_path / "a.jsonl", [wide]))
    assert source.shape == label
    assert [(list(c.prompt), c.responses) for c in source.comparisons] == [(prompt, ("The oak.", "Grass."))]
