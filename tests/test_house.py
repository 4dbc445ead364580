"""The plan of the package: a flat core that knows no wing, one door to each wing, and how large they may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import miniclip

PACKAGE = Path(miniclip.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
WINGS = {name.split("/")[0] for name in FILES if name.endswith("/__init__.py")}
CORE = [name for name in FILES if "/" not in name and name not in ("__init__.py", "__main__.py", "cli.py")]

LONGEST_FILE = 250
LINES_OF_CORE = 2_670
LINES_TO_READ = 7_260  # core, training, data and evaluation
SECONDS_OF_IMPORT = 0.3


def imports(name):
    """What a file imports of the package: (module below it as a list of names, names, whether inside a function)."""
    tree = ast.parse(FILES[name].read_text())
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            here = ["miniclip", *name.split("/")[:-1]]
            origin = here[: len(here) + 1 - node.level] if node.level else []
            modules = [(origin + (node.module or "").split("."), [alias.name for alias in node.names])]
        elif isinstance(node, ast.Import):
            modules = [(alias.name.split("."), []) for alias in node.names]
        else:
            continue
        for module, names in modules:
            if module[0] == "miniclip":
                found.append(([part for part in module[1:] if part], names, id(node) in inside))
    return found


def wing_of(module, names):
    """The wing that an import reaches, or None: `from ..data import x` and `from .. import data`."""
    return next((name for name in module[:1] or names if name in WINGS), None)


def names_at(door):
    return {name for module, names, _ in imports(f"{door}/__init__.py") for name in names}


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_no_wing(name):
    """But for the way to a graphics card, inside a function."""
    for module, names, inside in imports(name):
        wing = wing_of(module, names)
        assert wing is None or (name, wing, inside) == ("backend.py", "gpu", True), f"{name} imports {wing}"


@pytest.mark.parametrize("name", [name for name in FILES if "/" in name])
def test_a_wing_imports_another_only_through_its_door(name):
    for module, names, _ in imports(name):
        wing = wing_of(module, names)
        if wing and wing != name.split("/")[0]:
            assert module == [wing], f"{name} imports miniclip.{'.'.join(module or [wing])}, behind the door"
            assert set(names) <= names_at(wing), f"{name} imports {names} of {wing}, which hands on other names"


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_a_door_hands_on_names_and_defines_nothing(wing):
    docstring, *rest = ast.parse(FILES[f"{wing}/__init__.py"].read_text()).body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert rest and all(isinstance(node, ast.ImportFrom) and node.level for node in rest)


def test_no_test_imports_another():
    """What tests share is a fixture, or stands in a module that is no test."""
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("test_"), path


def lines(names):
    return sum(len(FILES[name].read_text().splitlines()) for name in names)


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_long(name):
    assert lines([name]) <= LONGEST_FILE


def test_the_core_is_short():
    assert lines(CORE) <= LINES_OF_CORE


def test_what_one_reads_is_short():
    read = [name for name in FILES if name.split("/")[0] in ("training", "data", "evaluation")]
    assert lines(CORE + read) <= LINES_TO_READ


def test_the_readme_counts_right():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    rows = [line.split("|") for line in readme.splitlines() if line.startswith("| [") and "](miniclip/" in line]
    named = [re.findall(r"\]\(miniclip/([\w.]+)\)", row[1]) for row in rows]
    assert sorted(sum(named, [])) == sorted(CORE)
    assert [int(row[2]) for row in rows] == [lines(names) for names in named]


def test_importing_is_quick_and_needs_little():
    """NumPy, Pillow and threadpoolctl: what else there is, is imported where it is used. Seconds of the processor."""
    code = (
        "import sys, time\n"
        "sys.modules |= dict.fromkeys(['matplotlib', 'ftfy', 'regex', 'tqdm', 'cupy', 'ml_dtypes'])\n"
        "start = time.process_time()\n"
        "import miniclip\n"
        "print(time.process_time() - start)"
    )
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in "123"]
    assert min(times) < SECONDS_OF_IMPORT
