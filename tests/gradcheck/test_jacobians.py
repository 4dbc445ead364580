"""The Jacobian view: claimed and numeric are what they say, and what is too large or random is refused."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from miniclip.gradcheck import CannotCheck
from miniclip.gradcheck.jacobian_view import jacobians
from miniclip.layers import linear, softmax


def bn(x, gamma):
    """The variance is taken for a constant."""
    s = np.sqrt(np.var(x, 0) + 1e-5)
    normed = (x - x.mean(0)) / s

    def backward(dy):
        d = dy * gamma
        return (d - d.mean(0)) / s, (dy * normed).sum(0)

    return gamma * normed, backward


def test_both_are_the_jacobian(normal):
    x, w, b = normal(2, 3), normal(4, 3), normal(4)
    found = jacobians(linear, x, w, b)
    assert list(found) == ["x", "weight", "bias"]
    for jacobian in found.values():
        assert jacobian.shape_out == (2, 4) and jacobian.method == "complex" and jacobian.error < 1e-14
    np.testing.assert_allclose(found["x"].claimed, np.kron(np.eye(2), w), atol=1e-14)
    np.testing.assert_allclose(found["x"].numeric, np.kron(np.eye(2), w), atol=1e-14)
    np.testing.assert_allclose(found["bias"].numeric, np.tile(np.eye(4), (2, 1)), atol=1e-14)
    assert found["weight"].claimed.shape == (8, 12) and found["weight"].shape_in == (4, 3)


@pytest.mark.parametrize("method, tolerance", [("complex", 1e-14), ("central", 1e-8), ("richardson", 1e-9)])
def test_methods(normal, method, tolerance):
    x = normal(5)
    both = jacobians(softmax, x, method=method)["x"]
    p, _ = softmax(x)
    np.testing.assert_allclose(both.numeric, np.diag(p) - np.outer(p, p), atol=tolerance)
    assert both.method == method and both.error < tolerance


def test_where_the_forward_pass_is_not_analytic_it_is_by_differences(normal):
    x, gamma = normal(4, 3), normal(3)
    found = jacobians(bn, x, gamma)
    wrong, right = found["x"], found["gamma"]
    assert wrong.method == "central" and wrong.error > 0.1 and right.error < 1e-8
    row, column = wrong.worst
    assert abs(wrong.claimed - wrong.numeric).max() == abs(wrong.claimed - wrong.numeric)[row, column]
    assert row % 3 == column % 3
    y, x = divmod(row, 3), divmod(column, 3)
    assert f"∂y{list(y)}/∂x{list(x)} is " in str(wrong) and "by backward and" in str(wrong)
    assert "by backward" not in str(right)
    with pytest.raises(CannotCheck, match="no complex step shows this Jacobian, for the forward pass "):
        jacobians(bn, np.ones((4, 3)) + normal(4, 3), gamma, method="complex")


def test_a_loss_has_one_row_and_its_gradient_a_hessian(normal):
    x = normal(3)

    def f(x):
        return (x * x * x).sum()

    options = {"gradient": lambda x: 3 * x * x}
    slope = jacobians(f, x, **options)["x"]
    np.testing.assert_allclose(slope.claimed, [3 * x * x])
    np.testing.assert_allclose(slope.numeric, [3 * x * x])
    assert slope.shape_out == () and "∂y (one number) / ∂x (3)" in str(slope)
    bend = jacobians(f, x, **options, hessian=lambda x: np.diag(3 * x), order=2)["x"]
    np.testing.assert_allclose(bend.claimed, np.diag(3 * x))
    np.testing.assert_allclose(bend.numeric, np.diag(6 * x), atol=1e-14)


def test_several_outputs_follow_each_other(normal):
    def split(x):
        return x[:1] * 2, x[1:] * 3, lambda da, db: np.concatenate([2 * da, 3 * db])

    both = jacobians(split, normal(3))["x"]
    np.testing.assert_array_equal(both.claimed, np.diag([2.0, 3, 3]))
    np.testing.assert_allclose(both.numeric, np.diag([2.0, 3, 3]))
    assert both.names == ("y0, y1", "x") and both.shape_out == (3,)


def test_options_of_check(normal):
    def forward(x, w, *, scale):
        return scale * (x @ w), (x, w)

    def backward(dout, cache, scale):
        x, w = cache
        return scale * dout @ w.T, scale * x.T @ dout

    found = jacobians(forward, normal(2, 3), normal(3, 2), backward=backward, scale=2, wrt=["w"])
    assert list(found) == ["w"] and found["w"].error < 1e-14
    single = jacobians(softmax, normal(4), dtype=np.float32)["x"]
    assert 1e-9 < single.error < 1e-6 and single.claimed.dtype == np.float64


def test_what_cannot_be_shown(normal):
    large = "x has 5,000 entries, and a Jacobian is shown of up to 4,096: take a smaller example"
    with pytest.raises(CannotCheck, match=large):
        jacobians(lambda x: ((x * x).sum(), lambda: 2 * x), normal(5000))
    with pytest.raises(CannotCheck, match="the output has 6,400 entries"):
        jacobians(lambda x: (np.outer(x, x), lambda dy: (dy + dy.T) @ x), normal(80))
    with pytest.raises(CannotCheck, match="there is no Jacobian to show: .*not finite"):
        jacobians(lambda x: (x * np.nan, lambda dy: dy), normal(3))
    missing = lambda x, w: (x * w, lambda dy: dy * w)
    with pytest.raises(CannotCheck, match="there is no Jacobian to show: backward gives no gradient of w"):
        jacobians(missing, normal(3), normal(3))
    assert list(jacobians(missing, normal(3), normal(3), wrt="x")) == ["x"]
    with pytest.raises(CannotCheck, match="method is 'guess'; choose one of auto, complex"):
        jacobians(softmax, normal(3), method="guess")


def test_as_html(normal):
    both = jacobians(bn, normal(4, 3), normal(3), wrt="x")["x"]
    html = both._repr_html_()
    assert html.count("<svg") == 3 and "by central" in html and "difference, up to " in html


@pytest.mark.slow
def test_the_largest(normal):
    with threadpool_limits(1):
        both = jacobians(lambda x: (x * x, lambda dy: 2 * x * dy), normal(4096))["x"]
    assert both.claimed.shape == (4096, 4096) and both.error < 1e-14
