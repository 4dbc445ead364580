"""Convolution, batch norm and pooling: against their formulas, and their gradients."""

import math

import numpy as np
import pytest

from miniclip.conv import average_pool, batch_norm, conv2d, extract_patches, scatter_patches

# height, width, kernel, stride, padding
GEOMETRIES = [
    (5, 6, (3, 3), 1, 1),
    (5, 6, (3, 3), 1, 0),
    (6, 5, (3, 3), 2, 1),
    (7, 7, (3, 3), 2, 0),
    (6, 7, (3, 3), 2, 1),  # the last column is never reached
    (4, 5, (1, 1), 1, 0),
    (5, 4, (1, 1), 2, 0),
    (3, 4, (1, 1), 1, 1),
    (5, 5, (2, 2), 1, 0),
    (5, 5, (2, 2), 1, 1),
    (4, 6, (4, 4), 1, 2),
    (8, 8, (4, 4), 4, 0),  # a Vision Transformer's patches
    (7, 7, (2, 2), 3, 0),  # skips pixels
    (5, 6, (2, 3), 1, 1),
    (5, 6, (3, 1), 2, 1),
    (3, 3, (3, 3), 1, 3),  # more padding than kernel
    (3, 3, (3, 3), 1, 0),  # one output pixel
    (1, 1, (3, 3), 1, 1),  # one input pixel
]


def conv_by_loops(x, weight, bias, stride, padding):
    n, h, w, channels = x.shape
    out, _, kh, kw = weight.shape
    rows, columns = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
    y = np.zeros((n, rows, columns, out))
    for picture, i, j, o, c, u, v in np.ndindex(n, rows, columns, out, channels, kh, kw):
        row, column = i * stride + u - padding, j * stride + v - padding
        if 0 <= row < h and 0 <= column < w:
            y[picture, i, j, o] += weight[o, c, u, v] * x[picture, row, column, c]
    return y if bias is None else y + bias


@pytest.mark.parametrize("h, w, kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv2d_is_seven_loops(prove, normal, h, w, kernel, stride, padding, with_bias):
    x, weight, bias = normal(2, h, w, 3), normal(4, 3, *kernel), normal(4) if with_bias else None
    y, backward = conv2d(x, weight, bias, stride, padding)
    expected = conv_by_loops(x, weight, bias, stride, padding)
    assert y.shape == expected.shape
    assert np.allclose(y, expected, rtol=1e-12, atol=1e-12)
    prove(conv2d, x, weight, bias, stride, padding, entries=8)

    dy = normal(*y.shape)
    dx, grads = backward(dy, input_gradient=False)
    _, expected = backward(dy)
    assert dx is None and grads.keys() == expected.keys()
    assert all(np.allclose(grads[name], expected[name], rtol=1e-12, atol=1e-12) for name in grads)


def test_conv2d_of_a_picture_smaller_than_the_kernel(normal):
    with pytest.raises(ValueError, match="picture of 2 × 5 is too small for a 3 × 3 kernel"):
        conv2d(normal(1, 2, 5, 3), normal(4, 3, 3, 3))


@pytest.mark.parametrize("h, w, kernel, stride, padding", GEOMETRIES)
def test_scatter_is_the_transpose_of_extract(normal, h, w, kernel, stride, padding):
    x = normal(2, h, w, 3)
    patches = extract_patches(x, *kernel, stride, padding)
    p = normal(*patches.shape)
    assert (patches * p).sum() == pytest.approx((x * scatter_patches(p, x.shape, *kernel, stride, padding)).sum())


# ------------------------------------------------------------------------------------------ batch norm


def norm_parameters(normal, channels):
    return normal(channels), normal(channels), normal(channels), normal(channels) ** 2 + 0.5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (1, 3, 2, 3), (4, 1, 1, 2)])
def test_batch_norm_is_channel_by_channel(prove, normal, shape, training):
    """With the statistics of the batch in training, and else with those that were remembered."""
    x, (weight, bias, running_mean, running_var) = normal(*shape) * 3 + 7, norm_parameters(normal, shape[-1])
    y, _ = batch_norm(x, weight, bias, running_mean, running_var, training)
    for c in range(shape[-1]):
        values = x[..., c]
        mean, var = (values.mean(), values.var()) if training else (running_mean[c], running_var[c])
        expected = (values - mean) / math.sqrt(var + 1e-5) * weight[c] + bias[c]
        assert np.allclose(y[..., c], expected, rtol=1e-12, atol=1e-12)
    prove(batch_norm, x, weight, bias, running_mean, running_var, training, exclude=["running_*"])


def test_batch_norm_moves_its_running_averages_as_pytorch_does(normal):
    x, (weight, bias, running_mean, running_var) = normal(3, 4, 5, 2), norm_parameters(normal, 2)
    _, backward = batch_norm(x, weight, bias, running_mean, running_var, training=True)
    _, grads = backward(normal(*x.shape))
    batch_mean, batch_var = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
    assert np.allclose(running_mean - 0.1 * grads["running_mean"], 0.9 * running_mean + 0.1 * batch_mean)
    assert np.allclose(running_var - 0.1 * grads["running_var"], 0.9 * running_var + 0.1 * batch_var)
    _, grads = batch_norm(x, weight, bias, running_mean, running_var)[1](normal(*x.shape))
    assert (grads["running_mean"] == 0).all() and (grads["running_var"] == 0).all()


def test_batch_norm_of_one_pixel_is_its_bias(normal):
    weight, bias, running_mean, running_var = norm_parameters(normal, 2)
    y, backward = batch_norm(normal(1, 1, 1, 2), weight, bias, running_mean, running_var, training=True)
    assert np.allclose(y, bias)
    dx, grads = backward(normal(1, 1, 1, 2))
    assert np.allclose(dx, 0, atol=1e-12)
    assert all(np.isfinite(g).all() for g in grads.values())


# ------------------------------------------------------------------------------------------ average pooling

POOLS = [(4, 4, 2), (5, 4, 2), (5, 7, 2), (7, 8, 3), (3, 3, 3), (2, 3, 1), (2, 3, 2)]


@pytest.mark.parametrize("h, w, size", POOLS)
def test_average_pool_is_the_mean_of_each_square(prove, normal, h, w, size):
    x = normal(2, h, w, 3)
    y, _ = average_pool(x, size)
    assert y.shape == (2, h // size, w // size, 3)
    for n, i, j, c in np.ndindex(y.shape):
        square = x[n, i * size : (i + 1) * size, j * size : (j + 1) * size, c]
        assert y[n, i, j, c] == pytest.approx(square.mean(), abs=1e-14)
    prove(average_pool, x, size)


def test_average_pool_of_too_small_a_picture(normal):
    with pytest.raises(ValueError, match="too small to pool by 2"):
        average_pool(normal(1, 1, 4, 2), 2)
