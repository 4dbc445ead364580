import math

import numpy as np
import pytest

from miniclip.layers import embedding, erf, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax

# ------------------------------------------------------------------------------------------ linear


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
def test_linear_is_a_loop_over_outputs(normal, shape):
    x, weight, bias = normal(*shape), normal(5, 4), normal(5)
    y, _ = linear(x, weight, bias)
    assert y.shape == (*shape[:-1], 5)
    for place in np.ndindex(shape[:-1]):
        for out in range(5):
            assert y[place][out] == pytest.approx(sum(weight[out, k] * x[place][k] for k in range(4)) + bias[out])


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3, 4)])
def test_linear_gradient(prove, normal, shape):
    prove(linear, normal(*shape), normal(5, 4), normal(5))
    prove(linear, normal(*shape), normal(5, 4))


def test_linear_without_bias(normal):
    x, weight = normal(3, 4), normal(5, 4)
    y, backward = linear(x, weight)
    assert np.allclose(y, x @ weight.T)
    assert backward(y)[1].keys() == {"weight"}


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


def test_embedding_picks_rows_and_adds_up_gradients(normal):
    ids = np.array([[2, 0, 2], [2, 1, 0]])
    weight, dy = normal(4, 5), normal(2, 3, 5)
    y, backward = embedding(ids, weight)
    expected = np.zeros_like(weight)
    for place in np.ndindex(ids.shape):
        assert (y[place] == weight[ids[place]]).all()
        expected[ids[place]] += dy[place]
    assert np.allclose(backward(dy)["weight"], expected, rtol=1e-15, atol=0)
    assert (backward(dy)["weight"][3] == 0).all()


def test_embedding_gradient(prove, normal, rng):
    prove(embedding, rng.integers(0, 7, (3, 4)), normal(7, 5))
    prove(embedding, np.array([[3]], np.int32), normal(7, 5))


@pytest.mark.parametrize("ids", [[-1, 2], [0, 7]])
def test_embedding_refuses_ids_outside_the_table(normal, ids):
    with pytest.raises(ValueError, match="do not fit a table of 7 rows"):
        embedding(np.array(ids), normal(7, 5))


def test_embedding_of_no_ids(normal):
    assert embedding(np.zeros((0, 4), int), normal(7, 5))[0].shape == (0, 4, 5)


# ------------------------------------------------------------------------------------------ layer norm


def test_layer_norm_is_row_by_row(normal):
    x, weight, bias = normal(2, 3, 8) * 3 + 5, normal(8), normal(8)
    y, _ = layer_norm(x, weight, bias)
    for place in np.ndindex(2, 3):
        row = x[place]
        expected = (row - np.mean(row)) / math.sqrt(np.var(row) + 1e-5) * weight + bias
        assert np.allclose(y[place], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3, 6)])
def test_layer_norm_gradient(prove, normal, shape):
    prove(layer_norm, normal(*shape) * 2 + 1, normal(6), normal(6))


def test_layer_norm_of_a_constant_row_is_its_bias(normal):
    y, backward = layer_norm(np.full((2, 4), 3.0), normal(4), bias := normal(4))
    assert np.allclose(y, bias)
    assert np.isfinite(backward(normal(2, 4))[0]).all()


def test_layer_norm_gradient_has_no_mean_and_nothing_along_x(normal):
    x, dy = normal(3, 6), normal(3, 6)
    dx, _ = layer_norm(x, np.ones(6), np.zeros(6), eps=0)[1](dy)
    assert np.allclose(dx.sum(-1), 0, atol=1e-14)
    assert np.allclose((dx * x).sum(-1), 0, atol=1e-14)


# ------------------------------------------------------------------------------------------ activations

GRID = np.linspace(-9, 9, 1801)


def test_relu():
    y, backward = relu(GRID)
    assert (y == [max(v, 0.0) for v in GRID]).all()
    assert (backward(np.full_like(GRID, 2)) == [2.0 if v > 0 else 0.0 for v in GRID]).all()
    assert relu(np.array([0.0]))[1](np.ones(1)) == 0


def test_quick_gelu():
    y, _ = quick_gelu(GRID)
    assert np.allclose(y, [v / (1 + math.exp(-1.702 * v)) for v in GRID], rtol=1e-14, atol=1e-15)


def test_gelu():
    y, _ = gelu(GRID)
    assert np.allclose(y, [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in GRID], rtol=0, atol=2e-15)
    assert np.abs(y - quick_gelu(GRID)[0]).max() > 0.01  # they are two functions


@pytest.mark.parametrize("activation", [relu, quick_gelu, gelu])
def test_activation_gradient(prove, normal, activation):
    prove(activation, normal(4, 7) * 2)
    prove(activation, normal(1))


@pytest.mark.parametrize("activation", [relu, quick_gelu, gelu])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_the_ends(activation, dtype):
    x = np.array([-1e30, -1e4, -50, 0, 50, 1e4, 1e30], dtype)
    with np.errstate(over="raise", invalid="raise"):
        y, backward = activation(x[1:-1])
        slope = backward(np.ones(5, dtype))
    assert np.allclose(y, np.maximum(x[1:-1], 0))
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


def test_softmax_is_row_by_row(normal):
    x = normal(3, 5) * 4
    y, _ = softmax(x)
    for i in range(3):
        total = sum(math.exp(v) for v in x[i])
        assert np.allclose(y[i], [math.exp(v) / total for v in x[i]], rtol=1e-14)
    assert np.allclose(softmax(x, axis=0)[0], softmax(x.T)[0].T, rtol=1e-15)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_gradient(prove, normal, axis):
    prove(softmax, normal(3, 4, 5), axis)


def test_softmax_gradient_of_ones_is_zero(normal):
    _, backward = softmax(normal(3, 5))
    assert np.allclose(backward(np.ones((3, 5))), 0, atol=1e-15)


def test_softmax_of_minus_infinity_and_of_huge_numbers():
    with np.errstate(over="raise", invalid="raise"):
        y, backward = softmax(np.array([[-math.inf, 1.0, 1.0], [1e300, -1e300, 1e300]]))
    assert (y == [[0, 0.5, 0.5], [0.5, 0, 0.5]]).all()
    assert backward(np.array([[5.0, 1.0, 2.0]] * 2))[0, 0] == 0


def test_softmax_does_not_change_its_input(normal):
    x = normal(3, 5)
    before = x.copy()
    softmax(x)
    assert (x == before).all()


def test_l2_normalize(normal):
    x = normal(4, 6) * 10
    y, _ = l2_normalize(x)
    for i in range(4):
        assert np.allclose(y[i], x[i] / math.sqrt(sum(v * v for v in x[i])), rtol=1e-14)


@pytest.mark.parametrize("shape", [(1, 6), (4, 6), (2, 3, 6)])
def test_l2_normalize_gradient(prove, normal, shape):
    prove(l2_normalize, normal(*shape) * 3)


def test_l2_normalize_of_zeros_is_zeros():
    y, backward = l2_normalize(np.zeros((2, 3), np.float32))
    assert (y == 0).all() and y.dtype == np.float32
    assert np.isfinite(backward(np.ones((2, 3), np.float32))).all()


# ------------------------------------------------------------------------------------------ not a number


@pytest.mark.parametrize("layer", [relu, quick_gelu, gelu, softmax, l2_normalize])
def test_nan_comes_out_as_nan(layer):
    """A run that went wrong is found by its loss: no layer may swallow a NaN, or trip over it."""
    with np.errstate(invalid="ignore"):
        assert np.isnan(layer(np.array([[np.nan, 1.0, 2.0]]))[0][0, 0])
