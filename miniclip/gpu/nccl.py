"""The ranks of training/ranks.py with a graphics card each: what lies on the cards goes by NCCL, the rest by MPI.

Rounding is promised here, not bits: NCCL chooses in which order it adds. It has run on a double only.
"""

import numpy as np

from ..backend import array_module
from .device import usable_cupy

KINDS = {"float16": "NCCL_FLOAT16", "float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64", "int64": "NCCL_INT64"}


class Cards:
    """`Ranks` for arrays of CuPy too; the first rank of a machine has its first card, and so on.

    Raises ValueError where a machine has fewer cards than ranks, or CuPy has no NCCL.
    """

    def __init__(self, ranks):
        self.cupy = usable_cupy()
        self.ranks, self.rank, self.size, self.comm = ranks, ranks.rank, ranks.size, ranks.comm
        self.first, self.received, self.on_this_machine = ranks.first, ranks.received, ranks.on_this_machine
        index, count = ranks.on_this_machine()
        cards = self.cupy.cuda.runtime.getDeviceCount()
        if count > cards:
            raise ValueError(f"{count} ranks are on a machine with {cards} graphics card(s): start one rank a card.")
        try:
            from cupy.cuda import nccl
        except ImportError as error:
            raise ValueError(f"CuPy has no NCCL here ({error}): pip install 'miniclip[gpu]'.") from None
        self.cupy.cuda.Device(index).use()
        self.nccl, self.library = nccl, nccl.NcclCommunicator(self.size, ranks.first(nccl.get_unique_id), self.rank)

    def gather(self, x):
        """(n, ...) of this rank -> (N, ...) of all, in the order of the ranks."""
        if array_module(x) is np:
            return self.ranks.gather(x)
        x = self.cupy.ascontiguousarray(x)
        together = self.cupy.empty((self.size * len(x), *x.shape[1:]), x.dtype)
        self.library.allGather(x.data.ptr, together.data.ptr, x.size, self.kind(x), self.stream())
        self.received["gather"] += together.size - x.size
        return together

    def add(self, v):
        """Add v, a vector (P,), over all ranks, in place."""
        if array_module(v) is np:
            return self.ranks.add(v)
        self.library.allReduce(v.data.ptr, v.data.ptr, v.size, self.kind(v), self.nccl.NCCL_SUM, self.stream())
        self.received["add"] += 2 * v.size * (self.size - 1) // self.size

    def shift(self, x):
        """What the rank before this one has, in the ring that the ranks make: an array like x."""
        if array_module(x) is np:
            return self.ranks.shift(x)
        x = self.cupy.ascontiguousarray(x)
        other = self.cupy.empty_like(x)
        self.nccl.groupStart()  # both at once: alone, each would wait for the other
        self.library.send(x.data.ptr, x.size, self.kind(x), (self.rank + 1) % self.size, self.stream())
        self.library.recv(other.data.ptr, x.size, self.kind(x), (self.rank - 1) % self.size, self.stream())
        self.nccl.groupEnd()
        self.received["shift"] += x.size
        return other

    def kind(self, x):
        """NCCL's number of an array's dtype."""
        return getattr(self.nccl, KINDS[x.dtype.name])

    def stream(self):
        """The address of the stream on which this thread launches."""
        return self.cupy.cuda.get_current_stream().ptr
