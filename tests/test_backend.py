import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from miniclip.backend import array_module, cpu_count, to_array_on, worker_threads


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


def test_an_unknown_device():
    with pytest.raises(ValueError, match="device is 'tpu'; choose 'cpu' or 'gpu'"):
        to_array_on("tpu")


def test_a_gpu_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ValueError, match="needs CuPy, which is not installed"):
        to_array_on("gpu")


def test_cupy_without_a_gpu(monkeypatch):
    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(ValueError, match="finds no usable graphics card"):
        to_array_on("gpu")


def test_there_is_at_least_one_processor():
    assert cpu_count() >= 1


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_results_come_in_the_order_of_the_shards(threads):
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
