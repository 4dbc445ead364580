"""How precisely a graphics card computes: float32, TF32 in its products, or the encoders in 16 bits."""

from contextlib import contextmanager

import numpy as np

from ..backend import to_array_on

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


def compute_dtype(precision, device="gpu"):
    """The dtype of activations and of weights in a product, for one of PRECISIONS; sums are in float32 in all four.

    Raises ValueError for a precision that there is not, or that this machine's Python or `device` does not have.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if device == "cpu" and precision != "float32":
        raise ValueError(
            f"precision {precision!r} gains nothing on the processor, which computes slowly in anything but float32; "
            "leave it out, or use device 'gpu' (--device gpu)."
        )
    if precision == "tf32":
        return np.dtype(np.float32)
    if precision == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise ValueError(
                "precision 'bfloat16' needs the package ml_dtypes: pip install ml_dtypes, or use 'float32'."
            ) from None
        return np.dtype(bfloat16)
    return np.dtype(precision)


@contextmanager
def precision(name, device="gpu"):
    """`with precision("tf32") as dtype:` products of float32 numbers use TF32 meanwhile, with other names they do not.

    name: one of PRECISIONS; yields `compute_dtype(name)`. What was set before is set again afterwards. It holds for
    all threads of the process. On the CPU nothing is set. Raises ValueError as `compute_dtype` and `to_array_on`, and
    for TF32 and bfloat16 on a card from before 2020 (compute capability 8).
    """
    dtype = compute_dtype(name, device)
    to_array_on(device)  # whether there is such a device
    if device == "cpu":
        yield dtype
        return
    import cupy

    if name in ("tf32", "bfloat16") and int(cupy.cuda.Device().compute_capability) < 80:
        raise ValueError(f"precision {name!r} needs a graphics card of compute capability 8.0 or more; use 'float32'.")
    core, types = cupy._core, cupy._core._routines_linalg
    before = core.get_compute_type(np.float32)
    core.set_compute_type(np.float32, types.COMPUTE_TYPE_TF32 if name == "tf32" else types.COMPUTE_TYPE_DEFAULT)
    try:
        yield dtype
    finally:
        core.set_compute_type(np.float32, before)
