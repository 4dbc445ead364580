"""Slopes of the forward pass alone.

Move from x by a step t along a direction u. The output there, y(t), is a function of one number, and its
slope at t = 0 is J u, with J = ∂y/∂x:

    one-sided    (y(h) − y(0)) / h                       error of order h
    central      (y(h) − y(−h)) / 2h                     error of order h²
    richardson   (64 D(h/4) − 20 D(h/2) + D(h)) / 45     error of order h⁶, D the central difference
    complex      Im y(ih) / h                            error of order h², and nothing is subtracted

A difference subtracts nearly equal numbers and loses digits as 1/h, so the first three have a best step. Richardson
(1911) combines central differences so that their errors of order h² and h⁴ cancel. The complex step (Squire & Trapp
1998) reads the slope off the imaginary part of y(ih) = y + i h J u − …, where it stands alone: h may be 1e-30, and h²
is nothing. The forward pass must be analytic: no abs, no conjugate, no length of a complex number.

Steps of a difference are in units of the array, its largest |x|.
"""

from typing import NamedTuple

import numpy as np

FINEST = 14  # of a ladder of steps, 4⁻ᵏ / 4, from 6e-2 to 1e-9


def central(y, h):
    """(y(h) − y(−h)) / 2h."""
    return (y(h) - y(-h)) / (2 * h)


def richardson(y, h):
    """Central differences at h, h/2 and h/4, and what they tend to."""
    coarse, middle, fine = (central(y, h / k) for k in (1, 2, 4))
    return (64 * fine - 20 * middle + coarse) / 45


def complex_step(y, h):
    """Im y(ih) / h."""
    return y(1j * h).imag / h


class Method(NamedTuple):
    """How a slope is taken, at which step, and the largest relative error that passes."""

    derive: object
    step: float
    tolerance: float
    subtracts: bool = True
    order: int = 2  # of its error

    def step_at(self, noise):
        """The step where an error of this order and rounding are alike, for a relative error `noise` of F."""
        return self.step if not self.subtracts else float(np.clip(noise ** (1 / (self.order + 1)), self.step, 0.05))


METHODS = {
    "complex": Method(complex_step, 1e-30, 1e-12, subtracts=False),
    "adjoint": Method(complex_step, 1e-30, 1e-12, subtracts=False),
    "central": Method(central, 3e-6, 1e-7),
    "richardson": Method(richardson, 3e-4, 1e-8, order=3),  # 6, but where functions bend, long steps lose more
    "one-sided": Method(lambda y, h: (y(h) - y(0.0)) / h, 1e-8, 1e-4, order=1),
}


class Slope(NamedTuple):
    """A slope, how far it may be from the truth, and the step at which it was found."""

    value: float
    error: float
    step: float


def best_slope(difference, enough=0.0, noise=0.0, start=1e-3):
    """The slope at the step that proves most, from a ladder of central differences -> `Slope`.

    difference: h -> ⟨c, central difference⟩. enough: an error that is small enough to stop at. noise: the rounding
    error of F. start: the step to begin with. Two steps h and h/4 give an estimate with an error of order h⁴
    (Richardson); it is as good as it agrees with the estimates at the steps on either side (after Ridders 1982).
    From the start the steps become shorter, then longer, for as long as that helps.
    """
    known, found = {}, {}

    def estimate(k):
        for j in (k, k + 1):
            if j not in known:
                known[j] = difference(0.25 * 4.0**-j)
        return (16 * known[k + 1] - known[k]) / 15

    def look(k):
        here, step = estimate(k), 0.25 * 4.0**-k
        error = 2 * max(abs(here - estimate(k - 1)), abs(here - estimate(k + 1))) + 4 * noise / step
        found[k] = Slope(here, error if np.isfinite(error) else np.inf, step)
        return found[k].error

    first = int(np.clip(round(-np.log(4 * start) / np.log(4)), 1, FINEST - 1))
    best = look(first)
    for steps in (range(first + 1, FINEST), range(first - 1, 0, -1)):
        worse = 0
        for k in steps:
            if best <= enough:
                return min(found.values(), key=lambda slope: slope.error)
            worse = 0 if look(k) < best else worse + 1
            best = min(best, found[k].error)
            if worse == 3:
                break
    return min(found.values(), key=lambda slope: slope.error)


def roughness(values):
    """The rounding error of one of these values of a smooth function at equal steps (Moré & Wild 2011).

    Fourth differences of a smooth function over short steps are nothing; of errors alone, √70 times one of them.
    Their median, for a kink between two of the values makes a few of them large.
    """
    return np.median(np.abs(np.diff(values, 4, axis=0)), axis=0) / (0.6745 * np.sqrt(70))


def random_direction(rng, size):
    """Numbers between 1 and 2 with random signs: (size,). None is near 0, where a fault would hide."""
    return rng.uniform(1, 2, size) * rng.choice([-1.0, 1.0], size)
