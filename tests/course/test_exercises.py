"""Every exercise: its stub is not written yet, its solution is right, mistakes are found and named, it has hints."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from course.planted import all_bugs
from course.student_notebooks import EDITIONS, SEEDS, SOLVED

from miniclip import gradcheck
from miniclip.course import KIND_HINTS, Notebook, exercise, exercises_of, grade, hints_for, load_answers, notebooks
from miniclip.course.exercise import BY_NAME
from miniclip.course.notebook import read_notebook
from miniclip.course.verdict import STAGES

EXERCISES = [one for notebook in notebooks() for one in exercises_of(notebook)]
BUGS = all_bugs()
NAMED = 0.85  # of the mistakes that have a name


@pytest.fixture(scope="module")
def solutions():
    """{exercise: the solution}, as the reading editions have them."""
    return load_answers(*SOLVED)


def test_every_notebook_has_its_editions():
    assert [path.stem for path in EDITIONS] == notebooks()
    assert all(path.exists() for path in SOLVED)


@pytest.mark.parametrize("path", EDITIONS, ids=lambda path: path.stem)
def test_every_stub_is_not_written_yet(path):
    notebook = read_notebook(path)
    assert all(notebook.answer(one.name).is_stub for one in exercises_of(notebook.name))


@pytest.mark.parametrize("one", EXERCISES, ids=str)
def test_a_stub_falls_back_on_the_library_and_says_so(one, capsys):
    def stub(): ...

    function = exercise(one.name)(stub)
    assert "the library's stands in" in capsys.readouterr().out
    verdict = grade(function)
    assert (verdict.stage, verdict.points, bool(verdict)) == ("written", 0, False)
    assert inspect.signature(function) == inspect.signature(one.reference)


@pytest.mark.parametrize("one", EXERCISES, ids=str)
@pytest.mark.parametrize("seeds", SEEDS, ids=len)
def test_every_solution_is_right(one, seeds, solutions):
    for seed in seeds:
        verdict = grade(solutions[one.name], seed)
        assert verdict and verdict.points == one.points, f"seed {seed}: {verdict}"


def found(name, function):
    """The verdict on a bug, which is not right, and has a sentence and a hint."""
    verdict = grade(exercise(name)(function))
    assert not verdict and verdict.is_written and verdict.sentence.endswith((".", "?")), f"{name}: {verdict}"
    assert verdict.hint.startswith("Hint "), f"{name}: {verdict}"
    return verdict


def firsts(bugs):
    """The first bug of each exercise."""
    return {name: (name, function) for name, _, function in reversed(bugs)}.values()


@pytest.mark.parametrize("name, function", [pytest.param(*bug, id=bug[0]) for bug in firsts(BUGS)])
def test_a_bug_of_every_exercise_is_found(name, function):
    found(name, function)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_every_bug_is_found_and_most_are_named(part):
    """All of them, in eight parts, so that several processes can share the work."""
    said = [(kinds, found(name, function).kind) for name, kinds, function in BUGS[part::8]]
    named = [kind in kinds for kinds, kind in said if kinds]
    assert np.mean(named) >= NAMED, [(kinds, kind) for kinds, kind in said if kinds and kind not in kinds]


def test_bugs_are_many():
    for one in EXERCISES:
        assert sum(name == one.name for name, _, _ in BUGS) >= 5, one


@pytest.mark.parametrize("one", EXERCISES, ids=str)
def test_every_exercise_has_hints(one):
    assert len(one.hints) >= 2
    for mistake in one.mistakes:
        assert mistake.kind in KIND_HINTS or mistake.kind in one.kinds
        assert mistake.sentence.endswith(".")
    assert one.kinds.keys() <= {*KIND_HINTS, *STAGES, *one.traps, *(mistake.kind for mistake in one.mistakes)}
    assert all(hint.strip() for hint in hints_for(one, "gradient", "unknown"))


def test_every_kind_of_diagnosis_has_a_hint():
    """All first parts of what the tests of gradcheck's diagnosis return or yield, and those of factors."""
    folder = Path(gradcheck.__file__).parent / "diagnosis"
    kinds = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            value = node.value if isinstance(node, (ast.Return, ast.Yield)) else None
            parts = value.elts if isinstance(value, ast.Tuple) else []
            place = 1 if isinstance(node, ast.Yield) and path.stem == "factors" else 0
            if len(parts) > place and isinstance(parts[place], ast.Constant) and isinstance(parts[place].value, str):
                kinds.add(parts[place].value)
    assert {"centring", "1/N", "−1", "½", "transposed", "unknown"} <= kinds
    assert kinds <= KIND_HINTS.keys(), kinds - KIND_HINTS.keys()


def test_hints_open_one_after_the_other(monkeypatch):
    monkeypatch.setattr("miniclip.course.hints.opened", {})

    @exercise("softmax")
    def softmax(x, axis=-1):
        y = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
        return y, lambda dy: y * dy * 3

    texts = [grade(softmax).hint for _ in range(9)]
    last = int(texts[-1].split()[3].rstrip(":"))
    assert texts == [f"Hint {min(k, last)} of {last}: {text.partition(': ')[2]}" for k, text in enumerate(texts, 1)]
    assert len(set(texts)) == last >= 4


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda x: x, "takes (x), and should take (x, axis=-1)"),
        (lambda x, axis, keep: x, "and should take"),
        (lambda x, axis=-1: print(end=""), "returned nothing (None)"),
        (lambda x, axis=-1: x, "two things: the output, and backward"),
        (lambda x, axis=-1: (x[0], lambda dy: dy), "has shape (7,), and should have (2, 7)"),
        (lambda x, axis=-1: (x.astype(np.float32), lambda dy: dy), "of float32, and should be of float64"),
        (lambda x, axis=-1: (x / 0, lambda dy: dy), "is not finite"),
        (lambda x, axis=-1: (list(x), lambda dy: dy), "is a list, and should be an array (2, 7)"),
        (lambda x, axis=-1: x @ x, "raised ValueError: matmul"),
        (lambda x, axis=-1: exit(), "raised SystemExit"),
    ],
)
def test_what_is_no_answer_is_said_in_a_sentence(function, words):
    verdict = grade(exercise("softmax")(function))
    assert words in verdict.sentence and verdict.stage in ("runs", "forward") and verdict.points == 0, verdict


@pytest.mark.parametrize(
    "backward, words",
    [
        (lambda dy: (dy, dy), "is a tuple"),
        (lambda dy: dy[0], "has shape (7,)"),
        (lambda dy: print(end=""), "returned nothing (None)"),
        (lambda dy: dy @ dy, "its backward raised ValueError"),
        (lambda: 3, "its backward takes nothing"),
        (lambda dy: dy * np.nan, "is not finite"),
    ],
)
def test_a_backward_that_cannot_be_checked_is_said_in_a_sentence(backward, words):
    def softmax(x, axis=-1):
        e = np.exp(x - x.real.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True), backward

    verdict = grade(exercise("softmax")(softmax))
    assert verdict.stage == "contract" and words in verdict.sentence and verdict.points == 1, verdict


@pytest.fixture
def variant():
    """An exercise of which nobody can read a backward pass: a norm, its forward pass alone."""

    def right(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight

    draw = lambda r, n, t, d: (r.normal(n, t, d), r.normal(d))
    yield Notebook("99_without_backward").layer(right, draw=draw, has_backward=False, name="root_norm")
    BY_NAME.pop("root_norm")


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_variant_is_proven_by_its_forward_pass_alone(variant, forgotten):
    @exercise("root_norm")
    def root_norm(x, weight):
        deviation = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        n = x / deviation

        def backward(dy):
            g = dy * weight
            second = 0 if forgotten else n * (g * n).mean(-1, keepdims=True)
            return (g - second) / deviation, {"weight": (dy * n).sum((0, 1))}

        return n * weight, backward

    verdict = grade(root_norm)
    assert (verdict.stage, verdict.kind) == (("gradient", "projection") if forgotten else ("right", "")), verdict


def test_a_variant_that_is_not_written_has_a_forward_pass(variant):
    def stub(x, weight): ...

    y, backward = exercise("root_norm")(stub)(np.ones((2, 3)), np.ones(3))
    assert y.shape == (2, 3)
    with pytest.raises(NotImplementedError, match="not written yet"):
        backward(y)


def test_names_that_are_no_exercise_are_refused():
    with pytest.raises(ValueError, match="there is no exercise 'softmin'; there are: "):
        exercise("softmin")
    with pytest.raises(ValueError, match="there is no exercise"):
        grade(lambda x: x)
    for what in (np.exp, 3):
        with pytest.raises(ValueError, match="softmax is to be a function that is written here"):
            exercise("softmax")(what)
