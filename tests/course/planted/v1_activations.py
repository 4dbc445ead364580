"""Wrong answers to the variants: activations, a normalised weight, positions."""

import numpy as np

from . import bug


def faulty(exercise, make, faults):
    """Enter make(fault), a wrong answer, for each of {fault: kinds}."""
    for fault, kinds in faults.items():
        function = make(fault)
        function.__name__ = fault.replace(" ", "_")
        bug(exercise, kinds)(function)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def gelu(fault):
    def answer(x):
        c = 2 / np.pi if fault == "no root" else np.sqrt(2 / np.pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        y = x * (1 + t) if fault == "no half" else 0.5 * x * (1 + t)
        du = c * (1 + 0.044715 * x**2) if fault == "power without its 3" else c * (1 + 3 * 0.044715 * x**2)
        if fault == "inner slope forgotten":
            du = 1.0
        first = 0 if fault == "first term forgotten" else 0.5 * (1 + t)
        second = 0 if fault == "second term forgotten" else 0.5 * x * (1 - t**2) * du
        if fault == "slope of the tanh":
            second = 0.5 * x * (1 - t) * du
        return y, lambda dy: dy * (first + second)

    return answer


faulty(
    "gelu_tanh",
    gelu,
    {
        "no root": "sqrt",
        "no half": "½",
        "power without its 3": "slope, missing term, factor",
        "inner slope forgotten": "slope, missing term, factor",
        "first term forgotten": "slope, missing term, one-sided",
        "second term forgotten": "slope, missing term, one-sided",
        "slope of the tanh": "slope, missing term",
    },
)


def relu(fault):
    def answer(x, slope):
        up = x.real > 0
        y = np.where(up, x if fault == "not squared" else x * x, 0 if fault == "nothing below" else slope * x)

        def backward(dy):
            left, right = slope, x if fault == "the 2 forgotten" else 2 * x
            if fault == "one below":
                left = 1.0
            dx = dy * np.where(dy > 0 if fault == "mask of dy" else up, right, left)
            dslope = dy * x if fault == "mask forgotten" else np.where(up, 0, dy * x)
            rows = tuple(range(x.ndim - 1))
            return dx, dslope.mean(rows) if fault == "mean of the rows" else dslope.sum(rows)

        return y, backward

    return answer


faulty(
    "squared_relu",
    relu,
    {
        "not squared": "missing term",
        "nothing below": "mask",
        "the 2 forgotten": "slope, some indices, missing term, factor",
        "one below": "slope, some indices, mask, missing term",
        "mask of dy": "cotangent, mask",
        "mask forgotten": "mask, missing term, clip, some indices",
        "mean of the rows": "1/N",
    },
)


def gate(fault):
    def answer(x, weight, bias):
        h = x @ weight.T + bias
        a, g = h[:, : len(weight) // 2], h[:, len(weight) // 2 :]
        if fault == "gate and value exchanged":
            a, g = g, a
        s = sigma(g)
        silu = s if fault == "sigmoid alone" else g * s

        def backward(dy):
            slope = s * (1 - s) if fault == "first term of the slope" else s + g * s * (1 - s)
            da, dg = dy * silu, dy * slope * (1.0 if fault == "a forgotten" else a)
            dh = np.hstack([dg, da] if fault == "joined the wrong way" else [da, dg])
            return dh @ weight, dh.T @ x, dh.mean(0) if fault == "mean of the bias" else dh.sum(0)

        return a * silu, backward

    return answer


faulty(
    "swiglu",
    gate,
    {
        "gate and value exchanged": "swapped",
        "sigmoid alone": "missing term",
        "first term of the slope": "missing term, slope, one-sided",
        "a forgotten": "missing term, slope, factor",
        "joined the wrong way": "permuted, swapped",
        "mean of the bias": "1/N",
    },
)


def weights(fault):
    def answer(x, direction, length, bias):
        squares = (direction**2).sum(0 if fault == "down the columns" else 1, keepdims=True)
        norm = squares if fault == "no root" else np.sqrt(squares)
        weight = direction / norm * length.reshape(-1, 1)

        def backward(dy):
            dw = dy.T @ x
            unit = direction / norm
            along = unit * (dw * unit).sum(1, keepdims=True)
            dv = dw if fault == "along the row" else dw - along
            dv = dv if fault == "norm forgotten" else dv / norm
            dv = dv if fault == "length forgotten" else dv * length.reshape(-1, 1)
            dg = (dw * direction).sum(1) if fault == "direction not of length 1" else (dw * unit).sum(1)
            return dy @ weight, dv, dg, dy.mean(0) if fault == "mean of the bias" else dy.sum(0)

        return x @ weight.T + bias, backward

    return answer


faulty(
    "weight_norm_linear",
    weights,
    {
        "down the columns": "wrong axis",
        "no root": "sqrt",
        "along the row": "projection, missing term",
        "norm forgotten": "factor, missing term",
        "length forgotten": "factor, missing term",
        "direction not of length 1": "",
        "mean of the bias": "1/N",
    },
)


def positions(fault):
    def answer(x, frequencies):
        _, h, w, _ = x.shape
        i, j = np.arange(h)[:, None, None] * np.ones((1, w, 1)), np.arange(w)[None, :, None] * np.ones((h, 1, 1))
        i, j = (j, i) if fault == "rows and columns exchanged" else (i, j)
        s, c = (np.cos, np.sin) if fault == "sine and cosine exchanged" else (np.sin, np.cos)
        table = np.concatenate([s(i * frequencies), c(i * frequencies), s(j * frequencies), c(j * frequencies)], -1)

        def backward(dy):
            g = dy[0] if fault == "first picture alone" else dy.mean(0) if fault == "mean of pictures" else dy.sum(0)
            a, b, d, e = np.split(g, 4, axis=-1)
            sign = 1 if fault == "sign of the cosine" else -1
            of_rows = i * (a * np.cos(i * frequencies) + sign * b * np.sin(i * frequencies))
            of_columns = j * (d * np.cos(j * frequencies) + sign * e * np.sin(j * frequencies))
            if fault == "place forgotten":
                of_rows = of_rows / np.maximum(i, 1)
            if fault == "columns forgotten":
                of_columns = 0 * of_columns
            return dy, (of_rows + of_columns).sum((0, 1))

        return x + table, backward

    return answer


faulty(
    "sine_positions",
    positions,
    {
        "rows and columns exchanged": "swapped",
        "sine and cosine exchanged": "swapped",
        "first picture alone": "overwritten, missing term",
        "mean of pictures": "1/N",
        "sign of the cosine": "",
        "place forgotten": "",
        "columns forgotten": "missing term, one-sided, never accumulated",
    },
)
