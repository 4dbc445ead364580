"""How long does a training step take here, and in the libraries that others use for it?

    python benchmarks/cpu.py                        everything: a quarter of an hour on two processors
    python benchmarks/cpu.py --case b --rounds 21   one model, more rounds
    python benchmarks/cpu.py --sides ours,floor     without PyTorch and JAX

Measured are one whole training step in float32 (both encoders, the loss, every gradient, AdamW, the bound of the
temperature), and encoding pictures and texts without gradients; three models, all sides on the same processors:

    ours       miniclip's step as train.py takes it, less what its peers do not do: clipping the gradient and the
               moving average of the parameters
    floor      the matrix products of that step alone, on arrays that are there already: what no arrangement
               of the rest could beat
    torch      PyTorch, eager                compile    torch.compile; it needs a C++ compiler
    jax        JAX, the step as one jitted function

Every side is a process of its own, loaded and warm, which sleeps while the others run. In a round each has its turn,
and the next round goes the other way about; a ratio is that of one round, and what is printed is the median of the
rounds, with the smallest and the largest. So a machine that is busy or slow for a while is so for all of them.

Before anything is timed all sides have to agree, from the same parameters and inputs, on the loss and on gradients at
both ends of both towers; else the exit status is 1. There miniclip takes the batch as one shard, for the norms of a
ResNet take their statistics from a shard. Timed it has its own shards, its peers the whole batch.

Peak memory is that of fresh processes which took three steps. BLAS's environment variables that would choose its
kernels or threads (OPENBLAS_CORETYPE and others) are taken away from all sides, and the report says if they were set.
The exit status is 2 where a side cannot run, with a sentence that says why.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from cpu_worker import CASES, case

NAMES = {
    "ours": "miniclip",
    "beside": "miniclip, beside",
    "floor": "its matrix products alone",
    "torch": "PyTorch",
    "compile": "torch.compile",
    "jax": "JAX, jitted",
}
PACKAGES = {"torch": "torch", "compile": "torch", "jax": "jax"}
WHAT = {"step": "a training step", "encode": "encoding"}
# What two sides may differ in, relative. A ReLU whose input is 0 up to rounding falls on either side of its kink.
LOSS, GRADIENT, RELU_GRADIENT = 1e-4, 2e-3, 0.05
FORGOTTEN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
TURN = 0.5  # seconds, about, that a side runs before the next has its turn


class NotPossible(Exception):
    """A sentence for the person at the terminal."""


class Disagree(Exception):
    """Two sides compute different things."""


class Side:
    """A worker process: `ask` sends it a command and waits for the answer."""

    def __init__(self, side, name, threads, shard, quick, library=None):
        environment = {key: value for key, value in os.environ.items() if key not in FORGOTTEN}
        if library is not None:
            environment["PYTHONPATH"] = str(library)
        worker = Path(__file__).with_name("cpu_worker.py")
        self.name = side
        self.process = subprocess.Popen(
            [sys.executable, str(worker), side, name, str(threads), str(shard), str(quick)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.about = self._answer()

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise NotPossible(f"the side {self.name} ended with status {self.process.wait()}; its words are above.")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def check(sides, resnet):
    """Compare the sides' loss and gradients; Disagree is raised. -> {side: (loss, worst gradient)}, how far apart"""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            file = Path(folder) / f"{side.name}.npz"
            loss = side.ask(do="check", file=str(file))["loss"]
            with np.load(file) as arrays:
                results[side.name] = loss, dict(arrays)
    loss, gradient = results["ours"]
    agreement = {}
    for name, (their_loss, their_gradient) in results.items():
        apart = abs(their_loss - loss) / abs(loss)
        errors = {
            key: float(np.linalg.norm(theirs - gradient[key]) / np.linalg.norm(gradient[key]))
            for key, theirs in their_gradient.items()
        }
        worst = max(errors, key=errors.get)
        if (
            set(their_gradient) != set(gradient)
            or not apart <= LOSS
            or not (errors[worst] <= (RELU_GRADIENT if resnet else GRADIENT))
        ):
            raise Disagree(
                f"{NAMES[name]} has the loss {their_loss:.6f}, miniclip {loss:.6f}; of the gradients "
                f"{worst} differs most, by {errors[worst]:.2g}. What computes another thing is not timed."
            )
        agreement[name] = apart, errors[worst]
    return agreement


def measure(name, sides, rounds, threads, shard, quick=False, library=None):
    """Time one case. -> a dict of all that was found, which JSON can hold."""
    title, config, batch, _ = case(name, quick)
    running = []
    try:
        for side in sides:
            running.append(Side(side, name, threads, shard, quick, library if side == "beside" else None))
        resnet = isinstance(config["vision_cfg"]["layers"], (list, tuple))
        agreement = check([side for side in running if side.name != "floor"], resnet)
        seconds = {what: {side: [] for side in sides} for what in WHAT}
        times = {}
        for what in WHAT:
            for side in running:
                side.ask(do=what, times=2)  # compiles, and fills caches and pools of memory
                once = side.ask(do=what, times=1)["seconds"]
                times[what, side.name] = 1 if quick else min(50, max(1, round(TURN / once)))
        for turn in range(rounds):
            for what in WHAT:
                for side in running[::-1] if turn % 2 else running:
                    answer = side.ask(do=what, times=times[what, side.name])
                    seconds[what][side.name].append(answer["seconds"])
    finally:
        for side in running:
            side.close()
    about = {side.name: side.about for side in running}
    return {
        "case": name,
        "title": title,
        "batch": batch,
        "shard": about["ours"]["shard"],
        "seconds": seconds,
        "agreement": agreement,
        "flops": about.get("floor", {}).get("flops"),
        "about": {side: words["about"] for side, words in about.items() if "about" in words},
        "memory": {side: peak_memory(side, name, threads, shard, quick, library) for side in sides if side != "floor"},
    }


def peak_memory(side, name, threads, shard, quick, library):
    """Bytes that a fresh process of this side needs for three steps, at most."""
    fresh = Side(side, name, threads, shard, quick, library if side == "beside" else None)
    try:
        fresh.ask(do="step", times=3)
        return fresh.ask(do="memory")["bytes"]
    finally:
        fresh.close()


def ratios(seconds, side):
    """(median, smallest, largest) of ours / theirs, round by round."""
    each = [ours / theirs for ours, theirs in zip(seconds["ours"], seconds[side])]
    return median(each), min(each), max(each)


def table(result):
    """The lines that tell one case."""
    lines = [
        f"({result['case']}) {result['title']}; batch {result['batch']}, miniclip's shard {result['shard']}",
        "",
        f"{'':26}" + "".join(f"{what:>18}{'ours / it':>11}{'':16}" for what in WHAT.values()) + "    memory",
    ]
    for side in result["seconds"]["step"]:
        line = f"{NAMES[side]:26}"
        for what in WHAT:
            seconds = result["seconds"][what]
            line += f"{median(seconds[side]) * 1000:15.1f} ms"
            if side == "ours":
                line += " " * 27
            else:
                middle, least, most = ratios(seconds, side)
                line += f"{middle:10.2f} {f'({least:.2f} to {most:.2f})':<16}"
        if side in result["memory"]:
            line += f"{result['memory'][side] / 2**20:7.0f} MiB"
        lines.append(line.rstrip())
    lines.append("")
    if result["flops"]:
        each = {what: result["flops"][what] / median(result["seconds"][what]["floor"]) / 1e9 for what in WHAT}
        lines.append(
            f"The products are {result['flops']['step'] / 1e9:.1f} GFLOP a step, at "
            f"{each['step']:.0f} GFLOP/s; "
            f"{result['flops']['encode'] / 1e9:.1f} GFLOP for encoding, at {each['encode']:.0f}."
        )
    others = {side: apart for side, apart in result["agreement"].items() if side != "ours"}
    if others:
        lines.append(
            "Apart from miniclip's loss and gradients by, relative: "
            + "; ".join(f"{NAMES[side]} {loss:.0e}, {gradient:.0e}" for side, (loss, gradient) in others.items())
            + "."
        )
    return "\n".join(lines)


def processor():
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def machine(threads):
    """What the numbers depend on besides the code, a dict."""
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "set": {key: os.environ[key] for key in os.environ if key.startswith("OPENBLAS") or key in FORGOTTEN},
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def describe(where):
    """The machine in words."""
    load = " ".join(map(str, where["load"]))
    words = (
        f"{where['processor']}, {where['threads']} threads of {where['processors']} processors, "
        f"Python {where['python']}; load average at the start {load}.\n"
    )
    kernels = [f"{key}={value}" for key, value in where["set"].items()]
    return words + (
        f"The environment had {', '.join(kernels)}; the sides ran without."
        if kernels
        else "No variable of the environment chose BLAS's kernels or threads."
    )


def plot(results, path):
    """Bars of the time of a step, PyTorch eager being 1 (miniclip, where it is not there); the floor a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    for ax, result in zip(axes, results):
        seconds = {side: median(times) for side, times in result["seconds"]["step"].items()}
        unit = seconds.get("torch", seconds["ours"])
        bars = [side for side in seconds if side != "floor"]
        colours = ["#0072B2" if side in ("ours", "beside") else "#BBBBBB" for side in bars]
        drawn = ax.bar([NAMES[side] for side in bars], [seconds[side] / unit for side in bars], color=colours)
        ax.bar_label(drawn, [f"{seconds[side] / unit:.2f}" for side in bars])
        if "floor" in seconds:
            ax.axhline(seconds["floor"] / unit, color="#E69F00", lw=1.5)
            ax.text(
                len(bars) - 0.5,
                seconds["floor"] / unit,
                "matrix products alone",
                ha="right",
                va="bottom",
                color="#9A6A00",
                fontsize=8,
            )
        ax.set_title(f"({result['case']}) {result['title'].partition(',')[0]}", fontsize=9)
        ax.tick_params(axis="x", labelrotation=30, labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("time of a training step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def write_json(found, path):
    """Write beside, then rename: there is never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(beside, path)


def possible(sides):
    """The sides that can run; NotPossible where a package is missing."""
    for side in sides:
        package = PACKAGES.get(side)
        if package and importlib.util.find_spec(package) is None:
            raise NotPossible(
                f"{NAMES[side]} is not installed: pip install 'torch' 'jax', or name the sides that are "
                "to be measured: --sides ours,floor."
            )
    if "compile" in sides and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        print("torch.compile is left out: it needs a C++ compiler, and none is there.")
        sides = [side for side in sides if side != "compile"]
    return sides


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--case", action="append", choices=list(CASES), help="one model; may be given again")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, help="processors that every side has; all of them if not given")
    options.add_argument(
        "--shard",
        type=int,
        default=0,
        help="miniclip's shard; 0 is the preset's, or what was found good: (b) 32, (c) 8",
    )
    options.add_argument("--sides", default="ours,floor,torch,compile,jax")
    options.add_argument("--beside", type=Path, help="a folder that holds another miniclip: one more side")
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "cpu.json")
    options.add_argument("--plot", type=Path)
    options.add_argument("--quick", action="store_true", help="two rounds of batch 8, for tests")
    options = options.parse_args(arguments)

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = options.threads or usable
    sides = options.sides.split(",")
    if set(sides) - set(NAMES) or "ours" not in sides or not 1 <= threads <= usable or options.rounds < 1:
        options_wrong = (
            f"--sides are some of {', '.join(NAMES)}, with ours among them; --threads 1 to {usable}; "
            "--rounds at least 1."
        )
        print(options_wrong, file=sys.stderr)
        return 2
    try:
        sides = possible(sides)
        if options.beside is not None:
            sides.insert(1, "beside")
        found = {"machine": machine(threads), "cases": []}
        left_out = [NAMES[side] for side in ("floor", "torch", "compile", "jax") if side not in sides]
        print(describe(found["machine"]) + (f"\nNot measured: {', '.join(left_out)}." if left_out else ""), flush=True)
        for name in options.case or CASES:
            result = measure(
                name,
                sides,
                2 if options.quick else options.rounds,
                threads,
                options.shard,
                options.quick,
                options.beside,
            )
            found["cases"].append(result)
            print("\n" + table(result), flush=True)
    except (NotPossible, Disagree) as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, Disagree) else 2
    print("\n" + "\n".join(f"{NAMES[side]}: {words}" for side, words in found["cases"][0]["about"].items()))
    write_json(found, options.json)
    if options.plot:
        plot(found["cases"], options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
