"""The editions of the notebooks: what is committed is what the masters make; a master that breaks a rule is told."""

import importlib.util
import json
import re

import pytest
from course.student_notebooks import NOTEBOOKS, SOLVED

pytest.importorskip("jupytext")
HEADER = "# %% [markdown]\n# # 1 · One slope\n\n# %%\nfrom miniclip.course import exercise, grade\n\n"
SOLUTION = (
    '@exercise("{0}")\ndef {0}(y, h):\n    ### BEGIN SOLUTION\n    return y\n    ### END SOLUTION\n\n\ngrade({0})\n\n'
)
CENTRAL = '# %% tags=["exercise"]\n' + SOLUTION.format("central")


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_notebooks", NOTEBOOKS / "source" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_what_the_masters_make(build, monkeypatch):
    monkeypatch.setattr("sys.argv", ["build.py", "--check"])
    assert build.main() == 0


@pytest.fixture
def master(build, tmp_path, monkeypatch):
    """Write a master of notebook 1 in a folder of its own, and read its cells."""
    monkeypatch.setattr(build, "exercises_of", lambda name: [])

    def write(text):
        path = tmp_path / "01_one_slope.py"
        path.write_text(HEADER + text)
        return build.read(path)

    return write


@pytest.mark.parametrize(
    "text, words",
    [
        ('# %% tags=["solution"]\n1', "there is no tag solution"),
        ("# %%\nx = 1" + " + 1" * 30, "a line of code is 125 wide, more than 88"),
        ('# %% tags=["exercise"]\nx = 1', "an exercise has @exercise"),
        (CENTRAL.replace('tags=["exercise"]', ""), 'a solution, and no tag "exercise"'),
        (CENTRAL.replace("grade(central)", ""), "it does not end with grade(central)"),
        ('# %% tags=["exercise"]\n' + SOLUTION.format("softmax"), "softmax is registered for 03_norms"),
    ],
)
def test_a_master_that_breaks_a_rule(build, master, text, words):
    with pytest.raises(build.Refused, match=re.escape(words)):
        master(text)


def test_a_master_without_an_exercise_that_is_registered(build, tmp_path):
    path = tmp_path / "01_one_slope.py"
    path.write_text(HEADER + CENTRAL)
    with pytest.raises(build.Refused, match="has no cell for richardson, complex_step, two_sides"):
        build.read(path)


def test_the_editions(build, master):
    cells = master(
        CENTRAL
        + '# %% [markdown] tags=["answer", "slide"]\n# Three. See [it](../x.py).\n\n'
        + '# %% tags=["numbers"]\nassert True\n\n# %% tags=["student"]\n# your guess\n\n# %% tags=["reading"]\n7\n'
    )
    made = {kind: build.edition(kind, cells, "01_one_slope") for kind in build.EDITIONS}
    texts = {kind: [cell.source for cell in notebook.cells] for kind, notebook in made.items()}
    reading, exercise = "\n".join(texts["reading"]), "\n".join(texts["exercise"])
    assert "    return y\n" in reading and "SOLUTION" not in reading and "Hint" not in reading
    assert "    ...\n" in exercise and "return y\n" not in exercise and exercise.count("<summary>Hint") == 2
    assert "<summary>Answer" in exercise and "(../../x.py)" in exercise and "assert True" not in exercise
    assert "your guess" in exercise and "your guess" not in reading and "7" in texts["reading"]
    assert texts["slides"] == ["Three. See [it](../../../x.py)."]
    assert not any(cell.get("outputs") for cell in made["exercise"].cells)


@pytest.mark.parametrize("path", SOLVED, ids=lambda path: path.stem)
def test_figures_have_a_text_and_no_cell_failed(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            assert output["output_type"] != "error"
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"]["image/png"]["alt"]) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in SOLVED])
def test_the_exercise_edition_runs_unsolved(name, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOKS / "exercises" / name, 4)
    for cell in notebook.cells:  # the whole run is that of the reading edition, which is executed too
        cell.source = cell.source.replace("STEPS, BATCH, VOCABULARY = 340,", "STEPS, BATCH, VOCABULARY = 12,")
    nbclient.NotebookClient(notebook, timeout=180, kernel_name="python3").execute(cwd=str(tmp_path))
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "the library's stands in" in said
