"""Which dy does backward go back with? Guesses at what it does with the output's gradient first.

If backward uses c' in place of the cotangent c, then ⟨a, u⟩ = ⟨c', J u⟩. One J u serves for all c', so that many are
tried: one index alone, all but one, dy turned, moved, transposed, summed, masked.
"""

from itertools import combinations, permutations

import numpy as np

from .places import regrouped, subsets
from .sums import is_time


def other_cotangent(e):
    """a = Jᵀ c' for another c'."""
    if e.is_loss or e.accuracy is None:
        return None
    (_, claim, image), *_ = e.probes
    for kind, words, c in cotangents(e, e.cotangent):
        if c.shape == image.shape and abs((c * image).sum() - claim) <= e.accuracy:
            if e.explains(lambda u, image, c=c: (c * image).sum()):
                return kind, words
    return None


def cotangents(e, c):
    """(kind, sentence, c'), the likeliest first."""
    yield "cotangent", "it is the gradient for a dy of ones: dy is not used.", np.ones_like(c)
    yield from of_repeated_ids(e, c)
    for axis in range(c.ndim):
        yield from of_some_indices(e, c, axis)
    yield from turned_or_summed(c)
    yield from in_another_order(e, c)
    for axis in range(c.ndim):
        yield from moved_or_split(c, axis)
    yield from multiplied(e, c)


def of_repeated_ids(e, c):
    """Rows that are taken by ids, of which some stand there more than once: overwritten, or averaged."""
    for name, ids in e.constants.items():
        if getattr(ids, "dtype", np.dtype(float)).kind in "iu" and ids.size > 1 and c.shape[: ids.ndim] == ids.shape:
            flat, shape = ids.ravel(), ids.shape + (1,) * (c.ndim - ids.ndim)
            _, first, numbers, counts = np.unique(flat[::-1], True, True, True)
            last = np.isin(np.arange(flat.size), flat.size - 1 - first)
            words = f"an id that stands more than once in {name} overwrites, where all must be added up (np.add.at)."
            yield "overwritten", words, c * last.reshape(shape)
            words = f"it is divided by how often an id stands in {name}: a mean where a sum is due."
            yield "1/N", words, c / counts[numbers.ravel()][::-1].reshape(shape)


def of_some_indices(e, c, axis):
    """c with some indices of an axis alone, or without one."""
    length = c.shape[axis]
    if length < 2:
        return
    kind = "time step" if is_time(e, axis) else "overwritten"
    missing = "time step" if kind == "time step" else "some indices"
    numbers = np.arange(length).reshape([length if k == axis else 1 for k in range(c.ndim)])
    where = f"axis {axis} of the output"
    for i in dict.fromkeys((length - 1, 0, *range(min(length, 64)))):
        one = numbers == i
        yield kind, f"only index {i} of {where} counts: the rest is forgotten, or = stands where += belongs.", c * one
        yield missing, f"index {i} of {where} is forgotten: perhaps a loop is one too short.", c * ~one
        yield missing, f"index {i} of {where} counts twice.", c * (1 + one)
    for i in range(2, min(length, 64)):
        yield missing, f"only the first {i} indices of {where} count.", c * (numbers < i)
        yield missing, f"only the last {length - i} indices of {where} count.", c * (numbers >= i)


def turned_or_summed(c):
    """c turned round, and its sum or mean over some axes in its place."""
    for axes in subsets(range(c.ndim)):
        over = ", ".join(map(str, axes))
        words = f"it is right when axis {over} of dy is turned round: something runs backwards."
        yield "turned", words, np.flip(c, axes)
        for word, g in (("summed", c.sum(axes, keepdims=True)), ("averaged", c.mean(axes, keepdims=True))):
            words = f"dy was {word} over axis {over} first, and the result passed on to all."
            yield "wrong axis", words, np.broadcast_to(g, c.shape)


def in_another_order(e, c):
    """c transposed, or reshaped where it should be transposed."""
    for i, j in combinations(range(c.ndim), 2):
        swapped = c.swapaxes(i, j)
        if e.claimed.ndim < c.ndim:
            words = f"it is right when axes {i} and {j} of dy are exchanged: the sum goes over the wrong one of them."
            yield "wrong axis", words, swapped
        else:
            yield "transposed", f"it is right when axes {i} and {j} of dy are exchanged.", swapped
        words = f"dy was reshaped where its axes {i} and {j} should be exchanged."
        yield "permuted", words, swapped.reshape(c.shape)
        yield "permuted", words, c.reshape(swapped.shape).swapaxes(i, j)
    for order in permutations(range(c.ndim)) if 2 < c.ndim < 6 else ():
        yield "permuted", f"it is right when dy is transposed to {list(order)}.", c.transpose(order)


def moved_or_split(c, axis):
    """c moved along an axis, its halves exchanged, or the axis taken apart and put together in another order."""
    length = c.shape[axis]
    if length > 3 and length % 2 == 0:
        words = f"it is right when the halves of axis {axis} of dy are exchanged: they were joined the wrong way round."
        yield "swapped", words, np.roll(c, length // 2, axis)
    for shift in (s for s in (1, -1, 2, -2) if abs(s) < length):
        rolled = np.roll(c, shift, axis)
        yield "permuted", f"it is right when dy is moved by {shift} along axis {axis}, and round its end.", rolled
        numbers = np.arange(length).reshape([length if k == axis else 1 for k in range(c.ndim)])
        inside = numbers >= shift if shift > 0 else numbers < length + shift
        yield "permuted", f"it is right when dy is moved by {shift} along axis {axis}, and 0 put in.", rolled * inside
    for heads in (h for h in range(2, length) if length % h == 0):
        for words, other in regrouped(c, axis, heads):
            yield "permuted", f"it is right when, of dy, {words}.", other.reshape(c.shape)


def multiplied(e, c):
    """c times a slope that is not there, or times a mask."""
    y = e.y
    for words, by in (("y", y), ("1 − y", 1 - y), ("y(1 − y)", y * (1 - y)), ("1 − y²", 1 - y * y), ("y > 0", y > 0)):
        words = f"dy was multiplied by {words} once too often: the slope of an activation that is not there."
        yield "slope", words, c * by
    for name, mask in (*e.constants.items(), *e.leaves.items()):
        if getattr(mask, "dtype", np.dtype(object)).kind in "bf" and np.size(mask) > 1 and np.isin(mask, (0, 1)).all():
            if mask.ndim <= c.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], c.shape[::-1])):
                yield "mask", f"dy was masked by {name}, and should not be.", c * mask
                yield "mask", f"dy was masked by the inverse of {name}.", c * (1 - np.asarray(mask, float))
