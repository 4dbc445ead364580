"""A double of the cuBLAS call that multiplies matrices, for machines without a graphics card.

`Cublas()` has what miniclip uses of `cupy.cuda.cublas`, under the same names and with the same arguments. It reads
operands where cuBLAS would, at raw addresses and column by column, and refuses what cuBLAS refuses or leaves undefined.
TF32 keeps 10 of a float32's 23 binary places, so that a test can see it at work.

`arrays`: NumPy arrays that are the card's memory; where given, whatever else is read or written is an error.
"""

import ctypes
from types import SimpleNamespace

import numpy as np

REAL, DOUBLE, HALF, BRAIN = 0, 1, 2, 14  # cudaDataType_t: CUDA_R_32F, 64F, 16F, 16BF


class CublasError(Exception):
    """What cuBLAS would have answered with an error, or done in silence to somebody's memory."""


PARAMETERS = """handle transa transb m n k alpha A Atype lda strideA B Btype ldb strideB beta C Ctype ldc strideC
    batchCount computeType algo""".split()


class Cublas:
    """`handle` is the only one that it takes; `calls` lists (m, n, k, batch, compute type) of all that were made."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99
    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 69, 77
    CUBLAS_COMPUTE_64F = 70

    def __init__(self, arrays=None, handle=1, calls=None):
        self.arrays, self.handle, self.calls = arrays, handle, [] if calls is None else calls

    def gemmStridedBatchedEx(self, *arguments):
        """C[i] = alpha op(A[i]) op(B[i]) + beta C[i], A[i] being strideA numbers after A[i - 1]."""
        if len(arguments) != len(PARAMETERS) or not all(type(value) is int for value in arguments):
            kinds = [type(value).__name__ for value in arguments]
            raise TypeError(f"cuBLAS takes {len(PARAMETERS)} integers, not {kinds}.")
        given = SimpleNamespace(**dict(zip(PARAMETERS, arguments)))
        transa, transb, m, n, k, count = (getattr(given, name) for name in PARAMETERS[1:6] + ["batchCount"])
        leads, strides = (given.lda, given.ldb, given.ldc), (given.strideA, given.strideB, given.strideC)
        kinds, sum_kind = (given.Atype, given.Btype, given.Ctype), given.computeType
        rows_a, rows_b = (k if transa else m), (n if transb else k)
        _must(given.handle == self.handle, "a handle that is not cuBLAS's")
        _must(transa in (0, 1) and transb in (0, 1), f"operations {transa}, {transb}")
        _must(min(m, n, k, count) > 0, f"m, n, k, batch = {m}, {n}, {k}, {count}")
        _must(all(lead >= rows for lead, rows in zip(leads, (rows_a, rows_b, m))), f"too small dimensions {leads}")
        _must(max(m, n, k, *leads, count) < 2**31, "a number that is no 32-bit integer")
        _must(min(strides) >= 0, f"strides {strides}")
        _must(len(set(kinds)) == 1 and sum_kind in self._sums(kinds[0]), f"types {kinds} summed as {sum_kind}")
        _must(given.algo in (-1, 99), f"the algorithm {given.algo}")
        self.calls.append((m, n, k, count, sum_kind))

        sums = np.float64 if sum_kind == self.CUBLAS_COMPUTE_64F else np.float32
        alpha, beta = (_at(pointer, np.zeros(1, np.int64), np.dtype(sums))[0] for pointer in (given.alpha, given.beta))
        dtype, C = _dtype(kinds[0]), given.C
        a = self._read(given.A, dtype, rows_a, m if transa else k, leads[0], strides[0], count)
        b = self._read(given.B, dtype, rows_b, k if transb else n, leads[1], strides[1], count)
        a, b = (x.swapaxes(1, 2) if flag else x for x, flag in ((a, transa), (b, transb)))
        a, b = a.astype(sums), b.astype(sums)
        if sum_kind == self.CUBLAS_COMPUTE_32F_FAST_TF32:
            a, b = tf32(a), tf32(b)
        places = _places(m, n, leads[2], strides[2], count)
        _must(len(np.unique(places)) == places.size, "matrices of C overlap each other")
        self._inside(C, places, dtype, writing=True)
        result = alpha * (a @ b)
        if beta:  # with 0, what C holds is not read: it may be NaN
            result += beta * _at(C, places, dtype).astype(sums)
        _write(C, places, result.astype(dtype))

    def _sums(self, kind):
        if kind == DOUBLE:
            return (self.CUBLAS_COMPUTE_64F,)
        tf32 = (self.CUBLAS_COMPUTE_32F_FAST_TF32,) if kind == REAL else ()
        return self.CUBLAS_COMPUTE_32F, self.CUBLAS_COMPUTE_32F_PEDANTIC, *tf32

    def _read(self, address, dtype, rows, columns, lead, stride, count):
        places = _places(rows, columns, lead, stride, count)
        self._inside(address, places, dtype)
        return _at(address, places, dtype)

    def _inside(self, address, places, dtype, writing=False):
        if self.arrays is None:
            return
        first, last = address + int(places.min()) * dtype.itemsize, address + (int(places.max()) + 1) * dtype.itemsize
        for array in self.arrays:
            low, high = np.lib.array_utils.byte_bounds(array)
            if low <= first and last <= high:
                return _must(array.flags.writeable or not writing, "C is in memory that may not be written to")
        raise CublasError(f"bytes {first} to {last} are in no array.")


def tf32(x):
    """x, float32, rounded to the nearest number with 10 binary places."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1))) & np.uint32(0xFFFFE000)).view(np.float32)


def _must(true, words):
    if not true:
        raise CublasError(f"cuBLAS was given {words}.")


def _dtype(kind):
    if kind == BRAIN:
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype({REAL: np.float32, DOUBLE: np.float64, HALF: np.float16}[kind])


def _places(rows, columns, lead, stride, count):
    """(count, rows, columns): where each number is, counted from the first; column by column."""
    i, row, column = np.ogrid[:count, :rows, :columns]
    return i * stride + row + column * lead


def _memory(address, places, dtype):
    """The memory that begins at an address and ends with the last of the places, as a vector."""
    size = int(places.max()) + 1
    return np.frombuffer((ctypes.c_byte * (size * dtype.itemsize)).from_address(address), dtype, size)


def _at(address, places, dtype):
    return _memory(address, places, dtype)[places]


def _write(address, places, values):
    _memory(address, places, values.dtype)[places] = values
