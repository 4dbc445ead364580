"""Faults to examine with: convolution, pooling, embeddings and recurrent nets."""

import numpy as np
from bank_fault import integers, new_bank, sigmoid

FAULTS, fault = new_bank()


@fault("conv", "w", "a true convolution turns its kernel: the gradient is not turned back", "turned", x=(6, 12), w=(5,))
def convolution_kernel_gradient(wrong, x, w):
    y = np.stack([np.convolve(row, w, "valid") for row in x])

    def backward(dy):
        dw = np.array([(dy * x[:, k : k + 8]).sum() for k in range(5)])
        return np.stack([np.convolve(row, w[::-1]) for row in dy]), dw if wrong else dw[::-1]

    return y, backward


@fault("conv", "b", "averaged over the pixels", "1/N, factor", x=(2, 3, 5, 6), w=(4, 3), b=(4,))
def conv_bias_averaged(wrong, x, w, b):
    y = np.einsum("ncij,oc->noij", x, w) + b[:, None, None]

    def backward(dy):
        db = dy.sum(0).mean((1, 2)) if wrong else dy.sum((0, 2, 3))
        return np.einsum("noij,oc->ncij", dy, w), np.einsum("noij,ncij->oc", dy, x), db

    return y, backward


@fault("conv", "x", "the stride ignored where windows are put back", "permuted, some indices", x=(3, 2, 9), w=(4, 2, 3))
def conv_stride_ignored(wrong, x, w):
    windows = np.stack([x[:, :, 2 * i : 2 * i + 3] for i in range(4)], 1)

    def backward(dy):
        dx = np.zeros_like(x)
        for i in range(4):
            start = i if wrong else 2 * i
            dx[:, :, start : start + 3] += np.tensordot(dy[:, :, i], w, 1)
        return dx, np.einsum("noi,nick->ock", dy, windows)

    return np.einsum("nick,ock->noi", windows, w), backward


@fault("conv", "w", "every group's kernel gets the first group's input", "some indices", x=(4, 6, 7), w=(6, 2, 1))
def conv_groups_share_input(wrong, x, w):
    groups = x.reshape(4, 3, 2, 7)
    kernels = w[:, :, 0].reshape(3, 2, 2)

    def backward(dy):
        dout = dy.reshape(4, 3, 2, 7)
        source = np.broadcast_to(groups[:, :1], groups.shape) if wrong else groups
        dw = np.einsum("ngoi,ngci->goc", dout, source)
        return np.einsum("ngoi,goc->ngci", dout, kernels).reshape(x.shape), dw.reshape(w.shape)

    return np.einsum("ngci,goc->ngoi", groups, kernels).reshape(4, 6, 7), backward


@fault("pooling", "x", "every row written to the first", "some indices, never accumulated", x=(5, 6), w=(5,))
def rows_written_to_first(wrong, x, w):
    pooled = x.max(1)

    def backward(dy):
        dx = np.zeros_like(x)
        for row in range(5):
            dx[0 if wrong else row, x[row].argmax()] += dy[row] * w[row]
        return dx, dy * pooled

    return w * pooled, backward


@fault("pooling", "x", "dy goes to all four pixels of a window", "mask", x=(2, 3, 4, 6))
def max_pool_without_mask(wrong, x):
    y = x.reshape(2, 3, 2, 2, 3, 2).max((3, 5))

    def backward(dy):
        spread = np.kron(dy, np.ones((2, 2)))
        return (spread * (1 if wrong else x == np.kron(y, np.ones((2, 2)))),)

    return y, backward


@fault("pooling", "x", "rows and columns of argmax exchanged", "permuted, some indices", x=(4, 3, 5, 5))
def global_max_place_exchanged(wrong, x):
    place = x.reshape(4, 3, 25).argmax(2)

    def backward(dy):
        dx = np.zeros_like(x)
        for n, c in np.ndindex(4, 3):
            i, j = divmod(place[n, c], 5)
            dx[(n, c, j, i) if wrong else (n, c, i, j)] = dy[n, c]
        return (dx,)

    return x.max((2, 3)), backward


@fault(
    "embedding",
    "table",
    "the padding's row gets no gradient, though it is read",
    "some indices, mask, never accumulated",
    ids=integers((5, 6), 4),
    table=(4, 3),
)
def embedding_padding_row(wrong, ids, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy)
        if wrong:
            dtable[0] = 0
        return (dtable,)

    return table[ids], backward


@fault(
    "embedding", "v", "the negative samples give the centre word nothing", "missing term, one-sided", v=(6,), u=(9, 6)
)
def negative_sampling_positive_only(wrong, v, u):
    target, negatives = 3, np.array([0, 7, 4, 8, 1])
    right, fake = sigmoid(u[target] @ v), sigmoid(u[negatives] @ v)

    def backward():
        dv, du = (right - 1) * u[target], np.zeros_like(u)
        du[target] = (right - 1) * v
        for k, word in enumerate(negatives):
            dv = dv + (0 if wrong else fake[k] * u[word])
            du[word] += fake[k] * v
        return dv, du

    return -np.log(right) - np.log(1 - fake).sum(), backward


@fault(
    "embedding",
    "table",
    "the mean over the window not divided by its length",
    "N, k times, factor",
    context=integers((7, 5), 9),
    table=(9, 4),
    w=(4, 3),
)
def cbow_mean_not_divided(wrong, context, table, w):
    h = table[context].mean(1)

    def backward(dy):
        dh = dy @ w.T / (1 if wrong else 5)
        dtable = np.zeros_like(table)
        np.add.at(dtable, context, np.broadcast_to(dh[:, None], (7, 5, 4)))
        return dtable, h.T @ dy

    return h @ w, backward


@fault(
    "rnn", "wh", "= for += over time", "time step, overwritten", x=(5, 3, 2), h0=(3, 4), wx=(2, 4), wh=(4, 4), b=(4,)
)
def rnn_recurrent_weight_overwritten(wrong, x, h0, wx, wh, b):
    h = [h0]
    for xt in x:
        h.append(np.tanh(xt @ wx + h[-1] @ wh + b))

    def backward(dy):
        dx, dwx, dwh, db, dh = np.zeros_like(x), 0, 0, 0, 0
        for t in reversed(range(5)):
            dz = (dy[t] + dh) * (1 - h[t + 1] ** 2)
            dwh = h[t].T @ dz + (0 if wrong else dwh)
            dx[t], dwx, db, dh = dz @ wx.T, dwx + x[t].T @ dz, db + dz.sum(0), dz @ wh.T
        return dx, dh, dwx, dwh, db

    return np.stack(h[1:]), backward


@fault("rnn", "h0", "the first state's gradient stays zero", "never accumulated", x=(4, 2, 3), h0=(2, 5), w=(8, 5))
def rnn_first_state_zero(wrong, x, h0, w):
    h = [h0]
    for xt in x:
        h.append(np.tanh(np.hstack([xt, h[-1]]) @ w))

    def backward(dy):
        dx, dw, dh = np.zeros_like(x), 0, dy
        for t in reversed(range(4)):
            dz = dh * (1 - h[t + 1] ** 2)
            dw = dw + np.hstack([x[t], h[t]]).T @ dz
            dx[t], dh = np.split(dz @ w.T, [3], axis=1)
        return dx, np.zeros_like(h0) if wrong else dh, dw

    return h[4], backward


def lstm(x, w, b, size, dy_of=None, carries=True):
    """The hidden states (T, N, H) of an LSTM, or with dy_of, their cotangent, the gradients of x, w and b."""
    h, c, steps = np.zeros((x.shape[1], size)), np.zeros((x.shape[1], size)), []
    for xt in x:
        joined = np.hstack([xt, h])
        z = np.split(joined @ w + b, 4, axis=1)
        i, f, o, g = *map(sigmoid, z[:3]), np.tanh(z[3])
        steps.append((joined, i, f, o, g, c, np.tanh(f * c + i * g)))
        c = f * c + i * g
        h = o * np.tanh(c)
    if dy_of is None:
        return np.stack([step[3] * step[6] for step in steps])
    dx, dw, db, dh, dc = np.zeros_like(x), 0, 0, 0, 0
    for t in reversed(range(len(x))):
        joined, i, f, o, g, before, s = steps[t]
        dh = dy_of[t] + dh
        dc = dh * o * (1 - s * s) + (dc if carries else 0)
        dgates = [dc * g * i * (1 - i), dc * before * f * (1 - f), dh * s * o * (1 - o), dc * i * (1 - g * g)]
        dz = np.hstack(dgates)
        dx[t], dh = np.split(dz @ w.T, [x.shape[2]], axis=1)
        dw, db, dc = dw + joined.T @ dz, db + dz.sum(0), dc * f
    return dx, dw, db


@fault(
    "lstm",
    "x, w, b",
    "the cell's gradient of the next step is dropped",
    "time step, missing term",
    x=(5, 2, 3),
    w=(7, 16),
    b=(16,),
)
def lstm_cell_not_carried(wrong, x, w, b):
    return lstm(x, w, b, 4), lambda dy: lstm(x, w, b, 4, dy, carries=not wrong)


@fault("gru", "h", "the path through the reset gate forgotten", "missing term", x=(4, 3), h=(4, 5), w=(8, 10), v=(8, 5))
def gru_reset_path_forgotten(wrong, x, h, w, v):
    joined = np.hstack([x, h])
    z, r = np.split(sigmoid(joined @ w), 2, axis=1)
    inner = np.hstack([x, r * h])
    n = np.tanh(inner @ v)

    def backward(dy):
        dn = dy * (1 - z) * (1 - n * n)
        dx, drh = np.split(dn @ v.T, [3], axis=1)
        dgates = np.hstack([dy * (h - n) * z * (1 - z), drh * h * r * (1 - r)])
        djoined = dgates @ w.T
        dh = dy * z + (0 if wrong else drh * r) + djoined[:, 3:]
        return dx + djoined[:, :3], dh, joined.T @ dgates, inner.T @ dn

    return (1 - z) * n + z * h, backward
