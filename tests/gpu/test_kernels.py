"""The CUDA kernels against the NumPy functions that they stand in for, run on the processor by cuda_on_cpu.py.

What CuPy is needed for is small enough to stand here: arrays whose type says that they are CuPy's, `empty` and
RawModule. All of a new array is NaN, and so are zones on both sides of it: a number that was not written, or was
read from beside an array, spoils the result, and a number written there is found.
"""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_on_cpu import compile_cuda, compiler

from miniclip import attention, kernels, layers, loss
from miniclip.backend import array_module
from miniclip.gpu.kernels import has_twin

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs `pip install ml_dtypes`.")
pytestmark = pytest.mark.skipif(compiler() is None, reason="running the CUDA kernels on the processor needs g++.")

GUARD = 8192  # bytes: a row of the longest here
SIZES = (1, 31, 33, 257, 1000)
ROUNDING = {
    np.dtype(np.float64): 1e-12,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float16): 2.0**-11,
    np.dtype(ml_dtypes.bfloat16): 2.0**-8,
}


class Array(np.ndarray):
    """An array that says it is CuPy's."""

    __module__ = "cupy"
    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))

    def astype(self, dtype, order="K"):
        changed = np.asarray(self).astype(dtype, order=order)
        return put(changed) if changed.flags.c_contiguous else changed.view(Array)


class Memory:
    """Hands out arrays, and knows whether something was written beside one."""

    def __init__(self):
        self.handed_out = []

    def empty(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 2 * GUARD, 0xFF, np.uint8)  # NaN in all four dtypes
        self.handed_out.append((memory, size))
        return memory[GUARD : GUARD + size].view(dtype).reshape(shape).view(Array)

    def check(self):
        for memory, size in self.handed_out:
            assert (memory[:GUARD] == 0xFF).all(), "written before an array"
            assert (memory[GUARD + size :] == 0xFF).all(), "written behind an array"


class RawModule:
    """The emulator's module under CuPy's name; notes what is launched, and can run it backwards."""

    launches, reversed = [], False

    def __init__(self, *, code, options, name_expressions):
        self.module = compile_cuda(code, name_expressions, options)

    def get_function(self, name):
        kernel = self.module.get_function(name)

        def launch(grid, block, args):
            RawModule.launches.append((name, grid, block))
            self.module.reversed = RawModule.reversed
            kernel(grid, block, args)

        return launch


memory = Memory()


@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    """The stand-in for CuPy; all memory that a test took is checked after it."""
    cupy = ModuleType("cupy")
    cupy.empty, cupy.RawModule = memory.empty, RawModule
    cupy.broadcast_to = lambda array, shape: np.broadcast_to(array, shape, subok=True)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    memory.handed_out.clear()
    RawModule.launches.clear()
    RawModule.reversed = False
    yield cupy
    memory.check()


def put(array):
    """A NumPy array as one of the stand-in's, with NaN on both sides."""
    copy = memory.empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def spaced(array):
    """The same numbers with NaN between them in memory."""
    wide = memory.empty((*array.shape[:-1], array.shape[-1] * 2), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def backwards(array):
    """The same numbers with the axes in the other order in memory."""
    return put(array.transpose()).transpose()


def close(ours, theirs, dtype, factor=1.0):
    """Assert that they differ by rounding: of the number itself, and of what was added up for it."""
    ours, theirs = np.asarray(ours), np.asarray(theirs, np.float64)
    assert ours.dtype == dtype
    assert ours.shape == theirs.shape
    step = ROUNDING[np.dtype(dtype)] * factor
    computed_in = 1e-12 if dtype == np.float64 else 1e-5
    scale = np.abs(theirs).max(initial=0.0)
    allowed = step * np.abs(theirs) + computed_in * scale + (2.0**-25 if dtype == np.float16 else 0)
    wrong = np.abs(ours.astype(np.float64) - theirs) - allowed
    assert (wrong <= 0).all(), f"wrong by {wrong.max()} more than is allowed"


def double(array):
    return np.asarray(array).astype(np.float64)


@pytest.fixture(params=list(ROUNDING), ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def draw(rng, dtype):
    """draw(2, 3): a (2, 3) array of numbers that dtype can hold."""
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


layouts = pytest.mark.parametrize("layout", [put, spaced, backwards])


# -------------------------------------------------------------------------------- each twin, each dtype


@pytest.mark.parametrize("rows, width", [(1, 1), (3, 31), (33, 33), (7, 257), (2, 1000), (257, 5), (1000, 2)])
def test_layer_norm(draw, dtype, rows, width):
    x, weight, bias, dy = draw(rows, width), draw(width), draw(width), draw(rows, width)
    x += draw(rows, 1) * 3
    y, backward = kernels.layer_norm(put(x), put(weight), put(bias), 1e-3)
    dx, grads = backward(put(dy))
    y_, backward_ = layers.layer_norm(*map(double, (x, weight, bias)), 1e-3)
    dx_, grads_ = backward_(double(dy))
    close(y, y_, dtype)
    close(dx, dx_, dtype)
    assert grads.keys() == grads_.keys()
    for name in grads:
        close(grads[name], grads_[name], dtype)


@layouts
@pytest.mark.parametrize("shape", [(2, 3, 33), (5,)])
def test_layer_norm_of_any_layout(draw, dtype, shape, layout):
    x, weight, bias, dy = draw(*shape), draw(shape[-1]), draw(shape[-1]), draw(*shape)
    y, backward = kernels.layer_norm(layout(x), spaced(weight), spaced(bias))
    dx, grads = backward(layout(dy))
    y_, backward_ = layers.layer_norm(*map(double, (x, weight, bias)))
    dx_, grads_ = backward_(double(dy))
    for ours, theirs in [(y, y_), (dx, dx_), (grads["weight"], grads_["weight"]), (grads["bias"], grads_["bias"])]:
        close(ours, theirs, dtype)


MASKS = {
    "none": lambda a, t: None,
    "causal": lambda a, t: np.triu(np.full((a, t), -np.inf), 1),
    "row": lambda a, t: np.linspace(-2, 2, t)[None],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("asking, tokens", [(1, 1), (31, 31), (33, 33), (3, 257), (2, 1000)])
def test_attention_weights(draw, dtype, asking, tokens, mask):
    scores, dweights, scale = draw(2, 3, asking, tokens), draw(2, 3, asking, tokens), 0.75
    scores *= 4
    mask = MASKS[mask](asking, tokens)
    mask = None if mask is None else mask.astype(dtype)
    compare_attention(scores, dweights, scale, mask, dtype)


@pytest.mark.parametrize(
    "shape", [(3, 1, 1, 5), (3, 1, 4, 5), (1, 1, 4, 5), (1, 2, 4, 5), (3, 2, 4, 5), (2, 4, 5), (4, 1)]
)
def test_a_mask_of_any_shape(draw, dtype, shape):
    compare_attention(draw(3, 2, 4, 5), draw(3, 2, 4, 5), 1.25, draw(*shape), dtype)


@layouts
def test_attention_weights_of_any_layout(draw, dtype, layout):
    mask = draw(5, 7)
    mask[1, 2:] = -np.inf
    compare_attention(draw(2, 3, 5, 7), draw(2, 3, 5, 7), 0.3, mask, dtype, layout)


def compare_attention(scores, dweights, scale, mask, dtype, layout=put):
    weights, backward = kernels.attention_weights(layout(scores), scale, None if mask is None else layout(mask))
    dscores = backward(layout(dweights))
    weights_, _ = attention.attention_weights(double(scores), scale, None if mask is None else double(mask))
    close(weights, weights_, dtype)
    assert (np.asarray(weights)[weights_ == 0] == 0).all()
    # The backward starts from the weights as they were rounded, so that is where the reference starts too.
    w, d = double(weights), double(dweights)
    close(dscores, scale * w * (d - (d * w).sum(-1, keepdims=True)), dtype)


def test_attention_weights_backward_is_the_originals(rng):
    scores, dweights = rng.standard_normal((2, 2, 9, 33)), rng.standard_normal((2, 2, 9, 33))
    _, backward = kernels.attention_weights(put(scores), 0.4)
    _, backward_ = attention.attention_weights(scores, 0.4)
    close(backward(put(dweights)), backward_(dweights), np.float64)


def test_scores_of_any_size_do_not_overflow(dtype):
    scores = np.array([[9e4, -9e4, 0, 9e4], [-6e4, -6e4, -6e4, -6e4]]).clip(-6e4, 6e4).astype(dtype)
    weights, _ = kernels.attention_weights(put(scores), 100.0)
    close(weights, [[0.5, 0, 0, 0.5], [0.25] * 4], dtype)


@pytest.mark.parametrize("size", SIZES)
def test_quick_gelu(draw, dtype, size):
    x, dy = draw(3, size), draw(3, size)
    x *= 3
    x[0, 0] = -60
    compare(kernels.quick_gelu, layers.quick_gelu, x, dy, dtype)


@layouts
def test_quick_gelu_of_any_layout(draw, dtype, layout):
    compare(kernels.quick_gelu, layers.quick_gelu, draw(3, 4, 5), draw(3, 4, 5), dtype, layout)


@pytest.mark.parametrize("size", SIZES)
def test_l2_normalize(draw, dtype, size):
    x, dy = draw(9, size), draw(9, size)
    compare(kernels.l2_normalize, layers.l2_normalize, x, dy, dtype)


@layouts
def test_l2_normalize_of_any_layout(draw, dtype, layout):
    compare(kernels.l2_normalize, layers.l2_normalize, draw(2, 3, 40), draw(2, 3, 40), dtype, layout)


def compare(twin, plain, x, dy, dtype, layout=put):
    y, backward = twin(layout(x))
    y_, backward_ = plain(double(x))
    close(y, y_, dtype)
    close(backward(layout(dy)), backward_(double(dy)), dtype)


def test_a_row_of_zeros_stays_zeros(draw, dtype):
    x, dy = draw(4, 33), draw(4, 33)
    x[2] = dy[2] = 0
    compare(kernels.l2_normalize, layers.l2_normalize, x, dy, dtype)
    assert (np.asarray(kernels.l2_normalize(put(x))[0])[2] == 0).all()
    dx = kernels.l2_normalize(put(np.zeros_like(x)), 0.5)[1](put(np.ones_like(x)))
    close(dx, np.full(x.shape, 2.0), dtype)  # a length of eps, 1/2


@pytest.mark.parametrize("rows, width", [(1, 1), (9, 31), (33, 33), (2, 257), (3, 1000)])
def test_add_bias(draw, dtype, rows, width):
    y, bias = draw(rows, 2, width), draw(width)
    ours = put(y)
    assert kernels.add_bias(ours, spaced(bias)) is ours
    close(ours, double(y) + double(bias), dtype)
    gaps = spaced(y)
    assert kernels.add_bias(gaps, put(bias)) is gaps
    close(gaps, double(y) + double(bias), dtype)


@pytest.mark.parametrize("n", [1, 2, 31, 33, 257])
def test_symmetric_cross_entropy(draw, dtype, n):
    s = draw(n, n) * np.float32(5).astype(dtype)
    value, backward = kernels.symmetric_cross_entropy(put(s))
    value_, backward_ = loss.symmetric_cross_entropy(double(s))
    assert value.shape == ()
    close(value, value_, dtype)
    g = backward()
    close(g, backward_(), dtype, factor=1.01)
    assert abs(double(g).sum()) <= 4 * ROUNDING[dtype] * np.abs(double(g)).sum() + 1e-30


@layouts
def test_a_similarity_of_any_layout(draw, dtype, layout):
    s = draw(40, 40)
    value, backward = kernels.symmetric_cross_entropy(layout(s))
    value_, backward_ = loss.symmetric_cross_entropy(double(s))
    close(value, value_, dtype)
    close(backward(), backward_(), dtype, factor=1.01)


@pytest.mark.parametrize("n", [2, 200])
def test_the_loss_is_exact_at_the_highest_temperature(rng, n):
    s = (rng.uniform(-1, 1, (n, n)) * 100).astype(np.float32)
    s[n // 2] = -100  # rising and falling rows both
    s[:, 0] = np.linspace(-100, 100, n)
    value, backward = kernels.symmetric_cross_entropy(put(s))
    value_, backward_ = loss.symmetric_cross_entropy(double(s))
    close(value, value_, np.float32)
    assert np.abs(double(backward()) - backward_()).max() < 1e-6 / n


def test_minus_infinity_in_the_similarity(dtype):
    s = np.array([[1, -np.inf, 0], [2, 1, -np.inf], [-np.inf, 0, 3]]).astype(dtype)
    value, backward = kernels.symmetric_cross_entropy(put(s))
    value_, backward_ = loss.symmetric_cross_entropy(double(s))
    close(value, value_, dtype)
    close(backward(), backward_(), dtype, factor=1.01)


@pytest.mark.parametrize("where", [(0, 0), (3, 40), (40, 3), (40, 40)])
def test_what_is_no_number_is_not_hidden(draw, dtype, where):
    s = draw(41, 41)
    s[where] = np.nan
    value, backward = kernels.symmetric_cross_entropy(put(s))
    assert np.isnan(double(value))
    g = double(backward())
    assert np.isnan(g[where[0]]).all()
    assert np.isnan(g[:, where[1]]).all()
    weights, _ = kernels.attention_weights(put(s), 1.0)
    assert np.array_equal(np.isnan(double(weights)).all(1), np.arange(41) == where[0])


# ----------------------------------------------------------------------------------------------- AdamW

RECIPE = {
    "lr": 0.02,
    "beta1": 0.9,
    "beta2": 0.98,
    "eps": 1e-6,
    "weight_decay": 0.2,
    "step_size": 0.05,
    "correction": 3.0,
    "follow": 0.25,
    "statistic_rate": 0.1,
}


def adamw_by_hand(theta, g, m, v, average, kind, shrink, o):
    """The equations at the top of optim.py, in the order in which AdamW.step takes them."""
    statistic, weight = kind == 2, kind == 0
    m_ = o["beta1"] * m + (1 - o["beta1"]) * g * shrink
    v_ = o["beta2"] * v + (1 - o["beta2"]) * (g * shrink) ** 2
    step = o["step_size"] * m_ / (np.sqrt(v_) * o["correction"] + o["eps"])
    theta_ = np.where(weight, theta * (1 - o["lr"] * o["weight_decay"]), theta) - step
    theta_ = np.where(statistic, theta - o["statistic_rate"] * g, theta_)
    m_, v_ = np.where(statistic, m, m_), np.where(statistic, v, v_)
    return theta_, m_, v_, (1 - o["follow"]) * average + o["follow"] * theta_


def adamw_state(rng, size, real, gradient_dtype):
    theta, g, m, average = rng.standard_normal((4, size))
    v, kind = rng.standard_normal(size) ** 2, rng.integers(0, 3, size).astype(np.uint8)
    return [theta.astype(real), g.astype(gradient_dtype), *(a.astype(real) for a in (m, v, average)), kind]


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("gradient_dtype", [None, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_adamw(rng, real, gradient_dtype, size):
    state = adamw_state(rng, size, real, gradient_dtype or real)
    ours = list(map(put, state))
    kernels.adamw(*ours, put(np.array(0.625, real)), put(np.array(True)), **RECIPE)
    expected = adamw_by_hand(*map(double, state[:5]), state[5], 0.625, RECIPE)
    for mine, theirs in zip([ours[0], *ours[2:5]], expected):
        close(mine, theirs, real)
    for untouched in (1, 5):
        assert np.array_equal(np.asarray(ours[untouched]), state[untouched])


def test_adamw_leaves_all_as_it_was_where_the_gradient_is_not_finite(rng):
    state = adamw_state(rng, 257, np.float32, np.float32)
    state[1][3] = np.nan
    ours = list(map(put, state))
    kernels.adamw(*ours, put(np.array(np.nan, np.float32)), put(np.array(False)), **RECIPE)
    for mine, before in zip(ours, state):
        assert np.array_equal(np.asarray(mine), before, equal_nan=True)


def test_the_average_may_be_the_parameters_themselves(rng):
    state = adamw_state(rng, 257, np.float32, np.float32)
    recipe, one, true = RECIPE | {"follow": 1}, put(np.array(1, np.float32)), put(np.array(True))
    apart, ours = list(map(put, state)), list(map(put, state))
    kernels.adamw(*apart, one, true, **recipe)
    kernels.adamw(*ours[:4], ours[0], ours[5], one, true, **recipe)
    assert np.array_equal(np.asarray(ours[0]), np.asarray(apart[0]))


def test_adamw_refuses_what_it_cannot_update_in_place(rng):
    state = list(map(put, adamw_state(rng, 8, np.float32, np.float32)))
    one, true = put(np.array(1, np.float32)), put(np.array(True))
    with pytest.raises(ValueError, match="one length without gaps"):
        kernels.adamw(*state[:3], spaced(np.asarray(state[3])), *state[4:], one, true, **RECIPE)
    with pytest.raises(ValueError, match="one length without gaps"):
        kernels.adamw(state[0], state[1][:7], *state[2:], one, true, **RECIPE)


# ------------------------------------------------------------------------------------- how they are run


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_every_number_of_a_half_kind(half):
    """What is in memory comes back as it was, ties go to even, and what is too large becomes infinite."""
    every = np.arange(1 << 16, dtype=np.uint16).view(half).reshape(-1, 256)
    with np.errstate(all="ignore"):
        exact = every.astype(np.float32)
        for bias in np.array([-0.0, 0.5, 1.25, 2.0**-9, 2.0**-20, 30000, 3e38]).astype(half):  # x + -0 is x
            total = np.asarray(kernels.add_bias(put(every), put(np.full(256, bias))))
            expected = (exact + bias.astype(np.float32)).astype(half)
            number = ~np.isnan(expected.astype(np.float32))
            assert np.array_equal(total.view(np.uint16)[number], expected.view(np.uint16)[number])
            assert np.isnan(total.astype(np.float32)[~number]).all()


NARROW = """
template <class T> __global__ void narrow_all(const float *x, T *y) { y[threadIdx.x] = narrow<T>(x[threadIdx.x]); }
"""


@pytest.mark.parametrize("half, name", [(np.float16, "Half"), (ml_dtypes.bfloat16, "Bfloat16")])
def test_the_cards_nan_stays_nan(half, name):
    """Its bits are 7fffffff, which rounding would carry over to a zero."""
    code = Path(kernels.__file__).with_suffix(".cu").read_text(encoding="utf-8") + NARROW
    x = put(np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F800000, 0x00000001], np.uint32).view(np.float32))
    y = memory.empty(5, half)
    compile_cuda(code, [f"narrow_all<{name}>"]).get_function(f"narrow_all<{name}>")((1,), (5,), (x, y))
    assert np.isnan(y[:3].astype(np.float32)).all()
    assert np.isposinf(y[3].astype(np.float32)) and y[4] == 0


def everything(rng):
    """Every kernel once, in an order of its own: all results as bytes."""
    x, s = rng.standard_normal((2, 67, 67)).astype(np.float32)
    y, layer_norm_ = kernels.layer_norm(put(x), put(x[0]), put(x[1]))
    weights, weights_ = kernels.attention_weights(put(x), 0.5, put(s))
    open_, gelu_ = kernels.quick_gelu(put(x))
    unit, unit_ = kernels.l2_normalize(put(x))
    value, loss_ = kernels.symmetric_cross_entropy(put(s))
    dx, grads = layer_norm_(put(s))
    state = list(map(put, adamw_state(rng, 999, np.float32, np.float32)))
    kernels.adamw(*state, put(np.array(1, np.float32)), put(np.array(True)), **RECIPE)
    return [
        np.asarray(a).tobytes()
        for a in (
            y,
            dx,
            *grads.values(),
            weights,
            weights_(put(s)),
            open_,
            gelu_(put(s)),
            unit,
            unit_(put(s)),
            value,
            loss_(),
            kernels.add_bias(put(x), put(s[0])),
            *state,
        )
    ]


def test_the_order_of_blocks_and_threads_does_not_matter():
    forwards = everything(np.random.default_rng(3))
    names = {re.match(r"\w+", name)[0] for name, _, _ in RawModule.launches}
    assert names == {*kernels.OF_ONE_TYPE, "adamw"}  # none forgotten
    RawModule.reversed = True
    assert everything(np.random.default_rng(3)) == forwards


def test_several_chunks_of_rows(rng):
    x, dy, weight = rng.standard_normal((700, 3)), rng.standard_normal((700, 3)), rng.standard_normal(3)
    grads = kernels.layer_norm(put(x), put(weight), put(weight))[1](put(dy))[1]
    grads_ = layers.layer_norm(x, weight, weight)[1](dy)[1]
    assert ("layer_norm_columns<double>", (1, 11), (32, 8)) in RawModule.launches
    for name in grads:
        close(grads[name], grads_[name], np.float64)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 8191, 8192, 8193, 32768, 10**6 + 1, 2**31])
def test_a_launch_covers_all_and_no_more_than_a_card_allows(rows):
    chunks, chunk = kernels._chunks(rows)
    assert (chunks - 1) * chunk < rows <= chunks * chunk
    assert chunks <= 128
    grid, block = kernels._by_row(rows)
    assert grid[0] * block[1] >= rows > (grid[0] - 1) * block[1]
    assert grid[0] < 2**31
    grid, block = kernels._by_column(rows % 4096 + 1, chunks)
    assert grid[0] * block[0] >= rows % 4096 + 1
    assert grid[1] < 2**16
    grid, block = kernels._by_element(rows * 4096)
    assert 0 < grid[0] <= 2**16


def test_nothing_is_launched_for_nothing(dtype):
    nothing, row = put(np.zeros((0, 5), dtype)), put(np.ones(5, dtype))
    dx, grads = kernels.layer_norm(nothing, row, row)[1](nothing)
    assert dx.shape == (0, 5)
    assert (np.asarray(grads["weight"]) == 0).all() and (np.asarray(grads["bias"]) == 0).all()
    RawModule.launches.clear()
    for twin in (kernels.quick_gelu, kernels.l2_normalize, lambda x: kernels.attention_weights(x, 1.0)):
        y, backward = twin(nothing)
        assert y.shape == backward(nothing).shape == (0, 5)
    assert kernels.add_bias(nothing, row) is nothing
    assert not RawModule.launches


def test_nothing_given_is_written_to(draw, dtype):
    x, s = draw(2, 33, 33)
    for twin in (
        lambda a, b: kernels.layer_norm(a, a[0], a[1])[1](b),
        lambda a, b: kernels.quick_gelu(a)[1](b),
        lambda a, b: kernels.attention_weights(a, 2.0, b)[1](b),
        lambda a, b: kernels.l2_normalize(a)[1](b),
        lambda a, b: kernels.symmetric_cross_entropy(a)[1](),
    ):
        a, b = put(x), put(s)
        twin(a, b)
        assert np.array_equal(np.asarray(a), x) and np.array_equal(np.asarray(b), s)


# --------------------------------------------------------------------------------------- which one is run


def plain_layer_norm():
    """A function of that name that only says that it was called."""

    def layer_norm(x, weight, bias, eps=1e-5):
        """As documented."""
        return "plain"

    return layer_norm


def test_the_array_decides(draw, dtype):
    plain = plain_layer_norm()
    either = has_twin(plain)
    x, row = draw(3, 5), draw(5)
    assert either(x, row, row) == "plain"
    assert either(x=x, weight=row, bias=row) == "plain"
    for y, _ in (either(put(x), put(row), bias=put(row)), either(x=put(x), weight=put(row), bias=put(row), eps=1e-5)):
        assert array_module(y) is sys.modules["cupy"]
        close(y, layers.layer_norm(*map(double, (x, row, row)))[0], dtype)
    assert either(put(x), put(row), put(row.astype(np.int32))) == "plain"  # not all of one dtype
    assert either(put(x[:0]), put(row), put(row)) == "plain"  # nothing to gain


@pytest.mark.parametrize("other", [np.complex128, np.complex64, np.int32, np.bool_])
def test_other_dtypes_stay_with_the_original(other):
    either = has_twin(plain_layer_norm())
    assert either(put(np.ones((2, 3), other)), put(np.ones(3, other)), put(np.ones(3, other))) == "plain"


def test_the_signature_stays():
    plain = plain_layer_norm()
    assert inspect.signature(has_twin(plain)) == inspect.signature(plain)
    assert has_twin(plain).__doc__ == "As documented."
    with pytest.raises(KeyError):
        has_twin(lambda x: x)


@pytest.mark.parametrize(
    "plain, name",
    [
        (layers, "layer_norm"),
        (layers, "quick_gelu"),
        (layers, "l2_normalize"),
        (attention, "attention_weights"),
        (loss, "symmetric_cross_entropy"),
    ],
)
def test_twins_have_the_signature_of_the_original(plain, name):
    assert inspect.signature(getattr(kernels, name)) == inspect.signature(getattr(plain, name))
