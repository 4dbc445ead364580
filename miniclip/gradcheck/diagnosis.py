"""What is probably wrong with a gradient that is wrong.

Most mistakes in a backward pass are of few kinds, and each leaves its mark in the difference between what backward
claims, a, and what the forward pass gives, n: a factor, a transpose, indices that were never added up. Each test here
looks for one mark, named in its docstring: it takes `Evidence` and gives (kind, sentence) or None.
"""

from itertools import combinations

import numpy as np

from .evidence import CLOSE, alike
from .factors import factor, name_factor


def diagnose(e):
    """(kind, sentence) of the first test that fits, or "unknown" and how alike a and n are."""
    if not e.a.size:
        return "unknown", "every entry that was looked at is at a kink; move the point a little."
    for test in (*SURE, *LIKELY):
        if answer := test(e):
            return answer
    lengths = np.sqrt((e.a @ e.a) * (e.n @ e.n))
    cosine = float(e.a @ e.n / lengths) if lengths else 0.0
    similar = "almost right" if cosine > 0.99 else "partly right" if cosine > 0.5 else "unlike the truth"
    return "unknown", f"a term is missing or wrong; as a whole it is {similar} (cosine {cosine:.3f})."


def precision(e):
    """a = n to CLOSE, in most places not better."""
    if not e.near or (np.abs(e.a - e.n) > e.threshold).mean() < 0.3:
        return None
    digits = int(-np.log10(max(np.abs(e.a - e.n).max() / e.size, 1e-17)))
    causes = "a constant was rounded, float32 stands somewhere, or an ε is in the forward pass alone"
    return "precision", f"it is right to {digits} digits: {causes}."


def nothing(e):
    """a = 0, or n = 0."""
    if not e.a.any():
        return "never accumulated", "it is 0 everywhere: never computed, or computed and never added up."
    if np.abs(e.n).max() <= 1e-9 * e.size:
        cause = "a clip, a mask or a stopped gradient stands in the forward pass, and backward does not know it"
        return "clip", f"the output does not depend on {e.name} here: {cause}."
    return None


# ------------------------------------------------------------------------------------------ right numbers, elsewhere


def layout(e):
    """a is n with its axes exchanged, turned round, or its numbers read in another order."""
    if not e.whole or e.near:
        return None
    for i, j in combinations(range(e.claimed.ndim), 2):
        swapped = e.found.swapaxes(i, j)
        if alike(e.claimed, swapped):
            return "transposed", f"it is transposed: axes {i} and {j} are exchanged."
        if alike(e.claimed.ravel(), swapped.ravel()):
            return "transposed", f"its numbers are those with axes {i} and {j} exchanged: reshaped, not transposed."
    for axes in subsets(range(e.claimed.ndim)):
        if alike(e.claimed, np.flip(e.found, axes)):
            over = ", ".join(map(str, axes))
            return "turned", f"it runs backwards along axis {over}: a kernel was turned by 180°, or was not."
    return None


def exchanged(e):
    """a is the n of another array."""
    for name, found in (e.elsewhere() if e.whole else {}).items():
        if alike(e.claimed, found):
            return "swapped", f"it is the gradient of {name}: the two were exchanged."
    return None


def shortcut(e):
    """a = n ± c, where x and y have one shape, as around a residual block."""
    if not e.whole or e.cotangent.shape != e.claimed.shape or not e.cotangent.any():
        return None
    for sign, what in ((-1, "forgotten"), (1, "taken twice")):
        if alike(e.claimed - e.found, sign * e.cotangent):
            return "shortcut", f"the output's own gradient was {what}: that of the shortcut around the block, x + f(x)."
    return None


# ------------------------------------------------------------------------------------------ wrong in places


def some_indices(e):
    """a = n but for some indices."""
    wrong = np.zeros(e.claimed.shape, bool)
    wrong[e.known] = np.abs(e.a - e.n) > e.threshold
    count, known = wrong.sum(), e.known.sum()
    axis, indices = narrowest_axis(wrong, e.known)
    if count > 0.9 * known and axis is None:
        return None
    a, n = e.claimed[wrong], e.found[wrong]
    if count == 1 < wrong.size:
        where = f"only entry {[int(i[0]) for i in np.nonzero(wrong)]} is wrong"
    elif axis is not None:
        where = f"only {describe(indices)} of axis {axis} is wrong"
    else:
        where = f"only some indices are wrong, {count} of {known}"
    for name, ids in e.constants.items():
        if axis == 0 and getattr(ids, "dtype", np.dtype(float)).kind in "iu" and ids.size:
            values, counts = np.unique(ids, return_counts=True)
            if set(indices) <= set(values[counts > 1]):
                cause = f"an id that stands more than once in {name} overwrites, where all must be added up"
                return "overwritten", f"{where}: {cause} (np.add.at)."
    if not a.any():
        return "never accumulated", f"{where}: it is 0 there, never computed or never added up."
    if not n.any():
        return "mask", f"{where}: the truth there is exactly 0, so a mask (of the forward pass) was forgotten."
    alpha = float(a @ n / (n @ n))
    if alike(a, alpha * n):
        return "some indices", f"{where}; there {name_factor(alpha, e)[1]}"
    return "some indices", f"{where}."


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


# ------------------------------------------------------------------------------------------ softmax and norms


def factor_outside(e):
    """a / γ is centred, where a is not."""
    for name, gamma in e.leaves.items():
        gamma = np.asarray(gamma)
        if name != e.name and e.whole and e.claimed.ndim and gamma.shape == e.claimed.shape[-1:] and gamma.all():
            if breaks(e.claimed, e.found) and not breaks(e.claimed / gamma, e.found):
                cause = f"what is centred is the gradient times {name}, so {name} belongs inside the sums"
                return "outside the sums", f"{name} was multiplied in after the centring: {cause}."
    return None


def breaks(a, n):
    """The first axes along which n sums to 0 and a does not, or None."""
    ndim = n.ndim
    candidates = {(ndim - 1,), *((i,) for i in range(ndim)), tuple(range(ndim - 1)), tuple(range(ndim))} - {()}
    for axes in sorted(candidates, key=lambda axes: (len(axes), axes)):
        if n.sum(axes).size < n.size and vanishes(n, axes, CLOSE) and not vanishes(a, axes, 1e-3):
            return axes
    return None


def vanishes(g, axes, tolerance):
    """Whether g sums to 0 over these axes, everywhere, measured by its own size."""
    return bool((np.abs(g.sum(axes)) <= tolerance * np.abs(g).sum(axes).max()).all())


def centring(e):
    """Σ n = 0 and Σ a ≠ 0 along an axis: so it is where a constant does not change the output (softmax, a norm)."""
    axes = breaks(e.claimed, e.found) if e.whole else None
    if not axes:
        return None
    over = " and ".join(f"axis {axis}" for axis in axes)
    also = " Its projection is missing too: mean and variance were taken for constants." if projection(e) else ""
    return "centring", (
        f"it does not sum to 0 over {over}, and must, for a constant added there does not change the output: the "
        f"centring of a softmax or norm, the term with the sum or mean, is missing or wrong.{also}"
    )


def projection(e):
    """⟨x, n⟩ = 0 and ⟨x, a⟩ ≠ 0 along an axis, x centred there if n is: so it is where a length changes nothing."""
    if not e.whole or not e.claimed.ndim:
        return None
    x, ndim = np.asarray(e.leaves[e.name]), e.found.ndim
    for axes in {(ndim - 1,), tuple(range(ndim - 1)) or (0,)}:
        centred = x - x.mean(axes, keepdims=True) if vanishes(e.found, axes, CLOSE) else x
        across = vanishes(centred * e.found, axes, 3e-3) and not vanishes(centred * e.claimed, axes, 0.03)
        if across and x.size >= 3 * x.sum(axes).size:
            return "projection", (
                f"it is not across {e.name}, and must be, for the length of {e.name} does not change the output: "
                "a norm's second term, x̂ times the mean of (gradient ∘ x̂), is missing or wrong."
            )
    return None


# ------------------------------------------------------------------------------------------ the whole Jacobian


def jacobian(e):
    """What backward takes for J, against J: transposed, turned, through a mask, or a slope of another function."""
    both = e.jacobians() if e.whole else None
    if both is None:
        return None
    true, taken = both
    square, size = true.shape[0] == true.shape[1], np.abs(true).max()
    if square and alike(taken, true.T):
        return "transposed", "it is J c where Jᵀ c is due: a matrix stands as it is where its transpose belongs."
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    shared = [i for i, (m, n) in enumerate(zip(y_shape, x_shape)) if m == n > 1]
    for axes in subsets(shared):
        turned = np.flip(taken.reshape(y_shape + x_shape), [*axes, *(len(y_shape) + i for i in axes)])
        if alike(turned.reshape(true.shape), true) and not alike(taken, true):
            over = ", ".join(map(str, axes))
            return "turned", f"it is right when axis {over} runs the other way: backward must turn the kernel by 180°."
    if square and is_diagonal(true, size) and is_diagonal(taken, size):
        return "slope", "each entry depends on its own alone, as it should, but by the slope of another function."
    unseen = np.abs(true) <= 1e-12 * size
    if (np.abs(taken[unseen]) > CLOSE * size).any() and unseen.mean() > 0.05:
        return "mask", "it reaches inputs on which the output does not depend: a mask was forgotten."
    return None


def is_diagonal(matrix, size):
    """Whether a square matrix has nothing but its diagonal, measured by `size`."""
    return np.abs(matrix - np.diag(np.diag(matrix))).max() <= CLOSE * size


def subsets(axes):
    """All choices of one axis, two axes … of these."""
    return [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]


SURE = (precision, nothing, factor, layout, exchanged, shortcut)
LIKELY = (some_indices, factor_outside, centring, projection, jacobian)
