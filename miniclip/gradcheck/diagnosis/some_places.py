"""Numbers that are wrong in some places only: at a few indices, outside a bound, where labels stand."""

import numpy as np

from .evidence import CLOSE, PERHAPS, alike
from .factors import name_factor
from .forgotten_step import has_loop


def some_indices(e):
    """a = n but for some indices."""
    wrong = np.zeros(e.claimed.shape, bool)
    wrong[e.known] = np.abs(e.a - e.n) > e.threshold
    count, known, right = wrong.sum(), e.known.sum(), e.known & ~wrong
    axis, indices = narrowest_axis(wrong, e.known)
    if not count or axis is None and (count > 0.9 * known or np.abs(e.found[right]).max() <= CLOSE * e.size):
        return None  # all of it, or all that is not 0
    if count == 1 < wrong.size:
        where = f"only entry {[int(i[0]) for i in np.nonzero(wrong)]} is wrong"
    elif axis is not None and (len(indices) <= 0.7 * wrong.shape[axis] or np.take(wrong, indices, axis).all()):
        where = f"only {describe(indices)} of axis {axis} is wrong"
    else:
        where, axis = f"only some entries are wrong, {count} of {known}", None
    a, n = e.claimed[wrong], e.found[wrong]
    if not a.any():
        return zero_there(e, axis, indices, where)
    if not n.any():
        return dead_there(e, wrong, where)
    alpha, off = float(a @ n / (n @ n)), a - n
    if count > 1 and alike(a, alpha * n):
        is_count = (
            axis is not None and 0 < alpha < 1 and abs(1 / alpha - round(1 / alpha)) < CLOSE
        )  # perhaps of repeated ids
        return "some indices", f"{where}; there {name_factor(alpha, e)[1]}", *(is_count * (PERHAPS,))
    if count > 1 and alike(off, np.full(off.shape, off[0])):
        return "some indices", f"{where}; there it is {off[0]:+.4g} off, everywhere the same{labels(e, wrong)}."
    return "some indices", f"{where}.", PERHAPS


def zero_there(e, axis, indices, where):
    """The answer where the wrong entries of a are 0."""
    if axis is None:
        return "mask", f"{where}: it is 0 there, perhaps masked away by a wrong mask, or never added up."
    length = e.claimed.shape[axis]
    if length > len(indices) == 1 and indices[0] in (0, length - 1) and has_loop(e, length):
        return "time step", f"{where}: it is 0 there, as by a loop of backward that runs one step too few."
    return "never accumulated", f"{where}: it is 0 there, never computed or never added up."


def dead_there(e, wrong, where):
    """The answer where n is 0 at the wrong entries."""
    inside = bound(e.x, wrong) if e.whole else ""
    if inside and not np.array_equal(e.found == 0, e.x <= 0):
        return "clip", f"{where}, {inside}: the output does not depend on {e.name} there; a clip was forgotten."
    cause = "perhaps a mask, a maximum or a stride of the forward pass was forgotten"
    return "mask", f"{where}: the output does not depend on {e.name} there, as backward says it does; {cause}."


def few_numbers(e):
    """a − n takes few values: a constant was subtracted in the wrong places, as of one-hot labels."""
    off = e.a - e.n
    if e.near or off.size < 12:
        return None
    size, right = np.abs(off).max(), np.abs(off) <= CLOSE * np.abs(off).max()
    _, first = np.unique(np.round(off[~right] / size, 4), return_index=True)
    values = off[~right][first]
    whole = values / np.abs(values).min()  # multiples of the smallest, as counts are
    most, least = (8, len(values) + 1) if np.abs(whole - np.round(whole)).max() < 1e-4 else (3, 2 * len(values))
    if len(values) > most or right.mean() > 0.95 or (~right).sum() < least:
        return None
    if np.abs(off[~right][:, None] - values).min(1).max() > CLOSE * size:
        return None
    kind = "some indices" if right.any() else "missing term"
    said = ", ".join(f"{value:+.4g}" for value in values)
    cause = "a constant is missing or in the wrong places, such as the labels of a cross entropy (one-hot, smoothed)"
    return kind, f"it is off by a few numbers alone, {said}: perhaps {cause}."


def labels(e, wrong):
    """ ", at the places that y names: …" where these are the places of one-hot labels."""
    if wrong.ndim == 2:
        for name, ids in e.constants.items():
            if getattr(ids, "shape", None) == wrong.shape[:1] and ids.dtype.kind in "iu":
                if np.array_equal(np.argmax(wrong, 1), ids) and (wrong.sum(1) == 1).all():
                    return f", at the places that {name} names: perhaps the 1 of the true class was not subtracted"
    return ""


def narrowest_axis(wrong, known):
    """The axis along which the wrong entries fill the smallest part of the indices, and these; or None, ()."""
    share, narrowest, indices = 1.0, None, ()
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        bad, seen = wrong.any(others), known.any(others)
        if bad.sum() / seen.sum() < share:
            share, narrowest, indices = bad.sum() / seen.sum(), axis, tuple(int(i) for i in np.flatnonzero(bad))
    return narrowest, indices


def describe(indices):
    """(0, 1, 2, 3) -> "index 0–3"; (1, 2, 5) -> "index 1, 2, 5"."""
    if len(indices) > 1 and indices[-1] - indices[0] == len(indices) - 1:
        return f"index {indices[0]}–{indices[-1]}"
    return f"index {', '.join(map(str, indices[:8]))}" + " …" * (len(indices) > 8)


def bound(x, wrong):
    """ "where it is above 0.5": what the values of x are at the wrong entries, and at no other; else ""."""
    right = ~wrong
    if not right.any() or not wrong.any():
        return ""
    low, high = x[right].min(), x[right].max()
    below, above = x[wrong & (x < low)], x[wrong & (x > high)]
    if below.size + above.size != wrong.sum():
        return ""
    parts = [f"above {nice(high, above.min())}"] if above.size else []
    parts += [f"below {nice(below.max(), low)}"] if below.size else []
    return f"where it is {' or '.join(parts)}"


def nice(low, high):
    """A short number between two."""
    for digits in range(7):
        if low <= (middle := round((low + high) / 2, digits)) <= high:
            return f"{middle + 0.0:g}"
    return f"{(low + high) / 2:.4g}"
