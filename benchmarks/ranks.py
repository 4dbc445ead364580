"""Do ranks compute what one process computes, how much faster are two, and what does each receive and hold?

    python benchmarks/ranks.py                         everything: about three minutes on two processors
    python benchmarks/scaling.py --part ranks          the same

Ranks are started by the mpirun beside this Python, one thread each, afresh for every measurement.

Agreement, in float64: both losses at scales up to 1,000, and whole steps of a ViT and a ResNet, against clip_loss in
one process: loss and every gradient. An array's difference is taken relative to its largest number, or to a thousandth
of the largest gradient of all where that is more (some gradients are 0 but for rounding). That of a single number is
relative to itself, or to 1 where that is more.
The numbers that all ranks together receive have to be what the formulas say, exactly.

Time: a step (loss, gradient, AdamW) of one process with one thread, of two ranks, and of one process that recomputes,
in turns; then the loss alone, tiled in one process and gathered or in a ring on two ranks. A side's time in a round is
the median of a fresh start's, of its slowest rank; what is reported is the median of the rounds' ratios. It means
little where other work runs. Memory is the most that a rank ever has, above what it has before the step or the loss.

The exit status is 1 where ranks and one process disagree, or a count is wrong, and 2 where there is no mpirun. Times
and memory are printed beside what is asked, and change no status.
"""

import argparse
import ctypes
import importlib.util
import json
import math
import os
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import numpy as np
from cases import TrainingState, case, inputs, split
from common import RESULTS, Failed, NotPossible, describe, environment, in_turns, machine, ratios, timer, write_json
from cpu_worker import most_memory
from plan import received as formulas

from miniclip.backend import ALONE, cpu_count, worker_threads
from miniclip.loss import clip_loss
from miniclip.training import keep_freed_memory, tiled_clip_loss
from miniclip.training.gathered_loss import gathered_clip_loss
from miniclip.training.ranks import all_ranks
from miniclip.training.ring_loss import ring_clip_loss
from miniclip.tree import flatten, tree_map

MPIRUN = Path(sys.executable).with_name("mpirun")
LIMIT = 600  # seconds that a measurement may take before its ranks are ended
SPREAD = {"gathered": gathered_clip_loss, "ring": ring_clip_loss}
WHOLE = {"dense": clip_loss, "tiled": tiled_clip_loss}  # of one process
MODELS = {"ViT": "b", "ResNet": "a"}  # of cases.py
ALLOWED, ASKED_STEP, ASKED_LOSS = 1e-12, 0.70, 0.75
PROTOTYPE = {"ring, 4 ranks": "33", "gathered, 4 ranks": "58 to 83", "dense, 1 process": "414"}  # MiB
FULL = {
    "ranks": [1, 2, 3, 4, 8],
    "scales": [1, 10, 100, 1000],
    "loss": {"pairs": 240, "dimensions": 64},
    "step": {"pairs": 32, "parts": 8, "most_ranks": 4},
    "timed_step": {"batch": 128, "parts": 8, "times": 3},
    "timed_loss": {"pairs": 4096, "dimensions": 512, "times": 3},
}
QUICK = {
    "ranks": [1, 2],
    "scales": [1, 1000],
    "loss": {"pairs": 24, "dimensions": 8},
    "step": {"pairs": 4, "parts": 2, "most_ranks": 2},
    "timed_step": {"batch": 4, "parts": 2, "times": 1},
    "timed_loss": {"pairs": 512, "dimensions": 16, "times": 1},
}

# ------------------------------------------------------------------------------------------ on every rank


def features(n, dimensions, seed, dtype=np.float32):
    """Features of n pairs, a little alike: images and texts, each (n, E)."""
    image, text = np.random.default_rng(seed).standard_normal((2, n, dimensions), np.float32)
    return image.astype(dtype), (text + 0.2 * image).astype(dtype)


def apart(these, those):
    """The largest difference of two lists of numbers and arrays, relative as this file's top says; nan for nan."""
    largest = max([np.abs(b).max() for b in those if np.ndim(b)], default=0)
    least = [max(np.abs(b).max(), largest / 1000) if np.ndim(b) else max(1, abs(b)) for b in those]
    return float(np.max([np.abs(a - b).max() / most for a, b, most in zip(these, those, least)]))


def received(ranks, f):
    """f(), and how many numbers this rank received for it, by verb."""
    before = dict(getattr(ranks, "received", {}))  # nobody sends anything to a process that is alone
    result = f()
    return result, {verb: ranks.received[verb] - count for verb, count in before.items()}


def compare_loss(ranks, loss, scale, pairs, dimensions):
    """One loss and its gradients, beside clip_loss of all pairs: {"apart", "received", and what decides how many}."""
    n, logit_scale = pairs // ranks.size, np.array(math.log(scale))
    blocks = [features(n, dimensions, seed, np.float64) for seed in range(ranks.size)]
    value, backward = clip_loss(*map(np.concatenate, zip(*blocks)), logit_scale)
    d_image, d_text, d_logit_scale = backward()
    mine = slice(n * ranks.rank, n * (ranks.rank + 1))

    def spread():
        value, backward = SPREAD[loss](*blocks[ranks.rank], logit_scale, ranks=ranks, tiles=2)
        d_image, d_text, d_logit_scale = backward()
        total = np.array([d_logit_scale])
        ranks.add(total)
        return value, d_image, d_text, total[0]

    found, counts = received(ranks, spread)
    counts = {"n": pairs, "e": dimensions, "p": 1, "received": counts}
    return {"apart": apart(found, (value, d_image[mine], d_text[mine], d_logit_scale)), **counts}


def compare_step(ranks, loss, model, pairs, parts, **_):
    """A step's loss and all gradients, beside those of one process, in float64: a dict like `compare_loss`'s."""
    config = case(MODELS[model]).config
    params, images, tokens = inputs(config, pairs)
    params = tree_map(lambda leaf: leaf.astype(np.float64), params)
    micro_batches = split(images.astype(np.float64), tokens, parts)

    def step(micro_batches, **options):
        state = TrainingState(params, micro_batches, config, **options)
        value = state.differentiate()
        return [value, *flatten(state.gradient.tree).values()]

    expected = ranks.first(lambda: step(micro_batches))
    mine = micro_batches[parts * ranks.rank // ranks.size : parts * (ranks.rank + 1) // ranks.size]
    spread = partial(SPREAD[loss], ranks=ranks, tiles=len(mine))
    found, counts = received(ranks, lambda: step(mine, loss=spread, ranks=ranks))
    size = sum(np.size(leaf) for leaf in expected[1:])
    return {"apart": apart(found, expected), "n": pairs, "e": config["embed_dim"], "p": size, "received": counts}


def agree(ranks, plan):
    """{what: of a loss at a scale or a step of a model, what `compare_loss` and `compare_step` return}"""
    found = {}
    for loss in SPREAD:
        for scale in plan["scales"]:
            found[f"{loss}, scale {scale}"] = {"loss": loss} | compare_loss(ranks, loss, scale, **plan["loss"])
        if ranks.size <= plan["step"]["most_ranks"] and plan["step"]["parts"] % ranks.size == 0:
            for model in MODELS:
                found[f"{loss}, {model}"] = {"loss": loss} | compare_step(ranks, loss, model, **plan["step"])
    return found


def resident():
    """Bytes that this process has now, of which it needs all; where Linux does not say, the most that it ever had."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or what was freed would count, and be used again
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        pass
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else most_memory()


def measure(ranks, run, times):
    """{"seconds": of each of so many runs after a first one, "bytes": the most that the first adds}"""
    start = resident()
    run()
    found = {"bytes": most_memory() - start, "seconds": []}
    for _ in range(times):
        ranks.first(lambda: None)  # so that all begin together
        found["seconds"].append(timer(run)())
    return found


def time_step(ranks, batch, parts, times, recompute=False):
    """A step of the ViT as the training loop takes it, of this rank's part of the batch: as `measure`."""
    config = case(MODELS["ViT"]).config
    params, images, tokens = inputs(config, batch)
    mine = split(images, tokens, parts)[parts * ranks.rank // ranks.size : parts * (ranks.rank + 1) // ranks.size]
    loss = partial(gathered_clip_loss, ranks=ranks, tiles=len(mine))
    state = TrainingState(params, mine, config, loss=loss, ranks=ranks, recompute=recompute)
    return measure(ranks, state.step, times)


def time_loss(ranks, loss, pairs, dimensions, times):
    """A loss, forward and backward, of this rank's part of the pairs: as `measure`."""
    n, logit_scale = pairs // ranks.size, np.array(math.log(100), np.float32)
    function = partial(SPREAD[loss], ranks=ranks, tiles=max(1, n // 256)) if loss in SPREAD else WHOLE[loss]

    def run(n):
        function(*mine[n], logit_scale)[1]()

    mine = {size: features(size, dimensions, ranks.rank) for size in (16, n)}
    run(16)  # what the libraries take once is no part of the loss
    return measure(ranks, lambda: run(n), times)


WORK = {f.__name__: f for f in (agree, time_step, time_loss)}


def work(do, arguments):
    """On every rank: one function of WORK; rank 0 prints all ranks' answers as one line of JSON."""
    ranks = ALONE
    try:
        ranks = all_ranks()
        keep_freed_memory()
        with worker_threads(1):  # BLAS at one thread
            found = WORK[do](ranks, **arguments)
        everybody = ranks.comm.gather(found) if ranks.size > 1 else [found]
        if ranks.rank == 0:
            print(json.dumps(everybody))
    except Exception:
        traceback.print_exc()
        if ranks.size > 1:
            ranks.comm.Abort(1)  # or the others would wait for ever
        return 1
    return 0


# ------------------------------------------------------------------------------------------ measured


def ask(size, f, **arguments):
    """[what f, one of WORK, returns on each of so many ranks that are started for it]. Raises Failed."""
    command = [sys.executable, __file__, "--work", f.__name__, json.dumps(arguments)]
    command = [str(MPIRUN), "-n", str(size), *command] if size > 1 else command
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    try:
        done = subprocess.run(command, env=environment(), timeout=LIMIT, **pipes)
    except subprocess.TimeoutExpired:
        raise Failed(f"{f.__name__} on {size} ranks took more than {LIMIT} s.") from None
    if done.returncode:
        raise Failed(f"{f.__name__} on {size} ranks ended with status {done.returncode}; its message is above.")
    return json.loads(done.stdout)


def formula(loss, size, n, e, p):
    """Numbers that all ranks together receive, {verb: count}: of a loss of n pairs, (n, e), and a gradient (p,)."""
    if size == 1:
        return {}
    numbers = {what: round(size * count) for what, count in formulas(size, e, p, n).items()}
    found = {"gather": 0, "add": numbers["gradient"], "shift": 0}
    if loss == "ring":
        found["add"] += 2 * (size - 1)  # the loss itself, which the ring adds up
    return found | {{"gathered": "gather", "ring": "shift"}[loss]: numbers[loss]}


def measure_agreement(plan):
    """[{"ranks", "what", "apart": of the worst rank, "counted": {verb: by all ranks}, "formula", n, e, p}]"""
    rows = []
    for size in plan["ranks"]:
        everybody = ask(size, agree, plan=plan)
        for what, one in everybody[0].items():
            shape = {name: one[name] for name in "nep"}
            counted = {verb: sum(each[what]["received"][verb] for each in everybody) for verb in one["received"]}
            row = {"ranks": size, "what": what, "apart": float(np.max([each[what]["apart"] for each in everybody]))}
            rows.append(row | {"counted": counted, "formula": formula(one["loss"], size, **shape)} | shape)
    return rows


def measure_sides(sides, f, rounds, **arguments):
    """{"seconds": {side: of each round}, "bytes": {side: of each rank}}. sides: {name: (ranks, arguments of f)}"""
    held = {}

    def run(name, size, more):
        everybody = ask(size, f, **arguments, **more)
        held[name] = [one["bytes"] for one in everybody]
        return max(float(np.median(one["seconds"])) for one in everybody)

    seconds = in_turns({name: partial(run, name, *side) for name, side in sides.items()}, rounds)
    return {"seconds": seconds, "bytes": held}


STEPS = {"1 process": (1, {}), "2 ranks": (2, {}), "recompute": (1, {"recompute": True})}
TIMED = {"tiled, 1 process": (1, "tiled"), "gathered, 2 ranks": (2, "gathered"), "ring, 2 ranks": (2, "ring")}
HELD = {"ring, 4 ranks": (4, "ring"), "gathered, 4 ranks": (4, "gathered"), "dense, 1 process": (1, "dense")}


def measure_all(plan, rounds):
    """Everything, as a dict that JSON can hold."""
    timed, held = ({name: (n, {"loss": loss}) for name, (n, loss) in some.items()} for some in (TIMED, HELD))
    found = {"agreement": measure_agreement(plan), "plan": plan}
    found["step"] = measure_sides(STEPS, time_step, rounds, **plan["timed_step"])
    found["loss"] = measure_sides(timed, time_loss, rounds, **plan["timed_loss"])
    found["memory"] = measure_sides(held, time_loss, 1, **plan["timed_loss"] | {"times": 1})["bytes"]
    return found


# ------------------------------------------------------------------------------------------ reported


def wrong(rows):
    """What does not agree: a sentence for each."""
    sentences = []
    for row in rows:
        what = f"{row['what']} on {row['ranks']} ranks"
        if not row["apart"] <= ALLOWED:
            sentences.append(f"{what} is apart from one process by {row['apart']:.1e}; allowed is {ALLOWED:.0e}.")
        if row["counted"] != row["formula"]:
            sentences.append(f"{what}: the ranks received {row['counted']}; the formulas say {row['formula']}.")
    return sentences


def report_received(rows):
    """A Markdown table of the numbers that a rank receives, the mean of all, beside the formulas."""
    lines = ["| numbers a rank receives | ranks | N, E, P | of the loss | formula | of the gradient | formula |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        if row["p"] > 1 and row["ranks"] > 1:
            cells = [
                f"{sum(row[source][verb] for verb in verbs) / row['ranks']:,.10g}"
                for verbs in (("gather", "shift"), ("add",))
                for source in ("counted", "formula")
            ]
            shape = ", ".join(str(row[name]) for name in "nep")
            lines.append(f"| {row['what']} | {row['ranks']} | {shape} | {' | '.join(cells)} |")
    said = "The formulas: gathered 2(N − n)E + 6(N − n); ring N(3E + 5); gradient 2P(R − 1)/R, and as much for P = 1"
    return "\n".join([*lines, "", f"{said} of the ring's loss, which the ranks add up."])


def compared(found, over, under, asked=None):
    """A ratio of times in words."""
    middle, least, most = ratios(found["seconds"], over, under)
    kept = f": {'kept' if middle <= asked else 'NOT kept'}" if asked else ""
    return f"{middle:.2f} ({least:.2f} to {most:.2f}){kept}"


def report(found):
    """A Markdown table of what is asked and what was found."""
    rows, plan, step, loss = found["agreement"], found["plan"], found["step"], found["loss"]
    steps, losses = [row for row in rows if row["p"] > 1], [row for row in rows if row["p"] == 1]

    def worst(rows):
        largest = max(row["apart"] for row in rows)
        return f"{largest:.1e} on {', '.join(map(str, sorted({row['ranks'] for row in rows})))} ranks"

    def mib(side, held):
        least, most = min(held[side]) / 2**20, max(held[side]) / 2**20
        return f"{least:.0f} MiB" if round(least) == round(most) else f"{least:.0f} to {most:.0f} MiB"

    at, n = plan["timed_step"], plan["timed_loss"]["pairs"]
    scales = f"both losses, scales {plan['scales'][0]} to {plan['scales'][-1]}, float64"
    shape = f"a ViT, batch {at['batch']}, {at['parts']} micro-batches"
    lines = [
        "| | found | asked |",
        "|---|---|---|",
        f"| step of a ViT and a ResNet, float64: loss and every gradient | {worst(steps)} | {ALLOWED:.0e} |",
        f"| {scales}: loss and every gradient | {worst(losses)} | {ALLOWED:.0e} |",
        f"| time of a step, 2 ranks / 1 thread ({shape}) | {compared(step, '2 ranks', '1 process', ASKED_STEP)} "
        f"| {ASKED_STEP:.2f} |",
        *(
            f"| time of the loss at N = {n}, {side} / tiled, 1 process | "
            f"{compared(loss, side, 'tiled, 1 process', asked)} | {f'{asked:.2f}' if asked else ''} |"
            for side, asked in (("gathered, 2 ranks", ASKED_LOSS), ("ring, 2 ranks", None))
        ),
        *(
            f"| memory of the loss at N = {n} above the start: {side} | {mib(side, found['memory'])} "
            f"| prototype at N = 4096: {PROTOTYPE[side]} MiB |"
            for side in found["memory"]
        ),
        f"| time with --recompute / without ({shape}, 1 process) | {compared(step, 'recompute', '1 process')} | |",
        f"| memory with --recompute, and without | {mib('recompute', step['bytes'])}, "
        f"{mib('1 process', step['bytes'])} | |",
    ]
    return "\n".join(lines)


def check_possible():
    """Raises NotPossible where no ranks can be started."""
    if not MPIRUN.exists() or importlib.util.find_spec("mpi4py") is None:
        raise NotPossible(f"Ranks need {MPIRUN.name} beside this Python, and mpi4py: pip install 'miniclip[ranks]'.")


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULTS / "ranks.json")
    parser.add_argument("--quick", action="store_true", help="one round of the smallest sizes, for tests")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        return work(options.work[0], json.loads(options.work[1]))
    rounds, plan = (1, QUICK) if options.quick else (options.rounds, FULL)
    try:
        if rounds < 1:
            raise NotPossible("--rounds must be at least 1.")
        check_possible()
        where = machine(1)
        print(describe(where), flush=True)
        found = {"machine": where} | measure_all(plan, rounds)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return error.status
    print("\n" + report(found) + "\n\n" + report_received(found["agreement"]))
    if cpu_count() < 2:
        print("\nTwo ranks share one processor here: their times say nothing.")
    write_json(found, options.json)
    sentences = wrong(found["agreement"])
    print("\n".join(sentences), file=sys.stderr, end="\n" if sentences else "")
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
