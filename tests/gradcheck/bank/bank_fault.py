"""How a fault of the bank is written down: one function that is right or wrong, its arguments and its cause.

A fault reads as the layer of a student, with one line that goes astray:

    @fault("affine", "b", "averaged over the batch where it should be summed", "1/N", x=(7, 4), w=(4, 5), b=(5,))
    def bias_averaged(wrong, x, w, b):
        return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.mean(0) if wrong else dy.sum(0))

The faults are those that people report of course work (CS231n, CS224n, deeplearning.ai) and of autograd libraries,
each written anew. Gradients stand in the order of the float arguments; integers and booleans have none.
"""

import inspect
import zlib
from dataclasses import dataclass

import numpy as np

KINDS = """precision, never accumulated, clip, transposed, turned, permuted, swapped, shortcut, overwritten, time step,
mask, some indices, outside the sums, centring, projection, slope, wrong axis, regulariser, one-sided, -1, 2, 1/2, N,
1/N, sqrt, tau, k times, factor, missing term, cotangent""".replace("\n", " ").split(", ")


@dataclass(frozen=True)
class Fault:
    """One fault: `wrong` and `right` are the same layer, `y, backward = layer(*args)`, with either backward.

    `arrays` names the arguments whose gradient is wrong, `kinds` the names any of which a teacher would accept.
    """

    id: str
    wrong: object
    right: object
    args: tuple
    arrays: tuple
    cause: str
    kinds: tuple
    family: str

    def __repr__(self):
        return self.id


def new_bank():
    """An empty list of faults and the decorator that adds to it. Every layer has its own seed, made of its name."""
    faults = []

    def fault(family, arrays, cause, kinds, **arguments):
        """arrays, kinds: names with commas between; arguments: a shape (normal numbers) or a function of a rng."""

        def add(layer):
            name = layer.__name__.replace("_", "-")
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            args = tuple(make(rng) if callable(make) else rng.normal(size=make) for make in arguments.values())
            names = tuple(arrays.split(", "))
            tags = tuple(kinds.split(", "))
            assert set(tags) <= set(KINDS) and set(names) <= set(arguments), name
            assert list(inspect.signature(layer).parameters) == ["wrong", *arguments], name
            wrong, right = _version(layer, True), _version(layer, False)
            faults.append(Fault(name, wrong, right, args, names, cause, tags, family))
            return layer

        return add

    return faults, fault


def _version(layer, wrong):
    """The layer as a function of its own arguments only, with their names."""

    def version(*args, **kwargs):
        return layer(wrong, *args, **kwargs)

    signature = inspect.signature(layer)
    version.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    version.__name__ = version.__qualname__ = layer.__name__
    return version


# Arguments other than plain normal numbers.


def integers(shape, below):
    return lambda rng: rng.integers(below, size=shape)


def booleans(shape, true=0.6):
    return lambda rng: rng.random(shape) < true


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2.0, size=shape)


def scaled(factor, *shape):
    return lambda rng: factor * rng.normal(size=shape)


def probabilities(*shape):
    return lambda rng: softmax(rng.normal(size=shape))


def well_conditioned(n):
    """A square matrix far from singular, not symmetric."""
    return lambda rng: rng.normal(size=(n, n)) + 3 * np.eye(n)


# Functions that many layers share.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_back(p, dp):
    """From the gradient of p = softmax(x) over the last axis to that of x."""
    return p * (dp - (dp * p).sum(-1, keepdims=True))


def one_hot(ids, classes):
    return np.eye(classes)[ids]


def norm_back(xhat, std, dxhat, axis):
    """From the gradient of xhat = (x - mean) / std over `axis` to that of x."""
    mean = dxhat.mean(axis, keepdims=True)
    return (dxhat - mean - xhat * (dxhat * xhat).mean(axis, keepdims=True)) / std
