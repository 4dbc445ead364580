"""What is known of one gradient that is wrong: the material of a diagnosis."""

from dataclasses import replace

import numpy as np

from .kinks import at_kinks
from .numeric import METHODS

CLOSE = 1e-5  # relative; also of a central difference's digits
SMALL = 256  # entries of an array, and of an output, that are all evaluated


def alike(a, b, size=0.0):
    """Whether two arrays are equal to CLOSE of the larger, or of `size`."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * max(np.abs(b).max(initial=0), size, 1e-300)


class Evidence:
    """A wrong gradient, `.claimed`, and the true one, `.found`, both in the shape of the array.

    `.found` is NaN at kinks, and in places where not all entries were evaluated. `.known` says where it is not,
    `.whole` whether that is everywhere, and `.a`, `.n` are the known entries of both.
    """

    def __init__(self, array, worst, tolerance):
        self.array, self.name, self.claimed, self.cotangent = array, array.name, array.gradient, array.cotangent
        self.leaves, self.constants = array.point.leaves, array.point.constants
        self.found = true_gradient(array, worst)
        self.known = np.isfinite(self.found)
        self.whole = bool(self.known.all())
        self.a, self.n = self.claimed[self.known], self.found[self.known]
        self.size = float(max(np.abs(self.a).max(initial=0), np.abs(self.n).max(initial=0)))
        self.near = alike(self.a, self.n, self.size)
        self.threshold = (min(CLOSE, 2 * tolerance) if self.near else CLOSE) * self.size

    def elsewhere(self):
        """{name: true gradient} of the other arrays of this shape, where it is small."""
        if self.claimed.size > SMALL:
            return {}
        gradients = self.array.gradients
        names = [name for name, g in gradients.items() if name != self.name and g.shape == self.claimed.shape]
        return {name: true_gradient(replace(self.array, name=name), 0) for name in names}

    def jacobians(self):
        """∂y/∂x (M, size), by the forward pass and as backward claims it; None where that is too large.

        Backward is Jᵀ, so each row of its J comes from a cotangent that is 1 in one place.
        """
        point, shape, size = self.array.point, np.shape(self.cotangent), self.claimed.size
        m = int(np.prod(shape))
        if not shape or max(m, size) > SMALL:
            return None
        derive, step, *_ = METHODS[self.array.method]
        lines = [point.line({self.name: self.array.unit(i)}) for i in range(size)]
        true = np.stack([derive(line, step).ravel() for line in lines], 1)
        _, backward = point.call(point.copies())
        cotangents = np.eye(m, dtype=point.dtype).reshape(m, *shape)
        taken = [np.asarray(point.named(backward(dy))[self.name], float).ravel() for dy in cotangents]
        return true, np.stack(taken)


def true_gradient(array, worst):
    """The gradient by the forward pass, NaN at kinks and, of an array beyond its budget, in most places."""
    size = array.claimed.size
    where = np.arange(size)
    if size > array.budget:
        where = np.unique([worst, *range(0, size, 4 * size // array.budget)])
    found = np.full(size, np.nan)
    found[where] = [array.slope(array.unit(i)) for i in where]
    if METHODS[array.method].subtracts:
        largest = max(np.abs(array.claimed).max(), np.abs(found[where]).max())
        wrong = where[np.abs(array.claimed - found)[where] > CLOSE * largest]
        found[wrong[at_kinks(array, wrong)]] = np.nan
    return found.reshape(array.gradient.shape)
