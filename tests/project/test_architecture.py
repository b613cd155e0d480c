"""The house rules that imports must keep (who may import whom)."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import work

ROOT = Path(__file__).parents[2]
FORMULAS = {
    "arrays", "regularizers", "preferences", "objectives", "preference_losses", "off_policy", "advantages", "tokens",
    "best_of_n", "retention", "slopes", "preference_slopes",
}  # fmt: skip
GROUND_FLOOR = FORMULAS | {"names", "published", "evidence", "cli"}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "derivations"}
    return found


@pytest.mark.parametrize(("package", "other"), [("toybandit", "llm"), ("llm", "toybandit")])
def test_the_two_worlds_see_only_the_ground_floor_and_never_each_other(package, other):
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 3
    for path in files:
        for name in imports_of(path):
            head, _, rest = name.partition(".")
            assert head != other, f"{path} imports {name}"
            if head == "derivations" and rest:
                assert rest.split(".")[0] in GROUND_FLOOR, f"{path} imports {name}"


def test_nothing_in_derivations_imports_upward():
    for path in (ROOT / "derivations").rglob("*.py"):
        assert not {name.partition(".")[0] for name in imports_of(path)} & {"toybandit", "llm"}


def test_the_ground_floor_loads_neither_sympy_nor_torch():
    modules = ", ".join(
        f"derivations.{name}"
        for name in [
            *sorted(GROUND_FLOOR - {"evidence", "cli"}),
            "cli.errors",
            "cli.files",
            "cli.command_line",
            "cli.run_folder",
        ]
    )
    code = f"import sys, {modules}; print([m for m in ('sympy', 'torch', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_every_package_is_installed_as_a_top_level_name():
    code = "import derivations, llm, toybandit; print(llm.__file__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert Path(run.stdout.strip()) == ROOT / "llm" / "__init__.py"


@pytest.mark.parametrize("package", ["derivations", "toybandit", "llm"])
def test_every_public_name_is_where_its_package_says_and_the_package_loads_none_of_them(package):
    module = importlib.import_module(package)
    assert all(getattr(module, name).__name__ == name for name in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing
    code = f"import sys, {package}; print([m for m in ('numpy', 'sympy', 'torch', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def modules_of(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; a folder's name stands for its `__init__`."""
    files = (ROOT / package).rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The circles of a graph, each once: what Tarjan calls its components of more than one node."""
    order, low, stack, found = {}, {}, [], []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in order:
            visit(node)
    return found


@pytest.mark.parametrize("package", ["derivations", "toybandit", "llm"])
def test_no_modules_import_each_other_in_a_circle_not_even_inside_functions(package):
    modules = modules_of(package)
    graph = {}
    for name, path in modules.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                wanted |= inner or {node.module}
        graph[name] = wanted & modules.keys() - {name}
    assert circles(graph) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_files_that_share_a_process_or_begin_first_exist_and_stay_whole():
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("0*.ipynb")}
    named = {*work.TOGETHER, *work.APART, *(name for name in work.LONGEST if name.endswith(".py"))}
    assert named <= files
    assert set(work.LONGEST) - named <= {*work.TOGETHER.values(), *notebooks}
    one, other = "tests/x/test_book.py::a", "tests/y/test_report.py::b"
    assert work.unit_of(one) == work.unit_of(other) == "claims"
    assert work.unit_of("tests/x/test_derive.py::a") == work.unit_of("tests/x/test_derive.py::b")
    alone = "tests/y/test_notebooks.py::c[05_language_model]"
    assert work.unit_of(alone) == alone
    assert work.turn_of(one) < work.turn_of(alone) < work.turn_of("tests/x/test_derive.py::a")
