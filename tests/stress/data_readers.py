"""Readers of preference data on trial: every container, every row format, the doctor, and texts of any kind."""

import csv
import functools
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from tests.stress.fuzz import Reader
from tests.stress.rubbish import TEXTS, altered, as_bytes, damaged
from tests.stress.tiny import tiny_tokenizer

USER, YES = {"role": "user", "content": "Which is taller?"}, {"role": "assistant", "content": "The oak."}
NO = {"from": "gpt", "value": "Grass."}
ROWS: tuple[dict[str, Any], ...] = (
    {"prompt": "Which is taller?", "chosen": "The oak.", "rejected": "Grass."},
    {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
    {"conversations": [{"from": "human", "value": "Which?"}], "chosen": YES, "rejected": NO},
    {"chosen": [USER, YES], "rejected": [USER, NO]},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    {"prompt": "p", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]},
    {"prompt": "p", "responses": ["a", [YES]], "scores": [1, 2.5]},
)


def as_jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(as_bytes(row) + b"\n" for row in rows)


def _parquet(rows: Sequence[Any]) -> bytes:
    with io.BytesIO() as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
        return file.getvalue()


def _csv(rows: Sequence[Any]) -> bytes:
    """Rows as a table of texts, lists and objects as JSON; what is no object is a row of one cell."""
    records = [{str(name): value for name, value in row.items()} if isinstance(row, dict) else {} for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    with io.StringIO(newline="") as file:
        table = csv.writer(file)
        for cells in [names, *([record.get(name, "") for name in names] for record in records)]:
            table.writerow([c if isinstance(c, str) else as_bytes(c).decode(errors="replace") for c in cells])
        return file.getvalue().encode(errors="replace")


LISTS = tuple([row, row] for row in ROWS)
LINES = tuple(map(as_jsonl, LISTS))
RECORDS = altered(LISTS).filter(lambda rows: isinstance(rows, list))


def _read_data(name: str) -> Any:
    def read(folder: Path) -> None:
        from llm.data.files import read_source
        from llm.data.tokens import encode

        comparisons = read_source(folder / name).comparisons
        if comparisons:
            encode(comparisons, _tokenizer(), max_length=64, pairs_only=False)

    return read


@functools.cache
def _tokenizer() -> Any:
    return tiny_tokenizer()


def data_readers() -> list[Reader]:
    """Every container, its bytes damaged and its records altered."""
    lists = tuple(map(as_bytes, LISTS))
    packed = tuple(map(gzip.compress, LINES))
    tables = tuple(map(_parquet, LISTS[:-1]))  # a column has one type
    inputs: dict[str, st.SearchStrategy[bytes]] = {
        "JSONL": st.one_of(damaged(LINES), RECORDS.map(as_jsonl)),
        "JSON": st.one_of(damaged(lists), altered(LISTS).map(as_bytes)),
        "JSONL.gz": st.one_of(
            damaged(packed), damaged(LINES).map(gzip.compress), RECORDS.map(as_jsonl).map(gzip.compress)
        ),
        "Parquet": damaged(tables),
        "CSV": st.one_of(damaged(tuple(map(_csv, LISTS))), RECORDS.map(_csv)),
    }
    names = {"CSV": "a.csv", "JSONL": "a.jsonl", "JSON": "a.json", "JSONL.gz": "a.jsonl.gz", "Parquet": "a.parquet"}
    readers = [Reader(f"data {kind}", names[kind], made, _read_data(names[kind])) for kind, made in inputs.items()]
    readers.append(Reader("data as texts", "a.jsonl", texts(), _read_data("a.jsonl"), names=False))
    return [*readers, *format_readers(), doctor_reader()]


def format_readers() -> list[Reader]:
    """Every format of `llm.data.row_formats`: a row of it damaged and altered, beside one that is whole."""
    from tests.llm.test_llm_formats import ROWS as FORMATS
    from tests.llm.test_llm_formats import UNPAIRED

    rows: dict[str, list[dict[str, Any]]] = {}
    for name, row in [*((name, row) for name, row, _ in FORMATS), *(("kto", row) for row, _ in UNPAIRED)]:
        rows.setdefault(name, []).append(row)
    rows["rated"] = [{"prompt": "p", "response": "a", "helpfulness": 2}, {"prompt": "p", "response": "b", "score": 1.5}]
    found = []
    for name, some in rows.items():
        lists = tuple([row, other] for row in some for other in some[:2])
        altered_rows = altered(lists).filter(lambda value: isinstance(value, list)).map(as_jsonl)
        inputs = st.one_of(damaged(tuple(map(as_jsonl, lists))), altered_rows)
        found.append(Reader(f"format {name}", "a.jsonl", inputs, _read_data("a.jsonl")))
    return found


def doctor_reader() -> Reader:
    """The pass of `inspect-data` over rows of all formats, and what it writes: it can be read again."""

    def read(folder: Path) -> None:
        from llm.data.clean import write_clean
        from llm.data.files import read_source
        from llm.data.inspect import Scan
        from llm.data.tally import Tally
        from llm.settings.inspect import InspectConfig

        config = InspectConfig(data=str(folder / "a.jsonl"), write=folder.parent / "clean.jsonl")
        scan = Scan(config, Tally())
        scan.run()
        json.dumps(scan.report().as_json())
        if int(write_clean(config, scan.tally, set()).split()[1]):
            source = read_source(folder.parent / "clean.jsonl")
            if source.skipped:
                raise AssertionError(f"a row that was written cannot be read: {source.skipped[0]}")

    return Reader("inspect-data", "a.jsonl", st.one_of(RECORDS.map(as_jsonl), texts()), read, names=False)


def texts() -> st.SearchStrategy[bytes]:
    """Rows of the right shape whose texts are anything: they have to reach the tokens or be skipped with a reason."""
    text = st.one_of(st.sampled_from(TEXTS), st.text(max_size=40))
    row = st.fixed_dictionaries({"prompt": text, "chosen": text, "rejected": text})
    return st.lists(row, min_size=1, max_size=3).map(as_jsonl)
