"""The kernels against the functions of the core that they stand in for, in float64.

On the double, CUDA code runs on the processor (cuda_on_cpu.py). All of a new array is NaN there, and so are zones on
both sides of what a kernel is given: a number that was not written, or was read from beside an array, spoils the
result, and a number written there is an error.
"""

import inspect

import numpy as np
import pytest
from on_card import cotangent, forward_and_backward

from miniclip import attention, layers, loss
from miniclip.gpu import device, launch
from miniclip.init import initialize, model_config
from miniclip.optim import AdamW
from miniclip.training.muon import Muon
from miniclip.tree import Flat, tree_map

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs `pip install ml_dtypes`.")
pytestmark = pytest.mark.double

ROUNDING = {"float64": 1e-12, "float32": 1e-5, "float16": 2.0**-11, "bfloat16": 2.0**-8}
KERNELS = {plain.plain: kernel for plain, kernel in device.KERNELS}


def packed(xp, array):
    return xp.asarray(array)


def spaced(xp, array):
    """The same numbers with NaN between them in memory."""
    return xp.asarray(np.stack([array, np.full_like(array, np.nan)], -1))[..., 0]


def transposed(xp, array):
    """The same numbers with the axes in the other order in memory."""
    return xp.asarray(np.ascontiguousarray(array.T)).T


layouts = pytest.mark.parametrize("layout", [packed, spaced, transposed])


@pytest.fixture(params=ROUNDING)
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def exact(normal, dtype):
    """exact(2, 3): a (2, 3) array of float64 numbers that dtype can hold."""
    return lambda *shape: normal(*shape).astype(dtype).astype(np.float64)


def close(theirs, ours, dtype, factor=1.0):
    """Assert that they differ by rounding: of the number itself, and of what was added up for it."""
    assert (theirs.dtype, theirs.shape) == (dtype, np.shape(ours))
    sums, smallest = (1e-12 if dtype == np.float64 else 1e-5), (2.0**-25 if dtype == np.float16 else 0)
    largest = np.abs(ours).max(initial=1e-3)  # where all is 0, a card, which fuses products and sums, is 0 to rounding
    allowed = factor * ROUNDING[dtype.name] * np.abs(ours) + sums * largest + smallest
    wrong = np.abs(theirs.get().astype(np.float64) - ours) - allowed
    assert (wrong <= 0).all(), f"wrong by {wrong.max()} more than is allowed"


def on_card(xp, plain, args, dtype, layout=packed):
    """{"y": …, "gradient…": …} of a kernel, which writes to nothing that it is given."""
    given = []

    def send(array):
        given.append((layout(xp, np.asarray(array).astype(dtype)), np.asarray(array).astype(dtype)))
        return given[-1][0]

    results = forward_and_backward(KERNELS[inspect.unwrap(plain)], args, send)
    assert all(there.get().tobytes() == here.tobytes() for there, here in given)
    return results


def compare(xp, plain, args, dtype, layout=packed, factor=1.0):
    """Forward and backward of a kernel and of its original; args are float64."""
    theirs = on_card(xp, plain, args, dtype, layout)
    ours = forward_and_backward(plain, args, lambda array: np.asarray(array).astype(dtype).astype(np.float64))
    assert theirs.keys() == ours.keys()
    if plain is attention.attention_weights:  # its backward starts from the weights as they were rounded
        assert (theirs["y"].get()[ours["y"] == 0] == 0).all()
        w = theirs["y"].get().astype(np.float64)
        dw = cotangent(w.shape).astype(dtype).astype(np.float64)
        ours["gradient"] = args[1] * w * (dw - (dw * w).sum(-1, keepdims=True))
    for name in ours:
        close(theirs[name], ours[name], dtype, factor)
    return theirs


# ------------------------------------------------------------------------------------------ layers

SHAPES = [(1, 1), (3, 31), (33, 33), (7, 257), (2, 1000), (257, 5), (1000, 2)]


@pytest.mark.parametrize("rows, width", SHAPES)
def test_each_layer_at_odd_sizes(xp, dtype, exact, rows, width):
    x = exact(rows, width)
    compare(xp, layers.layer_norm, ((x + 3 * x[:, :1]).astype(dtype).astype(float), x[0], x[-1], 1e-3), dtype)
    compare(xp, layers.l2_normalize, (x,), dtype)
    x[0, 0] = -60
    compare(xp, layers.quick_gelu, (x,), dtype)


@pytest.mark.parametrize("rows, width", SHAPES)
def test_a_bias_is_added_in_place(xp, dtype, exact, rows, width):
    y, bias = exact(rows, width), exact(width)
    there = xp.asarray(y.astype(dtype))
    assert device.kernels.add_bias(there, xp.asarray(bias.astype(dtype))) is there
    close(there, y + bias, dtype)
    apart = transposed(xp, y.astype(dtype))
    close(device.kernels.add_bias(apart, xp.asarray(bias.astype(dtype))), y + bias, dtype)


@layouts
def test_each_layer_in_any_layout(xp, dtype, exact, layout):
    for x in (exact(2, 3, 33), exact(5)):
        compare(xp, layers.layer_norm, (x, exact(x.shape[-1]), exact(x.shape[-1])), dtype, layout)
        compare(xp, layers.quick_gelu, (x,), dtype, layout)
        compare(xp, layers.l2_normalize, (x,), dtype, layout)
    compare(xp, attention.attention_weights, (exact(2, 3, 5, 7), 0.3, exact(5, 7)), dtype, layout)
    compare(xp, loss.symmetric_cross_entropy, (exact(40, 40),), dtype, layout, factor=1.01)


def test_rows_of_any_length_are_made_unit(xp, dtype):
    sizes = [1e30, 3e-25, 1e-8, 1] if np.dtype(dtype).itemsize > 2 or dtype != np.float16 else [6e4, 1e-6, 1e-3, 1]
    x = (np.array(sizes)[:, None] * [[1, -1, 1, 1, -1]]).astype(dtype)
    y, backward = KERNELS[layers.l2_normalize.plain](xp.asarray(x), 1e-12)
    close(y, np.sign(x.astype(float)) / 5**0.5, dtype)
    assert np.isfinite(backward(xp.asarray(np.ones(x.shape, dtype))).get().astype(float)[-1]).all()


def test_a_row_of_zeros_stays_zeros(xp, dtype, exact):
    x = exact(4, 33)
    x[2] = 0
    y, backward = KERNELS[layers.l2_normalize.plain](xp.asarray(x.astype(dtype)), 0.5)
    assert (y.get()[2] == 0).all()
    close(backward(xp.asarray(np.ones((4, 33), dtype)))[2], np.full(33, 2.0), dtype)  # a length of eps, 1/2


# ------------------------------------------------------------------------------------------ attention


@pytest.mark.parametrize("asking, tokens", [(1, 1), (31, 31), (33, 33), (3, 257), (2, 1000)])
def test_attention_weights_at_odd_sizes(xp, dtype, exact, asking, tokens):
    scores = (4 * exact(2, 2, asking, tokens)).astype(dtype).astype(float)
    causal, row = np.triu(np.full((asking, tokens), -np.inf), 1), np.linspace(-2, 2, tokens)[None].astype(dtype)
    for mask in (None, causal, row.astype(float)):
        compare(xp, attention.attention_weights, (scores, 0.75, mask), dtype)


def test_a_mask_of_any_shape(xp, dtype, exact):
    for shape in [(3, 1, 1, 5), (3, 1, 4, 5), (1, 1, 4, 5), (1, 2, 4, 5), (3, 2, 4, 5), (2, 4, 5), (4, 1)]:
        compare(xp, attention.attention_weights, (exact(3, 2, 4, 5), 1.25, exact(*shape)), dtype)


def test_scores_of_any_size_do_not_overflow(xp, dtype):
    scores = np.array([[6e4, -6e4, 0, 6e4], [-6e4] * 4]).astype(dtype)
    weights, _ = KERNELS[attention.attention_weights.plain](xp.asarray(scores), 100.0)
    close(weights, np.array([[0.5, 0, 0, 0.5], [0.25] * 4]), dtype)


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
@pytest.mark.parametrize("n, t, heads, d", [(1, 1, 1, 1), (3, 5, 2, 4), (2, 33, 3, 1)])
def test_attend_heads(xp, normal, dtype, n, t, heads, d):
    mask = attention.causal_mask(t, np, np.float64)
    for layout in (packed, spaced):
        compare(xp, attention.attend_heads, (normal(n, t, 3 * heads * d), heads, mask), dtype, layout, factor=3)


# ------------------------------------------------------------------------------------------ the loss


@pytest.mark.parametrize("n", [1, 2, 31, 33, 257])
def test_symmetric_cross_entropy(xp, dtype, exact, n):
    s = (5 * exact(n, n)).astype(dtype).astype(float)
    g = compare(xp, loss.symmetric_cross_entropy, (s,), dtype, factor=1.01)["gradient"].get().astype(float)
    assert abs(g.sum()) <= 4 * ROUNDING[dtype.name] * np.abs(g).sum() + 1e-30


@pytest.mark.parametrize("n", [2, 200])
def test_the_loss_is_exact_at_the_highest_temperature(xp, rng, n):
    s = rng.uniform(-100, 100, (n, n)).astype(np.float32).astype(float)
    s[n // 2], s[:, 0] = -100, np.linspace(-100, 100, n).astype(np.float32)  # rising and falling rows both
    found, (value, backward) = (
        on_card(xp, loss.symmetric_cross_entropy, (s,), np.float32),
        loss.symmetric_cross_entropy(s),
    )
    close(found["y"], value, np.dtype(np.float32))
    assert np.abs(found["gradient"].get() - backward()).max() < 1e-6 / n


def test_minus_infinity_in_the_similarity(xp, dtype):
    s = np.array([[1, -np.inf, 0], [2, 1, -np.inf], [-np.inf, 0, 3]])
    compare(xp, loss.symmetric_cross_entropy, (s,), dtype, factor=1.01)


@pytest.mark.parametrize("where", [(0, 0), (3, 40), (40, 3), (40, 40)])
def test_what_is_no_number_is_not_hidden(xp, dtype, exact, where):
    s = exact(41, 41)
    s[where] = np.nan
    found = on_card(xp, loss.symmetric_cross_entropy, (s,), dtype)
    value, g = (found[name].get().astype(float) for name in ("y", "gradient"))
    assert np.isnan(value) and np.isnan(g[where[0]]).all() and np.isnan(g[:, where[1]]).all()
    weights = on_card(xp, attention.attention_weights, (s, 1.0), dtype)["y"].get().astype(float)
    assert np.array_equal(np.isnan(weights).all(1), np.arange(41) == where[0])


# ------------------------------------------------------------------------------------------ AdamW


def adamw(module, size, dtype, ema_decay=0.9):
    """An optimiser after nine steps, its gradient, and all vectors that it reads, in the arrays of a library."""
    rng = np.random.default_rng(size)
    shapes = {"weight": (1, size), "bias": (size,), "running_mean": (7,), "proj": (2, 3), "logit_scale": ()}
    tree = {name: module.asarray(rng.standard_normal(shape).astype(dtype)) for name, shape in shapes.items()}
    optimizer, gradient = AdamW(Flat(tree), ema_decay=ema_decay), Flat(tree)
    optimizer.count = 9
    vectors = gradient.vector, optimizer.m, optimizer.v, optimizer.average.vector
    for vector in vectors:
        vector[...] = module.asarray(rng.standard_normal(vector.shape).astype(dtype))
    optimizer.v *= optimizer.v
    return optimizer, gradient, (optimizer.params.vector, *vectors, optimizer.kinds)


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
@pytest.mark.parametrize("ema_decay", [0.9, 0])
@pytest.mark.parametrize("size", [1, 31, 257, 1000])
def test_adamw_is_its_original(xp, dtype, ema_decay, size):
    """The norm is given and more than max_grad_norm; where ema_decay is 0, the average is theta itself."""
    ours, gradient, vectors = adamw(np, size, dtype, ema_decay)
    theirs, gradient_there, vectors_there = adamw(xp, size, dtype, ema_decay)
    close(theirs.gradient_norm(gradient_there), ours.gradient_norm(gradient), dtype)
    given = gradient.vector.tobytes(), ours.kinds.tobytes()
    ours.step(gradient, 0.02, norm=np.asarray(1.6, dtype))
    theirs.step(gradient_there, 0.02, norm=xp.asarray(1.6, dtype))
    for there, here in zip(vectors_there[:-1], vectors):
        close(there, here, dtype)
    assert (gradient_there.vector.get().tobytes(), theirs.kinds.get().tobytes()) == given


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
def test_muon_is_its_original(xp, dtype):
    """What is Muon's the kernel of AdamW leaves alone, but for the average."""
    config = model_config("resnet-micro", vocab_size=30, context_length=6)
    tree = initialize(config, 0, dtype)
    rng, sides = np.random.default_rng(0), []
    gradients = [rng.standard_normal(Flat(tree).vector.size).astype(dtype) for _ in range(3)]
    for module in (np, xp):
        optimizer = Muon(Flat(tree_map(module.asarray, tree)), config, ema_decay=0.9)
        for gradient in gradients:
            optimizer.step(optimizer.params.like(module.asarray(gradient)), 0.02)
        sides.append(optimizer)
    ours, theirs = sides
    for name in ("params", "m", "v", "average"):
        close(theirs.state()[name], ours.state()[name], dtype, factor=10)
    broken = xp.asarray(np.where(np.arange(gradients[0].size) == 5, np.nan, gradients[0]).astype(dtype))
    before = [theirs.state()[name].get().tobytes() for name in ("params", "m", "v", "average")]
    theirs.step(theirs.params.like(broken), 0.02)
    assert [theirs.state()[name].get().tobytes() for name in ("params", "m", "v", "average")] == before


def test_a_gradient_that_is_not_finite_changes_nothing(xp):
    optimizer, gradient, vectors = adamw(xp, 257, np.float32)
    gradient.vector[3] = np.nan
    before = [vector.get().tobytes() for vector in vectors]
    assert np.isnan(float(optimizer.step(gradient, 0.02)))
    assert [vector.get().tobytes() for vector in vectors] == before


def test_adamw_refuses_what_it_cannot_update_in_place(xp):
    optimizer, gradient, _ = adamw(xp, 8, np.float32)
    m = optimizer.m
    for wrong in spaced(xp, m.get()), m[:7]:
        optimizer.m = wrong
        with pytest.raises(ValueError, match="one length without gaps"):
            optimizer.step(gradient, 0.02)


# ------------------------------------------------------------------------------------------ numbers of 16 bits

THERE_AND_BACK = """
template <class T> __global__ void there_and_back(const T *x, T *y)
{ const int i = blockIdx.x * blockDim.x + threadIdx.x; y[i] = narrow<T>(wide(x[i])); }
template <class T> __global__ void narrow_all(const float *x, T *y, int size)
{ const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < size) y[i] = narrow<T>(x[i]); }
"""


@pytest.mark.parametrize("half, name", [(np.float16, "Half"), (ml_dtypes.bfloat16, "Bfloat16")])
def test_every_number_of_16_bits(xp, half, name):
    """What is in memory comes back as it was; ties go to even, what is too large becomes infinite, NaN stays NaN."""
    names = [f"there_and_back<{name}>", f"narrow_all<{name}>"]
    code = launch.source("optim") + THERE_AND_BACK
    module = xp.RawModule(code=code, options=("--std=c++17",), name_expressions=names)
    every = np.arange(1 << 16, dtype=np.uint16).view(half)
    back = xp.empty(1 << 16, half)
    module.get_function(names[0])((256,), (256,), (xp.asarray(every), back))

    values = every[: 0x7C00 if half is np.float16 else 0x7F80].astype(np.float64)  # from 0 to the largest
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    odd = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F800000, 0x7F7FFFFF, 0x477FEFFF, 0x477FF000], np.uint32)
    x = np.concatenate([middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf), odd.view(np.float32)])
    x = np.concatenate([x, -x])
    y = xp.empty(x.shape, half)
    module.get_function(names[1])((-(-len(x) // 256),), (256,), (xp.asarray(x), y, np.int32(len(x))))
    with np.errstate(all="ignore"):
        for found, expected in (back.get(), every), (y.get(), x.astype(half)):
            number = ~np.isnan(expected.astype(np.float32))
            assert np.array_equal(found.view(np.uint16)[number], expected.view(np.uint16)[number])
            assert np.isnan(found.astype(np.float32)[~number]).all()


# ------------------------------------------------------------------------------------------ launches


def everything(xp):
    """Every kernel once: all results as bytes."""
    rng = np.random.default_rng(3)
    x, s = rng.standard_normal((2, 67, 67))
    every = [(layers.layer_norm, x, x[0], x[1]), (layers.quick_gelu, x), (layers.l2_normalize, x)]
    every += [(attention.attention_weights, x, 0.5, s), (loss.symmetric_cross_entropy, s)]
    found = [on_card(xp, f, tuple(args), np.float32) for f, *args in every]
    optimizer, gradient, vectors = adamw(xp, 999, np.float32)
    optimizer.step(gradient, 0.02)
    arrays = [array for results in found for array in results.values()]
    arrays.append(layers.add_bias(xp.asarray(x), xp.asarray(s[0])))
    return [array.get().tobytes() for array in (*arrays, *vectors)]


def test_the_same_numbers_give_the_same_bits(xp):
    assert everything(xp) == everything(xp)


def test_the_order_of_blocks_and_threads_does_not_matter(card, cupy):
    forwards = everything(cupy)
    launched = {name.partition("<")[0] for name, _, _ in card.kernels}
    assert launched == {name for names in launch.KERNELS.values() for name in names}  # none forgotten
    card.reversed = True
    assert everything(cupy) == forwards


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 8191, 8192, 8193, 32768, 10**6 + 1, 2**31])
def test_a_launch_covers_all_and_no_more_than_a_card_allows(rows):
    chunks, chunk = launch.chunks_of(rows)
    assert (chunks - 1) * chunk < rows <= chunks * chunk and chunks <= 128
    grid, block = launch.by_row(rows)
    assert grid[0] * block[1] >= rows > (grid[0] - 1) * block[1] and grid[0] < 2**31
    width = rows % 4096 + 1
    grid, block = launch.by_column(width, chunks)
    assert grid[0] * block[0] >= width and grid[1] < 2**16
    assert 0 < launch.by_element(rows * 4096)[0][0] <= 2**16


def test_the_arrays_decide(card, cupy, normal):
    """A kernel where all arrays are CuPy's, of one real dtype and not empty; the original for all else."""
    x, row = normal(3, 5), normal(5)
    ours = layers.layer_norm(x, weight=row, bias=row)[0]
    assert not card.kernels
    for y, _ in (
        layers.layer_norm(cupy.asarray(x), cupy.asarray(row), bias=cupy.asarray(row)),
        layers.layer_norm(x=cupy.asarray(x), weight=cupy.asarray(row), bias=cupy.asarray(row), eps=1e-5),
    ):
        close(y, ours, x.dtype)
    assert [name for name, _, _ in card.kernels] == ["layer_norm<double>"] * 2
    for args in [(x, row, row.astype(np.float32)), (x[:0], row, row), (x + 0j, row, row)]:
        y, backward = layers.layer_norm(*map(cupy.asarray, args))
        np.testing.assert_allclose(y.get(), layers.layer_norm(*args)[0], atol=1e-6)
        assert backward(y)[0].shape == args[0].shape
    assert len(card.kernels) == 2


@pytest.mark.parametrize("plain, kernel", device.KERNELS)
def test_a_kernel_has_the_parameters_of_its_original(plain, kernel):
    assert list(inspect.signature(kernel).parameters) == list(inspect.signature(plain).parameters)
