"""The processes that train one model together, and what they say to each other: MPI, through mpi4py.

    mpirun -n 4 python -m miniclip train

Every rank has the whole model and a part of every batch. The features stay where they are made, the loss asks the
others for what it lacks, and at the end of a step the gradients, one flat vector a rank, are added:

    gather    (n, ...) of each rank -> (N, ...) on all
    add       a vector (P,), over all ranks, in place
    shift     a block moves on by one rank in a ring
    first     rank 0 does it, and all have its result, or its error

`Alone`, in backend.py, is these four verbs where there is nobody else. On graphics cards the arrays go by NCCL
(gpu/nccl.py), and MPI carries the rest.
"""

import os
import platform
from functools import lru_cache

import numpy as np

from ..backend import ALONE, add_up, cpu_count

COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")  # in which a launcher says how many it starts


class Ranks:
    """The ranks of an MPI communicator; see `Alone` for what the verbs take.

    received: how many numbers this rank has had from the others, by verb; copies on the way are not counted.
    """

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.received = {"gather": 0, "add": 0, "shift": 0}

    def gather(self, x):
        """(n, ...) of this rank -> (N, ...) of all, in the order of the ranks."""
        x = np.ascontiguousarray(x)
        together = np.empty((self.size * len(x), *x.shape[1:]), x.dtype)
        self.comm.Allgather(x, together)
        self.received["gather"] += together.size - x.size
        return together

    def add(self, v):
        """Add v, a vector (P,), over all ranks, in place.

        Each rank adds up one part of the vector, of all ranks, in the order of `add_up`, and hands the sum on: so the
        bits are everywhere the same, and a rank receives 2P(R − 1)/R numbers, as few as can be.
        """
        ends = [len(v) * rank // self.size for rank in range(self.size + 1)]
        counts = np.diff(ends).tolist()
        mine = np.empty((self.size, counts[self.rank]), v.dtype)
        self.comm.Alltoallv([v, (counts, ends[:-1])], [mine, counts[self.rank]])
        total = add_up(iter(mine), self.size)
        self.comm.Allgatherv(total, [v, (counts, ends[:-1])])
        self.received["add"] += mine.size + len(v) - 2 * counts[self.rank]

    def shift(self, x):
        """What the rank before this one has, in the ring that the ranks make: an array like x."""
        x = np.ascontiguousarray(x)
        other = np.empty_like(x)
        self.comm.Sendrecv(x, (self.rank + 1) % self.size, recvbuf=other, source=(self.rank - 1) % self.size)
        self.received["shift"] += x.size
        return other

    def first(self, f):
        """f() of rank 0 alone: what it returns is everybody's, and what it raises."""
        result = error = None
        if self.rank == 0:
            try:
                result = f()
            except BaseException as raised:
                error = raised
        result, error = self.comm.bcast((result, error))
        if error is not None:
            error.of_rank_0 = True  # which reports it
            raise error
        return result

    def on_this_machine(self):
        """Which of the ranks on this machine this one is, and how many they are."""
        names = self.comm.allgather(platform.node())
        return names[: self.rank].count(names[self.rank]), names.count(names[self.rank])


@lru_cache(maxsize=1)
def all_ranks():
    """The `Ranks` that this process was started with, or `ALONE`; mpi4py is imported only where there are several.

    Raises ValueError where a launcher started several processes that cannot find each other.
    """
    launched = max(int(os.environ.get(name, "1") or 1) for name in COUNTS)
    if launched == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        wanted = "install it with pip install 'miniclip[ranks]'"
        raise ValueError(f"{launched} processes were started together, but mpi4py fails ({error}): {wanted}.") from None
    if MPI.COMM_WORLD.Get_size() != launched:
        raise ValueError(
            f"{launched} processes were started together, but mpi4py sees {MPI.COMM_WORLD.Get_size()}: the launcher is "
            "of another MPI; use the mpirun beside this Python."
        )
    return Ranks(MPI.COMM_WORLD)


def threads_of(ranks):
    """How many threads a rank may have: the processors of this machine over the ranks that are on it."""
    return max(1, cpu_count() // (ranks.on_this_machine()[1] if ranks.size > 1 else 1))


def check_alike(ranks, what):
    """Raises ValueError on all ranks where `what`, {name: value}, is not everywhere what it is on rank 0."""
    if ranks.size == 1:
        return
    everybody = ranks.comm.allgather(what)
    for name in everybody[0]:
        for rank, theirs in enumerate(everybody):
            if theirs[name] != everybody[0][name]:
                both = f"{theirs[name]} on rank {rank} and {everybody[0][name]} on rank 0"
                raise ValueError(f"the ranks differ in {name}: {both}; start all with the same.")


def check_spread(config, ranks):
    """Raises ValueError where not every rank would have as many micro-batches, all of one size."""
    count = -(-config.batch_size // config.micro_batch)
    if ranks.size > 1 and (config.batch_size % count or count % ranks.size):
        raise ValueError(
            f"a batch of {config.batch_size} is {count} micro-batches of at most {config.micro_batch}, which cannot be "
            f"dealt evenly to {ranks.size} ranks: choose --batch-size and --micro-batch so that their number is a "
            f"multiple of {ranks.size}, all of one size."
        )
