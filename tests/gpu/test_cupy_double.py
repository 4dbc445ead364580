"""The double of CuPy itself: what it refuses, counts, poisons and orders, and that else it is NumPy."""

import ctypes
import gc
import sys

import numpy as np
import pytest
from cublas_double import CublasError
from cupy_double import (
    CUPY,
    MODULES,
    NAMES,
    CUDARuntimeError,
    OutOfMemoryError,
    Race,
    Undefined,
    cupy_double,
    is_pinned,
    survey,
)

from miniclip.gpu.matmul import matmul

# ------------------------------------------------------------------------------------------ whose names it has


def test_the_names_are_those_of_an_installed_cupy():
    """Where one is installed, with ml_dtypes for bfloat16. It needs no graphics card."""
    pytest.importorskip("ml_dtypes")
    installed = pytest.importorskip(
        "cupy", reason="CuPy is not installed: its names are not compared", exc_type=ImportError
    )
    theirs = survey(installed)
    for space, module in MODULES.items():
        for name in vars(module).keys() & NAMES.get(space, {}).keys():
            assert theirs[space].get(name, "nothing") == NAMES[space][name], f"{space}.{name}"
    if theirs["version"] == NAMES["version"]:
        assert theirs == NAMES


@pytest.mark.parametrize("space", [space for space in NAMES if space in MODULES])
def test_it_has_no_name_that_cupy_has_not(space):
    lazy = {"cupy.cuda": {"cublas"}}.get(space, set())
    ours = {name for name in vars(MODULES[space]) if name[0] != "_"}
    assert ours - lazy <= NAMES[space].keys()


def test_it_has_no_method_that_cupy_has_not():
    assert {name for name in dir(CUPY.ndarray) if name[0] != "_"} <= NAMES["cupy.ndarray"].keys()


def test_a_name_that_cupy_has_not(cupy):
    for ask in (
        lambda: cupy.bogus,
        lambda: cupy.random.Generator,
        lambda: cupy.ones(2).itemset,
        lambda: cupy.linalg.cond_number,
        lambda: cupy.ones(2).flags.writeable,
        lambda: cupy.ones(2).ctypes,
    ):
        with pytest.raises(AttributeError):
            ask()


def test_a_name_that_only_cupy_has(cupy):
    for ask, name in (
        (lambda: cupy.einsum, "cupy.einsum"),
        (lambda: cupy.ones(2).partition, "cupy.ndarray.partition"),
        (lambda: cupy.random.default_rng, "random.default_rng"),
        (lambda: cupy.cuda.Graph, "cuda.Graph"),
        (lambda: cupy.cuda.Stream().begin_capture, "Stream.begin_capture"),
    ):
        with pytest.raises(NotImplementedError, match=name):
            ask()


def test_parameters_that_cupy_has_not(cupy):
    x = cupy.ones((2, 2))
    for call in (
        lambda: cupy.sum(x, where=x > 0),
        lambda: x.max(initial=0),
        lambda: cupy.take(x, [0], mode="clip"),
        lambda: cupy.exp(x, where=x > 0),
        lambda: cupy.zeros(2, device="cpu"),
        lambda: x.astype(int, casting="safe"),
    ):
        with pytest.raises(TypeError):
            call()


def test_it_is_gone_afterwards():
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    with cupy_double():
        import cupy
        import cupy.cuda.runtime

        assert cupy is CUPY is not before.get("cupy")
    assert {name: module for name, module in sys.modules.items() if name.startswith("cupy")} == before


# ------------------------------------------------------------------------------------------ NumPy does not mix


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, a, cupy: x + a,
        lambda x, a, cupy: a + x,
        lambda x, a, cupy: x @ a,
        lambda x, a, cupy: a @ x,
        lambda x, a, cupy: x == a,
        lambda x, a, cupy: x.__iadd__(a),
        lambda x, a, cupy: a.__iadd__(x),
        lambda x, a, cupy: cupy.maximum(x, a),
        lambda x, a, cupy: np.maximum(x, a),
        lambda x, a, cupy: cupy.exp(a),
        lambda x, a, cupy: cupy.sum(a),
        lambda x, a, cupy: cupy.where(x > 0, x, a),
        lambda x, a, cupy: cupy.where(a > 0, x, x),
        lambda x, a, cupy: x[: cupy.asarray(1)],
        lambda x, a, cupy: cupy.concatenate([x, a]),
        lambda x, a, cupy: np.concatenate([x, a]),
        lambda x, a, cupy: cupy.stack([x, 1.0]),
        lambda x, a, cupy: cupy.exp(x, out=a),
        lambda x, a, cupy: np.exp(a, out=x),
        lambda x, a, cupy: cupy.matmul(x, x, out=a),
        lambda x, a, cupy: x.sum(0, out=a[0]),
        lambda x, a, cupy: np.asarray(x),
        lambda x, a, cupy: np.array([x, x]),
        lambda x, a, cupy: cupy.array([x, a]),
        lambda x, a, cupy: x.dot(a),
        lambda x, a, cupy: x + [1, 2],
        lambda x, a, cupy: cupy.sum([1, 2]),
        lambda x, a, cupy: np.copyto(a, x),
        lambda x, a, cupy: a.__setitem__(0, x),
        lambda x, a, cupy: range(cupy.asarray(3)),
    ],
)
def test_a_mix(cupy, mix):
    a = np.ones((2, 2))
    with pytest.raises((TypeError, NotImplementedError)):
        mix(cupy.ones((2, 2)), a, cupy)
    assert np.array_equal(a, np.ones((2, 2)))


def test_assigning_a_numpy_array(cupy):
    """A view does not take one; where an index stands, CuPy sends it to the card, and that is counted."""
    x = cupy.zeros((2, 2))
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = np.ones((2, 2))
    with pytest.raises(ValueError, match="non-scalar"):
        x[0] = np.ones(2)
    x[0] = np.float32(3)
    x[1] = np.array(4)
    assert x.get().tolist() == [[3, 3], [4, 4]]


def test_numbers_mix(cupy):
    x = cupy.ones(2, np.float32)
    for number, dtype in (
        (1, np.float32),
        (0.5, np.float32),
        (True, np.float32),
        (np.float32(2), np.float32),
        (np.float64(2), np.float64),
        (1j, np.complex64),
    ):
        assert (x * number).dtype == (number * x).dtype == dtype
        assert type(x * number) is type(number * x) is cupy.ndarray
    assert (x * cupy.ones((), np.float64)).dtype == np.float64


# ------------------------------------------------------------------------------------------ what it counts


@pytest.mark.parametrize(
    "wait",
    [
        float,
        int,
        bool,
        complex,
        str,
        repr,
        lambda x: f"{x}",
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.get(),
        lambda x: CUPY.asnumpy(x),
        lambda x: x if x else x,
        lambda x: CUPY.arange(3)[CUPY.arange(3) > 1],
        lambda x: x.reshape(1).nonzero(),
        lambda x: CUPY.where(x.reshape(1)),
        lambda x: CUPY.unique(x.reshape(1)),
        lambda x: 1.0 in x.reshape(1),
        lambda x: CUPY.cuda.Device().synchronize(),
        lambda x: CUPY.cuda.Event().synchronize(),
        lambda x: CUPY.cuda.Stream.null.synchronize(),
        lambda x: CUPY.cuda.runtime.deviceSynchronize(),
        lambda x: CUPY.asarray(np.ones(2), blocking=True),
        lambda x: CUPY.ones(2).set(np.ones(2)),
        lambda x: x.tobytes(),
    ],
)
def test_a_wait_is_counted_where_it_is(card, cupy, wait):
    x = cupy.ones(())
    with card.counting() as counts:
        x + x
        assert counts.syncs == []
        wait(x)
    assert len(counts.syncs) == 1 and counts.syncs[0].startswith("test_cupy_double.py:")
    wait(x)
    assert len(counts.syncs) == 1


def test_what_does_not_wait(card, cupy):
    x = cupy.arange(12.0).reshape(3, 4)
    with card.counting() as counts:
        y = x[[0, 1]] + x[cupy.asarray([1, 2])].sum(0)
        y[0, 1:] *= 2
        cupy.where(y > 1, y, 0).argmax(-1)
        cupy.allclose(y, y)
        len(x), x.shape, list(x), x[-1, 2], x[0].T
    assert counts.syncs == [] and counts.launches > 8
    assert [copy.split()[1] for copy in counts.uploads] == ["asarray", "asarray"]  # of [0, 1] and [1, 2]


# ------------------------------------------------------------------------------------------ what is not defined


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "complex64"])
def test_what_was_never_written_is_nan(cupy, dtype):
    assert np.isnan(cupy.empty(3, dtype).get()).all() and np.isnan(cupy.empty_like(cupy.ones(3, dtype)).get()).all()
    half = cupy.empty(4, dtype)
    half[:2] = 1
    assert np.isnan(half.sum().get())


def test_integers_that_were_never_written_are_absurd(cupy):
    assert (cupy.empty(3, np.int64).get() < -(10**18)).all() and (cupy.empty(3, np.int32).get() < -2 * 10**9).all()


def test_memory_that_was_let_go_is_poisoned(cupy):
    x = cupy.ones(1000)
    pointer, kept = x.data.ptr, x._memory.root  # `kept` keeps NumPy from giving it away
    assert ctypes.c_double.from_address(pointer).value == 1
    del x
    gc.collect()
    assert np.isnan(ctypes.c_double.from_address(pointer).value) and np.isnan(kept).all()


def test_an_index_out_of_range_wraps_round(cupy):
    x = cupy.arange(5)
    assert x[cupy.asarray([5, -6, 12])].get().tolist() == [0, 4, 2] == x.take([5, -6, 12]).get().tolist()
    x[cupy.asarray([6])] = 9
    assert x[1].item() == 9
    with pytest.raises(IndexError):
        x[5]


def test_an_index_that_stands_twice(cupy):
    x, twice = cupy.zeros(4), cupy.asarray([1, 1])
    with pytest.raises(Undefined):
        x[twice] = cupy.ones(2)
    with pytest.raises(Undefined):
        x[twice] += cupy.ones(2)
    x[twice] = 3.0
    cupy.add.at(x, twice, cupy.ones(2))
    assert x.get().tolist() == [0, 5, 0, 0]


def test_a_view_that_leaves_its_memory(cupy):
    x = cupy.arange(6.0)
    strided = cupy.lib.stride_tricks.as_strided
    assert strided(x, (3, 2), (8, 16)).get().tolist() == [[0, 2], [1, 3], [2, 4]]
    with pytest.raises(Undefined):
        strided(x, (3, 2), (8, 32))


# ------------------------------------------------------------------------------------------ types and shapes


@pytest.mark.parametrize(
    "dtype, has",
    [
        ("float64", True),
        ("float32", True),
        ("float16", True),
        ("int32", True),
        ("uint64", True),
        ("int64", False),
        ("int8", False),
        ("complex64", False),
    ],
)
def test_add_at_has_few_types(cupy, dtype, has):
    x, at = cupy.zeros(3, dtype), cupy.asarray([0, 2, 2])
    if not has:
        with pytest.raises(TypeError, match="scatter_add"):
            cupy.add.at(x, at, cupy.ones(3, dtype))
        return
    cupy.add.at(x, at, cupy.ones(3, dtype))
    assert x.get().tolist() == [1, 0, 2]


def test_out_must_be_of_the_shape_of_the_answer(cupy):
    with pytest.raises(ValueError, match="Out shape"):
        cupy.add(cupy.ones(3), 1, out=cupy.ones((2, 3)))  # NumPy would repeat it
    with pytest.raises(ValueError):
        cupy.ones(3).__iadd__(cupy.ones((2, 3)))
    with pytest.raises(TypeError):
        cupy.ones(3, np.int32).__iadd__(0.5)
    with pytest.raises(ValueError, match="Scalar operands"):
        cupy.matmul(cupy.ones(()), cupy.ones(2))


def test_types_that_only_numpy_has(cupy):
    z = cupy.ones(2, np.complex64)
    for call in (lambda: cupy.logical_and(z, z), lambda: cupy.floor_divide(z, z), lambda: cupy.floor(z)):
        with pytest.raises(TypeError):
            call()
    for unsupported in (np.array(["a"]), np.array([object()]), np.ones(2, np.longdouble)):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(unsupported)


@pytest.mark.parametrize(
    "f",
    [
        lambda xp, x: x.sum(0) + x.mean(1, keepdims=True)[:4],
        lambda xp, x: xp.exp(x) @ x.T,
        lambda xp, x: x.argmax(-1),
        lambda xp, x: xp.concatenate([x, x[::-1]], 1),
        lambda xp, x: xp.stack([x, 2 * x], -1).reshape(-1, 2).max(0),
        lambda xp, x: xp.where(x > 0, x, 0),
        lambda xp, x: xp.triu(xp.full((3, 3), -np.inf, np.float32), 1),
        lambda xp, x: xp.broadcast_to(x[:, :1], (4, 5)) * xp.eye(4, 5),
        lambda xp, x: x[xp.arange(4), [0, 1, 2, 0]],
        lambda xp, x: x[:, xp.asarray([[0, 1], [2, 2]])],
        lambda xp, x: x[x > 0],
        lambda xp, x: x.repeat(2, axis=1),
        lambda xp, x: xp.nan_to_num(x / 0),
        lambda xp, x: xp.clip(xp.rint(x * 3), -2, 2).astype(np.int64),
        lambda xp, x: xp.log1p(xp.tanh(x)) - xp.sqrt(abs(x)),
        lambda xp, x: (x > 0).all(),
        lambda xp, x: 1 - x**2 / 3,
        lambda xp, x: x.transpose(1, 0).copy().ravel()[::2],
        lambda xp, x: ~(x > 0) | (x < 1),
        lambda xp, x: xp.minimum(1, 0.5 / (x + 9)),
        lambda xp, x: -x // 2 % 3,
        lambda xp, x: x.astype(np.complex64).real,
        lambda xp, x: xp.matmul(x[None], x.T),
        lambda xp, x: xp.cumsum(x, 1),
        lambda xp, x: xp.sort(x, 0)[xp.argsort(x[:, 0])],
        lambda xp, x: x.var(0, ddof=1),
        lambda xp, x: xp.isfinite(x).astype(x.dtype).prod(),
        lambda xp, x: xp.linalg.norm(x),
    ],
)
def test_else_it_is_numpy(cupy, f):
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    theirs = f(cupy, cupy.asarray(x))  # CuPy warns of nothing
    with np.errstate(all="ignore"):
        ours = f(np, x)
    assert type(theirs) is cupy.ndarray and theirs.dtype == np.asarray(ours).dtype
    np.testing.assert_array_equal(theirs.get(), ours)


def test_views_and_copies(cupy):
    x = cupy.arange(12.0).reshape(3, 4)
    for view in (
        x[1:],
        x.T,
        x.reshape(-1),
        x[..., None],
        x.swapaxes(0, 1),
        x.view(np.int64),
        x[0, 1],
        x.real,
        x.ravel(),
    ):
        assert view._memory is x._memory and view.base is not None and not view.flags.owndata
    for copy in (x[[0, 1]], x.copy(), x.T.reshape(-1), x + 0, x.astype(np.float32), x.astype(float), x.flatten()):
        assert copy._memory is not x._memory and copy.base is None and copy.flags.owndata
    assert x.astype(float, copy=False) is x and cupy.asarray(x) is x and cupy.ascontiguousarray(x) is x
    x[0, 1:3] += 10
    assert x.reshape(-1)[:4].get().tolist() == [0, 11, 12, 3]
    assert x.data.ptr + 32 == x[1].data.ptr and x.strides == (32, 8) and x.nbytes == 96 and x.itemsize == 8
    host = x.get()
    host[...] = 7
    assert x.max().item() == 12


# ------------------------------------------------------------------------------------------ memory


def test_bytes_are_counted_and_given_back(card, cupy):
    pool = cupy.get_default_memory_pool()
    x = cupy.zeros(1 << 20, np.float32)
    view = x[1:]
    assert pool.used_bytes() == 4 << 20
    del x
    assert pool.used_bytes() == 4 << 20
    del view
    assert (pool.used_bytes(), pool.total_bytes()) == (0, 4 << 20)
    assert cupy.cuda.Device().mem_info == (card.memory - (4 << 20), card.memory) == cupy.cuda.runtime.memGetInfo()
    pool.free_all_blocks()
    assert (pool.total_bytes(), card.peak) == (0, 4 << 20)


def test_a_card_that_is_full():
    with cupy_double(memory=1 << 20):
        import cupy

        x = cupy.zeros(1 << 16)
        with pytest.raises(OutOfMemoryError, match="Out of memory allocating 1,048,576 bytes"):
            cupy.concatenate([x, x])
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            x + cupy.ones(1 << 16) + 1
        del x
        assert issubclass(OutOfMemoryError, MemoryError) and cupy.zeros(1 << 17).size


def test_a_limit_on_the_pool(cupy):
    pool = cupy.get_default_memory_pool()
    pool.set_limit(4096)
    assert pool.get_limit() == 4096
    with pytest.raises(OutOfMemoryError, match="limit set to: 4,096"):
        cupy.zeros(1000)


def test_a_machine_without_a_card():
    with cupy_double(available=False):
        import cupy

        assert not cupy.cuda.is_available() and cupy.cuda.runtime.getDeviceCount() == 0
        with pytest.raises(CUDARuntimeError, match="no CUDA-capable device"):
            cupy.zeros(1)


# ------------------------------------------------------------------------------------------ streams


@pytest.fixture
def side(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def test_two_streams_without_an_event(cupy, side):
    x = cupy.zeros(3)
    with pytest.raises(Race, match="reads on stream 1 what the main stream"), side:
        x + 1


def test_two_streams_with_an_event(cupy, side):
    x, event = cupy.zeros(3), cupy.cuda.Event()
    event.record()
    side.wait_event(event)
    with side:
        y = x + 1
        done = side.record()
    with pytest.raises(Race, match="reads on the main stream what stream 1"):
        y.sum()
    cupy.cuda.get_current_stream().wait_event(done)
    assert y.sum().item() == 3 and cupy.cuda.get_current_stream() is cupy.cuda.Stream.null


def test_an_event_from_before_the_write_does_not_help(cupy, side):
    x = cupy.zeros(3)
    event = cupy.cuda.get_current_stream().record()
    x += 1
    side.wait_event(event)
    with pytest.raises(Race), side:
        x + 1


def test_writing_what_the_other_stream_still_reads(cupy, side):
    x, main = cupy.zeros(3), cupy.cuda.get_current_stream()
    side.wait_event(main.record())
    with side:
        y = x + 1
    x + 1  # both may read
    with pytest.raises(Race, match="writes on the main stream"):
        x += 1
    side.synchronize()
    x += y
    assert x.get().tolist() == [1, 1, 1]


def test_a_blocking_stream_and_the_main_one_wait_for_each_other(cupy):
    x = cupy.zeros(3)
    with cupy.cuda.Stream():
        y = x + 1
    assert (x + y).get().tolist() == [1, 1, 1]


def test_memory_that_is_let_go_while_another_stream_reads_it(cupy, side):
    x = cupy.zeros(3)
    side.wait_event(cupy.cuda.get_current_stream().record())
    with side:
        y = x + 1
        del x
        with pytest.raises(Race, match="let go while stream 1"):
            y + 1


def test_a_copy_from_pinned_memory_on_a_second_stream(card, cupy, side):
    import cupyx

    pinned, x = cupyx.empty_pinned((2, 3), np.float32), cupy.empty((2, 3), np.float32)
    assert is_pinned(pinned[1:]) and not is_pinned(np.ones(3)) and np.isnan(pinned).all() and type(pinned) is np.ndarray
    assert is_pinned(np.frombuffer(cupy.cuda.alloc_pinned_memory(24), np.float32, 6).reshape(2, 3))
    side.wait_event(cupy.cuda.get_current_stream().record())
    pinned[...] = 1
    with card.counting() as counts:
        x.set(pinned, stream=side)
        copied = side.record()
    assert counts.syncs == [] and len(counts.uploads) == 1
    with pytest.raises(Race):
        x.sum()
    cupy.cuda.get_current_stream().wait_event(copied)
    assert not copied.done and x.sum().item() == 6
    copied.synchronize()
    pinned[...] = 2
    side.synchronize()
    assert copied.done


def test_pinned_memory_that_is_written_too_early(cupy, side):
    import cupyx

    pinned, x = cupyx.zeros_pinned(3), cupy.empty(3)
    side.wait_event(cupy.cuda.get_current_stream().record())
    x.set(pinned, stream=side)
    pinned[0] = 1
    with pytest.raises(Race, match="pinned memory"):
        side.synchronize()


def test_a_copy_from_other_memory_waits(card, cupy, side):
    x = cupy.empty(3)
    side.wait_event(cupy.cuda.get_current_stream().record())
    with card.counting() as counts:
        x.set(np.ones(3), stream=side)
    assert len(counts.syncs) == 1 and counts.uploads == []
    for wrong, error in ((np.ones(4), ValueError), (np.ones(3, int), TypeError), ([1, 1, 1], TypeError)):
        with pytest.raises(error):
            x.set(wrong)


# ------------------------------------------------------------------------------------------ kernels

CODE = """template <typename T> __global__ void scale(const T *x, T *y, int n, T by)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = by * x[i]; }"""


@pytest.fixture
def scale(cupy):
    on_cpu = pytest.importorskip("cuda_on_cpu")
    if on_cpu.compiler() is None:
        pytest.skip("the kernels' double needs g++")
    return cupy.RawModule(code=CODE, name_expressions=["scale<float>"]).get_function("scale<float>")


def test_a_kernel(cupy, scale):
    x, y = cupy.arange(70, dtype=np.float32), cupy.empty(70, np.float32)
    scale((2,), (64,), (x, y, np.int32(70), np.float32(3)))
    assert np.array_equal(y.get(), 3 * x.get())


def test_what_a_kernel_cannot_take(cupy, scale):
    x = cupy.zeros(3, np.float32)
    for args in (
        (x.get(), x, np.int32(3), np.float32(3)),
        (x, x, np.int32(3), 3.0),
        (x, x, 3, np.float32(3)),
        (x, x, np.int32(3), np.float64(3)),
        (x.astype(float), x, np.int32(3), np.float32(3)),
    ):
        with pytest.raises((TypeError, RuntimeError)):
            scale((1,), (64,), args)
    with pytest.raises(TypeError):
        scale((1,), (64,), (x, x, np.int32(3), np.float32(3)), stream=None)
    with pytest.raises(CUDARuntimeError, match="not found"):
        cupy.RawModule(code=CODE, name_expressions=["scale<float>"]).get_function("scale")


def test_a_kernel_is_work_on_a_stream(cupy, side, scale):
    x = cupy.zeros(3, np.float32)
    with pytest.raises(Race), side:
        scale((1,), (64,), (x, x, np.int32(3), np.float32(3)))


# ------------------------------------------------------------------------------------------ cuBLAS


def test_products_by_address(cupy, side):
    x, y = cupy.arange(24.0).reshape(2, 3, 4), cupy.ones((2, 4, 3))
    assert np.array_equal(matmul(x, y).get(), np.matmul(x.get(), y.get()))
    new = x + 1  # .get() has waited for x and y
    with pytest.raises(Race), side:
        matmul(new, y)


def test_addresses_that_are_not_the_cards(cupy):
    host, x = np.ones((2, 3, 3)), cupy.ones((2, 3, 3))
    one = np.array([1.0, 0.0])

    def product(a, b, c, columns=3):
        cupy.cuda.cublas.gemmStridedBatchedEx(
            1,
            0,
            0,
            columns,
            3,
            3,
            one.ctypes.data,
            a,
            1,
            columns,
            9,
            b,
            1,
            3,
            9,
            one.ctypes.data + 8,
            c,
            1,
            columns,
            9,
            2,
            70,
            -1,
        )

    with pytest.raises(Undefined, match="no address in the card's memory"):
        product(x.data.ptr, host.ctypes.data, cupy.empty((2, 3, 3)).data.ptr)
    y = cupy.empty((2, 3, 3))
    product(x.data.ptr, x.data.ptr, y.data.ptr)
    assert (y.get() == 3).all()
    with pytest.raises(CublasError):
        product(x.data.ptr, x.data.ptr, y.data.ptr, columns=30)
