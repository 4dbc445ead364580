"""What cannot be checked is refused in one sentence: what was handed over, what is taken, and how to wrap it."""

import sys

import numpy as np
import pytest

from miniclip.gradcheck.conventions import as_layer
from miniclip.gradcheck.refusals import MANNERS, CannotCheck
from miniclip.gradcheck.tracebacks import own_part

rng = np.random.default_rng(6)
X, W = rng.standard_normal((4, 3)), rng.standard_normal((3, 5))


def double(x):
    return 2 * x, lambda dy: 2 * dy


def product(x, w):
    return x @ w, lambda dy: (dy @ w.T, x.T @ dy)


def nothing(x):
    2 * x


class NeedsSizes:
    def __init__(self, inputs, outputs):
        pass

    def forward(self, x):
        return x

    def backward(self, dout):
        return dout


class NoForward:
    def backward(self, dout):
        return dout


class NoBackward:
    def forward(self, x):
        return 2 * x


def refused(f, *args, **options):
    """The sentence with which this is refused."""
    with pytest.raises(CannotCheck) as refusal:
        as_layer(f, args, **options)
    sentence = str(refusal.value)
    assert "\n" not in sentence and len(sentence) < 600 and "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize("f, what", [
    (double(X), "a tuple of 2 (ndarray, function)"), (X, "float64 (4, 3)"), (3, "3"), (None, "None"),
    ([double], "a list of 1 (function)"), (np, "an object of class module"), ("double", "'double'"),
    (object(), "an object of class object"),
])  # fmt: skip
def test_what_is_no_function(f, what):
    sentence = refused(f, X)
    assert sentence == f"{what} is no function: hand over the function itself, check(f, x), not f(x). {MANNERS}"


@pytest.mark.parametrize("f, sentence", [
    (nothing, "nothing returned nothing (None): does its last line say return?"),
    (lambda x: 2 * x, "returned an array, float64 (4, 3), and no backward pass: return y, backward, or hand it over, "),
    (lambda x: (2 * x, x), "returned 2 values (float64 (4, 3), float64 (4, 3)) and no function: if the last is a "),
    (lambda x: (2 * x, None), "returned 2 values (float64 (4, 3), None) and no function"),
    (lambda x: "y", "returned 'y'."),
    (lambda x: {"y": x}, "returned a dict with y."),
    (lambda x: lambda dy: dy, "returned a function and no output: return both, y, backward."),
    (lambda x: (lambda dy: dy, x), "returned a function first: return the output first, y, backward."),
    (lambda x: ("y", lambda dy: dy), "returned 'y' where its output is due."),
    (lambda x: (x * x).sum(), "returned one number and no gradient of it: check(<lambda>, …, gradient=its_gradient)."),
    (NoBackward(), "NoBackward returned an array, float64 (4, 3), and no backward pass"),
])  # fmt: skip
def test_what_returns_no_backward(f, sentence):
    found = refused(f, X)
    assert sentence in found and found.endswith(MANNERS)


@pytest.mark.parametrize("y, sentence", [
    (X[:0], "the output of <lambda> is empty, float64 (0, 3): it must have entries."),
    (X * 1j, "the output of <lambda> is complex128 (4, 3): gradients of complex numbers are not checked; return real "),
])  # fmt: skip
def test_an_output_that_has_no_gradient(y, sentence):
    assert sentence in refused(lambda x: (y, lambda dy: dy), X)


def test_a_number_with_a_cache():
    sentence = refused(lambda x: (x.sum(), [rng.random(7), rng.random(2)]), X)
    assert "which has the shape of no argument (x float64 (4, 3)): if it is a cache" in sentence


@pytest.mark.parametrize("f, args, kwargs, sentence", [
    (product, [X], {}, "product also wants w, which was not handed over; it takes x, w: check(product, x, w)."),
    (product, [], {}, "product also wants x and w, which were not handed over"),
    (double, [X, W], {}, "double takes 1 arguments, not 2: it takes x."),
    (product, [X], {"weight": W}, "product takes no argument 'weight', neither does check; it takes x, w."),
    (product, [X, W], {"w": W}, "product is given w twice, in order and by name."),
])  # fmt: skip
def test_too_few_arguments_or_too_many(f, args, kwargs, sentence):
    assert sentence in refused(f, *args, kwargs=kwargs)


def test_a_method_without_its_object():
    assert refused(NoBackward.forward, X) == (
        "forward is a method without its object: hand over that of an object, check(layer.forward, …)."
    )


def test_an_exception_of_the_users_stays_beneath_the_sentence():
    with pytest.raises(CannotCheck) as refusal:
        as_layer(product, (X, X))
    assert isinstance(refusal.value.__cause__, ValueError)
    assert own_part(refusal.value.__cause__).tb_frame.f_code.co_name == "product"
    sentence = str(refusal.value)
    assert sentence.startswith("product raised ValueError: matmul: ")
    assert sentence.endswith("it was handed x float64 (4, 3), w float64 (4, 3).")


def test_an_exit_of_the_users_ends_nothing():
    assert refused(lambda x: sys.exit(3), X) == "<lambda> raised SystemExit: 3; it was handed x float64 (4, 3)."


def test_an_exception_that_cannot_be_shown():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def f(x):
        raise Mute

    assert refused(f, X) == "f raised Mute; it was handed x float64 (4, 3)."


@pytest.mark.parametrize("backward, sentence", [
    (lambda dy: dy @ dy, r"the backward of f, at dy float64 \(4, 3\), raised ValueError: matmul: .*; it was handed x "),
    (lambda dy: 1 / 0, "raised ZeroDivisionError: division by zero; it was handed x float64"),
    (lambda a, b: a, "raised TypeError: .*missing 1 required positional argument: 'b'"),
])  # fmt: skip
def test_a_backward_that_raises(backward, sentence):
    def f(x):
        return x * 1, backward

    with pytest.raises(CannotCheck, match=sentence) as refusal:
        as_layer(f, (X,))
    assert refusal.value.__cause__ is not None


@pytest.mark.parametrize("gradient, what", [
    (None, "returned nothing (None): does its last line say return?"),
    ("dx", "backward gives 'dx' for x, where an array of shape (4, 3) is due."),
    (np.array(["dx"]), "backward gives <U2 (1,) for x, where an array"),
    (double, "backward gives the function double for x, where"),
])  # fmt: skip
def test_what_is_no_gradient(gradient, what):
    assert what in refused(lambda x: (x * 1, lambda dy: gradient), X)


def test_gradients_of_another_structure():
    f = lambda x, p: (x * p["a"] * p["b"], lambda dy: (dy, dy))
    sentence = refused(f, X, {"a": X[0], "b": X[1]})
    assert sentence == (
        "backward gives float64 (4, 3) for p, which is a dict with a, b: gradients of the same structure are due, "
        "or a dict of them by name."
    )


@pytest.mark.parametrize("x, sentence", [
    (np.zeros((0, 3)), "x, float64 (0, 3), is empty: it must have entries, all of them real and finite."),
    (np.array([1, np.nan]), "x, float64 (2,), has NaN among 1 of its 2 entries: it must be real and finite"),
    (np.array([np.inf, 2]), "x, float64 (2,), has infinity among 1 of its 2 entries: it must be real and finite"),
    (float("nan"), "x, float64 (), has NaN among 1 of its 1 entries"),
    ([1.0, float("nan")], "x, float64 (2,), has NaN among 1 of its 2 entries"),
    (np.ma.masked_array(X, X > 1), "x is a masked array: hand over its numbers and its mask as two arrays, x.filled"),
    (X + 1j, "x is complex128 (4, 3): gradients of complex arguments are not checked; hand over its real and"),
    (np.array([[1.0, 2.0], [3.0]], object), "x is an array of objects, (2,): hand over an array of floats"),
    (np.array([1.0, "a", None], object), "x is object (3,): give floats, x.astype(float); there is nothing to"),
    (np.arange(3), "x is int64 (3,): give floats, x.astype(float); there is nothing to differentiate."),
    (X > 0, "x is bool (4, 3): give floats, x.astype(float)"),
    ([1, 2, 3], "x is a list of 3 (int): give floats, np.array(x, float)"),
    (3, "x is 3: give floats, np.array(x, float)"),
    (["a", "b"], "no argument is an array of floats: there is nothing to differentiate. Handed over: x is a list of 2"),
    (None, "there is nothing to differentiate. Handed over: x is None; taken are arrays of floats"),
    ([], "Handed over: x is an empty list"),
    ({}, "Handed over: x is an empty dict"),
    ("text", "Handed over: x is 'text'"),
    (np.array(["a"]), "Handed over: x is <U1 (1,)"),
])  # fmt: skip
def test_what_cannot_be_differentiated(x, sentence):
    assert sentence in refused(double, x)


@pytest.mark.parametrize("given, what", [([None], "a list of 1 (NoneType)"), (1.5, "1.5"), (X, "float64 (4, 3)")])
def test_what_names_no_argument(given, what):
    sentence = f"wrt and exclude take names, patterns of names, or numbers of arguments, not {what}."
    assert refused(double, X, wrt=given) == refused(double, X, exclude=given) == sentence


@pytest.mark.parametrize("y, what", [(np.array(["a"]), "<U1 (1,)"), (np.array([None, 1.0]), "object (2,)")])
def test_an_output_that_is_no_array_of_numbers(y, what):
    sentence = refused(lambda x: (y, lambda dy: dy), X)
    assert sentence == f"the output of <lambda> is {what}: it must be an array of floats."


def test_nothing_is_left():
    assert "wrt=[] and exclude=['x'] leave nothing to differentiate; the arrays of floats are x." in refused(
        double, X, exclude=["x"]
    )
    assert "leave nothing to differentiate" in refused(lambda x, n: (x, lambda dy: dy), X, "add", wrt="n")
    assert (
        refused(lambda x, n: (x * n, lambda dy: dy * n), X, 2, wrt=["n"]) == "n is 2: give floats, np.array(n, float)."
    )
    with pytest.raises(ValueError, match="there is no argument 5 among x, w, which count from 0"):
        as_layer(product, (X, W), wrt=5)


def test_constants_may_be_anything():
    f = lambda x, mask, names, more: (x * 1, lambda dy: dy)
    args = X, np.full((4, 3), -np.inf), ["a", None], iter([1])
    assert as_layer(f, args, exclude=["mask"]).names == ["x"]
    assert "where it is a constant, such as a mask, exclude=['mask']." in refused(f, *args)


@pytest.mark.parametrize("f, options, sentence", [
    (lambda x: x * x, {"gradient": lambda x: 2 * x}, "the output has shape (4, 3); a loss, or what is checked with "
     "gradient=, must return one number."),
    (lambda x: (x * x, lambda: 2 * x), {}, "the output has shape (4, 3); a loss"),
    (lambda x: None, {"gradient": lambda x: 2 * x}, "the output is None; a loss"),
    (lambda x: x.sum(), {"gradient": lambda: 1}, "the gradient of <lambda> raised TypeError"),
    (lambda x: (x, x), {"backward": X}, "backward= is float64 (4, 3): hand over the function, backward=f, not"),
    (lambda x: (x, x), {"backward": lambda: X}, "backward of <lambda> takes (), which is no cotangent, but the output"),
    (lambda x: (x, x), {"backward": lambda dout, cache, more: X}, "backward of <lambda> wants more, which is not among "
     "what the forward returned (2 values) or took (x)."),
    (lambda x: x, {"backward": lambda dout, cache: X}, "but the forward returned only 1 value: float64 (4, 3). "
     "Taken is: out, cache = forward(x, …), and backward(dout, cache)."),
    (lambda x: (x, x), {"backward": lambda *a: X}, "takes only *arguments: name the first of them"),
    (lambda x: None, {"backward": lambda dout: X}, "returned None where its output is due"),
    (NeedsSizes, {}, "NeedsSizes is a class whose constructor wants inputs, outputs: hand over an object of it, "
     "check(NeedsSizes(inputs, outputs), x)."),
    (NoForward(), {}, "NoForward has a backward and no forward: name it forward or __call__."),
])  # fmt: skip
def test_a_backward_or_gradient_that_does_not_fit(f, options, sentence):
    assert sentence in refused(f, X, **options)
