"""Sums that backward takes wrongly: over the wrong axis, of the last part alone, with a factor for each index."""

import numpy as np

from .evidence import CLOSE, alike
from .forgotten_step import has_loop
from .norms import names, size_of
from .places import subsets


def wrong_sum(e):
    """y = f(x ∘ s): the a of a small s is c ∘ ∂y/∂s, summed over other axes than the true ones."""
    if e.is_loss or not e.whole or e.near or e.claimed.ndim >= e.cotangent.ndim:
        return None
    parts = e.cotangent * e.along(np.ones(e.claimed.size))
    sums = {axes: parts.sum(axes).ravel() for axes in subsets(range(parts.ndim))}
    sums = {axes: g for axes, g in sums.items() if g.size == e.claimed.size > 1}
    true = [axes for axes, g in sums.items() if alike(g, e.found.ravel())]
    taken = [axes for axes, g in sums.items() if alike(g, e.claimed.ravel())]
    if not true or not taken:
        return None
    return "wrong axis", f"it is summed over {names(taken[0])} of the output, where it must be over {names(true[0])}."


def overwritten(e):
    """Each entry of a is what the last index (or the first) that reaches it contributes: = where += belongs."""
    if not e.whole or e.true_jacobian is None:
        return None
    shape, size = e.cotangent.shape, e.claimed.size
    contributions = (e.true_jacobian * e.cotangent.reshape(-1, 1)).reshape(*shape, size)
    reach = np.abs(e.true_jacobian).reshape(*shape, size) > 1e-9 * np.abs(e.true_jacobian).max()
    for axes in subsets(range(len(shape))):
        others = tuple(k for k in range(len(shape)) if k not in axes)
        parts, seen = contributions.sum(others).reshape(-1, size), reach.any(others).reshape(-1, size)
        counts, last = seen.sum(0), len(seen) - 1 - seen[::-1].argmax(0)
        if (counts < 2).all():
            continue
        for index, word in ((last, "last"), (seen.argmax(0), "first")):
            if alike(e.claimed.ravel(), np.take_along_axis(parts, index[None], 0)[0]):
                kind = "time step" if len(axes) == 1 and is_time(e, axes[0]) else "overwritten"
                return kind, (
                    f"of all that comes back along {names(axes)} of the output, each entry has only what came {word}: "
                    "= stands where += belongs."
                )
        if alike(e.claimed.ravel(), e.found.ravel() / np.maximum(counts, 1)):
            return "1/N", "each entry is divided by the number of outputs that it reaches: a mean where a sum is due."
    return None


def is_time(e, axis):
    """Whether later indices of this axis of the output depend on earlier ones of some array, as in a recurrence."""
    return e.cotangent.ndim > 1 and has_loop(e) and any(couples(e, name, axis) for name in e.gradients)


def couples(e, name, axis):
    """Whether an array with this axis, moved at its first index, moves other indices of the output too."""
    leaf = np.asarray(e.leaves[name], float)
    if leaf.ndim < 2 or leaf.ndim <= axis or leaf.shape[axis] != e.cotangent.shape[axis]:
        return False
    first = np.zeros(leaf.shape)
    np.moveaxis(first, axis, 0)[0] = 1e-3
    change = np.abs(np.asarray(e.forward({name: leaf + first}), float) - e.y)
    change = change.sum(tuple(k for k in range(change.ndim) if k != axis))
    return bool((change[1:] > 1e-9 * change.max()).any())


def spread(e):
    """a is the same along an axis, where n is not: its sum or mean over this axis, a broadcast not undone."""
    if not e.whole or e.near:
        return None
    for axes in subsets(range(e.claimed.ndim)):
        if not same_along(e.claimed, axes) or same_along(e.found, axes):
            continue
        mean = np.broadcast_to(e.found.mean(axes, keepdims=True), e.found.shape)
        for g, word in ((mean, "mean"), (mean * size_of(mean, axes), "sum")):
            if alike(e.claimed, g):
                return (
                    "wrong axis",
                    f"it is the {word} of the truth over {names(axes)}: a sum or broadcast went too far.",
                )
        return "wrong axis", f"it is the same along {names(axes)}, and must not be: perhaps a sum went over it too."
    return None


def same_along(g, axes):
    """Whether the numbers are the same along these axes, of which each has more than one."""
    mean = np.broadcast_to(g.mean(axes, keepdims=True), g.shape)
    return min(g.shape[axis] for axis in axes) > 1 and alike(g, mean)


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
        size = f"from {factors.min():.4g} to {factors.max():.4g}"
        if np.abs(factors - 1).max() < 0.03:
            cause = "perhaps an ε or N − 1 stands in one pass alone, or what is computed again is not the same"
            return "precision", f"each index of {names(rest)} is off by a little, a factor of its own {size}: {cause}."
        return (
            "factor",
            f"each index of {names(rest)} is off by a factor of its own, {size}{known_factors(e, factors)}.",
        )
    return None


def known_factors(e, factors):
    """ ": g was forgotten" or ": that is over the norm of x", where these are the factors; else ""."""
    for name, leaf in e.leaves.items():
        leaf = np.asarray(leaf)
        if leaf.size == factors.size and leaf.all():
            for power, words in ((1, "is there once too often"), (-1, "was forgotten"), (-2, "divides")):
                if alike(factors, leaf.ravel() ** power):
                    return f": {name} {words}"
        for axes in subsets(range(leaf.ndim)):
            centred = leaf - leaf.mean(axes, keepdims=True)
            for what, g in (("norm", (leaf**2).sum(axes)), ("standard deviation", (centred**2).mean(axes))):
                if g.size != factors.size or not g.all() or g.size == leaf.size:
                    continue
                for power, how in (
                    (0.5, "times"),
                    (-0.5, "over"),
                    (1, "times the square of"),
                    (-1, "over the square of"),
                ):
                    if np.abs(factors / g.ravel() ** power - 1).max() < 1e-3:
                        return f": it is {how} the {what} of {name} over {names(axes)}"
    return ""
