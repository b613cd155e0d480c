"""Readers of `toybandit`, `derivations` and the report on trial."""

import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from derivations.cli.files import to_json, write_json
from tests.stress.fuzz import Reader
from tests.stress.rubbish import altered, as_bytes, damaged

ROOT = Path(__file__).resolve().parents[2]


def _json_inputs(good: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged((as_bytes(good),)), altered((good,)).map(as_bytes))


def run_folder_readers() -> list[Reader]:
    """What `plot` reads of a run folder."""
    from toybandit.plots import PANELS, read_run, trajectory_figure
    from toybandit.settings import Settings

    config = {"config": asdict(Settings(coefficient=0.5)), "versions": {}}
    row = {"t": 0.2, "step": 1} | {name + end: 0.5 for name, _ in PANELS for end in ("", "_low", "_high")}
    lines = (to_json(row) + "\n") * 3

    def lay(folder: Path) -> None:
        write_json(folder / "config.json", config)
        (folder / "metrics.jsonl").write_text(lines)

    rows = altered(([row] * 3,)).filter(lambda r: isinstance(r, list))

    def read(folder: Path) -> None:
        from toybandit.plots import Curves

        curves: Curves = read_run(folder)
        trajectory_figure([curves])

    as_lines = rows.map(lambda found: b"".join(as_bytes(r) + b"\n" for r in found))
    metrics = st.one_of(damaged((lines.encode(),)), as_lines)
    return [
        Reader("bandit config.json", "config.json", _json_inputs(config), read, lay),
        Reader("bandit metrics.jsonl", "metrics.jsonl", metrics, read, lay),
    ]


SWEEP = (
    b'[grid]\ncoefficient = [0.1, 0.5]\nregularizer = ["entropy", "kl"]\n[settings]\nseeds = 3\nlr = 0.2\narms = 20\n'
)


def sweep_readers() -> list[Reader]:
    """The grid's TOML file, and config.json and the blocks that a sweep goes on from."""
    from derivations.cli.run_folder import start_run
    from toybandit.cli_sweep import Sweep
    from toybandit.experiment import FINAL
    from toybandit.sweep import Grid, _opened, _read

    grid = Grid({"seeds": 3}, {"coefficient": [0.1, 0.5]})
    block = [{name: [0.5, None, 1.0] for name in FINAL}] * 2

    def toml(folder: Path) -> None:
        command = Sweep(file=folder / "a.toml").over_file(["--file", str(folder / "a.toml")])
        command.resolve()

    def resume(folder: Path) -> None:
        with _opened(folder, grid):
            pass

    def lay(folder: Path) -> None:
        start_run(folder / "x", grid)

    config = {"config": {"base": {"seeds": 3}, "axes": {"coefficient": [0.1, 0.5]}}, "versions": {}}
    return [
        Reader("sweep TOML", "a.toml", damaged((SWEEP,)), toml, names=False),
        Reader("sweep config.json", "config.json", _json_inputs(config), resume, lay, names=False),
        Reader("sweep block", "a.json", _json_inputs(block), lambda f: _read(f / "a.json", grid.cells())),
    ]


def protocol_readers() -> list[Reader]:
    """The protocols of the experiments, and the statements that an unfinished run goes on from."""
    from derivations.cli.files import write_text
    from derivations.evidence.results import BELONGS, Unfinished, digest
    from derivations.evidence.verdicts import statement_of
    from llm.experiments import offline
    from toybandit.experiments.protocol import PROTOCOL, read_protocol
    from toybandit.experiments.run import FOLDER, page

    check = {
        "what": "a",
        "measured": {"mean": 1.0, "low": 0.5, "high": 1.5},
        "target": "> 0",
        "holds": True,
        "firm": True,
    }
    statement = {"number": "1", "sentence": "s", "checks": [check], "remarks": ["r"], "figures": ["f"]}
    statement |= {"tables": [{"title": "t", "heads": ["a", "b"], "rows": [["1", "2"]]}]}

    def unfinished(folder: Path) -> None:
        found = Unfinished(folder / FOLDER, "protocol").load("1")
        page([statement_of(found)] if found else [], read_protocol(PROTOCOL))

    def lay(folder: Path) -> None:
        Unfinished(folder / FOLDER, "protocol")
        write_text(folder / FOLDER / "note", (folder / FOLDER / BELONGS).read_text())

    packaged = PROTOCOL.read_bytes()
    toml = [packaged, packaged[packaged.index(b"[common]") :]]
    good = {"statement": statement, "sha256": digest(statement)}
    return [
        Reader("protocol TOML of the bandit", "a.toml", damaged(toml), lambda f: read_protocol(f / "a.toml")),
        Reader(
            "protocol TOML of llm experiments",
            "a.toml",
            damaged((offline.PROTOCOL.read_bytes(),)),
            lambda f: offline.planned(offline.read_protocol(f / "a.toml")[0], True),
        ),
        Reader("unfinished statement", f"{FOLDER}/1.json", _json_inputs(good), unfinished, lay),
    ]


FORMULAS = (
    b"beta/length*(p*log(p) - p)", b"alpha*p*log(p)", b"beta*p*log(p/q)", b"beta*q*(p/q - 1)**2/2", b"exp(p) + sqrt(q)",
    b"order*p**2 - gamma*p", b"-(p*log(p))",
)  # fmt: skip
LOSSES = b"""import numpy as np
def f(policy_w, policy_l, beta=0.1):
    return np.log1p(np.exp(-beta * (policy_w - policy_l)))
"""


def derivations_readers() -> list[Reader]:
    """Formulas, files with a loss function, and NAME=VALUE options."""
    from derivations.conformance.loading import load, parse_pairs, parse_value
    from derivations.custom.parser import parse_formula

    def formula(folder: Path) -> None:
        parse_formula((folder / "formula").read_bytes().decode("utf-8", "surrogateescape"))

    def loss(folder: Path) -> None:
        sys.modules.pop("_on_trial_a", None)
        load(f"{folder / 'a.py'}:f")

    def options(folder: Path) -> None:
        texts = (folder / "options").read_bytes().decode("utf-8", "surrogateescape").split("\n")
        for value in parse_pairs("--option", texts).values():
            parse_value(value)

    return [
        Reader("formula", "formula", damaged(FORMULAS), formula, names=False),
        Reader("loss in a Python file", "a.py", damaged((LOSSES,)), loss, names=False),
        Reader("NAME=VALUE options", "options", damaged((b"beta=2\ngamma=1e-3\nmode=simpo",)), options, names=False),
    ]


def marker_reader() -> Reader:
    """The marker that says a stage of the report is done: a damaged one means that it is not."""
    stages = runpy.run_path(str(ROOT / "notebooks" / "report_stages.py"), run_name="report_stages")
    done_before = stages["done_before"]
    good = {"fingerprint": "abc", "seconds": 1.0, "command": ["python"]}

    def read(folder: Path) -> None:
        if done_before(folder / "a.json", "abc") and b"abc" not in (folder / "a.json").read_bytes():
            raise AssertionError("a stage counts as done without its fingerprint")

    return Reader("marker of a report stage", "a.json", _json_inputs(good), read)


def other_readers() -> list[Reader]:
    readers = [*run_folder_readers(), *sweep_readers(), *protocol_readers()]
    return [*readers, *derivations_readers(), marker_reader()]
