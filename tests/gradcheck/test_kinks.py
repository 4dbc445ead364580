"""At kinks, one or many at once: what is right is not accused, and what is wrong is not excused."""

import numpy as np
import pytest

from miniclip.gradcheck import check

METHODS = ["auto", "complex", "central", "richardson", "adjoint"]


def blank_rows(rng):
    """Padding, or the borders of MNIST: rows of zeros, under a bias of zero."""
    x = np.vstack([rng.normal(size=(4, 10)), np.zeros((4, 10))])
    return x, rng.normal(size=(10, 5)), np.zeros(5)


def affine_relu(mask):
    def f(x, w, b):
        z = x @ w + b
        d = lambda dy: dy * mask(z, x)
        return np.maximum(0, z), lambda dy: (d(dy) @ w.T, x.T @ d(dy), d(dy).sum(0))

    return f


def hidden_relu(mask):
    """The kinks lie inside, and a matrix mixes them."""

    def f(x, w, b, v):
        z = x @ w + b
        h = np.maximum(0, z)

        def backward(dy):
            dz = (dy @ v.T) * mask(z, x)
            return dz @ w.T, x.T @ dz, dz.sum(0), h.T @ dy

        return h @ v, backward

    return f


def relu(mask):
    return lambda x: (np.maximum(x, 0), lambda dy: dy * mask(x, x))


def largest_of_four(mask):
    """Max pooling over squares of 2 × 2 pixels that may be equal."""

    def f(x):
        n, h, w = x.shape
        squares = x.reshape(n, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 2, 4).reshape(n, h // 2, w // 2, 4)

        def backward(dy):
            d = (dy[..., None] * mask(squares)).reshape(n, h // 2, w // 2, 2, 2)
            return d.transpose(0, 1, 3, 2, 4).reshape(x.shape)

        return squares.max(-1), backward

    return f


def hinge(mask):
    """The margins of a linear classifier whose scores are all equal, as they are before it has learned anything."""

    def f(x, w):
        scores = x @ w
        margins = scores[:, 1:] - scores[:, :1]

        def backward(dy):
            d = dy * mask(margins, x)
            dscores = np.hstack([-d.sum(1, keepdims=True), d])
            return dscores @ w.T, x.T @ dscores

        return np.maximum(0, margins), backward

    return f


def two_zeros(rng):
    x = rng.normal(size=(3, 4))
    x[0, 1] = x[2, 2] = 0
    return (x,)


def pixels(rng):
    return (rng.integers(0, 3, (2, 4, 4)).astype(float),)


def with_matrix(rng):
    return *blank_rows(rng), rng.normal(size=(5, 3))


def zero_weights(rng):
    return rng.normal(size=(5, 4)), np.zeros((4, 3))


def one_of(squares):
    return np.eye(4)[squares.argmax(-1)]


def all_of(squares):
    return squares == squares.max(-1, keepdims=True)


above, at_least = (lambda z, x: z > 0), (lambda z, x: z >= 0)
nothing, below = (lambda z, x: np.ones_like(z)), (lambda z, x: z < 0)
jump, threshold = (lambda z, x: (z > 0) + 5.0 * (z == 0)), (lambda z, x: z > -0.5)

CASES = {  # the layer by its mask, its arguments, right masks, wrong masks
    "blank rows": (affine_relu, blank_rows, [above, at_least], [nothing, below, threshold, jump]),
    "hidden": (hidden_relu, with_matrix, [above, at_least], [nothing, below]),
    "two zeros": (relu, two_zeros, [above, at_least], [nothing, below, jump]),
    "equal pixels": (largest_of_four, pixels, [one_of, all_of, lambda s: all_of(s) / all_of(s).sum(-1, keepdims=True)],
                     [lambda s: np.eye(4)[s.argmin(-1)], lambda s: np.eye(4)[0 * s.argmax(-1)]]),
    "equal scores": (hinge, zero_weights, [above, at_least], [nothing, below]),
}  # fmt: skip


def draws(name, masks, count):
    """The layers of a case, with arguments."""
    layer, arguments, *_ = CASES[name]
    for seed in range(count):
        args = arguments(np.random.default_rng(seed))
        yield from ((layer(mask), args) for mask in masks)


def by_methods(*values):
    slow = [pytest.param(*v, m, marks=pytest.mark.slow) for v in values for m in METHODS[1:]]
    return [(*v, METHODS[0]) for v in values] + slow


FEW = [(name, METHODS[0], 8) for name in CASES]
FORTY = [pytest.param(name, method, 40, marks=pytest.mark.slow) for name in CASES for method in METHODS]


@pytest.mark.parametrize("name, method, count", FEW + FORTY)
def test_no_false_alarm_in_forty_draws(name, method, count):
    for f, args in draws(name, CASES[name][2][:1], count):
        report = check(f, *args, method=method)
        assert report.ok, f"\n{report}"


@pytest.mark.parametrize("name, method", by_methods(*[(name,) for name in CASES]))
def test_any_slope_at_a_kink_is_right(name, method):
    for f, args in draws(name, CASES[name][2][1:], 4):
        assert check(f, *args, method=method).ok


@pytest.mark.parametrize("name, method", by_methods(*[(name,) for name in CASES]))
def test_a_wrong_mask_at_the_same_points_is_caught(name, method):
    for f, args in draws(name, CASES[name][3], 4):
        report = check(f, *args, method=method)
        assert report.verdict == "WRONG", f"\n{report}"


@pytest.mark.parametrize("method", METHODS)
def test_a_small_number_is_no_kink(method):
    x = np.array([0.7, 1e-4, -0.4, -1e-4])
    right = check(relu(above), x, method=method)
    assert right.ok and right.rows[0].verdict == "ok", f"\n{right}"
    wrong = check(relu(lambda z, x: z > 2e-4), x, method=method)
    assert not wrong.ok and wrong.rows[0].index == (1,), f"\n{wrong}"


def test_what_lies_at_a_kink_is_said():
    (row,) = check(relu(above), np.array([0.7, 0.0, -0.4]), method="central").rows
    assert row.verdict == "kink" and "the slope jumps" in row.why and row.digits >= 7
