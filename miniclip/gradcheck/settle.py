"""The verdict on a layer: its contract, then array by array, each by the method that can be believed there."""

import numpy as np

from .compare import PROVEN, ArrayCheck
from .confirm import not_analytic, suspects
from .contract import check_contract
from .diagnosis import SMALL, Evidence, diagnose, summarise
from .html import picture_of
from .kinks import has_kink, neighbours, right_beside
from .numeric import METHODS, random_direction
from .report import Report, Row

SINGLE_TOLERANCE = 1e-3  # of a backward pass in float32: seven digits, of which deep norms take four
ADVICE = "Write it without, or use method='auto' or 'central'."


@np.errstate(all="ignore")  # what the forward pass has to say it said when it first ran
def report_on(layer, f, seed, method, dtype, entries, tolerance, floor):
    """The `Report` on a `Layer`; the arguments are those of `check`."""
    # A stream of its own: from the seed that x was drawn with would come c = x, a blind spot of every norm.
    rng = np.random.default_rng([seed, *b"cotangent"])
    point, problems = check_contract(layer, rng, dtype)
    report = Report(layer.name, method, problems=problems, notes=list(layer.notes))
    if not point.gradients or any(not problem.wrong for problem in problems):
        return report
    demand = PROVEN if tolerance is None else tolerance
    if tolerance is None and point.is_single:
        tolerance = SINGLE_TOLERANCE
    floor *= max(point.unit(name) * float(np.abs(gradient).max()) for name, gradient in point.gradients.items())
    arrays = Arrays(point, f, method, entries, tolerance, demand, floor, seed)
    for name in point.names:
        wrong = [row for row in report.rows if row.verdict == "WRONG"]
        in_vain = sum(row.kind == "unknown" for row in wrong)
        report.rows.append(arrays.settle(name, budget=SMALL if len(wrong) < 4 else 16, search=in_vain < 4))
    report.rows += [Row.without_gradient(name, layer.leaves[name].shape) for name in point.without]
    report.summary = summarise([row for row in report.rows if row.verdict == "WRONG"])
    return report


class Arrays:
    """The arrays of a point, each to be settled by one method or, with "auto", by the one that can be believed."""

    def __init__(self, point, f, method, entries, tolerance, demand, floor, seed):
        self.point, self.f, self.method, self.entries = point, f, method, entries
        self.tolerance, self.demand, self.floor, self.seed = tolerance, demand, floor, seed
        self.drawn, self.more = [], neighbours(point)  # points beside the point, for all arrays
        self.reasons = {}  # {point: {name: why a complex step cannot be believed, or ""}}

    def settle(self, name, budget, search):
        """The `Row` of one array, with a diagnosis by at most so many slopes; budget, search: as of an `ArrayCheck`."""
        row, array = self.compare(self.point, name)
        if not row.ok or array.method == "central" and self.method != "central":
            missed = array.missed()
            rng = np.random.default_rng([self.seed, *b"kink"])
            u = array.unit(missed[0].index) if missed else random_direction(rng, array.claimed.size)
            if has_kink(array, u, missed[0].reach if missed else array.step):
                rows = right_beside(array, self.pairs(), lambda point: self.compare(point, name)[0])
                if rows:
                    return row.at_kink(rows)
        if row.verdict == "WRONG":
            array.budget, array.search = budget, search
            worst = int(np.ravel_multi_index(row.index, row.shape)) if row.index else 0
            evidence = Evidence(array, worst, array.tolerance)
            row.kind, row.why = diagnose(evidence)
            row.picture = picture_of(evidence.claimed, evidence.found, row.index)
        return row

    def pairs(self):
        """Pairs of points beside the point, drawn once for all arrays."""
        yield from self.drawn
        for pair in self.more:
            self.drawn.append(pair)
            yield pair

    def reason(self, point, name):
        """Why a complex step cannot be believed for an array at a point, or ""."""
        if point not in self.reasons:
            self.reasons[point] = not_analytic(point)
        return self.reasons[point][name]

    def compare(self, point, name):
        """Its `Row` at a point, and the `ArrayCheck` it comes from."""
        method = "complex" if self.method == "auto" else self.method
        reason = "" if METHODS[method].subtracts else self.reason(point, name)
        used = "central" if reason else method
        tolerance = METHODS[used].tolerance if self.tolerance is None else self.tolerance
        array = ArrayCheck(point, name, used, tolerance, self.floor, self.demand)
        row = array.compare(self.entries, np.random.default_rng([self.seed, *b"entries", *name.encode()]))
        if reason and row.ok:
            why = f"the forward pass {reason}{suspects(self.f)}"
            row.why = f"checked by differences, because {why}."
            if self.method != "auto":
                row.verdict, row.kind = "unchecked", "complex-unsafe"
                row.why = f"central differences agree, but a complex step cannot show it, because {why}. {ADVICE}"
        return row, array
