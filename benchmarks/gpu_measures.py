"""What benchmarks/gpu.py measures besides the time of a step: agreement, ceilings, waits for the card, operations."""

import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from cases import TrainingState, inputs
from floor import operations, products_of

import miniclip
from miniclip.gpu import precision, usable_cupy
from miniclip.gpu.matmul import matmul
from miniclip.tree import to_device, tree_map

PACKAGE = Path(miniclip.__file__).parent


def agreement(config, dtype, steps, batch):
    """NumPy and CuPy take the same steps from the same numbers. -> a list, how far apart they are after each."""
    params, images, tokens = inputs(config, batch)
    params, rows = tree_map(lambda leaf: leaf.astype(dtype), params), []
    numpy, cupy = (TrainingState(to_device(params, device), None, config) for device in ("cpu", "gpu"))
    with precision("float32"):
        for step in range(steps):
            pictures = np.random.default_rng([1, step]).standard_normal(images.shape).astype(dtype)
            numpy.micro_batches, cupy.micro_batches = [(pictures, tokens)], [(to_device(pictures, "gpu"), tokens)]
            loss, card_loss = float(numpy.step()), float(cupy.step())
            gradient, reference = cupy.gradient.vector.get(), numpy.gradient.vector
            leaves = {name: apart(gradient[at], reference[at]) for name, at in numpy.params.slices.items()}
            rows.append(
                {
                    "loss": loss,
                    "loss_apart": abs(card_loss - loss) / abs(loss),
                    "gradient_apart": apart(gradient, reference),
                    "parameters_apart": apart(cupy.params.vector.get(), numpy.params.vector),
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
        for times in (1,) if quick else (4, 8, 16):
            size = times * edge
            a, b = (xp.tile(xp.asarray(block).astype(dtype), (times, times)) for block in blocks)
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
            frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_stack()[:-1]]
            ours = [f"{path.relative_to(PACKAGE)}:{line} " for path, line in frames if PACKAGE in path.parents]
            self.places["".join(ours[-1:]) + name] += 1
            return original(*args, **named)

        return counted

    def __exit__(self, *error):
        for owner, name, original in self.before:
            setattr(owner, name, original)


def count_operations(config):
    """(a, b): the products of miniclip's step on N pairs are a N + b N² operations, two for each multiplication.

    Counted on the processor with 2 pairs and with 4; the square is the loss's.
    """

    def count(batch):
        params, *pairs = inputs(config, batch)
        return operations(products_of(TrainingState(params, [tuple(pairs)], config)))

    with np.errstate(all="ignore"):
        two, four = count(2), count(4)
    square = (four - 2 * two) / 8
    return two / 2 - 2 * square, square
