"""How does the cost of a step grow, and how that of the loss?

    python benchmarks/scaling.py                       everything: about six minutes on two processors
    python benchmarks/scaling.py --part loss           one part: batch, width, tokens, threads, loss
    python benchmarks/scaling.py --plot benchmarks/results/scaling.png

A whole training step in float32 (both encoders, the loss, every gradient, AdamW) of a small ViT and text model is
timed against one size at a time, the others staying as they are: the batch, the width of both towers (a head keeps
its width), the tokens of both, and the threads. The exponent is the slope of a line fitted to log time over log size,
by least squares, and, as a power law holds in the limit only, the slope between the two largest sizes. Beside them
stands the exponent of the multiplications in the step's matrix products, counted, and what theory says.

The loss is timed forward and backward, E = 512, as in training with BLAS at one thread: dense (loss.clip_loss) and
in tiles (tiles.tiled_clip_loss) in turns, and each N once more in a process of its own, whose peak memory is the
whole process's. Before that they have to agree: to 1e-12 in float64, to rounding in float32, there also at the
largest N and scale 100 with float64; else the exit status is 1. It is 2 where a worker ends early.

The sizes of a part have their turns one after the other, and the next round goes the other way about; what counts is
medians. BLAS's environment variables are taken away from all workers, as in cpu.py.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from cpu import FORGOTTEN, NotPossible, describe, machine, write_json
from cpu_worker import Ours, flops, inputs, most_memory, products_of

THEORY = {
    "batch": "1",
    "width": "2 in the limit: the weights' products; less where attention and norms count",
    "tokens": "between 1, the weights' products, and 2, attention's",
    "threads": "−1, up to the processors",
}
SHARD, HEAD = 16, 32
TURN = 0.25  # seconds, about, that a size runs before the next has its turn
DIMENSIONS = 512  # E of the losses
PROMISED_N, PROMISED_BYTES, PROMISED_RATIO = 32768, 1e9, 1.2
FULL = {
    "base": {"batch": 64, "width": 128, "tokens": 65},
    "batch": [32, 64, 128, 256, 512],
    "width": [32, 64, 128, 256, 512],
    "tokens": [17, 37, 65, 145, 257, 401],
    "compared": [2048, 4096, 8192],
    "tiled": [1024, 2048, 4096, 8192, 16384, 32768],
    "dense": [1024, 2048, 4096, 8192, 16384],
}
QUICK = {
    "base": {"batch": 8, "width": 32, "tokens": 5},
    "batch": [8, 16],
    "width": [32, 64],
    "tokens": [5, 10],
    "compared": [64, 128],
    "tiled": [64, 128, 256],
    "dense": [64, 128],
}


# ------------------------------------------------------------------------------------------ the workers


def model(width, tokens):
    """Config of two layers a tower; tokens is 1 + a square, of the picture as of the text."""
    side = math.isqrt(tokens - 1)
    return {
        "embed_dim": width,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 4 * side, "layers": 2, "width": width, "head_width": HEAD, "patch_size": 4},
        "text_cfg": {"context_length": tokens, "vocab_size": 1000, "width": width, "heads": width // HEAD, "layers": 2},
    }


def steps(part, sizes, base, threads, rounds, quick):
    """Time a step at every size of one part. -> {"seconds": a list for each size, "flops": a number for each}"""
    from miniclip.backend import worker_threads

    with ExitStack() as stack:
        runners = []
        for size in sizes:
            at = base | {"threads": threads} | {part: size}
            pool = stack.enter_context(worker_threads(at["threads"]))
            config = model(at["width"], at["tokens"])
            runners.append(Ours(*inputs(config, at["batch"]), config, SHARD, pool))
        counted = [
            sum(flops(product) for tasks in products_of(ours, "step") for task in tasks for product in task)
            for ours in runners
        ]
        once = [seconds_of(ours.step) for ours in runners]
        times = [1 if quick else min(50, max(1, round(TURN / seconds))) for seconds in once]
        seconds = [[] for _ in runners]
        for turn in range(rounds):
            for i in range(len(runners))[:: -1 if turn % 2 else 1]:
                seconds[i].append(seconds_of(runners[i].step, times[i]))
    return {"seconds": seconds, "flops": counted}


def seconds_of(f, times=1):
    """The time that f() takes, the mean of so many calls."""
    start = time.perf_counter()
    for _ in range(times):
        f()
    return (time.perf_counter() - start) / times


def losses():
    """{side: a function like loss.clip_loss}"""
    from miniclip.loss import clip_loss
    from miniclip.training.tiled_loss import tiled_clip_loss

    return {"dense": clip_loss, "tiled": tiled_clip_loss}


def pairs(n, dimensions=DIMENSIONS, dtype=np.float32):
    """Features of n pairs, a little alike, and logit_scale = ln 100."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((n, dimensions), np.float32)
    text = rng.standard_normal((n, dimensions), np.float32)
    for start in range(0, n, 1024):  # no whole array more than the two
        text[start : start + 1024] += 0.1 * image[start : start + 1024]
    return image.astype(dtype, copy=False), text.astype(dtype, copy=False), np.array(math.log(100), dtype)


def run_loss(f, features, **options):
    """(loss, d_image, d_text, d_logit_scale): forward and backward."""
    loss, backward = f(*features, **options)
    return loss, *backward()


def compare(sizes, rounds):
    """{N: {"dense": seconds of each round, "tiled": the same}}, the sides in turns."""
    sides, seconds = losses(), {n: {"dense": [], "tiled": []} for n in sizes}
    for n in sizes:
        features = pairs(n)
        for f in sides.values():
            run_loss(f, features)
        times = max(1, round(TURN / seconds_of(lambda: run_loss(sides["dense"], features))))
        for turn in range(rounds):
            for side in list(sides)[:: -1 if turn % 2 else 1]:
                seconds[n][side].append(seconds_of(lambda: run_loss(sides[side], features), times))
    return seconds


def alone(side, n):
    """One loss of one size in this process. -> seconds and the most bytes the process ever had"""
    features, f = pairs(n), losses()[side]
    times = 3 if n <= 8192 else 1
    return {"seconds": median(seconds_of(lambda: run_loss(f, features)) for _ in range(times)), "bytes": most_memory()}


def agree(sizes, largest):
    """How far apart the losses are: (what, N, difference, allowed), of the worst of loss and gradients."""
    sides, found = losses(), []

    def apart(these, those):
        return max(
            float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b)) for a, b in zip(these, those)
        )

    for n, tile in ((1, 1), (257, 64), (1000, 1000), (1500, 512)):
        features = pairs(n, 64, np.float64)
        ours, theirs = run_loss(sides["tiled"], features, tile=tile), run_loss(sides["dense"], features)
        same = n == 1 and not any(np.any(a) for a in (*ours, *theirs))  # one pair: all is 0
        found.append((f"float64, tile {tile}, dense", n, 0.0 if same else apart(ours, theirs), 1e-12))
    for n in sizes:
        found.append(
            ("float32, dense", n, apart(*(run_loss(sides[side], pairs(n)) for side in ("tiled", "dense"))), 1e-4)
        )
    single, double = (run_loss(sides["tiled"], pairs(largest, 32, dtype)) for dtype in (np.float32, np.float64))
    found.append(("float32, float64", largest, apart(single, double), 1e-4))
    return found


WORK = {f.__name__: f for f in (steps, compare, alone, agree)}


def work(command):
    """What a worker process does: one function of WORK, as training would, its answer one line of JSON."""
    from miniclip.backend import worker_threads
    from miniclip.training import keep_freed_memory

    keep_freed_memory()
    with worker_threads(1):  # BLAS at one thread
        print(json.dumps(WORK[command.pop("do")](**command)))


def ask(**command):
    """Have a fresh process do it; NotPossible where it ends early."""
    environment = {key: value for key, value in os.environ.items() if key not in FORGOTTEN}
    done = subprocess.run(
        [sys.executable, __file__, "--work", json.dumps(command)], env=environment, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        raise NotPossible(f"the worker for {command['do']} ended with status {done.returncode}; its words are above.")
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------ what is found


def exponent(sizes, seconds):
    """(slope of the line through all, slope between the two largest), of log seconds over log sizes."""
    x, y = np.log(sizes), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def measure_part(part, sizes, base, threads, rounds, quick):
    """Time one size of the step. -> a dict that JSON can hold"""
    found = ask(do="steps", part=part, sizes=sizes, base=base, threads=threads, rounds=rounds, quick=quick)
    found |= {
        "part": part,
        "sizes": sizes,
        "fixed": {key: value for key, value in (base | {"threads": threads}).items() if key != part},
    }
    if len(sizes) > 1:
        found["exponent"] = exponent(sizes, [median(times) for times in found["seconds"]])
        found["flops_exponent"] = exponent(sizes, found["flops"])
    return found


def measure_loss(plan, rounds):
    """Compare the two losses. -> a dict that JSON can hold"""
    found = {
        "agreement": ask(do="agree", sizes=plan["compared"][:2], largest=plan["tiled"][-1]),
        "compared": ask(do="compare", sizes=plan["compared"], rounds=rounds),
        "dimensions": DIMENSIONS,
    }
    for side in ("dense", "tiled"):
        found[side] = {n: ask(do="alone", side=side, n=n) for n in plan[side]}
    return json.loads(json.dumps(found))  # keys as they are read from the file


def tell_part(found):
    """The lines that tell one part."""
    fixed = ", ".join(f"{key} {value}" for key, value in found["fixed"].items())
    lines = [
        f"{found['part']} ({fixed})",
        "".join(f"{size:>11}" for size in found["sizes"]),
        "".join(f"{median(times) * 1000:8.1f} ms" for times in found["seconds"]),
    ]
    if "exponent" not in found:
        return "\n".join([*lines, "one size only: no exponent."])
    fit, end = found["exponent"]
    counted = found["flops_exponent"]
    products = (
        ""
        if found["part"] == "threads"
        else (f"; the products counted: {counted[0]:.2f}, at the large end {counted[1]:.2f}")
    )
    lines += [f"exponent {fit:.2f}, at the large end {end:.2f}{products}", f"theory: {THEORY[found['part']]}"]
    return "\n".join(lines)


def ratios(compared):
    """{N: (median, smallest, largest) of tiled / dense, round by round}"""
    each = {
        n: [ours / theirs for ours, theirs in zip(seconds["tiled"], seconds["dense"])]
        for n, seconds in compared.items()
    }
    return {int(n): (median(those), min(those), max(those)) for n, those in each.items()}


def tell_loss(found):
    """The lines that tell the losses, and whether they keep what is promised."""
    lines = [
        f"the loss, forward and backward (E = {found['dimensions']}, BLAS at one thread)",
        f"{'N':>8}{'dense':>12}{'memory':>11}{'tiled':>12}{'memory':>11}",
    ]
    for n, tiled in found["tiled"].items():
        dense = found["dense"].get(n)
        dense = f"{dense['seconds']:10.3f} s{dense['bytes'] / 2**20:7.0f} MiB" if dense else f"{'':23}"
        lines.append(f"{n:>8}{dense}{tiled['seconds']:10.3f} s{tiled['bytes'] / 2**20:7.0f} MiB")
    *_, largest = found["tiled"]
    peak, each = found["tiled"][largest]["bytes"], ratios(found["compared"])
    if int(largest) == PROMISED_N:
        lines.append(
            f"Memory: at N = {largest} the whole process has {peak / 1e9:.2f} GB at most; promised is less "
            f"than {PROMISED_BYTES / 1e9:g} GB: {'kept' if peak < PROMISED_BYTES else 'NOT kept'}."
        )
    else:
        lines.append(
            f"Memory: at N = {largest} the whole process has {peak / 1e9:.2f} GB at most; what is promised is "
            f"of N = {PROMISED_N}, which was not measured."
        )
    worst = max(middle for middle, _, _ in each.values())
    lines.append(
        "Time: tiled / dense is "
        + ", ".join(f"{middle:.2f} ({least:.2f} to {most:.2f}) at N = {n}" for n, (middle, least, most) in each.items())
        + f"; promised is {PROMISED_RATIO} at most: {'kept' if worst <= PROMISED_RATIO else 'NOT kept'}."
    )
    lines += [
        f"Equal: {what} at N = {n}: apart by {apart:.1e}, allowed {allowed:.0e}"
        + ("." if apart <= allowed else ": NOT EQUAL.")
        for what, n, apart, allowed in found["agreement"]
    ]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ the plot

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#888888"
AXES = {
    "batch": "batch (pairs)",
    "width": "width of both towers",
    "tokens": "tokens of a picture and a text",
    "threads": "threads",
}


def plot(parts, loss, path):
    """Time of a step against each size; time and peak memory of the losses against N. All axes are logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = list(figure.subplots(2, 3).flat)
    # The left four panels are the step's, the right column the loss's.
    for ax, part in zip([axes[0], axes[1], axes[3], axes[4]], AXES):
        found = next((found for found in parts if found["part"] == part), None)
        if found:
            draw_part(ax, found)
        else:
            ax.set_axis_off()
    for ax, what in ((axes[2], "seconds"), (axes[5], "bytes")):
        if loss:
            draw_loss(ax, loss, what)
        else:
            ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_part(ax, found):
    """Points, and the line of what theory expects, through the last (of the threads: the first)."""
    sizes, seconds = np.array(found["sizes"]), np.array([median(times) for times in found["seconds"]]) * 1000
    if found["part"] == "threads":
        ax.plot(sizes, seconds[0] * sizes[0] / sizes, "--", color=GREY, lw=1, label="1 / threads")
    else:
        counted = np.array(found["flops"], float)
        ax.plot(sizes, seconds[-1] * counted / counted[-1], "--", color=GREY, lw=1, label="multiplications")
    label = (
        "a step"
        if "exponent" not in found
        else (f"a step: exponent {found['exponent'][0]:.2f}, at the end {found['exponent'][1]:.2f}")
    )
    ax.plot(sizes, seconds, "o-", color=BLUE, lw=1.8, ms=4.5, label=label)
    finish(ax, sizes, found["part"].capitalize(), AXES[found["part"]], "time of a step (ms)")


def draw_loss(ax, found, what):
    """Dense and tiled, against N."""
    unit = 1 if what == "seconds" else 1e9
    for side, colour, marker in (("dense", ORANGE, "s"), ("tiled", BLUE, "o")):
        sizes = [int(n) for n in found[side]]
        values = np.array([one[what] for one in found[side].values()]) / unit
        ax.plot(
            sizes,
            values,
            marker + "-",
            color=colour,
            lw=1.8,
            ms=4.5,
            label="dense, N × N" if side == "dense" else "in tiles",
        )
    if what == "bytes":
        ax.axhline(PROMISED_BYTES / unit, color=GREY, ls=":", lw=1.2, label="1 GB")
    finish(
        ax,
        [int(n) for n in found["tiled"]],
        "The loss: " + ("time" if what == "seconds" else "peak memory"),
        f"batch N (E = {found['dimensions']})",
        "forward and backward (s)" if what == "seconds" else "whole process (GB)",
    )


def finish(ax, sizes, title, x, y):
    """Logarithmic axes with the measured sizes as ticks, and plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(sizes, [f"{size // 1024}k" if size % 1024 == 0 else str(size) for size in map(int, sizes)])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    if high < 4 * low:  # so that a line that is nearly level looks level
        low, high = low / 2, high * 2
        ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(x, fontsize=9)
    ax.set_ylabel(y, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(True, color="#E5E5E5", lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)


# ------------------------------------------------------------------------------------------ the command


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--part", action="append", choices=[*THEORY, "loss"], help="one part; may be given again")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--threads", type=int, help="of the steps; all processors if not given")
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    options.add_argument("--plot", type=Path)
    options.add_argument("--quick", action="store_true", help="two rounds of the smallest sizes, for tests")
    options.add_argument("--work", help=argparse.SUPPRESS)
    options = options.parse_args(arguments)
    if options.work:
        work(json.loads(options.work))
        return 0

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads, plan = options.threads or usable, QUICK if options.quick else FULL
    rounds, asked = 2 if options.quick else options.rounds, options.part or [*THEORY, "loss"]
    if not 1 <= threads <= usable or options.rounds < 1:
        print(f"--threads 1 to {usable}; --rounds at least 1.", file=sys.stderr)
        return 2
    found = {"machine": machine(threads), "parts": [], "loss": None}
    print(describe(found["machine"]), flush=True)
    try:
        for part in [part for part in THEORY if part in asked]:
            sizes = plan.get(part) or sorted({usable, *(2**i for i in range(usable.bit_length()))})
            found["parts"].append(measure_part(part, sizes, plan["base"], threads, rounds, options.quick))
            print("\n" + tell_part(found["parts"][-1]), flush=True)
        if "loss" in asked:
            found["loss"] = measure_loss(plan, rounds)
            print("\n" + tell_loss(found["loss"]), flush=True)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return 2
    write_json(found, options.json)
    if options.plot:
        plot(found["parts"], found["loss"], options.plot)
    equal = all(apart <= allowed for _, _, apart, allowed in (found["loss"] or {"agreement": []})["agreement"])
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
