"""Notebooks that were mutilated, by accident or not: each gets a verdict, and no crash."""

import json
import sys

import pytest
from commands import command, refused
from course.student_notebooks import EDITIONS, SETUP, SOLVED, code_cells, write_notebook

from miniclip.course import grade_notebook, process
from miniclip.course.points import draw_points

CENTRAL = '@exercise("central")\ndef central(y, h):\n    return (y(h) - y(-h)) / (2 * h)\n\ngrade(central)'
STUB = '@exercise("central")\ndef central(y, h):\n    """The slope."""\n    ...'
WRONG = CENTRAL.replace("(2 * h)", "h")
HELPERS = "def middle(a, b):\n    return (a - b) / WAY\n\nWAY = len('ab')"
WITH_HELPERS = '@exercise("central")\ndef central(y, h):\n    return middle(y(h), y(-h)) / h'


def body(*lines):
    """The answer with this body."""
    return '@exercise("central")\ndef central(y, h):\n    ' + "\n    ".join(lines)


NOISE = "    try: os.write(n, b'x' * 99)", "    except OSError: pass"
RIGHT = {  # the harm done to a notebook that is right -> its cells
    "nothing": [SETUP, CENTRAL],
    "reordered": [CENTRAL, SETUP],
    "copied": [SETUP, CENTRAL, SETUP, CENTRAL],
    "a stub copied below": [SETUP, CENTRAL, STUB],
    "a stub left above": [SETUP, STUB, CENTRAL],
    "imports deleted": [CENTRAL],
    "the decorator deleted": [SETUP, CENTRAL.partition("\n")[2]],
    "another name": [SETUP, CENTRAL.replace("def central", "def my_slope").replace("grade(central)", "")],
    "a syntax error elsewhere": [SETUP, "def broken(:", CENTRAL],
    "an endless loop elsewhere": ["while True:\n    pass", SETUP, CENTRAL],
    "an exit elsewhere": [SETUP, "import os\nos._exit(0)", CENTRAL, "raise SystemExit"],
    "magics": ["%matplotlib inline\n!ls\n" + SETUP, "%%bash\nrm -r x", "%time\n" + CENTRAL + "\ncentral?"],
    "helpers below": [SETUP, WITH_HELPERS, HELPERS],
    "a helper as a default": [WITH_HELPERS.replace("y, h):", "y, h, middle=middle):"), HELPERS, SETUP],
    "numpy spoiled elsewhere": ["import numpy\nnumpy.exp = None", SETUP, "np.sin = 3", CENTRAL],
    "much printed": [SETUP, body("print('x' * 10**6)", "return (y(h) - y(-h)) / (2 * h)")],
    "its name used again": [SETUP, CENTRAL, "central = 3"],
    "markdown between, and odd cells": [SETUP, "", "   ", "…", "\x00", CENTRAL],
}
LONG = "an endless loop in it", "noise on every pipe"  # they take seconds
FAULTS = {  # cells -> what the sentence holds
    "nothing written": ([SETUP, STUB], "not written yet"),
    "no cell": ([SETUP], "no cell of the notebook defines it"),
    "a syntax error in it": ([SETUP, CENTRAL.replace("):", ")")], "no Python that can be read: expected ':', line 2"),
    "check patched": (
        ["import miniclip.course.grade as g\ng.check = lambda *a, **k: True", SETUP, WRONG],
        "the way from −h to h is 2h",
    ),
    "grade patched": ([SETUP, "grade = print", WRONG], "the way from −h to h is 2h"),
    "no number": ([SETUP, body("return 'right'")], "is a str"),
    "nothing returned": ([SETUP, body("slope = (y(h) - y(-h)) / (2 * h)")], "returned nothing (None)"),
    "another shape": ([SETUP, body("return np.zeros((2, 3))")], "has shape (2, 3), and should have ()"),
    "NaN": ([SETUP, body("return np.nan")], "not finite"),
    "an object": ([SETUP, body("return object()")], "is object"),
    "a generator": ([SETUP, body("yield 1")], "is generator"),
    "an array of objects": ([SETUP, body("return np.array([None])")], "an array of object"),
    "another signature": ([SETUP, CENTRAL.replace("(y, h)", "(y)")], "takes (y), and should take (y, h)"),
    "an exception": ([SETUP, body("return y.slope")], "raised AttributeError: 'function' object has no attribute"),
    "an exit in it": ([SETUP, body("import os", "os._exit(0)")], "it ended its process"),
    "sys.exit in it": ([SETUP, body("import sys", "sys.exit(0)")], "raised SystemExit"),
    "an endless loop in it": ([SETUP, body("while True:", "    pass")], "does a loop never end?"),
    "too much memory": ([SETUP, body("return np.ones(10**13)")], "raised"),
    "input asked for": ([SETUP, body("return float(input())")], "raised EOFError"),
    "noise on every pipe": ([SETUP, body("import os", "for n in range(3, 20):", *NOISE)], "it ended its process"),
    "an exception of its own, without words": (
        [SETUP, "class Odd(Exception):\n    def __str__(self): raise self", body("raise Odd")],
        "raised Odd",
    ),
    "the library's own": (
        [SETUP, "from miniclip.gradcheck import central as theirs", body("return theirs(y, h)")],
        "it calls the library's central",
    ),
    "the library's own, as it is": (
        [SETUP, "from miniclip.gradcheck.numeric import central\n" + 'central = exercise("central")(central)'],
        "no cell of the notebook defines it",
    ),
    "the library imported anew": (
        [
            SETUP,
            body(
                "import importlib, miniclip.gradcheck.numeric as n",
                "return importlib.reload(n).__dict__['cen' + 'tral'](y, h)",
            ),
        ],
        "it calls the library's central",
    ),
}


def half_slow(names):
    """Every second name is a parameter of the slow suite, and those that take seconds: each starts a process."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (n % 2 or name in LONG)) for n, name in enumerate(names)]


@pytest.mark.parametrize("harm", half_slow(RIGHT))
def test_what_does_no_harm(harm, tmp_path):
    name, verdicts = grade_notebook(write_notebook(tmp_path / "mine.ipynb", *RIGHT[harm]))
    assert name == "01_one_slope" and verdicts[0] and verdicts[0].points == 2, verdicts[0]
    assert [verdict.stage for verdict in verdicts[1:]] == ["written"] * 3


@pytest.mark.parametrize("fault", half_slow(FAULTS))
def test_what_is_wrong_is_said(fault, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "SECONDS_OF_A_CALL", 3)
    cells, words = FAULTS[fault]
    _, (verdict, *_) = grade_notebook(write_notebook(tmp_path / "mine.ipynb", *cells))
    assert not verdict and words in verdict.sentence and verdict.points == 0, verdict
    assert "\n" not in verdict.sentence and len(verdict.sentence) < 400


def test_an_exercise_that_does_not_exist_is_told(tmp_path):
    path = write_notebook(tmp_path / "mine.ipynb", SETUP, STUB, '@exercise("softmix")\ndef f(x):\n    return x')
    *_, verdict = grade_notebook(path)[1]
    assert str(verdict) == "· softmix: there is no exercise of this name: softmax?" and verdict.of == 0


def test_names_that_are_local_are_not_looked_for(tmp_path):
    """x and y stand in the function, and in cells that use what is not there."""
    above = "y = nobody_knows(h)\nh = y\nclass C:\n    y = y"
    cells = [
        SETUP,
        body("half = [a / 2 for a in (y(h), y(-h))]", "return (half[0] - half[1]) / h"),
        above,
        "a = half = y",
    ]
    assert grade_notebook(write_notebook(tmp_path / "mine.ipynb", *cells))[1][0]


def test_one_mistake_is_counted_once(tmp_path):
    """Richardson calls a central difference that is wrong, or not written."""
    richardson = (
        '@exercise("richardson")\ndef richardson(y, h):\n'
        "    return (64 * central(y, h / 4) - 20 * central(y, h / 2) + central(y, h)) / 45"
    )
    _, (first, second, *_) = grade_notebook(write_notebook(tmp_path / "wrong.ipynb", SETUP, WRONG, richardson))
    assert not first and second and second.points == 4 and "in place of the other functions" in second.lesson
    _, (first, second, *_) = grade_notebook(write_notebook(tmp_path / "stub.ipynb", SETUP, STUB, richardson))
    assert not first and second and not second.lesson


@pytest.mark.slow
@pytest.mark.parametrize("path", SOLVED, ids=lambda path: path.stem)
def test_the_solutions_are_right(path):
    assert command("grade", path) == 0


@pytest.fixture
def two_points(monkeypatch):
    """Grading at two points of an exercise and its traps: `test_the_solutions_are_right` is at all of them."""

    def few(exercise, seed):
        points = draw_points(exercise, seed)
        more = [name for name in points if name not in exercise.traps][2:]
        return {name: args for name, args in points.items() if name not in more}

    monkeypatch.setattr(sys.modules["miniclip.course.grade"], "draw_points", few)


TURNS = {"reversed": lambda cells: cells[::-1], "twice": lambda cells: cells + cells, "cut": lambda cells: cells[2:]}
TURNED = [  # each notebook in one way in the slow suite, and in all of them in the longest
    pytest.param(path, turn, id=f"{turn}-{path.stem}", marks=pytest.mark.long if (k + n) % 3 else pytest.mark.slow)
    for k, turn in enumerate(TURNS)
    for n, path in enumerate(SOLVED)
]


@pytest.mark.usefixtures("two_points")
@pytest.mark.parametrize("path, turn", TURNED)
def test_a_whole_solved_notebook_survives(path, turn, tmp_path):
    cells = TURNS[turn](code_cells(path))
    _, verdicts = grade_notebook(write_notebook(tmp_path / "mine.ipynb", *cells, course=path.stem))
    assert all(verdicts), verdicts


# ------------------------------------------------------------------------------------------ the command


def test_points_as_json(tmp_path, capsys):
    path = write_notebook(tmp_path / "mine.ipynb", SETUP, CENTRAL)
    assert command("grade", path, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    (one,) = found["notebooks"]
    assert one["file"] == str(path) and one["notebook"] == "01_one_slope" and found["failed"] == []
    assert [(row["exercise"], row["points"], row["right"]) for row in one["verdicts"]][:2] == [
        ("central", 2, True),
        ("richardson", 0, False),
    ]


def test_points_as_a_table_with_commas_and_as_text(tmp_path, capsys):
    path = write_notebook(tmp_path / "mine.ipynb", SETUP, WRONG)
    assert command("grade", path, "--csv") == 1
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header == "file,notebook,exercise,points,of,stage,kind,sentence"
    assert f"{path},01_one_slope,central,0.0,2,forward,2," in first
    assert command("grade", path) == 1
    out = capsys.readouterr().out
    assert "0 of 12 points" in out and "Probably: the way from −h to h is 2h long" in out and "Hint " in out


def test_grading_goes_on_with_the_next(tmp_path, capsys):
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    assert command("grade", broken, EDITIONS[0], tmp_path / "none.ipynb") == 2
    out, err = capsys.readouterr()
    assert "01_one_slope): 0 of 12 points" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["miniclip"] * 2


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "holds no JSON"),
        ("[1, 2]", "has no cells"),
        ('{"cells": 3}', "has no cells"),
        ('{"worksheets": [{"cells": []}]}', "has no cells"),
        ('{"cells": []}', "holds no exercise of the course"),
        ('{"cells": [3, {}, {"cell_type": "code"}], "metadata": [], "x": NaN}', "holds no exercise of the course"),
        ("[" * 100_000, "holds no JSON"),
        ("\udcff", "holds no JSON"),
    ],
)
def test_a_file_that_is_no_notebook(content, words, tmp_path, capsys):
    path = tmp_path / "x.ipynb"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert words in refused(capsys, "grade", path)


def test_bad_use(tmp_path, capsys):
    assert "is a folder" in refused(capsys, "grade", tmp_path)
    assert "choose one" in refused(capsys, "grade", "x.ipynb", "--json", "--csv")
    assert "at least 0" in refused(capsys, "grade", "x.ipynb", "--seed", "-1")


def test_a_notebook_is_known_by_its_file_or_its_exercises(tmp_path):
    for name in ("01_one_slope (copy).ipynb", "homework of A.ipynb"):
        assert grade_notebook(write_notebook(tmp_path / name, SETUP, STUB, course=None))[0] == "01_one_slope"
