"""The checker must be silent when all is well and clear when it is not. (What it finds: test_gradcheck_faults.py.)"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.attention import attention_pool
from miniclip.gradcheck import check
from miniclip.layers import embedding, gelu, layer_norm, linear, quick_gelu, softmax
from miniclip.transformer import residual_block
from test_attention import pool_parameters
from test_transformer import block_parameters

draw = np.random.default_rng(7).standard_normal
METHODS = ["complex", "central", "adjoint"]


# ------------------------------------------------------------------------------------------ no false alarms

@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 4), max_size=2), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32),
       st.sampled_from(METHODS))
def test_what_is_right_passes(batch, width, out, seed, method):
    rng = np.random.default_rng(seed)
    x, seeds = rng.standard_normal((*batch, width)), {"method": method, "cotangent_seed": seed}
    for f, args in [(linear, (rng.standard_normal((out, width)), rng.standard_normal(out))),
                    (softmax, ()), (quick_gelu, ()), (gelu, ()), (embedding, ())]:
        report = (check(f, rng.integers(0, 5, batch), rng.standard_normal((5, width)), **seeds) if f is embedding
                  else check(f, x, *args, **seeds))
        assert report.ok, f"\n{report}"


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_is_truly_zero_passes(method):
    p = pool_parameters(lambda *s: draw(s), 4, 4, 3)
    report = check(attention_pool, draw((2, 2, 2, 4)), p, 2, method=method)
    row = {row.name: row for row in report.rows}["p.k_proj.bias"]
    assert report.ok and row.largest < 1e-8
    assert check(lambda x: (x * 0, lambda dy: dy * 0), draw(3), method=method).ok


def test_central_differences_are_not_asked_for_digits_that_are_not_there():
    """Of 1e6 + x/1000 the ten last digits are left for the derivative of x/1000."""
    assert check(lambda x: (1e6 + x * 1e-3, lambda dy: dy * 1e-3), draw(3), method="central").ok
    assert not check(lambda x: (1e6 + x * 1e-3, lambda dy: dy * 2e-3), draw(3), method="central").ok


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_small_and_large_numbers(scale):
    report = check(linear, draw((3, 4)) * scale, draw((5, 4)) * scale, draw(5) * scale)
    assert report.ok, f"\n{report}"


# ------------------------------------------------------------------------------------------ what it says

def test_the_report_reads_as_a_table():
    report = check(linear, draw((3, 4)), draw((5, 4)), draw(5))
    lines = str(report).splitlines()
    assert lines[0].startswith("linear: complex, ok, worst error ")
    assert [line.split()[0] for line in lines[1:]] == ["x", "weight", "bias"]
    assert "5 × 4" in lines[2] and all(line.endswith("ok") for line in lines[1:])
    assert report.max_error == max(row.error for row in report.rows) < 1e-14


def test_a_wrong_entry_is_named_with_both_numbers():
    def double_last(x):
        return 3 * x, lambda dy: dy * np.array([3.0, 3.0, 6.0])

    for method in METHODS:
        report = check(double_last, np.array([0.3, 0.2, 0.1]), method=method)
        row, = report.rows
        assert not report.ok and row.index == (2,) and report.max_error > 0.1
        assert row.claimed == pytest.approx(2 * row.found)
        assert f"WRONG: x[2] is {row.claimed}, should be {row.found}" in str(report)


def test_arrays_in_trees_are_named_as_in_a_state_dict():
    report = check(residual_block, draw((1, 2, 4)), block_parameters(lambda *s: draw(s), 4), 2)
    names = [row.name for row in report.rows]
    assert names[0] == "x" and "p.attn.out_proj.weight" in names and len(names) == 13


def test_large_arrays_are_looked_at_in_a_few_places_and_as_a_whole():
    calls = []

    def counted(x, weight):
        calls.append(1)
        return linear(x, weight)

    assert check(counted, draw((2, 50)), draw((50, 50)), entries=5).ok
    assert len(calls) < 20


def test_the_same_seed_gives_the_same_report():
    reports = [str(check(layer_norm, X, W, B, cotangent_seed=seed)) for seed in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]


X, W, B = draw((3, 6)), draw(6), draw(6)


def test_the_tolerance_can_be_chosen():
    assert not check(layer_norm, X, W, B, method="central", tolerance=1e-15).ok
    assert check(linear_by_a_millionth, X, tolerance=1e-5).ok
    assert not check(linear_by_a_millionth, X).ok


def linear_by_a_millionth(x):
    return 2 * x, lambda dy: dy * (2 + 1e-6)


def test_gradients_may_come_in_order_or_by_name():
    def in_order(x, weight, bias):
        y, backward = layer_norm(x, weight, bias)

        def ordered(dy):
            dx, grads = backward(dy)
            return dx, grads["weight"], grads["bias"]

        return y, ordered

    assert check(in_order, X, W, B).ok and check(layer_norm, X, W, B).ok
    assert check(lambda x, p: layer_norm(x, **p), X, {"weight": W, "bias": B}).ok


def test_what_is_no_array_of_floats_is_handed_through():
    seen = []

    def f(x, ids, size, name, nothing):
        seen.append((ids.dtype, size, name, nothing))
        return x[ids] * size, lambda dy: np.add.reduceat(dy * size, [0, 1])

    assert check(f, draw(2), np.array([0, 1]), 3, "name", None).ok
    assert all(s == (np.dtype(int), 3, "name", None) for s in seen)


# ------------------------------------------------------------------------------------------ preflight

def problems(f, *args, **options):
    report = check(f, *args, **options)
    assert not report.ok and report.max_error == np.inf
    return "\n".join(report.problems)


def test_a_random_forward_pass():
    rng = np.random.default_rng(0)
    assert "gave two outputs" in problems(lambda x: (x * rng.random(3), lambda dy: dy), draw(3))


def test_a_forward_pass_that_writes_into_its_input():
    def f(x):
        x *= 2
        return x.copy(), lambda dy: 2 * dy

    assert "x was written to" in problems(f, draw(3))


def test_a_backward_that_writes_into_a_parameter():
    def f(x, p):
        def backward(dy):
            p["weight"] += 1e-9
            return dy, {"weight": np.zeros(3)}

        return x + 0 * p["weight"], backward

    assert "p.weight was written to" in problems(f, draw(3), {"weight": draw(3)})


def test_a_backward_that_accumulates():
    def f(x):
        total = np.zeros_like(x)

        def backward(dy):
            nonlocal total
            total = total + dy
            return total

        return x.copy(), backward

    assert "backward, called again, gave another gradient of x" in problems(f, draw(3))


def test_dtypes_and_shapes_and_names_that_do_not_agree():
    x = draw((2, 3))
    assert "float32" in problems(lambda x: (x.astype(np.float32), lambda dy: dy), x)
    assert "its gradient float32 (2, 3)" in problems(lambda x: (x * 1, lambda dy: dy.astype(np.float32)), x)
    assert "x is float64 (2, 3), its gradient float64 (3, 2)" in problems(lambda x: (x * 1, lambda dy: dy.T), x)
    assert "no gradient of w" in problems(lambda x, w: (x @ w, lambda dy: (dy @ w.T, {})), x, draw((3, 3)))
    assert "a gradient of p.extra, which is no input" in problems(
        lambda x, p: (x + p["b"], lambda dy: (dy, {"b": dy.sum(0), "extra": dy})), x, {"b": draw(3)})
    assert "which is no input" in problems(lambda x: (x * 1, lambda dy: (dy, dy)), x)


def test_numbers_that_are_not_finite():
    with np.errstate(invalid="ignore"):
        assert "not finite" in problems(lambda x: (np.log(x), lambda dy: dy / x), -np.ones(3))
    assert "the gradient of x is not finite" in problems(lambda x: (x * 1, lambda dy: dy * np.inf), np.ones(3))


def test_what_cannot_be_checked_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="method is 'guess'; choose one of complex, central, adjoint"):
        check(softmax, X, method="guess")
    with pytest.raises(ValueError, match=r"x, float32 \(3, 6\), must be float64, not empty, and finite"):
        check(softmax, X.astype(np.float32))
    with pytest.raises(ValueError, match="p.bias, float64 .*must be float64, not empty, and finite"):
        check(lambda x, p: layer_norm(x, **p), X, {"weight": W, "bias": B * np.nan})
    with pytest.raises(ValueError, match="nothing to differentiate"):
        check(lambda ids: (ids, lambda dy: dy), np.array([1, 2]))
    with pytest.raises(ValueError, match="nothing to differentiate"):
        check(softmax, X, exclude=["*"])
