"""Kernels for layers.py: each has the arguments and the results of the function it stands in for.

The core's function is plain mathematics and takes ten launches; its kernel takes one or two. Half-precision numbers
are read and written as such and computed with as float32.
"""

import numpy as np

from ..backend import array_module
from .launch import by_column, by_element, by_row, chunks_of, contiguous, launcher, rows_of


def layer_norm(x, weight, bias, eps=1e-5):
    """As layers.layer_norm. x (..., D), weight and bias (D,) -> y (..., D)."""
    launch, xp, real = launcher("layers", x)
    x, weight, bias = contiguous(x.dtype, x, weight, bias)
    rows, width = rows_of(x)
    size = np.int64(rows), np.int32(width)
    y, means, inverses = xp.empty(x.shape, x.dtype), xp.empty(rows, real), xp.empty(rows, real)
    launch("layer_norm", *by_row(rows), x, weight, bias, y, means, inverses, *size, real.type(eps))

    def backward(dy):
        (dy,) = contiguous(x.dtype, dy)
        dx, dweight, dbias = (xp.empty(shape, x.dtype) for shape in (x.shape, width, width))
        launch("layer_norm_backward", *by_row(rows), x, weight, dy, means, inverses, dx, *size)
        chunks, chunk = chunks_of(rows)
        sums = xp.empty((2, chunks, width), real)
        columns = by_column(width, chunks)
        launch("layer_norm_columns", *columns, x, dy, means, inverses, sums[0], sums[1], *size, np.int64(chunk))
        for parts, total in zip(sums, (dweight, dbias)):
            launch("add_chunks", *by_column(width, 1), parts, total, np.int32(chunks), np.int32(width))
        return dx, {"weight": dweight, "bias": dbias}

    return y, backward


def quick_gelu(x):
    """As layers.quick_gelu: y = x σ(1.702 x). x any shape."""
    launch, xp, _ = launcher("layers", x)
    (x,) = contiguous(x.dtype, x)
    y = xp.empty(x.shape, x.dtype)
    launch("quick_gelu", *by_element(x.size), x, y, np.int64(x.size))

    def backward(dy):
        (dy,) = contiguous(x.dtype, dy)
        dx = xp.empty(x.shape, x.dtype)
        launch("quick_gelu_backward", *by_element(x.size), x, dy, dx, np.int64(x.size))
        return dx

    return y, backward


def l2_normalize(x, eps=1e-12):
    """As layers.l2_normalize: y = x / |x|. x (..., E). A row of zeros stays zeros."""
    launch, xp, real = launcher("layers", x)
    (x,) = contiguous(x.dtype, x)
    rows, width = rows_of(x)
    size = np.int64(rows), np.int32(width)
    y, lengths = xp.empty(x.shape, x.dtype), xp.empty(rows, real)
    launch("l2_normalize", *by_row(rows), x, y, lengths, *size, real.type(eps))

    def backward(dy):
        (dy,) = contiguous(x.dtype, dy)
        dx = xp.empty(x.shape, x.dtype)
        launch("l2_normalize_backward", *by_row(rows), x, dy, lengths, dx, *size)
        return dx

    return y, backward


def sum_by_id(rows, ids, count):
    """As layers.sum_by_id, in float32 or more: CuPy's add.at has no bfloat16.   rows (R, D), ids (R,) -> (count, D)."""
    xp = array_module(rows)
    total = xp.zeros((count, rows.shape[1]), np.promote_types(rows.dtype, np.float32))
    xp.add.at(total, ids, rows)
    return total.astype(rows.dtype, copy=False)


def sum_rows(rows):
    """As layers.sum_rows, as a product with ones: CuPy's own sum over rows takes many times as long."""
    return array_module(rows).ones(len(rows), rows.dtype) @ rows


def add_bias(y, bias):
    """As layers.add_bias."""
    if not y.flags.c_contiguous:
        y += bias
        return y
    launch, _, _ = launcher("layers", y)
    (bias,) = contiguous(y.dtype, bias)
    rows, width = rows_of(y)
    launch("add_bias", *by_row(rows), y, bias, np.int64(rows), np.int32(width))
    return y
