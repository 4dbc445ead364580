"""Right numbers in wrong places: transposed, turned, moved, exchanged, read in another order."""

from itertools import combinations, permutations

import numpy as np

from .evidence import CLOSE, alike
from .some_places import describe, narrowest_axis


def layout(e):
    """a is n with its axes exchanged, turned round, or its numbers in another order."""
    if not e.whole or e.near:
        return None
    a, n = e.claimed, e.found
    for i, j in combinations(range(a.ndim), 2):
        swapped = n.swapaxes(i, j)
        if alike(a, swapped):
            return "transposed", f"it is transposed: axes {i} and {j} are exchanged."
        if alike(a.ravel(), swapped.ravel()):
            return "transposed", f"its numbers are those with axes {i} and {j} exchanged: reshaped, not transposed."
    for axes in subsets(range(a.ndim)):
        if alike(a, np.flip(n, axes)):
            over = ", ".join(map(str, axes))
            return "turned", f"it runs backwards along axis {over}: perhaps a kernel was turned by 180°, or was not."
    if np.ptp(np.abs(n)) < CLOSE * e.size or not alike(np.sort(np.abs(a), None), np.sort(np.abs(n), None)):
        return None
    if alike(np.sort(a, None), np.sort(n, None)):
        return permuted(e, a, n)
    if alike(np.abs(a), np.abs(n)):
        return None  # signs alone
    return "permuted", (
        "but for signs its numbers are right, and they stand in wrong places: "
        "perhaps a rotation of pairs, (a, b) → (−b, a), turned the wrong way or joined in the wrong order."
    )


def permuted(e, a, n):
    """The answer where a has the numbers of n, in other places."""
    axis, indices = narrowest_axis(np.abs(a - n) > e.threshold, e.known)
    if axis is not None and len(indices) == indices[-1] - indices[0] + 1 and 3 * len(indices) <= 2 * a.shape[axis]:
        where = f"only {describe(indices)} of axis {axis} is wrong"
        return "some indices", f"{where}: the right numbers, in wrong places{whole_indices(a, n)}."
    moved = rearranged(a, n) or whole_indices(a, n)
    if not moved and (np.abs(n) <= 1e-9 * e.size).mean() > 0.25:
        cause = "perhaps not the entries that the forward pass chose, as by a maximum or a mask"
        return "mask", f"its numbers are right but stand in wrong places, where others are 0: {cause}."
    return "permuted", f"its numbers are right but stand in wrong places{moved}."


def rearranged(a, n):
    """How a is n rearranged: ": moved by 1 along axis 0"; "" where that is not found."""
    for axis, length in enumerate(n.shape):
        for shift in range(1, min(length, 65)):
            if alike(a, np.roll(n, shift, axis)):
                steps = shift if shift <= length / 2 else shift - length
                return f": moved by {steps} along axis {axis}, as by a roll in the wrong direction"
    for order in permutations(range(n.ndim)):
        if n.ndim > 2 and (alike(a, n.transpose(order)) or alike(a.ravel(), n.transpose(order).ravel())):
            return f": its axes stand in the order {list(order)}, as by transpose in place of its inverse"
    for axis, length in enumerate(n.shape):
        for heads in (h for h in range(2, length) if length % h == 0):
            for words, other in regrouped(n, axis, heads):
                if alike(a.ravel(), other.ravel()):
                    return f": {words}"
    return ""


def regrouped(n, axis, heads):
    """(words, n) with an axis split in two, as into heads, and put together in another order."""
    length = n.shape[axis]
    parts = f"axis {axis} of {length} was split into {heads} × {length // heads} and put together"
    split = n.reshape(*n.shape[:axis], heads, length // heads, *n.shape[axis + 1 :])
    for order in permutations(range(split.ndim)) if split.ndim < 6 else ():
        if order != tuple(range(split.ndim)):
            how = "without the transpose that belongs there" if order[axis] != axis + 1 else "the other way about"
            yield f"{parts} {how}, as heads that are reshaped where axes must be exchanged", split.transpose(order)


def whole_indices(a, n):
    """ ": whole indices of axis 0 are exchanged, …" where that is so; else ""."""
    for axis, length in enumerate(n.shape):
        rows_a, rows_n = (np.moveaxis(g, axis, 0).reshape(length, 1, -1) for g in (a, n))
        if length > 512:
            continue
        same = np.abs(rows_a - rows_n.swapaxes(0, 1)).max(-1) <= CLOSE * np.abs(n).max()
        if same.any(0).all() and same.any(1).all():
            cause = "as by a permutation (sort, gather, shuffle) in place of its inverse"
            return f": whole indices of axis {axis} are exchanged, {cause}"
    return ""


def shifted(e):
    """a is n moved along one axis or two, with something else at the edge."""
    if not e.whole or e.near:
        return None
    for axes in [axes for axes in subsets(range(e.claimed.ndim)) if len(axes) < 3]:
        for shift in range(1, min(4, min(e.claimed.shape[axis] for axis in axes) - 1)):
            ahead, behind = [slice(None)] * e.claimed.ndim, [slice(None)] * e.claimed.ndim
            for axis in axes:
                ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            for sign, left, right in ((1, tuple(ahead), tuple(behind)), (-1, tuple(behind), tuple(ahead))):
                a, n = e.claimed[left], e.found[right]
                if a.size >= 3 and alike(a, n) and np.ptp(n) > CLOSE * e.size:
                    cause = "as by padding that is cut off at the wrong place, or a loop that starts one too late"
                    over = " and ".join(map(str, axes))
                    return "permuted", f"it is moved by {sign * shift} along axis {over}: {cause}."
    return None


def exchanged(e):
    """a is the n of another array, perhaps in another order."""
    for name, found in (e.elsewhere() if e.whole else {}).items():
        if alike(e.claimed, found):
            return "swapped", f"it is the gradient of {name}: the two were exchanged, or one returned twice."
        if found.ndim == 2 and alike(e.claimed, found.T):
            return "swapped", f"it is the transposed gradient of {name}: the two were exchanged, or one returned twice."
    return None


def subsets(axes):
    """All choices of one axis, two axes … of these."""
    return [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]
