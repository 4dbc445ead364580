"""How a student's function is judged: what it may take, where its mistake is named, and where nothing can be judged."""

import cProfile
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from miniclip import optim
from miniclip.course import Mistake, Notebook, exercise, grade, process, put_in
from miniclip.course.exercise import BY_NAME, load
from miniclip.course.library import Watch
from miniclip.gradcheck import Report
from miniclip.gradcheck.report import Row
from miniclip.layers import softmax
from miniclip.tree import Flat


@pytest.fixture
def course():
    """A notebook whose exercises are forgotten after the test."""
    before = set(load())
    yield Notebook("98_judging")
    for name in set(BY_NAME) - before:
        del BY_NAME[name]


# ------------------------------------------------------------------------------------------ time

WAITS = "import time\ndef f(seconds):\n    time.sleep(seconds)\n    return seconds"
ORPHAN = f"""
from miniclip.course.process import StudentProcess
with StudentProcess({WAITS!r}, "f") as student:
    print(student.process.pid, flush=True)
    student.function(600)
"""


@pytest.mark.slow
def test_a_function_may_wait_longer_than_it_may_compute(monkeypatch):
    """As all do where the machine is busy. What waits without end is stopped by the clock."""
    monkeypatch.setattr(process, "SECONDS_OF_A_CALL", 1)
    with process.StudentProcess(WAITS, "f") as student:
        assert student.function(2.5) == 2.5
        monkeypatch.setattr(process, "PATIENCE", 0.5)
        with pytest.raises(process.Ended, match="it did not return for a long time: does it wait for something"):
            student.function(600)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signals")
def test_the_students_process_ends_with_the_judges():
    judge = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    student = int(judge.stdout.readline())
    judge.kill()
    judge.communicate()
    for _ in range(300):
        if not is_alive(student):
            return
        time.sleep(0.1)
    os.kill(student, signal.SIGKILL)
    pytest.fail("it goes on without a judge")


def is_alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # nobody collects it in a container
    except OSError:
        return os.path.isdir("/proc/self")  # no such files: it is there


def test_calls_are_noticed_while_a_profiler_runs():
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        with Watch((softmax,)) as watch:
            softmax(np.ones(3))
        after_it = np.zeros(3).tolist()
    finally:
        profiler.disable()
    assert watch.used == {"softmax"} and after_it
    assert any("tolist" in str(entry.code) for entry in profiler.getstats())


# ------------------------------------------------------------------------------------------ traps


def first_largest(x):
    return x, lambda dy: dy


def enter_identity(course, **fields):
    """An exercise whose answer is x, with two traps."""
    traps = {"a row of ones": lambda r: np.ones((2, 3)), "negative numbers": lambda r: -1 - r.rng.random((2, 3))}
    draw = lambda r, n, d: 2 + r.rng.random((n, d))
    return course.layer(first_largest, draw=draw, traps=traps, name="identity", hints=("a", "b"), **fields)


@pytest.mark.parametrize("trap", ["a row of ones", "negative numbers"])
def test_a_mistake_that_shows_at_one_trap_is_named_there_and_has_its_hint(course, trap):
    spoil = {"a row of ones": lambda x: np.where(x == 1, 0.0, x), "negative numbers": lambda x: np.abs(x)}
    mistakes = [Mistake("sqrt", f"about {name}.", function) for name, function in spoil.items()]
    enter_identity(course, mistakes=tuple(mistakes), kinds={name: f"at {name}" for name in spoil})
    verdict = grade(exercise("identity")(lambda x: (spoil[trap](x), lambda dy: dy)))
    assert (verdict.stage, verdict.kind, verdict.trap) == ("traps", "sqrt", trap)
    assert verdict.sentence.endswith(f"Probably: about {trap}.") and verdict.hint.endswith(f": at {trap}")


def test_a_mistake_of_another_trap_is_not_named(course):
    enter_identity(course, mistakes=(Mistake("sqrt", "about negative numbers.", np.abs),))
    verdict = grade(exercise("identity")(lambda x: (np.where(x == 1, 0.0, x), lambda dy: dy)))
    assert (verdict.stage, verdict.kind, verdict.trap) == ("traps", "", "a row of ones")


# ------------------------------------------------------------------------------------------ what cannot be judged


@pytest.mark.parametrize("has_backward", [True, False])
@pytest.mark.parametrize("factor", [1, 2])
def test_where_no_slope_is_known_the_gradient_is_held_beside_the_right_one(course, factor, has_backward, monkeypatch):
    """And where there is no right one, that is said."""
    rough = Report("identity", "complex", [Row("x", (2, 2), 1, 1, 0, verdict="unchecked", why="it is too rough.")])
    monkeypatch.setattr(sys.modules["miniclip.course.grade"], "check", lambda *args, **options: rough)
    reference = first_largest if has_backward else lambda x: x
    course.layer(reference, draw=lambda r, n, d: r.normal(n, d), name="identity", has_backward=has_backward)
    verdict = grade(exercise("identity")(lambda x: (x, lambda dy: factor * dy)))
    if not has_backward:
        assert verdict.stage == "gradient" and "its gradient cannot be judged at x (" in verdict.sentence, verdict
        assert verdict.sentence.endswith(": it is too rough.")
    elif factor == 1:
        assert verdict, verdict
    else:
        assert verdict.stage == "gradient" and "the gradient[" in verdict.sentence, verdict


# ------------------------------------------------------------------------------------------ other places


def test_an_answer_stands_for_a_method_of_the_library(course):
    """As one step of a whole model does for the optimiser's."""

    def downhill(theta, gradient, lr):
        return theta - lr * gradient

    def as_step(answer):
        def step(self, gradient, lr, map=map, norm=None):
            self.params.vector[...] = answer(self.params.vector, gradient.vector, lr)
            return norm

        return step

    draw = lambda r, n: (r.normal(n), r.normal(n), 0.1)
    course.function(downhill, draw, stands_for=optim.AdamW.step, adapt=as_step)
    course.function(lambda x: x, lambda r, n: (r.normal(n),), name="nowhere")
    original = optim.AdamW.step
    with put_in(exercise("downhill")(lambda theta, gradient, lr: theta - lr), exercise("nowhere")(lambda x: 3)) as put:
        assert put.names == ["downhill"] and "nowhere" not in str(put)
        params = Flat({"w": np.zeros((2, 2)), "logit_scale": np.zeros(())})
        optim.AdamW(params).step(params.like(np.ones(5)), 0.5)
        assert np.allclose(params.vector, -0.5)
    assert optim.AdamW.step is original
