"""How long does a training step take here, and in the libraries that others use for it?

    python benchmarks/cpu.py                        everything: a quarter of an hour on two processors
    python benchmarks/cpu.py --case b --rounds 21   one model, more rounds
    python benchmarks/cpu.py --sides ours,floor     without PyTorch and JAX

Measured are one whole training step in float32 (both encoders, the loss, every gradient, AdamW, the bound of the
temperature), and encoding pictures and texts without gradients, of three models, on the same processors:

    ours       miniclip's step as the training loop takes it, without what its peers do not do: clipping the gradient
               and the moving average of the parameters
    floor      the matrix products of that step alone, on arrays that are there already: a lower bound for any
               arrangement of the rest
    torch      PyTorch, eager                compile    torch.compile; it needs a C++ compiler
    jax        JAX, the step as one jitted function

Every side is a process of its own, loaded and warm, which sleeps while the others run. In a round each has its turn,
and the next round goes the other way about; a ratio is that of one round, and what is printed is the median of the
rounds, with the smallest and the largest. So a machine that is busy or slow for a while is so for all of them.

Before anything is timed all sides have to agree, from the same parameters and inputs, on the loss and on gradients at
both ends of both towers; else the exit status is 1. There miniclip takes the batch as one micro-batch, for the norms
of a ResNet take their statistics from one. Timed, it has its own micro-batches, its peers the whole batch.

Peak memory is that of fresh processes which took three steps. BLAS's environment variables that would choose its
kernels or threads (OPENBLAS_CORETYPE and others) are removed for all sides, and the report says if they were set.
The exit status is 2 where a side cannot run, with a sentence that says why.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from cases import CASES, case
from common import (
    NAMES,
    RESULTS,
    NotPossible,
    Worker,
    compare,
    describe,
    in_turns,
    machine,
    ratios,
    repeats,
    write_json,
)

from miniclip.backend import cpu_count
from miniclip.init import is_resnet

PACKAGES = {"torch": "torch", "compile": "torch", "jax": "jax"}
WHAT = {"step": "a training step", "encode": "encoding"}
TURN = 0.5  # seconds, about, that a side runs before the next has its turn


def start(side, name, threads, micro_batch=None, quick=False, library=None, trick=None):
    """A worker process for one side of one case; library: the folder of the side "beside"."""
    arguments = json.dumps([side, name, threads, micro_batch, quick, trick])
    return Worker("cpu_worker.py", NAMES[side], arguments, library=library if side == "beside" else None)


def check(workers, resnet):
    """Compare the losses and gradients of {side: worker}: how far apart, as `common.compare`. Raises Disagree."""
    losses, gradients = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for side, worker in workers.items():
            file = str(Path(folder) / "gradients.npz")
            losses[side] = worker.ask(do="check", file=file)["loss"]
            with np.load(file) as arrays:
                gradients[side] = dict(arrays)
    return compare(losses, gradients, resnet)


def time_sides(workers, what, rounds, quick=False):
    """{side: seconds of each round} of {side: worker}, in turns."""

    def seconds(worker, times):
        return lambda: worker.ask(do=what, times=times)["seconds"]

    runs = {}
    for side, worker in workers.items():
        worker.ask(do=what, times=2)  # compiles, and fills caches and pools of memory
        runs[side] = seconds(worker, 1 if quick else repeats(worker.ask(do=what, times=1)["seconds"], TURN))
    return in_turns(runs, rounds)


def peak_memory(*arguments):
    """Bytes that a fresh process of a side needs for three steps, at most. arguments: of `start`."""
    worker = start(*arguments)
    try:
        worker.ask(do="step", times=3)
        return worker.ask(do="memory")["bytes"]
    finally:
        worker.close()


def measure(name, sides, rounds, threads, micro_batch=None, quick=False, library=None):
    """Time one case. -> a dict that JSON can hold"""
    chosen, workers = case(name, quick), {}
    rest = name, threads, micro_batch, quick, library
    try:
        for side in sides:
            workers[side] = start(side, *rest)
        about = {side: worker.ask(do="about") for side, worker in workers.items()}
        compared = {side: worker for side, worker in workers.items() if side != "floor"}
        agreement = check(compared, is_resnet(chosen.config))
        seconds = {what: time_sides(workers, what, rounds, quick) for what in WHAT}
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "case": name,
        "title": chosen.title,
        "batch": chosen.batch,
        "micro_batch": about["ours"]["micro_batch"],
        "seconds": seconds,
        "agreement": agreement,
        "flops": about.get("floor", {}).get("flops"),
        "about": {side: answer["about"] for side, answer in about.items() if "about" in answer},
        "memory": {side: peak_memory(side, *rest) for side in compared},
    }


def table(result):
    """The report of one case."""
    lines = [
        f"({result['case']}) {result['title']}; batch {result['batch']}, micro-batch {result['micro_batch']}",
        "",
        f"{'':26}" + "".join(f"{what:>18}{'ours / it':>11}{'':16}" for what in WHAT.values()) + "    memory",
    ]
    for side in result["seconds"]["step"]:
        line = f"{NAMES[side]:26}"
        for what in WHAT:
            seconds = result["seconds"][what]
            middle, least, most = ratios(seconds, "ours", side)
            ratio = f"{middle:10.2f} {f'({least:.2f} to {most:.2f})':<16}"
            line += f"{median(seconds[side]) * 1000:15.1f} ms" + (" " * 27 if side == "ours" else ratio)
        if side in result["memory"]:
            line += f"{result['memory'][side] / 2**20:7.0f} MiB"
        lines.append(line.rstrip())
    lines.append("")
    if result["flops"]:
        step, encode = (result["flops"][what] / 1e9 for what in WHAT)
        rates = [result["flops"][what] / median(result["seconds"][what]["floor"]) / 1e9 for what in WHAT]
        lines.append(
            f"The products are {step:.1f} GFLOP a step, at {rates[0]:.0f} GFLOP/s; "
            f"{encode:.1f} GFLOP for encoding, at {rates[1]:.0f}."
        )
    others = [
        f"{NAMES[side]} {loss:.0e}, {gradient:.0e}"
        for side, (loss, gradient) in result["agreement"].items()
        if side != "ours"
    ]
    if others:
        lines.append(f"Relative differences from miniclip's loss and gradients: {'; '.join(others)}.")
    return "\n".join(lines)


def plot(results, path):
    """Bars of the time of a step, PyTorch eager being 1 (miniclip, where it is not there); the floor is a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    for ax, result in zip(axes, results):
        seconds = {side: median(times) for side, times in result["seconds"]["step"].items()}
        unit = seconds.get("torch", seconds["ours"])
        bars = {NAMES[side]: time / unit for side, time in seconds.items() if side != "floor"}
        colours = ["#0072B2" if name.startswith("miniclip") else "#BBBBBB" for name in bars]
        ax.bar_label(ax.bar(bars.keys(), bars.values(), color=colours), fmt="%.2f")
        if "floor" in seconds:
            floor, small = seconds["floor"] / unit, {"color": "#9A6A00", "fontsize": 8}
            ax.axhline(floor, color="#E69F00", lw=1.5)
            ax.text(len(bars) - 0.5, floor, "matrix products alone", ha="right", va="bottom", **small)
        ax.set_title(f"({result['case']}) {result['title'].partition(',')[0]}", fontsize=9)
        ax.tick_params(axis="x", labelrotation=30, labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("time of a training step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def possible(sides):
    """The sides that can run; NotPossible where a package is missing."""
    for side in sides:
        if side in PACKAGES and importlib.util.find_spec(PACKAGES[side]) is None:
            raise NotPossible(
                f"{NAMES[side]} is not installed: pip install 'torch' 'jax', or name the sides that are "
                "to be measured: --sides ours,floor."
            )
    if "compile" in sides and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        print("torch.compile is left out: it needs a C++ compiler, and none is there.")
        return [side for side in sides if side != "compile"]
    return sides


def parsed(arguments):
    """The options; NotPossible where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES), help="one model; may be given again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of every side; all processors if not given")
    parser.add_argument("--micro-batch", type=int, help="miniclip's, if not the preset's; of (b) 32 and of (c) 8")
    parser.add_argument("--sides", default="ours,floor,torch,compile,jax")
    parser.add_argument("--beside", type=Path, help="a folder that holds another miniclip: one more side")
    parser.add_argument("--json", type=Path, default=RESULTS / "cpu.json")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--quick", action="store_true", help="two rounds of batch 8, for tests")
    options = parser.parse_args(arguments)
    sides = options.sides.split(",")
    numbers = 1 <= options.threads <= cpu_count() and options.rounds >= 1 and (options.micro_batch or 1) >= 1
    if set(sides) - set(NAMES) or "ours" not in sides or not numbers:
        raise NotPossible(
            f"--sides are some of {', '.join(NAMES)}, with ours among them; --threads 1 to {cpu_count()}; "
            "--rounds and --micro-batch at least 1."
        )
    options.sides = possible(sides)
    if options.beside is not None:
        options.sides.insert(1, "beside")
    return options


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    try:
        options = parsed(arguments)
        if hasattr(os, "sched_setaffinity"):  # the workers inherit it: all have these processors and no more
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
        found = {"machine": machine(options.threads), "cases": []}
        print(describe(found["machine"]))
        left_out = [NAMES[side] for side in ("floor", "torch", "compile", "jax") if side not in options.sides]
        if left_out:
            print(f"Not measured: {', '.join(left_out)}.", flush=True)
        rounds = 2 if options.quick else options.rounds
        rest = options.sides, rounds, options.threads, options.micro_batch, options.quick, options.beside
        for name in options.case or CASES:
            found["cases"].append(measure(name, *rest))
            print("\n" + table(found["cases"][-1]), flush=True)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return error.status
    print("\n" + "\n".join(f"{NAMES[side]}: {about}" for side, about in found["cases"][0]["about"].items()))
    write_json(found, options.json)
    if options.plot:
        plot(found["cases"], options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
