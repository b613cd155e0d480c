"""Every notebook runs from the packages alone, keeps its outputs, and its sliders move what they say they move."""

import ast
import importlib.util
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))


@pytest.fixture(scope="module")
def executed():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.executed


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
ROUND_OFF = 1e-12  # two numbers below it are zeros of a law that holds exactly
LAST_PLACES, RELATIVE = 2, 1e-3  # how far processors may move a printed number: float32 sums in another order


def texts(notebook):
    """What each output says in plain text, pictures left out."""
    for output in outputs(notebook):
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        yield "" if text.startswith("<Figure") else text


def differences(committed, fresh):
    """Printed numbers of two texts that differ by more than two of the last printed places and by more than 0.1 %."""
    numbers = [NUMBER.findall(text) for text in (committed, fresh)]
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (committed, fresh)]
    if words[0] != words[1]:
        return [(committed, fresh)]
    found = []
    for a, b in zip(*numbers, strict=True):
        decimal = Decimal(a)
        slack = max(LAST_PLACES * 10.0 ** decimal.as_tuple().exponent, RELATIVE * abs(float(a)))
        if abs(float(a) - float(b)) > slack and max(abs(float(a)), abs(float(b))) > ROUND_OFF:
            found.append((a, b))
    return found


@pytest.mark.parametrize(
    ("committed", "fresh", "wrong"),
    [
        ("a 0.119 [0.103, 0.135]", "a  0.120 [0.103,\n0.135]", 0),
        ("a 0.119 [0.103, 0.135]", "a 0.119 [0.106, 0.135]", 1),
        ("error 3.5e-02", "error 1.1e-02", 1),
        ("largest 5.551115e-16", "largest 1.9e-15", 0),
        ("1296 places", "1320 places", 1),
        ("-0.004", "0.004", 1),
        ("refuted", "proved", 1),
        ("1 seed", "1 seed and 2", 1),
    ],
)
def test_a_number_that_is_not_the_committed_one_is_found(committed, fresh, wrong):
    assert len(differences(committed, fresh)) == wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end_and_each_cell_answers_as_the_committed_one_does(path, executed):
    """Kinds of outputs, words and printed numbers are compared; pixels differ between machines."""
    fresh, committed = executed(path), nbformat.read(path, as_version=4)
    assert [cell.source for cell in fresh.cells] == [cell.source for cell in committed.cells]
    kinds = [[output.output_type for output in outputs(notebook)] for notebook in (fresh, committed)]
    assert kinds[0] == kinds[1], "run `make notebooks`"
    wrong = [found for pair in zip(texts(committed), texts(fresh), strict=True) for found in differences(*pair)]
    assert wrong == [], "run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_answers_one_question_in_10_to_30_cells_and_says_what_would_change_the_answer(path):
    notebook = nbformat.read(path, as_version=4)
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert 10 <= len(notebook.cells) <= 30
    assert markdown[0].splitlines()[0].endswith("?")
    assert markdown[-1].startswith("## What would change the conclusion")
    drawn = [i for i, cell in enumerate(notebook.cells) if "image/png" in str(cell.get("outputs", ""))]
    assert drawn
    for i in drawn:
        assert notebook.cells[i + 1].cell_type == "markdown", f"cell {i}: no sentence under its picture"
    assert not any(output.output_type == "error" for output in outputs(notebook))


def test_an_output_area_that_tells_the_kernel_what_it_shows_keeps_no_notebook_waiting(tmp_path):
    first = "import ipywidgets\npanel = ipywidgets.Output()\npanel"
    shown = "with panel:\n    panel.clear_output(wait=True)\n    print('x' * 50000)"
    cells = [first, *[shown, "print(len(panel.outputs))"] * 30]
    path = tmp_path / "areas.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    # a process that can be stopped: a cell that waits for an answer that came would do so for a quarter of an hour
    subprocess.run([sys.executable, ROOT / "notebooks" / "execute.py", path], check=True, timeout=120)
    run = nbformat.read(path, as_version=4)
    assert [o.text for o in outputs(run) if o.get("name") == "stdout"] == ["1\n"] * 30


def test_the_sliders_of_the_overoptimization_notebook_redraw_the_curves(executed, tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "02_overoptimization.ipynb", as_version=4)
    last = max(i for i, cell in enumerate(notebook.cells) if "widgets.VBox" in cell.source)
    wanted = ("import", "def curves", "widgets.VBox")  # the cells that the sliders need
    kept = [
        cell
        for cell in notebook.cells[: last + 1]
        if cell.cell_type == "code" and any(word in cell.source for word in wanted)
    ]
    moves = (("coefficient", 2.0), ("log10_pairs", 1.0), ("proxy", "exact"), ("regularizer", "kl"))
    look = "print([output['data']['image/png'] for output in panel.outputs])"
    # One cell a move: what the panel shows travels back to the kernel between cells.
    probes = [look, *(code for name, value in moves for code in (f"{name}.value = {value!r}", look))]
    path = tmp_path / "sliders.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[*kept, *map(nbformat.v4.new_code_cell, probes)]), path)
    run = executed(path)
    shown = [ast.literal_eval(output.text) for output in outputs(run) if output.get("name") == "stdout"]
    assert [len(pictures) for pictures in shown] == [1] * (1 + len(moves))
    assert len({pictures[0] for pictures in shown}) == 1 + len(moves)  # every move changed the picture
