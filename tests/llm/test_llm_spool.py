"""Data of any size are read in bounded memory: the sequence on disk, the reading of a large file, and a long line."""

import errno
import json
import random
import tracemalloc

import numpy as np
import pyarrow.parquet
import pytest

from derivations.cli.errors import InputError
from llm.data.dataset import load_data, read_sources
from llm.data.files import Reading, read_source
from llm.data.spool import Picked, Spool
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import run_offline
from tests.llm.test_llm_data import TEXT, write


@pytest.mark.parametrize("room", [0, 100, 2**20])
def test_a_spool_is_the_list_of_what_was_appended_wherever_it_stands(room, monkeypatch):
    monkeypatch.setattr("llm.data.spool.IN_MEMORY", room)
    rng, spool, items = random.Random(room), Spool(), []  # noqa: S311
    for n in range(300):
        item = (n, "é\0" * rng.randrange(30), tuple(range(rng.randrange(9))))
        spool.append(item)
        items.append(item)
        at = rng.randrange(-len(items), len(items))
        assert spool[at] == items[at]
        assert len(spool) == len(items)
    assert list(spool) == items
    assert list(spool[7:290:3][::2]) == items[7:290:3][::2]
    assert list(Picked(spool, [5, 2, 5])) == [items[5], items[2], items[5]]
    for at in (300, -301):
        with pytest.raises(IndexError):
            spool[at]


def test_a_full_disk_is_said_with_the_way_out(monkeypatch):
    spool = Spool([1])

    def full(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool._file, "write", full)
    with pytest.raises(InputError, match="No space left on device; name a folder with more room in TMPDIR"):
        spool.append(2)


def peak(call):
    """Most bytes that Python held at once during the call, beyond those before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_is_read_in_less_memory_than_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("llm.data.spool.IN_MEMORY", 2**16)
    data = write(tmp_path / "a.jsonl", [TEXT | {"prompt": f"{n}" * 400, "chosen": "a" * 4000} for n in range(1500)])
    size = data.stat().st_size
    read_source(data)
    assert peak(lambda: read_source(data)) > 0.8 * size
    assert peak(lambda: read_source(data, keep=Spool)) < 0.1 * size


def test_a_long_line_is_passed_by_in_bounded_memory(tmp_path, monkeypatch):
    for name in ("MAX_LINE", "CHUNK"):
        monkeypatch.setattr(f"llm.data.containers.{name}", 2**16)
    data = tmp_path / "a.jsonl"
    data.write_text(json.dumps(TEXT) + "\n" + '{"prompt": "' + "a" * 2**24 + '"}\n' + json.dumps(TEXT) + "\n")
    read_source(data)
    found = []
    assert peak(lambda: found.append(read_source(data, keep=Spool))) < 2**19
    assert len(found[0].comparisons) == 2
    assert list(found[0].skipped) == [(f"{data} line 2", "a line of 16 MiB; at most 0 MiB are read")]


def test_a_run_from_disk_is_the_run_from_memory(tiny_folder, tmp_path, tiny_tokenizer, monkeypatch, own_cache):
    rows = [TEXT | {"prompt": f"{n // 2}?", "chosen": "b" * (1 + n % 7)} for n in range(40)]
    rows[3] = TEXT | {"chosen": None}
    data = write(tmp_path / "a.jsonl", rows)
    runs = []
    for room in (0, 2**26):
        monkeypatch.setattr("llm.data.spool.IN_MEMORY", room)
        out = run_offline(tiny_folder, tmp_path / str(room), data=data, max_steps=2)
        runs.append([(out / name).read_bytes() for name in ("examples.jsonl", "skipped.jsonl", "samples.jsonl")])
    assert runs[0] == runs[1]

    config = TrainConfig(objective="dpo", data=str(data))
    sources = read_sources(config)
    found = load_data(config, config.make_objective(), sources, None, tiny_tokenizer, limit=512)
    assert sources == {}, "the texts are let go once they are tokens"
    assert (len(found.train), len(found.evaluation), len(found.skipped)) == (32, 7, 1)
    assert not {g.examples[0].prompt for g in found.train} & {g.examples[0].prompt for g in found.evaluation}


def test_a_parquet_file_of_one_row_group_is_read_piece_by_piece(tmp_path):
    rng = np.random.default_rng(0)
    rows = [TEXT | {"prompt": f"{n}", "chosen": rng.bytes(300).hex()} for n in range(20_000)]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=20_000, compression="none")
    before, most = pyarrow.total_allocated_bytes(), 0
    for _ in Reading(str(path), lambda where, reason: None):
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert 0 < most < 0.5 * path.stat().st_size
