"""Right numbers in wrong places: transposed, turned, moved, exchanged, read in another order."""

from itertools import combinations, permutations

import numpy as np

from .evidence import CLOSE, LARGE, alike, subsets
from .some_places import describe, narrowest_axis


def layout(e):
    """a is n with its numbers in another order."""
    a, n = e.claimed, e.found
    if not e.whole or e.near or np.ptp(np.abs(n)) < CLOSE * e.size:
        return None
    if not alike(np.sort(np.abs(a), None), np.sort(np.abs(n), None)) or alike(np.abs(a), np.abs(n)):
        return None  # other numbers, or other signs alone
    for kind, words, other in layouts(n):
        if alike(a.ravel(), other.ravel()):
            return kind, f"{words}{'' if a.shape == other.shape and alike(a, other) else ', and reshaped'}."
    if not alike(np.sort(a, None), np.sort(n, None)):
        return "permuted", (
            "but for signs its numbers are right, and they stand in wrong places: "
            "perhaps a rotation of pairs, (a, b) → (−b, a), turned the wrong way or joined in the wrong order."
        )
    axis, indices = narrowest_axis(np.abs(a - n) > e.threshold, e.known)
    if axis is not None and len(indices) == indices[-1] - indices[0] + 1 and 3 * len(indices) <= 2 * a.shape[axis]:
        where = f"only {describe(indices)} of axis {axis} is wrong"
        return "some indices", f"{where}: the right numbers, in wrong places{whole_indices(a, n)}."
    moved = whole_indices(a, n)
    if not moved and (np.abs(n) <= 1e-9 * e.size).mean() > 0.25:
        cause = "perhaps not the entries that the forward pass chose, as by a maximum or a mask"
        return "mask", f"its numbers are right but stand in wrong places, where others are 0: {cause}."
    return "permuted", f"its numbers are right but stand in wrong places{moved}."


def layouts(n):
    """(kind, words, array) for each order of the numbers of n that a backward pass may give them."""
    for i, j in combinations(range(n.ndim), 2):
        yield "transposed", f"it is transposed: axes {i} and {j} are exchanged", n.swapaxes(i, j)
    for axes in subsets(range(n.ndim)):
        over = ", ".join(map(str, axes))
        words = f"it runs backwards along axis {over}: perhaps a kernel was turned by 180°, or was not"
        yield "turned", words, np.flip(n, axes)
    for axis, length in enumerate(n.shape):
        for shift in range(1, min(length, 65)):
            steps = shift if shift <= length / 2 else shift - length
            words = f"it is moved by {steps} along axis {axis}, as by a roll in the wrong direction"
            yield "permuted", words, np.roll(n, shift, axis)
    for order in permutations(range(n.ndim)) if n.ndim > 2 else ():
        words = f"its axes stand in the order {list(order)}, as by transpose in place of its inverse"
        yield "permuted", words, n.transpose(order)
    for axis, length in enumerate(n.shape if n.ndim < 5 else ()):
        for heads in (h for h in range(2, length) if length % h == 0):
            split = n.reshape(*n.shape[:axis], heads, length // heads, *n.shape[axis + 1 :])
            words = (
                f"axis {axis} of {length} was split into {heads} × {length // heads} and put together in another order"
            )
            for order in permutations(range(split.ndim)):
                yield (
                    "permuted",
                    f"{words}, as heads that are reshaped where axes must be exchanged",
                    split.transpose(order),
                )


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
            along = [axis in axes for axis in range(e.claimed.ndim)]
            ahead = tuple(slice(shift * moves, None) for moves in along)
            behind = tuple(slice(None, -shift if moves else None) for moves in along)
            for steps, left, right in ((shift, ahead, behind), (-shift, behind, ahead)):
                a, n = e.claimed[left], e.found[right]
                if a.size >= 3 and alike(a, n) and np.ptp(n) > CLOSE * e.size:
                    cause = "as by padding that is cut off at the wrong place, or a loop that starts one too late"
                    return "permuted", f"it is moved by {steps} along axis {' and '.join(map(str, axes))}: {cause}."
    return None


def exchanged(e):
    """a is the n of another array, perhaps transposed."""
    for name, found in (e.elsewhere() if e.whole else {}).items():
        if alike(e.claimed, found) or found.ndim == 2 and alike(e.claimed, found.T):
            how = "" if alike(e.claimed, found) else " transposed"
            return "swapped", f"it is the{how} gradient of {name}: the two were exchanged, or one returned twice."
    return None


def turned_weight(e):
    """a is the true gradient where another array, a kernel, is turned round."""
    for name, leaf in e.leaves.items() if e.claimed.size <= LARGE else ():
        for axes in subsets([k for k, length in enumerate(leaf.shape) if length > 1][-3:]) if name != e.name else ():
            moved = {name: np.flip(leaf, axes).copy()}
            if e.explains(lambda u, _, moved=moved: (e.cotangent * e.along(u, moved)).sum()):
                what = f"{name} turned round along axis {', '.join(map(str, axes))}"
                return "turned", f"it is the gradient for {what}, as a kernel by 180°."
    return None
