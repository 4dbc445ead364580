"""Faults to develop with: attention, shared and normalised weights, clipping."""

import numpy as np
from bank_fault import integers, new_bank, scaled, softmax, softmax_back

FAULTS, fault = new_bank()


@fault("attention", "q, k", "1 / sqrt(d) forgotten", "sqrt", q=(2, 4, 5), k=(2, 6, 5), v=(2, 6, 3))
def attention_scale_forgotten(wrong, q, k, v):
    scale = 1 / np.sqrt(q.shape[-1])
    p = softmax(q @ k.swapaxes(1, 2) * scale)

    def backward(dy):
        ds = softmax_back(p, dy @ v.swapaxes(1, 2)) * (1 if wrong else scale)
        return ds @ k, ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dy

    return p @ v, backward


@fault("attention", "k", "dK = dS Q, with dS not transposed", "transposed", q=(6, 4), k=(6, 4), v=(6, 4))
def attention_ds_not_transposed(wrong, q, k, v):
    p = softmax(q @ k.T / 2)

    def backward(dy):
        ds = softmax_back(p, dy @ v.T) / 2
        return ds @ k, (ds if wrong else ds.T) @ q, p.T @ dy

    return p @ v, backward


@fault(
    "attention", "v", "heads put back by reshape alone, with no transpose", "permuted", v=(2, 5, 12), bias=(2, 3, 5, 5)
)
def heads_reshaped_only(wrong, v, bias):
    heads = v.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
    p = softmax(bias)

    def backward(dy):
        dout = dy.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
        dheads = p.swapaxes(2, 3) @ dout
        dv = dheads.reshape(v.shape) if wrong else dheads.transpose(0, 2, 1, 3).reshape(v.shape)
        return dv, softmax_back(p, dout @ heads.swapaxes(2, 3))

    return (p @ heads).transpose(0, 2, 1, 3).reshape(v.shape), backward


@fault(
    "attention", "scores, v", "the causal mask of the backward is the other triangle", "mask", scores=(6, 6), v=(6, 4)
)
def causal_mask_other_triangle(wrong, scores, v):
    future = np.triu(np.ones((6, 6), bool), 1)
    p = softmax(np.where(future, -np.inf, scores))

    def backward(dy):
        p_masked = np.where(future.T, 0, p) if wrong else p
        ds = softmax_back(p, dy @ v.T)
        return np.where(future.T if wrong else future, 0, ds), p_masked.T @ dy

    return p @ v, backward


@fault("attention", "x", "only the path through the queries", "missing term", x=(5, 6), wq=(6, 4), wk=(6, 4))
def self_attention_query_path(wrong, x, wq, wk):
    q, k = x @ wq, x @ wk
    p = softmax(q @ k.T / 2)

    def backward(dy):
        ds = softmax_back(p, dy @ x.T) / 2
        dq, dk = ds @ k, ds.T @ q
        return dq @ wq.T + (0 if wrong else dk @ wk.T + p.T @ dy), x.T @ dq, x.T @ dk

    return p @ x, backward


@fault(
    "tied weights",
    "e",
    "the embedding's part of a tied table forgotten",
    "missing term, one-sided",
    ids=integers((8,), 9),
    e=(9, 4),
)
def tied_table_output_only(wrong, ids, e):
    h = np.tanh(e[ids])

    def backward(dy):
        de = dy.T @ h
        if not wrong:
            np.add.at(de, ids, (dy @ e) * (1 - h * h))
        return (de,)

    return h @ e.T, backward


@fault(
    "tied weights",
    "w",
    "= for += over the layers that share w",
    "overwritten, missing term, time step",
    x=(6, 5),
    w=(5, 5),
)
def shared_layers_first_only(wrong, x, w):
    h = [x]
    for _ in range(3):
        h.append(np.tanh(h[-1] @ w))

    def backward(dy):
        dw = np.zeros_like(w)
        for layer in (2, 1, 0):
            dz = dy * (1 - h[layer + 1] ** 2)
            dw = h[layer].T @ dz if wrong else dw + h[layer].T @ dz
            dy = dz @ w.T
        return dy, dw

    return h[3], backward


@fault("weight norm", "v", "the projection of v's gradient forgotten", "projection", x=(30, 40), v=(20, 40), g=(20,))
def weight_norm_without_projection(wrong, x, v, g):
    r = np.linalg.norm(v, axis=1, keepdims=True)
    unit = v / r
    w = g[:, None] * unit

    def backward(dy):
        dw = dy.T @ x
        dg = (dw * unit).sum(1)
        dv = g[:, None] / r * (dw - (0 if wrong else unit * dg[:, None]))
        return dy @ w, dv, dg

    return x @ w.T, backward


@fault(
    "spectral norm",
    "w",
    "the largest singular value taken for a constant",
    "projection, missing term",
    x=(7, 5),
    w=(5, 4),
)
def spectral_norm_constant(wrong, x, w):
    u, s, vt = np.linalg.svd(w)
    scaled_w = w / s[0]

    def backward(dy):
        dw = x.T @ dy
        second = (dw * scaled_w).sum() * np.outer(u[:, 0], vt[0])
        return dy @ scaled_w.T, (dw - (0 if wrong else second)) / s[0]

    return x @ scaled_w, backward


@fault("clipping", "w", "the gradient is clipped inside the backward", "clip", x=scaled(2, 9, 5), w=(5, 3))
def gradient_clipped_inside(wrong, x, w):
    def backward(dy):
        dw = x.T @ dy
        return dy @ w.T, np.clip(dw, -1, 1) if wrong else dw

    return x @ w, backward
