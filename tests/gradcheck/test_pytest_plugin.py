"""The fixture `gradients`, in a run of pytest of its own."""

import subprocess
import sys

import pytest

TESTS = """
import numpy as np

def softmax(x):
    p = np.exp(x)
    p = p / p.sum(-1, keepdims=True)
    return p, lambda dy: p * dy

def fails(x):
    return undefined_name * x

def forward(x, w):
    return x @ w, (x, w)

def backward(dout, cache):
    return dout @ cache[1].T, cache[0].T @ dout

rng = np.random.default_rng(0)

def test_right(gradients):
    assert gradients(forward, rng.normal(size=(2, 3)), rng.normal(size=(3, 2)), backward=backward).ok

def test_wrong(gradients):
    gradients(softmax, rng.normal(size=(2, 3)))

def test_raises(gradients):
    gradients(fails, rng.normal(size=3))

def test_is_no_layer(gradients):
    gradients(lambda x: None, rng.normal(size=3))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What pytest prints of these tests."""
    folder = tmp_path_factory.mktemp("homework")
    (folder / "test_homework.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-p", "miniclip.gradcheck.pytest", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run([*words, "test_homework.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def part_of(printed, test):
    """What is printed of the failure of one test."""
    return printed.partition(f"_ {test} _")[2].partition("\n____")[0].partition("\n=====")[0]


def test_what_fails_and_what_does_not(printed):
    assert "3 failed, 1 passed" in printed
    # Where pytest sees a CI, the summary holds each message whole, over many lines.
    assert "\nFAILED test_homework.py::test_wrong - AssertionError: softmax: auto, WRONG" in printed


def test_the_message_is_the_table_and_the_traceback_ends_in_the_test(printed):
    failure = part_of(printed, "test_wrong")
    assert "E       AssertionError: softmax: auto, WRONG" in failure and "rel. error" in failure
    assert "WRONG: x[" in failure and "Probably: " in failure
    assert failure.count("AssertionError") == 2 and "\ntest_homework.py:" in failure and "gradcheck/" not in failure


def test_an_exception_of_the_users_stands_above_in_the_users_frame_alone(printed):
    failure = part_of(printed, "test_raises")
    assert "return undefined_name * x" in failure and "CannotCheck: fails raised NameError" in failure
    assert "gradcheck/" not in failure


def test_what_cannot_be_checked_is_one_sentence(printed):
    failure = part_of(printed, "test_is_no_layer")
    assert "returned nothing (None)" in failure and "gradcheck/" not in failure


def test_importing_the_library_does_not_import_pytest():
    code = "import sys, miniclip, miniclip.cli, miniclip.gradcheck; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
