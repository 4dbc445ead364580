"""What does each trick gain? A training step without it, against the step as it is.

    python benchmarks/tricks.py                     all of them: about ten minutes on two processors
    python benchmarks/tricks.py --trick pool        one; it may be given again
    python benchmarks/tricks.py --rounds 21

A trick is undone in a process of its own, by putting what anyone would write first in its place; both processes then
take turns, as in cpu.py, whose models these are. A ratio is that of one round, and what is printed is the median of
the rounds with the smallest and the largest: above 1, the step is slower without the trick. Memory is the peak of
fresh processes. Tricks that did not pay are measured the other way about: there the idea is put in.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

import numpy as np
from cpu import NotPossible, Side, describe, machine, peak_memory, write_json

# ------------------------------------------------------------------------------------------ what is undone


def whole_last_block():
    from miniclip import text, transformer, vit

    stack = transformer.transformer

    def everywhere(x, p, heads, mask, activation, recompute, at, once):
        y, backward = stack(x, p, heads, mask, activation, recompute, once=once)
        rows = np.arange(len(x))

        def backward_at(dy):
            d = np.zeros_like(y)
            d[rows, at] = dy[:, 0]
            return backward(d)

        return y[rows, at][:, None], backward_at

    text.transformer = vit.transformer = everywhere


def sums_by_reduction():
    from miniclip import attention, conv, layers, text, vit

    layers.sum_last = lambda x: x.sum(-1, keepdims=True)
    for room in (attention, conv, layers, text, vit):
        room.sum_rows = lambda rows: rows.sum(0)


def products_then_copies():
    from miniclip import attention

    def matmul(a, b, out=None):
        if out is None:
            return a @ b
        out[...] = a @ b
        return out

    attention.matmul = matmul


def adamw_in_whole_arrays():
    from miniclip import optim

    optim.BLOCK = 1 << 40


def quick_gelu_as_written():
    from miniclip import transformer

    def quick_gelu(x):
        sigmoid = (np.tanh(0.851 * x) + 1) * 0.5
        return x * sigmoid, lambda dy: dy * (sigmoid + 1.702 * x * sigmoid * (1 - sigmoid))

    transformer.quick_gelu = quick_gelu


def rows_added_one_by_one():
    from miniclip import text

    def embedding(ids, weight):
        def backward(dy):
            dweight = np.zeros_like(weight)
            np.add.at(dweight, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]))
            return {"weight": dweight}

        return weight[ids], backward

    text.embedding = embedding


def activations_kept():
    from miniclip import text, transformer, vit

    stack = transformer.transformer
    text.transformer = vit.transformer = lambda *args: stack(*args[:-1], once=False)


def quick_gelu_in_pieces():
    from miniclip import transformer

    piece = 1 << 14  # numbers: four arrays of them stay in the second cache

    def quick_gelu(x):
        sigmoid, y = np.empty_like(x), np.empty_like(x)
        flat = [a.reshape(-1) for a in (x, sigmoid, y)]
        for start in range(0, x.size, piece):
            a, s, out = (b[start : start + piece] for b in flat)
            np.tanh(np.multiply(a, 0.851, out=s), out=s)
            s += 1
            s *= 0.5
            np.multiply(a, s, out=out)

        def backward(dy):
            d, dy = np.empty_like(x), dy.reshape(-1)
            for start in range(0, x.size, piece):
                e, s, out = (b[start : start + piece] for b in (d.reshape(-1), flat[1], flat[2]))
                np.subtract(1, s, out=e)
                e *= out
                e *= 1.702
                e += s
                e *= dy[start : start + piece]
            return d

        return y, backward

    transformer.quick_gelu = quick_gelu


def sigmoid_by_exp():
    from miniclip import transformer

    def quick_gelu(x):
        sigmoid = np.exp(-1.702 * x)
        sigmoid += 1
        np.reciprocal(sigmoid, out=sigmoid)
        y = x * sigmoid

        def backward(dy):
            d = 1 - sigmoid
            d *= y
            d *= 1.702
            d += sigmoid
            d *= dy
            return d

        return y, backward

    transformer.quick_gelu = quick_gelu


# name: (what is there, what stands in its place, the model of cpu.py, what puts it there or None where the worker does)
TRICKS = {
    "pool": ("a thread for each shard, BLAS at one thread", "one shard, BLAS on all threads", "b", None),
    "last": ("the last block only where it is read", "the last block everywhere", "b", whole_last_block),
    "heap": ("freed memory is kept for what comes next", "the C library as it comes", "b", None),
    "sums": ("sums as products with ones", ".sum() and .mean()", "b", sums_by_reduction),
    "views": (
        "attention's products written where they belong",
        "products, then transposed copies",
        "b",
        products_then_copies,
    ),
    "gelu": ("QuickGELU in one array", "QuickGELU as it is written", "b", quick_gelu_as_written),
    "rows": ("the embedding's rows sorted, then added up", "add.at", "b", rows_added_one_by_one),
    "adamw": ("AdamW in blocks", "AdamW in whole arrays", "c", adamw_in_whole_arrays),
    "once": ("activations freed as the backward passes them", "kept until its end", "c", activations_kept),
    "arenas": ("one heap for all threads", "a heap for each thread", "c", None),
}
DID_NOT_PAY = {
    "pieces": ("QuickGELU in whole arrays", "QuickGELU in pieces that stay in the cache", "b", quick_gelu_in_pieces),
    "exp": ("the sigmoid by tanh", "the sigmoid by exp", "b", sigmoid_by_exp),
}
ALL = TRICKS | DID_NOT_PAY


def measure(trick, rounds, threads, quick):
    """{"seconds": {"with": […], "without": […]}, "memory": the same in bytes} of one trick."""
    case = "b" if quick else ALL[trick][2]
    sides = {"with": "ours", "without": f"without {trick}"}
    running = {}
    try:
        for name, side in sides.items():
            running[name] = Side(side, case, threads, 0, quick)
        for side in running.values():
            side.ask(do="step", times=2)
        times = 1 if quick else max(1, round(0.5 / running["with"].ask(do="step", times=1)["seconds"]))
        seconds = {name: [] for name in sides}
        for turn in range(rounds):
            for name in list(sides)[:: -1 if turn % 2 else 1]:
                seconds[name].append(running[name].ask(do="step", times=times)["seconds"])
    finally:
        for side in running.values():
            side.close()
    return {
        "case": case,
        "seconds": seconds,
        "memory": {name: peak_memory(side, case, threads, 0, quick, None) for name, side in sides.items()},
    }


def line(trick, result):
    """A row of the table: what is there, what instead, the model, time without / with, memory without / with."""
    have, instead, _, _ = ALL[trick]
    each = [without / there for there, without in zip(result["seconds"]["with"], result["seconds"]["without"])]
    memory = result["memory"]["without"] / result["memory"]["with"]
    return (
        f"{have:48} {instead:44} ({result['case']})  {median(each):5.2f} ({min(each):.2f} to {max(each):.2f})  "
        f"{memory:5.2f}"
    )


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trick", action="append", choices=list(ALL))
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "tricks.json")
    options.add_argument("--quick", action="store_true", help="batch 8, for tests")
    options = options.parse_args(arguments)
    if options.rounds < 1:
        print(f"--rounds is {options.rounds}; it must be at least 1.", file=sys.stderr)
        return 2
    from miniclip.backend import cpu_count

    found = {"machine": machine(cpu_count()), "tricks": {}}
    print(describe(found["machine"]))
    print(f"\n{'what is there':48} {'in its place':44} model time without / with      memory")
    try:
        for trick in options.trick or ALL:
            if trick in DID_NOT_PAY and not any(done in DID_NOT_PAY for done in found["tricks"]):
                print("tried, and not taken:")
            found["tricks"][trick] = measure(trick, options.rounds, cpu_count(), options.quick)
            print(line(trick, found["tricks"][trick]), flush=True)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return 2
    write_json(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
