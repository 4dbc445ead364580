"""Four checks of gradients on the same planted faults: which are found, and which right layers are accused.

    python benchmarks/checkers.py                          the table, and results/checkers.json
    python benchmarks/checkers.py --seeds 3 --json other.json

The faults are those of tests/gradcheck/test_faults.py; each stands in the backward pass of one layer, at one point.
Besides this library's check stand those of three courses, written anew from what they publish:

    minitorch   the gradient of the sum of the output, so a cotangent of ones; in each array one entry, drawn at random,
                beside a central difference with h = 1e-6; right within 1e-2, relative and absolute
    dlsys       a cotangent of ones; all entries beside central differences with h = 1e-4; right where the lengths of
                the differences, added up over the arrays, stay below 1e-6
    CS231n      a random cotangent; all entries beside central differences with h = 1e-5; prints the largest
                |a − b| / max(1e-8, |a| + |b|) of each array, to be judged by its reader. Its notes call 1e-7 good, and
                1e-4 where there are kinks; above 1e-2 a gradient is probably wrong

What is drawn at random is drawn by several seeds, and the table gives the median and the range.
"""

import argparse
import sys
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from statistics import median

import numpy as np
from common import RESULTS, ROOT, write_json

from miniclip.gradcheck import check
from miniclip.gradcheck.conventions import as_layer
from miniclip.tree import flatten, tree_map, unflatten

sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "gradcheck")]
from test_faults import CONSTANT, FAULTS, LAYERS

WITH_KINKS = ("relu", "clamped_loss")


class Point:
    """A layer at the point where it is checked: its arrays by name, and the slopes of its forward pass."""

    def __init__(self, f, args):
        layer = as_layer(f, args, exclude=CONSTANT)
        self.f, self.names, self.named = f, layer.names, layer.namer.name
        self.parameters = list(signature(f).parameters)[: len(args)]
        self.flat = flatten(dict(zip(self.parameters, args)))
        self.output = self.run(f)[0]

    def run(self, f, name=None, index=None, step=0.0):
        """f at the point -> y, backward; with one entry moved by a step."""
        given = tree_map(lambda leaf: np.array(leaf) if isinstance(leaf, np.ndarray) else leaf, unflatten(self.flat))
        if name is not None:
            flat = flatten(given)
            flat[name][index] += step
            given = unflatten(flat)
        return f(*(given[name] for name in self.parameters))

    def slopes(self, cotangent, h, entries):
        """{name: central differences of Σ c∘y at these entries}. entries: {name: indices}."""

        def moved(name, index, step):
            return (cotangent * self.run(self.f, name, index, step)[0]).sum()

        return {
            name: np.array([(moved(name, index, h) - moved(name, index, -h)) / (2 * h) for index in indices])
            for name, indices in entries.items()
        }

    def claims(self, f, cotangent, entries):
        """{name: what the backward pass of f claims at these entries}."""
        y, backward = self.run(f)
        found = backward(cotangent.copy()) if signature(backward).parameters else backward()
        found = self.named(found)
        return {name: np.array([found[name][index] for index in indices]) for name, indices in entries.items()}


@dataclass(frozen=True)
class Checker:
    """A check by central differences. judge: (claims, slopes, name of the layer) -> whether the layer passes."""

    h: float
    judge: object
    is_random: bool = False  # the cotangent
    is_sparse: bool = False  # one entry of each array

    def passing(self, point, layer, functions, seed):
        """Whether each of the functions, all with the forward pass of the point, passes -> [bool]."""
        rng = np.random.default_rng(seed)
        shape = np.shape(point.output)
        cotangent = rng.standard_normal(shape) if self.is_random else np.ones(shape)
        entries = {name: list(np.ndindex(np.shape(point.flat[name]))) for name in point.names}
        if self.is_sparse:
            entries = {name: [indices[rng.integers(len(indices))]] for name, indices in entries.items()}
        if not shape:
            cotangent = np.ones(())  # the backward of a loss takes none
        slopes = point.slopes(cotangent, self.h, entries)
        return [self.judge(point.claims(f, cotangent, entries), slopes, layer) for f in functions]


def within_a_hundredth(claims, slopes, layer):
    return all(np.allclose(claims[name], slopes[name], 1e-2, 1e-2) for name in slopes)


def lengths_below_a_millionth(claims, slopes, layer):
    return sum(np.linalg.norm(claims[name] - slopes[name]) for name in slopes) < 1e-6


def relative_error(claims, slopes):
    errors = (np.abs(claims[n] - slopes[n]) / np.maximum(1e-8, np.abs(claims[n]) + np.abs(slopes[n])) for n in slopes)
    return max(error.max() for error in errors)


def good_by_the_notes(claims, slopes, layer):
    return relative_error(claims, slopes) <= (1e-4 if layer in WITH_KINKS else 1e-7)


def not_probably_wrong(claims, slopes, layer):
    return relative_error(claims, slopes) <= 1e-2


class Ours:
    """This library's check."""

    @staticmethod
    def passing(point, layer, functions, seed):
        args = LAYERS[layer][1:]
        return [check(f, *args, exclude=CONSTANT, cotangent_seed=seed).ok for f in functions]


OURS = "miniclip"
CHECKERS = {
    "minitorch": Checker(1e-6, within_a_hundredth, is_sparse=True),
    "dlsys": Checker(1e-4, lengths_below_a_millionth),
    "CS231n": Checker(1e-5, good_by_the_notes, is_random=True),
    "CS231n, above 1e-2 only": Checker(1e-5, not_probably_wrong, is_random=True),
    OURS: Ours,
}


def measure(seeds):
    """{"faults": [...], "layers": [...]}: for each, in which share of the seeds a checker says that it is wrong."""
    faults, layers = [], []
    for layer, (right, *args) in LAYERS.items():
        planted = [fault for fault in FAULTS if fault.id.partition(": ")[0] == layer]
        wrong = [fault.values[0] for fault in planted]
        accuses_itself = layer == "clamped_loss"  # whose own backward pass is the fault
        point = Point(right, args)
        says = {}
        for name, checker in CHECKERS.items():
            passed = [checker.passing(point, layer, [right, *wrong], seed) for seed in range(seeds)]
            says[name] = (1 - np.array(passed, float)).tolist()  # (seeds, functions): 1 where it is called wrong
        for number, fault in enumerate(planted, 1):
            _, _, at, kind = fault.values
            found = {name: [each[number] for each in said] for name, said in says.items()}
            faults.append({"fault": fault.id, "at": at, "called": call(fault), "expected": kind, "found": found})
        if not accuses_itself:
            layers.append(
                {"layer": layer, "accused": {name: [each[0] for each in said] for name, said in says.items()}}
            )
        print(f"{layer}: {len(planted)} faults", flush=True)
    counts = table(faults, layers)
    for said in [*(fault["found"] for fault in faults), *(layer["accused"] for layer in layers)]:
        said.update({name: sum(each) / seeds for name, each in said.items()})
    return {"seeds": seeds, "faults": faults, "layers": layers, "table": counts}


def call(fault):
    """What our check calls a fault: the kind of the diagnosis, or what is said of the contract; "" where it is none."""
    wrong, args, *_ = fault.values
    report = check(wrong, *args, exclude=CONSTANT)
    if report.problems:
        return str(report.problems[0])
    kinds = [row.kind for row in report.rows if not row.ok]
    return next((kind for kind in kinds if kind not in ("", "unknown")), "")


def table(faults, layers):
    """{checker: {"found": [median, least, most], "false alarms": the same}}, and how many ours names."""

    def spread(said):
        counts = np.sum(said, axis=0)
        return [float(median(counts)), float(counts.min()), float(counts.max())]

    rows = {
        name: {
            "found": spread([fault["found"][name] for fault in faults]),
            "false alarms": spread([layer["accused"][name] for layer in layers]),
        }
        for name in CHECKERS
    }
    named = [fault for fault in faults if fault["expected"] and fault["expected"] in fault["called"]]
    return {"faults": len(faults), "layers": len(layers), "named": len(named), "checkers": rows}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="for what is drawn at random (default: 5)")
    parser.add_argument("--json", type=Path, default=RESULTS / "checkers.json", help="where the results go")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; it must be at least 1.")
    found = measure(options.seeds)
    write_json(found, options.json)
    result = found["table"]
    print(f"\n{'':26}found of {result['faults']}         false alarms of {result['layers']}")
    for name, row in result["checkers"].items():
        cells = ("{:.0f} ({:.0f} to {:.0f})".format(*row[what]) for what in ("found", "false alarms"))
        print(f"{name:26}" + "".join(f"{cell:20}" for cell in cells))
    print(f"\n{OURS} also says what is wrong, and rightly, for {result['named']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
