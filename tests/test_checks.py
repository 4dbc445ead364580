"""The door of every function: what is written above it is held against, in one sentence, and costs little."""

import inspect

import numpy as np
import pytest

from miniclip import attention, conv, layers, transformer
from miniclip.backend import dispatch
from miniclip.checks import finite, listed, takes
from miniclip.layers import linear


@takes(
    "x (N, T, D), p.w.{a,b} (3D, D), p.more list, mask (*, T), heads ≥ 1, axis of x, training flag, f function, "
    "eps (), config.size? ≥ 2"
)
@dispatch
def layer(x, p, mask=None, heads=1, axis=0, training=False, f=len, eps=1e-5, config=None):
    """y = x."""
    return x, lambda dy, more=False: dy


X = np.ones((2, 5, 4))
P = {"w": {"a": np.ones((12, 4)), "b": np.ones((12, 4))}, "more": []}


def with_a(a):
    return {"p": P | {"w": P["w"] | {"a": a}}}


def with_b(b):
    return {"p": P | {"w": P["w"] | {"b": b}}}


REFUSED = """
x is of type list; it must be an array (N, T, D) of floating-point numbers    | {"x": X.tolist()}
x is None; it must be an array (N, T, D) of floating-point numbers            | {"x": None}
x is an array of uint8 with shape (2, 5, 4); it must be an array (N, T, D) of | {"x": X.astype(np.uint8)}
x is an array of float64 with shape (5, 4); it must be an array (N, T, D) of  | {"x": X[0]}
x has shape (2, 0, 4): it must be (N, T, D) and not empty                     | {"x": X[:, :0]}
x is an array of object with shape (2, 5, 4); it must be                      | {"x": X.astype(object)}
p.w.a is None; it must be an array (3D, D) of floating-point numbers          | {"p": {}}
p.w.a is None; it must be an array (3D, D) of floating-point numbers          | {"p": None}
p.w.a has shape (4, 12), but x is (2, 5, 4): it must be (12, 4)               | with_a(np.ones((4, 12)))
p.w.b is an array of float64 with shape (); it must be an array (3D, D) of    | with_b(np.array(1.0))
p.more is of type dict; it must be a list                                     | {"p": P | {"more": {}}}
mask has shape (5, 4), but x is (2, 5, 4): it must be (5, 5)                  | {"mask": np.ones((5, 4))}
mask is an array of bool with shape (5, 5); it must be an array (*, T) of     | {"mask": np.ones((5, 5), bool)}
heads is 0; it must be an integer of at least 1                               | {"heads": 0}
heads is True; it must be an integer of at least 1                            | {"heads": True}
heads is 'two'; it must be an integer of at least 1                           | {"heads": "two"}
heads is of type float; it must be an integer of at least 1                   | {"heads": 2.0}
axis is 3; it must be an axis of x that is not empty                          | {"axis": 3}
training is 1; it must be True or False                                       | {"training": 1}
f is None; it must be a function                                              | {"f": None}
eps is an array of float64 with shape (1,); it must be a finite number        | {"eps": np.ones(1)}
eps is not finite; it must be a finite number                                 | {"eps": float("nan")}
config.size is 1; it must be an integer of at least 2                         | {"config": {"size": 1}}
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_what_is_not_as_written_is_refused_in_a_sentence(line):
    sentence, change = (part.strip() for part in line.split("|", 1))
    change = eval(change)
    for args, named in [((), {"x": X, "p": P} | change), ((change.get("x", X), change.get("p", P)), change)]:
        with pytest.raises(ValueError) as error:
            layer(*args, **{name: value for name, value in named.items() if not args or name not in "xp"})
        assert str(error.value).startswith(f"layer: {sentence}") and str(error.value).endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        {"mask": np.ones(5)},
        {"mask": None, "axis": -3, "heads": np.int64(2), "training": np.bool_(True)},
        {"eps": 1, "f": max, "config": {"size": None}},
        {"eps": np.float32(1), "config": {"size": 2}},
        {"eps": np.array(1.0)},
        {"x": X.astype(np.float16)},
        {"x": X * 1j, "mask": np.ones((5, 5))},
        {"x": np.full(X.shape, np.nan)},  # values are not looked at
    ],
)
def test_what_is_as_written_goes_through(change):
    y, _ = layer(**{"x": X, "p": P} | change)
    assert y is change.get("x", X)


@pytest.mark.parametrize("spec", ["x (N), training", "x N", "x (N) ints", "x (N) y (N)", "y (N)"])
def test_what_is_written_is_held_against_the_function(spec):
    with pytest.raises(ValueError):

        @takes(spec)
        def f(x, training=False):
            pass


def test_a_function_stays_what_it_was():
    assert list(inspect.signature(layer).parameters)[:3] == ["x", "p", "mask"] and layer.__name__ == "layer"
    assert inspect.getdoc(layer).startswith("y = x.\n\nTakes x (N, T, D), p.w.{a,b} (3D, D)")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        layer(p=P)
    with pytest.raises(TypeError, match="unexpected keyword argument 'head'"):
        layer(X, P, head=2)
    assert layer.plain(X, P)[0] is X and callable(layer.register)


@pytest.mark.parametrize("wrong", [X[0], X[..., None], X[:, :, :1], X.astype(int), X * 1j, 1.0, None, X.tolist()])
def test_backward_refuses_a_cotangent_of_another_shape(wrong):
    _, backward = layer(X, P)
    assert list(inspect.signature(backward).parameters) == ["dy", "more"] and backward(X, more=True) is X
    with pytest.raises(
        ValueError, match=r"^layer: the gradient of the output is .* it must be floating-point, \(2, 5, 4\)"
    ):
        backward(wrong)


def test_a_complex_output_has_a_complex_gradient():
    _, backward = layer(X * 1j, P)
    assert (backward(X * 1j) == X * 1j).all() and (backward(X) == X).all()


LAYERS = """
linear: bias has shape (1,), but weight is (5, 4): it must be (5,).  | linear(ones(3, 4), ones(5, 4), ones(1))
linear: weight has shape (5, 3), but x is (3, 4): it must be (M, 4). | linear(ones(3, 4), ones(5, 3))
layer_norm: weight is an array of float64 with shape (3, 4);         | layer_norm(ones(3, 4), ones(3, 4), ones(4))
layer_norm: bias has shape (1,), but x is (3, 4): it must be (4,).   | layer_norm(ones(3, 4), ones(4), ones(1))
conv2d: weight has shape (4, 2, 1, 1), but x is (1, 5, 5, 3):        | conv2d(ones(1, 5, 5, 3), ones(4, 2, 1, 1))
average_pool: size is 0; it must be an integer of at least 1.        | average_pool(ones(1, 5, 5, 3), 0)
attend: v has shape (2, 4), but k is (5, 4): it must be (5, 4).      | attend(ones(3, 4), ones(5, 4), ones(2, 4))
attention_weights: mask has shape (3, 3), but scores is              | attention_weights(ones(3, 4), 1, ones(3, 3))
softmax: axis is 2; it must be an axis of x that is not empty.       | softmax(ones(2, 3), 2)
softmax: axis is -1; it must be an axis of x that is not empty.      | softmax(ones())
relu: x is an array of int64 with shape (3,);                        | relu(np.ones(3, np.int64))
gelu: x is of type list; it must be                                  | gelu([1.0])
mlp: p.c_fc.weight is None; it must be an array (M, D) of            | mlp(ones(2, 3), {"c_fc": {}})
"""


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize("line", LAYERS.strip().splitlines())
def test_layers_repeat_nothing_and_wrap_nothing_around(line):
    sentence, call = (part.strip() for part in line.split("|", 1))
    with pytest.raises(ValueError) as error:
        eval(call, {**vars(attention), **vars(conv), **vars(layers), **vars(transformer), "ones": ones})
    assert str(error.value).startswith(sentence)


def test_arrays_of_people_who_mean_well():
    for x in (np.ma.masked_less(np.ones((2, 4)), 0), np.ones((2, 4)).view(np.matrix)):
        with pytest.raises(ValueError, match="linear: x is an array of float64 with shape .2, 4.; it must be an array"):
            linear(x, np.ones((5, 4)))
    x = np.ones((2, 4)).view(type("Tagged", (np.ndarray,), {}))
    assert linear(x, np.ones((5, 4)))[0].shape == (2, 5)


def test_finite():
    assert finite(X, "x") is X
    with pytest.raises(ValueError, match="x must be finite, but row 1 holds NaN or infinity"):
        finite(np.array([[1.0, 2], [np.inf, 3]]), "x")
    with pytest.raises(ValueError, match="x must be finite.$"):
        finite(np.array([np.nan]), "x")


def test_listed():
    assert listed((1, 2), "names") == listed(iter([1, 2]), "names") == listed(np.array([1, 2]), "names") == [1, 2]
    for wrong in ("fox", b"fox", {"a": 1}, 5, None, np.array(3)):
        with pytest.raises(ValueError, match="names must be a list, not"):
            listed(wrong, "names")
