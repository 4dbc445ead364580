"""Forward passes with all in NumPy and math that treats a complex number otherwise than its real part.

Each with its right backward, and with a wrong one: the gradient as if what a complex step cannot see were a constant.
"""

import math

import numpy as np

FORWARDS = {}  # {name: (f(x), right(x, dy), wrong(x, dy))}, x (4, 5)


def enter(name, f, right, wrong):
    FORWARDS[name] = f, right, wrong


def times(name, g, slope):
    """y = x g(x), entry by entry; slope(x) is that of g."""
    enter(name, lambda x: x * g(x), lambda x, dy: dy * (g(x) + x * slope(x)), lambda x, dy: dy * g(x))


def times_row(name, g, slope):
    """y = x g(x), where g is one number for each row, (4, 1), or for all; slope(x) (4, 5) is its gradient."""

    def right(x, dy):
        return dy * g(x) + (dy * x).sum(1 if np.ndim(g(x)) else None, keepdims=True) * slope(x)

    enter(name, lambda x: x * g(x), right, lambda x, dy: dy * g(x))


def one_hot(x, columns):
    return np.eye(x.shape[1])[columns]


def root(x):
    return np.sqrt((x * x).sum())


def step(x):
    return (x > 0) * 1.0


# ------------------------------------------------------------------------------------------ entry by entry

for name, g in [
    ("np.abs", np.abs), ("np.absolute", np.absolute), ("np.fabs", np.fabs), ("abs()", abs),
    ("np.copysign", lambda x: np.copysign(x, 1.0)), ("np.sign", lambda x: x * np.sign(x)),
]:  # fmt: skip
    times(name, g, np.sign)
times("np.maximum", lambda x: np.maximum(x, 0), step)
times("np.fmax", lambda x: np.fmax(x, 0), step)
times("np.minimum", lambda x: np.minimum(x, 0), lambda x: 1 - step(x))
times("np.clip", lambda x: np.clip(x, -0.5, 0.5), lambda x: (np.abs(x) < 0.5) * 1.0)
times("np.where", lambda x: np.where(x > 0, x, 0.1), step)
times("comparison", lambda x: x * (x > 0.2), lambda x: (x > 0.2) * 1.0)
times("np.floor", lambda x: x - np.floor(x), np.ones_like)
times("np.ceil", lambda x: np.ceil(x) - x, lambda x: -np.ones_like(x))
times("np.round", lambda x: x - np.round(x), np.ones_like)
times("np.mod", lambda x: np.mod(x, 1.0), np.ones_like)
times("np.isclose", lambda x: x * ~np.isclose(x, 0), np.ones_like)
times("np.nan_to_num", np.nan_to_num, np.ones_like)
times("np.hypot", lambda x: np.hypot(x, 1), lambda x: x / np.hypot(x, 1))
times("np.arctan2", lambda x: np.arctan2(x, 2.0), lambda x: 2 / (4 + x * x))
times("np.logaddexp", lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-x)))
times("np.cbrt", np.cbrt, lambda x: np.cbrt(x) / (3 * x))
times("int(x)", lambda x: x + x.astype(int), np.ones_like)
for name, g in [
    ("np.real", np.real), (".real", lambda x: x.real), ("np.conj", np.conj), (".conj()", lambda x: x.conj()),
    ("astype(float)", lambda x: x.astype(float)), ("np.float64", lambda x: np.asarray(x, np.float64)),
    ("np.allclose", lambda x: x if not np.allclose(x, 0) else 0 * x),
    ("list of floats", lambda x: np.array([[float(value) for value in row] for row in x])),
]:  # fmt: skip
    times(name, g, np.ones_like)


def buffer(x):
    y = np.zeros(x.shape)
    y[:] = x * x
    return y


def loop(x):
    y = np.zeros_like(x, dtype=float)
    for i in np.ndindex(*x.shape):
        y[i] = math.sin(x[i])
    return y


times("real buffer", buffer, lambda x: 2 * x)
times("math.sin", loop, np.cos)

# ------------------------------------------------------------------------------------------ row by row

times_row("np.max", lambda x: np.max(x, 1, keepdims=True), lambda x: one_hot(x, x.argmax(1)))
times_row("np.min", lambda x: np.min(x, 1, keepdims=True), lambda x: one_hot(x, x.argmin(1)))
times_row("argmax", lambda x: x[range(len(x)), x.argmax(1)][:, None], lambda x: one_hot(x, x.argmax(1)))
times_row("np.sort", lambda x: np.sort(x, 1)[:, :1], lambda x: one_hot(x, x.argmin(1)))
times_row("np.median", lambda x: np.median(x, 1, keepdims=True), lambda x: one_hot(x, np.argsort(x, 1)[:, 2]))
times_row("np.ptp", lambda x: np.ptp(x, 1)[:, None], lambda x: one_hot(x, x.argmax(1)) - one_hot(x, x.argmin(1)))
times_row("np.abs(sum)", lambda x: np.abs(x.sum(1, keepdims=True)), lambda x: np.sign(x.sum(1, keepdims=True)) + 0 * x)
times_row("np.linalg.norm", lambda x: np.linalg.norm(x), lambda x: x / root(x))
times_row("np.vdot", lambda x: np.vdot(x, x), lambda x: 2 * x)
times_row("float()", lambda x: float((x * x).sum()), lambda x: 2 * x)
times_row("item()", lambda x: (x * x).sum().item().real, lambda x: 2 * x)
times_row("math.exp", lambda x: math.exp(x.mean()), lambda x: np.exp(x.mean()) / x.size + 0 * x)
times_row("math.sqrt", lambda x: 1 / math.sqrt((x * x).sum()), lambda x: -x / root(x) ** 3)
times_row("np.var", np.var, lambda x: 2 * (x - x.mean()) / x.size)
times_row("np.std", np.std, lambda x: (x - x.mean()) / x.size / np.std(x))
times_row("x.var()", lambda x: x.var(1, keepdims=True), lambda x: 2 * (x - x.mean(1, keepdims=True)) / x.shape[1])


# ------------------------------------------------------------------------------------------ as one meets them


def unit_rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def unit_rows_right(x, dy):
    y = unit_rows(x)
    return (dy - y * (dy * y).sum(1, keepdims=True)) / np.linalg.norm(x, axis=1, keepdims=True)


def normalised(x):
    return (x - x.mean(0)) / np.sqrt(np.var(x, 0) + 1e-5)


def normalised_right(x, dy):
    y = normalised(x)
    return (dy - dy.mean(0) - y * (dy * y).mean(0)) / np.sqrt(np.var(x, 0) + 1e-5)


def softmax(x):
    p = np.exp(x - np.max(x, 1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def softmax_right(x, dy):
    p = softmax(x)
    return p * (dy - (dy * p).sum(1, keepdims=True))


enter("unit rows", unit_rows, unit_rows_right, lambda x, dy: dy / np.linalg.norm(x, axis=1, keepdims=True))
enter("batch norm", normalised, normalised_right, lambda x, dy: (dy - dy.mean(0)) / np.sqrt(np.var(x, 0) + 1e-5))
enter("softmax", softmax, softmax_right, lambda x, dy: dy * softmax(x))
enter("L1", lambda x: np.abs(x).sum(), lambda x, dy: dy * np.sign(x), lambda x, dy: dy * np.ones_like(x))
