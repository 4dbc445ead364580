"""Functions in a file of a user's, checked from the command line."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import python, sentence

from miniclip.cli import main

STUDENT = Path(__file__).with_name("homework_of_a_student.py")
RIGHT, WRONG, BAD = 0, 1, 2
NETWORK = """
import numpy as np

class Network:
    def __init__(self):
        self.params = {"W": np.ones((3, 2))}

    def loss(self, x, t):
        error = x @ self.params["W"] - t
        return (error**2).sum(), {"W": 2 * x.T @ error}

def network_inputs(rng):
    yield rng.normal(size=(4, 3))
    yield rng.normal(size=(4, 2))

def mse(p, t):
    return ((p - t) ** 2).mean()

def mse_grad(p, t):
    return 2 * (p - t) / p.size, 2 * (t - p) / p.size

mse_inputs = np.ones(3), np.zeros(3)
"""


@pytest.fixture
def homework(tmp_path, monkeypatch):
    """The student's folder is where we are; what is loaded from there leaves no trace."""
    shutil.copy(STUDENT, tmp_path / "homework.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def gradcheck(homework, capsys):
    """gradcheck("homework.py::softmax", …) -> exit status, what was printed, what went to standard error."""

    def run(*arguments):
        status = main(["gradcheck", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def report(gradcheck):
    """report("softmax", …) -> exit status, and the JSON of its report."""

    def run(name, *arguments):
        status, out, _ = gradcheck(f"homework.py::{name}", "--json", *arguments)
        whole = json.loads(out)
        (one,) = whole["reports"]
        assert whole["ok"] is one["ok"] is (status == RIGHT) and one["function"] in (name, f"{name}_forward")
        return status, one

    return run


def verdicts(report):
    return {row["name"]: row["verdict"] for row in report["rows"]}


def test_a_function_is_checked_at_its_inputs_with_its_backward(gradcheck):
    status, out, _ = gradcheck("homework.py::batchnorm_forward")
    lines = out.splitlines()
    assert status == WRONG and lines[0] == "the homework is loaded"
    assert lines[1].startswith("batchnorm_forward: auto, WRONG") and "WRONG: x[" in out
    assert [line.split()[0] for line in lines if line.endswith("  ok")] == ["gamma", "beta"]


def test_a_file_alone_is_all_that_has_inputs(gradcheck):
    status, out, _ = gradcheck("homework.py")
    assert status == WRONG
    lines = [line for line in out.splitlines() if ": auto, " in line or line.startswith("check_square")]
    names = [line.split(":")[0] for line in lines]
    assert names == ["batchnorm_forward", "softmax", "check_square", "check_cube", "batchnorm_forward", "check_cube"]
    assert "Not checked, for they have no inputs: affine, square, LinearLayer, Sized." in out
    assert out.splitlines()[-1] == "Not right: 2 of 4 checks."


def test_json_is_all_that_is_printed(gradcheck):
    status, out, err = gradcheck("homework.py", "--json", "--seed", "3")
    whole = json.loads(out)
    assert status == WRONG and not whole["ok"] and whole["seed"] == 3 and "error" not in whole
    assert [report["ok"] for report in whole["reports"]] == [False, True, True, False]
    assert "the homework is loaded" in err and "softmax runs" in err


def test_several_targets_and_methods(gradcheck):
    status, out, _ = gradcheck("homework.py::softmax", "homework.py::check_square", "--method", "complex")
    assert status == RIGHT and out.count("the homework is loaded") == 1
    assert out.splitlines()[-1] == "All 2 checks are right."
    status, out, _ = gradcheck("homework.py::softmax", "--method", "central", "--method", "richardson")
    assert status == RIGHT and "softmax: central, ok" in out and "softmax: richardson, ok" in out


def test_a_seed_decides_the_inputs(report):
    first, again, other = (report("softmax", "--seed", seed)[1]["rows"][0]["analytic"] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("name, arguments, found", [
    ("affine", ["--shape", "x=4x5", "--shape", "w=5×2"], {"x": "ok", "w": "ok"}),
    ("affine", ["--shape", "x=4x5", "--shape", "w=5x2", "--backward", "affine_wrong_backward"],
     {"x": "ok", "w": "WRONG"}),
    ("affine", ["--shape", "x=4x5", "--shape", "w=5x2", "--backward", "affine_wrong_backward", "--wrt", "x"],
     {"x": "ok"}),
    ("affine", ["--shape", "x=4x5", "--shape", "w=5x2", "--exclude", "x,y"], {"w": "ok"}),
    ("cross_entropy", ["--shape", "scores=3x4", "--shape", "labels=3:int<4"], {"scores": "ok"}),
    ("cross_entropy", ["--inputs", "homework.py::inputs_for_cross_entropy"], {"scores": "ok"}),
    ("square", ["--gradient", "square_gradient", "--shape", "x=number"], {"x": "ok"}),
    ("LinearLayer", ["--shape", "x=3x4"], {"x": "ok", "W": "ok"}),
    ("layer", ["--shape", "x=3x5"], {"x": "ok", "W": "ok"}),
    ("check_cube", [], {"x": "WRONG"}),
    ("batchnorm", [], {"x": "WRONG", "gamma": "ok", "beta": "ok"}),
    ("square", ["--shape", "x=3"], {"x": "ok"}),
    ("LinearLayer.forward", ["--shape", "x=3x4"], {"x": "ok", "W": "ok"}),
    ("layer.forward", ["--shape", "x=3x5"], {"x": "ok", "W": "ok"}),
])  # fmt: skip
def test_where_arguments_and_gradients_come_from(report, name, arguments, found):
    status, one = report(name, *arguments)
    assert verdicts(one) == found and status == int("WRONG" in found.values())


def test_files_of_arrays(report, rng):
    x, w = rng.normal(size=(4, 5)), rng.normal(size=(5, 3))
    np.savez("by_name.npz", w=w, x=x)
    np.savez("in_order.npz", x, w)
    np.save("one.npy", x)
    np.savez("with_a_number.npz", x=x, gamma=x[0], beta=x[1], eps=0.1)
    np.savez("objects.npz", x=np.array([None]))
    for file in ("by_name.npz", "in_order.npz"):
        status, one = report("affine", "--inputs", file)
        assert status == RIGHT and [row["shape"] for row in one["rows"]] == [[4, 5], [5, 3]]
    assert report("softmax", "--inputs", "one.npy")[0] == RIGHT
    status, one = report("batchnorm_forward", "--inputs", "with_a_number.npz", "--wrt", "gamma")
    assert status == RIGHT and verdicts(one) == {"gamma": "ok"}
    status, one = report("softmax", "--inputs", "objects.npz")
    assert status == BAD and "holds no arrays that can be read" in one["error"]


def test_float32(report):
    status, one = report("softmax", "--dtype", "float32")
    assert status == RIGHT and one["rows"][0]["tolerance"] == 1e-3


def test_an_assertion_of_a_function_that_checks_is_wrong_and_no_crash(gradcheck):
    status, out, err = gradcheck("homework.py::assert_softmax")
    assert status == WRONG and "assert_softmax: auto, WRONG" in out and "should be" in out and not err


@pytest.mark.parametrize("arguments, words", [
    (["homework.py::nothing"], "homework.py has no 'nothing'; it has batchnorm_forward, "),
    (["homework.py::layer.loss"], "layer.loss: an object of class LinearLayer has no 'loss'."),
    (["nowhere.py::f"], "there is no Python file nowhere.py"),
    (["homework.py::square"], "there are no inputs for square: write square_inputs(rng) into homework.py, which "
     "returns (x), or say --inputs FILE.npz, or --shape x=4x5"),
    (["homework.py::softmax", "--shape", "z=3"], "softmax takes x; its inputs are z"),
    (["homework.py::softmax", "--shape", "x=3by4"], "--shape 'x=3by4' is not understood"),
    (["homework.py::softmax", "--shape", "x=3", "--inputs", "x.npz"], "--inputs and --shape both say"),
    (["homework.py::softmax", "--inputs", "x.npz"], "there is no file x.npz"),
    (["homework.py::softmax", "--inputs", "homework.py::fails"], "fails wants x; what makes inputs takes rng or seed"),
    (["homework.py::softmax", "--inputs", "homework.py::gives_nothing"], "gives_nothing returned nothing"),
    (["homework.py::softmax", "--wrt", "w"], "wrt names 'w', which is not there; choose from: x"),
    (["homework.py::softmax", "--backward", "w"], "homework.py has no 'w'"),
    (["homework.py::Sized", "--shape", "x=3x3"], "Sized is a class whose constructor wants size"),
    (["homework.py::gives_nothing"], "gives_nothing takes nothing, so it is to return a Report"),
    (["homework.py", "--shape", "x=3"], "--shape is for one function"),
    (["homework.py::softmax", "--layer", "relu"], "--layer and --plot are for the layers of the library"),
    (["--wrt", "x"], "--wrt is for a function of yours"),
    (["empty.py"], "empty.py has nothing that can be checked by itself"),
])  # fmt: skip
def test_bad_use_is_one_sentence_and_status_2(gradcheck, arguments, words):
    Path("empty.py").touch()
    status, out, err = gradcheck(*arguments)
    assert status == BAD and words in sentence(err) and "auto" not in out
    status, out, _ = gradcheck(*arguments, "--json")
    assert status == BAD and json.loads(out)["ok"] is False and words in json.loads(out)["error"]


@pytest.mark.parametrize("name, words, last", [
    ("fails", "fails raised NameError: name 'undefined_name' is not defined; it was handed x float64 (3,).",
     "NameError: name 'undefined_name' is not defined"),
    ("leaves", "leaves raised SystemExit: 0", "SystemExit: 0"),
])  # fmt: skip
def test_the_students_exception_keeps_its_traceback_from_the_students_frame_on(gradcheck, name, words, last):
    status, out, err = gradcheck(f"homework.py::{name}", "--shape", "x=3")
    first, traceback, frame, *_, end = err.splitlines()
    assert status == BAD and out == "the homework is loaded\n"
    assert first.startswith(f"miniclip: {words}") and traceback == "Traceback (most recent call last):" and end == last
    assert "homework.py" in frame and f"in {name}" in frame
    status, out, _ = gradcheck(f"homework.py::{name}", "--shape", "x=3", "--json")
    assert status == BAD and json.loads(out)["error"].startswith(words)


@pytest.mark.parametrize("text, words", [
    ("x = nump.zeros(3)", "broken.py raised NameError: name 'nump' is not defined."),
    ("def f(x:\n    pass", "broken.py raised SyntaxError"),
    ("raise SystemExit(0)", "broken.py raised SystemExit: 0."),
])  # fmt: skip
def test_a_file_that_fails_does_not_keep_the_others_from_being_checked(gradcheck, text, words):
    Path("broken.py").write_text(text)
    status, out, err = gradcheck("broken.py", "homework.py::softmax", "--json")
    whole = json.loads(out)
    assert status == BAD and whole["error"].startswith(words) and not whole["ok"]
    assert [report["ok"] for report in whole["reports"]] == [False, True]
    assert err.startswith(f"miniclip: {words}")


def test_a_file_imports_its_neighbours_and_is_not_run_as_main(gradcheck):
    Path("neighbour.py").write_text("def double(x): return 2 * x, lambda dy: 2 * dy")
    Path("mine.py").write_text(
        "from neighbour import double\n"
        "double_inputs = [[1.0, 2.0, 3.0]]\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit('run as main')\n"
    )
    status, out, _ = gradcheck("mine.py")
    assert status == RIGHT and out.startswith("double: auto, ok")


def test_methods_have_inputs_too_which_may_be_yielded(gradcheck):
    Path("network.py").write_text(NETWORK)
    status, out, _ = gradcheck("network.py::Network.loss")
    assert status == RIGHT and out.startswith("Network.loss: auto, ok")
    status, out, _ = gradcheck("network.py::mse")
    assert status == RIGHT and [line.split()[0] for line in out.splitlines() if line.endswith("  ok")] == ["p", "t"]


def test_what_an_error_is_about_is_said(gradcheck):
    Path("odd.py").write_text(
        "class Broken:\n    @property\n    def forward(self): raise RuntimeError('no weights')\n"
        "odd, odd_inputs = Broken(), ([1.0],)\n"
        "def f(x): return 2 * x\n"
        "f_inputs = (1.0,)\n"
        "def f_gradient(x): return 2\n"
    )
    status, out, err = gradcheck("odd.py")
    assert status == BAD and err.startswith("miniclip: odd raised RuntimeError: no weights.\nTraceback ")
    assert out.splitlines()[0].startswith("f: auto, ok") and out.endswith("Not right: 1 of 2 checks.\n")


def test_as_it_is_typed(homework):
    done = python("gradcheck", "homework.py::softmax", "--json")
    assert done.returncode == RIGHT and json.loads(done.stdout)["ok"] and "the homework is loaded" in done.stderr
    done = python("gradcheck", "homework.py::batchnorm_forward")
    assert done.returncode == WRONG and "WRONG: x[" in done.stdout and not done.stderr
