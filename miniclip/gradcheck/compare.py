"""One array: the gradient that backward claims against the slopes of the forward pass."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .numeric import METHODS, random_direction
from .point import Point
from .report import Row

PROVEN = 3e-3  # nothing is called right that is known to less than this: a gradient 1 % wrong must be seen
ZERO = 1e-13  # by which part of its size F may seem to change, over a unit of an array, where it does not
WRONG_ENOUGH = 6  # entries of an array that stay wrong at the best step, before the rest is believed


class Finding(NamedTuple):
    """A claim beside a slope: how far apart they are, and how much of that the slope's own error explains."""

    index: object  # of an entry; None for a direction through all
    claimed: float
    found: float
    error: float  # relative
    doubt: float  # the same of the slope
    reach: float  # the longest step of the slope

    def wrong(self, tolerance):
        return not self.error <= max(tolerance, self.doubt)

    def rank(self):
        """To sort by, the worst first: NaN before all numbers."""
        return -self.error if self.error == self.error else -np.inf


@dataclass
class ArrayCheck:
    """One array of a `Point`, its claimed gradient, and how to get the true one by `method`."""

    point: Point
    name: str
    method: str
    tolerance: float
    floor: float  # gradients that are smaller, over a unit of the array, are measured as if they were this large
    demand: float = PROVEN  # the largest relative error of a slope with which a gradient is still called right
    budget: int = 256  # how many entries may be evaluated one by one to find out what is wrong
    search: bool = True  # whether the forward pass may be run with one step after another changed, for the same

    def __post_init__(self):
        self.gradient = self.point.gradients[self.name]
        self.claimed = self.gradient.ravel()
        self.gradients, self.cotangent = self.point.gradients, self.point.cotangent
        self.unit_step = self.point.unit(self.name)
        rounding = ZERO * self.point.size / max(self.tolerance, ZERO)  # what is left of zero
        self.least = max(self.floor, rounding) / self.unit_step or 1.0
        self.scale = max(float(np.abs(self.claimed).max()), self.least)
        self.subtracts = METHODS[self.method].subtracts
        self.step = self.doubt = 0.0  # of a difference, and how far a slope may be from the truth by rounding
        if self.subtracts:
            self.step = METHODS[self.method].step_at(self.point.relative_noise) * self.unit_step
            self.doubt = 4 * self.point.noise / self.step
        self.entries, self.whole = [], None  # what `compare` finds

    def of(self, name):
        """The check of another array of the same point."""
        return ArrayCheck(self.point, name, self.method, self.tolerance, self.floor, self.demand, self.budget)

    def unit(self, i):
        """The direction of entry i alone: (size,)."""
        return np.eye(1, self.claimed.size, i)[0]

    def slope(self, u, method=None):
        """⟨c, J u⟩: the derivative of F = ⟨c, y⟩ along u, a direction for this array."""
        return self.point.slope({self.name: u}, method or self.method, self.unit_step)

    def compare(self, entries, rng):
        """Some entries one by one; where there are more, all together along a random direction -> `Row`."""
        size = self.claimed.size
        chosen = rng.permutation(size)[: 0 if self.method == "adjoint" else entries]
        slopes = [self.slope(self.unit(i)) for i in chosen]
        self.scale = max([self.scale, *(abs(slope) for slope in slopes if np.isfinite(slope))])
        self.entries = [self.finding(int(i), self.claimed[i], slope, self.scale) for i, slope in zip(chosen, slopes)]
        self.refine_entries()
        if len(chosen) < size and not self.missed():
            self.compare_whole(random_direction(rng, size))
        return self.row()

    def refine_entries(self):
        """Those in doubt once more, the worst first, until some stay wrong."""
        wrong = 0
        for k in sorted(range(len(self.entries)), key=lambda k: self.entries[k].rank()):
            if wrong < WRONG_ENOUGH:
                self.entries[k] = self.refine(self.entries[k], self.unit(self.entries[k].index), self.scale)
                wrong += self.entries[k].wrong(self.tolerance)

    def compare_whole(self, u):
        """All entries along u; where that fails, the entry that is to blame is searched for."""
        length = max(float(np.sqrt(self.claimed @ self.claimed)), self.least)
        self.whole = self.refine(self.finding(None, u @ self.claimed, self.slope(u), length), u, length)
        if self.whole.wrong(self.tolerance):
            worst = culprit(lambda part: self.slope(part) - part @ self.claimed, u)
            slope = self.slope(self.unit(worst))
            self.scale = max(self.scale, abs(slope))
            entry = self.refine(
                self.finding(worst, self.claimed[worst], slope, self.scale), self.unit(worst), self.scale
            )
            self.entries.append(entry)

    def finding(self, index, claimed, found, scale, doubt=None, reach=None):
        """A claim beside a slope."""
        doubt = self.doubt if doubt is None else doubt
        error = float(abs(claimed - found) / scale)
        return Finding(index, float(claimed), float(found), error, float(doubt / scale), reach or self.step)

    def refine(self, finding, u, scale):
        """A `Finding` along u that is in doubt, again, by the difference at the best step."""
        if not self.subtracts or finding.error <= self.tolerance and finding.doubt <= self.demand:
            return finding
        start = METHODS[self.method].step_at(self.point.relative_noise) / 4  # shorter, for a kink may lie within it
        slope = self.point.best_slope({self.name: u}, self.unit_step, 0.1 * self.tolerance * scale, start)
        return self.finding(finding.index, finding.claimed, slope.value, scale, slope.error, 4 * slope.step)

    def missed(self):
        """The entries where the claim is wrong, the worst first."""
        wrong = [finding for finding in self.entries if finding.wrong(self.tolerance)]
        return sorted(wrong, key=Finding.rank)

    def row(self):
        """The `Row` of what was found, without a diagnosis."""
        findings = self.entries + ([self.whole] if self.whole else [])
        missed = self.missed() or [finding for finding in findings if finding.wrong(self.tolerance)]
        looked = self.entries or findings
        claimed, found = (np.array([getattr(f, side) for f in looked]) for side in ("claimed", "found"))
        sizes = [float(np.abs(values).max(initial=0)) for values in (claimed, found)]
        error = float(np.max([finding.error for finding in missed or findings]))
        row = Row(self.name, self.gradient.shape, *sizes, error, *self.likeness(claimed, found))
        row.method, row.tolerance, row.doubt = self.method, self.tolerance, max(f.doubt for f in findings)
        worst = missed[0] if missed else max(looked, key=lambda finding: finding.error)
        if worst.index is not None:
            row.index = tuple(int(i) for i in np.unravel_index(worst.index, self.gradient.shape))
            row.claimed, row.found = worst.claimed, worst.found
        if not np.isfinite(error):
            row.verdict, row.why = "unchecked", f"beside this point the output is not finite: {self.name} has no slope."
        elif missed:
            row.verdict = "WRONG"
        elif row.doubt > self.demand:
            row.verdict = "unchecked"
            row.why = f"the forward pass is too rough: a slope is known to {row.doubt:.0e} of the largest only."
        elif np.abs(self.claimed).max() <= self.tolerance * self.least:
            row.verdict = "zero"
        return row

    def likeness(self, claimed, found):
        """α and the cosine of two vectors, NaN where one of them is nothing."""
        aa, an, nn = claimed @ claimed, claimed @ found, found @ found
        if not min(aa, nn) > (1e-12 * self.least) ** 2:
            return np.nan, np.nan
        return float(an / nn), float(an / np.sqrt(aa * nn))


def culprit(error, u):
    """The entry that makes the error along `u`: keep the half with the larger error until one entry is left.

    An error is a sum over the entries, so that of one half is what the other leaves.
    """
    suspects, total = np.arange(len(u)), error(u)
    while len(suspects) > 1:
        half, rest = np.array_split(suspects, 2)
        part = np.zeros(len(u))
        part[half] = u[half]
        found = error(part)
        suspects, total = (half, found) if abs(found) >= abs(total - found) else (rest, total - found)
    return int(suspects[0])
