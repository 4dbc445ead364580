"""python -m miniclip: the command line (see cli.py), alone or as one of the ranks that mpirun starts.

Where one rank fails, the others would wait for it for ever: so it ends them all. Rank 0 alone prints, and what fails on
all is reported once.
"""

import io
import os
import sys
import time
import traceback

from .cli import main

RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")  # in which a launcher says which rank this is


def main_of_rank(rank):
    """`main`, on one of several ranks."""
    errors = sys.stderr
    if rank:
        sys.stdout, sys.stderr = open(os.devnull, "w"), io.StringIO()
    try:
        status = main()
    except SystemExit as end:  # argparse's
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if status:
        if rank:
            time.sleep(1)  # until rank 0, if it fails as well, has said why and ended this process
            errors.write(f"On rank {rank}: {sys.stderr.getvalue()}")
        errors.flush()
        if "mpi4py.MPI" in sys.modules:
            sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(status)
    return status


if __name__ == "__main__":
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    sys.exit(main_of_rank(int(ranks[0])) if ranks else main())
