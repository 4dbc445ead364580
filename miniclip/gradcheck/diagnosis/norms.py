"""Softmax and norms: what must sum to 0, and what may be missing of the terms that see to it.

A constant added to the logits of a softmax changes nothing, so their gradients sum to 0; a norm forgets the mean of
its input (centring) and the length (projection). What a backward pass forgets of these lies in few directions along
the axis of the norm: it is a multiple of 1, of x, or of a softmax's y. That is tested, not the sums alone, for a sum
may be 0 for other reasons.
"""

import numpy as np

from .evidence import CLOSE, PERHAPS


def statistics(e):
    """a − n is, along an axis, a multiple of 1, of x or of a softmax's y: a path through sums over this axis."""
    if not e.whole or e.near:
        return None
    for axes in groups(e.claimed.ndim):
        centred = vanishes(e.found, axes, CLOSE)
        across = across_x(e.found, e.x, axes, centred)
        for words, basis in bases(e):
            if not spans(e.claimed - e.found, basis, axes):
                continue
            off = f"along {names(axes)} it is off by {' and '.join(f'a multiple of {word}' for word in words)}"
            if centred and not vanishes(e.claimed, axes, 1e-3):
                return "centring", centring_sentence(axes, across and e.name in words)
            if across and e.name in words and not across_x(e.claimed, e.x, axes, centred, 0.03):
                return "projection", projection_sentence(e.name)
            if centred:
                return "projection" if e.name in words else "centring", f"{off}: a norm's term has a wrong factor."
            cause = f"a path through {'a sum of squares or a norm' if e.name in words else 'a sum or mean'}"
            return "missing term", f"{off}: perhaps {cause} is missing or wrong.", PERHAPS
    return None


def bases(e):
    """(names, arrays): what the error may be made of along the axis of a softmax or norm."""
    one, x = np.ones(e.claimed.shape), e.x
    yield ("1",), [one]
    yield (e.name,), [x]
    yield ("1", e.name), [one, x]
    if e.y.shape == x.shape:
        yield ("y",), [e.y]
        if np.abs(e.y).max() < 30:
            yield ("1", "exp(y)"), [one, np.exp(e.y)]


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
    """How many entries of g are summed over these axes."""
    return int(np.prod([g.shape[axis] for axis in axes]))


def groups(ndim):
    """Axes that a norm may go over, the most at once first: what holds for few holds within them as well."""
    last = [tuple(range(i, ndim)) for i in range(ndim)]
    but_one = [tuple(i for i in range(ndim) if i != k) for k in range(ndim)]
    candidates = {*last, *but_one, *((i,) for i in range(ndim))} - {()}
    return sorted(candidates, key=lambda axes: (-len(axes), -axes[-1], axes))


def vanishes(g, axes, tolerance):
    """Whether g sums to 0 over these axes, everywhere, measured by its own size."""
    return bool((np.abs(g.sum(axes)) <= tolerance * np.abs(g).sum(axes).max()).all())


def across_x(g, x, axes, centred, tolerance=3e-3):
    """Whether ⟨x, g⟩ = 0 over these axes, x centred there where that is what a norm does."""
    x = x - x.mean(axes, keepdims=True) if centred else x
    return x.size >= 3 * x.sum(axes).size and vanishes(x * g, axes, tolerance)


def breaks(a, n):
    """The first axes along which n sums to 0 and a does not, or None; a single axis first."""
    for axes in groups(n.ndim)[::-1]:
        if n.sum(axes).size < n.size and vanishes(n, axes, CLOSE) and not vanishes(a, axes, 1e-3):
            return axes
    return None


def lacking(e):
    """ "centring" or "projection" where the numbers lack it along some axis, else "missing term"."""
    if not e.whole:
        return "missing term"
    if breaks(e.claimed, e.found):
        return "centring"
    return "projection" if turned_towards_x(e) else "missing term"


def turned_towards_x(e):
    """Whether ⟨x, n⟩ = 0 and ⟨x, a⟩ ≠ 0 along an axis, x centred if n is: so it is where a length changes nothing."""
    for axes in {(e.found.ndim - 1,), tuple(range(e.found.ndim - 1))} - {(), (-1,)}:
        centred = vanishes(e.found, axes, CLOSE)
        if across_x(e.found, e.x, axes, centred) and not across_x(e.claimed, e.x, axes, centred, 0.03):
            return True
    return False


def of_a_norm(e):
    """Σ a ≠ 0 or ⟨x, a⟩ ≠ 0 where n has it so, and x and y have one shape, or a loss sees all of x so."""
    axes = breaks(e.claimed, e.found) if e.whole else None
    same = e.y.shape == e.x.shape and not e.is_loss
    if axes and (same or e.is_loss and len(axes) == e.claimed.ndim > 1):
        return "centring", centring_sentence(axes, turned_towards_x(e), "perhaps ")
    if same and e.whole and turned_towards_x(e):
        return "projection", projection_sentence(e.name, "perhaps ")
    return None


def factor_outside(e):
    """a / γ is centred, where a is not."""
    for name, gamma in e.leaves.items() if e.whole else ():
        if name != e.name and e.claimed.ndim and gamma.shape == e.claimed.shape[-1:] and gamma.all():
            if breaks(e.claimed, e.found) and not breaks(e.claimed / gamma, e.found):
                cause = f"what is centred is the gradient times {name}, so {name} belongs inside the sums"
                return "outside the sums", f"{name} was multiplied in after the centring: {cause}."
    return None


def one_sided_sums(e):
    """Σ a = 0 along an axis where Σ n ≠ 0, and both sum to 0 as a whole: one of two softmaxes, of rows and columns."""
    if not e.whole or e.claimed.ndim != 2 or not e.is_loss or not vanishes(e.found, (0, 1), CLOSE):
        return None
    for axis in (1, 0):
        if vanishes(e.claimed, (axis,), CLOSE) and not vanishes(e.found, (axis,), 1e-3):
            over = f"it sums to 0 over axis {axis}, where the truth does only as a whole"
            what = ("columns", "rows")[axis]
            return "one-sided", f"{over}: perhaps from a softmax over {what} alone, P − I without Q − I."
    return None


def names(axes):
    """(0, 2) -> “axis 0 and axis 2”."""
    return " and ".join(f"axis {axis}" for axis in axes)


def centring_sentence(axes, also, perhaps=""):
    """What is said where Σ n = 0 over these axes and Σ a is not."""
    more = " Its projection is missing too: mean and variance were taken for constants." if also else ""
    return (
        f"it does not sum to 0 over {names(axes)}, and must, for a constant added there does not change the output: "
        f"{perhaps}the centring of a softmax or norm, the term with the sum or mean, is missing or wrong.{more}"
    )


def projection_sentence(name, perhaps=""):
    """What is said where ⟨x, n⟩ = 0 and ⟨x, a⟩ is not."""
    return (
        f"it is not across {name}, and must be, for the length of {name} does not change the output: "
        f"{perhaps}a norm's second term, x̂ times the mean of (gradient ∘ x̂), is missing or wrong."
    )
