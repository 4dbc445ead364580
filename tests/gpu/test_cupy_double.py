"""The doubles of CuPy and of cuBLAS: that they are not more lenient than what they stand in for."""

import ctypes
import gc
import sys

import numpy as np
import pytest
from cublas_double import Cublas, CublasError, tf32
from cupy_double import CUPY, MODULES, NAMES, cupy_double, is_pinned, survey
from cupy_double.card import CUDARuntimeError, OutOfMemoryError, Race, Undefined

from miniclip.gpu.matmul import matmul

pytestmark = [pytest.mark.double, pytest.mark.slow]

# ------------------------------------------------------------------------------------------ whose names it has


def test_the_names_are_those_of_an_installed_cupy():
    """Where one is installed, with ml_dtypes for bfloat16. It needs no graphics card."""
    pytest.importorskip("ml_dtypes")
    installed = pytest.importorskip("cupy", reason="CuPy is not installed: no names to compare", exc_type=ImportError)
    theirs = survey(installed)
    for space, module in MODULES.items():
        for name in vars(module).keys() & NAMES.get(space, {}).keys():
            assert theirs[space].get(name, "nothing") == NAMES[space][name], f"{space}.{name}"
    if theirs["version"] == NAMES["version"]:
        assert theirs == NAMES


def test_it_has_no_name_that_cupy_has_not(cupy):
    for space in NAMES.keys() & MODULES.keys():
        ours = {name for name in vars(MODULES[space]) if name[0] != "_"} - {"cublas", "nccl"}  # loaded when asked for
        assert ours <= NAMES[space].keys()
    assert {name for name in dir(cupy.ndarray) if name[0] != "_"} <= NAMES["cupy.ndarray"].keys()


def test_it_is_gone_afterwards():
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    with cupy_double():
        import cupy

        assert cupy is CUPY is not before.get("cupy")
    assert {name: module for name, module in sys.modules.items() if name.startswith("cupy")} == before


# ------------------------------------------------------------------------------------------ what it refuses

MIXES = """x + a; a @ x; x == a; x.__iadd__(a); a.__iadd__(x); np.maximum(x, a); cupy.exp(a); cupy.sum(a); x.dot(a)
cupy.where(a > 0, x, x); np.concatenate([x, a]); cupy.stack([x, 1.0]); cupy.exp(x, out=a); cupy.matmul(x, x, out=a)
np.asarray(x); cupy.array([x, a]); x + [1, 2]; a.__setitem__(0, x); range(cupy.asarray(3))"""
REFUSED = {
    (TypeError, NotImplementedError): MIXES,
    AttributeError: "cupy.bogus; x.itemset; x.flags.writeable; cupy.random.Generator",  # which CuPy has not
    NotImplementedError: "cupy.einsum; x.partition; cupy.cuda.Stream().begin_capture",  # which it has
    TypeError: """cupy.sum(x, where=x > 0); x.max(initial=0); cupy.zeros(2, device="cpu"); x.astype(int, casting="safe")
cupy.floor(x * 1j); cupy.logical_and(x * 1j, x); cupy.ones(3, int).__iadd__(0.5)
cupy.add.at(cupy.zeros(3, int), i, cupy.ones(2, int)); cupy.add.at(cupy.zeros(3, "bfloat16"), i, x[0])""",
    ValueError: """x.__setitem__(..., a); x.__setitem__(0, a[0]); cupy.asarray(np.array(["a"]))
cupy.add(x[0], 1, out=x); cupy.matmul(x[0, 0], x)""",  # the second: NumPy would repeat it
    IndexError: "x[2]; x[0, 0, 0]",
    Undefined: """x[0].__setitem__(i, x[0]); cupy.lib.stride_tricks.as_strided(x, (3, 2), (8, 32))""",
}
REFUSED = [(error, code) for error, codes in REFUSED.items() for code in codes.replace("\n", "; ").split("; ")]


@pytest.mark.parametrize("error, code", REFUSED)
def test_what_is_refused(cupy, error, code):
    a, x = np.ones((2, 2)), cupy.ones((2, 2))
    with pytest.raises(error):
        eval(code, {"cupy": cupy, "np": np, "a": a, "x": x, "i": cupy.asarray([1, 1])})
    assert (a == 1).all() and (x.get() == 1).all()


def test_numbers_take_the_type_of_an_array(cupy):
    x = cupy.ones(2, np.float32)
    for number, dtype in (1, "float32"), (0.5, "float32"), (np.float64(2), "float64"), (1j, "complex64"):
        assert (x * number).dtype == (number * x).dtype == dtype


def test_bfloat16_as_cupy_has_it(cupy):
    """Where CuPy's list of types has no bfloat16 the answer is float32, in silence; a Python float makes it so too."""
    x = cupy.ones((2, 3), "bfloat16")
    same = [x + x, x * 2, -x, cupy.maximum(x, 0), x @ x.T, x[None] @ x.T[None], x.sum(0), x.mean(1), x.max(), x / 2]
    assert {str(array.dtype) for array in (*same, cupy.concatenate([x, x]), cupy.sqrt(x), x * (x > 0))} == {"bfloat16"}
    single = [x * 0.5, cupy.where(x > 0, x, x), cupy.clip(x, 0, 1), x + x.astype(np.float32), x * np.float32(2)]
    assert {str(array.dtype) for array in single} == {"float32"}
    ones = cupy.ones((1, 500), "bfloat16")  # summed in float32: in bfloat16, 1 more than 256 would be 256
    assert float((ones @ ones.T)[0, 0]) == 500


# ------------------------------------------------------------------------------------------ what it counts


WAITS = """float(x); bool(x); str(x); f"{x}"; x.item(); x.tolist(); x.get(); cupy.asnumpy(x); one[one > 1]
cupy.where(one); cupy.unique(one); cupy.cuda.Device().synchronize(); cupy.cuda.Event().synchronize()
cupy.cuda.Stream.null.synchronize(); one.set(np.ones(1))"""


@pytest.mark.parametrize("wait", WAITS.replace("\n", "; ").split("; "))
def test_a_wait_is_counted(card, cupy, wait):
    x, one = cupy.ones(()), cupy.ones(1)
    with card.counting() as counts:
        y = cupy.asarray([1, 2]) + x
        y[0] *= 2
        assert counts.syncs == [] and counts.launches >= 3 and len(counts.uploads) == 1
        eval(wait, {"cupy": cupy, "np": np, "x": x, "one": one})
    assert len(counts.syncs) == 1


# ------------------------------------------------------------------------------------------ what is not defined


def test_what_was_never_written_or_was_let_go_is_nan(cupy):
    for dtype in ("float64", "float32", "float16", "complex64"):
        assert np.isnan(cupy.empty(3, dtype).get()).all() and np.isnan(cupy.empty_like(cupy.ones(3, dtype)).get()).all()
    assert (cupy.empty(3, np.int64).get() < -(10**18)).all()
    x = cupy.ones(1000)
    pointer, kept = x.data.ptr, x._memory.root  # `kept` keeps NumPy from giving it away
    del x
    gc.collect()
    assert np.isnan(ctypes.c_double.from_address(pointer).value) and np.isnan(kept).all()


def test_an_index_out_of_range_wraps_round(cupy):
    x = cupy.arange(5.0)
    assert x[cupy.asarray([5, -6, 12])].get().tolist() == [0, 4, 2] == x.take([5, -6, 12]).get().tolist()
    cupy.add.at(x, cupy.asarray([6, 6]), cupy.ones(2))
    assert x.get().tolist() == [0, 3, 2, 3, 4]


# ------------------------------------------------------------------------------------------ memory


def test_a_card_that_is_full():
    with cupy_double(memory=1 << 20) as card:
        x = CUPY.zeros(1 << 16)
        view = x[1:]
        with pytest.raises(OutOfMemoryError, match="Out of memory allocating 1,048,576 bytes"):
            CUPY.concatenate([x, x])
        del x
        assert card.used == 1 << 19
        del view
        assert card.used == 0 and issubclass(OutOfMemoryError, MemoryError) and CUPY.zeros(1 << 17).size
        CUPY.get_default_memory_pool().set_limit(4096)
        with pytest.raises(OutOfMemoryError, match="limit set to: 4,096"):
            CUPY.zeros(1000)
    with cupy_double(available=False), pytest.raises(CUDARuntimeError, match="no CUDA-capable device"):
        CUPY.zeros(1)


# ------------------------------------------------------------------------------------------ streams


@pytest.fixture
def side(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def test_two_streams_need_an_event(cupy, side):
    x, main = cupy.zeros(3), cupy.cuda.get_current_stream()
    event = main.record()
    x += 1
    side.wait_event(event)  # from before the write
    with pytest.raises(Race, match="reads on stream 1 what the main stream"), side:
        x + 1
    side.wait_event(main.record())
    with side:
        y = x + 1
        done = side.record()
    with pytest.raises(Race, match="reads on the main stream what stream 1"):
        y.sum()
    x + 1  # both may read
    with pytest.raises(Race, match="writes on the main stream"):
        x += 1
    main.wait_event(done)
    x += y
    assert x.get().tolist() == [3, 3, 3]


def test_memory_that_is_let_go_while_another_stream_reads_it(cupy, side):
    x = cupy.zeros(3)
    side.wait_event(cupy.cuda.get_current_stream().record())
    with side:
        y = x + 1
        del x
        with pytest.raises(Race, match="let go while stream 1"):
            y + 1


def test_copies_from_pinned_and_from_other_memory(card, cupy, side):
    import cupyx

    pinned, x = cupyx.empty_pinned(3, np.float32), cupy.empty(3, np.float32)
    assert is_pinned(pinned[1:]) and not is_pinned(np.ones(3)) and np.isnan(pinned).all()
    side.wait_event(cupy.cuda.get_current_stream().record())
    pinned[...] = 1
    with card.counting() as counts:
        x.set(pinned, stream=side)
        copied = side.record()
    assert counts.syncs == [] and len(counts.uploads) == 1 and not copied.done
    with pytest.raises(Race):
        x.sum()
    pinned[0] = 2
    with pytest.raises(Race, match="pinned memory"):  # written to too early
        side.synchronize()
    with card.counting() as counts:
        x.set(np.ones(3, np.float32), stream=side)
    assert len(counts.syncs) == 1 and counts.uploads == []


# ------------------------------------------------------------------------------------------ kernels and products

CODE = """template <typename T> __global__ void scale(const T *x, T *y, int n, T by)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = by * x[i]; }"""


def test_what_a_kernel_cannot_take(cupy, side):
    module = cupy.RawModule(code=CODE, name_expressions=["scale<float>"])
    scale, x, n, by = module.get_function("scale<float>"), cupy.zeros(3, np.float32), np.int32(3), np.float32(3)
    scale((1,), (64,), (x, x, n, by))
    for args in [
        (x.get(), x, n, by),
        (x, x, n, 3.0),
        (x, x, 3, by),
        (x, x, n, np.float64(3)),
        (x.astype(float), x, n, by),
    ]:
        with pytest.raises((TypeError, RuntimeError)):
            scale((1,), (64,), args)
    with pytest.raises(Undefined, match="writes beside an array of 12 bytes"):
        scale((1,), (64,), (cupy.ones(4, np.float32), x, np.int32(4), by))
    with pytest.raises(CUDARuntimeError, match="not found"):
        module.get_function("scale")
    x += 1
    with pytest.raises(Race), side:  # it is work on a stream
        scale((1,), (64,), (x, x, n, by))


def test_cublas_is_work_on_a_stream_in_the_cards_memory(cupy, side):
    x, host, one = cupy.ones((2, 3, 3)) + 1, np.ones((2, 3, 3)), np.array([1.0, 0.0])
    with pytest.raises(Race), side:
        matmul(x, x)
    product = [1, 0, 0, 3, 3, 3, one.ctypes.data, x.data.ptr, 1, 3, 9, host.ctypes.data, 1, 3, 9, one.ctypes.data + 8]
    with pytest.raises(Undefined, match="no address in the card's memory"):
        cupy.cuda.cublas.gemmStridedBatchedEx(*product, cupy.empty((2, 3, 3)).data.ptr, 1, 3, 9, 2, 70, -1)


def test_cublas_multiplies_and_refuses_as_it_does(normal):
    a, b = (np.asfortranarray(normal(*shape).astype(np.float32)) for shape in ((4, 5), (5, 3)))
    c, scalars = np.full((4, 3), np.nan, np.float32, order="F"), np.array([1, 0], np.float32)
    cublas = Cublas([a, b, c], handle=77)
    given = {"handle": 77, "transa": 0, "transb": 0, "m": 4, "n": 3, "k": 5, "alpha": scalars.ctypes.data}
    given |= {
        "A": a.ctypes.data,
        "Atype": 0,
        "lda": 4,
        "strideA": 0,
        "B": b.ctypes.data,
        "Btype": 0,
        "ldb": 5,
        "strideB": 0,
    }
    given |= {"beta": scalars.ctypes.data + 4, "C": c.ctypes.data, "Ctype": 0, "ldc": 4, "strideC": 0}
    given |= {"batchCount": 1, "computeType": 68, "algo": -1}
    cublas.gemmStridedBatchedEx(*given.values())
    assert np.allclose(c, a @ b, atol=1e-6)
    wrong = [{"handle": 1}, {"lda": 3}, {"ldb": 4}, {"ldc": 3}, {"m": 0}, {"transa": 2}, {"Btype": 2}, {"algo": 5}]
    wrong += [{"computeType": 64}, {"n": 4}, {"lda": 5}, {"C": a.ctypes.data + 4 * 12}, {"strideA": -1}]
    for change in wrong:
        with pytest.raises(CublasError):
            cublas.gemmStridedBatchedEx(*(given | change).values())
    with pytest.raises(TypeError):
        cublas.gemmStridedBatchedEx(*(given | {"k": np.int64(5)}).values())
    assert tf32(np.float32([1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11])).tolist() == [1 + 2**-10, 1, 1 + 2**-9]
