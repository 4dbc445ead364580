"""Solutions of the variants: the only place where their backward passes stand. For the teacher alone.

    python -m miniclip grade --variants 3 --student 12345       writes the notebook that student 12345 is to solve

The tasks, their traps and hints: miniclip/course/exercises/v*.py. What they are for: variants.md.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(s):
    e = np.exp(s - s.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(p, dp):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


# ------------------------------------------------------------------------------------------ activations


def gelu_tanh(x):
    scale = np.sqrt(2 / np.pi)
    h = np.tanh(scale * (x + 0.044715 * x * x * x))

    def backward(dy):
        inner = scale * (1 + 3 * 0.044715 * x * x)
        return dy * (0.5 * (1 + h) + 0.5 * x * (1 - h * h) * inner)

    return 0.5 * x * (1 + h), backward


def squared_relu(x, slope):
    positive = x.real > 0

    def backward(dy):
        dslope = np.where(positive, 0, dy * x).reshape(-1, x.shape[-1]).sum(0)
        return dy * np.where(positive, 2 * x, slope), dslope

    return np.where(positive, x * x, slope * x), backward


def swiglu(x, weight, bias):
    a, g = np.split(x @ weight.T + bias, 2, axis=-1)
    s = sigmoid(g)

    def backward(dy):
        dg = dy * a * (s + g * s * (1 - s))
        dh = np.concatenate([dy * g * s, dg], -1)
        return dh @ weight, dh.T @ x, dh.sum(0)

    return a * g * s, backward


def weight_norm_linear(x, direction, length, bias):
    norm = np.sqrt((direction * direction).sum(-1, keepdims=True))
    unit = direction / norm
    weight = length[:, None] * unit

    def backward(dy):
        dweight = dy.T @ x
        dlength = (dweight * unit).sum(-1)
        ddirection = (length[:, None] * dweight - weight * dlength[:, None]) / norm
        return dy @ weight, ddirection, dlength, dy.sum(0)

    return x @ weight.T + bias, backward


def sine_positions(x, frequencies):
    rows, columns = (place[..., None] for place in np.indices(x.shape[1:3]))
    table = [f(place * frequencies) for place in (rows, columns) for f in (np.sin, np.cos)]

    def backward(dy):
        sin_i, cos_i, sin_j, cos_j = np.split(dy.sum(0), 4, axis=-1)
        slope = rows * (sin_i * table[1] - cos_i * table[0])
        slope = slope + columns * (sin_j * table[3] - cos_j * table[2])
        return dy, slope.sum((0, 1))

    return x + np.concatenate(table, -1), backward


# ------------------------------------------------------------------------------------------ norms


def rms_norm(x, weight, eps=1e-5):
    root = np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    n = x / root

    def backward(dy):
        g = dy * weight
        dx = (g - n * (g * n).mean(-1, keepdims=True)) / root
        return dx, (dy * n).reshape(-1, x.shape[-1]).sum(0)

    return n * weight, backward


def group_norm(x, weight, bias, groups, eps=1e-5):
    axes, split = (1, 2, 4), (*x.shape[:3], groups, x.shape[3] // groups)
    parts = x.reshape(split)
    parts = parts - parts.mean(axes, keepdims=True)
    deviation = np.sqrt((parts * parts).mean(axes, keepdims=True) + eps)
    n = parts / deviation

    def backward(dy):
        g = (dy * weight).reshape(split)
        dx = g - g.mean(axes, keepdims=True) - n * (g * n).mean(axes, keepdims=True)
        return (dx / deviation).reshape(x.shape), (dy * n.reshape(x.shape)).sum((0, 1, 2)), dy.sum((0, 1, 2))

    return n.reshape(x.shape) * weight + bias, backward


# ------------------------------------------------------------------------------------------ attention


def biased_attention(q, k, v, bias):
    scale = q.shape[-1] ** -0.5
    p = softmax(q @ k.swapaxes(-1, -2) * scale + bias)

    def backward(dy):
        ds = softmax_backward(p, dy @ v.swapaxes(-1, -2))
        dq, dk = ds @ k * scale, ds.swapaxes(-1, -2) @ q * scale
        return dq, dk, p.swapaxes(-1, -2) @ dy, ds.sum(0)

    return p @ v, backward


def on_the_sphere(x):
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    y = x / length
    return y, lambda dy: (dy - y * (dy * y).sum(-1, keepdims=True)) / length


def cosine_scores(q, k, scale):
    (u, to_q), (w, to_k) = on_the_sphere(q), on_the_sphere(k)
    cosines, each = u @ w.swapaxes(-1, -2), scale[:, None, None]

    def backward(dscores):
        d = dscores * each
        return to_q(d @ w), to_k(d.swapaxes(-1, -2) @ u), (dscores * cosines).sum((0, 2, 3))

    return each * cosines, backward


# ------------------------------------------------------------------------------------------ losses


def log_sum_exp(s):
    m = s.real.max(-1, keepdims=True)
    return (m + np.log(np.exp(s - m).sum(-1, keepdims=True)))[..., 0]


def hard_negative_loss(scores, beta=1.0):
    n = len(scores)
    off = ~np.eye(n, dtype=bool)
    wrong, right = scores[off].reshape(n, n - 1), np.diagonal(scores)
    hard = np.log(n - 1) + log_sum_exp((1 + beta) * wrong) - log_sum_exp(beta * wrong)
    pair = np.stack([right, hard], -1)

    def backward():
        miss = softmax(pair)[:, 1:] / n
        slope = (1 + beta) * softmax((1 + beta) * wrong) - beta * softmax(beta * wrong)
        d = np.zeros_like(scores)
        d[off] = (miss * slope).ravel()
        d[~off] = -miss[:, 0]
        return d

    return (log_sum_exp(pair) - right).mean(), backward


def focal_loss(scores, gamma=2.0):
    n = len(scores)
    log_p = np.diagonal(scores) - log_sum_exp(scores)
    p = np.exp(log_p)

    def backward():
        along = gamma * p * log_p * (1 - p) ** (gamma - 1) if gamma else 0.0
        slope = along - (1 - p) ** gamma
        return slope[:, None] / n * (np.eye(n) - softmax(scores))

    return -((1 - p) ** gamma * log_p).mean(), backward


def siglip_by_class(z_image, z_text, classes, logit_scale, logit_bias):
    n, scale = len(z_image), np.exp(logit_scale)[classes]
    sign = 2 * np.eye(n) - 1
    cosines = z_image @ z_text.T
    s = sign * (scale * cosines + logit_bias)
    positive = s.real > 0
    loss = (np.where(positive, 0, -s) + np.log(1 + np.exp(np.where(positive, -s, s)))).sum() / n

    def backward():
        g = -sign * sigmoid(-s) / n
        dscale = np.zeros_like(logit_scale)
        np.add.at(dscale, classes, (g * scale * cosines).sum(0))
        return g * scale @ z_text, (g * scale).T @ z_image, dscale, g.sum()

    return loss, backward
