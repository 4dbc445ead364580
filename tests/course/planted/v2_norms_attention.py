"""Wrong answers to the variants: norms and scores of attention."""

import numpy as np

from .v1_activations import faulty


def rms(fault):
    def answer(x, weight, eps=1e-5):
        centred = x - x.mean(-1, keepdims=True) if fault == "mean taken away" else x
        squares = (
            (centred**2).sum(-1, keepdims=True) if fault == "sum of squares" else (centred**2).mean(-1, keepdims=True)
        )
        r = np.sqrt(squares) + eps if fault == "eps outside" else np.sqrt(squares + eps)
        n = centred / r

        def backward(dy):
            g = dy if fault == "weight forgotten" else dy * weight
            dx = g if fault == "second term forgotten" else g - n * (g * n).mean(-1, keepdims=True)
            if fault == "sum for a mean":
                dx = g - n * (g * n).sum(-1, keepdims=True)
            if fault == "weight outside":
                dx = weight * (dy - n * (dy * n).mean(-1, keepdims=True))
            if fault == "centred as layer norm":
                dx = dx - g.mean(-1, keepdims=True)
            dw = dy * (x if fault == "x for its norm" else n)
            return dx / r, dw.sum(tuple(range(x.ndim - 1)))

        return n * weight, backward

    return answer


faulty(
    "rms_norm",
    rms,
    {
        "mean taken away": "centring",
        "sum of squares": "N",
        "eps outside": "precision",
        "weight forgotten": "missing term, factor, slope",
        "second term forgotten": "projection, missing term",
        "sum for a mean": "projection, N, factor",
        "weight outside": "outside the sums, missing term",
        "centred as layer norm": "",
        "x for its norm": "",
    },
)


def groups_of(fault):
    def answer(x, weight, bias, groups, eps=1e-5):
        shape = (*x.shape[:3], groups, -1)
        axes = {"over the batch": (0, 1, 2, 4), "each pixel": (4,)}.get(fault, (1, 2, 4))
        parts = x.reshape(shape)
        m = parts.mean(axes, keepdims=True)
        d = np.sqrt(((parts - m) ** 2).mean(axes, keepdims=True) + eps)
        n = (parts - m) / d
        flat = n.reshape(x.shape)

        def backward(dy):
            g = (dy * weight).reshape(shape)
            dx = g - n * (g * n).mean(axes, keepdims=True)
            if fault != "mean taken for a constant":
                dx = dx - g.mean(axes, keepdims=True)
            if fault == "variance taken for a constant":
                dx = g - g.mean(axes, keepdims=True)
            if fault == "sums over the pixels":
                dx = g - g.mean((1, 2), keepdims=True) - n * (g * n).mean((1, 2), keepdims=True)
            dw = dy.sum((0, 1, 2)) if fault == "weight as bias" else (dy * flat).sum((0, 1, 2))
            db = dy.mean((0, 1, 2)) if fault == "mean of the bias" else dy.sum((0, 1, 2))
            return (dx / d).reshape(x.shape), dw, db

        return flat * weight + bias, backward

    return answer


faulty(
    "group_norm",
    groups_of,
    {
        "over the batch": "wrong axis",
        "each pixel": "wrong axis",
        "mean taken for a constant": "centring, missing term",
        "variance taken for a constant": "projection, missing term",
        "sums over the pixels": "wrong axis, centring",
        "weight as bias": "swapped, missing term",
        "mean of the bias": "1/N",
    },
)


def attention(fault):
    def answer(q, k, v, bias):
        root = 1.0 if fault == "not scaled" else q.shape[-1] ** 0.5
        scores = q @ k.swapaxes(2, 3)
        scores = (scores + bias) / root if fault == "bias scaled too" else scores / root + bias
        e = np.exp(scores - scores.real.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)

        def backward(dy):
            dp = dy @ v.swapaxes(2, 3)
            ds = p * dp if fault == "sum forgotten" else p * (dp - (dp * p).sum(-1, keepdims=True))
            dbias = ds.mean(0) if fault == "bias averaged" else ds.sum(0)
            dq, dk = ds @ k / root, ds.swapaxes(2, 3) @ q / root
            if fault == "root forgotten":
                dq = dq * root
            if fault == "keys not transposed":
                dk = ds @ q / root
            if fault == "bias of the first head":
                dbias = 0 * dbias + dbias[:1]
            return dq, dk, p.swapaxes(2, 3) @ dy, dbias

        return p @ v, backward

    return answer


faulty(
    "biased_attention",
    attention,
    {
        "not scaled": "√d",
        "bias scaled too": "1/√d",
        "sum forgotten": "centring, missing term",
        "bias averaged": "1/N",
        "root forgotten": "√d",
        "keys not transposed": "transposed",
        "bias of the first head": "",
    },
)


def cosines(fault):
    def answer(q, k, scale):
        a, b = (np.sqrt((x**2).sum(-1, keepdims=True)) for x in (q, k))
        u, w = q / a, k if fault == "keys not normalised" else k / b
        c = u @ w.swapaxes(2, 3)
        s = 1.0 if fault == "no scale" else scale.reshape(-1, 1, 1)

        def backward(d):
            du, dw = (d * s) @ w, (d * s).swapaxes(2, 3) @ u
            if fault == "scale forgotten":
                du, dw = d @ w, d.swapaxes(2, 3) @ u
            dq = (du - u * (du * u).sum(-1, keepdims=True)) / a
            dk = (dw - w * (dw * w).sum(-1, keepdims=True)) / b
            if fault == "along the query":
                dq = du / a
            if fault == "length forgotten":
                dk = dk * b
            if fault == "queries and keys exchanged":
                dq, dk = dk, dq
            over = (0, 2, 3)
            return dq, dk, (d * c).mean(over) if fault == "scale averaged" else (d * c).sum(over)

        return c * s, backward

    return answer


faulty(
    "cosine_scores",
    cosines,
    {
        "keys not normalised": "missing term",
        "no scale": "factor",
        "scale forgotten": "factor, missing term",
        "along the query": "projection, missing term",
        "length forgotten": "factor, missing term",
        "queries and keys exchanged": "swapped",
        "scale averaged": "1/N",
    },
)
