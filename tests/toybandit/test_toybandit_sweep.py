"""Sweeps: the same bytes after a kill, on every backend, and in blocks as alone."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from derivations.cli.errors import InputError
from toybandit.experiment import FINAL, run
from toybandit.settings import Settings
from toybandit.sweep import CELLS_PER_BLOCK, Grid, blocks_of, parse_axis, sweep

BASE = {"seeds": 3, "steps": 40, "arms": 20, "pairs": 50}
AXES = {"coefficient": [0.1, 0.5], "regularizer": ["entropy", "kl"], "prior_scale": [0.0, 1.0]}
FILES = ("config.json", "results.csv", "summary.json")


def finish(grid, out, **options):
    return list(sweep(grid, out, **options))


def bytes_of(out):
    return {name: (out / name).read_bytes() for name in FILES}


def test_every_cell_is_in_the_table_with_the_numbers_of_its_own_run(tmp_path):
    progress = finish(Grid(BASE, AXES), tmp_path / "a")
    assert progress == [(i, 4) for i in range(5)]  # two regularizers x two proxies; the coefficients share a block
    rows = list(csv.DictReader((tmp_path / "a/results.csv").open()))
    assert len(rows) == 8 * 3
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    for cell in Grid(BASE, AXES).cells():
        alone = run(cell)
        mine = [r for r in rows if all(r[axis] == str(getattr(cell, axis)) for axis in AXES)]
        assert [int(r["world_number"]) for r in mine] == [0, 1, 2]
        for name, values in alone.final.items():
            found = np.array([float(r[name]) for r in mine])
            assert found == pytest.approx(np.broadcast_to(values, 3), abs=2e-6)  # float32, another order of sums
        entry = next(e for e in summary if e["settings"] == {axis: getattr(cell, axis) for axis in AXES})
        assert entry["gold_gain"]["mean"] == pytest.approx(alone.summary["gold_gain"].mean, abs=2e-6)


def test_every_backend_writes_the_same_bytes(tmp_path):
    finish(Grid(BASE, AXES), tmp_path / "local")
    finish(Grid(BASE, AXES), tmp_path / "joblib", backend="joblib", jobs=2)
    assert bytes_of(tmp_path / "joblib") == bytes_of(tmp_path / "local")


def test_a_local_ray_cluster_writes_the_same_bytes_too(tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install '.[cluster]' runs this test")
    finish(Grid(BASE, AXES), tmp_path / "local")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        finish(Grid(BASE, AXES), tmp_path / "ray", backend="ray", jobs=2)
    finally:
        ray.shutdown()
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")


def test_a_sweep_killed_half_way_and_started_again_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path):
    axes = {"coefficient": [0.1, 0.5], "prior_scale": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]}
    base = {"seeds": 3, "steps": 4000}
    grid = [f"{name}={','.join(map(str, values))}" for name, values in axes.items()]
    command = [sys.executable, "-m", "toybandit", "sweep", "--grid", *grid, "--out", "a", "--quiet"]
    command += [text for name, value in base.items() for text in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while len(list(tmp_path.glob("a/blocks/*.json"))) < 2:
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("a/blocks/*.json")}
    assert 2 <= len(before) < 6
    assert not (tmp_path / "a/results.csv").exists()

    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("a/blocks/*.json")}
    assert len(after) == 6
    assert {name: after[name] for name in before} == before  # finished blocks are not run again
    finish(Grid(base, axes), tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_another_sweep_in_the_folder_is_refused_and_a_damaged_block_is_named(tmp_path):
    finish(Grid(BASE, AXES), tmp_path)
    with pytest.raises(InputError, match="holds another run or sweep"):
        finish(Grid(BASE, AXES | {"coefficient": [0.2]}), tmp_path)
    (tmp_path / "blocks/00001.json").write_text("[{")
    with pytest.raises(InputError, match=r"00001.json is damaged"):
        finish(Grid(BASE, AXES), tmp_path)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda block: [{}, {}], "metrics are missing"),
        (lambda block: block[:1], "not 2 cells"),
        (lambda block: {"a": 1, "b": 2}, "not 2 cells"),
        (lambda block: [block[0], block[1] | {"gold_gain": [1.0]}], "gold_gain is not 3 numbers"),
        (lambda block: [block[0], block[1] | {"kl": ["x", 1.0, 2.0]}], "kl is not 3 numbers"),
        (lambda block: [block[0], block[1] | {"other": [1.0] * 3}], "metrics are missing or unknown"),
    ],
)
def test_a_block_that_is_json_but_no_result_is_named_as_damaged(tmp_path, mistake, message):
    grid = Grid(BASE | {"steps": 2}, {"coefficient": [0.1, 0.5]})
    finish(grid, tmp_path)
    file = tmp_path / "blocks/00000.json"
    file.write_text(json.dumps(mistake(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=f"00000.json is damaged .*{message}"):
        finish(grid, tmp_path)


def test_the_names_of_the_final_numbers_are_those_of_a_run():
    assert tuple(run(Settings(coefficient=0.5, **BASE)).final) == FINAL


def test_blocks_hold_cells_that_differ_only_in_the_coefficient_of_one_named_regularizer():
    cells = [Settings(coefficient=c, regularizer=r) for r in ("entropy", "kl") for c in np.linspace(0, 1, 30).tolist()]
    cells += [Settings(regularizer="entropy=0.1+kl=0.1"), Settings(regularizer="entropy=0.1+kl=0.2")]
    blocks = blocks_of(cells)
    assert sorted(i for block in blocks for i in block) == list(range(len(cells)))
    assert sorted(len(block) for block in blocks) == [1, 1, 5, 5, CELLS_PER_BLOCK, CELLS_PER_BLOCK]
    for block in blocks:
        assert len({cells[i].regularizer for i in block}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coefficient=0.1,1", ("coefficient", [0.1, 1.0])),
        ("prior-scale=0", ("prior_scale", [0.0])),
        ("pairs=30,100", ("pairs", [30, 100])),
        ("arms=20", ("arms", [20])),
        ("regularizer=entropy=0.5+kl=0.1,kl=0.5", ("regularizer", ["entropy=0.5+kl=0.1", "kl=0.5"])),
    ],
)
def test_an_axis_is_read_with_the_type_of_its_setting(text, expected):
    name, values = parse_axis(text)
    assert (name, values) == expected
    assert [type(value) for value in values] == [type(value) for value in expected[1]]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "the grid is empty"),
        ({"coefficient": []}, "the grid is empty"),
        ({"coefficent": [1.0]}, "did you mean 'coefficient'"),
        ({"coefficient": [1.0, 1.0]}, "has a value twice"),
    ],
)
def test_a_grid_that_is_none_is_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        Grid({}, axes)
