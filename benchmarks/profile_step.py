"""Where does the time of a training step go, by function?

    python benchmarks/profile_step.py                          preset "default", 5 steps
    python benchmarks/profile_step.py --preset vit --steps 20
    python benchmarks/profile_step.py --case c                 a model of cpu.py

Steps on random inputs run in one thread, BLAS too. A function's time is its own and that of all that it calls outside
miniclip, NumPy above all; what it calls in miniclip has a row of its own. Backward is all that is called from a
function whose name begins so, and these functions themselves: the backward of `linear` is `backward` inside `linear`.
"""

import argparse
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

from cases import CASES, TrainingState, inputs, preset_case, split

import miniclip
from miniclip.backend import worker_threads
from miniclip.training import PRESETS, keep_freed_memory

PACKAGE = Path(miniclip.__file__).parent


@cache
def place(code):
    """("module.py function", whether it is a backward) of a code object of miniclip, None of another."""
    if PACKAGE not in Path(code.co_filename).parents or code.co_qualname == "dispatch.<locals>.either":
        return None
    function, *inner = code.co_qualname.split(".<locals>.")
    module = Path(code.co_filename).relative_to(PACKAGE)
    return f"{module} {function}", any(part.startswith("backward") for part in inner)


class Profiler:
    """For sys.setprofile: `times[name, is_backward]` are the seconds spent in a function, less those of its callees.

    cProfile does not say who called the caller: the products of an attention's backward would count as forward.
    """

    def __init__(self):
        self.times, self.stack, self.since = defaultdict(float), [], 0.0

    def __call__(self, frame, event, argument):
        where = place(frame.f_code) if event in ("call", "return") else None
        if where is None:
            return
        if self.stack:
            self.times[self.stack[-1]] += time.perf_counter() - self.since
        if event == "return":
            self.stack.pop()
        else:
            name, is_backward = where
            self.stack.append((name, is_backward or bool(self.stack) and self.stack[-1][1]))
        self.since = time.perf_counter()


def table(times, steps):
    """The milliseconds of one step, the largest first; what is below 0.1 % is one row."""
    rows, total = defaultdict(lambda: [0.0, 0.0]), sum(times.values())
    names = {name for name, _ in times}
    large = {name for name in names if times[name, False] + times[name, True] >= total / 1000}
    for name in sorted(names, key=lambda name: -times[name, False] - times[name, True]):
        for is_backward in (False, True):
            seconds = times[name, is_backward]
            rows[name if name in large else "the rest"][is_backward] += seconds
            rows["together"][is_backward] += seconds
    rows["together"] = rows.pop("together")
    lines = [f"{'':40} {'forward':>12} {'backward':>12} {'both':>12}   share"]
    for name, both in rows.items():
        cells = [f"{seconds / steps * 1000:9.2f} ms" for seconds in (*both, sum(both))]
        lines.append(f"{name:40} {' '.join(cells)} {sum(both) / total:7.1%}")
    return "\n".join(lines)


def main(arguments=None):
    """Run, print. -> exit status"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=[name for name in PRESETS if not PRESETS[name].freeze], default="default")
    parser.add_argument("--case", choices=list(CASES), help="a model of cpu.py instead of a preset")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args(arguments)
    if options.steps < 1:
        print(f"--steps is {options.steps}; it must be at least 1.", file=sys.stderr)
        return 2
    case = CASES[options.case] if options.case else preset_case(f"the preset {options.preset}", options.preset)
    keep_freed_memory()
    params, *batch = inputs(case.config, case.batch)
    state = TrainingState(params, split(*batch, -(-case.batch // case.micro_batch)), case.config)
    profiler = Profiler()
    with worker_threads(1):  # BLAS at one thread
        state.step()  # fetches memory
        sys.setprofile(profiler)
        for _ in range(options.steps):
            state.step()
        sys.setprofile(None)
    print(f"A step of {case.title}, batch {case.batch} in micro-batches of {case.micro_batch}, one thread:\n")
    print(table(profiler.times, options.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
