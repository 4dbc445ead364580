"""Is it the gradient at another point? The claim against slopes of the forward pass with other arguments.

A backward pass that forgets a weight gives the gradient for a weight of 1; one that takes its slope from the output,
the gradient at y in place of x.
"""

from itertools import islice

import numpy as np

from .evidence import LARGE, alike
from .places import subsets

FEW = 6  # points that are tried for a large array


def other_point(e):
    """a is the true gradient where one argument is another: forgotten, squared, transposed, exchanged."""
    if e.accuracy is None:
        return None
    (u, claim, _), *others = e.probes
    for kind, words, moved in islice(points(e), FEW if e.claimed.size > LARGE else None):
        if abs(slope_at(e, u, moved) - claim) <= e.accuracy:
            if all(abs(slope_at(e, v, moved) - expected) <= e.accuracy for v, expected, _ in others):
                return kind, f"it is the gradient {words}."
    return None


def slope_at(e, u, moved):
    """⟨c, J u⟩ with other arguments; NaN where they cannot stand there."""
    try:
        with np.errstate(all="ignore"):
            image = e.along(u, moved)
            return float((e.cotangent * image).sum()) if image.shape == e.cotangent.shape else np.nan
    except Exception:  # the forward pass may refuse them as it likes
        return np.nan


def points(e):
    """(kind, how to say it, {name: other value}), the likeliest first."""
    if e.y.shape == e.x.shape and not e.is_loss:
        yield "slope", "at y in place of x: the slope was taken at the output", {e.name: e.y}
    yield "slope", f"at −{e.name} in place of {e.name}", {e.name: -e.x}
    near = [name for name in e.leaves if name != e.name]
    near.sort(key=lambda name: name.rpartition(".")[0] != e.name.rpartition(".")[0])
    for name in near[:6]:
        leaf = np.asarray(e.leaves[name], float)
        if not np.isfinite(leaf).all() or (leaf.size > 1 and np.isin(leaf, (0, 1)).all()):
            free = np.ones_like(leaf) if np.isfinite(leaf).all() else np.zeros_like(leaf)
            yield "mask", f"without {name}: the mask was forgotten", {name: free}
            continue
        kind = "τ" if leaf.size == 1 else "factor"
        yield kind, f"for {name} = 1: {name} was forgotten", {name: np.ones_like(leaf)}
        yield "missing term", f"for {name} = 0: the term with {name} was forgotten", {name: np.zeros_like(leaf)}
        yield kind, f"for the square of {name}: it is there twice", {name: leaf * leaf}
        yield "−1", f"for −{name}: a sign at {name} is wrong", {name: -leaf}
        yield kind, f"for 1/{name}: it divides where it should multiply", {name: 1 / np.where(leaf == 0, 1, leaf)}
        if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1]:
            yield "transposed", f"for the transpose of {name}, which stands the wrong way round", {name: leaf.T.copy()}
        for axes in subsets([k for k, length in enumerate(leaf.shape) if length > 1][-3:]):
            over = ", ".join(map(str, axes))
            yield "turned", f"for {name} turned round along axis {over}", {name: np.flip(leaf, axes).copy()}
        for i in range(leaf.ndim - 1):
            if leaf.ndim > 2 and leaf.shape[i] == leaf.shape[i + 1]:
                words = f"for {name} with axes {i} and {i + 1} exchanged"
                yield "transposed", words, {name: leaf.swapaxes(i, i + 1).copy()}
        if leaf.shape == e.x.shape and not alike(leaf, e.x):
            yield "swapped", f"with {name} and {e.name} exchanged", {name: e.x, e.name: leaf}
            yield "swapped", f"at {name} in place of {e.name}", {e.name: leaf}
    for i, one in enumerate(near[:6]):
        for other in near[i + 1 : 6]:
            if np.shape(e.leaves[one]) == np.shape(e.leaves[other]):
                moved = {one: np.asarray(e.leaves[other]), other: np.asarray(e.leaves[one])}
                yield "swapped", f"with {one} and {other} exchanged", moved
