"""A double of CuPy 14 for machines without a graphics card: NumPy inside, and as strict as CuPy outside.

    with cupy_double() as card:                 # "cupy" and "cupyx" in sys.modules
        import cupy
        with card.counting() as counts:
            y = layer(cupy.asarray(x))
        assert not counts.syncs                 # a list of "file:line what"

It proves that code has no NumPy array where CuPy wants its own, uses only what CuPy 14 has (cupy_names.txt, taken from
an installed one: see names.py), in the types that CuPy has for it, waits for the card only where it says so, reads
nothing that was never written, stays within a card's memory, and orders its streams by events. What CuPy has and this
double has not raises NotImplementedError with its name. It is a double and not a GPU: it proves nothing about speed,
rounding on a card, or CuPy's own faults.

    names.py      what CuPy 14 has              boxes.py  indexing.py  arrays.py     cupy.ndarray
    card.py       streams, waits, limits        ufuncs.py  functions.py              what computes
    memory.py     blocks, pinned memory         modules.py                           what stands under which name
"""

import contextlib
import sys

from .card import CARDS, Card, CUDARuntimeError, OutOfMemoryError, Race, Undefined, card
from .memory import is_pinned
from .modules import modules
from .names import NAMES, survey

MODULES = modules()
CUPY = MODULES["cupy"]

__all__ = [
    "CUPY",
    "MODULES",
    "NAMES",
    "CUDARuntimeError",
    "OutOfMemoryError",
    "Race",
    "Undefined",
    "card",
    "cupy_double",
    "is_pinned",
    "survey",
]


@contextlib.contextmanager
def cupy_double(**options):
    """`import cupy` gives the double meanwhile. options as of `Card`, which it yields."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")}
    for name in before:
        del sys.modules[name]
    sys.modules.update(MODULES)
    CARDS.append(Card(**options))
    try:
        yield card()
        card().check()
    finally:
        CARDS.pop()
        for name in [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx")]:
            del sys.modules[name]
        sys.modules.update(before)
