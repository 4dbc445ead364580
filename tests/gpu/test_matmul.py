"""Products on a card's memory as it lies: cuBLAS (a double of it, no GPU) is asked for what NumPy computes."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cublas_double import BRAIN, Cublas, CublasError, tf32
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.gpu.matmul import PRECISIONS, compute_dtype, matmul, precision

ml_dtypes = pytest.importorskip("ml_dtypes")
DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
EXACT = {"float64": 1e-13, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


class Box:
    """Enough of a CuPy array: NumPy's, at the same addresses, but of a type that belongs to `cupy`."""

    __module__ = "cupy"

    def __init__(self, array):
        self.array = array
        self.data = SimpleNamespace(ptr=array.__array_interface__["data"][0])

    def __getattr__(self, name):
        return getattr(self.array, name)

    def swapaxes(self, *axes):
        return Box(self.array.swapaxes(*axes))

    def __getitem__(self, key):
        return Box(self.array[key])

    def __setitem__(self, key, value):
        self.array[key] = value.array if isinstance(value, Box) else value


class Card(ModuleType):
    """The parts of `cupy` that products.py touches. `owned`: the memory; `copies`: how often operands were copied."""

    def __init__(self, capability="90"):
        super().__init__("cupy")
        self.owned, self.copies, self.plain, self.compute_type = [], 0, 0, 1
        self.cuda = SimpleNamespace(
            cublas=Cublas(self.owned, handle=77),
            device=SimpleNamespace(get_cublas_handle=lambda: 77),
            runtime=SimpleNamespace(CUDA_R_32F=0, CUDA_R_64F=1, CUDA_R_16F=2, CUDA_R_16BF=BRAIN),
            Device=lambda: SimpleNamespace(compute_capability=capability),
            is_available=lambda: True,
        )
        self.zeros = np.zeros
        self._core = SimpleNamespace(
            _routines_linalg=SimpleNamespace(COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7),
            get_compute_type=lambda dtype: self.compute_type,
            set_compute_type=lambda dtype, kind: setattr(self, "compute_type", kind),
        )

    def box(self, array):
        self.owned.append(array)
        return Box(array)

    def empty(self, shape, dtype):
        return self.box(np.full(shape, np.nan, dtype))

    def ascontiguousarray(self, x):
        self.copies += 1
        return self.box(np.ascontiguousarray(x.array))

    def broadcast_to(self, x, shape):
        return Box(np.broadcast_to(x.array, shape))

    def matmul(self, a, b, out=None):
        self.plain += 1
        return self.box(np.matmul(a.array, b.array, out=None if out is None else out.array))


@pytest.fixture
def card(monkeypatch):
    return install(monkeypatch, Card())


def install(monkeypatch, card):
    monkeypatch.setitem(sys.modules, "cupy", card)
    return card


def agree(found, a, b):
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    assert found.dtype == a.dtype and found.shape == expected.shape
    if not found.size:
        return
    size = np.matmul(abs(a.astype(np.float64)), abs(b.astype(np.float64))).max()
    assert abs(found.astype(np.float64) - expected).max() <= EXACT[a.dtype.name] * size


@pytest.mark.parametrize("dtype", [*DTYPES, np.complex128])
def test_on_numpy_it_is_numpys(normal, dtype):
    a, b = normal(2, 3, 4, 5).astype(dtype), normal(2, 3, 5, 6).astype(dtype)
    out = np.empty((2, 3, 4, 6), dtype)
    expected = np.matmul(a, b).astype(dtype)  # bfloat16: NumPy's product is float32, rounded once
    assert np.array_equal(matmul(a, b), expected) and matmul(a, b).dtype == dtype
    assert matmul(a, b, out=out) is out and np.array_equal(out, expected)
    assert np.array_equal(matmul(a[0, 0], b[0, 0, :, 0]), np.matmul(a[0, 0], b[0, 0, :, 0]).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "n, heads, t, d",
    [(5, 3, 7, 4), (2, 4, 6, 8), (1, 3, 5, 2), (4, 1, 5, 2), (3, 2, 1, 4), (3, 2, 5, 1), (1, 1, 1, 1), (2, 2, 2, 2)],
)
def test_every_product_of_attention_as_it_lies(card, normal, dtype, n, heads, t, d):
    def split(memory, parts):  # (parts, N, H, T, d), a view of (N, T, parts·H·d) amid guards
        return memory[10:-10].reshape(n, t, parts, heads, d).transpose(2, 0, 3, 1, 4)

    def drawn(parts):
        return card.box(normal(n * t * parts * heads * d + 20).astype(dtype)).array

    def product(a, b, memory, parts, part):
        out, before, calls = split(memory, parts)[part], memory.copy(), len(card.cuda.cublas.calls)
        box = Box(out)
        assert matmul(Box(a), Box(b), out=box) is box
        agree(out, a, b)
        assert len(card.cuda.cublas.calls) - calls <= min(n, heads)
        others = np.delete(np.arange(memory.size), split(np.arange(memory.size), parts)[part].reshape(-1))
        assert memory[others].tobytes() == before[others].tobytes()

    (q, k, v), (dmixed,), mixed, dqkv = split(drawn(3), 3), split(drawn(1), 1), drawn(1), drawn(3)
    scores = matmul(Box(q), Box(k).swapaxes(-1, -2))
    agree(scores.array, q, k.swapaxes(-1, -2))
    weights = scores.array
    product(weights, v, mixed, 1, 0)
    dscores = matmul(Box(dmixed), Box(v).swapaxes(-1, -2)).array
    agree(dscores, dmixed, v.swapaxes(-1, -2))
    product(dscores, k, dqkv, 3, 0)
    product(dscores.swapaxes(-1, -2), q, dqkv, 3, 1)
    product(weights.swapaxes(-1, -2), dmixed, dqkv, 3, 2)
    assert card.copies == card.plain == 0


def test_one_position_asks(card, normal):
    n, heads, t, d = 3, 2, 5, 4  # the last block: one query a row, keys and values of all
    q = card.box(normal(n, heads * d).astype(np.float32)).array.reshape(n, heads, 1, d)
    k, v = card.box(normal(n, t, 2, heads, d).astype(np.float32)).array.transpose(2, 0, 3, 1, 4)
    scores = matmul(Box(q), Box(k).swapaxes(-1, -2))
    agree(scores.array, q, k.swapaxes(-1, -2))
    agree(matmul(scores, Box(v)).array, scores.array, v)
    agree(matmul(Box(scores.array.swapaxes(-1, -2)), Box(q)).array, scores.array.swapaxes(-1, -2), q)
    assert card.copies == card.plain == 0


def test_as_few_calls_as_the_strides_allow(card, normal):
    calls = card.cuda.cublas.calls
    a, b = card.box(normal(6, 4, 3, 5)), card.box(normal(6, 4, 5, 2))
    matmul(a, b)
    assert [call[3] for call in calls] == [24]  # both axes are one in memory
    calls.clear()
    heads = Box(card.box(normal(6, 3, 4, 5)).array.swapaxes(1, 2))
    matmul(heads, b)
    assert [call[3] for call in calls] == [6] * 4  # a call for each of 4 heads, not for each of 6 rows
    calls.clear()
    matmul(Box(heads.array[:2]), Box(b.array[:2]))
    assert [call[3] for call in calls] == [4] * 2
    calls.clear()
    matmul(card.box(normal(7, 3, 5)), card.box(normal(7, 5, 2)))
    assert [call[:4] for call in calls] == [(2, 3, 5, 7)]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_view_gives_numpys_result(data):
    card = Card()
    with pytest.MonkeyPatch.context() as patch:
        install(patch, card)
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        size = st.integers(0, 4)
        stack = data.draw(st.lists(size, min_size=1, max_size=2))
        m, k, n = (data.draw(size) for _ in range(3))

        def view(*shape):  # axes in any order in memory, gaps, backwards, repeated
            order = data.draw(st.permutations(range(len(shape))))
            gaps = [data.draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
            memory = card.box(rng.standard_normal([abs(gap) * shape[axis] for gap, axis in zip(gaps, order)])).array
            return memory[tuple(slice(None, None, gap) for gap in gaps)].transpose(np.argsort(order))

        a, b = view(*stack, m, k), view(*stack, k, n)
        if data.draw(st.booleans()):
            b = b[:1] if stack[0] else b
        if len(stack) > 1 and data.draw(st.booleans()):
            a = a[0] if stack[0] == 1 else a
        out = view(*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n)
        agree(matmul(Box(a), Box(b)).array, a, b)
        box = Box(out)
        assert matmul(Box(a), Box(b), out=box) is box
        agree(out, a, b)


@pytest.mark.parametrize("stride", [-8, 0, 8, 1 << 40])
def test_the_stride_of_an_axis_of_one_says_nothing(card, normal, stride):
    def odd(array):
        strides = [stride if length == 1 else step for length, step in zip(array.shape, array.strides)]
        return np.lib.stride_tricks.as_strided(array, array.shape, strides)

    for shape_a, shape_b in [((1, 3, 1, 4), (1, 3, 4, 5)), ((3, 1, 4, 1), (3, 1, 1, 5)), ((1, 1, 2, 3), (1, 1, 3, 1))]:
        a, b, out = (
            card.box(array).array
            for array in (normal(*shape_a), normal(*shape_b), np.empty((*shape_a[:-1], shape_b[-1])))
        )
        matmul(Box(odd(a)), Box(odd(b)), out=Box(odd(out)))
        agree(out, a, b)
    assert not card.copies


def test_what_cupy_does_well_is_left_to_it(card, normal):
    matmul(card.box(normal(3, 4)), card.box(normal(4, 5)))
    matmul(card.box(normal(3, 4)), card.box(normal(4)))
    matmul(card.box(normal(2, 3, 4) * 1j), card.box(normal(2, 4, 5) * 1j))
    assert card.plain == 3 and not card.cuda.cublas.calls


@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (2, 5, 6), None), ((2, 3, 4), (2, 4, 6), (2, 3, 5)), ((2, 3, 4), (3, 4, 6), None)]
)
def test_shapes_that_do_not_fit_are_refused(card, normal, shapes):
    a, b, out = (None if shape is None else card.box(normal(*shape)) for shape in shapes)
    with pytest.raises(ValueError):
        matmul(a, b, out=out)


@pytest.mark.parametrize(
    "name, dtype, kind",
    [
        ("float32", np.float32, 68),
        ("tf32", np.float32, 77),
        ("bfloat16", ml_dtypes.bfloat16, 68),
        ("float16", np.float16, 68),
    ],
)
def test_a_precision_is_a_dtype_and_what_it_is_summed_in(card, normal, name, dtype, kind):
    with precision(name) as computed:
        assert computed == compute_dtype(name) == dtype
        a, b = (card.box(normal(2, 16, 16).astype(computed)) for _ in range(2))
        y = matmul(a, b).array
        assert card.cuda.cublas.calls[-1][-1] == kind
    assert card.compute_type == 1
    exact = np.matmul(a.array.astype(np.float64), b.array.astype(np.float64))
    error = abs(y.astype(np.float64) - exact).max() / abs(exact).max()
    assert (error > 1e-5) == (name != "float32") and error < 1e-2


def test_what_was_set_before_is_set_again(card):
    card.compute_type = 7
    with pytest.raises(RuntimeError), precision("float32"):
        assert card.compute_type == 1
        raise RuntimeError
    assert card.compute_type == 7
    with precision("float16", "cpu") as dtype:
        assert dtype == np.float16 and card.compute_type == 7


def test_what_is_not_possible_is_said_in_a_sentence(monkeypatch):
    with pytest.raises(ValueError, match="no precision 'fp8'; choose one of float32"):
        compute_dtype("fp8")
    with pytest.raises(ValueError, match="only on graphics cards"):
        compute_dtype("tf32", "cpu")
    install(monkeypatch, Card(capability="75"))
    for name in ("tf32", "bfloat16"):
        with pytest.raises(ValueError, match="compute capability 8.0"), precision(name):
            pass
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="needs the package ml_dtypes"):
        compute_dtype("bfloat16")
    assert [compute_dtype(name) for name in PRECISIONS if name != "bfloat16"] == [np.float32, np.float32, np.float16]


def call(cublas, a, b, c, **changes):
    """C (4, 3) = A (4, 5) B (5, 3), all column by column, with some arguments changed."""
    scalars = np.array([1, 0], np.float32)
    arguments = dict(
        handle=77,
        transa=0,
        transb=0,
        m=4,
        n=3,
        k=5,
        alpha=scalars.ctypes.data,
        A=a.ctypes.data,
        Atype=0,
        lda=4,
        B=b.ctypes.data,
        Btype=0,
        ldb=5,
        beta=scalars.ctypes.data + 4,
        C=c.ctypes.data,
        Ctype=0,
        ldc=4,
        computeType=68,
        algo=-1,
    )
    cublas.gemmEx(**arguments | changes)


def test_the_double_multiplies_as_cublas_and_refuses_what_it_refuses(normal):
    a, b = (np.asfortranarray(normal(*shape).astype(np.float32)) for shape in ((4, 5), (5, 3)))
    c = np.full((4, 3), np.nan, np.float32, order="F")
    cublas = Cublas([a, b, c], handle=77)
    call(cublas, a, b, c)
    assert np.allclose(c, a @ b, atol=1e-6)
    transposed = np.ascontiguousarray(a)
    cublas.arrays.append(transposed)
    c[...] = np.nan
    call(cublas, transposed, b, c, transa=1, lda=5)
    assert np.allclose(c, a @ b, atol=1e-6)
    wrong = [
        {"handle": 1},
        {"lda": 3},
        {"ldb": 4},
        {"ldc": 3},
        {"m": 0},
        {"transa": 2},
        {"Btype": 2},
        {"algo": 5},
        {"computeType": 64},
        {"computeType": 0},
        {"n": 4},
        {"lda": 5},
        {"C": a.ctypes.data + 4 * 12},
    ]
    for change in wrong:
        with pytest.raises(CublasError):
            call(cublas, a, b, c, **change)
    with pytest.raises(TypeError):
        call(cublas, a, b, c, k=np.int64(5))
    c.flags.writeable = False
    with pytest.raises(CublasError, match="may not be written"):
        call(cublas, a, b, c)


def test_tf32_rounds_to_ten_places():
    assert tf32(np.float32([1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, -3.5])).tolist() == [1 + 2**-10, 1, 1 + 2**-9, -3.5]
