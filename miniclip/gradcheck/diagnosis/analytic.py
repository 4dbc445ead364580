"""Functions of NumPy that are not analytic, as they must be for a slope that is carried as an imaginary part.

np.abs of a complex number is its length, np.var squares lengths: the slope would be lost. Here each does with the real
part what it does with a real number, and has that derivative.
"""

import numpy as np


def variance(x, axis=None, ddof=0, keepdims=False, **_):
    """np.var as an analytic function: the mean of the centred square, with no conjugate."""
    centred = x - x.mean(axis, keepdims=True)
    total = (centred * centred).sum(axis, keepdims=keepdims)
    return total / (x.size // total.size - ddof)


def length(x, ord=None, axis=None, keepdims=False):
    """np.linalg.norm as an analytic function. Raises TypeError for another norm than the Euclidean."""
    if ord not in (None, 2) or (ord == 2 and axis is None and x.ndim > 1):
        raise TypeError("only the Euclidean norm has its derivative here")
    return np.sqrt((x * x).sum(axis, keepdims=keepdims))


def of_real_part(function):
    """A function of the real part alone, whose slope is 0 wherever it has one: np.sign, np.floor."""
    return lambda x, *args, **options: function(np.real(x), *args, **options)


REAL = {
    "absolute": lambda x: np.where(np.real(x) < 0, -x, x),
    "fabs": lambda x: np.where(np.real(x) < 0, -x, x),
    "var": variance,
    "std": lambda x, *args, **options: np.sqrt(variance(x, *args, **options)),
    "norm": length,
    "hypot": lambda x, y: np.sqrt(x * x + y * y),
    "conjugate": lambda x: x,
    "vdot": lambda x, y: (x * y).sum(),
    "logaddexp": lambda x, y: np.log(np.exp(x) + np.exp(y)),
    **{name: of_real_part(getattr(np, name)) for name in ("sign", "floor", "ceil", "rint", "trunc", "isnan")},
}  # fmt: skip
