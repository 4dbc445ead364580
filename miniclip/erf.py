"""The error function, which NumPy lacks."""

import math

import numpy as np

from .backend import array_module

_GRID = 128  # steps of the table per unit
_ERF = np.array([math.erf(i / _GRID) for i in range(-6 * _GRID, 6 * _GRID + 1)])


def erf(x):
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt, to rounding in float64. x any shape.

    From the nearest point a of a table, seven terms of Taylor's series: the derivatives of erf at a are
    2/√π·exp(−a²) times Hermite polynomials. Complex x is continued to first order in its imaginary part, which
    is what the complex step needs (see gradcheck/).
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
