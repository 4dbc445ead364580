"""The .cu files through NVIDIA's run-time compiler: every kernel, for two kinds of card. Compiled, not run.

The compiler needs no card: `pip install nvidia-cuda-nvrtc-cu12` (or `nvidia-cuda-nvrtc`, for CUDA 13).
"""

import ctypes
import re
import sys
from pathlib import Path

import pytest

from miniclip.gpu import launch

NVRTC = next((path for folder in sys.path for path in sorted(Path(folder).glob("nvidia/*/lib/libnvrtc.so.1?"))), None)
ALL = [(file, c_type) for file in launch.KERNELS for c_type in launch.C_TYPES.values()]
ALL = [(file, c_type) for file, c_type in ALL if file != "optim" or c_type in ("float", "double")]

pytestmark = [
    pytest.mark.double,
    pytest.mark.skipif(NVRTC is None, reason="not compiled for a card: needs `pip install nvidia-cuda-nvrtc-cu12`."),
]


def compile_for(architecture, code, names):
    """CUDA C++ -> (the machine code of a card, the log, {name expression: name in the machine code})."""
    nvrtc, program = ctypes.CDLL(str(NVRTC)), ctypes.c_void_p()

    def text(kind):
        size = ctypes.c_size_t()
        assert getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)) == 0, kind
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer) == 0, kind
        return buffer.raw

    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        for name in names:
            assert nvrtc.nvrtcAddNameExpression(program, name.encode()) == 0
        # As CuPy does, which adds -ftz, and so that the assembler tells what it used.
        options = [b"--std=c++17", b"-ftz=true", b"-arch=" + architecture.encode(), b"--ptxas-options=-v"]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = text("ProgramLog").rstrip(b"\0").decode()
        assert not failed, log
        lowered = {name: ctypes.c_char_p() for name in names}
        for name, symbol in lowered.items():
            assert nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)) == 0, name
        return text("CUBIN"), log, {name: symbol.value for name, symbol in lowered.items()}
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("file, c_type", ALL)
def test_compiled_not_run(architecture, file, c_type):
    names = launch.names_of(file, c_type)
    machine_code, log, lowered = compile_for(architecture, launch.source(file), names)
    assert machine_code.startswith(b"\x7fELF") and "warning" not in log.lower(), log
    assert len(set(lowered.values())) == len(names) and all(symbol in machine_code for symbol in lowered.values())
    # The assembler reports each kernel; what does not fit its registers it would spill to memory.
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) >= len(names) and set(spills) == {("0", "0", "0")}, log
