"""A double of the NCCL calls that miniclip makes, among threads that share one double of a card.

It reads and writes at raw addresses, as NCCL does, and refuses an address that is not on the card, a length that ends
beyond an array, and a rank that sends without receiving.
"""

import ctypes
import itertools
import threading

import numpy as np

NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64, NCCL_INT64, NCCL_SUM = 6, 7, 8, 4, 0  # nccl.h
DTYPES = {NCCL_FLOAT16: "f2", NCCL_FLOAT32: "f4", NCCL_FLOAT64: "f8", NCCL_INT64: "i8"}
IDS = itertools.count()
WORLDS, LOCK = {}, threading.Lock()
QUEUE = threading.local()  # of a group's calls, which are made when it ends


def get_unique_id():
    return f"nccl-{next(IDS)}".encode()


def groupStart():
    QUEUE.calls = []


def groupEnd():
    calls, QUEUE.calls = QUEUE.calls, None
    sends = [call for call in calls if call[0] == "send"]
    receives = [call for call in calls if call[0] == "recv"]
    assert len(sends) == len(receives) == 1, "a group here is one send and one receive"
    (_, comm, sent, to), (_, _, room, source) = sends[0], receives[0]
    room[...] = comm.exchange((to, sent.copy()), lambda table: taken(table[source], comm.rank))


def taken(post, rank):
    to, what = post
    assert to == rank, f"what was sent to {to} is waited for by {rank}"
    return what


class NcclCommunicator:
    def __init__(self, size, uid, rank):
        assert isinstance(uid, bytes) and 0 <= rank < size
        with LOCK:
            self.barrier, self.table = WORLDS.setdefault(uid, (threading.Barrier(size, timeout=20), [None] * size))
        self.size, self.rank = size, rank

    def exchange(self, part, take):
        self.table[self.rank] = part
        self.barrier.wait()
        result = take(list(self.table))
        self.barrier.wait()
        return result

    def allGather(self, sent, received, count, kind, stream):
        own, room = memory(sent, count, kind), memory(received, count * self.size, kind)
        room[...] = self.exchange(own.copy(), np.concatenate)

    def allReduce(self, sent, received, count, kind, operation, stream):
        assert operation == NCCL_SUM
        own, room = memory(sent, count, kind), memory(received, count, kind)
        room[...] = self.exchange(own.copy(), lambda table: np.sum(table[::-1], axis=0))  # in an order of its own

    def send(self, sent, count, kind, to, stream):
        QUEUE.calls.append(("send", self, memory(sent, count, kind), to))

    def recv(self, received, count, kind, source, stream):
        QUEUE.calls.append(("recv", self, memory(received, count, kind), source))


def memory(address, count, kind):
    """The numbers that lie at an address of the card."""
    from cupy_double.card import card

    dtype = np.dtype(DTYPES[kind])
    root = card().block_at(address).root
    assert address + count * dtype.itemsize <= root.ctypes.data + root.nbytes, "NCCL reads or writes beyond an array"
    place = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(place, dtype)
