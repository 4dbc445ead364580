"""Where arrays live and how work is spread: NumPy or CuPy, one device, a few threads.

There is no global switch. A function asks the array it was given for its library and the same line
then runs on the processor or on the graphics card; moving a model is moving its arrays.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits


def array_module(x):
    """The library that `x` belongs to: `cupy` for a CuPy array, `numpy` for everything else."""
    if type(x).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np


def to_array_on(device):
    """The function that brings one array to `device`, "cpu" or "gpu".

    Raises ValueError when there is no such device, no CuPy, or no graphics card that works. The function itself
    raises OutOfMemory when the card is full.
    """
    if device == "cpu":
        return lambda x: np.asarray(x) if array_module(x) is np else x.get()
    if device != "gpu":
        raise ValueError(f"device is {device!r}; choose 'cpu' or 'gpu'.")
    cupy = usable_cupy()

    def to_gpu(x):
        try:
            return cupy.asarray(x)
        except MemoryError as error:
            raise out_of_memory(error) from None

    return to_gpu


def usable_cupy():
    """The module `cupy`, once it has added two numbers on a graphics card; ValueError where it cannot."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise ValueError(f"CuPy is installed but cannot be imported ({_why(error)}); use device 'cpu'.") from error
        raise ValueError(
            "device 'gpu' needs CuPy, which is not installed: pip install 'miniclip[gpu]', or use device 'cpu'."
        ) from error
    except (ImportError, RuntimeError, OSError) as error:  # built for another CUDA, a library that is missing
        raise ValueError(f"CuPy is installed but cannot be imported ({_why(error)}); use device 'cpu'.") from error
    try:
        # `import cupy` succeeds on a machine without a graphics card, and a card that is there may not work: ask.
        if cupy.cuda.is_available():
            cupy.zeros(1) + 1
            return cupy
        reason = "the driver counts none" if cupy.cuda.runtime.getDeviceCount() == 0 else ""
    except MemoryError as error:
        raise out_of_memory(error) from None
    except Exception as error:  # CuPy's errors have no common ancestor
        reason = _why(error)
    raise ValueError(
        f"CuPy is installed but finds no usable graphics card{f' ({reason})' * bool(reason)}; use device 'cpu'."
    )


def _why(error):
    """The last line of an error that says anything, without its full stop."""
    lines = [line.strip(" .") for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[-1][:200] if lines else type(error).__name__


class OutOfMemory(MemoryError):
    """Memory ran out, the machine's or a graphics card's; its text is one sentence for whoever started it."""


def out_of_memory(error):
    """A new `OutOfMemory` for any MemoryError: of NumPy, Python or CuPy, or with the same text where it is one."""
    if isinstance(error, OutOfMemory):
        return OutOfMemory(str(error))
    if type(error).__module__.partition(".")[0] != "cupy":
        return OutOfMemory(
            f"the machine's memory ran out{f' ({_why(error)})' * bool(str(error))}; "
            "less is needed for a smaller batch or a smaller model."
        )
    import cupy

    free, total = cupy.cuda.Device().mem_info
    return OutOfMemory(
        f"the graphics card's memory ran out: it has {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of "
        f"them free ({_why(error)}); use device 'cpu', or a smaller batch or model."
    )


def cpu_count():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory(heaps=1):
    """Ask the C library to keep large arrays that are freed for those that come next, where it is glibc.

    It would give each back to the system and fetch new, empty pages for the next: a training step, which
    makes the same arrays again and again, then spends much of its time on page faults. heaps: with one for each
    thread, what a thread frees waits for that thread.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mmap_threshold, trim_threshold, arenas = -3, -1, -8  # malloc.h
    mallopt(arenas, heaps)
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


@contextmanager
def worker_threads(threads=None):
    """A pool whose workers each do whole matrix products alone: `with worker_threads(2) as pool`.

    BLAS is held to one thread meanwhile. Several small products side by side waste less than one
    product split among the threads, and the bits of a result no longer depend on how many there are.

    Parameters: threads: int, or None for as many as there are processors.
    Yields an `Executor`; `pool.map(f, shards)` keeps the order of the shards.
    """
    threads = cpu_count() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1.")
    # A loss or a feature that is not finite is reported once, by whoever looks at it, not by every thread.
    quiet = {"initializer": np.seterr, "initargs": ("ignore",)}
    with threadpool_limits(limits=1), ThreadPoolExecutor(threads, **quiet) as pool:
        yield pool
