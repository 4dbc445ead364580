"""The card: its memory counted, its streams in order, and a note of each time that the host waits for it.

Work is done at once, on whichever stream it is launched; what is checked is whether a card, which may do it much
later, has been told the order. Order is kept by vector clocks, for each block of memory as a whole.
"""

import contextlib
import functools
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from .names import missing, raise_

OURS = str(Path(__file__).parent), contextlib.__file__, functools.__file__


class Race(AssertionError):
    """Two streams, or the host and a stream, use the same memory and no event says which comes first."""


class Undefined(AssertionError):
    """CuPy would answer, but not always the same."""


class OutOfMemoryError(MemoryError):
    __module__ = "cupy.cuda.memory"

    def __init__(self, size, total, limit=0):
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
            f"{f', limit set to: {limit:,} bytes' * bool(limit)})."
        )


class CUDARuntimeError(RuntimeError):
    __module__ = "cupy_backends.cuda.api.runtime"


class Card:
    """All that one card knows: its memory, streams, and what the host waited for.

    memory: bytes that it has; available: whether cupy.cuda.is_available(). `kernels` lists (name, grid, block) of all
    that were launched, `products` (m, n, k, batch, compute type) of cuBLAS's; where `reversed` is set, a kernel's
    blocks and threads run from the last to the first.
    """

    def __init__(self, memory=8 << 30, available=True, capability="90"):
        self.memory, self.available, self.capability = memory, available, capability
        self.used = self.cached = self.peak = 0
        self.limit, self.faults, self.counters, self.lock = 0, [], [], threading.RLock()
        self.host, self.streams, self.current = {}, [], threading.local()
        self.compute_types, self.blocks = {}, weakref.WeakSet()
        self.kernels, self.products, self.reversed = [], [], False
        self.null = Stream(null=True, of=self)

    @contextlib.contextmanager
    def counting(self):
        """Yields counts that go on while inside: .syncs and .uploads, lists of "file:line what", and .launches.

        A wait that is not the main thread's says so: "file:line what, in the thread prefetch_0".
        """
        counts = SimpleNamespace(syncs=[], uploads=[], launches=0)
        self.counters.append(counts)
        try:
            yield counts
        finally:
            self.counters.remove(counts)

    def note(self, kind, what):
        if self.counters:
            thread = threading.current_thread()
            place = f"{caller()} {what}"
            if thread is not threading.main_thread():
                place += f", in the thread {thread.name}"
            for counts in self.counters:
                getattr(counts, kind).append(place)

    def stream(self):
        return getattr(self.current, "stream", self.null)

    def allocate(self, size):
        """As CuPy's pool: freed blocks are kept for the next, and given back when the card is full."""
        if not self.available:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        with self.lock:
            limit = min(self.memory, self.limit or self.memory)
            if self.used + size > limit:
                raise OutOfMemoryError(size, self.used + self.cached, self.limit)
            if self.cached >= size:
                self.cached -= size
            elif self.used + self.cached + size > limit:
                self.cached = 0
            self.used += size
            self.peak = max(self.peak, self.used)

    def free(self, root, size, uses, home):
        """A block's last box is gone: its pool may hand it out again on the stream where it was made."""
        with self.lock:
            self.used -= size
            self.cached += size
            for stream, count in uses.items():
                if max(home.clock.get(stream, 0), self.host.get(stream, 0)) < count:
                    self.faults.append(f"memory of {size} bytes was let go while {stream.name} may still use it")
        if root.flags.writeable and root.flags.c_contiguous:
            root.reshape(-1).view(np.uint8)[:] = 0xFF  # NaN: whoever still reads it shall see

    def learn(self, clock):
        """The host has waited until a clock: copies up to then are done, and what they read may be written again."""
        merge(self.host, clock)
        for stream in self.streams:
            while stream.pending and stream.pending[0][0] <= self.host.get(stream, 0):
                _, pinned, was = stream.pending.pop(0)
                if pinned.tobytes() != was:
                    raise Race("pinned memory was written to before its copy to the card was known to be done.")

    def block_at(self, pointer):
        """The block of memory that an address is in."""
        for memory in list(self.blocks):
            if memory.ptr <= pointer < memory.ptr + max(1, memory.root.nbytes):
                return memory
        raise Undefined(f"{caller()}: {pointer} is no address in the card's memory.")

    def check(self):
        if self.faults:
            faults, self.faults = self.faults, []
            raise Race("; ".join(faults))


def caller():
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def launch(reads=(), writes=(), stream=None):
    """A piece of work on the current stream: Race where what it uses is not ready."""
    card().check()
    stream = stream or card().stream()
    stream.tick()
    for counts in card().counters:
        counts.launches += 1
    used = [*((memory, False) for memory in reads), *((memory, True) for memory in writes)]
    for memory, write in used:
        memory.must_be_ready(stream, write)
    for memory, write in used:  # none is, where one of them was not ready
        memory.use(stream, write)


class _WithNull(type):
    null = property(lambda cls: card().null)


class Stream(metaclass=_WithNull):
    """Work in order. `clock`: {stream: how far this one has come to know it}."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None, *, of=None):
        self.card, self.null_, self.non_blocking = of or card(), null, non_blocking
        self.clock, self.before, self.pending = {self: 0}, [], []
        self.name = "the main stream" if null else f"stream {len(self.card.streams)}"
        self.ptr = 0 if null else id(self)
        self.card.streams.append(self)

    def tick(self):
        merge(self.clock, self.card.host)
        if not self.non_blocking:  # the main stream and the blocking ones wait for each other
            for other in self.card.streams:
                if other is not self and not other.non_blocking and (self.null_ or other.null_):
                    merge(self.clock, other.clock)
        self.clock[self] = self.clock.get(self, 0) + 1
        return self.clock[self]

    def record(self, event=None):
        event = event or Event()
        self.tick()
        event.clock = dict(self.clock)
        return event

    def wait_event(self, event):
        merge(self.clock, event.clock)

    def synchronize(self):
        self.card.note("syncs", "Stream.synchronize")
        self.wait_for_it()

    def wait_for_it(self):
        self.tick()
        self.card.learn(self.clock)

    def use(self):
        self.card.current.stream = self
        return self

    def __enter__(self):
        self.before.append(self.card.stream())
        return self.use()

    def __exit__(self, *error):
        self.before.pop().use()

    done = property(lambda self: all(self.card.host.get(s, 0) >= n for s, n in self.clock.items()))
    is_non_blocking = property(lambda self: self.non_blocking)
    __getattr__ = lambda self, name: raise_(missing("cupy.cuda.Stream", name))


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.clock = {}

    def record(self, stream=None):
        (stream or card().stream()).record(self)

    def synchronize(self):
        card().note("syncs", "Event.synchronize")
        card().learn(self.clock)

    done = property(lambda self: all(card().host.get(s, 0) >= n for s, n in self.clock.items()))
    __getattr__ = lambda self, name: raise_(missing("cupy.cuda.Event", name))


def merge(clock, other):
    for stream, count in list(other.items()):
        if clock.get(stream, 0) < count:
            clock[stream] = count


CARDS = []


def card():
    """The card of the double that is in place."""
    if not CARDS:
        raise RuntimeError("no double of CuPy is in place: with cupy_double().")
    return CARDS[-1]
