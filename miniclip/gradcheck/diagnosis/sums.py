"""Sums that backward takes wrongly: over the wrong axis, of the last part alone, with a factor for each index."""

import numpy as np

from .evidence import alike, subsets
from .forgotten_step import has_loop
from .norms import names, size_of


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
                if len(axes) == 1 and is_own_place(index, e.claimed.shape, axes[0]):
                    return "time step" if has_loop(e) else "mask", (
                        f"it has only what comes back from its own index of {names(axes)}: perhaps a causal mask of "
                        "backward is the other triangle, or what flows back from step to step is not added."
                    )
                return "overwritten", (
                    f"of all that comes back along {names(axes)} of the output, each entry has only what came {word}: "
                    "= stands where += belongs."
                )
        if alike(e.claimed.ravel(), e.found.ravel() / np.maximum(counts, 1)):
            return "1/N", "each entry is divided by the number of outputs that it reaches: a mean where a sum is due."
    return None


def is_own_place(index, shape, axis):
    """Whether index, one for each entry of an array, is where the entry stands along an axis."""
    return axis < len(shape) and np.array_equal(index, np.indices(shape)[axis].ravel())


def written_to_one(e):
    """a is all in one index of an axis: a loop that writes to the same place."""
    for axis in range(e.claimed.ndim) if e.whole and not e.near else ():
        total = e.found.sum(axis)
        for i in (0, e.claimed.shape[axis] - 1) if e.claimed.shape[axis] > 1 else ():
            others = np.delete(e.claimed, i, axis)
            if not others.any() and alike(np.take(e.claimed, i, axis), total):
                what = f"all that belongs along axis {axis} was added up in index {i}, and there alone"
                return "some indices", f"{what}: perhaps the index of a loop was forgotten."
    return None


def spread(e):
    """a is the same along an axis, where n is not: its sum or mean over this axis, a broadcast not undone."""
    if not e.whole or e.near:
        return None
    for axes in subsets(range(e.claimed.ndim)):
        if not same_along(e.claimed, axes) or same_along(e.found, axes):
            continue
        mean = np.broadcast_to(e.found.mean(axes, keepdims=True), e.found.shape)
        words = f"it is the same along {names(axes)}, and must not be: perhaps a sum went over it too."
        for g, word in ((mean, "mean"), (mean * size_of(mean, axes), "sum")):
            if alike(e.claimed, g):
                words = f"it is the {word} of the truth over {names(axes)}: a sum or broadcast went too far."
        return "wrong axis", words
    return None


def same_along(g, axes):
    """Whether the numbers are the same along these axes, of which each has more than one."""
    mean = np.broadcast_to(g.mean(axes, keepdims=True), g.shape)
    return min(g.shape[axis] for axis in axes) > 1 and alike(g, mean)
