"""Runs CUDA kernels on the processor: g++ and cuda_on_cpu.h in the place of NVRTC and the card.

    module = compile_cuda(code, ["double_it<float>"], ("--std=c++17",))
    module.get_function("double_it<float>")((blocks,), (32, 8), (x, np.int64(n)))

The functions take what CuPy's take, and are stricter: an argument must be of the very kind and size of the
kernel's parameter, where CuPy would pass its bytes as they are. It proves the kernels' arithmetic, their
indices and their barriers; not their speed, nor what only NVIDIA's own compiler and card can show.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

HEADER = Path(__file__).with_suffix(".h")
WRAPPER = """
extern "C" const char *describe_{i}()
{{
    static const std::string parameters = cuda_on_cpu::describe_kernel(&{name});
    return parameters.c_str();
}}
extern "C" const char *launch_{i}(const unsigned *grid, const unsigned *block, void **arguments, int reversed)
{{
    return cuda_on_cpu::launch(&{name}, grid, block, arguments, reversed);
}}
"""


class CudaError(RuntimeError):
    """The code does not compile, or a launch would be undefined or refused on a card."""


def compiler():
    """The path of g++, or None."""
    return shutil.which("g++")


def compile_cuda(code, name_expressions, options=("--std=c++17",)):
    """CUDA C++ -> `Module` of the kernels named. Raises CudaError with the compiler's words."""
    return _compile(code, tuple(name_expressions), tuple(options))


@functools.cache
def _compile(code, names, options):
    if compiler() is None:
        raise CudaError("running CUDA code on the processor needs g++, which is not installed.")
    wrappers = "".join(WRAPPER.format(i=i, name=name) for i, name in enumerate(names))
    # A fused multiply-add where the processor has one would make the last digit depend on the machine. FORTIFY takes
    # a jump from stack to stack for a fault.
    flags = ["-O1", "-shared", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w", *options]
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(f'#include "{HEADER}"\n#line 1 "kernels.cu"\n{code}\n{wrappers}', encoding="utf-8")
        done = subprocess.run([compiler(), *flags, str(source), "-o", str(library)], capture_output=True, text=True)
        if done.returncode:
            raise CudaError(f"g++ refuses this CUDA code:\n{done.stderr}")
        return Module(ctypes.CDLL(str(library)), names)  # loaded, it outlives its file


class Module:
    """Compiled kernels. `reversed`: run blocks and threads from the last to the first."""

    def __init__(self, library, names):
        self.library, self.names, self.reversed = library, names, False
        self.lock = threading.Lock()  # ctypes lets other threads run meanwhile

    def get_function(self, name):
        """The kernel of that name expression: f(grid, block, args, shared_mem=0)."""
        if name not in self.names:
            raise CudaError(f"{name} is not among the name expressions that were compiled.")
        return Kernel(self, name)


class Kernel:
    """One kernel; calling it runs it to the end."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        number = module.names.index(name)
        describe, self.launch = (getattr(module.library, f"{word}_{number}") for word in ("describe", "launch"))
        describe.restype = self.launch.restype = ctypes.c_char_p
        self.parameters = [(text[0], int(text[1:])) for text in describe().decode().split()]

    def __call__(self, grid, block, args, shared_mem=0):
        if shared_mem:
            raise CudaError(f"{self.name}: shared memory sized at launch is not emulated.")
        grid, block = ((*sizes, 1, 1)[:3] for sizes in (grid, block))
        for what, sizes, limits in (("grid", grid, (2**31 - 1, 65535, 65535)), ("block", block, (1024, 1024, 64))):
            if not all(type(size) is int and 1 <= size <= limit for size, limit in zip(sizes, limits)):
                raise CudaError(f"{self.name}: a {what} of {sizes} cannot be launched.")
        if block[0] * block[1] * block[2] > 1024:
            raise CudaError(f"{self.name}: a block of {block} has more than 1,024 threads.")
        if len(args) != len(self.parameters):
            raise CudaError(f"{self.name} has {len(self.parameters)} parameters, not {len(args)}.")
        values = [self._value(i, arg) for i, arg in enumerate(args)]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        dimensions = [(ctypes.c_uint * 3)(*sizes) for sizes in (grid, block)]
        with self.module.lock:
            fault = self.launch(*dimensions, pointers, int(self.module.reversed))
        if fault:
            raise CudaError(f"{self.name}: {fault.decode()}.")

    def _value(self, i, arg):
        """The bytes of one argument, as an array (1,). Python's numbers go as CuPy sends them: 64 bits each."""
        kind, size = self.parameters[i]
        if hasattr(arg, "dtype") and hasattr(arg, "flags") and not isinstance(arg, np.generic):  # an array
            given, value = ("p", arg.dtype.itemsize), np.array([address(arg)], np.uintp)
        elif isinstance(arg, (bool, int, float, np.bool_, np.integer, np.floating)):
            python = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(arg))
            value = np.array([arg], python)
            given = "f" if value.dtype.kind == "f" else "i", value.dtype.itemsize
        else:
            given, value = (type(arg).__name__, 0), None
        if given != (kind, size):
            raise CudaError(
                f"{self.name}: parameter {i} is {kind}{size}, the argument is {given[0]}{given[1]} "
                "(p: a pointer to numbers of so many bytes; f, i: a float or an integer of so many)."
            )
        return value


def address(array):
    """Where the first number of an array lies, be it NumPy's or boxed as CuPy's."""
    return array.ctypes.data if isinstance(array.data, memoryview) else array.data.ptr
