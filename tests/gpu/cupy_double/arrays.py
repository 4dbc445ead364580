"""cupy.ndarray: what goes to the host, where each step waits for the card; its methods and operators."""

import functools
import sys

import numpy as np

from .boxes import box, compute, dtype_of
from .card import card, launch
from .functions import clip, matmul
from .indexing import Indexed
from .memory import is_pinned
from .names import must_fit
from .ufuncs import UFUNCS


class ndarray(Indexed):
    """CuPy's array; nothing that is NumPy's goes into one unasked."""

    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None

    # to the host: each of these waits for the card

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is not None and (out.dtype, out.shape) != (self.dtype, self.shape):
            raise ValueError(f"{self.dtype} {self.shape} cannot be copied to {out.dtype} {out.shape}.")
        stream = stream or card().stream()
        launch([self._memory], stream=stream)
        if blocking:
            card().note("syncs", "get")
            stream.wait_for_it()
        elif not (out is not None and is_pinned(out)):
            raise NotImplementedError("this double copies to the host without waiting only into pinned memory.")
        if out is None:
            return self._array.copy("C" if order == "A" else order)
        out[...] = self._array
        return out

    def _read(self, what, f, *args):
        launch([self._memory])
        card().note("syncs", what)
        card().stream().wait_for_it()
        return f(self._array, *args)

    def item(self):
        return self._read("item", np.ndarray.item)

    def tolist(self):
        return self._read("tolist", np.ndarray.tolist)

    def tobytes(self, order="C"):
        return self._read("tobytes", np.ndarray.tobytes, order)

    __float__ = lambda self: self._read("float", float)
    __int__ = lambda self: self._read("int", int)
    __bool__ = lambda self: self._read("bool", bool)
    __complex__ = lambda self: self._read("complex", complex)
    __repr__ = lambda self: self._read("repr", repr)
    __str__ = lambda self: self._read("str", str)
    __format__ = lambda self, spec: self._read("format", format, spec)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def nonzero(self):
        card().note("syncs", "nonzero")
        return compute("", "nonzero", np.nonzero, (self,), {})

    # on the card

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._array.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        launch(writes=[self._memory], stream=stream)
        stream = stream or card().stream()
        if is_pinned(arr) and not stream.null_:
            card().note("uploads", "set")
            stream.pending.append((stream.clock[stream], arr, arr.tobytes()))
        else:  # pageable memory, or the main stream: the host waits
            card().note("syncs", "set")
            stream.wait_for_it()
        self._array[...] = arr

    def fill(self, value):
        self[...] = value

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        if self._array.astype(dtype_of(dtype), order, copy=False) is self._array and not copy:
            return self
        return compute("", "astype", np.ndarray.astype, (self, dtype), {"order": order})

    def copy(self, order="C"):
        return compute("cupy", "copy", np.copy, (self,), {"order": order})

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    def clip(self, min=None, max=None, out=None):
        return clip(self, min, max, out)

    def view(self, dtype=None, type=None):
        return box(self._array.view() if dtype is None else self._array.view(dtype), self)


METHODS = """all any argmax argmin argsort conj conjugate cumprod cumsum diagonal dot flatten max mean min prod
    ravel repeat reshape round squeeze std sum swapaxes trace transpose var"""
for _name in METHODS.split():
    setattr(
        ndarray,
        _name,
        functools.partialmethod(lambda self, name, *args, **options: _method(self, name, args, options), _name),
    )
BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
COMPARE = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}


def _method(x, name, args, options):
    must_fit("cupy.ndarray", name, args, options)
    return compute("", name, getattr(np.ndarray, name), (x, *args), options)


def _operators():
    def left(name):
        return lambda self, other: UFUNCS[name](self, other)

    def right(name):
        return lambda self, other: UFUNCS[name](other, self)

    def here(name):
        return lambda self, other: UFUNCS[name](self, other, self)

    for short, name in BINARY.items():
        setattr(ndarray, f"__{short}__", left(name))
        setattr(ndarray, f"__r{short}__", right(name))
        setattr(ndarray, f"__i{short}__", here(name))
    for short, name in COMPARE.items():
        setattr(ndarray, f"__{short}__", left(name))
    for short, name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", lambda self, name=name: UFUNCS[name](self))
    ndarray.__matmul__ = lambda self, other: matmul(self, other)
    ndarray.__rmatmul__ = lambda self, other: matmul(other, self)


def _array_ufunc(self, of_numpy, method, *args, **options):
    """np.exp(box) and NumPy array + box: what NumPy passes on, as CuPy takes it."""
    if isinstance(options.get("out"), tuple):
        (options["out"],) = options["out"]
    if method != "__call__":
        return NotImplemented
    return getattr(sys.modules["cupy"], of_numpy.__name__)(*args, **options)


def _array_function(self, f, types, args, options):
    """np.concatenate([box]): CuPy's function of that name."""
    space = functools.reduce(getattr, f.__module__.split(".")[1:], sys.modules["cupy"])
    return getattr(space, f.__name__)(*args, **options)


_operators()
ndarray.__array_ufunc__, ndarray.__array_function__ = _array_ufunc, _array_function
