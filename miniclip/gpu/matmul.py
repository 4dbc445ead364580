"""Stacks of matrix products, given to cuBLAS as they lie in memory.

CuPy's own `matmul` copies transposed operands of a stack, does not use TF32 there, and turns half numbers into float32.

cuBLAS reads a matrix column by column, and each column may start anywhere: what it is told is the distance from
one to the next. Rows that NumPy writes one after another are the columns of the transpose, so that

    C = A B        is asked for as        Cᵀ = Bᵀ Aᵀ

and a transposed view is only another flag. The heads of attention are such views of one array (N, T, 3, H, d).
"""

import numpy as np

from ..backend import array_module

# dtype: (cuBLAS's name of it, what it is summed in, 1 and 0 of that kind for cuBLAS to read)
SUMS = {
    "float64": ("CUDA_R_64F", "CUBLAS_COMPUTE_64F", np.array([1, 0], np.float64)),
    "float32": ("CUDA_R_32F", "CUBLAS_COMPUTE_32F", np.array([1, 0], np.float32)),
    "bfloat16": ("CUDA_R_16BF", "CUBLAS_COMPUTE_32F", np.array([1, 0], np.float32)),
    "float16": ("CUDA_R_16F", "CUBLAS_COMPUTE_32F", np.array([1, 0], np.float32)),
}


def matmul(a, b, out=None):
    """a @ b.   a (..., M, K), b (..., K, N) of one library -> (..., M, N), in `out` where it is given.

    The dtype stays what it was, bfloat16 too. `out` may be any view whose rows are whole in memory, and must not
    overlap a or b. Raises ValueError when shapes do not fit.
    """
    xp = array_module(a)
    if not 2 < max(a.ndim, b.ndim) <= 4 or min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype or a.dtype.name not in SUMS:
        return xp.matmul(a, b, out=out)
    stack = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*stack, a.shape[-2], b.shape[-1])
    if a.shape[-1] != b.shape[-2] or (out is not None and (out.shape, out.dtype) != (shape, a.dtype)):
        wanted = "" if out is None else f" into {out.dtype} {out.shape}"
        raise ValueError(f"matrices {a.shape} and {b.shape} of {a.dtype} cannot be multiplied{wanted}.")
    y = out if out is not None and _by_row(out) else xp.empty(shape, a.dtype)
    if a.size and b.size:
        _stack_of_products(xp, *(_as_stack(xp, x, stack) for x in (a, b, y)))
    else:
        y[...] = 0
    if out is None or y is out:
        return y
    out[...] = y
    return out


def _as_stack(xp, x, stack):
    """x as (outer, inner, rows, columns), a view: repeated over the stack where it has no such axis itself."""
    if x.shape[:-2] != stack:
        x = xp.broadcast_to(x, (*stack, *x.shape[-2:]))
    return x[None] if x.ndim == 3 else x


def _stack_of_products(xp, a, b, y):
    """y[i, j] = a[i, j] @ b[i, j], in as few calls of cuBLAS as the strides allow. None is empty."""
    kind, sum_kind, scalars = SUMS[a.dtype.name]
    cublas, one, zero = xp.cuda.cublas, scalars.ctypes.data, scalars.ctypes.data + scalars.itemsize
    if a.dtype == np.float32 and xp._core.get_compute_type(a.dtype) == xp._core._routines_linalg.COMPUTE_TYPE_TF32:
        sum_kind = "CUBLAS_COMPUTE_32F_FAST_TF32"
    kind, sum_kind = getattr(xp.cuda.runtime, kind), getattr(cublas, sum_kind)
    a, b = (x if _by_row(x) or _by_row(x.swapaxes(-1, -2)) else xp.ascontiguousarray(x) for x in (a, b))
    (flag_a, lead_a), (flag_b, lead_b), (_, lead_y) = _layout(a), _layout(b), _layout(y)
    calls, count, ((step_a, stride_a), (step_b, stride_b), (step_y, stride_y)) = _plan(a, b, y)
    sizes = b.shape[-1], a.shape[-2], a.shape[-1]
    flags, default = (xp.cuda.device.get_cublas_handle(), flag_b, flag_a), cublas.CUBLAS_GEMM_DEFAULT
    for i in range(calls):
        of_a = a.data.ptr + i * step_a, kind, lead_a, stride_a
        of_b = b.data.ptr + i * step_b, kind, lead_b, stride_b
        of_y = y.data.ptr + i * step_y, kind, lead_y, stride_y
        cublas.gemmStridedBatchedEx(*flags, *sizes, one, *of_b, *of_a, zero, *of_y, count, sum_kind, default)


def _steps(x):
    """x's strides, 0 along an axis of length 1, where NumPy and CuPy may write anything."""
    return [stride if length > 1 else 0 for length, stride in zip(x.shape, x.strides)]


def _by_row(x):
    """Whether each row of x's matrices is whole in memory, none overlaps the next, and nothing runs backwards."""
    (rows, columns), (*stack, down, across) = x.shape[-2:], _steps(x)
    return (
        (columns <= 1 or across == x.itemsize)
        and (rows <= 1 or down >= columns * x.itemsize)
        and min(stack, default=0) >= 0
    )


def _layout(x):
    """(0, the distance in numbers from row to row), or (1, that from column to column) where columns are whole."""
    columns, (*_, down, across) = x.shape[-1], _steps(x)
    return (0, max(columns, down // x.itemsize)) if _by_row(x) else (1, across // x.itemsize)


def _plan(*stacks):
    """How a stack (outer, inner, ., .) becomes calls of one stride each, for arrays of one such stack.

    -> number of calls, of matrices in each, and for each array (bytes from call to call, numbers from matrix to
    matrix). One call where both axes are one in memory, else one for each place on the shorter axis.
    """
    (outer, inner), size = stacks[0].shape[:2], stacks[0].itemsize
    steps = [_steps(x)[:2] for x in stacks]
    if all(far == inner * near for far, near in steps):
        return 1, outer * inner, [(0, near // size) for _, near in steps]
    if outer <= inner:
        return outer, inner, [(far, near // size) for far, near in steps]
    return inner, outer, [(near, far // size) for far, near in steps]
