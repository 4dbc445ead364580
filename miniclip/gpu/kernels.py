"""Fused CuPy twins of the hot layers.

A twin has the name, the arguments and the results of the function that it stands in for, and does on the
graphics card in one kernel or two what that function does in ten. `has_twin` chooses between them by the
array: the teaching code stays plain mathematics, and the mathematics is the twin's specification.

    @has_twin
    def layer_norm(x, weight, bias, eps=1e-5): ...

The kernels themselves are in kernels.cu. Half-precision numbers are read and written as such and computed
with as float32. CuPy compiles on first use, and remembers what it compiled on disk.
"""

import functools
from pathlib import Path

import numpy as np

from ..backend import array_module

C_TYPES = {"float32": "float", "float64": "double", "float16": "Half", "bfloat16": "Bfloat16"}
KINDS = ("weight", "vector", "statistic")  # of the numbers that `adamw` updates, as its `kind` says them
OF_ONE_TYPE = (
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_columns",
    "add_chunks",
    "attention_weights",
    "attention_weights_backward",
    "quick_gelu",
    "quick_gelu_backward",
    "add_bias",
    "l2_normalize",
    "l2_normalize_backward",
    "row_log_sums",
    "column_log_sums",
    "join_log_sums",
    "contrastive_loss",
    "contrastive_gradient",
)


def has_twin(plain):
    """The function that calls the twin of `plain` for CuPy arrays of one real dtype, and `plain` for all else.

    The first argument decides; an empty array goes to `plain`. Raises KeyError when there is no twin of that name.
    """
    twin = globals()[plain.__name__]

    @functools.wraps(plain)
    def either(*args, **named):
        x = args[0] if args else next(iter(named.values()), None)
        if type(x) is np.ndarray or not _fits(x, (*args, *named.values())):
            return plain(*args, **named)
        return twin(*args, **named)

    return either


def _fits(x, args):
    """Whether x is a CuPy array that the kernels can read, and the other arrays are of its dtype."""
    return (
        array_module(x) is not np
        and x.dtype.name in C_TYPES
        and x.size > 0
        and all(arg.dtype == x.dtype for arg in args if isinstance(arg, type(x)))
    )


def layer_norm(x, weight, bias, eps=1e-5):
    """As layers.layer_norm. x (..., D), weight and bias (D,) -> y (..., D)."""
    run, xp, real = _runner(x)
    x, weight, bias = _contiguous(x.dtype, x, weight, bias)
    rows, width = _rows(x)
    y, means, inverses = xp.empty(x.shape, x.dtype), xp.empty(rows, real), xp.empty(rows, real)
    run(
        "layer_norm",
        *_by_row(rows),
        x,
        weight,
        bias,
        y,
        means,
        inverses,
        np.int64(rows),
        np.int32(width),
        real.type(eps),
    )

    def backward(dy):
        (dy,) = _contiguous(x.dtype, dy)
        dx, dweight, dbias = (xp.empty(shape, x.dtype) for shape in (x.shape, width, width))
        run("layer_norm_backward", *_by_row(rows), x, weight, dy, means, inverses, dx, np.int64(rows), np.int32(width))
        chunks, chunk = _chunks(rows)
        sums = xp.empty((2, chunks, width), real)
        run(
            "layer_norm_columns",
            *_by_column(width, chunks),
            x,
            dy,
            means,
            inverses,
            sums[0],
            sums[1],
            np.int64(rows),
            np.int32(width),
            np.int64(chunk),
        )
        for parts, total in zip(sums, (dweight, dbias)):
            run("add_chunks", *_by_column(width, 1), parts, total, np.int32(chunks), np.int32(width))
        return dx, {"weight": dweight, "bias": dbias}

    return y, backward


def attention_weights(scores, scale, mask=None):
    """As attention.attention_weights: softmax(scale · scores + mask) over the last axis.

    scores (..., A, T), scale a number, mask (A, T) or one for each of the first axis, or None -> weights (..., A, T).
    """
    run, xp, real = _runner(scores)
    (scores,) = _contiguous(scores.dtype, scores)
    rows, width = _rows(scores)
    mask, shared = (scores, 0) if mask is None else _mask_rows(xp, scores, mask)
    weights = xp.empty(scores.shape, scores.dtype)
    run(
        "attention_weights",
        *_by_row(rows),
        scores,
        mask,
        weights,
        np.int64(rows),
        np.int32(width),
        real.type(scale),
        np.int64(shared),
        np.int64(scores.shape[-2]),
    )

    def backward(dweights):
        (dweights,) = _contiguous(weights.dtype, dweights)
        dscores = xp.empty(weights.shape, weights.dtype)
        run(
            "attention_weights_backward",
            *_by_row(rows),
            weights,
            dweights,
            dscores,
            np.int64(rows),
            np.int32(width),
            real.type(scale),
        )
        return dscores

    return weights, backward


def _mask_rows(xp, scores, mask):
    """The masks as contiguous (…, A, T), and how many rows of the scores in a run have the same one."""
    *axes, _, _ = (1,) * (scores.ndim - mask.ndim) + mask.shape
    if any(length > 1 for length in axes[1:]):  # not one mask, nor one for each of the first axis
        axes = scores.shape[:-2]
    (mask,) = _contiguous(scores.dtype, xp.broadcast_to(mask, (*axes, *scores.shape[-2:])))
    return mask, scores.size // max(1, mask.size) * scores.shape[-2]


def quick_gelu(x):
    """As layers.quick_gelu: y = x σ(1.702 x). x any shape."""
    run, xp, _ = _runner(x)
    (x,) = _contiguous(x.dtype, x)
    y = xp.empty(x.shape, x.dtype)
    run("quick_gelu", *_by_element(x.size), x, y, np.int64(x.size))

    def backward(dy):
        (dy,) = _contiguous(x.dtype, dy)
        dx = xp.empty(x.shape, x.dtype)
        run("quick_gelu_backward", *_by_element(x.size), x, dy, dx, np.int64(x.size))
        return dx

    return y, backward


def add_bias(y, bias):
    """y += bias over the rows, in place; returns y. y (..., M), bias (M,)."""
    if not y.flags.c_contiguous:
        y += bias
        return y
    run, xp, _ = _runner(y)
    (bias,) = _contiguous(y.dtype, bias)
    rows, width = _rows(y)
    run("add_bias", *_by_row(rows), y, bias, np.int64(rows), np.int32(width))
    return y


def l2_normalize(x, eps=1e-12):
    """As layers.l2_normalize: y = x / |x|. x (..., E). A row of zeros stays zeros."""
    run, xp, real = _runner(x)
    (x,) = _contiguous(x.dtype, x)
    rows, width = _rows(x)
    y, lengths = xp.empty(x.shape, x.dtype), xp.empty(rows, real)
    run("l2_normalize", *_by_row(rows), x, y, lengths, np.int64(rows), np.int32(width), real.type(eps))

    def backward(dy):
        (dy,) = _contiguous(x.dtype, dy)
        dx = xp.empty(x.shape, x.dtype)
        run("l2_normalize_backward", *_by_row(rows), x, dy, lengths, dx, np.int64(rows), np.int32(width))
        return dx

    return y, backward


def symmetric_cross_entropy(similarity):
    """As loss.symmetric_cross_entropy. similarity (N, N) -> L (); backward() -> G (N, N)."""
    run, xp, real = _runner(similarity)
    (s,) = _contiguous(similarity.dtype, similarity)
    n = len(s)
    rows, columns, loss = xp.empty((2, n), real), xp.empty((2, n), real), xp.empty((), s.dtype)
    run("row_log_sums", *_by_row(n), s, rows[0], rows[1], np.int32(n))
    chunks, chunk = _chunks(n)
    parts = xp.empty((2, chunks, n), real)
    run("column_log_sums", *_by_column(n, chunks), s, parts[0], parts[1], np.int32(n), np.int64(chunk))
    run("join_log_sums", (-(-n // 256),), (256,), *parts, *columns, np.int32(chunks), np.int32(n))
    run("contrastive_loss", (1,), (32, 8), s, *rows, *columns, loss, np.int32(n))

    def backward():
        g = xp.empty(s.shape, s.dtype)
        run("contrastive_gradient", *_by_row(n), s, *rows, *columns, g, np.int32(n))
        return g

    return loss, backward


def adamw(
    theta,
    gradient,
    m,
    v,
    average,
    kind,
    shrink,
    finite,
    *,
    lr,
    beta1,
    beta2,
    eps,
    weight_decay,
    step_size,
    correction,
    follow,
    statistic_rate,
):
    """The update of optim.AdamW.step over whole vectors, in place, in one launch and without waiting for the card.

    theta, m, v, average (P,) float32 or float64, where average may be theta with follow = 1; gradient (P,) of that
    dtype or a half type; kind (P,) uint8, places in `KINDS`; shrink (): the factor of clipping; finite () bool: where
    False nothing changes; the rest numbers as `step` computes them. Raises ValueError when the vectors are not of
    one length, each without gaps in memory.
    """
    vectors = (theta, gradient, m, v, average, kind)
    if any(a.shape != theta.shape or not a.flags.c_contiguous for a in vectors):
        raise ValueError(f"AdamW needs vectors of one length without gaps, not {[a.shape for a in vectors]}.")
    run, _, real = _runner(theta)
    numbers = (
        beta1,
        1 - beta1,
        beta2,
        (1 - beta2) / (1 - beta1) ** 2,
        correction,
        eps,
        step_size,
        1 - lr * weight_decay,
        follow,
        statistic_rate,
    )
    run(
        "adamw",
        *_by_element(theta.size),
        *vectors,
        *_contiguous(real, shrink),
        *_contiguous(bool, finite),
        np.int64(theta.size),
        *map(real.type, numbers),
        types=(theta.dtype, gradient.dtype),
    )


# ------------------------------------------------------------------------------------------ launching


def _by_row(rows):
    """Grid and block: one warp a row, eight rows a block."""
    return (-(-rows // 8),), (32, 8)


def _by_column(width, chunks):
    """Grid and block: 32 columns and one chunk of the rows a block."""
    return (-(-width // 32), chunks), (32, 8)


def _by_element(size):
    """Grid and block: 256 numbers a block at a time; a long vector is gone over in strides."""
    return (min(-(-size // 256), 1 << 16),), (256,)


def _chunks(rows):
    """Into how many chunks rows are cut, and the rows of each: a matter of the shape alone, so sums are too."""
    chunk = max(64, -(-rows // 128))
    return -(-rows // chunk), chunk


def _rows(x):
    width = x.shape[-1]
    return x.size // width if width else 0, width


def _contiguous(dtype, *arrays):
    return [a if a.flags.c_contiguous and a.dtype == dtype else a.astype(dtype, order="C") for a in arrays]


def _runner(x):
    """What launches kernels of x's dtype; x's library; the dtype that its numbers are computed in."""
    xp = array_module(x)

    def run(name, grid, block, *args, types=(x.dtype,)):
        if min(grid) > 0:  # CuPy would take a grid of 0 for one of 1
            types = tuple(C_TYPES[dtype.name] for dtype in types)
            _kernel(xp, name, types)(grid, block, args)

    return run, xp, np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


@functools.cache
def _kernel(xp, name, types):
    return _module(xp, types).get_function(f"{name}<{', '.join(types)}>")


@functools.cache
def _module(xp, types):
    # One for each dtype in use: nobody waits for the compilation of what is not. CuPy loads it on each device.
    return xp.RawModule(
        code=(Path(__file__).with_suffix(".cu")).read_text(encoding="utf-8"),
        options=("--std=c++17",),
        name_expressions=names_of(types),
    )


def names_of(types):
    """The C++ names of all kernels of these C types: of one, or of AdamW's parameters and gradient."""
    return [f"{name}<{', '.join(types)}>" for name in (OF_ONE_TYPE if len(types) == 1 else ("adamw",))]
