"""Softmax and norms: what must sum to 0, and what may be missing of the terms that see to it.

A constant added to the logits of a softmax changes nothing, so their gradients sum to 0; a norm forgets the mean of
its input (centring) and the length (projection). What a backward pass forgets of these lies in few directions along
the axis of the norm: it is a multiple of 1, of x, or of a softmax's y. That is tested, not the sums alone, for a sum
may be 0 for other reasons.
"""

from itertools import combinations

import numpy as np

from .evidence import CLOSE, PERHAPS


def factor_outside(e):
    """a / γ is centred, where a is not."""
    for name, gamma in e.leaves.items():
        gamma = np.asarray(gamma)
        if name != e.name and e.whole and e.claimed.ndim and gamma.shape == e.claimed.shape[-1:] and gamma.all():
            if breaks(e.claimed, e.found) and not breaks(e.claimed / gamma, e.found):
                cause = f"what is centred is the gradient times {name}, so {name} belongs inside the sums"
                return "outside the sums", f"{name} was multiplied in after the centring: {cause}."
    return None


def statistics(e):
    """a − n is, along an axis, a multiple of 1, of x or of a softmax's y: a path through sums over this axis."""
    if not e.whole or not e.claimed.ndim or e.near:
        return None
    for axes in groups(e.claimed.ndim):
        centred, across = vanishes(e.found, axes, CLOSE), across_x(e.found, e.x, axes, vanishes(e.found, axes, CLOSE))
        for words, basis in bases(e):
            if not spans(e.claimed - e.found, basis, axes):
                continue
            over = names(axes)
            if centred and not vanishes(e.claimed, axes, 1e-3):
                return "centring", centring_sentence(over, across and "x" in words)
            if across and "x" in words and not across_x(e.claimed, e.x, axes, centred, 0.03):
                return "projection", projection_sentence(e.name)
            if centred:
                kind = "projection" if "x" in words else "centring"
                return kind, f"along {over} it is off by {said(words, e.name)}: a norm's term has a wrong factor."
            cause = f"a path through {'a sum of squares or a norm' if 'x' in words else 'a sum or mean'} over {over}"
            why = f"along {over} it is off by {said(words, e.name)}: {cause} is missing or wrong."
            return "missing term", why, PERHAPS
    return None


def bases(e):
    """(names, arrays): what the error may be made of along the axis of a softmax or norm."""
    one, x = np.ones(e.claimed.shape), e.x
    yield ("1",), [one]
    yield ("x",), [x]
    yield ("1", "x"), [one, x]
    if e.y.shape == x.shape:
        yield ("y",), [e.y]
        if np.abs(e.y).max() < 30:
            yield ("1", "exp(y)"), [one, np.exp(e.y)]


def said(words, name):
    return "a constant" if words == ("1",) else " and ".join(f"a multiple of {name if w == 'x' else w}" for w in words)


def spans(r, basis, axes):
    """Whether r is made of these arrays, with coefficients of its own for each group along `axes`, and not by luck."""
    rows = [np.moveaxis(v, axes, range(-len(axes), 0)).reshape(-1, size_of(r, axes)) for v in (r, *basis)]
    r, vectors = rows[0], np.stack(rows[1:], -1)
    count, length = r.shape
    if count * (length - len(basis)) < 3 or length < len(basis) + 1 or not r.any():
        return False
    coefficients = np.linalg.pinv(vectors) @ r[..., None]
    left = np.abs((vectors @ coefficients)[..., 0] - r).max()
    return bool(left <= CLOSE * np.abs(r).max())


def size_of(g, axes):
    return int(np.prod([g.shape[axis] for axis in axes]))


def groups(ndim):
    """Axes that a norm may go over, the most at once first: what holds for few holds within them as well."""
    last = [tuple(range(i, ndim)) for i in range(1, ndim)]
    but_one = [tuple(i for i in range(ndim) if i != k) for k in range(ndim)] if ndim > 1 else []
    candidates = {tuple(range(ndim)), *last, *but_one, *((i,) for i in range(ndim))} - {()}
    return sorted(candidates, key=lambda axes: (-len(axes), -axes[-1], axes))


def breaks(a, n):
    """The first axes along which n sums to 0 and a does not, or None."""
    ndim = n.ndim
    if not ndim:
        return None
    candidates = {(ndim - 1,), *((i,) for i in range(ndim)), tuple(range(ndim - 1)), tuple(range(ndim))} - {()}
    for axes in sorted(candidates, key=lambda axes: (len(axes), axes)):
        if n.sum(axes).size < n.size and vanishes(n, axes, CLOSE) and not vanishes(a, axes, 1e-3):
            return axes
    return None


def vanishes(g, axes, tolerance):
    """Whether g sums to 0 over these axes, everywhere, measured by its own size."""
    return bool((np.abs(g.sum(axes)) <= tolerance * np.abs(g).sum(axes).max()).all())


def across_x(g, x, axes, centred, tolerance=3e-3):
    """Whether ⟨x, g⟩ = 0 over these axes, x centred there where that is what a norm does."""
    x = x - x.mean(axes, keepdims=True) if centred else x
    return x.size >= 3 * x.sum(axes).size and vanishes(x * g, axes, tolerance)


def centring(e):
    """Σ n = 0 and Σ a ≠ 0 along an axis: so it is where a constant does not change the output (softmax, a norm)."""
    axes = breaks(e.claimed, e.found) if e.whole else None
    return ("centring", centring_sentence(names(axes), bool(projection(e)), "perhaps ")) if axes else None


def projection(e):
    """⟨x, n⟩ = 0 and ⟨x, a⟩ ≠ 0 along an axis, x centred there if n is: so it is where a length changes nothing."""
    if not e.whole or not e.claimed.ndim:
        return None
    ndim = e.found.ndim
    for axes in {(ndim - 1,), tuple(range(ndim - 1)) or (0,)}:
        centred = vanishes(e.found, axes, CLOSE)
        if across_x(e.found, e.x, axes, centred) and not across_x(e.claimed, e.x, axes, centred, 0.03):
            return "projection", projection_sentence(e.name, "perhaps ")
    return None


def of_a_norm(e):
    """`centring` or `projection` where x and y have one shape, as in a softmax or norm, or a loss sees all of x so."""
    if e.y.shape == e.x.shape and not e.is_loss:
        return centring(e) or projection(e)
    axes = breaks(e.claimed, e.found) if e.whole and e.is_loss else None
    return centring(e) if axes and len(axes) == e.claimed.ndim > 1 else None


def names(axes):
    return " and ".join(f"axis {axis}" for axis in axes)


def centring_sentence(over, also, perhaps=""):
    more = " Its projection is missing too: mean and variance were taken for constants." if also else ""
    return (
        f"it does not sum to 0 over {over}, and must, for a constant added there does not change the output: "
        f"{perhaps}the centring of a softmax or norm, the term with the sum or mean, is missing or wrong.{more}"
    )


def projection_sentence(name, perhaps=""):
    return (
        f"it is not across {name}, and must be, for the length of {name} does not change the output: "
        f"{perhaps}a norm's second term, x̂ times the mean of (gradient ∘ x̂), is missing or wrong."
    )


def one_sided_sums(e):
    """Σ a = 0 and Σ n ≠ 0 along an axis, and both sum to 0 as a whole: one of two softmaxes, over rows and columns."""
    if not e.whole or e.claimed.ndim != 2 or not e.is_loss:
        return None
    for axis in (1, 0):
        if vanishes(e.claimed, (axis,), CLOSE) and not vanishes(e.found, (axis,), 1e-3):
            over = f"it sums to 0 over axis {axis}, where the truth does not"
            if vanishes(e.found, (0, 1), CLOSE) and is_symmetric(e):
                what = ("columns", "rows")[axis]
                return "one-sided", f"{over}: as from a softmax over {what} alone, P − I without Q − I."
            if pairs(e):
                return "one-sided", f"{over}: as from the loss of one direction alone, where it has two."
    return None


def is_symmetric(e):
    """Whether a loss of a square matrix is that of its transpose, as of similarities with two softmaxes."""
    return e.claimed.shape[0] == e.claimed.shape[1] and np.allclose(e.forward({e.name: e.x.T}), e.y)


def pairs(e):
    """Whether the loss does not change when this array and another are exchanged, as features of pictures and texts."""
    others = [name for name, leaf in e.leaves.items() if name != e.name and np.shape(leaf) == e.claimed.shape]
    return any(np.allclose(e.forward({name: e.x, e.name: np.asarray(e.leaves[name])}), e.y) for name in others[:4])


def wrong_axes(e):
    """Σ n = 0 over some axes and Σ a = 0 over others: centred over the wrong ones."""
    if not e.whole or e.claimed.ndim < 2:
        return None
    choices = [axes for k in range(1, e.claimed.ndim) for axes in combinations(range(e.claimed.ndim), k)]
    true = [axes for axes in choices if vanishes(e.found, axes, CLOSE) and not vanishes(e.claimed, axes, 1e-3)]
    taken = [axes for axes in choices if vanishes(e.claimed, axes, CLOSE) and not vanishes(e.found, axes, 1e-3)]
    if not true or not taken:
        return None
    over = f"it sums to 0 over {names(taken[0])}, and must over {names(true[0])}"
    return "wrong axis", f"{over}: the wrong axis was taken."
