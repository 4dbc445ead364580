"""What is probably wrong with a gradient that is wrong.

Backward passes are spoiled in few ways, and each leaves its mark in the difference between what
backward claims, a, and what the forward pass says, n:

    a = α n                   a factor: −1, 2, the batch size N, the temperature, a forgotten 1/√d
    a = nᵀ                    transposed, turned or reshaped
    a = n but for some        indices that were never added up, that overwrote each other, or a mask
    Σ n = 0 and Σ a ≠ 0       what is indifferent to a constant (softmax, a norm) has a gradient that sums
                              to 0: its centring was forgotten
    ⟨x, n⟩ = 0, ⟨x, a⟩ ≠ 0    what is indifferent to length (a norm, the unit sphere) has a gradient
                              across x: its projection was forgotten
    a = n ± c                 the shortcut around a block was forgotten, or taken twice

and where the layer is small, the whole Jacobian is looked at. Each test below is one of these. They are
tried in order, from what leaves no doubt to what is only likely; the first that fits is reported.
"""

import inspect
import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np

CLOSE = 1e-5  # relative; also of a central difference's digits
SUSPICIOUS = re.compile(
    r"(?:np|xp|cp|numpy)\.(?:linalg\.norm|abs|absolute|fabs|var|std|vdot|conj|conjugate|real|hypot"
    r"|sign|float64|float32)\b|\.(?:var|std|conj|conjugate)\(|\babs\(|\bfloat\(|\bmath\.\w+"
)


def diagnose(evidence):
    """(kind, sentence) for a gradient that is wrong; kind is "unknown" where nothing fits."""
    for test in TESTS:
        if said := test(evidence):
            return said
    cosine = evidence.cosine()
    similar = "almost right" if cosine > 0.99 else "partly right" if cosine > 0.5 else "unlike the truth"
    return "unknown", f"a term is missing or wrong; as a whole it is {similar} (cosine {cosine:.3f})."


@dataclass
class Evidence:
    """What is known of one wrong gradient."""

    name: str
    claimed: np.ndarray  # what backward says
    found: np.ndarray  # what the forward pass says; NaN where it was not asked
    leaves: dict  # all arrays of floats among the arguments
    constants: dict  # all other arguments
    cotangent: np.ndarray
    tolerance: float  # relative, of the check that failed
    elsewhere: object  # () -> {name: gradient found} of arrays of the same shape
    jacobians: object  # () -> (∂y/∂x, what backward takes for it), each (M, size), or None

    def __post_init__(self):
        self.x = np.asarray(self.leaves[self.name])
        self.known = np.isfinite(self.found)
        self.whole = bool(self.known.all())
        self.a, self.n = self.claimed[self.known], self.found[self.known]
        self.size = float(max(np.abs(self.a).max(initial=0), np.abs(self.n).max(initial=0)))
        self.near = alike(self.a, self.n, self.size)
        self.threshold = (min(CLOSE, 2 * self.tolerance) if self.near else CLOSE) * self.size

    def cosine(self):
        product = np.sqrt((self.a @ self.a) * (self.n @ self.n))
        return float(self.a @ self.n / product) if product else 0.0


def alike(a, b, size=0.0):
    """Whether two arrays are equal to CLOSE of the larger, or of `size`."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * max(np.abs(b).max(initial=0), size, 1e-300)


# ------------------------------------------------------------------------------------------ a factor


def precision(e):
    """a = n to CLOSE, in most places not better."""
    if not e.a.size:
        return "unknown", "every entry that was looked at is at a kink; move the point a little."
    if not e.near or (np.abs(e.a - e.n) > e.threshold).mean() < 0.3:
        return None
    digits = int(-np.log10(max(np.abs(e.a - e.n).max() / e.size, 1e-17)))
    return "precision", (
        f"it is right to {digits} digits: a constant was rounded, float32 stands somewhere, or an ε "
        "is in the forward pass alone."
    )


def nothing(e):
    """a = 0, or n = 0."""
    if not e.a.any():
        return "never accumulated", "it is 0 everywhere: never computed, or computed and never added up."
    if np.abs(e.n).max() <= 1e-9 * e.size:
        return "clip", (
            f"the output does not depend on {e.name} here, for a clip, a mask or a stopped gradient stands "
            "in the forward pass; backward goes on as if it did not."
        )
    return None


def factor(e):
    """a = α n with one α for all."""
    if e.near:
        return None
    alpha = float(e.a @ e.n / (e.n @ e.n))
    return name_factor(alpha, e) if alike(e.a, alpha * e.n) else None


def name_factor(alpha, e):
    """(kind, sentence) for a constant that a gradient is off by."""
    if abs(alpha + 1) <= CLOSE:
        return "−1", "the sign is wrong."
    for value, kind, meaning in known_factors(e):
        if abs(alpha - value) <= CLOSE * abs(value):
            return kind, f"it is {alpha:.6g} times what it should be: {meaning}."
        if abs(alpha + value) <= CLOSE * abs(value):
            return kind, f"it is {alpha:.6g} times what it should be: the sign is wrong, and {meaning}."
    return "factor", f"it is {alpha:.6g} times what it should be: a constant is wrong."


def known_factors(e):
    """Factors that backward passes are commonly off by: (value, kind, meaning), the likeliest first."""
    yield 2, "2", "a ½ was forgotten, or it was added up twice"
    yield 0.5, "½", "one of two equal contributions was forgotten, or a ½ stands twice"
    for name, leaf in e.leaves.items():
        if np.ndim(leaf) == 0 and abs(float(leaf)) < 30:
            for value, label in ((np.exp(float(leaf)), f"exp({name})"), (float(leaf), name)):
                yield value, "1/τ", f"that is {label}, so the scale 1/τ was applied once too often"
                yield 1 / value if value else 0, "τ", f"that is 1/{label}, so the scale 1/τ was forgotten"
    lengths = {}
    for name, leaf in [*e.leaves.items(), ("the output", e.cotangent)]:
        for axis, length in enumerate(np.shape(leaf)):
            lengths.setdefault(length, f"the length of axis {axis} of {name}")
        for count in range(2, np.ndim(leaf) + 1):
            what = f"the size of {name}" if count == np.ndim(leaf) else f"the product of {name}'s first {count} axes"
            lengths.setdefault(int(np.prod(np.shape(leaf)[:count])), what)
    settings = {value: name for name, value in e.constants.items() if isinstance(value, int) and value > 1}
    for value, name in settings.items():
        lengths.setdefault(value, name)
        lengths.setdefault(value**2, f"{name}²")
    lengths = {length: what for length, what in lengths.items() if length > 1}
    for times, half in ((1, ""), (2, "twice ")):
        for n, what in lengths.items():
            yield times * n, "N", f"that is {half}{what}, so a mean's 1/N was forgotten"
            yield 1 / (times * n), "1/N", f"that is 1 over {half}{what}, so a sum was taken for a mean"
    roots = lengths | {n // s: f"{what} over {settings[s]}" for n, what in lengths.items() for s in settings if n > s}
    for n, what in roots.items():
        yield np.sqrt(n), "√d", f"that is the root of {n}, {what}, so a scale of 1/√d was forgotten"
        yield 1 / np.sqrt(n), "1/√d", f"that is 1 over the root of {n}, {what}, so a scale of 1/√d was applied twice"
    for k in range(3, 17):
        yield k, "k times", f"it was added up {k} times"


# ------------------------------------------------------------------------------------------ right numbers, elsewhere


def layout(e):
    """a is n with its axes exchanged, turned round, or its numbers read in another order."""
    if not e.whole or e.near:
        return None
    for i, j in combinations(range(e.claimed.ndim), 2):
        turned = e.found.swapaxes(i, j)
        if alike(e.claimed, turned):
            return "transposed", f"it is transposed: axes {i} and {j} are exchanged."
        if alike(e.claimed.ravel(), turned.ravel()):
            return "transposed", f"its numbers are those with axes {i} and {j} exchanged: reshaped, not transposed."
    for count in range(1, e.claimed.ndim + 1):
        for axes in combinations(range(e.claimed.ndim), count):
            if alike(e.claimed, np.flip(e.found, axes)):
                over = ", ".join(map(str, axes))
                return "turned", f"it runs backwards along axis {over}: a kernel was turned by 180°, or was not."
    return None


def swapped(e):
    """a is the n of another array."""
    for name, found in (e.elsewhere() if e.whole else {}).items():
        if alike(e.claimed, found):
            return "swapped", f"it is the gradient of {name}: the two were exchanged."
    return None


def shortcut(e):
    """a = n ± c, where x and y have one shape."""
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
    share = wrong.sum() / e.known.sum()
    axis, indices = narrowest_axis(wrong, e.known)
    if share > 0.9 and axis is None:
        return None
    a, n = e.claimed[wrong], e.found[wrong]
    where = (
        f"only entry {[int(i[0]) for i in np.nonzero(wrong)]} is wrong"
        if wrong.sum() == 1 < wrong.size
        else f"only {describe(indices)} of axis {axis} is wrong"
        if axis is not None
        else f"only some indices are wrong, {wrong.sum()} of {e.known.sum()}"
    )
    for name, ids in e.constants.items():
        if axis == 0 and getattr(ids, "dtype", np.dtype(float)).kind in "iu" and ids.size:
            values, counts = np.unique(ids, return_counts=True)
            if set(indices) <= set(values[counts > 1]):
                return "overwritten", (
                    f"{where}: an id that stands more than once in {name} overwrites what was "
                    "there, where all must be added up (np.add.at)."
                )
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
    best = (1.0, None, ())
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        bad, seen = wrong.any(others), known.any(others)
        if bad.sum() < seen.sum():
            best = min(
                best,
                (bad.sum() / seen.sum(), axis, tuple(int(i) for i in np.flatnonzero(bad))),
                key=lambda found: found[0],
            )
    return best[1:]


def describe(indices):
    """(0, 1, 2, 5) -> "index 0–2, 5"."""
    runs = []
    for i in indices:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return "index " + ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs[:4]) + (" …" if len(runs) > 4 else "")


# ------------------------------------------------------------------------------------------ what a norm keeps out


def outside_the_sums(e):
    """a / γ is centred and across x, where a is not."""
    for name, gamma in e.leaves.items():
        gamma = np.asarray(gamma)
        if name != e.name and e.whole and e.claimed.ndim and gamma.shape == e.claimed.shape[-1:] and gamma.all():
            if breaks(e.claimed, e.found) and not breaks(e.claimed / gamma, e.found):
                return "outside the sums", (
                    f"{name} was multiplied in after the centring; it belongs inside the sums, "
                    f"for what is centred is the gradient times {name}."
                )
    return None


def breaks(a, n):
    """Axes along which n sums to 0 and a does not."""
    ndim = n.ndim
    candidates = {(ndim - 1,), *((i,) for i in range(ndim)), tuple(range(ndim - 1)), tuple(range(ndim))} - {()}
    return [
        axes
        for axes in sorted(candidates, key=lambda axes: (len(axes), axes))
        if np.prod([n.shape[i] for i in axes]) > 1 and vanishes(n, axes, CLOSE) and not vanishes(a, axes, 1e-3)
    ]


def vanishes(g, axes, tolerance):
    """Whether g sums to 0 over these axes, everywhere, measured by its own size."""
    return bool((np.abs(g.sum(axes)) <= tolerance * np.abs(g).sum(axes).max()).all())


def centring(e):
    """Σ n = 0 and Σ a ≠ 0 along an axis."""
    axes = breaks(e.claimed, e.found) if e.whole else []
    if not axes:
        return None
    over = " and ".join(f"axis {axis}" for axis in axes[0])
    also = " Its projection is missing too: mean and variance were taken for constants." if projection(e) else ""
    return "centring", (
        f"it must sum to 0 over {over}, for the output does not change when a constant is added there, "
        "and it does not: the centring of a softmax or norm, the term with the sum or mean, was "
        f"forgotten, or is another than it should be.{also}"
    )


def projection(e):
    """⟨x, n⟩ = 0 and ⟨x, a⟩ ≠ 0 along an axis; x is centred there if n is."""
    if not e.whole or not e.claimed.ndim:
        return None
    for axes in {(e.found.ndim - 1,), tuple(range(e.found.ndim - 1)) or (0,)}:
        if np.prod([e.found.shape[i] for i in axes]) < 3:
            continue
        x = e.x - e.x.mean(axes, keepdims=True) if vanishes(e.found, axes, CLOSE) else e.x
        if vanishes(x * e.found, axes, 3e-3) and not vanishes(x * e.claimed, axes, 0.03):
            return "projection", (
                f"it must be across {e.name}, for the output does not change with the length of "
                f"{e.name}, and it is not: a norm's second term, x̂ times the mean of (gradient ∘ "
                "x̂), was forgotten."
            )
    return None


# ------------------------------------------------------------------------------------------ the whole Jacobian


def jacobian(e):
    """What backward takes for J, against J: transposed, turned, through a mask, or a slope of another function."""
    both = e.jacobians() if e.whole else None
    if both is None:
        return None
    true, taken = both
    if true.shape[0] == true.shape[1] and alike(taken, true.T):
        return "transposed", "it is J c where Jᵀ c is due: a matrix stands as it is where its transpose belongs."
    y_shape, x_shape = e.cotangent.shape, e.claimed.shape
    axes = [i for i in range(min(len(y_shape), len(x_shape))) if y_shape[i] == x_shape[i] > 1]
    for count in range(1, len(axes) + 1):
        for some in combinations(axes, count):
            turned = np.flip(taken.reshape(y_shape + x_shape), [*some, *(len(y_shape) + i for i in some)])
            if alike(turned.reshape(true.shape), true) and not alike(taken, true):
                over = ", ".join(map(str, some))
                return "turned", (
                    f"it is right when axis {over} runs the other way: the kernel must be turned by 180° "
                    "in the backward pass."
                )
    size = np.abs(true).max()
    if true.shape[0] == true.shape[1] and not off_diagonal(true, size) and not off_diagonal(taken, size):
        return "slope", "each entry depends on its own alone, as it should, but by the slope of another function."
    unseen = np.abs(true) <= 1e-12 * size
    if (np.abs(taken[unseen]) > CLOSE * size).any() and unseen.mean() > 0.05:
        return "mask", "it reaches inputs on which the output does not depend: a mask was forgotten."
    return None


def off_diagonal(matrix, size):
    """Whether a square matrix has anything but its diagonal, measured by `size`."""
    return np.abs(matrix - np.diag(np.diag(matrix))).max() > CLOSE * size


TESTS = (
    precision,
    nothing,
    factor,
    layout,
    swapped,
    shortcut,
    some_indices,
    outside_the_sums,
    centring,
    projection,
    jacobian,
)


def suspicious_source(f):
    """ " (its source has np.abs)", where the source of f can be read and has such a thing; else ""."""
    try:
        source = inspect.getsource(inspect.unwrap(f))
    except (OSError, TypeError):
        return ""
    said = list(dict.fromkeys(match.strip("(").lstrip(".") for match in SUSPICIOUS.findall(source)))
    return f" (its source has {', '.join(said)})" if said else ""
