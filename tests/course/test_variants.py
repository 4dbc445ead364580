"""Variants for marks: chosen by a student's number, proven by their forward pass alone, with no solution to be read."""

import importlib.util
import inspect
import json
from pathlib import Path

import pytest
from commands import command, refused
from course.planted import all_bugs
from course.student_notebooks import NOTEBOOKS, SEEDS, SETUP, write_notebook

from miniclip.course import exercise, exercises_of, grade, grade_notebook, notebooks
from miniclip.course.exercise import VARIANTS
from miniclip.course.variants import GROUPS, choose_variants

SOLUTIONS = NOTEBOOKS / "teaching" / "variants.py"
TASKS = exercises_of(VARIANTS)


@pytest.fixture(scope="module")
def solutions():
    spec = importlib.util.spec_from_file_location("variants_solved", SOLUTIONS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def test_there_are_twelve_in_three_groups():
    assert len(TASKS) == 12 and VARIANTS not in notebooks()
    assert sorted(one.name for one in TASKS) == sorted(name for group in GROUPS for name in group)
    assert len({one.points for one in TASKS}) == 1  # whoever is given which


@pytest.mark.parametrize("one", TASKS, ids=str)
def test_its_backward_pass_is_written_nowhere_in_the_library(one):
    assert not one.has_backward and inspect.getdoc(one.reference) and len(one.hints) >= 2
    assert "backward(" not in inspect.getsource(inspect.getmodule(one.reference)).replace(
        "backward(dy) ->", ""
    ).replace("backward() ->", "").replace("backward(dscores) ->", "")


@pytest.mark.parametrize("one", TASKS, ids=str)
@pytest.mark.parametrize("seeds", SEEDS, ids=len)
def test_every_solution_is_right(one, seeds, solutions):
    for seed in seeds:
        verdict = grade(exercise(one.name)(solutions[one.name]), seed)
        assert verdict and verdict.points == 6, f"seed {seed}: {verdict}"


@pytest.mark.parametrize("one", TASKS, ids=str)
def test_every_variant_has_five_planted_bugs(one):
    """That they are found and named is tested beside those of the course."""
    assert sum(name == one.name for name, _, _ in all_bugs()) >= 5


# ------------------------------------------------------------------------------------------ by a student's number


def test_a_number_decides():
    names = [one.name for one in choose_variants(12345, 3)]
    assert names == [one.name for one in choose_variants("12345", 12)][:3]
    chosen = [tuple(one.name for one in choose_variants(number, 3)) for number in range(40)]
    assert all(sum(name in group for name in names) == 1 for names in chosen for group in GROUPS)
    assert len({frozenset(names) for names in chosen}) > 20 and {name for names in chosen for name in names} == {
        one.name for one in TASKS
    }
    assert len(choose_variants(7, 12)) == 12


@pytest.fixture
def homework(tmp_path, monkeypatch, capsys):
    """The notebook of student 12345, with two tasks."""
    monkeypatch.chdir(tmp_path)
    assert command("grade", "--variants", 2, "--student", 12345) == 0
    assert capsys.readouterr().out == "variants-12345.ipynb is written.\n"
    return Path("variants-12345.ipynb")


def solved(path, names):
    """The notebook with the teacher's solutions in it."""
    notebook, text = json.loads(path.read_text("utf-8")), SOLUTIONS.read_text("utf-8")
    for name in names:
        text = text.replace(f"def {name}(", f'@exercise("{name}")\ndef {name}(')
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
    notebook["cells"].append(cell)
    path.write_text(json.dumps(notebook), "utf-8")


def test_a_notebook_of_variants_is_written_and_graded(homework, capsys):
    names = [one.name for one in choose_variants(12345, 2)]
    name, verdicts = grade_notebook(homework)
    assert name == "variants of 12345" and [verdict.exercise for verdict in verdicts] == names
    assert all(verdict.sentence.startswith("not written yet") for verdict in verdicts)
    for number, cell in enumerate(json.loads(homework.read_text("utf-8"))["cells"]):
        if cell["cell_type"] == "code" and number > 1:
            assert (
                '    """' in cell["source"] and "    ...\n" in cell["source"] and "return" not in cell["source"].split()
            )
    assert "exists already" in refused(capsys, "grade", "--variants", 2, "--student", 12345)
    solved(homework, names)
    assert command("grade", homework) == 0
    assert "(variants of 12345): 12 of 12 points" in capsys.readouterr().out


def test_the_teacher_says_whose_they_are(homework):
    """A student's own word, in the notebook, does not count then. Without any, those count that are answered."""
    other = next(number for number in range(50) if choose_variants(number, 2) != choose_variants(12345, 2))
    name, verdicts = grade_notebook(homework, student=other)
    assert name == f"variants of {other}"
    assert [verdict.exercise for verdict in verdicts] == [one.name for one in choose_variants(other, 2)]
    stub = '@exercise("rms_norm")\ndef rms_norm(x, weight, eps=1e-5): ...'
    path = write_notebook(homework.with_name("mine.ipynb"), SETUP, stub, course=None)
    name, verdicts = grade_notebook(path)
    assert name == "variants of nobody" and [verdict.exercise for verdict in verdicts] == ["rms_norm"]


@pytest.mark.parametrize(
    "words, said",
    [
        (("--variants", 0, "--student", 1), "--variants is 0; it must be from 1 to 12"),
        (("--variants", 13, "--student", 1), "it must be from 1 to 12"),
        (("--variants", 2), "writes a notebook for a --student"),
        (("mine.ipynb", "--variants", 2, "--student", 1), "notebooks are graded without it"),
        (("--variants", 2, "--student", "../x y"), "it must be a number, or letters and digits"),
        ((), "grade which notebooks?"),
    ],
)
def test_bad_use(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, "grade", *words)
    assert not list(tmp_path.iterdir())
