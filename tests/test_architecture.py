"""The house rules that imports must keep (who may import whom)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND_FLOOR = {"arrays", "regularizers", "preferences", "objectives", "retention", "names", "evidence", "commands"}


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
    modules = ", ".join(f"derivations.{name}" for name in sorted(GROUND_FLOOR - {"evidence"}))
    code = f"import sys, {modules}; print([m for m in ('sympy', 'torch', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_every_package_is_installed_as_a_top_level_name():
    code = "import derivations, llm, toybandit; print(llm.__file__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert Path(run.stdout.strip()) == ROOT / "llm" / "__init__.py"
