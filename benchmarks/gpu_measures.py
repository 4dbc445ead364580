"""What benchmarks/gpu.py measures besides the time of a step: agreement, ceilings, waits for the card, operations."""

import os
import time
import traceback
from collections import Counter
from types import SimpleNamespace

import numpy as np
from cpu_worker import SETTINGS, flops, inputs, products_of
from cpu_worker import Ours as OnProcessor

from miniclip.backend import array_module
from miniclip.gpu import usable_cupy
from miniclip.gpu.matmul import matmul, precision
from miniclip.optim import AdamW
from miniclip.train_step import loss_and_gradient
from miniclip.tree import Flat, to_device, tree_map


class Side:
    """Parameters, gradient and AdamW of one library, for `agreement`."""

    def __init__(self, params, config):
        self.params, self.config = Flat(params), config
        self.gradient = self.params.like(array_module(self.params.vector).zeros_like(self.params.vector))
        beta1, beta2 = SETTINGS["betas"]
        self.optimizer = AdamW(self.params, beta1, beta2, SETTINGS["epsilon"], SETTINGS["weight_decay"], clip=None)

    def step(self, images, tokens):
        """The loss; gradient and parameters are this step's afterwards."""
        loss = loss_and_gradient(self.params.tree, [(images, tokens)], self.config, self.gradient)["loss"]
        self.optimizer.step(self.gradient, SETTINGS["learning_rate"])
        return float(loss)


def agreement(config, dtype, steps, batch):
    """NumPy and CuPy take the same steps from the same numbers. -> a list, how far apart they are after each."""
    params, images, tokens = inputs(config, batch)
    params = tree_map(lambda leaf: leaf.astype(dtype), params)
    plain, card = Side(params, config), Side(to_device(params, "gpu"), config)
    rows = []
    with precision("float32"):
        for step in range(steps):
            pictures = np.random.default_rng([1, step]).standard_normal(images.shape).astype(dtype)
            ours, theirs = plain.step(pictures, tokens), card.step(usable_cupy().asarray(pictures), tokens)
            gradient = card.gradient.vector.get()
            leaves = {
                name: apart(gradient[place], plain.gradient.vector[place])
                for name, place in plain.params.slices.items()
            }
            rows.append(
                {
                    "loss": ours,
                    "loss_apart": abs(theirs - ours) / abs(ours),
                    "gradient_apart": apart(gradient, plain.gradient.vector),
                    "parameters_apart": apart(card.params.vector.get(), plain.params.vector),
                    "worst": max(leaves, key=leaves.get),
                    "worst_apart": max(leaves.values()),
                }
            )
    return rows


def apart(x, y):
    """|x − y| / |y|, of NumPy arrays; |x − y| where y is 0."""
    return float(np.linalg.norm(x - y) / (np.linalg.norm(y) or 1))


def product_rate(name, quick=False):
    """TFLOP/s of the fastest square product in a precision."""
    xp, best, edge = usable_cupy(), 0, 128 if quick else 1024
    blocks = np.random.default_rng(0).standard_normal((2, edge, edge), np.float32)
    with precision(name) as dtype:
        for size in (edge,) if quick else (4 * edge, 8 * edge, 16 * edge):
            a, b = (xp.tile(xp.asarray(block).astype(dtype), (size // edge, size // edge)) for block in blocks)
            out = xp.empty_like(a)
            seconds = fastest(lambda: matmul(a, b, out=out), xp.cuda.Device().synchronize)
            best = max(best, 2 * size**3 / seconds / 1e12)
    return best


def bandwidth(quick=False):
    """Bytes a second that a copy on the card moves, read and written counted both."""
    xp = usable_cupy()
    a = xp.zeros((1 << 20) if quick else (1 << 30), "uint8")
    b = xp.empty_like(a)
    return 2 * a.nbytes / fastest(lambda: b.__setitem__(..., a), xp.cuda.Device().synchronize)


def fastest(run, finish, times=5):
    """Seconds of `run`, the least of a few tries of about 50 ms each."""

    def seconds(repeats):
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        finish()
        return (time.perf_counter() - start) / repeats

    seconds(1)  # compiles, and chooses among cuBLAS's kernels
    repeats = max(1, min(1000, round(0.05 / max(seconds(1), 1e-6))))
    return min(seconds(repeats) for _ in range(times))


class Waits:
    """Counts what makes the host wait for the card, by wrapping it: `places` counts "file:line function".

    Wrapped are ndarray.get, through which go float(), int(), bool(), .item(), .tolist(), asnumpy and the reads inside
    nonzero and boolean indexing; and synchronize of streams and events. Not seen are waits inside CUDA's own calls, as
    for memory that the pool does not have yet.
    """

    def __init__(self, xp):
        self.places, self.wrapped, self.before = Counter(), [], []
        self.targets = [
            (xp.ndarray, "get"),
            (xp.cuda.Stream, "synchronize"),
            (xp.cuda.Event, "synchronize"),
            (xp.cuda.runtime, "deviceSynchronize"),
            (xp.cuda.runtime, "streamSynchronize"),
        ]

    def __enter__(self):
        for owner, name in self.targets:
            try:
                original = getattr(owner, name)
                setattr(owner, name, self._counting(original, name))
            except Exception:  # a type that does not let itself be changed: `wrapped` says so
                continue
            self.before.append((owner, name, original))
            self.wrapped.append(f"{getattr(owner, '__name__', owner)}.{name}")
        return self

    def _counting(self, original, name):
        def counted(*args, **named):
            ours = [
                frame
                for frame in traceback.extract_stack()[:-1]
                if os.path.basename(os.path.dirname(frame.filename)) == "miniclip"
            ]
            place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno} " if ours else ""
            self.places[f"{place}{name}"] += 1
            return original(*args, **named)

        return counted

    def __exit__(self, *error):
        for owner, name, original in self.before:
            setattr(owner, name, original)


def operations(config):
    """(a, b): the products of miniclip's step on N pairs are a N + b N² operations, two for each multiplication.

    Counted on the processor with 2 pairs and with 4; the square is the loss's.
    """
    two, four = (_counted(config, pairs) for pairs in (2, 4))
    square = (four - 2 * two) / 8
    return two / 2 - 2 * square, square


def _counted(config, batch):
    ours = OnProcessor(*inputs(config, batch), config, batch, SimpleNamespace(map=map))
    with np.errstate(all="ignore"):
        return sum(flops(product) for tasks in products_of(ours, "step") for task in tasks for product in task)
