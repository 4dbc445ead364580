"""Threads that stand for the ranks of MPI: a communicator with the calls that `Ranks` makes, for tests without MPI."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import numpy as np

from miniclip.training.ranks import Ranks


class Communicator:
    """What mpi4py's has, among threads: everybody puts his part on a table, and takes what he needs."""

    def __init__(self, rank, size, barrier, table):
        self.rank, self.size, self.barrier, self.table = rank, size, barrier, table

    def exchange(self, part, take):
        self.table[self.rank] = part
        self.barrier.wait()
        result = take(list(self.table))
        self.barrier.wait()
        return result

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def allgather(self, x):
        return self.exchange(x, list)

    def bcast(self, x):
        return self.exchange(x, lambda table: table[0])

    def Allgather(self, x, out):
        out[...] = self.exchange(x.copy(), np.concatenate)

    def Alltoallv(self, sent, received):
        v, (counts, starts) = sent
        parts = [v[start : start + count].copy() for start, count in zip(starts, counts)]
        received[0][...] = self.exchange(parts, lambda table: np.stack([theirs[self.rank] for theirs in table]))

    def Allgatherv(self, x, out):
        out[0][...] = self.exchange(x.copy(), np.concatenate)

    def Sendrecv(self, x, to, recvbuf, source):
        assert (source + 1) % self.size == self.rank == (to - 1) % self.size
        recvbuf[...] = self.exchange(x.copy(), lambda table: table[source])


def on_ranks(size, f):
    """[f(ranks) of each rank], run side by side; an error of one is raised here."""
    barrier, table = Barrier(size, timeout=20), [None] * size

    def one(rank):
        return f(Ranks(Communicator(rank, size, barrier, table)))

    with ThreadPoolExecutor(size) as pool:
        done = [pool.submit(one, rank) for rank in range(size)]
    errors = [future.exception() for future in done]
    broken = [error for error in errors if error and not isinstance(error, BrokenBarrierError)]  # not who only waited
    if broken or any(errors):
        raise (broken or [error for error in errors if error])[0]
    return [future.result() for future in done]
