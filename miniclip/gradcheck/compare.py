"""One array: the gradient that backward claims against the slopes of the forward pass."""

from dataclasses import dataclass

import numpy as np

from .contract import ADVICE, not_analytic
from .diagnosis import diagnose
from .evidence import Evidence
from .kinks import at_kinks, is_kink
from .numeric import METHODS, Point
from .report import Row


@dataclass
class ArrayCheck:
    """One array of a `Point`, its claimed gradient, and how to get the true one."""

    point: Point
    cotangent: np.ndarray
    gradients: dict  # {name: gradient} of all arrays, as backward claims them
    name: str
    method: str
    budget: int  # how many entries may be evaluated one by one to find out what is wrong

    def __post_init__(self):
        self.gradient = self.gradients[self.name]
        self.claimed = self.gradient.ravel()

    def unit(self, i):
        """The direction of entry i alone: (size,)."""
        return np.eye(1, self.claimed.size, i)[0]

    def slope(self, u, method=None):
        """⟨c, J u⟩: the derivative of F = ⟨c, y⟩ along u, a direction for this array."""
        derive, step, *_ = METHODS[method or self.method]
        return float((self.cotangent * derive(self.point.line({self.name: u}), step)).sum())

    def compare(self, entries, rng, tolerance, floor):
        """Some entries one by one; where there are more, all together along a random direction -> `Row`."""
        size = self.claimed.size
        chosen = rng.permutation(size)[: 0 if self.method == "adjoint" else entries]
        claimed, found = self.claimed[chosen], np.array([self.slope(self.unit(i)) for i in chosen])
        largest = max(np.abs(self.claimed).max(), np.abs(found).max(initial=0))
        errors = np.abs(claimed - found) / max(largest, floor)
        failed = np.flatnonzero(errors > tolerance)
        kinks = failed[at_kinks(self, chosen[failed])]
        errors[kinks] = 0
        claimed, found, bent = np.delete(claimed, kinks), np.delete(found, kinks), len(kinks)
        error = errors.max(initial=0)
        worst = chosen[errors.argmax()] if len(chosen) else None

        if len(chosen) < size:
            u = rng.standard_normal(size)
            expected, along = float(u @ self.claimed), self.slope(u)
            missed = abs(along - expected) / max(np.sqrt(self.claimed @ self.claimed), floor)
            if missed > max(error, tolerance):
                if is_kink(self, u):
                    bent, missed = bent + 1, 0.0
                else:
                    worst = culprit(lambda u: abs(self.slope(u) - u @ self.claimed), u)
            error = np.maximum(error, missed)
            if not len(chosen):
                claimed, found = np.array([expected]), np.array([along])

        sizes = [float(np.abs(values).max(initial=0)) for values in (claimed, found)]
        row = Row(self.name, self.gradient.shape, *sizes, float(error), *likeness(claimed, found, floor))
        if worst is not None:
            row.index = tuple(int(i) for i in np.unravel_index(worst, self.gradient.shape))
        if not error <= tolerance:
            self.explain(row, 0 if worst is None else worst, max(largest, floor), tolerance)
        elif bent:
            row.verdict = "kink"
            row.why = (
                f"{self.name} is at a kink here, or within a step of one: the slope jumps, and what backward "
                f"says is right on one side or between the two ({bent} of {max(1, len(chosen))} looked at)."
            )
        elif np.abs(self.claimed).max() <= tolerance * floor:
            row.verdict = "zero"
        return row

    def explain(self, row, worst, size, tolerance):
        """Fill in where a wrong gradient is worst, and what is probably wrong with it."""
        direction = self.unit(worst)
        row.verdict, row.claimed, row.found = "WRONG", float(self.claimed[worst]), self.slope(direction)
        if not METHODS[self.method].subtracts:
            difference = self.slope(direction, "central")
            if abs(difference - row.claimed) <= 1e-5 * size < abs(difference - row.found):
                row.verdict, row.kind = "unsafe", "complex-unsafe"
                row.why = (
                    "the gradient agrees with central differences, so it may well be right; it is the forward pass "
                    f"that is no analytic function of a complex number{not_analytic(self.point.f)}. {ADVICE}"
                )
                return
        row.kind, row.why = diagnose(Evidence(self, worst, tolerance))


def likeness(claimed, found, floor):
    """α and the cosine of two vectors, NaN where one of them is nothing."""
    aa, an, nn = claimed @ claimed, claimed @ found, found @ found
    if min(aa, nn) <= (1e-12 * floor) ** 2:
        return np.nan, np.nan
    return float(an / nn), float(an / np.sqrt(aa * nn))


def culprit(error, u):
    """The entry that makes the error along `u`: keep the half with the larger error until one entry is left."""
    suspects = np.arange(len(u))
    while len(suspects) > 1:
        halves = np.array_split(suspects, 2)
        suspects = max(halves, key=lambda half: error(np.where(np.isin(np.arange(len(u)), half), u, 0)))
    return suspects[0]
