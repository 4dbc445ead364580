"""Memory: blocks of the card, which know who has used them; what was never written; pinned memory of the host."""

import weakref

import numpy as np

from .card import CUDARuntimeError, Race, caller, card
from .names import missing, raise_


class Memory:
    """One block: the NumPy array that owns it, and who has used it.  `uses`: {stream: its count at the last use}."""

    def __init__(self, root):
        self.card, self.root, self.home = card(), root, card().stream()
        self.ptr, self.size, self.device_id = root.__array_interface__["data"][0], -(-root.nbytes // 512) * 512, 0
        self.card.allocate(self.size)
        self.card.blocks.add(self)
        # What had this memory before may still be at work on the stream that it comes from.
        self.written, self.uses = (self.home, self.home.tick()), {}
        weakref.finalize(self, self.card.free, root, self.size, self.uses, self.home).atexit = False

    def holds(self, array):
        first, end = array.__array_interface__["data"][0], self.ptr + self.root.nbytes
        return self.ptr <= first < end or first == end and not array.size

    def must_be_ready(self, stream, write):
        others = {**self.uses, **dict([self.written])} if write else dict([self.written])
        for other, count in others.items():
            if stream.clock.get(other, 0) < count:
                raise Race(
                    f"{caller()} {'writes' if write else 'reads'} on {stream.name} what {other.name} may still "
                    "be at work on: record an event there and wait for it here."
                )

    def use(self, stream, write):
        self.uses[stream] = stream.clock[stream]
        if write:
            self.written = stream, stream.clock[stream]


def poisoned(shape, dtype, order="C"):
    array = np.empty(shape, dtype, order)
    array.fill({"b": True, "i": -7, "u": 251}.get(array.dtype.kind, np.nan))
    if array.dtype.kind == "i":
        array.fill(np.iinfo(array.dtype).min + 7)
    return array


class PinnedMemory(bytearray):
    """Host memory that a card can read by itself."""

    ptr = property(lambda self: np.frombuffer(self, np.uint8).__array_interface__["data"][0])
    size = bytearray.__len__


def is_pinned(x):
    while x is not None and not isinstance(x, PinnedMemory):
        x = x.obj if isinstance(x, memoryview) else getattr(x, "base", None)
    return x is not None


def empty_pinned(shape, dtype=float, order="C"):
    count = int(np.prod(shape, dtype=np.int64))
    memory = PinnedMemory(max(1, count) * np.dtype(dtype).itemsize)
    pinned = np.frombuffer(memory, dtype, count).reshape(shape, order=order)
    pinned[...] = poisoned((), dtype)
    return pinned


def zeros_pinned(shape, dtype=float, order="C"):
    pinned = empty_pinned(shape, dtype, order)
    pinned[...] = 0
    return pinned


class Device:
    id = 0
    compute_capability = property(lambda self: card().capability)
    mem_info = property(lambda self: mem_get_info())
    __enter__ = use = lambda self: self
    __exit__ = lambda *_: None
    __eq__ = lambda self, other: isinstance(other, Device)
    __hash__ = lambda self: 0
    __int__ = lambda self: 0
    __getattr__ = lambda self, name: raise_(missing("cupy.cuda.Device", name))

    def __init__(self, device=None):
        if device not in (None, 0):
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self):
        device_synchronize("Device.synchronize")


def device_synchronize(what="deviceSynchronize"):
    card().note("syncs", what)
    for stream in card().streams:
        stream.wait_for_it()


def mem_get_info():
    return card().memory - card().used - card().cached, card().memory


class MemoryPool:
    used_bytes = lambda self: card().used
    free_bytes = lambda self: card().cached
    total_bytes = lambda self: card().used + card().cached
    get_limit = lambda self: card().limit
    __getattr__ = lambda self, name: raise_(missing("cupy.cuda.MemoryPool", name))

    def free_all_blocks(self, stream=None):
        card().cached = 0

    def set_limit(self, size=None, fraction=None):
        card().limit = int(card().memory * fraction) if size is None else size


def device_properties(device):
    return {
        "name": b"a double, not a GPU",
        "totalGlobalMem": card().memory,
        "multiProcessorCount": 132,
        "major": int(card().capability[:-1]),
        "minor": int(card().capability[-1]),
    }
