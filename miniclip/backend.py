"""Where arrays live and how work is spread: NumPy or CuPy, one device, a few threads.

There is no global switch. A function asks the array it was given for its library, and the same line then runs
on the processor or on the graphics card; moving a model is moving its arrays.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps

import numpy as np
from threadpoolctl import threadpool_limits


def array_module(x):
    """The library that `x` belongs to: `cupy` for a CuPy array, `numpy` for everything else."""
    if type(x).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np


def dispatch(plain):
    """A function that a kernel may stand in for, where its arrays are of another library.

    `layer_norm.register(cupy.ndarray, kernel)` sends every call with an array of that type to `kernel`, which
    takes the same arguments and gives the same results. `layer_norm.plain` is the original, and its specification.
    """
    kernels = {}

    @wraps(plain)
    def either(*args, **named):
        for x in (*args, *named.values()) if kernels else ():
            if type(x) in kernels:
                return kernels[type(x)](*args, **named)
        return plain(*args, **named)

    either.plain, either.register = plain, kernels.__setitem__
    return either


def to_array_on(device):
    """The function that brings one array to `device`, "cpu" or "gpu".

    Raises ValueError when there is no such device, no CuPy, or no graphics card that works. The function itself
    raises OutOfMemory when the card is full.
    """
    if device == "cpu":
        return lambda x: np.asarray(x) if array_module(x) is np else x.get()
    if device != "gpu":
        raise ValueError(f"device is {device!r}; choose 'cpu' or 'gpu'.")
    from .gpu import to_gpu

    return to_gpu()


class OutOfMemory(MemoryError):
    """Memory ran out, the machine's or a graphics card's; its text is one sentence for whoever started it."""


def out_of_memory(error):
    """A new `OutOfMemory` for any MemoryError: of NumPy, Python or CuPy, or with the same text where it is one."""
    if isinstance(error, OutOfMemory):
        return OutOfMemory(str(error))
    if type(error).__module__.partition(".")[0] == "cupy":
        from .gpu import full_card

        return OutOfMemory(full_card(error))
    reason = f" ({last_line(error)})" if str(error) else ""
    return OutOfMemory(f"the machine's memory ran out{reason}; less is needed for a smaller batch or a smaller model.")


def last_line(error):
    """The last line of an error that says anything, without its full stop."""
    lines = [line.strip(" .") for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[-1][:200] if lines else type(error).__name__


def cpu_count():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_threads(threads=None):
    """A pool whose workers each do whole matrix products alone: `with worker_threads(2) as pool`.

    BLAS is held to one thread meanwhile. Several small products side by side waste less than one product split
    among the threads, and the bits of a result do not depend on how many there are.

    threads: int, or None for as many as there are processors. Yields an `Executor`, whose `map` keeps the order.
    Raises ValueError for fewer than one.
    """
    threads = cpu_count() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1.")
    # A loss or a feature that is not finite is reported once, by whoever looks at it, not by every thread.
    quiet = {"initializer": np.seterr, "initargs": ("ignore",)}
    with threadpool_limits(limits=1), ThreadPoolExecutor(threads, **quiet) as pool:
        yield pool


class Alone:
    """The only process of a run: what `training.ranks.Ranks` is where there are several.

    rank, size: which one this is, and of how many. A rank holds n of a batch's N pairs, all as many.
    """

    rank, size = 0, 1

    def gather(self, x):
        """(n, ...) of this rank -> (N, ...) of all, in the order of the ranks."""
        return x

    def add(self, v):
        """Add v, a vector (P,), over all ranks, in place."""

    def shift(self, x):
        """What the rank before this one has, in the ring that the ranks make: an array like x."""
        return x

    def first(self, f):
        """f() of rank 0 alone: what it returns is everybody's, and what it raises."""
        return f()


ALONE = Alone()


def add_up(vectors, count):
    """The sum of `count` vectors, in place of the first: as two halves while their number is even, else in turn.

    vectors: an iterator. Whoever adds up a half, and where: two sums of halves make the same bits as one of all.
    """
    if count % 2 == 0:
        total = add_up(vectors, count // 2)
        total += add_up(vectors, count // 2)
        return total
    total = next(vectors)
    for _ in range(count - 1):
        total += next(vectors)
    return total
