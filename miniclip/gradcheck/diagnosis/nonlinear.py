"""Why backward of twice a cotangent is not twice the gradient: backward is Jᵀ dy, linear in dy."""

import numpy as np

from .evidence import CLOSE, alike


def name_nonlinear(once, twice):
    """The cause, as the part of a sentence, from what backward claims for dy and for 2 dy, arrays of one shape."""
    once, twice = np.asarray(once, float), np.asarray(twice, float)
    bent = ~np.isclose(twice, 2 * once, rtol=CLOSE, atol=CLOSE * np.abs(once).max())
    edges = np.abs(twice[bent])
    if alike(twice, once):
        return "it is the same for 2 dy: dy is not used, or backward clips the gradient's length"
    if alike(twice, 4 * once):
        return "it is 4 times as large: dy is multiplied in twice, as in dy²"
    square = float((once * once).sum())
    alpha = float((once * twice).sum()) / square if square else 0.0
    if 1 < alpha < 2 and alike(twice, alpha * once):
        return f"it is {alpha:.4g} times as large: perhaps backward limits the gradient's length"
    if len(edges) > 1 and np.ptp(edges) <= CLOSE * edges.max() and edges.max() >= np.abs(twice).max() * (1 - CLOSE):
        return f"no entry is larger than {edges.max():.4g}: perhaps backward clips the gradient"
    return "perhaps dy is squared, clipped, or compared with a number, or one term goes without dy"
