"""Wrong softmaxes, layer norms and spheres."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ softmax


def soft(x, axis):
    e = np.exp(x - x.real.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@bug("softmax", "centring, missing term")
def sum_forgotten(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: y * dy


@bug("softmax", "centring, missing term")
def as_a_sigmoid(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: y * (1 - y) * dy


@bug("softmax", "centring, missing term, factor")
def y_forgotten(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: dy - (dy * y).sum(axis, keepdims=True)


@bug("softmax", "centring, missing term")
def plain_mean(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: y * (dy - dy.mean(axis, keepdims=True))


@bug("softmax", "−1")
def sign(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: y * ((dy * y).sum(axis, keepdims=True) - dy)


@bug("softmax", "wrong axis, centring")
def sum_over_all(x, axis=-1):
    y = soft(x, axis)
    return y, lambda dy: y * (dy - (dy * y).sum())


@bug("softmax", "wrong axis, missing term")
def not_divided(x, axis=-1):
    y = np.exp(x)
    return y, lambda dy: dy * y


@bug("softmax", "wrong axis")
def over_everything(x, axis=-1):
    e = np.exp(x)
    y = e / e.sum()
    return y, lambda dy: y * (dy - (dy * y).sum())


@bug("softmax", "")
def overflow(x, axis=-1):
    e = np.exp(x)
    y = e / e.sum(axis, keepdims=True)
    return y, lambda dy: y * (dy - (dy * y).sum(axis, keepdims=True))


@bug("softmax", "")
def last_axis_only(x, axis=-1):
    y = soft(x, -1)
    return y, lambda dy: y * (dy - (dy * y).sum(-1, keepdims=True))


# ------------------------------------------------------------------------------------------ layer norm


def norm(x, weight, bias, eps, dx, dweight=lambda dy, normal: dy * normal, mean=False):
    """A layer norm with another gradient of x, dx(dy, g, x̂, deviation), or of its parameters."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    normal = centred / deviation

    def backward(dy):
        rows = tuple(range(dy.ndim - 1))
        total = np.mean if mean else np.sum
        grads = {"weight": dweight(dy, normal).sum(rows), "bias": total(dy, rows)}
        return dx(dy, dy * weight, normal, deviation), grads

    return normal * weight + bias, backward


def mean(a):
    return a.mean(-1, keepdims=True)


def right(dy, g, normal, deviation):
    return (g - mean(g) - normal * mean(g * normal)) / deviation


@bug("layer_norm", "centring")
def mean_forgotten(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: (g - n * mean(g * n)) / s)


@bug("layer_norm", "projection")
def variance_a_constant(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: (g - mean(g)) / s)


@bug("layer_norm", "centring, projection")
def statistics_constants(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: g / s)


@bug("layer_norm", "outside the sums")
def weight_outside(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: weight * right(dy, dy, n, s))


@bug("layer_norm", "missing term, factor, outside the sums")
def weight_forgotten(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: right(dy, dy, n, s))


@bug("layer_norm", "projection")
def sum_for_mean(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: (g - mean(g) - n * (g * n).sum(-1, keepdims=True)) / s)


@bug("layer_norm", "factor, missing term, sqrt")
def over_the_variance(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: right(dy, g, n, s * s))


@bug("layer_norm", "missing term, factor")
def not_over_the_deviation(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, lambda dy, g, n, s: right(dy, g, n, 1.0))


@bug("layer_norm", "1/N")
def bias_averaged(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, right, mean=True)


@bug("layer_norm", "")
def y_for_normal(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, right, lambda dy, normal: dy * (normal * weight + bias))


@bug("layer_norm", "missing term, swapped")
def weight_without_normal(x, weight, bias, eps=1e-5):
    return norm(x, weight, bias, eps, right, lambda dy, normal: dy)


@bug("layer_norm", "factor")
def sample_variance(x, weight, bias, eps=1e-5):
    deviation = np.sqrt(x.var(-1, ddof=1, keepdims=True) + eps)
    normal = (x - mean(x)) / deviation
    return normal * weight + bias, lambda dy: None


# ------------------------------------------------------------------------------------------ the unit sphere


def sphere(x, dx):
    length = np.sqrt((x * x).sum(-1, keepdims=True)) + 1e-30
    y = x / length
    return y, lambda dy: dx(dy, y, length)


def along(dy, y):
    return (dy * y).sum(-1, keepdims=True)


@bug("l2_normalize", "projection")
def length_a_constant(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: dy / length)


@bug("l2_normalize", "missing term, factor")
def not_over_length(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: dy - y * along(dy, y))


@bug("l2_normalize", "missing term, factor, sqrt")
def over_length_twice(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: (dy - y * along(dy, y)) / length**2)


@bug("l2_normalize", "projection")
def x_for_y(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: (dy - x * along(dy, x)) / length)


@bug("l2_normalize", "projection")
def mean_for_sum(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: (dy - y * (dy * y).mean(-1, keepdims=True)) / length)


@bug("l2_normalize", "projection, wrong axis")
def sum_of_all(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: (dy - y * (dy * y).sum()) / length)


@bug("l2_normalize", "projection")
def plus(x, eps=1e-12):
    return sphere(x, lambda dy, y, length: (dy + y * along(dy, y)) / length)


@bug("l2_normalize", "wrong axis")
def whole_array(x, eps=1e-12):
    length = np.sqrt((x * x).sum())
    return x / length, lambda dy: (dy - x * (dy * x).sum() / length**2) / length


@bug("l2_normalize", "")
def zero_over_zero(x, eps=1e-12):
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    y = x / length
    return y, lambda dy: (dy - y * along(dy, y)) / length
