"""What backward takes for the Jacobian J = ∂y/∂x, against J itself: its shape, not its numbers.

Which outputs does an input reach? A mask forgotten shows as paths that the forward pass does not have, a sum over the
wrong axis as a mixing of what is kept apart, a recurrence cut short as a J without its triangle.
"""

import numpy as np

from .evidence import CLOSE, alike
from .forgotten_step import has_loop
from .norms import centring
from .places import subsets
from .some_places import bound


def slope(e):
    """Both Jacobians are diagonal and differ: the slope of another function, entry by entry, or a mask."""
    both = diagonals(e)
    if both is None:
        return None
    true, taken = both
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


def diagonals(e):
    """∂y/∂x, true and as backward takes it, where each output depends on the input at its own place alone; or None."""
    if e.near or e.cotangent.shape != e.claimed.shape or e.is_loss:
        return None
    rng = np.random.default_rng(3)
    signs = rng.choice([-1.0, 1.0], (2, *e.claimed.shape)) * rng.uniform(0.5, 2, (2, *e.claimed.shape))
    true, again = (e.along(u.ravel()) / u for u in signs)
    if not alike(true, again, float(np.abs(e.y).max()) * 1e-3):
        return None
    taken, again = (e.pull(c) / c for c in signs)
    return (true, taken) if alike(taken, again) else None


def jacobian(e):
    """J against what backward takes for it: transposed, turned, in another order, mixed along an axis."""
    both = e.jacobians() if e.whole and not e.is_loss else None
    if both is None:
        return None
    true, taken = both
    square = true.shape[0] == true.shape[1]
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    shared = [i for i, (m, n) in enumerate(zip(y_shape, x_shape)) if m == n > 1]
    for axes in subsets(shared):
        turned = np.flip(taken.reshape(y_shape + x_shape), [*axes, *(len(y_shape) + i for i in axes)])
        if alike(turned.reshape(true.shape), true) and not alike(taken, true):
            over = ", ".join(map(str, axes))
            return "turned", (
                f"it is right when axis {over} runs the other way: backward must run backwards along it "
                "(in a convolution: turn the kernel by 180°)."
            )
    if square and alike(taken, true.T):
        rotation = alike(true @ true.T, np.eye(len(true)) * (true[0] @ true[0]))
        more = " (J is a rotation: it turns the wrong way, a sign)" if rotation else ""
        return "transposed", f"it is J c where Jᵀ c is due{more}: a matrix stands as it is where its transpose belongs."
    if same_rows(true, taken):
        return "permuted", "it is right when dy is put in another order: parts are joined or moved in the wrong order."
    if alike(np.sort(taken, 1), np.sort(true, 1)):
        return "permuted", (
            "each output sends back the right numbers, but to other inputs than those it comes from: "
            "perhaps a stride, a dilation, a padding or an order of axes is not the same in backward."
        )
    return None


def same_rows(one, other):
    """Whether two matrices have the same rows in another order."""
    scale = np.abs(one).max()
    if len(one) > 512 or not scale:
        return False
    sums = [np.sort(m @ np.cos(np.arange(m.shape[1]))) for m in (one, other)]
    if not alike(*sums, scale):
        return False
    apart = np.abs(one[:, None] - other[None]).max(-1) <= CLOSE * scale
    return bool(apart.any(0).all() and apart.any(1).all())


def cut_short(e):
    """J is a triangle along an axis, and what backward takes for it the diagonal: a recurrence, or a causal mask."""
    for k, (true, taken) in couplings(e).items():
        if is_diagonal(taken) and not is_diagonal(true) and is_triangle(true):
            if has_loop(e):
                return "time step", (
                    f"along axis {k} later outputs depend on earlier inputs, and backward forgets it: "
                    "what flows back from step to step (dh of the next step) is not added."
                )
            return "mask", (
                f"along axis {k} an output depends on inputs to one side of its own place, and backward knows "
                "that place alone: perhaps the causal mask of backward is the other triangle."
            )
    return None


def mixing(e):
    """Along which axes backward couples indices that the forward pass keeps apart."""
    found = couplings(e)
    apart = [k for k, (true, taken) in found.items() if is_diagonal(taken) and not is_diagonal(true)]
    for k, (true, taken) in found.items():
        if is_diagonal(true) and not is_diagonal(taken):
            instead = f", and keeps apart those of axis {apart[0]}, which it mixes" if apart else ""
            return "wrong axis", (
                f"backward mixes the indices of axis {k}, which the forward pass keeps apart{instead}: "
                "perhaps a sum, mean or reshape takes the wrong axis."
            )
        if (taken & ~true).any() and is_triangle(true):
            return "mask", (
                f"it reaches indices of axis {k} on which the output does not depend, before or after its own: "
                "perhaps a causal mask was forgotten."
            )
        if (taken & ~true).any() and blocks(true):
            return "wrong axis", f"axis {k} falls into {blocks(true)} groups that do not mix, and backward mixes them."
    return None


def couplings(e):
    """{axis: (true, taken)}: whether index i of an axis of y depends on index j of the same axis of x, bool (L, L)."""
    both = e.jacobians() if e.whole and not e.is_loss else None
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    if both is None or len(y_shape) != len(x_shape):
        return {}
    shared = [k for k, (m, n) in enumerate(zip(y_shape, x_shape)) if m == n > 1]
    return {k: tuple(coupling(matrix, y_shape, x_shape, k) for matrix in both) for k in shared}


def coupling(matrix, y_shape, x_shape, k):
    """Whether index i of axis k of y depends on index j of that axis of x: bool (L, L)."""
    ndim = len(y_shape)
    others = tuple(i for i in range(2 * ndim) if i not in (k, ndim + k))
    strength = np.abs(matrix).reshape(y_shape + x_shape).max(others)
    return strength > CLOSE * strength.max(initial=0)


def is_triangle(pattern):
    """Whether each index depends on the one before (or after) it, and on none on the other side."""
    below, above = pattern.diagonal(-1).all(), pattern.diagonal(1).all()
    if len(pattern) < 3 or below == above:
        return False
    return not (np.triu(pattern, 1) if below else np.tril(pattern, -1)).any()


def is_diagonal(pattern):
    return not (pattern & ~np.eye(len(pattern), dtype=bool)).any()


def blocks(pattern):
    """How many groups, if the pattern is made of them, full blocks on the diagonal, and not of single ones; else 0."""
    rows = {tuple(row) for row in pattern}
    return len(rows) if 1 < len(rows) < len(pattern) and sum(sum(row) for row in rows) == len(pattern) else 0


def paths(e):
    """Paths that backward has too many, or too few; what differs is of small rank."""
    both = e.jacobians() if e.whole and not e.is_loss else None
    if both is None:
        return None
    true, taken = both
    size = np.abs(true).max()
    scale = max(size, np.abs(taken).max())
    unseen, missed = np.abs(true) <= 1e-9 * size, (np.abs(taken) <= 1e-9 * size) & (np.abs(true) > CLOSE * size)
    wrong = np.abs(true - taken) > CLOSE * scale
    if unseen.mean() > 0.05 and wrong.any() and not (wrong & ~unseen).any():
        return "mask", (
            "it is right but for inputs on which the output does not depend: "
            "perhaps a mask, a maximum or a stride was forgotten."
        )
    if not missed.any() or (taken == 0).mean() < 0.1:
        pass
    elif centred := centring(e):
        return centred
    elif np.array_equal(missed, wrong):
        kind = "time step" if has_loop(e) else "missing term"
        return kind, (
            f"it is right but for {missed.sum()} of {(~unseen).sum()} pairs of an input and an output, and there 0: "
            "a path by which the input reaches the output is missing."
        )
    if wrong.mean() < 0.2:
        return None
    singular = [np.linalg.svd(m, compute_uv=False) for m in (true - taken, true)]
    rank, full = (int((s > 1e-6 * scale).sum()) for s in singular)
    if 3 * rank <= full:
        return "missing term", (
            f"what is missing or too much has rank {rank}, the whole {full}: a path through few numbers, "
            "such as a sum, a norm, a maximum or a shared scalar."
        )
    return None
