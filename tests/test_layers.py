"""Linear, embedding, norms and activations: against their formulas, and their gradients."""

import math
import weakref

import numpy as np
import pytest

from miniclip.erf import erf
from miniclip.layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax, sum_by_id


def unit(x):
    return x / math.sqrt(sum(v * v for v in x))


# ------------------------------------------------------------------------------------------ linear


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
def test_linear_is_a_loop_over_outputs(prove, normal, shape):
    x, weight, bias = normal(*shape), normal(5, 4), normal(5)
    y, _ = linear(x, weight, bias)
    assert y.shape == (*shape[:-1], 5)
    for place in np.ndindex(shape[:-1]):
        for out in range(5):
            assert y[place][out] == pytest.approx(sum(weight[out, k] * x[place][k] for k in range(4)) + bias[out])
    prove(linear, x, weight, bias)
    prove(linear, x, weight)
    assert np.allclose(linear(x, weight)[0], x @ weight.T)


def test_a_layer_used_twice_with_shared_weights(prove, normal):
    def twice(x, weight, bias):
        h, first = linear(x, weight, bias)
        y, second = linear(h, weight, bias)

        def backward(dy):
            d, g2 = second(dy)
            d, g1 = first(d)
            return d, {name: g1[name] + g2[name] for name in g1}

        return y, backward

    prove(twice, normal(3, 4), normal(4, 4), normal(4))


# ------------------------------------------------------------------------------------------ embedding


def test_embedding_picks_rows_and_adds_up_gradients(prove, normal, rng):
    ids = np.array([[2, 0, 2], [2, 1, 0]])
    weight, dy = normal(4, 5), normal(2, 3, 5)
    y, backward = embedding(ids, weight)
    expected = np.zeros_like(weight)
    for place in np.ndindex(ids.shape):
        assert (y[place] == weight[ids[place]]).all()
        expected[ids[place]] += dy[place]
    assert np.allclose(backward(dy)["weight"], expected, rtol=1e-15, atol=0)
    prove(embedding, rng.integers(0, 7, (3, 4)), normal(7, 5))
    prove(embedding, np.array([[3]], np.int32), normal(7, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_rows_are_summed_by_id(normal, dtype):
    rows, ids = normal(9, 2).astype(dtype), np.array([4, 0, 4, 4, 1, 0, 1, 4, 1])
    total = sum_by_id(rows, ids, 6)
    assert total.dtype == dtype and (total[[2, 3, 5]] == 0).all()
    assert all(np.allclose(total[i], rows[ids == i].sum(0), rtol=1e-6) for i in range(6))
    assert (sum_by_id(rows[:0], ids[:0], 6) == np.zeros((6, 2))).all()


def test_embedding_refuses_ids_outside_the_table(normal):
    for ids in ([-1, 2], [0, 7]):
        with pytest.raises(ValueError, match="do not fit a table of 7 rows"):
            embedding(np.array(ids), normal(7, 5))
    assert embedding(np.zeros((0, 4), int), normal(7, 5))[0].shape == (0, 4, 5)


# ------------------------------------------------------------------------------------------ layer norm


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3, 6)])
def test_layer_norm_is_row_by_row(prove, normal, shape):
    x, weight, bias = normal(*shape) * 3 + 5, normal(6), normal(6)
    y, _ = layer_norm(x, weight, bias)
    for place in np.ndindex(shape[:-1]):
        row = x[place]
        expected = (row - np.mean(row)) / math.sqrt(np.var(row) + 1e-5) * weight + bias
        assert np.allclose(y[place], expected, rtol=1e-13, atol=1e-13)
    prove(layer_norm, x, weight, bias)


def test_layer_norm_of_a_constant_row_is_its_bias(normal):
    y, backward = layer_norm(np.full((2, 4), 3.0), normal(4), bias := normal(4))
    assert np.allclose(y, bias)
    assert np.isfinite(backward(normal(2, 4))[0]).all()


def test_layer_norms_gradient_has_no_mean_and_nothing_along_x(normal):
    x, dy = normal(3, 6), normal(3, 6)
    dx, _ = layer_norm(x, np.ones(6), np.zeros(6), eps=0)[1](dy)
    assert np.allclose(dx.sum(-1), 0, atol=1e-14)
    assert np.allclose((dx * x).sum(-1), 0, atol=1e-14)


# ------------------------------------------------------------------------------------------ activations

GRID = np.linspace(-9, 9, 1801)
ACTIVATIONS = {
    relu: lambda v: max(v, 0.0),
    quick_gelu: lambda v: v / (1 + math.exp(-1.702 * v)),
    gelu: lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_its_formula(prove, normal, activation):
    y, _ = activation(GRID)
    assert np.allclose(y, [ACTIVATIONS[activation](v) for v in GRID], rtol=1e-14, atol=2e-15)
    prove(activation, normal(4, 7) * 2)
    prove(activation, normal(1))


def test_relu_has_no_slope_at_zero_and_the_gelus_are_two_functions():
    assert relu(np.array([0.0]))[1](np.ones(1)) == 0
    assert np.abs(gelu(GRID)[0] - quick_gelu(GRID)[0]).max() > 0.01


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_the_ends(activation, dtype):
    x = np.array([-1e4, -50, 0, 50, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise"):
        y, backward = activation(x)
        slope = backward(np.ones(5, dtype))
    assert np.allclose(y, np.maximum(x, 0))
    assert np.allclose(slope[[0, 1, 3, 4]], [0, 0, 1, 1])


def test_erf_to_rounding():
    x = np.concatenate([np.linspace(-7, 7, 20001), np.random.default_rng(0).standard_normal(5000), [-40, 0, 40]])
    exact = np.array([math.erf(v) for v in x])
    assert np.abs(erf(x) - exact).max() < 5e-16
    single = erf(x.astype(np.float32))
    assert single.dtype == np.float32
    assert np.abs(single - np.array([math.erf(v) for v in x.astype(np.float32)])).max() < 3e-7


def test_erf_of_a_complex_step_is_its_derivative():
    x = np.linspace(-5, 5, 101)
    assert np.allclose(erf(x + 1e-30j).imag / 1e-30, 2 / math.sqrt(math.pi) * np.exp(-x * x), rtol=1e-14)
    assert (erf(x + 1e-30j).real == erf(x)).all()


# ------------------------------------------------------------------------------------------ softmax, unit rows


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_is_row_by_row(prove, normal, axis):
    x = normal(3, 4, 5) * 4
    before = x.copy()
    y, backward = softmax(x, axis)
    rows, found = (np.moveaxis(a, axis, -1).reshape(-1, x.shape[axis]) for a in (x, y))
    for row, probabilities in zip(rows, found):
        total = sum(math.exp(v) for v in row)
        assert np.allclose(probabilities, [math.exp(v) / total for v in row], rtol=1e-14)
    assert (x == before).all()
    assert np.allclose(backward(np.ones_like(x)), 0, atol=1e-15)  # each row sums to 1, whatever x is
    prove(softmax, x, axis)


def test_softmax_of_minus_infinity_and_of_huge_numbers():
    with np.errstate(over="raise", invalid="raise"):
        y, backward = softmax(np.array([[-math.inf, 1.0, 1.0], [1e300, -1e300, 1e300]]))
    assert (y == [[0, 0.5, 0.5], [0.5, 0, 0.5]]).all()
    assert backward(np.array([[5.0, 1.0, 2.0]] * 2))[0, 0] == 0


@pytest.mark.parametrize("shape", [(1, 6), (4, 6), (2, 3, 6)])
def test_l2_normalize(prove, normal, shape):
    x = normal(*shape) * 3
    y, _ = l2_normalize(x)
    assert all(np.allclose(y[place], unit(x[place]), rtol=1e-14) for place in np.ndindex(shape[:-1]))
    prove(l2_normalize, x)


def test_l2_normalize_of_zeros_is_zeros():
    y, backward = l2_normalize(np.zeros((2, 3), np.float32))
    assert (y == 0).all() and y.dtype == np.float32
    assert np.isfinite(backward(np.ones((2, 3), np.float32))).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_l2_normalize_of_rows_of_any_length(dtype):
    kind = np.finfo(dtype)
    least = kind.tiny if np.issubdtype(dtype, complex) else kind.smallest_subnormal
    for size in map(float, (least, kind.tiny, 3e-25, 1e-8, 1, 1e30, kind.max)):
        if float(least) <= size <= float(kind.max):
            x = np.full((2, 5), size, dtype) * np.array([[1], [-1]], dtype)
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                y = l2_normalize(x)[0]
            assert y.dtype == dtype and np.allclose((y * y).sum(1).real, 1, rtol=0, atol=8 * float(kind.eps))
    y, backward = l2_normalize(np.zeros((2, 5), dtype))
    assert (y == 0).all() and np.isfinite(backward(np.ones((2, 5), dtype))).all()


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1, 1e9])
def test_l2_normalize_keeps_the_bits_of_the_plain_formula(normal, size):
    x, dy = ((normal(64, 33) * scale).astype(np.float32) for scale in (size, 1))
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    y, backward = l2_normalize(x)
    assert (y == x / length).all() and (backward(dy) == (dy - y * (dy * y).sum(-1, keepdims=True)) / length).all()


@pytest.mark.parametrize("layer", [relu, quick_gelu, gelu, softmax, l2_normalize])
def test_nan_comes_out_as_nan(layer):
    """A run that went wrong is found by its loss: no layer may swallow a NaN, or trip over it."""
    with np.errstate(invalid="ignore"):
        assert np.isnan(layer(np.array([[np.nan, 1.0, 2.0]]))[0][0, 0])


def test_a_norm_does_not_keep_its_input(normal):
    """The residual stream: twice a block, it would be a tenth of the memory of a small model's step."""
    x = normal(3, 5)
    there = weakref.ref(x)
    _, backward = layer_norm(x, normal(5), normal(5))
    del x
    assert there() is None and backward(normal(3, 5))
