"""Kernels for attention.py: the softmax and its mask in one launch, the heads multiplied where they lie."""

import numpy as np

from .. import attention as core
from ..attention import split_heads
from ..backend import array_module
from .launch import by_row, contiguous, launcher, rows_of
from .matmul import matmul


def attend_heads(qkv, heads, mask=None):
    """As attention.attend_heads: qkv (N, T, 3D) -> (N, T, D); each head writes into its place, nothing is copied."""
    xp, (q, k, v) = array_module(qkv), split_heads(qkv, 3, heads)
    weights, softmax_ = core.attention_weights(matmul(q, k.swapaxes(-1, -2)), q.shape[-1] ** -0.5, mask)
    y = xp.empty((*qkv.shape[:2], qkv.shape[2] // 3), qkv.dtype)
    matmul(weights, v, split_heads(y, 1, heads)[0])

    def backward(dy):
        (dy,), dqkv = split_heads(dy, 1, heads), xp.empty(qkv.shape, dy.dtype)
        dq, dk, dv = split_heads(dqkv, 3, heads)
        dscores = softmax_(matmul(dy, v.swapaxes(-1, -2)))
        matmul(dscores, k, dq)
        matmul(dscores.swapaxes(-1, -2), q, dk)
        matmul(weights.swapaxes(-1, -2), dy, dv)
        return dqkv

    return y, backward


def attention_weights(scores, scale, mask=None):
    """As attention.attention_weights: softmax(scale · scores + mask) over the last axis.

    scores (..., A, T), scale a number, mask (A, T) or one for each of the first axis, or None -> weights (..., A, T).
    """
    launch, xp, real = launcher("attention", scores)
    (scores,) = contiguous(scores.dtype, scores)
    rows, width = rows_of(scores)
    size = np.int64(rows), np.int32(width), real.type(scale)
    mask, shared = (scores, 0) if mask is None else mask_rows(xp, scores, mask)
    weights = xp.empty(scores.shape, scores.dtype)
    asking = np.int64(shared), np.int64(scores.shape[-2])
    launch("attention_weights", *by_row(rows), scores, mask, weights, *size, *asking)

    def backward(dweights):
        (dweights,) = contiguous(weights.dtype, dweights)
        dscores = xp.empty(weights.shape, weights.dtype)
        launch("attention_weights_backward", *by_row(rows), weights, dweights, dscores, *size)
        return dscores

    return weights, backward


def mask_rows(xp, scores, mask):
    """The masks as contiguous (…, A, T), and how many rows of the scores in a run have the same one."""
    *axes, _, _ = (1,) * (scores.ndim - mask.ndim) + mask.shape
    if any(length > 1 for length in axes[1:]):  # not one mask, nor one for each of the first axis
        axes = scores.shape[:-2]
    (mask,) = contiguous(scores.dtype, xp.broadcast_to(mask, (*axes, *scores.shape[-2:])))
    return mask, scores.size // max(1, mask.size) * scores.shape[-2]
