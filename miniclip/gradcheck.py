"""Proving a gradient: does the backward pass say what the forward pass does?

Take any layer y = f(x) and a random cotangent c, one number for each number of y. Then

    F(x) = ⟨c, f(x)⟩ = Σ c∘f(x)            is one number, and
    backward(c)                            claims to be its gradient ∂F/∂x.

The claim is tested against the forward pass alone, in one of three ways:

    central     ∂F/∂xᵢ ≈ (F(x + h eᵢ) − F(x − h eᵢ)) / 2h
                The definition of a derivative. The formula is off by h², and the subtraction of two
                nearly equal numbers loses digits as 1/h: at h = 3e-6 some ten digits remain.

    complex     ∂F/∂xᵢ = Im F(x + i h eᵢ) / h                                (Squire & Trapp 1998)
                Taylor: F(x + ih) = F(x) + i h F′(x) − h² F″(x)/2 − …  The derivative stands alone in
                the imaginary part. Nothing is subtracted, so h can be 1e-30, and h² is nothing: exact
                to rounding. It asks only that the forward pass is analytic: no abs, no conjugate.

    adjoint     ⟨c, J u⟩ = ⟨Jᵀ c, u⟩       with J = ∂f/∂x and a random u         (Claerbout 1992)
                One complex step along u gives J u, and backward(c) is Jᵀ c. All entries are in one
                sum, so one evaluation sees them all, however many there are.

Why c is random: each row of a softmax sums to 1 and each row of a layer norm to a constant, so for c
all ones the gradient is 0, and a forgotten term is not seen. So too with parameters: a backward that
forgets the weight of a layer norm is right while the weight is 1.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from inspect import signature

import numpy as np

from .backend import array_module, to_array_on
from .tree import flatten, tree_map

TOLERANCE = {"complex": 1e-12, "central": 1e-7, "adjoint": 1e-12}
STEP = {"complex": 1e-30, "central": 3e-6, "adjoint": 1e-30}


def check(f, *args, method="complex", exclude=(), cotangent_seed=0, entries=32, tolerance=None, floor=1e-3):
    """Test the backward pass of `f` at `args`:  print(check(layer_norm, x, weight, bias)).

    f: a function in the manner of layers.py, y, backward = f(*args). backward(dy) gives one gradient for
        each differentiated argument, in order; the last may be a dict of those that remain, by name.
        A loss, whose backward takes nothing, is taken to have dy = 1.
    args: arrays, trees, anything. Every array of floats is differentiated, alone or in a tree, and must
        be float64; integers and settings are passed on.
    method: "complex", "central" or "adjoint".
    exclude: patterns of names not to differentiate: "mask", "*running_*" (see conv.batch_norm).
    cotangent_seed: decides the cotangent and which entries are looked at.
    entries: how many of each array are looked at one by one. An array with more is also tested whole,
        along a random direction; if that fails, the culprit is searched for. "adjoint" does only that.
    tolerance: the largest relative error that passes; 1e-12, and 1e-7 for "central".
    floor: smaller gradients are measured as if they were this large (times the largest of all, if that
        exceeds 1): one that is truly zero, as of attention's key bias, is not asked for its digits.

    Returns a `Report`. Raises ValueError for an unknown method, an array to be differentiated that is not
    float64, empty or not finite, and when there is none.
    """
    if method not in TOLERANCE:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(TOLERANCE)}.")
    point = Point(f, args, exclude)
    # A stream of its own: from the seed that x was drawn with would come c = x, a blind spot of every norm.
    rng = np.random.default_rng([cotangent_seed, *b"cotangent"])
    cotangent, gradients, problems = preflight(point, rng)
    report = Report(getattr(f, "__name__", "function"), method, tolerance or TOLERANCE[method], problems)
    floor *= max([1, *(np.abs(gradient).max() for gradient in gradients.values())])
    if method == "central" and gradients:                # F has no more digits than these
        rounding = np.finfo(float).eps * float(abs(cotangent * point.forward()).sum()) / STEP[method]
        floor = max(floor, rounding / TOLERANCE[method])
    for name, gradient in gradients.items():
        slope = partial(point.slope, name, cotangent, method)
        looked_at = rng.permutation(gradient.size)[:0 if method == "adjoint" else entries]
        report.rows.append(compare(name, gradient, slope, looked_at, rng, report.tolerance, floor))
    return report


def compare(name, gradient, slope, looked_at, rng, tolerance, floor):
    """The gradient of one array against slopes: entry by entry where looked at, then the rest -> `Row`."""
    claimed = gradient.ravel()

    def unit(i):
        return np.eye(1, claimed.size, i)[0]

    found = np.array([slope(unit(i)) for i in looked_at])
    largest = max(np.abs(claimed).max(), np.abs(found).max(initial=0))
    errors = np.abs(claimed[looked_at] - found) / max(largest, floor)
    error = errors.max(initial=0)
    worst = looked_at[errors.argmax()] if len(looked_at) else 0

    if len(looked_at) < claimed.size:
        u = rng.standard_normal(claimed.size)
        missed = abs(slope(u) - u @ claimed) / max(np.sqrt(claimed @ claimed), floor)
        if missed > max(error, tolerance):
            worst = culprit(lambda u: abs(slope(u) - u @ claimed), u)
        error = np.maximum(error, missed)
    row = Row(name, gradient.shape, float(largest), float(error))
    if not error <= tolerance:
        row.index = tuple(int(i) for i in np.unravel_index(worst, gradient.shape))
        row.claimed, row.found = float(claimed[worst]), slope(unit(worst))
    return row


def culprit(error, u):
    """The entry for which the error along `u` is to blame: keep the worse half until one is left."""
    suspects = np.arange(len(u))
    while len(suspects) > 1:
        suspects = max(np.array_split(suspects, 2),
                       key=lambda half: error(np.where(np.isin(np.arange(len(u)), half), u, 0)))
    return suspects[0]


def preflight(point, rng):
    """What must hold before digits count -> the cotangent, {name: gradient} if all is well, sentences."""
    given = point.copies()
    y, backward = point.call(given)
    xp = array_module(y)
    if y.dtype != np.float64 or not xp.isfinite(y).all():
        return None, {}, [f"the output ({y.dtype}) is not float64, or not finite."]
    if not same_bits(y, point.forward()):
        return None, {}, ["the same input gave two outputs: something is random, or kept between calls."]

    is_loss = not signature(backward).parameters
    cotangent = xp.asarray(1.0 if is_loss else rng.standard_normal(y.shape))
    pull = (lambda dy: backward()) if is_loss else backward
    dy = cotangent.copy()
    gradients = {name: to_array_on("cpu")(xp.array(g)) for name, g in point.named(pull(dy)).items()}
    again = point.named(pull(cotangent.copy()))

    before, after = point.leaves | {"dy": cotangent}, given | {"dy": dy}
    problems = [f"{name} was written to." for name in before if not same_bits(before[name], after[name])]
    problems += [f"backward gives no gradient of {name}." for name in point.names if name not in gradients]
    for name, gradient in gradients.items():
        leaf = point.leaves.get(name)
        if name not in point.names:
            problems.append(f"backward gives a gradient of {name}, which is no input.")
        elif (gradient.dtype, gradient.shape) != (leaf.dtype, leaf.shape):
            problems.append(f"{name} is {leaf.dtype} {leaf.shape}, its gradient {gradient.dtype} {gradient.shape}.")
        elif not np.isfinite(gradient).all():
            problems.append(f"the gradient of {name} is not finite.")
        elif not same_bits(gradient, again[name]):
            problems.append(f"backward, called again, gave another gradient of {name}.")
    return cotangent, {} if problems else {name: gradients[name] for name in point.names}, problems


def same_bits(a, b):
    """Whether two arrays are equal to the last bit."""
    a, b = (np.asarray(to_array_on("cpu")(x)) for x in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def is_float(leaf):
    """Whether a leaf of the arguments is an array of floats, to be differentiated."""
    return hasattr(leaf, "dtype") and leaf.dtype.kind == "f"


class Point:
    """A function and its arguments: the place where its gradient is looked at.

    `.leaves` {name: array} are the arrays of floats, "x" or "p.c_fc.weight"; `.names` those to differentiate.
    """

    def __init__(self, f, args, exclude):
        arguments = flatten(dict(signature(f).bind(*args).arguments))
        self.f, self.args = f, args
        self.leaves = {name: leaf for name, leaf in arguments.items() if is_float(leaf)}
        self.names = [name for name in self.leaves if not any(fnmatchcase(name, p) for p in exclude)]
        if not self.names:
            raise ValueError("no argument is an array of floats: there is nothing to differentiate.")
        for name, leaf in ((name, self.leaves[name]) for name in self.names):
            if leaf.dtype != np.float64 or not leaf.size or not array_module(leaf).isfinite(leaf).all():
                raise ValueError(f"{name}, {leaf.dtype} {leaf.shape}, must be float64, not empty, and finite.")

    def copies(self, dtype=np.float64):
        """The arrays of floats, new: {name: array}."""
        return {name: array_module(leaf).array(leaf, dtype) for name, leaf in self.leaves.items()}

    def call(self, leaves):
        """y and backward, with these arrays, in the order of `.leaves`, as arguments."""
        arrays = iter(leaves.values())
        y, backward = self.f(*tree_map(lambda leaf: next(arrays) if is_float(leaf) else leaf, self.args))
        return array_module(y).asarray(y), backward

    def forward(self, name=None, step=0.0):
        """y where the array `name` is moved by `step`; complex if the step is."""
        leaves = self.copies(np.result_type(step, np.float64))
        if name:
            leaves[name] += array_module(leaves[name]).asarray(step).reshape(leaves[name].shape)
        return self.call(leaves)[0]

    def slope(self, name, cotangent, method, u):
        """The derivative of F along u, a direction for the array `name`, from the forward pass alone."""
        h = STEP[method]
        dy = ((self.forward(name, h * u) - self.forward(name, -h * u)) / 2 if method == "central"
              else self.forward(name, 1j * h * u).imag)
        return float((cotangent * dy).sum()) / h

    def named(self, gradients):
        """What backward returned -> {name: gradient}, less what is excluded."""
        expected = list(dict.fromkeys(name.split(".")[0] for name in self.names))
        *first, last = gradients if isinstance(gradients, tuple) else (gradients,)
        if not isinstance(last, dict) or not last.keys() & set(expected[len(first):]):
            first, last = [*first, last], {}            # not a dict by name, but one more in order
        named = flatten(dict(zip([*expected, "one more"], first)) | last)
        return {name: g for name, g in named.items() if name in self.names or name not in self.leaves}


@dataclass
class Row:
    """One array: its largest gradient, its worst relative error, and if that is too much, where it stands."""

    name: str
    shape: tuple
    largest: float
    error: float
    index: tuple = ()
    claimed: float = 0.0                                # there, what backward says
    found: float = 0.0                                  # there, what the forward pass says


@dataclass
class Report:
    """The verdict: `.ok`, `.max_error`, a row for each array, the preflight's problems. Print it."""

    function: str
    method: str
    tolerance: float
    problems: list
    rows: list = field(default_factory=list)

    @property
    def max_error(self):
        """The worst relative error of all arrays; infinite where the preflight failed."""
        return float(np.max([row.error for row in self.rows])) if self.rows else np.inf

    @property
    def ok(self):
        return self.max_error <= self.tolerance

    def __str__(self):
        lines = [f"{self.function}: {self.method}, {'ok' if self.ok else 'WRONG'}, worst error {self.max_error:.1e}"]
        lines += [f"  {problem}" for problem in self.problems]
        wide = max((len(row.name) for row in self.rows), default=0)
        for row in self.rows:
            shape = " × ".join(map(str, row.shape)) or "number"
            wrong = f"WRONG: {row.name}{list(row.index) or ''} is {row.claimed}, should be {row.found}"
            verdict = "ok" if row.error <= self.tolerance else wrong
            lines.append(f"  {row.name:{wide}}  {shape:>15}  |g| {row.largest:.1e}  error {row.error:.1e}  {verdict}")
        return "\n".join(lines)
