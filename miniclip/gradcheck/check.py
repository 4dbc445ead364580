"""Proving a gradient: does the backward pass say what the forward pass does?

Take any layer y = f(x) and a random cotangent c, one number for each number of y. Then

    F(x) = ⟨c, f(x)⟩ = Σ c∘f(x)            is one number, and
    backward(c)                            claims to be its gradient ∂F/∂x.

The claim is tested against the forward pass alone, in one of four ways:

    complex     ∂F/∂xᵢ = Im F(x + i h eᵢ) / h, with h = 1e-30: exact to rounding     (Squire & Trapp 1998)
    central     ∂F/∂xᵢ ≈ (F(x + h eᵢ) − F(x − h eᵢ)) / 2h: the definition of a derivative, ten digits
    richardson  three central differences, extrapolated to h = 0                     (Richardson 1911)
    adjoint     ⟨c, J u⟩ = ⟨Jᵀ c, u⟩, with J = ∂f/∂x and a random u                  (Claerbout 1992)
                One complex step along u gives J u, and backward(c) is Jᵀ c. All entries are in one
                sum, so one evaluation sees them all, however many there are.

derivatives.py has the formulas. Why c is random: each row of a softmax sums to 1 and each row of a
layer norm to a constant, so for c all ones the gradient is 0, and so is much that is wrong: a layer norm
without its second term, a softmax without its factor y. So too with parameters: a backward that forgets
the weight of a layer norm is right while the weight is 1.

    print(check(layer_norm, x, weight, bias))                                 # a layer of this house
    print(check(lambda x: (x**2).sum(), x, gradient=lambda x: 2 * x))         # any function, any gradient
"""

import numpy as np

from .contract import preflight
from .diagnosis import CLOSE, Evidence, diagnose, suspicious_source
from .numeric import METHODS, Point, with_gradient
from .report import Report, Row

SINGLE_TOLERANCE = 1e-3  # of a backward pass in float32: seven digits, of which deep norms take four
SHORT = 3e-6  # a step along which a smooth function is a parabola
EVIDENCE, DIAGNOSED = 256, 4  # entries of a wrong gradient found one by one; of so many arrays, then fewer


def check(
    f,
    *args,
    method="complex",
    gradient=None,
    dtype=np.float64,
    exclude=(),
    cotangent_seed=0,
    entries=32,
    tolerance=None,
    floor=1e-3,
):
    """Test the backward pass of `f` at `args`:  print(check(layer_norm, x, weight, bias)).

    f: a function in the manner of layers.py, y, backward = f(*args). backward(dy) gives one gradient for
        each differentiated argument, in order; the last may be a dict of those that remain, by name.
        A loss, whose backward takes nothing, is taken to have dy = 1.
    args: arrays, trees, anything. Every array of floats is differentiated, alone or in a tree, and must
        be float64; integers and settings are passed on.
    method: "complex", "central", "richardson" or "adjoint"; "one-sided" too, for comparison.
    gradient: for a plain f that returns one number and no backward: its gradient, as a function of the
        same arguments or as arrays, one for each argument.
    dtype: float32 runs the backward pass, and nothing else, in single precision.
    exclude: patterns of names not to differentiate: "mask", "*running_*" (see conv.batch_norm).
    cotangent_seed: decides the cotangent and which entries are looked at.
    entries: how many of each array are looked at one by one. An array with more is also tested whole,
        along a random direction; if that fails, the culprit is searched for. "adjoint" does only that.
    tolerance: the largest relative error that passes; by default the method's (derivatives.py), 1e-12 for
        "complex" and "adjoint", 1e-7 for "central"; 1e-3 with float32.
    floor: smaller gradients are measured as if they were this large (times the largest of all, if that
        exceeds 1): one that is truly zero, as of attention's key bias, is not asked for its digits.

    Returns a `Report`, which says what is probably wrong with what is. Raises ValueError for an unknown
    method, an array to be differentiated that is not float64, empty or not finite, when there is none,
    and with `gradient` for an f that does not return one number.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise ValueError(f"dtype is {np.dtype(dtype)}; choose float64 or float32.")
    point = Point(f if gradient is None else with_gradient(f, gradient), args, exclude, dtype)
    # A stream of its own: from the seed that x was drawn with would come c = x, a blind spot of every norm.
    rng = np.random.default_rng([cotangent_seed, *b"cotangent"])
    cotangent, gradients, problems = preflight(point, rng, method)
    least = METHODS[method].tolerance if point.dtype == np.float64 else SINGLE_TOLERANCE
    report = Report(getattr(f, "__name__", "function"), method, tolerance or least, problems)
    floor *= max([1, *(np.abs(gradient).max() for gradient in gradients.values())])
    if METHODS[method].subtracts and gradients:  # F has no more digits than these
        step = METHODS[method].step
        floor = max(floor, rounding_of(point, cotangent, rng, step / 100) / step / METHODS[method].tolerance)
    for name in gradients:
        report.rows.append(
            Array(point, name, gradients, cotangent, method).compare(entries, rng, report.tolerance, floor)
        )
    return report


class Array:
    """One array of a `Point`: its claimed gradient, and the slopes that the forward pass has there."""

    def __init__(self, point, name, gradients, cotangent, method):
        self.point, self.name, self.gradients, self.cotangent, self.method = point, name, gradients, cotangent, method
        self.gradient = gradients[name]
        self.claimed = self.gradient.ravel()

    def slope(self, u, method=None):
        """The derivative of F along u, a direction for this array."""
        return self.point.slope(self.name, self.cotangent, method or self.method, u)

    def at(self, i, method=None):
        """The true gradient of entry i, by the forward pass."""
        return self.slope(np.eye(1, self.claimed.size, i)[0], method)

    def compare(self, entries, rng, tolerance, floor):
        """Entry by entry where looked at, then all together along one random direction -> `Row`."""
        size = self.claimed.size
        looked_at = rng.permutation(size)[: 0 if self.method == "adjoint" else entries]
        claimed, found = self.claimed[looked_at], np.array([self.at(i) for i in looked_at])
        largest = max(np.abs(self.claimed).max(), np.abs(found).max(initial=0))
        errors = np.abs(claimed - found) / max(largest, floor)
        failed = np.flatnonzero(errors > tolerance)
        kinks = failed[self.at_kinks(looked_at[failed])]
        errors[kinks] = 0
        claimed, found, bent = np.delete(claimed, kinks), np.delete(found, kinks), len(kinks)
        error = errors.max(initial=0)
        worst = looked_at[errors.argmax()] if len(looked_at) else None

        if len(looked_at) < size:
            u = rng.standard_normal(size)
            along, expected = self.slope(u), float(u @ self.claimed)
            missed = abs(along - expected) / max(np.sqrt(self.claimed @ self.claimed), floor)
            if missed > max(error, tolerance) and self.is_kink(u):
                bent, missed = bent + 1, 0.0
            elif missed > max(error, tolerance):
                worst = culprit(lambda u: abs(self.slope(u) - u @ self.claimed), u)
            error = np.maximum(error, missed)
            if not len(looked_at):
                claimed, found = np.array([expected]), np.array([along])

        scale, cosine = likeness(claimed, found, floor)
        row = Row(
            self.name,
            self.gradient.shape,
            float(np.abs(claimed).max(initial=0)),
            float(np.abs(found).max(initial=0)),
            float(error),
            scale,
            cosine,
        )
        if worst is not None:
            row.index = tuple(int(i) for i in np.unravel_index(worst, self.gradient.shape))
        if not error <= tolerance:
            self.explain(row, 0 if worst is None else worst, largest, floor, tolerance)
        elif bent:
            row.verdict = "kink"
            row.why = (
                f"{self.name} is at a kink here, or within a step of one: the slope jumps, and what backward "
                f"says is right on one side or between the two ({bent} of {max(1, len(looked_at))} looked at)."
            )
        elif np.abs(self.claimed).max() <= tolerance * floor:
            row.verdict = "zero"
        return row

    def at_kinks(self, entries):
        """Which of these entries are at a kink: bool (len(entries),). After four that are not, no more are asked."""
        found = np.zeros(len(entries), bool)
        for k, entry in enumerate(entries):
            found[k] = self.is_kink(np.eye(1, self.claimed.size, entry)[0])
            if k + 1 - found.sum() == 4:
                break
        return found

    def is_kink(self, u):
        """Whether F has a kink within a step of x along u, and backward is right about the slope at x itself.

        Away from the kink, a step that no longer reaches it misses the claim by much less. (A wrong claim is
        missed by as much at every step.) At the kink, the claim lies between the slopes of the two sides, and
        the second difference (F(s) − 2 F(0) + F(−s)) / s², which is the same number at s, s/2 and s/4 where F
        is smooth, grows as 1/s.
        """
        line = self.point.line({self.name: u})
        here = line(0.0)

        def slope(s):
            return float((self.cotangent * (line(s) - here)).sum()) / s

        claimed = float(u @ self.claimed)
        rounding = 8 * np.finfo(float).eps * float(abs(self.cotangent * here).sum())
        reaches = METHODS[self.method].subtracts  # else the method stays at x, and only a kink there counts
        missed = abs(self.slope(u) - claimed)
        h = METHODS[self.method].step if reaches else SHORT
        while h > SHORT / 1000:
            sides = [slope(sign * h / k) for k in (1, 2, 4) for sign in (1, -1)]
            if reaches and abs((sides[0] + sides[1]) / 2 - claimed) <= 0.1 * missed:
                return True
            jumps = [sides[i] - sides[i + 1] for i in (0, 2, 4)]
            bends = [jumps[0], 2 * jumps[1], 4 * jumps[2]]
            bent = max(bends) - min(bends) > 0.2 * max(map(abs, bends)) and max(map(abs, jumps)) > 50 * rounding / h
            slack = 4 * rounding / h + 1e-3 * (max(sides) - min(sides))
            if bent and h <= SHORT and min(sides) - slack <= claimed <= max(sides) + slack:
                return True
            h /= 10
        return False

    def explain(self, row, worst, largest, floor, tolerance):
        """Fill in where a wrong gradient is worst, and what is probably wrong with it."""
        row.verdict, row.claimed, row.found = "WRONG", float(self.claimed[worst]), self.at(worst)
        if self.method in ("complex", "adjoint"):
            difference = self.at(worst, "central")
            if abs(difference - row.claimed) <= 1e-5 * max(largest, floor) < abs(difference - row.found):
                row.verdict, row.kind = "unsafe", "complex-unsafe"
                row.why = (
                    "the gradient agrees with central differences, so it may well be right; it is the forward "
                    "pass that is no analytic function of a complex number"
                    f"{suspicious_source(self.point.f)}. Write it without, or use method='central'."
                )
                return
        self.point.diagnosed += 1
        row.kind, row.why = diagnose(
            Evidence(
                name=self.name,
                claimed=self.gradient,
                found=self.all_found(worst),
                leaves=self.point.leaves,
                constants=self.point.constants,
                cotangent=self.cotangent,
                tolerance=tolerance,
                elsewhere=self.elsewhere,
                jacobians=self.jacobians,
            )
        )

    def all_found(self, worst):
        """The gradient by the forward pass, NaN at kinks, and where there were too many entries to look at all."""
        size, most = self.claimed.size, EVIDENCE if self.point.diagnosed <= DIAGNOSED else 16
        where = np.arange(size) if size <= most else np.unique([worst, *range(0, size, 4 * size // most)])
        found = np.full(size, np.nan)
        found[where] = [self.at(i) for i in where]
        if METHODS[self.method].subtracts:
            size = max(np.abs(self.claimed).max(), np.abs(found[where]).max())
            wrong = where[np.abs(self.claimed - found)[where] > CLOSE * size]
            found[wrong[self.at_kinks(wrong)]] = np.nan
        return found.reshape(self.gradient.shape)

    def elsewhere(self):
        """{name: gradient by the forward pass} of the other arrays of this shape."""
        alike = [name for name, g in self.gradients.items() if name != self.name and g.shape == self.gradient.shape]
        if self.claimed.size > EVIDENCE:
            return {}
        return {
            name: Array(self.point, name, self.gradients, self.cotangent, self.method).all_found(0) for name in alike
        }

    def jacobians(self):
        """∂y/∂x (M, size), by the forward pass and as backward claims it; None where that is too large.

        Backward is Jᵀ, so each row of its J comes from a cotangent that is 1 in one place.
        """
        shape, size = np.shape(self.cotangent), self.claimed.size
        m = int(np.prod(shape))
        if not shape or max(m, size) > EVIDENCE:
            return None
        derive, step, *_ = METHODS[self.method]
        lines = [self.point.line({self.name: np.eye(1, size, i)[0]}) for i in range(size)]
        true = np.stack([derive(line, step).ravel() for line in lines], 1)
        _, backward = self.point.call(self.point.copies())
        rows = [
            self.point.named(backward(np.eye(1, m, i, dtype=self.point.dtype).reshape(shape)))[self.name]
            for i in range(m)
        ]
        return true, np.stack([np.asarray(row, float).ravel() for row in rows])


def rounding_of(point, cotangent, rng, step):
    """How far F is from exact, measured: by its last bit, and by how rough it is along a line (Moré & Wild 2011).

    Third differences over steps this short are 0 for a smooth function, and else √20 times the error of one value;
    elsewhere F may be a few times rougher.
    """
    y = point.line({name: rng.standard_normal(point.leaves[name].size) for name in point.names})
    here = y(0.0)
    values = [float((cotangent * (y(k * step) - here)).sum()) for k in range(8)]
    rough = 4 * np.abs(np.diff(values, 3)).max() / np.sqrt(20)
    return max(np.finfo(float).eps * float(abs(cotangent * here).sum()), float(rough))


def likeness(claimed, found, floor):
    """α and the cosine of two vectors, NaN where one of them is nothing."""
    aa, an, nn = claimed @ claimed, claimed @ found, found @ found
    if min(aa, nn) <= (1e-12 * floor) ** 2:
        return np.nan, np.nan
    return float(an / nn), float(an / np.sqrt(aa * nn))


def culprit(error, u):
    """The entry for which the error along `u` is to blame: keep the worse half until one is left."""
    suspects = np.arange(len(u))
    while len(suspects) > 1:
        suspects = max(
            np.array_split(suspects, 2), key=lambda half: error(np.where(np.isin(np.arange(len(u)), half), u, 0))
        )
    return suspects[0]


def v_curve(f, *args, gradient=None, methods=("one-sided", "central", "richardson", "complex"), exclude=(), seed=0):
    """How far each way of deriving is from the backward pass, at every step: {method: (steps (S,), errors (S,))}.

    The error is relative, along random directions through all arguments. Differences fall with the step,
    by its power h, h² or h⁶, until rounding, which rises as 1/h, takes over: a V whose lowest point is the
    best that the method can do. plots.v_curve draws it. Arguments as in `check`.
    """
    point = Point(f if gradient is None else with_gradient(f, gradient), args, exclude)
    rng = np.random.default_rng([seed, *b"v curve"])
    cotangent, gradients, problems = preflight(point, rng, "central")
    if problems:
        raise ValueError(f"there is no curve to draw: {' '.join(problems)}")
    directions = [{name: rng.standard_normal(g.size) for name, g in gradients.items()} for _ in range(3)]
    curves = {}
    for method in methods:
        derive, _, _, subtracts = METHODS[method]
        steps = 10.0 ** np.arange(-12 if subtracts else -30, 0.25, 0.25)
        misses = np.zeros((len(directions), len(steps)))
        with np.errstate(all="ignore"):  # a long step may leave what the function is made for
            for row, u in zip(misses, directions):
                claimed = sum(float(u[name] @ g.ravel()) for name, g in gradients.items())
                y = point.line(u)
                row[:] = [abs((cotangent * derive(y, h)).sum() - claimed) / abs(claimed) for h in steps]
        curves[method] = steps, np.median(misses, axis=0)
    return curves
