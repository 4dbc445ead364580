"""What does each trick gain? A training step without it, against the step as it is.

    python benchmarks/tricks.py                     all of them: about ten minutes on two processors
    python benchmarks/tricks.py --trick pool        one; it may be given again
    python benchmarks/tricks.py --rounds 21

A trick that miniclip has is taken out, by putting what anyone would write first in its place; one that it has not is
put in. Both steps, which have to compute the same, run in processes of their own that take turns, as in cpu.py, whose
models these are. A ratio is that of one round, of the time without the trick over the time with it: what is printed is
the median of the rounds with the smallest and the largest. Above 1 the trick gains. Memory is the peak of fresh
processes.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import RESULTS, NotPossible, describe, machine, ratios, write_json
from cpu import check, peak_memory, start, time_sides

from miniclip import attention, backend, last_block, layers, optim, text_encoder, training, transformer, vit

# ------------------------------------------------------------------------------------------ taken out


def last_block_everywhere():
    def transformer_at(x, p, heads, at, *options):
        y, backward = transformer.transformer(x, p, heads, *options)
        here = np.arange(len(x)), at

        def backward_at(dy):
            d = np.zeros_like(y)
            d[here] = dy
            return backward(d)

        return y[here], backward_at

    vit.transformer_at = text_encoder.transformer_at = transformer_at


def one_micro_batch():  # `measure` makes the micro-batch the whole batch
    backend.worker_threads = lambda threads: ThreadPoolExecutor(1)


def freed_memory_returned():
    training.keep_freed_memory = lambda: None


def a_heap_for_each_thread():
    keep = training.keep_freed_memory
    training.keep_freed_memory = lambda: keep(heaps=backend.cpu_count() + 1)


def quick_gelu_as_written():
    def quick_gelu(x):
        sigmoid = (np.tanh(0.851 * x) + 1) * 0.5
        return x * sigmoid, lambda dy: dy * (sigmoid + 1.702 * x * sigmoid * (1 - sigmoid))

    transformer.quick_gelu = quick_gelu


# ------------------------------------------------------------------------------------------ put in


def rows_sorted():
    def sum_by_id(rows, ids, count):
        total = np.zeros((count, rows.shape[1]), rows.dtype)
        order = np.argsort(ids, kind="stable")
        used, starts = np.unique(ids[order], return_index=True)
        total[used] = np.add.reduceat(rows[order], starts)
        return total

    layers.sum_by_id = sum_by_id


def adamw_in_blocks():
    plain = optim.AdamW.__init__

    def in_blocks(self, *args, **options):
        plain(self, *args, **options)
        parts = [(range(place.start, place.stop, 1 << 17), kind) for place, kind in self.leaves]
        self.leaves = [(slice(i, min(i + part.step, part.stop)), kind) for part, kind in parts for i in part]

    optim.AdamW.__init__ = in_blocks


def sums_as_products():
    def mean(x):
        rows = x.reshape(-1, x.shape[-1])
        return (rows @ np.ones(x.shape[-1], x.dtype)).reshape(*x.shape[:-1], 1) / x.shape[-1]

    def layer_norm(x, weight, bias, eps=1e-5):
        centred = x - mean(x)
        inverse = 1 / np.sqrt(mean(centred * centred) + eps)
        normalised = centred * inverse
        y = normalised * weight
        y += bias

        def backward(dy):
            d, ones = dy * weight, np.ones(dy.size // dy.shape[-1], dy.dtype)
            dx = d - mean(d)
            dx -= normalised * mean(d * normalised)
            dx *= inverse
            rows = (ones @ part.reshape(len(ones), -1) for part in (dy * normalised, dy))
            return dx, dict(zip(("weight", "bias"), rows))

        return y, backward

    def softmax(x):
        y = x - x.max(-1, keepdims=True)
        np.exp(y, out=y)
        y *= 1 / (mean(y) * y.shape[-1])

        def backward(dy):
            d = dy * y
            d -= y * (mean(d) * y.shape[-1])
            return d

        return y, backward

    attention.softmax = softmax
    for module in (transformer, last_block, vit, text_encoder):
        module.layer_norm = layer_norm


def products_in_place():
    def attend_heads(qkv, heads, mask=None):
        q, k, v = attention.split_heads(qkv, 3, heads)
        weights, softmax_ = attention.attention_weights(q @ k.swapaxes(-1, -2), q.shape[-1] ** -0.5, mask)
        y = np.empty((*qkv.shape[:2], qkv.shape[2] // 3), qkv.dtype)
        np.matmul(weights, v, out=attention.split_heads(y, 1, heads)[0])

        def backward(dy):
            (dy,), dqkv = attention.split_heads(dy, 1, heads), np.empty_like(qkv)
            dq, dk, dv = attention.split_heads(dqkv, 3, heads)
            dscores = softmax_(dy @ v.swapaxes(-1, -2))
            np.matmul(dscores, k, out=dq)
            np.matmul(dscores.swapaxes(-1, -2), q, out=dk)
            np.matmul(weights.swapaxes(-1, -2), dy, out=dv)
            return dqkv

        return y, backward

    attention.attend_heads = attend_heads


def activations_freed():
    def transformer_once(x, p, *options):
        steps = []
        for block in p["resblocks"]:
            x, backward_block = transformer.residual_block(x, block, *options[:3])
            steps.append(backward_block)

        def backward(dy):
            grads = []
            while steps:
                dy, d_block = steps.pop()(dy)
                grads.insert(0, d_block)
            return dy, {"resblocks": grads}

        return x, backward

    last_block.transformer = transformer_once


class Trick(NamedTuple):
    """What it is, what stands there without it, the model of cpu.py, what changes it, whether miniclip has it."""

    trick: str
    instead: str
    case: str
    change: Callable
    taken_out: bool = True


TRICKS = {
    "last": Trick("the last block only where it is read", "the last block everywhere", "b", last_block_everywhere),
    "pool": Trick("a thread for each micro-batch, BLAS at one", "one micro-batch, BLAS on all", "b", one_micro_batch),
    "heap": Trick("freed memory is kept for what comes next", "the C library as it comes", "b", freed_memory_returned),
    "arenas": Trick("one heap for all threads", "a heap for each thread", "c", a_heap_for_each_thread),
    "gelu": Trick("QuickGELU in one array", "QuickGELU as it is written", "b", quick_gelu_as_written),
    "sums": Trick("sums as products with ones", ".sum() and .mean()", "b", sums_as_products, False),
    "views": Trick("attention's products written into place", "products, then copies", "b", products_in_place, False),
    "rows": Trick("the embedding's rows sorted, then summed", "np.add.at", "b", rows_sorted, False),
    "adamw": Trick("AdamW in blocks of 131,072 numbers", "AdamW leaf by leaf", "c", adamw_in_blocks, False),
    "once": Trick("activations freed as the backward passes", "kept until its end", "c", activations_freed, False),
}


def measure(name, rounds, threads, quick):
    """{"case": …, "seconds": {"with": […], "without": […]}, "memory": the same in bytes} of one trick."""
    trick, workers = TRICKS[name], {}
    model, whole = "b" if quick else trick.case, 1 << 30 if name == "pool" else None
    sides = {"ours": ("ours", model, threads, None, quick), name: ("ours", model, threads, whole, quick, None, name)}
    try:
        for side, arguments in sides.items():
            workers[side] = start(*arguments)
        check(workers, resnet=False)
        seconds = time_sides(workers, "step", rounds, quick)
    finally:
        for worker in workers.values():
            worker.close()
    memory = {side: peak_memory(*arguments) for side, arguments in sides.items()}
    ways = dict(zip(("with", "without") if trick.taken_out else ("without", "with"), sides))
    return {
        "case": model,
        "seconds": {way: seconds[side] for way, side in ways.items()},
        "memory": {way: memory[side] for way, side in ways.items()},
    }


def row(name, result):
    """A row of the table."""
    middle, least, most = ratios(result["seconds"], "without", "with")
    memory = result["memory"]["without"] / result["memory"]["with"]
    return (
        f"{TRICKS[name].trick:42} {TRICKS[name].instead:29} ({result['case']})  "
        f"{middle:5.2f} ({least:.2f} to {most:.2f})  {memory:6.2f}"
    )


def main(arguments=None):
    """Measure, print, write. -> exit status"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trick", action="append", choices=list(TRICKS), help="one; may be given again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, default=RESULTS / "tricks.json")
    parser.add_argument("--quick", action="store_true", help="batch 8, for tests")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        print(f"--rounds is {options.rounds}; it must be at least 1.", file=sys.stderr)
        return 2
    found = {"machine": machine(backend.cpu_count()), "tricks": {}}
    print(describe(found["machine"]))
    print(f"\n{'trick':42} {'instead of it':29} model time without / with   memory")
    try:
        for name in sorted(options.trick or TRICKS, key=lambda name: not TRICKS[name].taken_out):
            if not TRICKS[name].taken_out and all(TRICKS[done].taken_out for done in found["tricks"]):
                print("did not pay, and miniclip does without:")
            found["tricks"][name] = measure(name, options.rounds, backend.cpu_count(), options.quick)
            print(row(name, found["tricks"][name]), flush=True)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return error.status
    write_json(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
