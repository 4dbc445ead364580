"""Layers with a wrong backward pass, none of them of this library, and what a diagnosis must say of each."""

import numpy as np
import pytest

FAULTS = []
rng = np.random.default_rng(20)


def normal(*shape):
    return rng.standard_normal(shape)


def fault(kind, words, *args):
    """Enter a layer whose backward is wrong: the kind that must be named, and words of the sentence."""

    def enter(f):
        FAULTS.append(pytest.param(f, args, kind, words, id=f.__name__))
        return f

    return enter


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(p, dp):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


# ------------------------------------------------------------------------------------------ wrong places


@fault("permuted", "axis 2 of 12 was split into 3 × 4", normal(2, 5, 12))
def heads_reshaped_where_axes_must_be_exchanged(x):
    y = x.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
    return y, lambda dy: dy.reshape(2, 5, 12)


@fault("permuted", "order [2, 0, 1]", normal(4, 4, 4))
def axes_transposed_once_more(x):
    return x.transpose(1, 2, 0), lambda dy: dy.transpose(1, 2, 0)


@fault("permuted", "moved by -1 along axis 1", normal(2, 4, 6))
def rolled_too_little(x):
    return np.roll(x, 2, 1), lambda dy: np.roll(dy, -3, 1)


@fault("permuted", "whole indices of axis 0", normal(9, 3), np.array([3, 1, 4, 0, 5, 8, 2, 6, 7]))
def gathered_in_place_of_scattered(x, order):
    return x[order], lambda dy: dy[order]


@fault("permuted", "moved by 1 along axis 2 and 3", normal(2, 2, 5, 5))
def padding_that_is_not_cut_off(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = np.arange(49).reshape(7, 7) % 5 + 1.0
    return padded * weight, lambda dy: (dy * weight)[:, :, :5, :5]


@fault("swapped", "parts 0 and 1 of", normal(3, 4), normal(3, 4))
def parts_joined_in_the_wrong_order(a, b):
    y = np.concatenate([a * a, b], 1)
    return y, lambda dy: (2 * a * dy[:, 4:], dy[:, 4:])


# ------------------------------------------------------------------------------------------ terms


@fault("regulariser", "which is 2 times reg", normal(6, 4), normal(4, 3), 0.07)
def regulariser_forgotten(x, w, reg):
    z = x @ w
    return (z * z).sum() + reg * (w * w).sum(), lambda: (2 * z @ w.T, 2 * x.T @ z)


@fault("regulariser", "its signs", normal(6, 4), normal(4, 3))
def square_for_absolute_value(x, w):
    z = x @ w
    loss = (z * z).sum() + 0.3 * np.abs(w).sum()
    return loss, lambda: (2 * z @ w.T, 2 * x.T @ z + 0.3 * w)


@fault("one-sided", "one of two symmetric terms", normal(5), normal(5, 5))
def quadratic_form(x, a):
    return x @ a @ x, lambda: (2 * a @ x, np.outer(x, x))


@fault("one-sided", "sums to 0 over axis 1", normal(5, 5))
def one_direction_of_a_contrastive_loss(s):
    p, q, n = softmax(s), softmax(s.T).T, np.arange(5)
    return -(np.log(p[n, n]) + np.log(q[n, n])).mean() / 2, lambda: (p - np.eye(5)) / 5


@fault("some indices", "the 1 of the true class", normal(7, 5), np.array([0, 3, 2, 2, 4, 1, 0]))
def labels_not_subtracted(scores, labels):
    p = softmax(scores)
    return -np.log(p[np.arange(7), labels]).mean(), lambda: p / 7


@fault("clip", "cut off at -2, 2", 3 * normal(6, 5), normal(6, 5))
def gradient_clipped_by_value(x, t):
    return ((x - t) ** 2).sum() / 2, lambda: (np.clip(x - t, -2, 2), t - x)


@fault("clip", "its length is 5", 3 * normal(6, 5))
def gradient_clipped_by_norm(x):
    g = 2 * x
    return (x * x).sum(), lambda: g * 5 / np.sqrt((g * g).sum())


@fault("clip", "where it is above 1 or below -1", normal(6, 7))
def clip_forgotten(x):
    return np.clip(x, -1, 1), lambda dy: dy


# ------------------------------------------------------------------------------------------ axes


@fault("wrong axis", "summed over axis 1 of the output", normal(6, 6), normal(6))
def scale_summed_over_the_wrong_axis(x, s):
    return x * s, lambda dy: (dy * s, (dy * x).sum(1))


@fault("wrong axis", "mixes the indices of axis 0", normal(5, 6))
def shares_summed_over_the_wrong_axis(x):
    s = (x * x).sum(1, keepdims=True)
    return x / s, lambda dy: dy / s - 2 * x * (dy * x / s**2).sum(0, keepdims=True)


@fault("wrong axis", "2 groups", normal(3, 6))
def centred_over_all_groups(x):
    def centred(x):
        groups = x.reshape(3, 2, 3)
        return (groups - groups.mean(2, keepdims=True)).reshape(3, 6)

    return centred(x), lambda dy: dy - dy.mean(1, keepdims=True)


@fault("wrong axis", "the mean of the truth over axis 1", normal(4, 5), normal(4, 5))
def broadcast_too_far(x, w):
    g = 2 * x * w * w
    return (x * w * x * w).sum(), lambda: (np.broadcast_to(g.mean(1, keepdims=True), x.shape).copy(), 2 * x * x * w)


# ------------------------------------------------------------------------------------------ loops and repeats


def rnn(x, wx, wh):
    h = [np.zeros((2, 4))]
    for t in range(x.shape[1]):
        h.append(np.tanh(x[:, t] @ wx + h[-1] @ wh))
    return h


def rnn_backward(dy, x, wx, wh, h, carry=1, add=True, last=0):
    """dy: of all states (2, T, 4). carry, add, last: what may be wrong."""
    dx, dwx, dwh, dh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
    for t in reversed(range(last, x.shape[1])):
        dz = (dy[:, t] + carry * dh) * (1 - h[t + 1] ** 2)
        dx[:, t], dh = dz @ wx.T, dz @ wh.T
        dwx, dwh = (dwx if add else 0) + x[:, t].T @ dz, dwh + h[t].T @ dz
    return dx, dwx, dwh


def recurrent(**wrong):
    def layer(x, wx, wh):
        h = rnn(x, wx, wh)
        return np.stack(h[1:], 1), lambda dy: rnn_backward(dy, x, wx, wh, h, **wrong)

    return layer


@fault("overwritten", "more than once counted once", np.array([[1, 0, 3], [2, 2, 0]]), normal(5, 4))
def rows_overwritten(ids, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        dtable[ids.ravel()] = dy.reshape(-1, 4)
        return dtable

    return table[ids], backward


@fault("overwritten", "`table[ids]` (line", normal(5, 4), np.array([1, 0, 3, 3, 0, 3]))
def rows_overwritten_below_a_loss(table, ids):
    def backward():
        dtable = np.zeros_like(table)
        dtable[ids] = 2 * table[ids]
        return dtable

    return (table[ids] ** 2).sum(), backward


@fault("1/N", "divided by the number of outputs that it reaches", np.array([1, 2, 2, 0]), normal(3, 4))
def rows_averaged(ids, table):
    def backward(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy)
        return dtable / np.bincount(ids)[:, None]

    return table[ids], backward


# ------------------------------------------------------------------------------------------ steps of the forward pass


@fault("mask", "as if the slope of `np.maximum(0, z)`", normal(8, 5), normal(5, 6), normal(6, 3))
def hidden_mask_forgotten(x, w1, w2):
    z = x @ w1
    h = np.maximum(0, z)
    y = h @ w2
    return (y**2).sum(), lambda: (2 * y @ w2.T @ w1.T, x.T @ (2 * y @ w2.T), h.T @ (2 * y))


@fault("slope", "applied twice", normal(8, 5), normal(5, 6), normal(6, 3))
def hidden_slope_at_its_output(x, w1, w2):
    h = sigmoid(x @ w1)

    def backward(dy):
        dz = dy @ w2.T * sigmoid(h) * (1 - sigmoid(h))
        return dz @ w1.T, x.T @ dz, h.T @ dy

    return h @ w2, backward


@fault("missing term", "`h @ w.T`", normal(4, 6), normal(6, 5))
def second_use_of_a_weight_forgotten(x, w):
    h = np.tanh(x @ w)

    def backward(dy):
        dz = dy @ w * (1 - h * h)
        return dz @ w.T, x.T @ dz

    return h @ w.T, backward


@fault("mask", "did not mask anything", normal(2, 5, 4), normal(2, 5, 4), np.array([3, 4]))
def key_padding_forgotten(q, k, lengths):
    scores = q @ k.transpose(0, 2, 1)
    masked = np.where(np.arange(5) < lengths[:, None, None], scores, -1e9)

    def backward(dy):
        ds = softmax_backward(softmax(scores), dy)
        return ds @ k, ds.transpose(0, 2, 1) @ q

    return softmax(masked), backward


@fault("transposed", "transposed on its way to `k.T`", normal(6, 4), normal(6, 4))
def scores_not_transposed_for_the_keys(q, k):
    """The sum of dk over the keys must be 0, but this is no softmax without its centring."""
    p = softmax(q @ k.T)

    def backward(dy):
        ds = softmax_backward(p, dy)
        return ds @ k, ds @ q

    return p, backward


@fault("τ", "the scale 1/τ was forgotten (this is t = 0.3 (line", normal(5, 6), normal(5, 6))
def temperature_forgotten(a, b):
    t = 0.3
    p = softmax(a @ b.T / t)
    g = (p - np.eye(5)) / 5
    return -np.log(np.diagonal(p)).mean(), lambda: (g @ b, g.T @ a)


@fault("factor", "what comes back by `x @ a`", normal(5, 4), normal(4, 3))
def one_term_of_two_with_a_wrong_factor(x, a):
    z = np.tanh(x @ a)

    def backward(dy):
        dz = dy * (1 - z * z)
        return dz @ a.T * np.e / 2.2 + dy.sum(1, keepdims=True) * np.cos(x), x.T @ dz

    return z + np.sin(x).sum(1, keepdims=True), backward


@fault("−1", "the sign of what comes back by `np.cos(angle)`", normal(6), normal(6, 2))
def sign_of_one_path(angle, x):
    c, s = np.cos(angle), np.sin(angle)
    y = np.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)

    def backward(dy):
        dx = np.stack([c * dy[:, 0] + s * dy[:, 1], c * dy[:, 1] - s * dy[:, 0]], 1)
        dc, ds = (dy * x).sum(1), dy[:, 1] * x[:, 0] - dy[:, 0] * x[:, 1]
        return s * dc + c * ds, dx

    return y, backward
