"""Boxes: an array of the card is a box around a NumPy array; boxes that share memory share one `Memory`."""

from types import SimpleNamespace

import numpy as np

from .card import card, launch
from .memory import Device, Memory, poisoned
from .names import missing, must_fit, raise_

DTYPES = "?bhilqBHILQefdFD"
SCALARS = bool, int, float, complex, np.generic


class Flags:
    """CuPy's have three names, and nothing is read-only."""

    def __init__(self, x):
        flags = x._array.flags
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, x._base is None
        self.forc, self.fnc = flags.forc, flags.fnc

    def __getitem__(self, name):
        return {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata}[name]


class Box:
    """An array of the card as far as it lies in memory. cupy.ndarray(shape, dtype) is new memory, poisoned."""

    _kind = None  # what arrays are: cupy.ndarray, see arrays.py

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("this double has no cupy.ndarray(memptr=, strides=).")
        array = poisoned(shape, dtype_of(dtype), order)
        self._array, self._memory, self._base = array, Memory(array), None

    def __init_subclass__(cls):
        Box._kind = cls

    @classmethod
    def _of(cls, array, memory, base):
        x = object.__new__(cls)
        x._array, x._memory, x._base = array, memory, base
        return x

    def __getattr__(self, name):
        if name.startswith("__") or name in ("_array", "_memory", "_base"):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        raise missing("cupy.ndarray", name)

    shape = property(
        lambda self: self._array.shape,
        lambda self, shape: raise_(NotImplementedError("this double has no assignment to shape.")),
    )
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    dtype = property(lambda self: self._array.dtype)
    strides = property(lambda self: self._array.strides)
    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    flags = property(Flags)
    base = property(lambda self: self._base)
    device = property(lambda self: Device(0))
    T = property(lambda self: box(self._array.T, self) if self.ndim > 1 else self)
    mT = property(lambda self: box(self._array.mT, self))
    real = property(lambda self: box(self._array.real, self))
    imag = property(lambda self: box(self._array.imag, self))

    @property
    def data(self):
        pointer = self._array.__array_interface__["data"][0]
        return SimpleNamespace(ptr=pointer, mem=self._memory, device_id=0, device=Device(0))

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "version": 3,
            "strides": None if self._array.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
            "stream": card().stream().ptr or 1,
        }


def unbox(x):
    """What NumPy computes with for an argument of a CuPy function; TypeError for what CuPy does not take."""
    if isinstance(x, Box):
        return x._array
    if isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def inner(x):
    """An argument of any kind with its boxes opened; TypeError where a NumPy array is among them."""
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(inner, x))
    return x._array if isinstance(x, Box) else x


def boxes_in(*values):
    for x in values:
        if isinstance(x, Box):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from boxes_in(*x)
        elif isinstance(x, dict):
            yield from boxes_in(*x.values())


def box(result, *sources):
    """NumPy's result in a box: a view where it lies in the memory of a source, else in memory of its own."""
    if isinstance(result, (list, tuple)):
        return type(result)(box(part, *sources) for part in result)
    result = np.asarray(result)
    for source in sources:
        if source._memory.holds(result):
            return Box._kind._of(result, source._memory, source if source._base is None else source._base)
    root = result
    while isinstance(root.base, np.ndarray):
        root = root.base
    return Box._kind._of(result, Memory(root), None)


def compute(space, name, f, args, options):
    """f of NumPy on what is in the boxes: CuPy's parameters only, no NumPy arrays; `out` is CuPy's."""
    must_fit(space, name, args, options)
    out = options.get("out")
    if out is not None and not isinstance(out, Box):
        raise TypeError(f"{space}.{name}: out is {type(out).__name__}, not a cupy.ndarray.")
    given = list(boxes_in(args, options))
    if out is not None:
        launch({x._memory for x in given}, [out._memory])
    with np.errstate(all="ignore"):
        result = f(*map(inner, args), **{key: inner(value) for key, value in options.items()})
    if out is not None:
        return out
    result = box(result, *given)
    if any(all(x._memory is not y._memory for y in given) for x in boxes_in(result)):
        launch({x._memory for x in given})  # no view of what was given: a kernel has run
    return result


def dtype_of(dtype):
    dtype = np.dtype(dtype)
    if dtype.char not in DTYPES and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def upload(x, blocking=False):
    """A NumPy array -> a box. CuPy copies through pinned memory and does not wait, unless it is asked to."""
    dtype_of(x.dtype)
    result = box(np.array(x, order="K"))
    launch()
    if blocking:
        card().note("syncs", "asarray(blocking=True)")
    elif x.ndim:  # a single number goes as an argument of a kernel
        card().note("uploads", "asarray")
    return result
