"""kernels.cu through NVIDIA's run-time compiler: every kernel, for two kinds of card. Compiled, not run.

The compiler needs no card: `pip install nvidia-cuda-nvrtc-cu12` (or `nvidia-cuda-nvrtc`, for CUDA 13).
"""

import ctypes
import re
import sys
from pathlib import Path

import pytest

from miniclip import kernels

PAIRS = [(real, gradient) for real in ("float", "double") for gradient in (real, "Half", "Bfloat16")]
TYPES = [(name,) for name in kernels.C_TYPES.values()] + PAIRS


def find_nvrtc():
    """The compiler's library, or None: libnvrtc.so.12 of the one package, or .13 of the other."""
    found = [path for folder in map(Path, sys.path) for path in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.1?"))]
    return found[0] if found else None


needs_nvrtc = pytest.mark.skipif(
    find_nvrtc() is None,
    reason="kernels.cu is neither compiled nor run by this test: it needs `pip install nvidia-cuda-nvrtc-cu12`.",
)


def compile_for(architecture, names):
    """kernels.cu -> (the machine code of a card, the log, {name expression: name in the machine code})."""
    nvrtc = ctypes.CDLL(str(find_nvrtc()))
    program = ctypes.c_void_p()
    code = Path(kernels.__file__).with_suffix(".cu").read_bytes()

    def text(kind, what):
        size = ctypes.c_size_t()
        assert getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)) == 0, what
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer) == 0, what
        return buffer.raw

    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None) == 0
    try:
        for name in names:
            assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
        # As CuPy does, which adds -ftz, and so that the assembler tells what it used.
        options = [b"--std=c++17", b"-ftz=true", b"-arch=" + architecture.encode(), b"--ptxas-options=-v"]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = text("ProgramLog", "the log").rstrip(b"\0").decode()
        assert not failed, log
        lowered = {}
        for name in names:
            symbol = ctypes.c_char_p()
            assert nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)) == 0, name
            lowered[name] = symbol.value.decode()
        return text("CUBIN", "the machine code"), log, lowered
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("types", TYPES, ids="-".join)
def test_compiled_not_run(architecture, types):
    names = kernels.names_of(types)
    cubin, log, lowered = compile_for(architecture, names)
    assert cubin.startswith(b"\x7fELF")
    assert "warning" not in log.lower(), log
    assert len(set(lowered.values())) == len(names)
    for name in names:
        assert lowered[name].encode() in cubin, f"{name} is not in the machine code"
    # The assembler reports each kernel; what does not fit its registers it would spill to memory.
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) >= len(names), log
    assert set(spills) == {("0", "0", "0")}, log
