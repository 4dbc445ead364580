"""Layers: functions that return their output and their own backward.

    y, backward = layer(x, weight, ...)
    dx, {"weight": dweight, ...} = backward(dy)

Forward and backward stand in one scope: a name means the same in both, and what the backward needs
it simply remembers. dy is the gradient of some scalar loss with respect to y; a layer never writes
into an array that it was given. Every dtype stays what it was: float32, float64, and complex, so
that a derivative can be read off an imaginary step (see gradcheck.py).
"""

import math

import numpy as np

from .backend import array_module
from .gpu.kernels import has_twin


def linear(x, weight, bias=None):
    """y = x Wᵀ + b.

    x (..., K), weight (M, K), bias (M,) or None -> y (..., M).
    """
    rows = x.reshape(-1, x.shape[-1])  # one large matrix product, never a batched one
    y = rows @ weight.T
    if bias is not None:
        y = add_bias(y, bias)

    def backward(dy):
        drows = dy.reshape(-1, dy.shape[-1])
        grads = {"weight": drows.T @ rows}
        if bias is not None:
            grads["bias"] = sum_rows(drows)
        return (drows @ weight).reshape(x.shape), grads

    return y.reshape(*x.shape[:-1], -1), backward


@has_twin
def add_bias(y, bias):
    """y + b over the rows, in the memory of y.   y (R, M), bias (M,) -> y."""
    y += bias
    return y


def sum_rows(rows):
    """Σ over the rows of (R, M) -> (M,), as a product with ones: three times faster than .sum(0)."""
    return array_module(rows).ones(len(rows), rows.dtype) @ rows


def sum_last(x):
    """Σ over the last axis, (..., D) -> (..., 1), as a product with ones: five times faster than .sum(-1)."""
    rows = x.reshape(-1, x.shape[-1])
    return (rows @ array_module(x).ones(x.shape[-1], x.dtype)).reshape(*x.shape[:-1], 1)


def mean_last(x):
    """The mean over the last axis, (..., D) -> (..., 1)."""
    return sum_last(x) / x.shape[-1]


def embedding(ids, weight):
    """y = W[ids].

    ids (...) integers in 0..V-1, of NumPy or of the weight's library; weight (V, D) -> y (..., D). Backward gives
    {"weight": (V, D)}. Raises ValueError on an id outside the table (CuPy would wrap it around in silence; ids that
    are on the graphics card already are not looked at).
    """
    xp = array_module(weight)
    if array_module(ids) is np and ids.size and (ids.min() < 0 or ids.max() >= len(weight)):
        raise ValueError(
            f"token ids {ids.min()}..{ids.max()} do not fit a table of {len(weight)} rows: "
            "this tokenizer does not belong to this model."
        )
    ids = xp.asarray(ids)

    def backward(dy):
        rows, flat = dy.reshape(-1, dy.shape[-1]), ids.reshape(-1)
        if xp is np:
            dweight = np.zeros_like(weight)
            # Rows of one id side by side, then one sum each: five times faster than add.at.
            order = np.argsort(flat, kind="stable")
            used, starts = np.unique(flat[order], return_index=True)
            dweight[used] = np.add.reduceat(rows[order], starts)
        else:  # CuPy's add.at has no bfloat16
            total = xp.zeros(weight.shape, np.promote_types(weight.dtype, np.float32))
            xp.add.at(total, flat, rows)
            dweight = total.astype(weight.dtype, copy=False)
        return {"weight": dweight}

    return weight[ids], backward


@has_twin
def layer_norm(x, weight, bias, eps=1e-5):
    """y = γ x̂ + β with x̂ = (x − mean) / √(variance + ε), over the last axis (Ba et al. 2016).

    x (..., D), weight γ (D,), bias β (D,) -> y (..., D).
    """
    centred = x - mean_last(x)
    inverse = 1 / array_module(x).sqrt(mean_last(centred * centred) + eps)
    normalised = centred * inverse
    y = normalised * weight
    y += bias

    def backward(dy):
        d = dy * weight
        rows = dy.reshape(-1, dy.shape[-1])
        # Normalising removed the mean of x and its component along x̂: so it does to the gradient.
        dx = d - mean_last(d)
        dx -= normalised * mean_last(d * normalised)
        dx *= inverse
        return dx, {"weight": sum_rows(rows * normalised.reshape(rows.shape)), "bias": sum_rows(rows)}

    return y, backward


def relu(x):
    """y = max(x, 0). x any shape."""
    y = x * (x.real > 0) if x.dtype.kind == "c" else array_module(x).maximum(x, 0)

    def backward(dy):
        return dy * (y.real > 0)

    return y, backward


@has_twin
def quick_gelu(x):
    """y = x σ(1.702 x), the activation of OpenAI's models. x any shape."""
    xp = array_module(x)
    # σ(a) = (1 + tanh(a/2)) / 2 overflows at neither end.
    sigmoid = xp.tanh(0.851 * x)
    sigmoid += 1
    sigmoid *= 0.5
    y = x * sigmoid

    def backward(dy):
        d = 1 - sigmoid  # dy (σ + 1.702 y (1 − σ)), step by step in one array
        d *= y
        d *= 1.702
        d += sigmoid
        d *= dy
        return d

    return y, backward


def gelu(x):
    """y = x Φ(x), Φ the normal distribution (Hendrycks & Gimpel 2016), exact. x any shape.

    Not `quick_gelu`: a model trained with one is silently wrong with the other.
    """
    xp = array_module(x)
    cdf = (1 + erf(x * math.sqrt(0.5))) * 0.5

    def backward(dy):
        density = xp.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (dy * (cdf + x * density)).astype(dy.dtype, copy=False)

    return (x * cdf).astype(x.dtype, copy=False), backward  # times a Python float, a bfloat16 becomes a float32


_GRID = 128  # steps of the table per unit
_ERF = np.array([math.erf(i / _GRID) for i in range(-6 * _GRID, 6 * _GRID + 1)])


def erf(x):
    """The error function, to rounding in float64; NumPy has none.

    The nearest point a of a table and seven terms of Taylor's series: the derivatives of erf at a are
    2/√π·exp(−a²) times Hermite polynomials. Complex x is continued to first order in its imaginary
    part, which is what the complex step needs.
    """
    xp = array_module(x)
    if x.dtype.kind == "c":
        return erf(x.real) + 1j * x.imag * (2 / math.sqrt(math.pi)) * xp.exp(-x.real * x.real)
    near = xp.rint(xp.clip(x, -6, 6) * _GRID)
    a = near / _GRID
    t = xp.clip(x, -6, 6) - a
    h0, h1, series = xp.ones_like(a), 2 * a, t
    power = t
    for n in range(1, 7):  # H₍ₙ₊₁₎ = 2a Hₙ − 2n H₍ₙ₋₁₎
        power = power * t * (-1 / (n + 1))
        series = series + power * h1
        h0, h1 = h1, 2 * a * h1 - 2 * n * h0
    index = xp.nan_to_num(near).astype(np.int64) + 6 * _GRID  # NaN stays NaN, by way of t
    table = xp.asarray(_ERF, x.dtype)[index]
    return table + (2 / math.sqrt(math.pi)) * xp.exp(-a * a) * series


def softmax(x, axis=-1):
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) along `axis`. −inf gives exactly 0. x any shape."""
    xp = array_module(x)
    last = axis in (-1, x.ndim - 1)

    def total(values):
        return sum_last(values) if last else values.sum(axis, keepdims=True)

    y = x - x.real.max(axis, keepdims=True)
    xp.exp(y, out=y)
    y *= 1 / total(y)

    def backward(dy):
        d = dy * y
        d -= y * total(d)
        return d

    return y, backward


@has_twin
def l2_normalize(x, eps=1e-12):
    """y = x / |x|, the rows put on the unit sphere. x (..., E). A row of zeros stays zeros."""
    xp = array_module(x)
    length = xp.sqrt((x * x).sum(-1, keepdims=True))
    length = xp.where(length.real < eps, length + eps, length)
    y = x / length

    def backward(dy):
        return (dy - y * (dy * y).sum(-1, keepdims=True)) / length

    return y, backward
