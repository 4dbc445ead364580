"""The graphics card: whether there is one, and that the core's functions use its kernels from then on."""

from .. import attention as core_attention
from .. import conv, layers, loss, optim
from ..backend import last_line, out_of_memory
from . import attention
from . import layers as kernels
from .launch import C_TYPES
from .loss import symmetric_cross_entropy
from .matmul import matmul
from .mixed_precision import in_float32
from .optim import squared_norm, update

KERNELS = (
    (layers.layer_norm, kernels.layer_norm),
    (layers.quick_gelu, kernels.quick_gelu),
    (layers.add_bias, kernels.add_bias),
    (layers.l2_normalize, kernels.l2_normalize),
    (core_attention.attention_weights, attention.attention_weights),
    (core_attention.attend_heads, attention.attend_heads),
    (loss.symmetric_cross_entropy, symmetric_cross_entropy),
)


def to_gpu():
    """The function that brings one array to the graphics card. Raises ValueError where there is none that works.

    The function itself raises OutOfMemory when the card is full.
    """
    cupy = usable_cupy()

    def put(x):
        try:
            return cupy.asarray(x)
        except MemoryError as error:
            raise out_of_memory(error) from None

    return put


def usable_cupy():
    """The module `cupy`, once it has added two numbers on a graphics card, and with kernels for its arrays.

    Raises ValueError, saying why, where it cannot.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise ValueError(not_imported(error)) from error
        raise ValueError(
            "device 'gpu' needs CuPy, which is not installed: pip install 'miniclip[gpu]', or use device 'cpu'."
        ) from error
    except (ImportError, RuntimeError, OSError) as error:  # built for another CUDA, a library that is missing
        raise ValueError(not_imported(error)) from error
    try:
        # `import cupy` succeeds on a machine without a graphics card, and a card that is there may not work: ask.
        if cupy.cuda.is_available():
            cupy.zeros(1) + 1
            register(cupy.ndarray)
            return cupy
        reason = "the driver counts none" if cupy.cuda.runtime.getDeviceCount() == 0 else ""
    except MemoryError as error:
        raise out_of_memory(error) from None
    except Exception as error:  # CuPy's errors have no common ancestor
        reason = last_line(error)
    reason = f" ({reason})" if reason else ""
    raise ValueError(f"CuPy is installed but finds no usable graphics card{reason}; use device 'cpu'.")


def not_imported(error):
    """The sentence for a CuPy that is there and does not load."""
    return f"CuPy is installed but cannot be imported ({last_line(error)}); use device 'cpu'."


def full_card(error):
    """The sentence for a MemoryError of CuPy."""
    import cupy

    free, total = cupy.cuda.Device().mem_info
    return (
        f"the graphics card's memory ran out: it has {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of them free "
        f"({last_line(error)}); use device 'cpu', or a smaller batch or model."
    )


def register(array_type):
    """Let the core's functions use the kernels for arrays of this type, and what CuPy needs done otherwise."""
    for plain, kernel in KERNELS:
        plain.register(array_type, where_it_fits(kernel, plain.plain, array_type))
    for plain in (conv.batch_norm, layers.gelu):
        plain.register(array_type, in_float32(plain.plain))
    core_attention.matmul.register(array_type, matmul)
    layers.sum_rows.register(array_type, kernels.sum_rows)
    layers.sum_by_id.register(array_type, kernels.sum_by_id)
    optim.update.register(array_type, update)
    optim.squared_norm.register(array_type, squared_norm)


def where_it_fits(kernel, plain, array_type):
    """The kernel for arrays of one real dtype that are not empty, `plain` for all else."""

    def either(*args, **named):
        x, *others = (arg for arg in (*args, *named.values()) if type(arg) is array_type)
        fits = x.dtype.name in C_TYPES and x.size and all(arg.dtype == x.dtype for arg in others)
        return (kernel if fits else plain)(*args, **named)

    return either
