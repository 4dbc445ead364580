"""CuPy's functions of arrays, and those that make arrays."""

import sys

import cublas_double
import numpy as np

from .boxes import Box, box, boxes_in, compute, dtype_of, upload
from .card import Undefined, card
from .memory import poisoned
from .ufuncs import CLIP, WHERE

COMPUTE_TYPES = {"TBD": 0, "DEFAULT": 1, "PEDANTIC": 2, "FP16": 3, "FP32": 4, "FP64": 5, "BF16": 6, "TF32": 7}


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """From CuPy, NumPy, or Python."""
    if subok:
        raise NotImplementedError
    if isinstance(obj, Box):
        x = obj.astype(obj.dtype if dtype is None else dtype, order=order or "K", copy=bool(copy))
        if copy is False and x is not obj:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
    elif any(True for _ in boxes_in(obj)):
        parts = [array(part) if isinstance(part, (list, tuple)) else part for part in obj]
        if not all(isinstance(p, Box) and (p.shape, p.dtype) == (parts[0].shape, parts[0].dtype) for p in parts):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        x = sys.modules["cupy"].stack(parts)
        x = x if dtype is None else x.astype(dtype, copy=False)
    elif copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    else:
        # From a NumPy array, the order "K" and None are C.
        order = "C" if order in ("K", None) else order
        x = upload(np.array(obj, None if dtype is None else dtype_of(dtype), order=order), blocking)
    return x if x.ndim >= ndmin else x.reshape((1,) * (ndmin - x.ndim) + x.shape)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, order, blocking=blocking)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out, blocking) if isinstance(a, Box) else np.asarray(a, order=order)


def ascontiguousarray(a, dtype=None):
    """a itself where it is so already."""
    if not isinstance(a, Box):
        return array(a, dtype, order="C")
    a = a.astype(a.dtype if dtype is None else dtype, order="C", copy=False)
    return a if a.ndim else a.reshape(1)


def empty(shape, dtype=float, order="C"):
    """Filled with what must not be read."""
    return Box._kind(shape, dtype, order=order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    like = np.empty_like(prototype._array, dtype, order, shape=shape)
    like[...] = poisoned((), like.dtype)
    return box(like)


def where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return condition.nonzero()
    if not isinstance(condition, Box):
        raise TypeError(f"Unsupported type {type(condition)}")
    return WHERE(condition, x, y)


def triangle(name):
    """tril and triu choose with `where`, and so in one of its types, none of them bfloat16."""

    def f(m, k=0):
        y = like_numpy("cupy", name)(m, k)
        return WHERE(y == y, y, y)

    return f


def clip(a, a_min, a_max, out=None):
    """In one of the types that CuPy has for it, none of them bfloat16."""
    if a_min is None or a_max is None:
        raise NotImplementedError("this double has no cupy.clip without both limits.")
    return CLIP(a, a_min, a_max, out=out)


def matmul(*args, out=None, casting="same_kind", dtype=None, order="K"):
    """Of arrays only, of at least one axis each; out may be any view."""
    if len(args) != 2 or not all(isinstance(x, Box) for x in args):
        raise TypeError(f"matmul takes two cupy.ndarrays, not {[type(x) for x in args]}.")
    if not all(x.ndim for x in args):
        raise ValueError("Scalar operands are not allowed, use '*' instead")
    if dtype is not None:
        raise NotImplementedError("this double has no matmul(dtype=).")
    return compute("cupy", "matmul", _product, args, {} if out is None else {"out": out, "casting": casting})


def _product(a, b, out=None, casting=None):
    """In the one type that both go into, bfloat16 too; halves are summed in float32. A stack never uses TF32."""
    kind = np.promote_types(a.dtype, b.dtype)
    a, b = a.astype(kind, copy=False), b.astype(kind, copy=False)
    if kind.itemsize == 2 and kind.kind in "fV":
        a, b = a.astype(np.float32), b.astype(np.float32)
    elif max(a.ndim, b.ndim) <= 2 and kind == np.float32 and card().compute_types.get(kind) == COMPUTE_TYPES["TF32"]:
        a, b = cublas_double.tf32(a), cublas_double.tf32(b)
    y = np.matmul(a, b).astype(kind, copy=False)
    if out is None:
        return y
    np.copyto(out, y, casting=casting)
    return out


def of_arrays(name):
    """concatenate and its like take CuPy arrays, and no numbers among them."""

    def f(tup, *args, **options):
        if isinstance(tup, Box) or not all(isinstance(x, Box) for x in tup):
            raise TypeError("Only cupy arrays can be concatenated")
        return compute("cupy", name, getattr(np, name), (list(tup), *args), options)

    return f


def waiting(name):
    def f(*args, **options):
        card().note("syncs", name)
        return compute("cupy", name, getattr(np, name), args, options)

    return f


def like_numpy(space, name, home=np):
    """NumPy's function, for arrays: CuPy takes no lists, and no numbers for arrays."""

    def f(*args, **options):
        if args and not isinstance(args[0], Box):
            raise TypeError(f"{space}.{name}: Unsupported type {type(args[0])}")
        return compute(space, name, getattr(home, name), args, options)

    return f


def making(name):
    """A function that makes an array from numbers of the host."""

    def f(*args, **options):
        if any(True for _ in boxes_in(args, options)):
            raise NotImplementedError(f"this double has no cupy.{name} of CuPy arrays.")
        if options.get("dtype") is not None:
            dtype_of(options["dtype"])
        return compute("cupy", name, getattr(np, name), args, options)

    return f


def as_strided(x, shape=None, strides=None):
    """CuPy does not look whether such a view leaves the array's memory: this does."""
    shape, strides = (x.shape if shape is None else shape), (x.strides if strides is None else strides)
    view = np.lib.stride_tricks.as_strided(x._array, shape, strides)
    low, high = np.lib.array_utils.byte_bounds(view)
    if view.size and not x._memory.ptr <= low <= high <= x._memory.ptr + x._memory.root.nbytes:
        raise Undefined(f"a view of {shape}, {strides} leaves the memory of its array.")
    return Box._kind._of(view, x._memory, x if x._base is None else x._base)


def get_array_module(*args):
    return sys.modules["cupy"] if any(isinstance(x, Box) for x in args) else np
