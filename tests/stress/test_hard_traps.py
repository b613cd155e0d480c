"""Traps in preference data: each is used, skipped with its reason, or refused by name; nothing large is held."""

import gzip
import json
import re
import subprocess
import sys
import textwrap

import pyarrow
import pyarrow.parquet
import pytest

from derivations.cli.errors import InputError
from llm.data.files import read_source
from llm.data.row_formats import Comparison
from llm.data.row_formats.rows import MAX_CHARACTERS
from llm.data.tokens import encode

GOOD = {"prompt": "Which?", "chosen": "The oak.", "rejected": "Grass."}


def as_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, GOOD)))
    return path


def tokens_of(path, tokenizer, **options):
    """Places that are used, and (place, reason) of those that are not; places as line numbers."""
    source = read_source(path)
    groups, skipped = encode(source.comparisons, tokenizer, **{"max_length": 64} | options)
    places = [int(g.where.split()[-1]) for g in groups]
    return places, [(int(where.split()[-1]), reason) for where, reason in source.skipped + skipped]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD | {"chosen": ""}, "empty response"),
        (GOOD | {"rejected": " \n\t"}, "empty response"),
        (GOOD | {"chosen": "Grass."}, "chosen and rejected are the same"),
        (GOOD | {"chosen": "a" * 80 + "x", "rejected": "a" * 80 + "y"}, "the same after truncation"),
        (GOOD | {"prompt": "p" * 500}, "the prompt has 518 tokens and leaves no room"),
        (GOOD | {"prompt": "half \ud800"}, "a lone surrogate"),
        (GOOD | {"rejected": "\udfff"}, "a lone surrogate"),
        (GOOD | {"chosen": "a" * (MAX_CHARACTERS + 1)}, "a text of 1,000,001 characters"),
    ],
)
def test_what_cannot_be_trained_on_is_skipped_with_its_line_and_reason(row, reason, tmp_path, tiny_tokenizer):
    used, skipped = tokens_of(as_file(tmp_path / "a.jsonl", row), tiny_tokenizer)
    assert used == [2]
    ((place, told),) = skipped
    assert place == 1
    assert reason in told


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ufeffa", "a\u2028b", "\x1b[2J", "e\u0301", "\U0001f600", "a\r\nb", "<eos>"]
)
def test_odd_characters_are_text_like_any_other(text, tmp_path, tiny_tokenizer):
    path = as_file(tmp_path / "a.jsonl", GOOD | {"chosen": text})
    used, skipped = tokens_of(path, tiny_tokenizer)
    if text != "<eos>":  # nothing is left of it but its end
        assert (used, skipped) == ([1, 2], [])
    (group, *_), _ = encode(read_source(path).comparisons, tiny_tokenizer, max_length=64)
    ids = group.examples[0].response
    assert ids.count(tiny_tokenizer.eos_token_id) == 1
    if text != "<eos>":
        assert tiny_tokenizer.decode(list(ids[:-1])) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "a", "chosen": "b", "chosen": "c", "rejected": "d"}', "field 'chosen' is given twice"),
        (b'{"prompt": "a", "chosen": {"role": "assistant", "content": "x", "content": "y"}, "rejected": "d"}', "twice"),
        (b'{"prompt": "a", "chosen": "b\x00", "rejected": "d"}', "broken JSON .*control character"),
        (b"\x00" * 50, "broken JSON"),
        (b'{"prompt": "a", "chosen": "b\xff", "rejected": "d"}', r"not UTF-8 \(byte 29 of the line"),
        (b'{"prompt": "a", "chosen": 5, "rejected": "d"}', "field 'chosen'"),
        (b'{"prompt": "a", "chosen": ["b"], "rejected": "d"}', "field 'chosen'"),
        (b'{"prompt": {"a": 1}, "chosen": "b", "rejected": "d"}', "field 'prompt'"),
        (b'{"prompt": "a", "chosen": NaN, "rejected": "d"}', "field 'chosen'"),
        (b'{"prompt": "a", "chosen": ' + b"[" * 5000, "cannot be read as JSON|broken JSON"),
        (b'{"prompt": "a", "chosen": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        ("\ufeff".encode() + json.dumps(GOOD).encode(), "broken JSON"),  # a mark belongs at the head of a file
        (json.dumps(GOOD).encode("utf-16"), "not UTF-8"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_data_is_skipped_by_line_and_field(content, message, packed, tmp_path):
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    data = json.dumps(GOOD).encode() + b"\n" + content + b"\n"
    path.write_bytes(gzip.compress(data) if packed else data)
    source = read_source(path)
    assert len(source.comparisons) == 1
    where, reason = source.skipped[0]
    assert where == f"{path} line 2"
    assert re.search(message, reason)
    assert "\n" not in reason
    assert len(reason) < 400


def test_marks_and_windows_line_ends_do_not_shift_the_lines(tmp_path, tiny_tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + (json.dumps(GOOD) + "\r\n\r\n" + json.dumps(GOOD | {"chosen": ""})).encode())
    assert tokens_of(path, tiny_tokenizer) == ([1], [(3, "empty response")])


def test_a_row_of_a_pretty_list_behind_blank_lines_is_named_by_its_own_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\n\n[\n" + json.dumps(GOOD) + ",\n\n" + json.dumps(GOOD)[:-3] + "\n]")
    with pytest.raises(InputError, match=r"a\.json line [67]: broken JSON"):
        read_source(path)


LIMITED = """
    import pathlib, re, resource, sys
    from llm.data.files import read_source
    from derivations.cli.errors import InputError
    limit = 2**30 + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        print(len(read_source(sys.argv[1]).comparisons))
    except InputError as error:
        print(error)
    # not ru_maxrss, which begins with the peak of the process that started this one
    print(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


def read_in_a_child(path):
    """What reading says in a process that may take 1.5 GiB, and its peak memory in MiB."""
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *words, peak = done.stdout.splitlines()
    return "\n".join(words), int(peak) / 1024


@pytest.mark.parametrize("filling", [b"\0", b"\n", b"[", b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'])
def test_a_gzip_bomb_is_refused_with_bounded_memory(filling, tmp_path):
    """10 GiB out of 10 MB: members of 64 MiB one after another, as gzip allows."""
    member = gzip.compress(filling * (2**26 // len(filling)), 9)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(member * 160)
    words, peak = read_in_a_child(path)
    assert "bomb.jsonl.gz" in words
    assert "expands to more than 200 times" in words or "longer than 256 MiB" in words
    assert peak < 900


def test_a_parquet_bomb_is_refused_with_bounded_memory(tmp_path):
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200_000), pyarrow.array(["a" * 50_000]))
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({name: text for name in GOOD}), path)
    words, peak = read_in_a_child(path)
    assert "bomb.parquet expands to more than 200 times" in words
    assert peak < 900


def test_a_single_line_of_100_mb_is_skipped_for_its_length(tmp_path, tiny_tokenizer):
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        file.write('{"prompt": "a", "rejected": "c", "chosen": "' + "b" * 10**8 + '"}\n' + json.dumps(GOOD) + "\n")
    words, peak = read_in_a_child(path)
    assert words == "1"
    assert peak < 900
    assert read_source(path).skipped == [(f"{path} line 1", "a line of 95 MiB; at most 64 MiB are read")]
    user = ({"role": "user", "content": "a"},)
    comparisons = [Comparison(user, ("b" * 10**8, "c"), "line 1"), Comparison(user, ("b", "c"), "line 2")]
    groups, skipped = encode(comparisons, tiny_tokenizer, max_length=64)
    assert [g.where for g in groups] == ["line 2"]
    assert skipped == [("line 1", "a text of 100,000,000 characters; at most 1,000,000 are tokenized")]
