"""What is known of one gradient that is wrong: the material of a diagnosis.

Some marks show in the numbers themselves, the claim a beside the truth n. Others show only when the layer is asked
again: `along` moves the input and looks at the output, `pull` hands backward another cotangent, and `trace` tells the
steps of the forward pass. A guess at what backward does is tested along a few random directions u (`explains`): if it
gives ⟨a, u⟩ to five digits for each of them, that is no coincidence, and costs one forward pass for any array.
"""

from functools import cached_property
from itertools import combinations

import numpy as np

from ..kinks import at_kinks
from .source_numbers import source_numbers
from .tracing import run

CLOSE = 1e-5  # relative; also of a central difference's digits
SMALL = 256  # entries of an array, and of an output, that are all evaluated
LARGE, FEW = 10_000, 40  # entries of an array of which few are evaluated
MORE, WORK = 2048, 100_000_000  # so many where the forward passes handle no more numbers than this together
CALL = 2000  # numbers that are handled in the time that a call of NumPy takes by itself
PERHAPS = "perhaps"  # third in an answer that later tests may better
PROBES = 3  # random directions that a guess must explain


def alike(a, b, size=0.0):
    """Whether two arrays are equal to CLOSE of the larger, or of `size`."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= CLOSE * max(np.abs(b).max(initial=0), size, 1e-300)


def fits(shape, other):
    """Whether an array of a shape can be multiplied into one of another, and leaves it its shape."""
    return len(shape) <= len(other) and all(m in (1, n) for m, n in zip(shape[::-1], other[::-1]))


def subsets(axes):
    """All choices of one axis, two axes … of these."""
    return [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]


class Evidence:
    """A wrong gradient, `.claimed`, and the true one, `.found`, both in the shape of the array.

    `.found` is NaN at kinks, and in places where not all entries were evaluated. `.known` says where it is not,
    `.whole` whether that is everywhere, and `.a`, `.n` are the known entries of both.
    """

    def __init__(self, array, worst, tolerance):
        self.array, self.name, self.claimed, self.cotangent = array, array.name, array.gradient, array.cotangent
        self.leaves, self.constants, self.gradients = array.point.leaves, array.point.constants, array.gradients
        self.columns = {}  # of J, where it is small
        self.found = true_gradient(array, worst, self.affords(array.claimed.size), self.slope)
        self.known = np.isfinite(self.found)
        self.whole = bool(self.known.all())
        self.a, self.n = self.claimed[self.known], self.found[self.known]
        self.size = float(max(np.abs(self.a).max(initial=0), np.abs(self.n).max(initial=0)))
        self.near = alike(self.a, self.n, self.size)
        self.threshold = (min(CLOSE, 2 * tolerance) if self.near else CLOSE) * self.size

    def affords(self, count):
        """Whether so many forward passes are few enough, or each handles few enough numbers, to be made."""
        budget = self.array.budget
        return count <= budget or (count <= MORE and count * self.work < WORK * budget / SMALL)

    @cached_property
    def trace(self):
        """The steps of the forward pass, along some direction (see tracing.py); None where it cannot be traced."""
        return run(self, np.random.default_rng(0).standard_normal(self.claimed.size))[1]

    @cached_property
    def work(self):
        """How many numbers a forward pass handles."""
        if self.trace is None:
            return np.inf
        return sum(CALL + step.result.size for step in self.trace.steps + self.trace.constants) + 10 * CALL

    @property
    def x(self):
        """The array itself."""
        return np.asarray(self.leaves[self.name])

    @property
    def is_loss(self):
        return self.cotangent.ndim == 0

    @cached_property
    def source_numbers(self):
        """The numbers in the source of the layer: [(value, name or "", where)]."""
        functions = self.array.point.layer.functions
        return source_numbers([part for part in functions[1:5] if part is not None])

    # ---------------------------------------------------------------------------------- the layer, asked again

    def forward(self, leaves):
        """y where these arrays, {name: array}, stand for the layer's own."""
        return self.array.point.replaced(leaves).line({})(0.0)

    def follow(self, leaves):
        """y where these very arrays, of a class of their own, are handed to the layer (see tracing.py)."""
        point = self.array.point
        floats = {name: leaf for name, leaf in leaves.items() if name not in point.layer.settings}
        return np.asarray(point.join(point.layer.run(floats, copy=False).outputs))

    def along(self, u, moved=None):
        """J u: how the output moves when this array moves along u (size,). moved: other arrays, {name: array}."""
        point = self.array.point.replaced(moved or {})
        return point.image({self.name: u}, self.array.method, self.array.unit_step)

    def pull(self, dy):
        """What backward claims of this array for another cotangent dy."""
        return np.asarray(self.array.point.pull(dy)[self.name], float)

    @cached_property
    def y(self):
        return np.asarray(self.forward({}), float)

    def elsewhere(self):
        """{name: true gradient} of the other arrays of this size, where it is small."""
        if self.claimed.size > SMALL:
            return {}
        names = [name for name, g in self.gradients.items() if name != self.name and g.size == self.claimed.size]
        arrays = [self.array.of(name) for name in names[:8]]
        return {a.name: true_gradient(a, 0, True, lambda i, a=a: a.slope(a.unit(i))) for a in arrays}

    # ---------------------------------------------------------------------------------- guesses

    @cached_property
    def probes(self):
        """[(u, ⟨a, u⟩, J u)] for some random directions u of this array."""
        rng, a = np.random.default_rng(12345), self.claimed.ravel()
        directions = rng.standard_normal((PROBES, a.size))
        return [(u, float(u @ a), self.along(u)) for u in directions]

    @cached_property
    def accuracy(self):
        """How near a guess must come along a probe; None where the claim itself comes as near to the truth."""
        claims = np.array([claim for _, claim, _ in self.probes])
        truths = np.array([(self.cotangent * image).sum() for *_, image in self.probes])
        accuracy = CLOSE * np.sqrt(max((claims**2).mean(), (truths**2).mean()))
        return accuracy if np.abs(claims - truths).min() > 20 * accuracy > 0 else None

    def explains(self, guess):
        """Whether guess(u, J u), a slope along u, is what backward claims, for every probe."""
        if self.accuracy is None:
            return False
        return all(abs(guess(u, image) - claim) <= self.accuracy for u, claim, image in self.probes)

    # ---------------------------------------------------------------------------------- Jacobians

    @cached_property
    def diagonals(self):
        """∂y/∂x by the forward pass and as backward takes it, where each output depends on its own input alone."""
        if self.cotangent.shape != self.claimed.shape or self.is_loss:
            return None
        rng = np.random.default_rng(3)
        signs = rng.choice([-1.0, 1.0], (2, *self.claimed.shape)) * rng.uniform(0.5, 2, (2, *self.claimed.shape))
        true, again = (self.along(u.ravel()) / u for u in signs)
        if not alike(true, again, float(np.abs(self.y).max()) * 1e-3):
            return None
        taken, again = (self.pull(c) / c for c in signs)
        return (true, taken) if alike(taken, again) else None

    @property
    def is_small(self):
        return self.cotangent.size * self.claimed.size <= 2**20

    def slope(self, i):
        """⟨c, J u⟩ for the direction u of entry i alone; the column of J is kept where all of them may be."""
        column = self.along(self.array.unit(i))
        if self.is_small:
            self.columns[i] = column.ravel()
        return self.array.point.weigh(column)

    @cached_property
    def true_jacobian(self):
        """∂y/∂x (M, size) by the forward pass; None where that is too large."""
        size = self.claimed.size
        if self.is_loss or not self.affords(size) or not self.is_small:
            return None
        return np.stack([self.columns[i] for i in range(size)], 1)

    @cached_property
    def jacobians(self):
        """∂y/∂x (M, size), by the forward pass and as backward claims it; None where that is too large.

        Backward is Jᵀ, so each row of its J comes from a cotangent that is 1 in one place.
        """
        if not self.whole or self.true_jacobian is None or not self.affords(self.cotangent.size):
            return None
        cotangents = np.eye(self.cotangent.size).reshape(-1, *self.cotangent.shape)
        return self.true_jacobian, np.stack([self.pull(dy).ravel() for dy in cotangents])


def true_gradient(array, worst, whole, slope):
    """The gradient by the forward pass, NaN at kinks and, where it is not to be evaluated whole, in most places."""
    size = array.claimed.size
    where = np.arange(size)
    if not whole:
        count = FEW if size > LARGE else array.budget // 4
        where = np.unique([worst, *range(0, size, -(-size // count))])
    found = np.full(size, np.nan)
    found[where] = [slope(i) for i in where]
    if array.subtracts:
        largest = max(np.abs(array.claimed).max(), np.abs(found[where]).max())
        wrong = where[np.abs(array.claimed - found)[where] > CLOSE * largest]
        wrong = wrong[:1] if size > LARGE else wrong
        found[wrong[at_kinks(array, wrong)]] = np.nan
    return found.reshape(array.gradient.shape)
