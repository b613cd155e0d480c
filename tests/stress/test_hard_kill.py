"""The harness of `make hard` finds what it is there to find; a disk that fills costs one line and no checkpoint."""

import errno
import json
import sys

import pytest
from safetensors import SafetensorError

from derivations.cli.errors import InputError
from llm.engine.checkpoints import last_checkpoint, unseal
from llm.engine.engine import Engine
from llm.engine.jsonl import Records
from tests.stress.disk import small_disk
from tests.stress.kill import Job, kill, results, said_by, start
from tests.stress.soak import MOST, growth, own_memory, slope
from tests.stress.tiny import tiny_model

# Counts to 40, a line each; goes on behind the last whole line, or makes one of the mistakes.
COUNTER = """
import json, pathlib, sys, time
out, mistake = pathlib.Path(sys.argv[1]), sys.argv[2]
out.mkdir(exist_ok=True)
rows = out / "rows"
text = rows.read_text() if rows.exists() else ""
if mistake != "half lines":
    text = text[: text.rfind("\\n") + 1]
if mistake == "starts over" and text:
    text = "0\\n0\\n"
rows.write_text(text)
for number in range(text.count("\\n"), 40):
    with rows.open("a") as file:
        file.write(str(number)[0])
        file.flush()
        time.sleep(0.005)
        file.write(str(number)[1:] + "\\n")
    (out / ".tmp").write_text("")
    (out / ".tmp").unlink(missing_ok=mistake != "fails")
if mistake == "debris" and len(text) > 10:
    (out / ".left.tmp").write_text("")
sys.exit(1 if mistake == "fails" and len(text) > 10 else 0)
"""


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("none", None),
        ("half lines", "rows differ"),
        ("starts over", "rows differ"),
        ("debris", "left behind"),
        ("fails", "status 1"),
    ],
)
def test_what_a_kill_loses_is_counted(mistake, words, tmp_path):
    command = ("-c", COUNTER, "{out}", mistake)
    row = kill(
        Job("counter", command, command, ("rows",), first="rows", aim="rows"), tmp_path, times=4, aimed=1, root=1
    )
    assert row.tried == 4
    if words is None:
        assert row.lost == []
    else:
        assert row.lost
        assert any(words in line for line in row.lost)


def test_a_commit_that_is_made_meanwhile_is_no_loss_and_another_setting_is(tmp_path):
    found = []
    for commit, seconds, beta in (("a", 1.0, 0.1), ("b", 2.0, 0.1), ("a", 1.0, 0.2)):
        record = {"config": {"beta": beta}, "seconds": seconds, "versions": {"numpy": "2", "git_commit": commit}}
        (tmp_path / "config.json").write_text(json.dumps(record))
        found.append(results(tmp_path, ("config.json",)))
    assert found[0] == found[1] != found[2]


def test_what_is_started_runs_on_cpus_and_leaves_the_user_s_cache_alone(tmp_path):
    """Without the first, two processes on a machine without a GPU are refused; without the second, what one run has
    cached is never again written when it is killed."""
    names = ("ACCELERATE_USE_CPU", "XDG_CACHE_HOME")
    process = start(("-c", f"import os; print(*map(os.environ.get, {names}))"), tmp_path / "out", tmp_path)
    assert said_by(process).split() == ["true", str(tmp_path / "cache")]


@pytest.fixture
def engine():
    return Engine(tiny_model(), lr=1e-3, dtype="float32", max_grad_norm=1.0, seed=0)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error", [FULL, SafetensorError("I/O error: No space left"), RuntimeError("write failed\nat 0")]
)
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_the_one_before_is_whole(
    error, engine, tmp_path, monkeypatch
):
    folder = tmp_path / "resume"
    engine.save(folder, {"step": 1})
    monkeypatch.setattr(engine.accelerator, "save_state", lambda place: (_ for _ in ()).throw(error))
    with pytest.raises(
        InputError, match=r"cannot write the checkpoint .*resume: .*; the one before it is whole"
    ) as stopped:
        engine.save(folder, {"step": 2})
    assert "\n" not in str(stopped.value)
    assert last_checkpoint(folder) == folder
    assert unseal(folder)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["resume"]  # what was half written made room


def test_rows_of_which_a_part_fits_are_refused_and_cut_off_by_the_checkpoint(tmp_path, monkeypatch):
    records = Records(tmp_path / "metrics.jsonl")
    records.add({"step": 1})
    size = records.size()

    class HalfFull:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            return self.file.write(data[: len(data) // 2])

    half = HalfFull()
    half.file = records.path.open("ab", buffering=0)
    with monkeypatch.context() as patch:
        patch.setattr(type(records.path), "open", lambda *a, **k: half)
        with pytest.raises(InputError, match=r"metrics\.jsonl: No space left on device"):
            records.add({"step": 2})
    assert records.size() > size
    records.cut(size)
    assert records.path.read_text() == '{"step": 1}\n'
    with pytest.raises(InputError, match="has lost rows"):
        records.cut(size + 1)


def test_a_small_disk_that_fills_keeps_the_last_good_checkpoint(engine, tmp_path):
    """For real, on a tmpfs with room for one checkpoint and a half; `make hard` does it to whole runs."""
    engine.save(tmp_path / "measured", {"step": 0})
    size = sum(path.stat().st_size for path in (tmp_path / "measured").iterdir())
    with small_disk(tmp_path / "disk", int(1.5 * size)) as mounted:
        if not mounted:
            pytest.skip("mounting a tmpfs is not allowed here")
        folder = tmp_path / "disk" / "resume"
        engine.save(folder, {"step": 1})
        with pytest.raises(InputError, match="the one before it is whole"):
            engine.save(folder, {"step": 2})
        assert engine.load(folder) == {"step": 1}
        assert [path.name for path in folder.parent.iterdir()] == ["resume"]


def test_the_slope_of_memory_comes_with_an_interval_that_holds_the_truth():
    import numpy as np

    rng = np.random.default_rng(0)
    steps = np.arange(2000.0)
    inside = []
    for _ in range(200):
        mean, low, high = slope(steps, 500 + 0.01 * steps + rng.normal(0, 3, 2000))
        inside.append(low <= 0.01 <= high)
        assert low < mean < high
    assert 0.9 <= np.mean(inside) <= 0.99  # 95 % nominal; 200 draws: standard error 1.5 %
    assert slope(steps, 500 + 0.01 * steps)[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("kind", "grows"), [("flat", False), ("noise", False), ("slope", True), ("a jump at the end", True)]
)
def test_memory_that_grows_by_more_than_is_allowed_is_found(kind, grows):
    import numpy as np

    steps = np.arange(500.0, 2000.0)
    added = {
        "flat": 0 * steps,
        "noise": np.random.default_rng(0).normal(0, 20, len(steps)),
        "slope": 1.1 * MOST * (steps - 500) / 1500,
        "a jump at the end": np.where(steps > 1900, 1.1 * MOST, 0.0),
    }
    words, most = growth(steps, 600 + added[kind])
    assert (most > MOST) is grows
    assert "over the last 1499 steps" in words


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped from files is told on Linux only")
def test_memory_that_a_process_takes_is_its_own_and_a_mapped_file_is_not(tmp_path):
    import mmap

    import numpy as np
    import psutil

    here, size = psutil.Process(), 64 * 2**20
    (tmp_path / "file").write_bytes(b"\1" * size)
    before = own_memory(here)
    mapped = np.memmap(tmp_path / "file", mode="r")
    assert int(mapped[:: 2**12].sum()) == size // 2**12
    assert own_memory(here) - before < size / 4
    # straight from the system: what the allocator gives may be memory that this process has had before
    taken = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(taken, dtype=np.uint8)[:] = 1
    assert own_memory(here) - before > 0.9 * size
