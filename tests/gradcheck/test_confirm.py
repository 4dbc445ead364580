"""A wrong gradient is never certified, whatever the forward pass does to a complex number, and however it rounds."""

import numpy as np
import pytest
from real_functions import FORWARDS

from miniclip.gradcheck import check
from miniclip.layers import layer_norm

pytestmark = pytest.mark.filterwarnings("ignore")  # of casts, which the functions make


def draw(name, seed):
    return np.random.default_rng([seed, *name.encode()]).standard_normal((4, 5))


def layer(f, backward):
    return lambda x: (f(x), lambda dy: backward(x, dy))


def single(f):
    """f in float32, behind a mask of float64."""
    return lambda x: np.asarray(f(x.astype(np.float32)), np.float32).astype(np.float64)


def test_there_are_enough_pairs():
    """Of a right and a wrong backward: three points of each in float64, and one in float32."""
    assert len(FORWARDS) >= 50 and 4 * len(FORWARDS) >= 200


TWO = ("auto", "complex")
SEEDS = [(0, (*TWO, "adjoint", "central", "richardson"))]
SEEDS += [pytest.param(seed, TWO, marks=pytest.mark.slow) for seed in (1, 2)]


@pytest.mark.parametrize("seed, methods", SEEDS)
@pytest.mark.parametrize("name", FORWARDS)
def test_what_a_complex_step_cannot_see_is_seen(name, seed, methods):
    f, right, wrong = FORWARDS[name]
    x = draw(name, seed)
    report = check(layer(f, right), x)
    assert report.ok and report.rows[0].digits >= 7, f"\n{report}"
    for method in methods:
        report = check(layer(f, wrong), x, method=method)
        assert report.verdict == "WRONG", f"\n{report}"


@pytest.mark.parametrize("name", FORWARDS)
def test_what_float32_rounds_away_is_no_proof(name):
    f, right, wrong = FORWARDS[name]
    x = draw(name, 3)
    report = check(layer(single(f), right), x)
    assert report.verdict != "WRONG" and report.ok == (report.rows[0].doubt <= 3e-3), f"\n{report}"
    assert check(layer(single(f), wrong), x).verdict == "WRONG"
    one_percent = check(layer(single(f), lambda x, dy: 1.01 * right(x, dy)), x)
    assert one_percent.verdict == "WRONG", f"\n{one_percent}"


@pytest.mark.parametrize("method", ["auto", "central", "richardson"])
def test_float32_matrices(method):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((6, 4)), rng.standard_normal((4, 5))

    def product(factor):
        def f(x, w):
            y = (x.astype("f4") @ w.astype("f4")).astype("f8")
            return y, lambda dy: (factor * dy @ w.T, factor * x.T @ dy)

        return f

    right = check(product(1), x, w, method=method)
    assert right.ok and all(3 <= row.digits < 7 for row in right.rows), f"\n{right}"
    for factor in (1.01, 1.1):
        report = check(product(factor), x, w, method=method)
        assert [row.verdict for row in report.rows] == ["WRONG", "WRONG"], f"\n{report}"


def test_arrays_that_are_analytic_keep_all_their_digits():
    def f(x, w):
        r = np.abs(x)
        return r @ w, lambda dy: (np.sign(x) * (dy @ w.T), r.T @ dy)

    report = check(f, draw("x", 0), draw("w", 0).T)
    assert [row.method for row in report.rows] == ["central", "complex"]
    assert report.rows[0].digits in (7, 8, 9, 10) and report.rows[1].digits >= 14 and "np.abs" in report.rows[0].why


def test_by_complex_alone_it_could_not_be_checked():
    f, right, _ = FORWARDS["np.var"]
    for method in ("complex", "adjoint"):
        report = check(layer(f, right), draw("x", 0), method=method)
        assert report.verdict == "could not be checked" and not report
        assert "a complex step cannot show it" in report.rows[0].why and "method='auto'" in report.rows[0].why


def test_what_is_too_rough_to_be_known_is_not_called_right():
    def rough(x):
        return np.round(x, 2), lambda dy: dy

    report = check(rough, draw("x", 0))
    assert report.verdict != "ok"
    nowhere = check(lambda x: (np.sqrt(x), lambda dy: dy), np.zeros(3))
    assert nowhere.verdict == "could not be checked" and "inf" not in str(nowhere), f"\n{nowhere}"


def without_epsilon(x, weight, bias):
    return layer_norm(x, weight, bias, 0.0)


def test_steps_are_as_long_as_the_numbers_are_large():
    for scale in (1e-6, 1e6):
        x, w, b = draw("x", 1) * scale, draw("w", 1)[0], draw("b", 1)[0]
        for method in ("central", "richardson", "auto"):
            report = check(without_epsilon, x, w, b, method=method)
            assert report.ok, f"\n{report}"


@pytest.mark.parametrize("method", ["auto", "complex", "central", "richardson", "adjoint"])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e6])
def test_nothing_is_too_small_to_be_wrong(scale, method):
    x, w = draw("x", 2), draw("w", 2)

    def f(factor):
        return lambda x, w: (scale * (x**3 * w).sum(), lambda: (factor * scale * 3 * x * x * w, scale * x**3))

    assert check(f(1), x, w, method=method).ok
    report = check(f(1.01), x, w, method=method)
    assert [row.verdict for row in report.rows] == ["WRONG", "ok"], f"\n{report}"


@pytest.mark.parametrize("method", ["auto", "complex", "central", "richardson", "adjoint"])
def test_a_gradient_that_is_rounding_alone_is_zero(method):
    """Rows of a softmax sum to 1 and those of a layer norm to 0, so there is nothing to differentiate."""
    for scale in (1e-9, 1, 1e9):

        def f(x):
            p = np.exp(x - x.max(1, keepdims=True))
            p = scale * p / p.sum(1, keepdims=True)
            return p.sum(1), lambda dy: dy[:, None] * (p - p * p.sum(1, keepdims=True) / scale)

        report = check(f, draw("x", 1), method=method)
        assert report.ok and report.rows[0].verdict == "zero", f"\n{report}"


def test_many_parameters_at_once():
    """A million numbers by one walk; one entry of 100,000 that is off by 1 % is found and placed."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 500)), rng.standard_normal((500, 200))

    def spoiled(x, w):
        def backward(dy):
            dw = x.T @ dy
            dw[321, 123] *= 1.01
            return dy @ w.T, dw

        return x @ w, backward

    for method in ("auto", "adjoint", "central"):
        report = check(spoiled, x, w, method=method)
        assert [row.ok for row in report.rows] == [True, False] and report.rows[1].index == (321, 123), f"\n{report}"
    w = rng.standard_normal((1000, 1000))
    assert check(lambda w: (x[:, :300] @ w[:300], lambda dy: np.vstack([x[:, :300].T @ dy, 0 * w[300:]])), w)
