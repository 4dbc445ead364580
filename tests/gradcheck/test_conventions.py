"""Anybody's code is taken as it is written: all manners of peoples_functions, _classes, and _networks."""

from functools import partial

import numpy as np
import pytest
from anybodys_code import assert_right
from peoples_classes import OBJECTS, Linear
from peoples_functions import FUNCTIONS, W, X, affine, affine_gradients
from peoples_networks import NETWORKS
from peoples_surprises import SURPRISES

from miniclip.gradcheck import draw_case
from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.conventions import as_layer
from miniclip.gradcheck.refusals import looks_like_data
from miniclip.layers import layer_norm, softmax

EVERYONE = [pytest.param(*rest, id=name) for name, *rest in FUNCTIONS + OBJECTS + NETWORKS + SURPRISES]


@pytest.mark.parametrize("f, args, options, names", EVERYONE)
def test_what_people_write_is_taken(f, args, options, names):
    layer = as_layer(f, args, **options)
    assert layer.names == names
    assert_right(layer)


def test_a_wrong_gradient_is_handed_on_as_it_is():
    wrong = as_layer(lambda x, w: (x @ w, lambda dy: (dy @ w.T, 1.001 * x.T @ dy)), (X, W))
    with pytest.raises(AssertionError, match="w"):
        assert_right(wrong)


def test_there_are_many_manners():
    assert len(EVERYONE) >= 95


@pytest.mark.parametrize("name", ["layer_norm", "embedding", "conv2d", "residual_block", "micro-batched step (ViT)"])
def test_the_layers_of_this_library(name):
    f, args, options = draw_case(name)
    assert_right(as_layer(f, args, exclude=options["exclude"]))


# ------------------------------------------------------------------------------------------ what a call is handed


@pytest.mark.parametrize("inner", ["itself", "another", "an object"])
def test_a_backward_under_a_decorator(inner):
    def layer(x):
        def backward(dy):
            return 2 * dy

        def wrapped(*args):
            return backward(*args)

        wrapped.__wrapped__ = {"itself": wrapped, "another": backward, "an object": partial(backward)}[inner]
        return 2 * x, wrapped

    assert_right(as_layer(layer, (X,)))


def test_a_call_shares_nothing_with_another():
    seen = []

    def f(x, settings, ids):
        seen.append((x, settings, ids))
        settings["count"] = settings.get("count", 0) + 1
        ids.append(1)
        return x * settings["count"], lambda dy: dy * 1.0

    settings, ids = {"eps": 0.1}, [1, 2]
    layer = as_layer(f, (X, settings, ids))
    layer.run(layer.leaves)
    assert settings == {"eps": 0.1} and ids == [1, 2]
    (x, first, _), (other, second, _) = seen
    assert first == second == {"eps": 0.1, "count": 1} and not np.shares_memory(x, other)
    assert not np.shares_memory(x, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_arrays_come_in_the_dtype_that_is_asked_for(dtype):
    seen = []

    def f(x, p, t):
        seen.append((x.dtype, p["w"].dtype, type(t)))
        return x * p["w"] * t, lambda dy: (dy * p["w"] * t, {"w": (dy * x * t).sum(0)}, (dy * x * p["w"]).sum())

    layer = as_layer(f, (X, {"w": np.ones(3)}, 2.0))
    run = layer.run({name: leaf.astype(dtype) for name, leaf in layer.leaves.items()})
    number = complex if dtype is np.complex128 else float
    assert seen[-1] == (dtype, dtype, number) and run.outputs[0].dtype == dtype


def test_settings_stay_real_where_the_arrays_are_complex():
    def f(x, p):
        assert type(p) is float and p > 0
        return x * p, lambda dy: dy * p

    layer = as_layer(f, (X, 0.5))
    assert layer.optional == {"p"} and layer.names == ["x"]
    layer.run({name: leaf.astype(complex) for name, leaf in layer.leaves.items()})


def test_the_memory_layout_may_be_kept():
    seen = []
    layer = as_layer(lambda x: (seen.append(x), (x * 1.0, lambda dy: dy))[1], (X,))
    frozen = np.asfortranarray(X)
    frozen.flags.writeable = False
    layer.run({"x": frozen}, copy=False)
    assert seen[-1].flags.f_contiguous and not seen[-1].flags.writeable


def affine_pull(dout, x, w):
    return affine_gradients(dout, x, w)


def test_single_precision_is_raised_and_said():
    layer = as_layer(softmax, (X.astype(np.float32),))
    assert layer.leaves["x"].dtype == np.float64
    assert "x was given in float32 and is checked in float64." in layer.notes
    layer = as_layer(affine, (np.float32(X), np.float16(W), np.float32(W[0])), backward=affine_pull)
    both = "x, b were given in float32 and are checked in float64."
    assert layer.notes == [both, "w was given in float16 and is checked in float64."]
    assert as_layer(softmax, (X,)).notes == []


def test_what_is_written_to():
    def f(x, w):
        x += 1

        def backward(dy):
            dy *= 2
            return dy, dy.sum(0)

        return x + w, backward

    layer = as_layer(f, (X, np.ones(3)))
    run = layer.run(layer.leaves)
    assert run.written() == ["x"]
    run.pull([np.ones_like(X)])
    assert run.written() == ["x", "dy"]


def test_an_output_is_a_copy():
    buffer = np.zeros_like(X)

    def f(x):
        buffer[...] = x
        return buffer, lambda dy: dy

    layer = as_layer(f, (X,))
    one, two = layer.run({"x": X}), layer.run({"x": 2 * X})
    assert same_bits(one.outputs[0], X) and same_bits(two.outputs[0], 2 * X)


# ------------------------------------------------------------------------------------------ which, and what is missing


def test_wrt_and_exclude():
    args = X, W[0, :3].copy(), W[1, :3].copy()
    for chosen, names in [
        ({"wrt": ["weight"]}, ["weight"]),
        ({"wrt": 0}, ["x"]),
        ({"wrt": [0, "b*"]}, ["x", "bias"]),
        ({"exclude": ["x", "bias"]}, ["weight"]),
        ({"exclude": "b*"}, ["x", "weight"]),
        ({"exclude": [2]}, ["x", "weight"]),
    ]:
        layer = as_layer(layer_norm, args, **chosen)
        assert layer.names == names
        assert_right(layer)
    tree = {"weight": args[1], "bias": args[2]}
    f = lambda x, p: layer_norm(x, **p)
    assert as_layer(f, (X, tree), wrt=["p"]).names == ["p.weight", "p.bias"]
    assert as_layer(f, (X, tree), exclude=["p.bias"]).names == ["x", "p.weight"]
    with pytest.raises(ValueError, match="wrt names 'w', which is not there; choose from: x, p.weight, p.bias"):
        as_layer(f, (X, tree), wrt=["w"])


def test_a_float_is_a_setting_unless_it_is_asked_for():
    f = lambda x, s: (x * s, lambda dy: dy * s)
    assert as_layer(f, (X, 2.0)).names == ["x"]
    layer = as_layer(f, (X, 2.0), wrt=["x", "s"])
    assert layer.names == ["x", "s"] and "s" not in layer.first.pull([X])


def test_what_is_missing_is_missing():
    class Forgetful(Linear):
        def backward(self, dout):
            self.dW = self.x.T @ dout
            return dout @ self.W.T

    layer = as_layer(Forgetful(), (X,))
    assert layer.names == ["x", "W", "b"] and layer.first.pull([np.ones((4, 5))]).keys() == {"x", "W"}
    layer = as_layer(lambda x, w: (x @ w, lambda dy: dy @ w.T), (X, W))
    assert layer.names == ["x", "w"] and layer.first.pull([np.ones((4, 5))]).keys() == {"x"}


def test_a_gradient_of_nothing_that_was_given_is_kept():
    layer = as_layer(lambda x, p: (x + p["b"], lambda dy: (dy, {"b": dy.sum(0), "extra": dy})), (X, {"b": X[0]}))
    assert layer.first.pull([X]).keys() == {"x", "p.b", "p.extra"}
    layer = as_layer(lambda x: (x * 1, lambda dy: (dy, dy)), (X,))
    assert layer.first.pull([X]).keys() == {"x", "one more"}


def test_data_is_noted_and_may_be_asked_for():
    f = lambda w, X: (((X @ w) ** 2).sum(), 2 * X.T @ (X @ w))
    layer = as_layer(f, (W, X))
    assert layer.names == ["w"]
    assert layer.notes == ["X is given no gradient and was taken for data; wrt=['X', …] asks for its gradient."]
    assert as_layer(f, (W, X), wrt=["w", "X"]).names == ["w", "X"]


@pytest.mark.parametrize("f, args, names", [
    (lambda w, b, X: (((X @ w + b) ** 2).sum(), 2 * X.T @ (X @ w + b)), (W, W[0], X), "w b"),
    (lambda w, b, X: (((X @ w + b) ** 2).sum(), {"dw": 2 * X.T @ (X @ w + b)}), (W, W[0], X), "w b"),
    (lambda p, X: (((X @ p["w"] + p["b"]) ** 2).sum(), {"w": 2 * X.T @ (X @ p["w"] + p["b"])}),
     ({"w": W, "b": W[0]}, X), "p.w p.b"),
    (lambda mu, sigma: ((mu * sigma).sum(), (sigma,)), (X, X + 1), "mu sigma"),
    (lambda x, A, b: (((A @ x - b) ** 2).sum(), 2 * A.T @ (A @ x - b)), (X[0], X, W[0, :4]), "x"),
])  # fmt: skip
def test_a_forgotten_gradient_is_no_data(f, args, names):
    assert as_layer(f, args).names == names.split()


def test_a_layer_that_returns_nothing_has_forgotten_something():
    class Silent(Linear):
        def backward(self, dout):
            self.dW, self.db = self.x.T @ dout, dout.sum(0)

    assert as_layer(Silent(), (X,)).names == ["x", "W", "b"]


def test_an_array_that_an_object_holds_is_not_passed_over_in_silence():
    class Odd(Linear):
        def __init__(self):
            super().__init__()
            self.table = np.ones(5)

        def forward(self, x):
            return super().forward(x) * self.table

        def backward(self, dout):
            return super().backward(dout * self.table)

    layer = as_layer(Odd(), (X,))
    assert layer.names == ["x", "W", "b"]
    assert layer.notes == ["table: no gradient of this was found on the object; it was taken for a constant."]


def test_a_gradient_of_what_is_not_checked_is_noted():
    f = lambda x, n: (x * n, lambda dy: (dy * n, (dy * x).sum()))
    note = "backward also gives a gradient of n, which was not handed over as floats."
    assert as_layer(f, (X, 2)).notes == [note] and as_layer(partial(f, n=2.0), (X,)).notes == [note]


def test_parameters_made_in_the_first_call_are_not_passed_over_in_silence():
    class Lazy(Linear):
        def __init__(self):
            self.params = {}

        def forward(self, x):
            if not self.params:
                self.params["W"] = np.ones((x.shape[1], 2))
            self.x = x
            return x @ self.params["W"]

        def backward(self, dout):
            self.grads = {"W": self.x.T @ dout}
            return dout @ self.params["W"].T

    layer = as_layer(Lazy(), (X,))
    assert layer.names == ["x"]
    assert layer.notes == [
        "W: made in the first call, and not checked; run forward once before you hand the object over."
    ]


def test_arrays_in_an_object_that_is_an_argument_are_not_passed_over_in_silence():
    class Parameters:
        def __init__(self):
            self.w = W

    layer = as_layer(lambda x, p: (x @ p.w, lambda dy: dy @ p.w.T), (X, Parameters()))
    assert layer.notes == ["p holds arrays of floats, taken for constants: a dict or a dataclass is taken apart."]


def test_what_looks_like_data():
    assert looks_like_data("x", X) == looks_like_data("b", np.zeros(3)) == looks_like_data("w", np.ones(3)) == ""
    sentence = looks_like_data("truth", np.eye(3))
    assert sentence.startswith("truth holds only 0 and 1 ") and sentence.endswith("say exclude=['truth'].")
    assert "minus infinity" in looks_like_data("m", np.array([0, -np.inf]))
    assert all(looks_like_data(name, X) for name in ("mask", "p.running_var", "labels", "y_true", "target"))


@pytest.mark.double
def test_arrays_of_cupy(cupy):
    x, w = cupy.asarray(X), cupy.asarray(W)
    seen = []

    def f(x, w):
        seen.extend((type(x), type(w)))

        def backward(dy):
            seen.append(type(dy))
            return dy @ w.T, x.T @ dy

        return x @ w, backward

    assert_right(as_layer(f, (x, w)))
    assert set(seen) == {cupy.ndarray}
