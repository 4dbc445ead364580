"""Launching the kernels of the .cu files beside this one. CuPy compiles on first use, and remembers it on disk."""

import functools
from pathlib import Path

import numpy as np

from ..backend import array_module

C_TYPES = {"float32": "float", "float64": "double", "float16": "Half", "bfloat16": "Bfloat16"}
KERNELS = {
    "layers": (
        *("layer_norm", "layer_norm_backward", "layer_norm_columns", "add_chunks"),
        *("quick_gelu", "quick_gelu_backward", "l2_normalize", "l2_normalize_backward", "add_bias"),
    ),
    "attention": ("attention_weights", "attention_weights_backward"),
    "loss": ("row_log_sums", "column_log_sums", "join_log_sums", "contrastive_loss", "contrastive_gradient"),
    "optim": ("adamw",),
}


def launcher(file, x):
    """What launches the kernels of a file for x's dtype; x's library; the dtype that its numbers are computed in.

    launch(name, grid, block, *args): args are arrays of x's library and NumPy scalars, of the kernel's own types.
    """
    xp, c_type = array_module(x), C_TYPES[x.dtype.name]

    def launch(name, grid, block, *args):
        compiled(xp, file, name, c_type)(grid, block, args)

    return launch, xp, np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


@functools.cache
def compiled(xp, file, name, c_type):
    """One kernel of one C type."""
    return module(xp, file, c_type).get_function(f"{name}<{c_type}>")


@functools.cache
def module(xp, file, c_type):
    """All kernels of a file for one C type: nobody waits for the compilation of what is not used."""
    return xp.RawModule(code=source(file), options=("--std=c++17",), name_expressions=names_of(file, c_type))


def source(file):
    """The CUDA C++ of a file."""
    return "\n".join(Path(__file__).with_name(f"{name}.cu").read_text(encoding="utf-8") for name in ("numbers", file))


def names_of(file, c_type):
    """The C++ names of all kernels of a file for one C type."""
    return [f"{name}<{c_type}>" for name in KERNELS[file]]


def by_row(rows):
    """Grid and block: one warp a row, eight rows a block."""
    return (-(-rows // 8),), (32, 8)


def by_column(width, chunks):
    """Grid and block: 32 columns and one chunk of the rows a block."""
    return (-(-width // 32), chunks), (32, 8)


def by_element(size):
    """Grid and block: 256 numbers a block at a time; a long vector is gone over in strides."""
    return (min(-(-size // 256), 1 << 16),), (256,)


def chunks_of(rows):
    """Into how many chunks rows are cut, and the rows of each: a matter of the shape alone, so sums are too."""
    chunk = max(64, -(-rows // 128))
    return -(-rows // chunk), chunk


def rows_of(x):
    """How many rows x has along its last axis, and how long they are."""
    return x.size // x.shape[-1], x.shape[-1]


def contiguous(dtype, *arrays):
    """The arrays without gaps in memory, in one dtype."""
    return [a if a.flags.c_contiguous and a.dtype == dtype else a.astype(dtype, order="C") for a in arrays]
