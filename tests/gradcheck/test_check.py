"""The checker must be silent when all is well and clear when it is not. (What it finds: test_faults.py.)"""

import json
from itertools import count

import numpy as np
import pytest
from formulas import block_parameters, pool_parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.attention import attention_pool
from miniclip.gradcheck import CASES, assert_gradients, check, check_layer, v_curve
from miniclip.layers import layer_norm, linear, relu, softmax
from miniclip.transformer import residual_block

METHODS = ["auto", "complex", "central", "richardson", "adjoint"]


def draw(*shape, seed=7):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


X, W, B = draw(3, 6), draw(6), draw(6, seed=8)
NUMBERS = count(1.0)


def random_forward(x):
    return x * next(NUMBERS), lambda dy: dy


# ------------------------------------------------------------------------------------------ no false alarms

SMALL = [name for name in CASES if not any(word in name for word in ("resnet", "ResNet", "ViT", "vision", "encode"))]


def no_alarm(name, seed, method):
    report = check_layer(name, seed, least=1, method=method)
    assert report.ok, f"\n{report}"


points = given(st.sampled_from(SMALL), st.integers(0, 2**32), st.sampled_from(METHODS))
test_what_is_right_passes = settings(max_examples=40, deadline=None, derandomize=True)(points(no_alarm))
test_what_is_right_passes_at_a_thousand_shapes_and_seeds = pytest.mark.slow(
    settings(max_examples=1000, deadline=None, derandomize=True)(points(no_alarm))
)


def test_gradients_that_are_nearly_nothing_pass():
    """Numbers below 1e-308 have few digits: twice the gradient need not be that of twice the cotangent."""

    def vanishing(x):
        y = np.exp(-737 - x * x)
        return y, lambda dy: dy * y * -2 * x

    x, dy = 1 + 0.1 * X[0], draw(6)
    backward = vanishing(x)[1]
    assert (
        not np.allclose(backward(2 * dy), 2 * backward(dy), rtol=1e-5, atol=0) and np.abs(backward(dy)).max() < 1e-315
    )
    assert not check(vanishing, x).problems


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_is_truly_zero_passes(method):
    report = check(attention_pool, draw(2, 2, 2, 4), pool_parameters(draw, 4, 4, 3), 2, method=method)
    row = {row.name: row for row in report.rows}["p.k_proj.bias"]
    assert report.ok and row.verdict == "zero" and row.analytic < 1e-8 and row.numeric < 1e-8
    assert check(lambda x: (x * 0, lambda dy: dy * 0), X, method=method).ok


def test_central_differences_are_not_asked_for_digits_that_are_not_there():
    """Of 1e6 + x/1000 the ten last digits are left for the derivative of x/1000."""
    assert check(lambda x: (1e6 + x * 1e-3, lambda dy: dy * 1e-3), X, method="central").ok
    assert not check(lambda x: (1e6 + x * 1e-3, lambda dy: dy * 2e-3), X, method="central").ok


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_small_and_large_numbers(scale):
    report = check(linear, draw(3, 4) * scale, draw(5, 4) * scale, draw(5) * scale)
    assert report.ok, f"\n{report}"


# ------------------------------------------------------------------------------------------ the report


def test_the_report_reads_as_a_table():
    report = check(linear, draw(3, 4), draw(5, 4), draw(5))
    lines = str(report).splitlines()
    assert lines[0].startswith("linear: auto, ok, 15 digits proven, worst error ")
    assert [line.split()[0] for line in lines[1:]] == ["array", "x", "weight", "bias"]
    assert "5 × 4" in lines[3] and all(line.endswith("ok") for line in lines[2:])
    assert [len(line) for line in lines[2:]] == [len(lines[2])] * 3  # columns stand below each other
    assert report.max_error == max(row.error for row in report.rows) < 1e-14
    for row in report.rows:
        assert row.analytic == pytest.approx(row.numeric) and row.scale == pytest.approx(1) == row.cosine


def test_the_report_in_a_notebook_and_as_json():
    right, wrong = check(softmax, X), check(lambda x: (3 * x, lambda dy: 4 * dy), X)
    assert "softmax: auto, ok" in right._repr_html_() and "3 × 6" in right._repr_html_()
    assert "&lt;lambda&gt;" in wrong._repr_html_() and "Probably: " in wrong._repr_html_()
    assert json.loads(json.dumps(right.to_json(), allow_nan=False))["ok"]
    failed = check(random_forward, X).to_json()
    assert failed["ok"] is False and failed["max_error"] is None and json.dumps(failed, allow_nan=False)


def test_a_report_is_true_where_all_is_right_and_shows_its_table():
    right, wrong = check(softmax, X), check(lambda x: (3 * x, lambda dy: 4 * dy), X)
    assert right and not wrong and repr(wrong) == str(wrong) and "WRONG: x[" in repr(wrong)
    assert assert_gradients(softmax, X).ok
    with pytest.raises(AssertionError, match=r"(?s)gradient.*WRONG: x\["):
        assert_gradients(lambda x: (3 * x, lambda dy: 4 * dy), X)
    assert "inf" not in check(random_forward, X).headline


def test_two_numbers_are_shown_with_the_digits_in_which_they_differ():
    report = check(lambda x: (x * 3, lambda dy: dy * (3 + 3e-10)), X)
    note = next(report.rows[0].notes())
    claimed, found = note.split(" is ")[1].rstrip(".").split(", should be ")
    assert claimed != found and float(claimed) == pytest.approx(float(found), rel=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_entry_is_named_with_both_numbers(method):
    report = check(
        lambda x: (3 * x, lambda dy: dy * np.array([3.0, 3.0, 6.0])), np.array([0.3, 0.2, 0.1]), method=method
    )
    (row,) = report.rows
    assert not report.ok and row.index == (2,) and report.max_error > 0.1
    assert row.claimed == pytest.approx(2 * row.found)
    assert f"WRONG: x[2] is {row.claimed:.4g}, should be {row.found:.4g}" in str(report)


def test_arrays_in_trees_are_named_as_in_a_state_dict():
    names = [row.name for row in check(residual_block, draw(1, 2, 4), block_parameters(draw, 4), 2).rows]
    assert names[0] == "x" and "p.attn.out_proj.weight" in names and len(names) == 13


def test_large_arrays_are_looked_at_in_a_few_places_and_as_a_whole():
    calls = []

    def counted(x, weight):
        calls.append(1)
        return linear(x, weight)

    assert check(counted, draw(2, 50), draw(50, 50), entries=5).ok
    assert len(calls) < 45


def test_the_same_seed_gives_the_same_report():
    reports = [str(check(layer_norm, X, W, B, cotangent_seed=seed)) for seed in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]


def test_the_tolerance_can_be_chosen():
    def linear_by_a_millionth(x):
        return 2 * x, lambda dy: dy * (2 + 1e-6)

    assert check(layer_norm, X, W, B, method="central", tolerance=1e-15).verdict == "could not be checked"
    assert check(linear_by_a_millionth, X, tolerance=1e-5).ok
    assert not check(linear_by_a_millionth, X).ok


# ------------------------------------------------------------------------------------------ arguments and gradients


def test_gradients_may_come_in_order_or_by_name():
    def in_order(x, weight, bias):
        y, backward = layer_norm(x, weight, bias)

        def ordered(dy):
            dx, grads = backward(dy)
            return dx, grads["weight"], grads["bias"]

        return y, ordered

    assert check(in_order, X, W, B).ok and check(layer_norm, X, W, B).ok
    assert check(lambda x, p: layer_norm(x, **p), X, {"weight": W, "bias": B}).ok


def test_what_is_no_array_of_floats_is_passed_on():
    seen = []

    def f(x, ids, size, name, nothing):
        seen.append((ids.dtype, size, name, nothing))
        return x[ids] * size, lambda dy: np.add.reduceat(dy * size, [0, 1])

    assert check(f, draw(2), np.array([0, 1]), 3, "name", None).ok
    assert all(s == (np.dtype(int), 3, "name", None) for s in seen)


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_function_with_its_gradient(method):
    def gradient(x, y, sign=1):
        return -2 * (1 - x) - 400 * x * (y - x * x), sign * 200 * (y - x * x)

    at = np.array(0.3), np.array(-0.2)
    assert check(rosenbrock, *at, gradient=gradient, method=method).ok
    assert check(rosenbrock, *at, gradient=list(gradient(*at)), method=method).ok
    report = check(rosenbrock, *at, gradient=lambda x, y: gradient(x, y, -1), method=method)
    assert [row.verdict for row in report.rows] == ["ok", "WRONG"] and report.rows[1].kind == "−1"
    assert report.function == "rosenbrock" and [row.name for row in report.rows] == ["x", "y"]


def test_a_function_of_any_number_of_arrays():
    def squares(*xs):
        return sum((x * x).sum() for x in xs)

    report = check(squares, draw(3), draw(2, 2), gradient=lambda *xs: tuple(2 * x for x in xs))
    assert report.ok and [row.name for row in report.rows] == ["xs0", "xs1"]
    assert check(np.sum, draw(3), gradient=np.ones_like).ok


def test_the_backward_pass_in_single_precision():
    seen = []

    def f(x, weight, bias):
        seen.append(x.dtype)
        return layer_norm(x, weight, bias)

    report = check(f, X, W, B, dtype=np.float32)
    assert report.ok and 1e-9 < report.max_error < 1e-5 and report.tolerance == 1e-3
    assert {np.dtype(np.float32), np.dtype(np.complex128)} <= set(seen)
    assert not check(lambda x: (softmax(x)[0], lambda dy: 1.01 * softmax(x)[1](dy)), X, dtype=np.float32).ok


@pytest.mark.parametrize(
    "f, args, options, sentence",
    [
        (
            softmax,
            [X],
            {"method": "guess"},
            "method is 'guess'; choose one of auto, complex, adjoint, central, richardson",
        ),
        (lambda x, p: layer_norm(x, **p), [X, {"weight": W, "bias": B * np.nan}], {}, "p.bias, float64 .*and finite"),
        (lambda ids: (ids, lambda dy: dy), [np.array([1, 2])], {}, "nothing to differentiate"),
        (softmax, [X], {"exclude": ["*"]}, "nothing to differentiate"),
        (softmax, [X], {"dtype": "float33"}, "dtype is float33; choose float64 or float32"),
        (softmax, [X], {"entries": 0}, "entries is 0; it must be an integer of at least 1"),
        (softmax, [X], {"entries": "all"}, "entries is 'all'; it must be an integer"),
        (softmax, [X], {"tolerance": "a"}, "tolerance is 'a'; it must be a number"),
        (softmax, [X], {"floor": -1.0}, "floor is -1.0; it must be a number of at least 0"),
        (softmax, [X], {"cotangent_seed": -1}, "cotangent_seed is -1; it must be an integer of at least 0"),
        (np.sum, [X], {"gradient": X, "backward": np.sum}, "backward= and gradient= are both given"),
        (softmax, [X], {"dtype": np.float16}, "dtype is float16; choose float64 or float32"),
        (lambda x: (x, lambda dy: dy), [X, X], {}, "takes 1 arguments, not 2"),
        (
            lambda x: x * x,
            [X],
            {"gradient": lambda x: 2 * x},
            r"the output has shape \(3, 6\).* must return one number",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(f, args, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(f, *args, **options)


# ------------------------------------------------------------------------------------------ the contract


def writes_into_its_input(x):
    x *= 2
    return x.copy(), lambda dy: 2 * dy


def writes_into_a_parameter(x, p):
    def backward(dy):
        p["weight"] += 1e-9
        return dy, {"weight": np.zeros(6)}

    return x + 0 * p["weight"], backward


def accumulates(x):
    total = np.zeros_like(x)

    def backward(dy):
        nonlocal total
        total = total + dy
        return total

    return x.copy(), backward


def with_another_gradient(x, p):
    return x + p["b"], lambda dy: (dy, {"b": dy.sum(0), "extra": dy})


@pytest.mark.parametrize(
    "f, args, sentence",
    [
        (random_forward, [X], "gave two outputs"),
        (writes_into_its_input, [X], "x was written to"),
        (writes_into_a_parameter, [X, {"weight": W}], "p.weight was written to"),
        (accumulates, [X], "backward, called again, gave another gradient of x"),
        (lambda x: (x * 1, lambda dy: dy.astype(np.float32)), [X], "its gradient float32 (3, 6)"),
        (lambda x: (x * 1, lambda dy: dy.T), [X], "x is float64 (3, 6), its gradient float64 (6, 3)"),
        (lambda x, w: (x @ w, lambda dy: (dy @ w.T,)), [X, draw(6, 3)], "backward gives no gradient of w"),
        (with_another_gradient, [X, {"b": B}], "a gradient of p.extra, which is no input"),
        (lambda x: (x * 1, lambda dy: (dy, dy)), [X], "which is no input"),
        (lambda x: (np.log(x), lambda dy: dy / x), [-np.ones(3)], "not finite"),
        (lambda x: (x * 1, lambda dy: dy * np.inf), [X], "the gradient of x is not finite"),
    ],
)
@np.errstate(invalid="ignore")
def test_what_breaks_the_contract_is_reported(f, args, sentence):
    report = check(f, *args)
    assert not report.ok and report.max_error == np.inf and sentence in "\n".join(report.problems)


def test_a_forward_pass_that_leaves_single_precision_breaks_the_contract():
    report = check(lambda x: (x.astype(float), lambda dy: dy), X, dtype=np.float32)
    assert "the output (float64) is not float32" in report.problems[0]


# ------------------------------------------------------------------------------------------ kinks


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x", [0.0, 1e-7, -1e-7, 2e-6, -2e-6])
def test_a_kink_is_called_a_kink(x, method):
    at = np.array([0.7, x, -0.4])
    report = check(relu, at, method=method)
    assert report.ok, f"\n{report}"
    if method in ("central", "richardson") and not x:
        assert report.rows[0].verdict == "kink" and "On both sides of it backward is right" in report.rows[0].why
    other_side = check(lambda x: (relu(x)[0], lambda dy: dy * (x >= 0)), at, method=method)
    assert other_side.ok, f"\n{other_side}"
    assert x or "kink" in (report.rows[0].verdict, other_side.rows[0].verdict)  # a complex step is on one side


@pytest.mark.parametrize("method", METHODS)
def test_what_is_wrong_beside_a_kink_is_still_wrong(method):
    at = np.array([0.7, 0.0, -0.4])
    for wrong in (lambda dy: dy * 1.0, lambda dy: 2 * relu(at)[1](dy), lambda dy: dy * [1, -0.1, 0]):
        report = check(lambda x: (relu(x)[0], wrong), at, method=method)
        assert not report.ok and report.rows[0].verdict == "WRONG", f"\n{report}"


def test_a_sharp_bend_is_not_a_kink():
    """Curvature of 1e6 is smooth at steps of 1e-6; a slope that is off by a thousandth is wrong there too."""

    def steep(x):
        return np.sin(1e3 * x), lambda dy: dy * 1e3 * np.cos(1e3 * x)

    assert check(steep, draw(3), method="complex").ok
    for method in METHODS:
        assert not check(lambda x: (steep(x)[0], lambda dy: 1.001 * steep(x)[1](dy)), draw(3), method=method).ok


# ------------------------------------------------------------------------------------------ the V


def test_the_curve_falls_by_the_order_of_the_method_until_rounding_rises():
    curves = v_curve(layer_norm, X, W, B)
    assert list(curves) == ["one-sided", "central", "richardson", "complex"]
    best = {method: errors.min() for method, (_, errors) in curves.items()}
    assert best["complex"] < 1e-15 < best["richardson"] < 3e-12 and 1e-13 < best["central"] < 1e-9
    assert 1e-10 < best["one-sided"] < 1e-6
    for method, order, longest in (("one-sided", 1, 1e-3), ("central", 2, 1e-2), ("complex", 2, 1e-2)):
        steps, errors = curves[method]
        long = (steps > longest / 50) & (steps < longest)
        slope = np.polyfit(np.log(steps[long]), np.log(errors[long]), 1)[0]
        assert slope == pytest.approx(order, abs=0.1)
    steps, errors = curves["complex"]
    assert errors[steps < 1e-10].max() < 1e-14


def test_the_curve_of_what_breaks_the_contract_is_refused():
    with pytest.raises(ValueError, match="no curve to draw: backward gives no gradient of w"):
        v_curve(lambda x, w: (x @ w, lambda dy: (dy @ w.T,)), X, draw(6, 3))
