"""Faults to examine with: attention, shared and normalised weights, clipping."""

import numpy as np
from bank_fault import booleans, new_bank, scaled, softmax, softmax_back

FAULTS, fault = new_bank()


@fault("attention", "k", "divided by d for sqrt(d)", "sqrt, factor", q=(2, 6, 7), k=(2, 4, 7), v=(2, 4, 3))
def attention_scale_d(wrong, q, k, v):
    d = q.shape[-1]
    p = softmax(q @ k.swapaxes(1, 2) / np.sqrt(d))

    def backward(dy):
        ds = softmax_back(p, dy @ v.swapaxes(1, 2))
        return ds @ k / np.sqrt(d), ds.swapaxes(1, 2) @ q / (d if wrong else np.sqrt(d)), p.swapaxes(1, 2) @ dy

    return p @ v, backward


@fault(
    "attention",
    "scores",
    "the causal mask comes after the softmax, and not in the backward",
    "mask",
    scores=(3, 5, 5),
    v=(3, 5, 4),
)
def causal_mask_after_softmax(wrong, scores, v):
    p, past = softmax(scores), np.tril(np.ones((5, 5)))
    masked = p * past

    def backward(dy):
        dp = dy @ v.swapaxes(1, 2)
        return softmax_back(p, dp if wrong else dp * past), masked.swapaxes(1, 2) @ dy

    return masked @ v, backward


@fault("attention", "x", "turned on by the angle, not back", "-1, transposed, permuted", x=(3, 6, 8))
def rotary_turned_on(wrong, x):
    angle = np.outer(np.arange(6), 10.0 ** -np.arange(4))
    cos, sin = np.cos(angle), np.sin(angle)

    def rotate(v, sign):
        even, odd = v[..., ::2], v[..., 1::2]
        return np.stack([even * cos - sign * odd * sin, sign * even * sin + odd * cos], -1).reshape(v.shape)

    return rotate(x, 1), lambda dy: (rotate(dy, 1 if wrong else -1),)


@fault(
    "attention",
    "x, w",
    "heads (N, H, T, d) joined with no transpose, before the projection's backward",
    "permuted",
    x=(2, 5, 4),
    w=(4, 6),
    bias=(5, 5),
)
def heads_joined_without_transpose(wrong, x, w, bias):
    heads = (x @ w).reshape(2, 5, 3, 2).transpose(0, 2, 1, 3)
    p = softmax(bias)

    def backward(dy):
        dheads = p.T @ dy.reshape(2, 5, 3, 2).transpose(0, 2, 1, 3)
        dz = (dheads if wrong else dheads.transpose(0, 2, 1, 3)).reshape(2, 5, 6)
        dp = np.einsum("nthd,nhsd->ts", dy.reshape(2, 5, 3, 2), heads)
        return dz @ w.T, np.tensordot(x, dz, ([0, 1], [0, 1])), softmax_back(p, dp)

    return (p @ heads).transpose(0, 2, 1, 3).reshape(2, 5, 6), backward


@fault("tied weights", "w", "the decoder's path forgotten", "one-sided, missing term", x=(8, 6), w=(6, 4))
def autoencoder_encoder_only(wrong, x, w):
    h = np.tanh(x @ w)
    r = h @ w.T

    def backward(dy):
        dz = (dy @ w) * (1 - h * h)
        return dz @ w.T, x.T @ dz + (0 if wrong else dy.T @ h)

    return r, backward


@fault("weight norm", "g", "the direction not of unit length", "factor, missing term", x=(5, 6), v=(3, 6), g=(3,))
def weight_norm_direction_not_unit(wrong, x, v, g):
    r = np.sqrt((v * v).sum(1, keepdims=True))
    w = g[:, None] * v / r

    def backward(dy):
        dw = dy.T @ x
        dg = (dw * v / r).sum(1)
        dv = g[:, None] / r * dw - g[:, None] * dg[:, None] * v / r**2
        return dy @ w, dv, (dw * v).sum(1) if wrong else dg

    return x @ w.T, backward


@fault(
    "clipping",
    "x, w",
    "the gradient's length is limited inside the backward",
    "clip, factor",
    x=scaled(2, 10, 4),
    w=(4, 6),
)
def gradient_length_limited(wrong, x, w):
    def backward(dy):
        dx, dw = dy @ w.T, x.T @ dy
        length = np.sqrt((dx**2).sum() + (dw**2).sum())
        limit = min(1, 5 / length) if wrong else 1
        return dx * limit, dw * limit

    return x @ w, backward


@fault(
    "clipping",
    "x",
    "the running mean is detached, but the forward depends on it",
    "clip, missing term, centring",
    x=(6, 4),
    keep=booleans((6, 4), 0.8),
)
def detached_mean(wrong, x, keep):
    mean = x.mean(0)

    def backward(dy):
        dx = dy * keep * mean
        return (dx + (0 if wrong else (dy * keep * x).mean(0)),)

    return keep * x * mean, backward
