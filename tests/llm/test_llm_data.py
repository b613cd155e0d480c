"""Preference data: every file shape is read alike, bad files are named by line and field, no row is lost in silence."""

import csv
import gzip
import json
import os

import pyarrow.parquet
import pytest

from derivations.cli.errors import InputError
from llm.data.files import read_source, require_source

USER = {"role": "user", "content": "Which is taller?"}
YES = {"role": "assistant", "content": "The oak."}
NO = {"role": "assistant", "content": "Grass."}
SYSTEM = {"role": "system", "content": "Be brief."}
TEXT = {"prompt": "Which is taller?", "chosen": "The oak.", "rejected": "Grass."}

SHAPES = {
    "TRL text": (TEXT, [USER], "pairs"),
    "TRL chat": (
        {"prompt": [SYSTEM, USER], "chosen": [YES], "rejected": [NO]},
        [SYSTEM, USER],
        "pairs",
    ),
    "chat prompt, text responses": (TEXT | {"prompt": [USER]}, [USER], "pairs"),
    "transcripts": (
        {"chosen": [USER, NO, USER, YES], "rejected": [USER, NO, USER, NO]},
        [USER, NO, USER],
        "transcripts",
    ),
    "whole conversations beside a prompt": (
        {"prompt": "Which is taller?", "chosen": [USER, YES], "rejected": [USER, NO]},
        [USER],
        "pairs",
    ),
    "hh-rlhf text": (
        {
            "chosen": "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: Which is taller?\n\nAssistant: The oak.",
            "rejected": "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: Which is taller?\n\nAssistant: Grass.",
        },
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, USER],
        "transcripts",
    ),
    "ranking": (
        {"prompt": "Which is taller?", "responses": ["Grass.", "The oak."], "ranking": [1, 0]},
        [USER],
        "rankings",
    ),
    "scores": (
        {"prompt": [SYSTEM, USER], "responses": ["Grass.", [YES]], "scores": [-1, 2.5]},
        [SYSTEM, USER],
        "rankings",
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
        "sharegpt",
    ),
}


def write(path, rows):
    """Rows as the file name says: .json a list, .jsonl one a line, .gz compressed, .parquet a table."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    text = json.dumps(rows, indent=1) if ".jsonl" not in path.name else "".join(json.dumps(r) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# ---- reading


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_every_container_becomes_the_same_pair(shape, name, tmp_path):
    row, prompt, label = SHAPES[shape]
    if name == "a.parquet" and shape == "scores":
        row = row | {"responses": [[NO], [YES]]}  # a column has one type
    path = write(tmp_path / name, [row, row])
    source = read_source(path)
    assert source.shape == label
    assert source.skipped == []
    assert [(list(c.prompt), c.responses) for c in source.comparisons] == [(prompt, ("The oak.", "Grass."))] * 2
    place = "line" if ".jsonl" in name else "row"
    assert [c.where for c in source.comparisons] == [f"{path} {place} {n}" for n in (1, 2)]


def test_blank_lines_are_passed_over_and_still_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(TEXT) + "\n\n" + json.dumps(TEXT) + "\n")
    assert [c.where for c in read_source(path).comparisons] == [f"{path} line 2", f"{path} line 4"]


def test_broken_json_in_a_list_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "a.json"
    good = json.dumps(TEXT)
    path.write_text("\n".join(["[", *[good + ","] * 5, good[:-5], good, "]"]))
    with pytest.raises(InputError, match=r"a\.json line 7: broken JSON"):
        read_source(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps(TEXT)[:-1].encode(), f"broken JSON (Expecting ',' delimiter at column {len(json.dumps(TEXT))})"),
        (json.dumps(TEXT, ensure_ascii=False).replace("oak", "h\xeatre").encode("latin-1"), "not UTF-8"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b"3", "no object with fields"),
        (b"null", "no object with fields"),
        (b'{"prompt": "p", "prompt": "q"}', "'prompt' is given twice"),
    ],
)
def test_a_line_of_jsonl_that_cannot_be_read_is_skipped_with_the_reason(line, reason, tmp_path):
    path = tmp_path / "a.jsonl"
    for lines in ([line, json.dumps(TEXT).encode()], [json.dumps(TEXT).encode(), line]):
        if lines[0][:1] == b"[":
            continue  # a list, not lines
        path.write_bytes(b"\n".join(lines))
        source = read_source(path)
        assert len(source.comparisons) == 1
        ((where, why),) = source.skipped
        assert where == f"{path} line {lines.index(line) + 1}"
        assert reason in why


def test_a_line_too_long_is_passed_over_and_the_rest_is_read(tmp_path, monkeypatch):
    from llm.data import containers

    monkeypatch.setattr(containers, "MAX_LINE", 1000)
    path = write(tmp_path / "a.jsonl", [TEXT, TEXT | {"chosen": "a" * 5000}, TEXT])
    source = read_source(path)
    assert [c.where[-6:] for c in source.comparisons] == ["line 1", "line 3"]
    assert source.skipped[0][0].endswith("line 2")
    assert "a line of 0 MiB" in source.skipped[0][1]
    assert len(read_source(write(tmp_path / "a.json", [TEXT] * 50)).comparisons) == 50, "a list may be one long line"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_an_empty_file_is_refused(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no rows"):
        read_source(path)


def test_files_that_are_not_text_are_refused_by_name(tmp_path):
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(json.dumps(TEXT, ensure_ascii=False).replace("oak", "h\xeatre").encode("latin-1"))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(TEXT).encode() * 50)[:-12])
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_text(json.dumps(TEXT))
    for path in (latin, cut, plain, tmp_path / "missing.jsonl"):
        with pytest.raises(InputError, match=rf"cannot read .*{path.name}"):
            read_source(path)


def test_a_damaged_gz_is_refused_by_name(tmp_path):
    path = tmp_path / "damaged.jsonl.gz"
    whole = bytearray(gzip.compress(json.dumps(TEXT).encode() * 50))
    whole[12:20] = b"\xff" * 8
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match=r"cannot read .*damaged"):
        read_source(path)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_line_of_jsonl_ends_at_a_newline_and_nowhere_else(character, tmp_path):
    """JSON strings may hold these as they are; Python's splitlines() would cut there."""
    path = tmp_path / "a.jsonl"
    row = TEXT | {"chosen": f"The oak.{character}It is."}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n" + json.dumps(TEXT) + "\n", encoding="utf-8")
    pairs = read_source(path).comparisons
    assert [c.responses[0] for c in pairs] == [row["chosen"], "The oak."]
    assert pairs[1].where.endswith("line 2")


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes((json.dumps(TEXT) + "\r\n").encode() * 2)
    assert [c.where for c in read_source(path).comparisons] == [f"{path} line 1", f"{path} line 2"]


def test_a_byte_order_mark_is_not_part_of_the_data(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(TEXT).encode())
    assert len(read_source(path).comparisons) == 1


@pytest.mark.parametrize(("name", "written"), [("a.csv", json.dumps), ("a.tsv", str), ("a.CSV", repr)])
def test_a_table_of_texts_is_read_with_its_messages_unpacked(name, written, tmp_path):
    path = tmp_path / name
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t" if name == "a.tsv" else ",")
        table.writerows(
            [["prompt", "chosen", "rejected"], [written([SYSTEM, USER]), 'The oak,\nor "so".', written([NO])]]
        )
        table.writerow(["Which is taller?", "[{'role': no list", "Grass.", "one more"])
        table.writerow(["Which is taller?", "[{'role': no list", "Grass."])
    source = read_source(path)
    assert [(list(c.prompt), c.responses, c.where) for c in source.comparisons] == [
        ([SYSTEM, USER], ('The oak,\nor "so".', "Grass."), f"{path} row 1"),
        ([USER], ("[{'role': no list", "Grass."), f"{path} row 3"),
    ]
    assert source.skipped == [(f"{path} row 2", "more or fewer cells than the header has")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no rows"), (b"a,a\n1,2\n", "two columns of one name"),
     (b"a,b\n\xff,1\n", r"a\.csv: behind row 0: .*utf-8"),
     (b"a,b\n1," + b"2" * 300, "a line of more than"), (b'a,b\n1,"' + b"2\n" * 300, "field larger"),
     (b"a,b\n1,2\n", "no known format has the fields a, b")],
)  # fmt: skip
def test_a_broken_table_of_texts_is_refused_by_name(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr("llm.data.containers.MAX_LINE", 200)
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_source(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing else", b"\x00" * 100])
def test_a_broken_parquet_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet"):
        read_source(path)


def test_json_nested_too_deep_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"a\.json line 1"):
        read_source(path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_hub_data_set_is_read_by_name_and_split(kind, tmp_path, monkeypatch):
    """The hub itself is not reached: its data set is a folder here."""
    import datasets

    real = datasets.load_dataset_builder
    folder = tmp_path / "elsewhere" / "some-pairs"
    for split in ("train", "test"):
        rows = datasets.Dataset.from_list([TEXT] if split == "test" else [TEXT, TEXT])
        rows.to_parquet(folder / f"{split}.parquet") if kind == "parquet" else rows.to_json(folder / f"{split}.jsonl")
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name: real(str(tmp_path / "elsewhere" / name[6:])))
    monkeypatch.chdir(tmp_path)
    found = read_source("owner/some-pairs").comparisons
    assert [c.responses for c in found] == 2 * [("The oak.", "Grass.")]
    assert [c.where for c in read_source("owner/some-pairs:test").comparisons] == ["owner/some-pairs:test row 1"]
    with pytest.raises(InputError, match="data set 'owner/some-pairs:no-such' cannot be loaded"):
        read_source("owner/some-pairs:no-such")


@pytest.mark.parametrize("name", ["own/big", "own/big/train.parquet"])
def test_a_row_group_of_parquet_is_not_held_whole(name, tmp_path, monkeypatch):
    """Neither of a file nor of a data set: two hundred rows of 100 kB in one row group, of which one is asked for."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    from llm.data import containers

    texts = [os.urandom(50_000).hex() for _ in range(200)]
    (tmp_path / "own/big").mkdir(parents=True)
    table = pyarrow.table({"prompt": texts, "chosen": texts})
    path = tmp_path / "own/big/train.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=200, use_dictionary=False, write_batch_size=4)
    real = datasets.load_dataset_builder
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name: real(str(tmp_path / name)))
    rows = containers._parquet(path) if name.endswith("parquet") else containers._hub(name)
    before = pyarrow.total_allocated_bytes()
    assert next(rows)[1]["chosen"] == texts[0]
    assert pyarrow.total_allocated_bytes() - before < 15e6  # of 40e6; 16 rows are 3.2e6, a page of a column 1e6
    rows.close()


def test_what_is_no_data_set_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_source("owner/some-pairs")
    for name in ("no-such-file", "owner/file.jsonl", "a/b/c"):
        with pytest.raises(InputError, match="no such file"):
            require_source(name)
