"""What backward takes for the Jacobian J = ∂y/∂x, against J itself: its shape, not its numbers.

Which outputs does an input reach? A mask forgotten shows as paths that the forward pass does not have, a sum over the
wrong axis as a mixing of what is kept apart.
"""

import numpy as np

from .evidence import CLOSE, alike, subsets
from .some_places import bound


def slope(e):
    """Both Jacobians are diagonal and differ: the slope of another function, entry by entry, or a mask."""
    if e.near or e.diagonals is None:
        return None
    true, taken = e.diagonals
    size = max(np.abs(true).max(), np.abs(taken).max())
    wrong, dead = np.abs(true - taken) > CLOSE * size, np.abs(true) <= 1e-9 * size
    if not wrong.any() or alike(taken, true * ((taken * true).sum() / (true * true).sum())):
        return None  # off by one factor for all
    where = bound(e.x, wrong)
    if dead[wrong].all():
        if where and not np.array_equal(dead, e.x <= 0):
            return "clip", f"the output does not depend on {e.name} {where}: a clip of the forward pass was forgotten."
        return "mask", f"the slope is 0 in {dead.sum()} places, and backward's is not: a mask or maximum was forgotten."
    if dead.any() and np.array_equal(np.abs(taken) <= 1e-9 * size, ~dead):
        return "mask", "it is 0 where the truth is not, and the other way about: the mask is inverted."
    if where:
        what = "the slope of another function" if taken[wrong].any() else "0"
        return "slope", f"it is right but {where}, and there {what}: that branch of the function is wrong."
    if wrong.mean() > 0.5:
        return "slope", "each entry depends on its own alone, as it should, but by the slope of another function."
    return None


def jacobian(e):
    """J against what backward takes for it: transposed, turned, in another order."""
    if e.jacobians is None:
        return None
    true, taken = e.jacobians
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    shared = [i for i, (m, n) in enumerate(zip(y_shape, x_shape)) if m == n > 1]
    for axes in subsets(shared) if not alike(taken, true) else ():
        turned = np.flip(taken.reshape(y_shape + x_shape), [*axes, *(len(y_shape) + i for i in axes)])
        if alike(turned.reshape(true.shape), true):
            return "turned", f"it is right when axis {', '.join(map(str, axes))} runs the other way: turn it round."
    if true.shape[0] == true.shape[1] and alike(taken, true.T):
        rotation = alike(true @ true.T, np.eye(len(true)) * (true[0] @ true[0]))
        more = " (J is a rotation: it turns the wrong way, a sign)" if rotation else ""
        return "transposed", f"it is J c where Jᵀ c is due{more}: a matrix stands as it is where its transpose belongs."
    if alike(np.sort(taken, 1), np.sort(true, 1)) or same_rows(true, taken):
        return "permuted", (
            "each output sends back the right numbers, but to other inputs than those it comes from: perhaps parts "
            "are joined in the wrong order, or a stride, a padding or an order of axes is not the same in backward."
        )
    return None


def same_rows(one, other):
    """Whether two matrices have the same rows in another order."""
    weights = np.cos(np.arange(one.shape[1]))
    rows = [m[np.argsort(m @ weights, kind="stable")] for m in (one, other)]
    return alike(*rows)


def mixing(e):
    """Along which axes backward couples indices that the forward pass keeps apart."""
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    if e.jacobians is None or len(y_shape) != len(x_shape):
        return None
    shared = [k for k, (m, n) in enumerate(zip(y_shape, x_shape)) if m == n > 1]
    found = {k: [coupling(matrix, y_shape, x_shape, k) for matrix in e.jacobians] for k in shared}
    apart = [k for k, (true, taken) in found.items() if is_diagonal(taken) and not is_diagonal(true)]
    for k, (true, taken) in found.items():
        if is_diagonal(true) and not is_diagonal(taken):
            instead = f", and keeps apart those of axis {apart[0]}, which it mixes" if apart else ""
            return "wrong axis", (
                f"backward mixes the indices of axis {k}, which the forward pass keeps apart{instead}: "
                "perhaps a sum, mean or reshape takes the wrong axis."
            )
        if not (taken & ~true).any():
            continue
        if true.sum() > len(true) and not (np.triu(true, 1).any() and np.tril(true, -1).any()):
            return "mask", (
                f"it reaches indices of axis {k} on which the output does not depend, before or after its own: "
                "perhaps a causal mask was forgotten."
            )
        rows = {tuple(row) for row in true}  # full blocks on the diagonal are as many different ones, apart
        if 1 < len(rows) < len(true) == sum(map(sum, rows)):
            return "wrong axis", f"axis {k} falls into {len(rows)} groups that do not mix, and backward mixes them."
    return None


def coupling(matrix, y_shape, x_shape, k):
    """Whether index i of axis k of y depends on index j of that axis of x: bool (L, L)."""
    ndim = len(y_shape)
    others = tuple(i for i in range(2 * ndim) if i not in (k, ndim + k))
    strength = np.abs(matrix).reshape(y_shape + x_shape).max(others)
    return strength > CLOSE * strength.max(initial=0)


def is_diagonal(pattern):
    """Whether nothing but the diagonal of a square pattern of booleans is set."""
    return not (pattern & ~np.eye(len(pattern), dtype=bool)).any()


def paths(e):
    """Paths that backward has and the forward pass has not; or what differs is of small rank."""
    if e.jacobians is None:
        return None
    true, taken = e.jacobians
    scale = max(np.abs(true).max(), np.abs(taken).max())
    unseen, wrong = np.abs(true) <= 1e-9 * np.abs(true).max(), np.abs(true - taken) > CLOSE * scale
    if unseen.mean() > 0.05 and wrong.any() and not (wrong & ~unseen).any():
        return "mask", (
            "it is right but for inputs on which the output does not depend: "
            "perhaps a mask, a maximum or a stride was forgotten."
        )
    rank, full = (int((np.linalg.svd(m, compute_uv=False) > 1e-6 * scale).sum()) for m in (true - taken, true))
    if wrong.mean() > 0.2 and 3 * rank <= full:
        return "missing term", (
            f"what is missing or too much has rank {rank}, the whole {full}: perhaps a path through few numbers, "
            "such as a sum, a norm, a maximum or a shared scalar."
        )
    return None
