"""CuPy's ufuncs: NumPy's, in the types that CuPy has for them, chosen as CuPy chooses.

CuPy takes the first of its list of types that all arguments go into. A Python number goes into any that it would not
change in NumPy. So bfloat16 stays what it is where the list has an E, and becomes float32, in silence, where it has not
(`where` and `clip`) or meets a Python float.
"""

import numpy as np

from .boxes import Box, box, unbox
from .card import launch
from .names import NAMES, missing

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None


class ufunc:
    """One of CuPy's; `numpy` does the work, on arguments that are of the right types already."""

    __module__ = "cupy._core._kernel"

    def __init__(self, name, types, numpy):
        self.__name__, self.types, self._numpy = name, types, numpy
        self._loops = [
            tuple(tuple(map(_dtype, chars)) for chars in text.split("->"))
            for text in types
            if bfloat16 or "E" not in text
        ]
        self.nin, self.nout = (len(chars) for chars in types[0].split("->"))

    def __call__(self, *args, out=None, casting="same_kind", dtype=None):
        if len(args) == self.nin + 1 and out is None:
            *args, out = args
        if len(args) != self.nin:
            raise TypeError(f"{self.__name__}() takes {self.nin} arguments and perhaps out, not {len(args)}.")
        if out is not None and not isinstance(out, Box):
            raise TypeError(
                "return arrays must be of ArrayType"
                if not isinstance(out, tuple)
                else f"out of cupy.{self.__name__} must be an array, not a tuple."
            )
        values = [unbox(x) for x in args]
        given, (made,) = self._types(values, dtype)
        if out is not None:
            shape = np.broadcast_shapes(*map(np.shape, values))
            if shape != out.shape:
                raise ValueError(f"Out shape is mismatched: {out.shape} for {shape}.")
            if made.kind != out.dtype.kind and not np.can_cast(made, out.dtype, casting):
                raise TypeError(f"Cannot cast output from {made} to {out.dtype} according to the rule '{casting}'.")
        launch({x._memory for x in args if isinstance(x, Box)}, [] if out is None else [out._memory])
        with np.errstate(all="ignore"):
            result = self._numpy(*(np.asarray(value).astype(kind, copy=False) for value, kind in zip(values, given)))
            result = np.asarray(result).astype(made, copy=False)
            if out is None:
                return box(result)
            out._array[...] = result
        return out

    def _types(self, values, dtype):
        """The types that CuPy computes in: those of the arguments, and that of the result."""
        if dtype is not None:
            fitting = (loop for loop in self._loops if loop[1][0] == dtype)
        else:
            weak = _weak_numbers_are_weak(values)
            fitting = (
                loop
                for loop in self._loops
                if all(_goes_into(value, kind, weak) for value, kind in zip(values, loop[0]))
            )
        found = next(fitting, None)
        if found is None:
            kinds = [getattr(value, "dtype", type(value).__name__) for value in values]
            raise TypeError(f"Wrong type {kinds} of arguments for cupy_{self.__name__}, dtype={dtype}")
        return found

    def at(self, a, indices, b=None):
        if self.__name__ != "add":
            raise NotImplementedError(f"this double has no cupy.{self.__name__}.at.")
        if not isinstance(a, Box):
            raise TypeError("the first argument of ufunc.at must be a cupy.ndarray.")
        a.scatter_add(indices, b)

    def outer(self, a, b):
        return self(a[(..., *[None] * b.ndim)], b)

    def __getattr__(self, name):
        raise missing("cupy.ufunc", name)


def _dtype(char):
    return np.dtype(bfloat16 if char == "E" else char)


def _weak(value):
    return type(value) in (int, float, complex)


def _weak_numbers_are_weak(values):
    """Whether Python's numbers take the type of the arrays among them: not where they are of a higher kind."""

    def score(kind):
        return (
            0
            if issubclass(kind, (bool, np.bool_))
            else 1
            if issubclass(kind, (int, np.integer))
            else 2
            if issubclass(kind, (float, complex, np.inexact))
            else 3
        )

    numbers = [score(type(value)) for value in values if _weak(value)]
    others = [
        score(value.dtype.type if hasattr(value, "dtype") else type(value)) for value in values if not _weak(value)
    ]
    return bool(numbers and others) and max(others) >= max(numbers)


def _goes_into(value, kind, weak):
    if np.can_cast(value.dtype if hasattr(value, "dtype") else np.dtype(type(value)), kind):
        return True
    try:
        return weak and _weak(value) and np.result_type(type(value)(0), kind) == kind
    except TypeError:
        return False


UFUNCS = {
    name: ufunc(name, types, getattr(np, name))
    for name, types in NAMES.get("cupy", {}).items()
    if isinstance(types, list) and getattr(getattr(np, name, None), "nout", 0) == 1
}
WHERE, CLIP = (ufunc(name, NAMES["types"][name], numpy) for name, numpy in (("where", np.where), ("clip", np.clip)))
