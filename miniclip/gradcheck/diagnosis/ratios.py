"""A gradient that is off by a factor of its own in each place: a / n is an array that is known."""

import numpy as np

from .changes import SLOPES
from .evidence import CLOSE, alike, fits, subsets
from .norms import names, size_of
from .source_text import place

MOST = 4096  # entries of arrays that are tried


def known_factor(e):
    """a = n v, or n / v, where v is another array of the layer or a step of its forward pass."""
    if not e.whole or e.near or not 3 < e.claimed.size <= MOST:
        return None
    for kind, words, v in known_arrays(e):
        with np.errstate(all="ignore"):
            if alike(e.claimed, e.found * v):
                return kind, f"it is multiplied once too often by {words}."
            if np.all(v) and alike(e.claimed * v, e.found):
                return kind, f"it is not multiplied by {words}, or it is divided by it."
    return None


def known_arrays(e):
    """(kind, words, v): arrays that may stand beside the gradient, and are not the same everywhere."""
    found = [("factor", name, leaf) for name, leaf in e.leaves.items() if name != e.name]
    for step in e.trace.steps + e.trace.constants if e.trace else ():
        found.append(("factor", place(step), step.y))
        if step.y.shape == e.claimed.shape:
            curves = list(SLOPES.items())[1:]
            found += [("slope", f"{words}, y = {place(step)}", by(step.y)) for words, by in curves]
    for kind, words, v in found:
        v = np.asarray(v)
        v = v if v.ndim <= e.claimed.ndim else np.squeeze(v)
        if fits(v.shape, e.claimed.shape) and np.isfinite(v).all() and np.ptp(v) > CLOSE * np.abs(v).max():
            yield kind, words, v
            yield kind, f"the square of {words}", v * v


def ratio(e):
    """a / n is the same along some axes: each index of the others has a factor of its own."""
    far = np.abs(e.found) > 1e-3 * e.size
    if not e.whole or e.near or far.mean() < 0.5:
        return None
    r = np.where(far, e.claimed, np.nan) / np.where(far, e.found, 1)
    for axes in sorted(subsets(range(r.ndim)), key=len, reverse=True):
        rest = [k for k in range(r.ndim) if k not in axes]
        rows = np.moveaxis(r, axes, range(-len(axes), 0)).reshape(-1, size_of(r, axes))
        if not rest or rows.shape[1] < 2 or np.isnan(rows).all(1).any():
            continue
        factors = np.nanmedian(rows, 1)
        if np.nanmax(np.abs(rows - factors[:, None])) > 10 * CLOSE * np.abs(factors).max():
            continue
        what = f"each index of {names(rest)} is off by a factor of its own, {factors.min():.4g} to {factors.max():.4g}"
        if np.abs(factors - 1).max() < 0.03:
            cause = "perhaps an ε or N − 1 stands in one pass alone, or what is computed again is not the same"
            return "precision", f"{what}: {cause}."
        return "factor", f"{what}: perhaps by a norm, a count or another number of its own."
    return None
