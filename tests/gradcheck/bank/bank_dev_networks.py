"""Faults to develop with: convolution, pooling, embeddings and recurrent nets."""

import numpy as np
from bank_fault import integers, new_bank, sigmoid

FAULTS, fault = new_bank()


@fault("conv", "x", "the kernel is not turned around for dx", "turned", x=(3, 11), w=(4,))
def conv1d_kernel_not_turned(wrong, x, w):
    out = x.shape[1] - len(w) + 1
    windows = np.stack([x[:, i : i + out] for i in range(len(w))], -1)

    def backward(dy):
        dx = np.stack([np.convolve(row, w[::-1] if wrong else w) for row in dy])
        return dx, np.einsum("no,nok->k", dy, windows)

    return windows @ w, backward


@fault("conv", "w", "columns (kh, kw, C) read as (C, kh, kw)", "permuted", x=(2, 3, 6, 7), w=(4, 3, 3, 2))
def im2col_columns_misread(wrong, x, w):
    height, width = 4, 6
    views = [[x[:, :, i : i + height, j : j + width] for j in range(2)] for i in range(3)]
    cols = np.array(views).transpose(2, 4, 5, 0, 1, 3).reshape(-1, 18)
    kernel = w.transpose(0, 2, 3, 1).reshape(4, -1)

    def backward(dy):
        dout = dy.transpose(0, 2, 3, 1).reshape(-1, 4)
        dkernel = dout.T @ cols
        dcols = (dout @ kernel).reshape(2, height, width, 3, 2, 3)
        dx = np.zeros_like(x)
        for i in range(3):
            for j in range(2):
                dx[:, :, i : i + height, j : j + width] += dcols[:, :, :, i, j].transpose(0, 3, 1, 2)
        return dx, dkernel.reshape(w.shape) if wrong else dkernel.reshape(4, 3, 2, 3).transpose(0, 3, 1, 2)

    return (cols @ kernel.T).reshape(2, height, width, 4).transpose(0, 3, 1, 2), backward


@fault("conv", "x", "= for += where windows overlap", "overwritten", x=(2, 2, 6, 5), w=(3, 2, 3, 3), b=(3,))
def conv_naive_overwrites(wrong, x, w, b):
    y = np.zeros((2, 3, 4, 3))
    for i in range(4):
        for j in range(3):
            y[:, :, i, j] = np.tensordot(x[:, :, i : i + 3, j : j + 3], w, ([1, 2, 3], [1, 2, 3])) + b

    def backward(dy):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(4):
            for j in range(3):
                window = np.s_[:, :, i : i + 3, j : j + 3]
                dwindow = np.tensordot(dy[:, :, i, j], w, 1)
                dx[window] = dwindow if wrong else dx[window] + dwindow
                dw += np.tensordot(dy[:, :, i, j].T, x[window], 1)
        return dx, dw, dy.sum((0, 2, 3))

    return y, backward


@fault("pooling", "x", "1/9 forgotten: dy goes whole to each of nine pixels", "N, factor, k times", x=(2, 2, 6, 9))
def average_pool_not_divided(wrong, x):
    def backward(dy):
        dx = np.repeat(np.repeat(dy, 3, axis=2), 3, axis=3)
        return (dx if wrong else dx / 9,)

    return x.reshape(2, 2, 2, 3, 3, 3).mean((3, 5)), backward


@fault("embedding", "table", "= for += with repeated ids", "overwritten", ids=integers((4, 6), 7), table=(7, 5))
def embedding_overwrites(wrong, ids, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        for n, t in np.ndindex(ids.shape):
            dtable[ids[n, t]] = dy[n, t] + (0 if wrong else dtable[ids[n, t]])
        return (dtable,)

    return table[ids], backward


@fault("embedding", "u", "a word drawn twice is counted once", "overwritten", v=(5,), u=(8, 5))
def negative_sampling_repeats(wrong, v, u):
    target, negatives = 2, np.array([5, 1, 5, 7, 1, 5])
    right, fake = sigmoid(u[target] @ v), sigmoid(u[negatives] @ v)

    def backward():
        du = np.zeros_like(u)
        du[target] = (right - 1) * v
        if wrong:
            du[negatives] += fake[:, None] * v
        else:
            np.add.at(du, negatives, fake[:, None] * v)
        return (right - 1) * u[target] + fake @ u[negatives], du

    return -np.log(right) - np.log(1 - fake).sum(), backward


def rnn_forward(x, h0, wx, wh):
    """Hidden states (T + 1, N, H), the first of them h0, of inputs (T, N, D)."""
    h = [h0]
    for xt in x:
        h.append(np.tanh(xt @ wx + h[-1] @ wh))
    return np.stack(h)


def rnn_backward(dy, x, h, wx, wh, carry=1, state=0):
    """Through time; carry=0 drops what later steps give, state=1 takes the new state for that before it."""
    dx, dwx, dwh, dnext = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), np.zeros_like(h[0])
    for t in reversed(range(len(x))):
        dz = (dy[t] + carry * dnext) * (1 - h[t + 1] ** 2)
        dx[t], dnext = dz @ wx.T, dz @ wh.T
        dwx += x[t].T @ dz
        dwh += h[t + state].T @ dz
    return dx, dnext, dwx, dwh


@fault(
    "rnn",
    "x, h0, wx, wh",
    "the gradient of the next step is dropped",
    "time step",
    x=(5, 3, 4),
    h0=(3, 6),
    wx=(4, 6),
    wh=(6, 6),
)
def rnn_carries_nothing(wrong, x, h0, wx, wh):
    h = rnn_forward(x, h0, wx, wh)
    return h[1:], lambda dy: rnn_backward(dy, x, h, wx, wh, carry=0 if wrong else 1)


@fault(
    "rnn",
    "wh",
    "dwh taken with h[t], not h[t - 1]",
    "time step, missing term",
    x=(6, 2, 3),
    h0=(2, 4),
    wx=(3, 4),
    wh=(4, 4),
)
def rnn_weight_with_new_state(wrong, x, h0, wx, wh):
    h = rnn_forward(x, h0, wx, wh)
    return h[1:], lambda dy: rnn_backward(dy, x, h, wx, wh, state=1 if wrong else 0)


@fault("lstm", "x, w, b", "the forget gate's slope f (1 - f) as f", "slope", x=(4, 3, 2), w=(6, 16), b=(16,))
def lstm_forget_gate_slope(wrong, x, w, b):
    h, c, steps, out = np.zeros((3, 4)), np.zeros((3, 4)), [], []
    for xt in x:
        joined = np.hstack([xt, h])
        z = joined @ w + b
        i, f, o, g = sigmoid(z[:, :4]), sigmoid(z[:, 4:8]), sigmoid(z[:, 8:12]), np.tanh(z[:, 12:])
        steps.append((joined, i, f, o, g, c, f * c + i * g))
        c = steps[-1][-1]
        h = o * np.tanh(c)
        out.append(h)

    def backward(dy):
        dx, dw, db, dh, dc = np.zeros_like(x), 0, 0, 0, 0
        for t in reversed(range(len(x))):
            joined, i, f, o, g, before, c = steps[t]
            dh = dh + dy[t]
            dc = dc + dh * o * (1 - np.tanh(c) ** 2)
            df = dc * before * (f if wrong else f * (1 - f))
            dz = np.hstack([dc * g * i * (1 - i), df, dh * np.tanh(c) * o * (1 - o), dc * i * (1 - g * g)])
            dx[t], dh = (dz @ w.T)[:, :2], (dz @ w.T)[:, 2:]
            dw, db, dc = dw + joined.T @ dz, db + dz.sum(0), dc * f
        return dx, dw, db

    return np.stack(out), backward
