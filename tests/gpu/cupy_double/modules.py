"""The modules: CUDA code run by cuda_on_cpu, products by cublas_double, and what stands under which name."""

import contextlib
import ctypes
import functools
from types import ModuleType, SimpleNamespace

import nccl_double
import numpy as np
from cublas_double import PARAMETERS, Cublas

from . import functions as f
from .arrays import ndarray
from .boxes import Box, boxes_in, inner
from .card import CUDARuntimeError, Event, OutOfMemoryError, Stream, Undefined, card, launch
from .memory import (
    Device,
    MemoryPool,
    PinnedMemory,
    device_properties,
    device_synchronize,
    empty_pinned,
    mem_get_info,
    zeros_pinned,
)
from .names import NAMES, missing
from .ufuncs import UFUNCS, ufunc

GUARD = 8192  # bytes


class RawModule:
    """CUDA code, run on the processor by cuda_on_cpu; a test without g++ is skipped."""

    def __init__(self, code=None, *, options=(), name_expressions=None):
        if code is None or not isinstance(options, tuple) or not name_expressions:
            raise TypeError("RawModule wants code, options that are a tuple, and name_expressions for templates.")
        self.arguments, self.names = (code, tuple(name_expressions), options), tuple(name_expressions)

    def get_function(self, name):
        if name not in self.names:
            raise CUDARuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return functools.partial(self._run, name)

    def _run(self, name, grid, block, args, *, shared_mem=0):
        import pytest

        on_cpu = pytest.importorskip("cuda_on_cpu")
        if on_cpu.compiler() is None:
            pytest.skip("the kernels' double needs g++")
        for x in args:
            if isinstance(x, (np.ndarray, float, complex)) and not isinstance(x, np.generic):
                raise TypeError(
                    f"{name}: a {type(x).__name__} as a kernel's argument is not what it looks like; "
                    "pass a CuPy array or a NumPy scalar of the parameter's size."
                )
        given = {x._memory for x in boxes_in(tuple(args))}
        launch(given, given)
        card().kernels.append((name, grid, block))
        module = on_cpu.compile_cuda(*self.arguments)
        module.reversed = card().reversed
        with amid_guards(given, name) as place_of:
            args = [place_of(x) if isinstance(x, Box) else x for x in args]
            module.get_function(name)(grid, block, args, shared_mem)


@contextlib.contextmanager
def amid_guards(blocks, name):
    """A kernel works on copies of its blocks of memory, with NaN on both sides: Undefined where it writes there.

    Yields what makes of a box an argument that lies in the copy.
    """
    memory = {block: (ctypes.c_byte * block.root.nbytes).from_address(block.ptr) for block in blocks}
    copies = {block: np.full(block.root.nbytes + 2 * GUARD, 0xFF, np.uint8) for block in blocks}
    for block, copy in copies.items():
        copy[GUARD:-GUARD] = np.frombuffer(memory[block], np.uint8)

    def place_of(x):
        pointer = x.data.ptr - x._memory.ptr + copies[x._memory].ctypes.data + GUARD
        return SimpleNamespace(dtype=x.dtype, flags=x.flags, data=SimpleNamespace(ptr=pointer))

    yield place_of
    for block, copy in copies.items():
        if not (copy[:GUARD] == 0xFF).all() or not (copy[-GUARD:] == 0xFF).all():
            raise Undefined(f"{name} writes beside an array of {block.root.nbytes} bytes.")
        np.frombuffer(memory[block], np.uint8)[:] = copy[GUARD:-GUARD]


class Blas:
    """cupy.cuda.cublas, from cublas_double. A, B and C must lie in the card's memory, and are used on a stream."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        known = getattr(Cublas(), name)
        if not callable(known):
            return known

        def call(*args):
            a, b, c = (card().block_at(args[PARAMETERS.index(key)]) for key in "ABC")
            launch([a, b], [c])
            with np.errstate(all="ignore"):  # a card does not warn
                getattr(Cublas([a.root, b.root, c.root], calls=card().products), name)(*args)

        return call


class Module(ModuleType):
    """A module that says of each name that it lacks whether CuPy has it."""

    def __init__(self, name, **names):
        super().__init__(name, "A double, not a GPU.")
        self.__dict__.update(names)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise missing(self.__name__, name)


SAME = """bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 floating
    integer inexact number dtype finfo iinfo inf nan pi e newaxis issubdtype promote_types can_cast"""
MAKING = "arange eye full identity linspace ones tri zeros"
LIKE_NUMPY = """all any amax amin argmax argmin argsort allclose array_equal array_split atleast_1d atleast_2d
    broadcast_to copy count_nonzero cumprod cumsum diag diagonal dot expand_dims flip full_like isclose max
    mean min moveaxis nan_to_num ones_like outer pad prod ravel repeat reshape roll round sort split squeeze std sum
    swapaxes take_along_axis tensordot tile trace transpose var vdot zeros_like"""
CONSTANTS = {"CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14}


def modules():
    """{name: module} for sys.modules."""
    runtime = Module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        memGetInfo=mem_get_info,
        getDeviceCount=lambda: int(card().available),
        getDeviceProperties=device_properties,
        getDevice=lambda: 0,
        deviceSynchronize=device_synchronize,
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        **CONSTANTS,
    )
    memory = Module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError)
    device = Module(
        "cupy.cuda.device", get_cublas_handle=lambda: 1, Device=Device, get_compute_capability=lambda: card().capability
    )
    cuda = Module(
        "cupy.cuda",
        runtime=runtime,
        memory=memory,
        device=device,
        cublas=Blas(),
        nccl=nccl_double,
        Device=Device,
        Event=Event,
        Stream=Stream,
        is_available=lambda: card().available,
        get_current_stream=lambda device_id=None: card().stream(),
        alloc_pinned_memory=PinnedMemory,
        MemoryPool=MemoryPool,
        get_device_id=lambda: 0,
        get_cublas_handle=lambda: 1,
    )
    core = Module(
        "cupy._core",
        get_compute_type=lambda dtype: card().compute_types.get(np.dtype(dtype), 1),
        set_compute_type=lambda dtype, kind: card().compute_types.update({np.dtype(dtype): kind}),
        _routines_linalg=Module(
            "cupy._core._routines_linalg", **{f"COMPUTE_TYPE_{name}": i for name, i in f.COMPUTE_TYPES.items()}
        ),
    )
    tricks = Module("cupy.lib.stride_tricks", as_strided=f.as_strided)
    lib = Module("cupy.lib", stride_tricks=tricks)
    linalg = Module("cupy.linalg", norm=f.like_numpy("cupy.linalg", "norm", np.linalg))
    random = Module("cupy.random")
    cupy = Module(
        "cupy",
        ndarray=ndarray,
        ufunc=ufunc,
        cuda=cuda,
        lib=lib,
        linalg=linalg,
        random=random,
        _core=core,
        array=f.array,
        asarray=f.asarray,
        asanyarray=f.asarray,
        asnumpy=f.asnumpy,
        empty=f.empty,
        empty_like=f.empty_like,
        ascontiguousarray=f.ascontiguousarray,
        where=f.where,
        matmul=f.matmul,
        RawModule=RawModule,
        get_array_module=f.get_array_module,
        get_default_memory_pool=MemoryPool,
        result_type=lambda *args: np.result_type(*map(inner, args)),
        __version__=[*NAMES["version"]][0],
        clip=f.clip,
        take=lambda a, indices, axis=None, out=None: a.take(indices, axis, out),
    )
    cupy.__dict__.update(UFUNCS)
    cupy.__dict__.update({name: getattr(np, name) for name in SAME.split()})
    cupy.__dict__.update({name: f.like_numpy("cupy", name) for name in LIKE_NUMPY.split()})
    cupy.__dict__.update({name: f.triangle(name) for name in ("tril", "triu")})
    cupy.__dict__.update({name: f.making(name) for name in MAKING.split()})
    cupy.__dict__.update({name: f.of_arrays(name) for name in ("concatenate", "stack", "vstack", "hstack")})
    cupy.__dict__.update({name: f.waiting(name) for name in ("nonzero", "flatnonzero", "argwhere", "unique")})
    cupyx = Module(
        "cupyx",
        empty_pinned=empty_pinned,
        zeros_pinned=zeros_pinned,
        scatter_add=lambda a, slices, value: a.scatter_add(slices, value),
    )
    all_of_them = (cupy, cuda, runtime, memory, device, lib, tricks, linalg, random, core, cupyx)
    return {module.__name__: module for module in all_of_them}
