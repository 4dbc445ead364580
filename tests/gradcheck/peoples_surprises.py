"""Layers as people write them, each with a right backward pass: what checkers stumble over.

SURPRISES: (id, f, args, options, names), as FUNCTIONS in peoples_functions.py.
"""

import types
from typing import NamedTuple

import numpy as np

rng = np.random.default_rng(5)
normal = rng.standard_normal
X, W, B = normal((4, 3)), normal((3, 5)), normal(5)
SURPRISES = []


def person(name, f, *args, names, kwargs=None, **options):
    SURPRISES.append((name, f, args, {"kwargs": kwargs or {}, **options}, names.split()))


# ------------------------------------------------------------------------------------------ outputs


def attend(scores, values):
    """Its weights are shown to the reader, and have no gradient."""
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)

    def backward(dout):
        dp = dout @ values.T
        return p * (dp - (p * dp).sum(-1, keepdims=True)), p.T @ dout

    return p @ values, p, backward


def rnn_cell(x, h, parameters):
    """Of its outputs, only the first has a cotangent; the cache is the last."""
    h_next = np.tanh(parameters["Wx"] @ x + parameters["Wh"] @ h)
    return h_next, np.exp(h_next), (h_next, x, h, parameters)


def rnn_cell_backward(dh_next, cache):
    h_next, x, h, parameters = cache
    d = dh_next * (1 - h_next**2)
    return {"dx": parameters["Wx"].T @ d, "dh": parameters["Wh"].T @ d, "dWx": d @ x.T, "dWh": d @ h.T}


person("weights of attention", attend, normal((3, 4)), normal((4, 2)), names="scores values")
person("a number beside it", lambda x: (x * x, {"mean": 1.0}, lambda dout: 2 * x * dout), X, names="x")
person("two in one tuple", lambda x: (x * x, 3 * x, lambda dys: 2 * x * dys[0] + 3 * dys[1]), X, names="x")
person("one in a dict", lambda x: ({"y": x * x}, lambda d: 2 * x * d["y"]), X, names="x")
person("rnn_cell", rnn_cell, normal((3, 2)), normal((4, 2)), {"Wx": normal((4, 3)), "Wh": normal((4, 4))},
       backward=rnn_cell_backward, names="x h parameters.Wx parameters.Wh")  # fmt: skip
person("one number by name", lambda t: (t * t, lambda dy: {"dt": 2 * t * dy}), 3.0, names="t")
person("theta, not x", lambda x, theta: x * theta, 2.0, 4.0, gradient=lambda x, theta: x, names="theta")
person("w, not x", lambda x, w: ((x * w).sum() ** 2, 2 * (x * w).sum() * x), B, B + 1, names="w")

# ------------------------------------------------------------------------------------------ objects


class WithLambda:
    """A function that was made with the object, and knows that very object."""

    def __init__(self):
        self.W = W
        self.product = lambda x: x @ self.W

    def forward(self, x):
        self.x = x
        return self.product(x)

    def backward(self, dout):
        self.dW = self.x.T @ dout
        return dout @ self.W.T


class MadeOfFunctions:
    """The methods are attributes."""

    def __init__(self):
        self.W = W

        def forward(x):
            self.x = x
            return x @ self.W

        def backward(dout):
            self.dW = self.x.T @ dout
            return dout @ self.W.T

        self.forward, self.backward = forward, backward


class LinearTuple(NamedTuple):
    W: np.ndarray
    b: np.ndarray

    def forward(self, x):
        return x @ self.W + self.b

    def backward(self, x, dout):
        return dout @ self.W.T, x.T @ dout, dout.sum(0)


class Dense:
    def __init__(self):
        self.kernel = W

    def call(self, inputs):
        self.inputs = inputs
        return inputs @ self.kernel

    def backward(self, grads):
        self.dkernel = self.inputs.T @ grads
        return grads @ self.kernel.T


class Careless:
    """Asked for an attribute that is not there, it raises KeyError."""

    def __init__(self):
        self.kept = {"W": W}

    def __getattr__(self, name):
        if name.startswith("__") or name == "kept":
            raise AttributeError(name)
        return self.kept[name]

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        return dout @ self.W.T


module = types.ModuleType("module")
module.forward, module.backward = (lambda x: (x * x, x)), lambda dout, cache: 2 * cache * dout

for cls in (WithLambda, MadeOfFunctions):
    person(cls.__name__, cls, X, names="x W")
person("LinearTuple", LinearTuple(W, B), X, names="x W b")
person("Dense", Dense, X, names="inputs kernel")
person("Careless", Careless, X, names="x")
person("a module", module, X, names="x")
