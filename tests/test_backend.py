"""Whose array is it, threads, and memory that runs out."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import miniclip
from miniclip import CLIP
from miniclip.backend import OutOfMemory, array_module, cpu_count, dispatch, out_of_memory, to_array_on, worker_threads
from miniclip.init import initialize, model_config
from miniclip.tokenizer import Tokenizer
from miniclip.tree import to_device


@pytest.mark.parametrize("x", [np.zeros(3), np.float64(1), 1.0, [1, 2], np.ma.zeros(2)])
def test_numpy_is_the_library_of_everything_here(x):
    assert array_module(x) is np


def test_a_cupy_array_brings_its_library(monkeypatch):
    cupy = ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    array = type("ndarray", (), {"__module__": "cupy._core.core", "get": lambda self: np.arange(3)})()
    assert array_module(array) is cupy
    assert (to_array_on("cpu")(array) == [0, 1, 2]).all()


def test_to_the_cpu_copies_nothing():
    x = np.zeros(3)
    assert to_array_on("cpu")(x) is x


# ------------------------------------------------------------------------------------------ dispatch


class Other(np.ndarray):
    """An array of another library."""


@dispatch
def scaled(x, factor=2, shift=None):
    """y = factor · x."""
    return "plain", factor


def test_a_kernel_stands_in_for_arrays_of_its_type():
    scaled.register(Other, lambda x, factor=2, shift=None: ("kernel", factor))
    plain, other = np.zeros(3), np.zeros(3).view(Other)
    assert scaled(plain) == scaled(plain, factor=2) == ("plain", 2)
    assert scaled(other) == scaled(x=other) == ("kernel", 2)
    assert scaled(other, factor=7) == scaled(other, 7) == ("kernel", 7)
    assert scaled(plain, 3, other) == scaled(plain, 3, shift=other) == ("kernel", 3)  # any of the arguments
    assert scaled.plain(other, 5) == ("plain", 5)
    assert scaled.__doc__ == "y = factor · x." and scaled.__name__ == "scaled"


# ------------------------------------------------------------------------------------------ devices


def test_an_unknown_device():
    with pytest.raises(ValueError, match="device is 'tpu'; choose 'cpu' or 'gpu'"):
        to_array_on("tpu")


def test_a_gpu_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ValueError, match="needs CuPy, which is not installed"):
        to_array_on("gpu")


BANNER = """
================================================================
Failed to import CuPy. Please make sure that it is installed properly.

Original error:
  ImportError: libcuda.so.1: cannot open shared object file
================================================================
"""


@pytest.mark.parametrize(
    "raised, why",
    [
        (f"ImportError({BANNER!r})", "ImportError: libcuda.so.1: cannot open shared object file"),
        ("RuntimeError('CuPy failed to load libnvrtc.so.12.')", "CuPy failed to load libnvrtc.so.12"),
        ("RuntimeError()", "RuntimeError"),
        ("ModuleNotFoundError('No module named fastrlock', name='fastrlock')", "No module named fastrlock"),
    ],
)
def test_a_cupy_that_cannot_be_imported(monkeypatch, tmp_path, raised, why):
    (tmp_path / "cupy.py").write_text(f"raise {raised}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(ValueError) as error:
        to_array_on("gpu")
    assert str(error.value) == f"CuPy is installed but cannot be imported ({why}); use device 'cpu'."


@pytest.mark.parametrize("error", [None, "cudaErrorInsufficientDriver: CUDA driver version is insufficient"])
def test_cupy_without_a_gpu(monkeypatch, error):
    def count():
        if error:
            raise RuntimeError(error)
        return 0

    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(is_available=lambda: False, runtime=SimpleNamespace(getDeviceCount=count))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(ValueError) as refusal:
        to_array_on("gpu")
    why = error or "the driver counts none"
    assert str(refusal.value) == f"CuPy is installed but finds no usable graphics card ({why}); use device 'cpu'."


@pytest.mark.double
def test_a_gpu_that_does_not_compute(card, monkeypatch):
    """A card that another program holds, or a compiler that is not there: known before anything is moved to it."""

    def zeros(size):
        raise RuntimeError("cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr("cupy.zeros", zeros)
    said = "no usable graphics card .cudaErrorDevicesUnavailable: .* or unavailable.; "
    with pytest.raises(ValueError, match=said):
        to_array_on("gpu")


@pytest.mark.double
def test_to_the_gpu_and_back(card, cupy):
    x, move = np.arange(3), to_array_on("gpu")
    with card.counting() as counts:
        there = move(x)
        assert move(there) is there and counts.syncs == [] and len(counts.uploads) == 1
    assert array_module(there) is cupy and type(there) is cupy.ndarray
    assert type(to_array_on("cpu")(there)) is np.ndarray and (to_array_on("cpu")(there) == x).all()


# ------------------------------------------------------------------------------------------ memory


FULL = (
    "the graphics card's memory ran out: it has 12.0 GiB, 12.0 GiB of them free (Out of memory allocating 4,096 "
    "bytes (allocated so far: 2,048 bytes, limit set to: 2,048 bytes)); use device 'cpu', or a smaller batch or "
    "model."
)


@pytest.fixture
def full():
    """A card of 12 GiB, of which this program may have 2,048 bytes, and has half of them."""
    from cupy_double import cupy_double

    with cupy_double(memory=12 << 30):
        import cupy

        cupy.get_default_memory_pool().set_limit(2048)
        yield cupy.zeros(100)


@pytest.mark.double
def test_a_card_that_is_full(full, tmp_path):
    for move in (to_array_on("gpu"), lambda x: to_device({"a": [x]}, "gpu")):
        with pytest.raises(OutOfMemory) as error:
            move(np.zeros(512))
        assert str(error.value) == str(out_of_memory(error.value)) == FULL
    tokenizer = Tokenizer.train(["a dog", "a cat"], 600)
    config = model_config("resnet-micro", vocab_size=tokenizer.vocab_size)
    miniclip.save(CLIP(initialize(config), config, tokenizer), tmp_path / "model.safetensors")
    with pytest.raises(OutOfMemory, match="^the graphics card's memory ran out: it has 12.0 GiB"):
        miniclip.load(tmp_path / "model.safetensors", device="gpu")


@pytest.mark.parametrize(
    "error, said", [(MemoryError(), ""), (MemoryError("Unable to allocate 3 GiB"), " (Unable to allocate 3 GiB)")]
)
def test_the_machines_memory(error, said):
    sentence = f"the machine's memory ran out{said}; less is needed for a smaller batch or a smaller model."
    assert str(out_of_memory(error)) == sentence


# ------------------------------------------------------------------------------------------ threads


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_results_come_in_order(threads):
    assert cpu_count() >= 1
    with worker_threads(threads) as pool:
        assert list(pool.map(lambda i: i * i, range(50))) == [i * i for i in range(50)]


def test_there_are_as_many_workers_as_asked_for():
    meet = threading.Barrier(3, timeout=10)
    with worker_threads(3) as pool:
        assert len(list(pool.map(lambda _: meet.wait(), range(3)))) == 3


def test_blas_is_held_to_one_thread_and_let_go():
    with threadpool_limits(2):
        before = [library["num_threads"] for library in threadpool_info()]
        with worker_threads(2):
            assert [library["num_threads"] for library in threadpool_info()] == [1] * len(before)
        assert [library["num_threads"] for library in threadpool_info()] == before
        assert 2 in before


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ZeroDivisionError), worker_threads(2) as pool:
        list(pool.map(lambda i: 1 / i, [1, 0]))


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads):
    with pytest.raises(ValueError, match=f"threads is {threads}; it must be at least 1"):
        with worker_threads(threads):
            pass
