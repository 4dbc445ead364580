"""Layers and losses as people write them, each with a right backward pass: functions. (Objects: peoples_classes.py.)

FUNCTIONS: (id, f, args, options, names). options go to `as_layer`, or to `check`; names are those that must be checked.
"""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np

rng = np.random.default_rng(3)
normal = rng.standard_normal
X, W, B = normal((4, 3)), normal((3, 5)), normal(5)
LABELS = np.array([0, 2, 1, 2])
FUNCTIONS = []


def person(name, f, *args, names, kwargs=None, **options):
    FUNCTIONS.append((name, f, args, {"kwargs": kwargs or {}, **options}, names.split()))


# ------------------------------------------------------------------------------------------ y, backward


def affine(x, w, b):
    return x @ w + b


def affine_gradients(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(0)


def returning(change):
    """An affine layer whose backward pass returns change(dx, dw, db)."""

    def layer(x, w, b):
        return affine(x, w, b), lambda dy: change(*affine_gradients(dy, x, w))

    return layer


Gradients = namedtuple("Gradients", "dx dw db")
for name, change in {
    "a tuple": lambda dx, dw, db: (dx, dw, db),
    "a list": lambda dx, dw, db: [dx, dw, db],
    "an iterator": lambda *gradients: map(np.array, gradients),
    "a dict by d-names": lambda dx, dw, db: {"dw": dw, "dx": dx, "db": db, "dz": dx},
    "a dict by names": lambda dx, dw, db: {"b": db, "x": dx, "w": dw},
    "a dict by other names": lambda dx, dw, db: {"grad_x": dx, "W_grad": dw, "dL_db": db},
    "a dict of the rest": lambda dx, dw, db: (dx, {"w": dw, "b": db}),
    "a NamedTuple": lambda dx, dw, db: Gradients(db=db, dw=dw, dx=dx),
    "nested lists": lambda dx, dw, db: (dx.tolist(), dw, db.tolist()),
}.items():
    person(f"returns {name}", returning(change), X, W, B, names="x w b")

Linear = namedtuple("Linear", "w b")


@dataclass(frozen=True)
class LinearData:
    w: np.ndarray
    b: np.ndarray


def with_parameters(take, give):
    """An affine layer of x and parameters p, whose gradients are give(dw, db)."""

    def layer(x, p):
        w, b = take(p)

        def backward(dy):
            dx, dw, db = affine_gradients(dy, x, w)
            return dx, give(dw, db)

        return affine(x, w, b), backward

    return layer


by_attribute, in_order, by_key = (lambda p: (p.w, p.b)), (lambda p: p), (lambda p: (p["w"], p["b"]))
person("NamedTuple", with_parameters(by_attribute, Linear), X, Linear(W, B), names="x p.w p.b")
person("NamedTuple, dict", with_parameters(by_attribute, lambda w, b: {"b": b, "w": w}), X, Linear(W, B),
       names="x p.w p.b")  # fmt: skip
person("dataclass", with_parameters(by_attribute, LinearData), X, LinearData(W, B), names="x p.w p.b")
person("SimpleNamespace", with_parameters(by_attribute, lambda w, b: SimpleNamespace(w=w, b=b)), X,
       SimpleNamespace(w=W, b=B), names="x p.w p.b")  # fmt: skip
person("list", with_parameters(in_order, lambda w, b: [w, b]), X, [W, B], names="x p.0 p.1")
person("tuple", with_parameters(in_order, lambda w, b: (w, b)), X, (W, B), names="x p.0 p.1")
person("dict", with_parameters(by_key, lambda w, b: OrderedDict(b=b, w=w)), X, {"w": W, "b": B}, names="x p.w p.b")
person("dict, dW", with_parameters(by_key, lambda w, b: {"dw": w, "db": b}), X, {"w": W, "b": B}, names="x p.w p.b")


def scaled(x, *, scale, eps=1e-5):
    return x * scale + eps, lambda dy: (dy * scale, (dy * x).sum())


person("a Python float", scaled, X, kwargs={"scale": 2.5, "eps": 1e-3}, names="x scale")
person("only Python floats", lambda t: (t * t, lambda dy: 2 * t * dy), 3.0, names="t")
person("a list of floats", lambda x: (np.sin(x), lambda dy: list(dy * np.cos(x))), [0.1, 0.2, 0.3], names="x")
person("a partial function", partial(lambda x, p, k: (x * p * k, lambda dy: (dy * p * k, dy * x * k)), k=3), X, X + 1,
       names="x p")  # fmt: skip
full = returning(lambda *gradients: gradients)
person("a partial function that holds an array", partial(full, b=B), X, W, names="x w")
person("a partial function that holds the first", partial(full, X), W, B, names="w b")
person("an array as default", lambda x, w, b=B: full(x, w, b), X, W, names="x w")
person("keyword-only in another order", lambda x, *, w, b: full(x, w, b), X, kwargs={"b": B, "w": W}, names="x w b")
person("an integer with a gradient", lambda x, n: (x * n, lambda dy: (dy * n, (dy * x).sum())), X, 2, names="x")
person("*xs", lambda *xs: (xs[0] * xs[1], lambda dy: (dy * xs[1], dy * xs[0])), X, X + 1, names="xs0 xs1")
person("*xs, a list of gradients", lambda x, *ws: (x @ ws[0] @ ws[1], lambda dy: (dy @ ws[1].T @ ws[0].T,
       [x.T @ dy @ ws[1].T, (x @ ws[0]).T @ dy])), X, W, normal((5, 2)), names="x ws0 ws1")  # fmt: skip
person("**p", lambda x, **p: (affine(x, **p), lambda dy: affine_gradients(dy, x, p["w"])), X,
       kwargs={"w": W, "b": B}, names="x w b")  # fmt: skip


def embedding(ids, table, scale):
    def backward(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy * scale)
        return None, dtable, None

    return table[ids] * scale, backward


person("an entry for each argument", embedding, [1, 0, 1], X, 2, names="table")


def two(x):
    return np.sin(x), np.cos(x), lambda ds, dc: ds * np.cos(x) - dc * np.sin(x)


def two_in_one(x):
    return (np.sin(x), np.cos(x)), lambda d: d[0] * np.cos(x) - d[1] * np.sin(x)


def two_by_name(x):
    return {"s": np.sin(x), "c": np.cos(x)}, lambda d: d["s"] * np.cos(x) - d["c"] * np.sin(x)


person("two outputs", two, X, names="x")
person("two outputs in one", two_in_one, X, names="x")
person("two outputs by name", two_by_name, X, names="x")
person("two outputs, **cotangents", lambda x: (two_by_name(x)[0], lambda **d: two_by_name(x)[1](d)), X, names="x")
Moments = namedtuple("Moments", "mean square")
person("two outputs in a NamedTuple", lambda x: (Moments(x.mean(0), (x * x).mean(0)),
       lambda d: (d.mean + 2 * x * d.square) / len(x)), X, names="x")  # fmt: skip
person("two outputs in a list", lambda x: ([np.sin(x), np.cos(x)], lambda d: (d + [0])[0] * np.cos(x)
       - d[1] * np.sin(x)), X, names="x")  # fmt: skip
person("a function that was decorated", lru_cache(lambda x: (x * x, lambda dy: 2 * dy * x)), 3.0, names="x")
person("a function that was wrapped", lambda *args, **kwargs: two_in_one(*args, **kwargs), X, names="x0")
person("an integer beside the output", lambda x: (x * 2.0, x.shape[0], lambda dy: 2 * dy), X, names="x")
person("a loss and its accuracy", lambda x: ((x * x).sum(), 0.5, lambda: 2 * x), X, names="x")
person("a loss with a default", lambda x: ((x * x).sum(), lambda dout=1.0: 2 * x * dout), X, names="x")


def dropout(x, p, generator):
    mask = (generator.random(x.shape) < p) / p
    return x * mask, lambda dy: dy * mask


GENERATOR = np.random.default_rng(5)


def dropout_inside(x, p=0.5):
    mask = (GENERATOR.random(x.shape) < p) / p
    return x * mask, lambda dy: dy * mask


def dropout_global(x, p=0.5):
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, mask


person("a generator passed", dropout, X, 0.5, np.random.default_rng(5), names="x")
person("a generator inside", dropout_inside, X, names="x")


class Sampler:
    """Draws from a generator that is a global of this module."""

    def mask(self, shape):
        return GENERATOR.random(shape) < 0.5


person("a generator behind an argument", lambda x, sampler: (lambda mask: (x * mask, lambda dy: dy * mask))(
       sampler.mask(x.shape)), X, Sampler(), names="x")  # fmt: skip
person("np.random", dropout_global, X, backward=lambda dout, mask: dout * mask, names="x")

# ------------------------------------------------------------------------------------------ out, cache


def affine_forward(x, w, b):
    return affine(x, w, b), (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return affine_gradients(dout, x, w)


person("out, cache", affine_forward, X, W, B, backward=affine_backward, names="x w b")
person("cache first", affine_forward, X, W, B, backward=lambda cache, dout: affine_backward(dout, cache), names="x w b")
person("*cache", affine_forward, X, W, B, backward=lambda dout, *c: affine_backward(dout, c), names="x w b")
person("no cache", affine, X, W, B, backward=lambda dout, x, w: affine_gradients(dout, x, w), names="x w b")
person("arguments first", affine, X, W, B, backward=lambda x, w, dout: affine_gradients(dout, x, w), names="x w b")
person("the output", lambda x: np.tanh(x), X, backward=lambda dy, y: dy * (1 - y * y), names="x")
person("an array for a cache", lambda x: (np.tanh(x), x), X, backward=lambda d, c: d / np.cosh(c) ** 2, names="x")


def lstm_step(x, h, c, wx, wh):
    a = np.tanh(x @ wx + h @ wh)
    c = 0.5 * c + a
    return np.tanh(c), c, (x, h, wx, wh, a, np.tanh(c))


def lstm_step_backward(dh, dc, cache):
    x, h, wx, wh, a, next_h = cache
    dc = dc + dh * (1 - next_h**2)
    da = dc * (1 - a**2)
    return da @ wx.T, da @ wh.T, 0.5 * dc, x.T @ da, h.T @ da


person("h, c, cache", lstm_step, X, normal((4, 2)), normal((4, 2)), normal((3, 2)), normal((2, 2)),
       backward=lstm_step_backward, names="x h c wx wh")  # fmt: skip


def batchnorm_forward(x, gamma, beta, bn_param):
    mean, momentum = x.mean(0), bn_param.get("momentum", 0.9)
    centred = x - mean
    deviation = np.sqrt((centred * centred).mean(0) + bn_param["eps"])
    bn_param["running_mean"] = momentum * bn_param["running_mean"] + (1 - momentum) * mean
    return gamma * centred / deviation + beta, (gamma, centred / deviation, deviation)


def batchnorm_backward(dout, cache):
    gamma, hat, deviation = cache
    d = dout * gamma
    return (d - d.mean(0) - hat * (d * hat).mean(0)) / deviation, (dout * hat).sum(0), dout.sum(0)


person("a dict that is changed", batchnorm_forward, X, normal(3), normal(3),
       {"mode": "train", "eps": 1e-5, "running_mean": normal(3)}, backward=batchnorm_backward,
       names="x gamma beta")  # fmt: skip

_kept = {}


def forward_that_keeps(x):
    _kept["x"] = x
    return x * x


person("a cache elsewhere", forward_that_keeps, X, backward=lambda dout: 2 * dout * _kept["x"], names="x")


def softmax_loss(x, y):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]).mean(), p


def softmax_loss_backward(p, y):
    p = p.copy()
    p[np.arange(len(y)), y] -= 1
    return p / len(y)


person("loss, cache", softmax_loss, X, LABELS, backward=softmax_loss_backward, names="x")


def forward_with_context(ctx, x, w):
    ctx.kept = x, w
    return x @ w


def backward_with_context(ctx, grad_output):
    return affine_gradients(grad_output, *ctx.kept)[:2]


person("ctx", forward_with_context, X, W, backward=backward_with_context, names="x w")

# ------------------------------------------------------------------------------------------ loss, gradients


def softmax_loss_and_gradient(x, y):
    loss, p = softmax_loss(x, y)
    return loss, softmax_loss_backward(p, y)


def svm_loss(W, X, y, reg):
    margins = np.maximum(0, X @ W - (X @ W)[np.arange(len(y)), y][:, None] + 1)
    margins[np.arange(len(y)), y] = 0
    d = 1.0 * (margins > 0)
    d[np.arange(len(y)), y] = -d.sum(1)
    return margins.sum() / len(y) + reg * (W * W).sum(), X.T @ d / len(y) + 2 * reg * W


def naive_softmax(center, outside, vectors):
    y = np.exp(vectors @ center) / np.exp(vectors @ center).sum()
    d = y.copy()
    d[outside] -= 1
    return -np.log(y[outside]), vectors.T @ d, np.outer(d, center)


def network(params, X):
    z = X @ params["W1"] + params["b1"]
    return (z * z).sum(), {"dW1": 2 * X.T @ z, "db1": 2 * z.sum(0), "dZ1": 2 * z}


def propagate(w, b, X, Y):
    error = X @ w + b - Y
    return {"dw": X.T @ error, "db": error.sum()}, (error**2).sum() / 2


person("loss, grad", softmax_loss_and_gradient, X, LABELS, names="x")
person("loss, grad of the first", svm_loss, W, X, LABELS, 1e-2, names="W")
person("loss, several gradients", naive_softmax, normal(3), 2, normal((6, 3)), names="center vectors")
person("loss, grads", lambda p: (((X @ p[0] + p[1]) ** 2).sum(), [2 * X.T @ (X @ p[0] + p[1]),
       2 * (X @ p[0] + p[1]).sum(0)]), [W, B], names="p.0 p.1")  # fmt: skip
person("loss, dict of gradients", network, {"W1": W, "b1": B}, X, names="params.W1 params.b1")
person("grads, cost", propagate, normal(3), 0.3, X, normal(4), names="w b")
person("loss of shape (1, 1)", lambda x: ((x * x).sum(keepdims=True), 2 * x), X, names="x")
person("a number and its slope", lambda x: (x**2, 2 * x), np.array(2.5), names="x")

# ------------------------------------------------------------------------------------------ gradient=

person("gradient", lambda x, y: (x * x * y).sum(), X, X + 1, gradient=lambda x, y: (2 * x * y, x * x), names="x y")
person("gradient as an array", lambda x: (x * x).sum(), X, gradient=2 * X, names="x")
person("gradient as a list", lambda x, y: (x * y).sum(), X, X + 1, gradient=[X + 1, X], names="x y")
person("gradient by name", lambda x, y: (x * y).sum(), X, X + 1, gradient={"dy": X, "dx": X + 1}, names="x y")
person("gradient of a float", lambda x: x**3, 2.0, gradient=lambda x: 3 * x**2, names="x")
person("gradient of weights alone", lambda w, X: ((X @ w) ** 2).sum(), W, X, gradient=lambda w, X: 2 * X.T @ (X @ w),
       names="w")  # fmt: skip
