"""Rows become comparisons by their shape: what is wrong is named by row and field, what is unusable is skipped."""

import pytest

from derivations.cli.errors import InputError
from llm.data.files import read_source
from tests.llm.test_llm_data import NO, SHAPES, TEXT, USER, YES, write


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
        read_source(path)


def test_a_file_of_an_unknown_shape_is_told_which_shapes_there_are(tmp_path):
    with pytest.raises(InputError, match=r"line 1: no known shape among fields \['a', 'b'\].*prompt/chosen/rejected"):
        read_source(write(tmp_path / "a.jsonl", [{"a": 1, "b": 2}]))
    with pytest.raises(InputError, match=r"row 1: expected an object"):
        read_source(write(tmp_path / "a.json", [1]))


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
        ({"scores": [1, 2, float("nan")]}, "expected 3 numbers"),
        ({"scores": None}, "expected 3 numbers"),
        ({}, "field 'scores' is missing"),
    ],
)
def test_a_ranking_that_is_none_is_named(extra, message, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "responses": ["a", "b", "c"]} | extra])
    with pytest.raises(InputError, match=message):
        read_source(path)


def test_responses_come_best_first_and_ties_are_skipped(tmp_path):
    rows = [
        {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [0.5, 3, 1]},
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 1]},
    ]
    source = read_source(write(tmp_path / "a.jsonl", rows))
    assert [c.responses for c in source.comparisons] == [("c", "a", "b"), ("b", "c", "a")]
    assert "same score" in source.skipped[0][1]


def test_a_named_shape_overrides_what_the_first_row_looks_like(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": [USER, YES], "rejected": [USER, NO]}])
    assert read_source(path).shape == "pairs"
    assert read_source(path, shape="transcripts").comparisons[0].prompt == (USER,)
    with pytest.raises(InputError, match="field 'conversations' is missing"):
        read_source(path, shape="sharegpt")


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
