"""Layers: functions that return their output and their own backward.

    y, backward = layer(x, weight, ...)
    dx, {"weight": dweight, ...} = backward(dy)

Forward and backward stand in one scope: a name means the same in both, and what the backward needs it simply
remembers. dy is the gradient of some scalar loss with respect to y; a layer never writes into an array that it
was given. Every dtype stays what it was: float32, float64, and complex, so that a derivative can be read off an
imaginary step (see gradcheck/). What stands in @takes is checked by checks.py.
"""

import math

import numpy as np

from .backend import array_module, dispatch
from .checks import takes
from .erf import erf


@takes("x (..., K), weight (M, K), bias (M)")
def linear(x, weight, bias=None):
    """y (..., M) = x Wᵀ + b."""
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

    return y.reshape(*x.shape[:-1], len(weight)), backward


@dispatch
def add_bias(y, bias):
    """y + b, in the memory of y unless b alone is complex.   y (R, M), bias (M,) -> y."""
    if bias.dtype.kind == "c" != y.dtype.kind:  # a complex step of the bias
        return y + bias
    y += bias
    return y


@dispatch
def sum_rows(rows):
    """Σ over the rows of (R, M) -> (M,)."""
    return rows.sum(0)


@takes("ids (...) int, weight (V, D)")
def embedding(ids, weight):
    """y (..., D) = W[ids].

    ids: 0..V-1, of NumPy or of the weight's library. Backward gives {"weight": (V, D)}. Raises ValueError on an id
    outside the table (CuPy would wrap it around in silence; ids that are on the card already are not looked at).
    """
    if array_module(ids) is np and ids.size and (ids.min() < 0 or ids.max() >= len(weight)):
        raise ValueError(
            f"token ids {ids.min()}..{ids.max()} do not fit a table of {len(weight)} rows: "
            "this tokenizer does not belong to this model."
        )
    ids = array_module(weight).asarray(ids)

    def backward(dy):
        return {"weight": sum_by_id(dy.reshape(-1, dy.shape[-1]), ids.reshape(-1), len(weight))}

    return weight[ids], backward


@dispatch
def sum_by_id(rows, ids, count):
    """The sum of the rows of each id.   rows (R, D), ids (R,) in 0..count-1 -> (count, D)."""
    total = np.zeros((count, rows.shape[1]), rows.dtype)
    np.add.at(total, ids, rows)
    return total


@takes("x (..., D), weight (D), bias (D), eps ()")
@dispatch
def layer_norm(x, weight, bias, eps=1e-5):
    """y = γ x̂ + β with x̂ = (x − mean) / √(variance + ε), over the last axis (Ba et al. 2016). weight γ, bias β."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / array_module(x).sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    normalised = centred * inverse
    y = normalised * weight + bias

    def backward(dy):
        # Normalising removed the mean of x and its component along x̂: so it does to dy γ.
        along, width = dy * normalised, dy.shape[-1]
        dx = dy * weight
        dx -= ((dy @ weight) / width)[..., None]
        dx -= normalised * ((along @ weight) / width)[..., None]
        dx *= inverse
        rows = tuple(range(dy.ndim - 1))
        return dx, {"weight": along.sum(rows), "bias": dy.sum(rows)}

    return y, backward


@takes("x (...)")
def relu(x):
    """y = max(x, 0)."""
    y = array_module(x).maximum(x, 0)

    def backward(dy):
        return dy * (y > 0)

    return y, backward


@takes("x (...)")
@dispatch
def quick_gelu(x):
    """y = x σ(1.702 x), the activation of OpenAI's models."""
    sigmoid = array_module(x).tanh(0.851 * x)  # σ(a) = (1 + tanh(a/2)) / 2 overflows at neither end
    sigmoid += 1
    sigmoid *= 0.5
    y = x * sigmoid

    def backward(dy):
        d = 1 - sigmoid  # dy (σ + 1.702 y (1 − σ)), step by step in one array: a seventh of the memory
        d *= y
        d *= 1.702
        d += sigmoid
        d *= dy
        return d

    return y, backward


@takes("x (...)")
@dispatch
def gelu(x):
    """y = x Φ(x), Φ the normal distribution (Hendrycks & Gimpel 2016), exact.

    Not `quick_gelu`: a model trained with one is silently wrong with the other.
    """
    cdf = 0.5 * (1 + erf(x * math.sqrt(0.5)))

    def backward(dy):
        density = array_module(x).exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return dy * (cdf + x * density)

    return x * cdf, backward


@takes("x (...), axis of x")
def softmax(x, axis=-1):
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) along `axis`. −inf gives exactly 0."""
    xp = array_module(x)
    y = x - x.real.max(axis, keepdims=True)
    xp.exp(y, out=y)
    y *= 1 / y.sum(axis, keepdims=True)

    def backward(dy):
        d = dy * y
        d -= y * d.sum(axis, keepdims=True)
        return d

    return y, backward


@takes("x (..., E), eps ()")
@dispatch
def l2_normalize(x, eps=1e-12):
    """y = x / |x|, the rows put on the unit sphere, however long. A row of zeros stays zeros, as if its |x| were ε."""
    xp = array_module(x)
    # Divided by a power of two near its largest number, no bit of a row changes, and no square vanishes or overflows.
    largest = xp.maximum(x.real.max(-1, keepdims=True), -x.real.min(-1, keepdims=True))
    scale = xp.ldexp(xp.ones_like(largest), xp.frexp(largest)[1] - 1)
    scaled = x / scale
    length = xp.sqrt((scaled * scaled).sum(-1, keepdims=True))
    eps = max(eps, 2.0**-14) if x.dtype == np.float16 else eps  # 1e-12 is 0 there
    length = xp.where(largest == 0, 2 * eps, length)
    y = scaled / length

    def backward(dy):
        return (dy - y * (dy * y).sum(-1, keepdims=True)) / length / scale

    return y, backward
