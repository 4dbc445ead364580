"""How does the cost of a training step grow, and how that of the loss?

    python benchmarks/scaling.py                       everything but ranks: about six minutes on two processors
    python benchmarks/scaling.py --part loss           one part: batch, width, tokens, threads, loss, ranks
    python benchmarks/scaling.py --part ranks          on several processes, by MPI: see ranks.py
    python benchmarks/scaling.py --plan                400 million pairs on up to 256 cards, on paper: see plan.py
    python benchmarks/scaling.py --plot benchmarks/results/scaling.png

A whole training step in float32 (both encoders, the loss, every gradient, AdamW) of a small ViT and text model is
timed against one size at a time, the others staying as they are: the batch, the width of both towers (a head keeps
its width), the tokens of both, and the threads. The exponent is the slope of a line fitted to log time over log size,
by least squares, and, as a power law holds in the limit only, the slope between the two largest sizes. Beside them
are the exponent of the multiplications in the step's matrix products, counted, and what theory says.

The loss is timed forward and backward, E = 512, as in training with BLAS at one thread: dense (clip_loss) and in tiles
(tiled_clip_loss) in turns, and each N once more in a process of its own, whose peak memory is the whole process's.
Before that they have to agree: to 1e-12 in float64, to rounding in float32, there also at the largest N and scale 100
with float64; else the exit status is 1. It is 2 where a worker process ends early.

The sizes of a part have their turns one after the other, and the next round goes the other way about; what is reported
is medians. BLAS's environment variables are removed for all workers, as in cpu.py.
"""

import argparse
import json
import math
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from cases import TrainingState, inputs, split
from common import RESULTS, NotPossible, describe, environment, in_turns, machine, ratios, repeats, timer, write_json
from cpu_worker import most_memory
from floor import operations, products_of
from plan import main as print_plan
from ranks import main as measure_ranks

from miniclip.backend import cpu_count, worker_threads
from miniclip.loss import clip_loss
from miniclip.training import keep_freed_memory, tiled_clip_loss

THEORY = {
    "batch": "1",
    "width": "2 in the limit: the weights' products; less where attention and norms count",
    "tokens": "between 1, the weights' products, and 2, attention's",
    "threads": "−1, up to the processors",
}
LOSSES = {"dense": clip_loss, "tiled": tiled_clip_loss}
MICRO_BATCH, HEAD = 16, 32
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

# ------------------------------------------------------------------------------------------ in worker processes


def model(width, tokens):
    """Config of two layers a tower; tokens is 1 + a square, of the picture as of the text."""
    side = math.isqrt(tokens - 1)
    return {
        "embed_dim": width,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 4 * side, "layers": 2, "width": width, "head_width": HEAD, "patch_size": 4},
        "text_cfg": {"context_length": tokens, "vocab_size": 1000, "width": width, "heads": width // HEAD, "layers": 2},
    }


def time_steps(part, sizes, base, threads, rounds, quick):
    """Time a step at every size of one part. -> {"seconds": a list for each size, "flops": a number for each}"""
    with ExitStack() as stack:
        states = []
        for size in sizes:
            at = base | {"threads": threads} | {part: size}
            pool, config = stack.enter_context(worker_threads(at["threads"])), model(at["width"], at["tokens"])
            params, *batch = inputs(config, at["batch"])
            states.append(TrainingState(params, split(*batch, -(-at["batch"] // MICRO_BATCH)), config, pool.map))
        flops, runs = [operations(products_of(state)) for state in states], {}
        for size, state in zip(sizes, states):
            runs[size] = timer(state.step, 1 if quick else repeats(timer(state.step)(), TURN))
        return {"seconds": list(in_turns(runs, rounds).values()), "flops": flops}


def pairs(n, dimensions=DIMENSIONS, dtype=np.float32):
    """Features of n pairs, a little alike, and logit_scale = ln 100."""
    rng = np.random.default_rng(1)
    image, text = (rng.standard_normal((n, dimensions), np.float32) for _ in range(2))
    for start in range(0, n, 1024):  # no whole array more than the two
        text[start : start + 1024] += 0.1 * image[start : start + 1024]
    return image.astype(dtype, copy=False), text.astype(dtype, copy=False), np.array(math.log(100), dtype)


def run_loss(side, features, **options):
    """(loss, d_image, d_text, d_logit_scale): forward and backward."""
    loss, backward = LOSSES[side](*features, **options)
    return loss, *backward()


def compare_losses(sizes, rounds):
    """{N: {"dense": seconds of each round, "tiled": the same}}, the sides in turns."""
    found = {}
    for n in sizes:
        features = pairs(n)
        runs = {side: lambda side=side: run_loss(side, features) for side in LOSSES}
        for run in runs.values():
            run()
        times = repeats(timer(runs["dense"])(), TURN)
        found[n] = in_turns({side: timer(run, times) for side, run in runs.items()}, rounds)
    return found


def loss_alone(side, n):
    """One loss of one size in this process. -> seconds and the most bytes the process ever had"""
    features = pairs(n)
    seconds = timer(lambda: run_loss(side, features))
    return {"seconds": median(seconds() for _ in range(3 if n <= 8192 else 1)), "bytes": most_memory()}


def check_losses(sizes, largest):
    """How far apart the losses are: (what, N, difference, allowed), of the worst of loss and gradients."""

    def apart(these, those):
        errors = [
            np.linalg.norm(np.asarray(a, np.float64) - b) / (np.linalg.norm(b) or 1) for a, b in zip(these, those)
        ]
        return float(np.max(errors))

    found = []
    for n, tile in ((1, 1), (257, 64), (1000, 1000), (1500, 512)):
        features = pairs(n, 64, np.float64)
        difference = apart(run_loss("tiled", features, tile=tile), run_loss("dense", features))
        found.append((f"float64, tile {tile}, dense", n, difference, 1e-12))
    for n in sizes:
        found.append(("float32, dense", n, apart(*(run_loss(side, pairs(n)) for side in ("tiled", "dense"))), 1e-4))
    single, double = (run_loss("tiled", pairs(largest, 32, dtype)) for dtype in (np.float32, np.float64))
    return [*found, ("float32, float64", largest, apart(single, double), 1e-4)]


WORK = {f.__name__: f for f in (time_steps, compare_losses, loss_alone, check_losses)}


def work(do, **arguments):
    """In a worker process: one function of WORK, its answer one line of JSON."""
    keep_freed_memory()
    with worker_threads(1):  # BLAS at one thread
        print(json.dumps(WORK[do](**arguments)))


# ------------------------------------------------------------------------------------------ measured


def ask(f, **arguments):
    """What f, one of WORK, returns in a fresh process; NotPossible where it ends early."""
    command = [sys.executable, __file__, "--work", json.dumps({"do": f.__name__} | arguments)]
    done = subprocess.run(command, env=environment(), text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise NotPossible(f"the process of {f.__name__} ended with status {done.returncode}; its message is above.")
    return json.loads(done.stdout)


def exponent(sizes, seconds):
    """(slope of the line through all, slope between the two largest), of log seconds over log sizes."""
    x, y = np.log(sizes), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def measure_part(part, sizes, base, threads, rounds, quick):
    """Time one size of the step. -> a dict that JSON can hold"""
    found = ask(time_steps, part=part, sizes=sizes, base=base, threads=threads, rounds=rounds, quick=quick)
    fixed = {key: value for key, value in (base | {"threads": threads}).items() if key != part}
    found |= {"part": part, "sizes": sizes, "fixed": fixed}
    if len(sizes) > 1:
        found["exponent"] = exponent(sizes, [median(times) for times in found["seconds"]])
        found["flops_exponent"] = exponent(sizes, found["flops"])
    return found


def measure_loss(plan, rounds):
    """Compare the two losses. -> a dict that JSON can hold; N is a string in it"""
    found = {
        "agreement": ask(check_losses, sizes=plan["compared"][:2], largest=plan["tiled"][-1]),
        "compared": ask(compare_losses, sizes=plan["compared"], rounds=rounds),
        "dimensions": DIMENSIONS,
    }
    for side in LOSSES:
        found[side] = {str(n): ask(loss_alone, side=side, n=n) for n in plan[side]}
    return found


def report_part(found):
    """The report of one part."""
    fixed = ", ".join(f"{key} {value}" for key, value in found["fixed"].items())
    lines = [f"{found['part']} ({fixed})", "".join(f"{size:>11}" for size in found["sizes"])]
    lines.append("".join(f"{median(times) * 1000:8.1f} ms" for times in found["seconds"]))
    if "exponent" not in found:
        return "\n".join([*lines, "one size only: no exponent."])
    line = "exponent {:.2f}, at the large end {:.2f}".format(*found["exponent"])
    if found["part"] != "threads":
        line += "; of the products, counted: {:.2f}, at the large end {:.2f}".format(*found["flops_exponent"])
    return "\n".join([*lines, line, f"theory: {THEORY[found['part']]}"])


def report_loss(found):
    """The report of the losses, and whether they keep what is promised."""
    lines = [
        f"the loss, forward and backward (E = {found['dimensions']}, BLAS at one thread)",
        f"{'N':>8}{'dense':>12}{'memory':>11}{'tiled':>12}{'memory':>11}",
    ]
    for n, tiled in found["tiled"].items():
        both = found["dense"].get(n), tiled
        cells = [f"{one['seconds']:10.3f} s{one['bytes'] / 2**20:7.0f} MiB" if one else f"{'':23}" for one in both]
        lines.append(f"{n:>8}" + "".join(cells))
    largest = list(found["tiled"])[-1]
    peak = found["tiled"][largest]["bytes"]
    kept = f"promised is less than {PROMISED_BYTES / 1e9:g} GB: {'kept' if peak < PROMISED_BYTES else 'NOT kept'}"
    if int(largest) != PROMISED_N:
        kept = f"the promise is about N = {PROMISED_N}, which was not measured"
    lines.append(f"Memory: at N = {largest} the whole process has {peak / 1e9:.2f} GB at most; {kept}.")
    each = {n: ratios(seconds, "tiled", "dense") for n, seconds in found["compared"].items()}
    worst = max(middle for middle, _, _ in each.values())
    times = [f"{middle:.2f} ({least:.2f} to {most:.2f}) at N = {n}" for n, (middle, least, most) in each.items()]
    kept = f"promised is {PROMISED_RATIO} at most: {'kept' if worst <= PROMISED_RATIO else 'NOT kept'}"
    lines.append(f"Time: tiled / dense is {', '.join(times)}; {kept}.")
    for what, n, apart, allowed in found["agreement"]:
        equal = "." if apart <= allowed else ": NOT EQUAL."
        lines.append(f"Equal: {what} at N = {n}: apart by {apart:.1e}, allowed {allowed:.0e}{equal}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ the plot

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#888888"
POINTS = {"lw": 1.8, "ms": 4.5}
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
    axes = figure.subplots(2, 3)
    # The left four panels are the step's, the right column the loss's.
    panels = dict(zip(AXES, axes[:, :2].flat))
    for found in parts:
        draw_part(panels.pop(found["part"]), found)
    for ax, what in zip(axes[:, 2], ("seconds", "bytes")) if loss else ():
        draw_loss(ax, loss, what)
    for ax in [*panels.values(), *([] if loss else axes[:, 2])]:
        ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_part(ax, found):
    """Points, and the line of what theory expects, through the last (of the threads: the first)."""
    sizes, seconds = np.array(found["sizes"]), np.array([median(times) for times in found["seconds"]]) * 1000
    flops = np.array(found["flops"], float)
    if found["part"] == "threads":
        expected, label = seconds[0] * sizes[0] / sizes, "1 / threads"
    else:
        expected, label = seconds[-1] * flops / flops[-1], "multiplications"
    ax.plot(sizes, expected, "--", color=GREY, lw=1, label=label)
    label = "a step: exponent {:.2f}, at the end {:.2f}".format(*found["exponent"]) if len(sizes) > 1 else "a step"
    ax.plot(sizes, seconds, "o-", color=BLUE, label=label, **POINTS)
    finish(ax, sizes, found["part"].capitalize(), AXES[found["part"]], "time of a step (ms)")


def draw_loss(ax, found, what):
    """Dense and tiled, against N."""
    unit = 1 if what == "seconds" else 1e9
    for side, colour, marker, label in (("dense", ORANGE, "s-", "dense, N × N"), ("tiled", BLUE, "o-", "in tiles")):
        values = [one[what] / unit for one in found[side].values()]
        ax.plot([int(n) for n in found[side]], values, marker, color=colour, label=label, **POINTS)
    if what == "bytes":
        ax.axhline(PROMISED_BYTES / unit, color=GREY, ls=":", lw=1.2, label="1 GB")
    title, y = ("time", "forward and backward (s)") if what == "seconds" else ("peak memory", "whole process (GB)")
    finish(ax, [int(n) for n in found["tiled"]], f"The loss: {title}", f"batch N (E = {found['dimensions']})", y)


def finish(ax, sizes, title, x, y):
    """Logarithmic axes with the measured sizes as ticks, and plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set(xscale="log", yscale="log")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part", action="append", choices=[*THEORY, "loss", "ranks"], help="one part; may be given again"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of the steps; all processors if not given")
    parser.add_argument("--json", type=Path, default=RESULTS / "scaling.json", help="ranks.json is beside it")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--plan", action="store_true", help="measure nothing: print the plan on paper")
    parser.add_argument("--quick", action="store_true", help="two rounds of the smallest sizes, for tests")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(**options.work)
        return 0
    if options.plan:
        return print_plan([])
    usable, asked = cpu_count(), options.part or [*THEORY, "loss"]
    if not 1 <= options.threads <= usable or options.rounds < 1:
        print(f"--threads 1 to {usable}; --rounds at least 1.", file=sys.stderr)
        return 2
    if "ranks" in asked:
        more = ["--rounds", str(options.rounds), "--json", str(options.json.with_name("ranks.json"))]
        status = measure_ranks(more + ["--quick"] * options.quick)
        if status or set(asked) == {"ranks"}:
            return status
    rounds, plan = (2, QUICK) if options.quick else (options.rounds, FULL)
    plan = plan | {"threads": sorted({usable, *(2**i for i in range(usable.bit_length()))})}
    found = {"machine": machine(options.threads), "parts": [], "loss": None}
    print(describe(found["machine"]), flush=True)
    try:
        for part in [part for part in THEORY if part in asked]:
            found["parts"].append(measure_part(part, plan[part], plan["base"], options.threads, rounds, options.quick))
            print("\n" + report_part(found["parts"][-1]), flush=True)
        if "loss" in asked:
            found["loss"] = measure_loss(plan, rounds)
            print("\n" + report_loss(found["loss"]), flush=True)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return error.status
    write_json(found, options.json)
    if options.plot:
        plot(found["parts"], found["loss"], options.plot)
    agreement = found["loss"]["agreement"] if found["loss"] else ()
    return 0 if all(apart <= allowed for _, _, apart, allowed in agreement) else 1


if __name__ == "__main__":
    sys.exit(main())
