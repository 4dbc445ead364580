"""Faults to develop with: affine maps, activations, softmax, normalisation, dropout and residual blocks."""

import numpy as np
from bank_fault import booleans, new_bank, norm_back, scaled, sigmoid, softmax, softmax_back

FAULTS, fault = new_bank()


@fault("affine", "b", "averaged over the batch where it should be summed", "1/N", x=(7, 4), w=(4, 5), b=(5,))
def bias_averaged(wrong, x, w, b):
    return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.mean(0) if wrong else dy.sum(0))


@fault("affine", "x", "the square w is not transposed", "transposed", x=(6, 5), w=(5, 5))
def weight_not_transposed(wrong, x, w):
    return x @ w, lambda dy: (dy @ (w if wrong else w.T), x.T @ dy)


@fault(
    "affine",
    "w2",
    "the sum before relu instead of the activation",
    "mask, missing term",
    x=(9, 4),
    w1=(4, 6),
    w2=(6, 3),
)
def weight_from_before_relu(wrong, x, w1, w2):
    z = x @ w1
    h = np.maximum(0, z)

    def backward(dy):
        dz = (dy @ w2.T) * (z > 0)
        return dz @ w1.T, x.T @ dz, (z if wrong else h).T @ dy

    return h @ w2, backward


@fault("activation", "x", "the sigmoid's slope taken of x, not of y", "slope", x=(5, 8))
def sigmoid_slope_of_x(wrong, x):
    y = sigmoid(x)
    return y, lambda dy: (dy * x * (1 - x) if wrong else dy * y * (1 - y),)


@fault("activation", "x", "1 - y for 1 - y²", "slope", x=(4, 7))
def tanh_not_squared(wrong, x):
    y = np.tanh(x)
    return y, lambda dy: (dy * (1 - (y if wrong else y * y)),)


@fault("activation", "x", "the slope of relu: nothing for negative x", "slope, mask", x=(6, 7))
def leaky_relu_as_relu(wrong, x):
    return np.where(x > 0, x, 0.2 * x), lambda dy: (dy * np.where(x > 0, 1.0, 0.0 if wrong else 0.2),)


@fault("activation", "x", "the derivative of 0.044715 x³ forgotten", "slope, missing term", x=(8, 12))
def gelu_cubic_term(wrong, x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    inner = c if wrong else c * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + t), lambda dy: (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner),)


@fault("activation", "x", "the upper bound of relu6 has no mask", "mask, clip", x=scaled(6, 5, 9))
def relu6_upper_bound(wrong, x):
    return np.clip(x, 0, 6), lambda dy: (dy * (x > 0) if wrong else dy * ((x > 0) & (x < 6)),)


@fault("activation", "x", "the local slope is returned without dy", "cotangent", x=(6, 4))
def sigmoid_without_dy(wrong, x):
    y = sigmoid(x)
    return y, lambda dy: (y * (1 - y) if wrong else dy * y * (1 - y),)


@fault("activation", "x", "the 2 of x² forgotten", "1/2", x=(4, 3, 5), w=(5, 2))
def square_without_two(wrong, x, w):
    def backward(dy):
        return (1 if wrong else 2) * x * (dy @ w.T), np.einsum("nti,nto->io", x**2, dy)

    return x**2 @ w, backward


@fault("softmax", "x", "only the diagonal of the Jacobian", "centring", x=(20, 30))
def softmax_diagonal(wrong, x):
    p = softmax(x)
    return p, lambda dy: (dy * p * (1 - p) if wrong else softmax_back(p, dy),)


@fault("softmax", "x", "the sum runs over the rows", "wrong axis, centring", x=(6, 6))
def softmax_sum_over_rows(wrong, x):
    p = softmax(x)
    return p, lambda dy: (p * (dy - (dy * p).sum(0 if wrong else 1, keepdims=True)),)


@fault("softmax", "x", "the temperature forgotten", "tau", x=(3, 4, 5))
def softmax_temperature_forgotten(wrong, x):
    tau = 0.3
    p = softmax(x / tau)
    return p, lambda dy: (softmax_back(p, dy) / (1 if wrong else tau),)


@fault("batch norm", "x", "the variance taken for a constant", "projection, missing term", x=(60, 20), g=(20,), b=(20,))
def batch_norm_constant_variance(wrong, x, g, b):
    std = np.sqrt(np.var(x, 0) + 1e-5)
    xhat = (x - x.mean(0)) / std

    def backward(dy):
        d = dy * g
        dx = (d - d.mean(0)) / std if wrong else norm_back(xhat, std, d, 0)
        return dx, (dy * xhat).sum(0), dy.sum(0)

    return g * xhat + b, backward


@fault("batch norm", "b", "the gradient of beta stays zero", "never accumulated", x=(2, 3, 4, 5), g=(3,), b=(3,))
def batch_norm_beta_zero(wrong, x, g, b):
    axes = (0, 2, 3)
    std = np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - x.mean(axes, keepdims=True)) / std
    gamma = g[None, :, None, None]

    def backward(dy):
        db = np.zeros_like(b)
        if not wrong:
            db += dy.sum(axes)
        return norm_back(xhat, std, dy * gamma, axes), (dy * xhat).sum(axes), db

    return gamma * xhat + b[None, :, None, None], backward


@fault("layer norm", "x", "gamma multiplied after the means", "outside the sums", x=(16, 64), g=(64,), b=(64,))
def layer_norm_gamma_outside(wrong, x, g, b):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    xhat = (x - x.mean(-1, keepdims=True)) / std

    def backward(dy):
        dx = g * norm_back(xhat, std, dy, -1) if wrong else norm_back(xhat, std, dy * g, -1)
        return dx, (dy * xhat).sum(0), dy.sum(0)

    return xhat * g + b, backward


@fault("layer norm", "g, b", "gamma's and beta's gradients exchanged", "swapped", x=(3, 4, 6), g=(6,), b=(6,))
def layer_norm_gamma_beta_exchanged(wrong, x, g, b):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    xhat = (x - x.mean(-1, keepdims=True)) / std

    def backward(dy):
        dg, db = (dy * xhat).sum((0, 1)), dy.sum((0, 1))
        dx = norm_back(xhat, std, dy * g, -1)
        return (dx, db, dg) if wrong else (dx, dg, db)

    return xhat * g + b, backward


@fault("layer norm", "x", "the backward computes the deviation again, without eps", "precision", x=scaled(0.7, 4, 9))
def layer_norm_without_eps(wrong, x):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-2)
    centred = x - x.mean(-1, keepdims=True)

    def backward(dy):
        again = np.sqrt((centred**2).mean(-1, keepdims=True)) if wrong else std
        return (norm_back(centred / std, again, dy, -1),)

    return centred / std, backward


@fault("group norm", "x", "means over all channels, not over the group", "wrong axis, centring", x=(2, 6, 3, 4))
def group_norm_without_groups(wrong, x):
    groups = x.reshape(2, 3, 2, 3, 4)
    axes = (2, 3, 4)
    std = np.sqrt(groups.var(axes, keepdims=True) + 1e-5)
    xhat = (groups - groups.mean(axes, keepdims=True)) / std

    def backward(dy):
        return (norm_back(xhat, std, dy.reshape(xhat.shape), (1, 2, 3, 4) if wrong else axes).reshape(x.shape),)

    return xhat.reshape(x.shape), backward


@fault("instance norm", "x", "the deviation taken for a constant", "projection, missing term", x=(3, 2, 4, 5))
def instance_norm_constant_deviation(wrong, x):
    std = x.std((2, 3), keepdims=True)
    xhat = (x - x.mean((2, 3), keepdims=True)) / std

    def backward(dy):
        plain = (dy - dy.mean((2, 3), keepdims=True)) / std
        return (plain if wrong else norm_back(xhat, std, dy, (2, 3)),)

    return xhat, backward


@fault("rms norm", "x", "the 1/D of the mean square forgotten in the second term", "projection, N", x=(5, 8), g=(8,))
def rms_norm_sum_for_mean(wrong, x, g):
    r = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    xhat = x / r

    def backward(dy):
        inner = (dy * g * xhat).sum(-1, keepdims=True) / (1 if wrong else x.shape[-1])
        return (dy * g - xhat * inner) / r, (dy * xhat).sum(0)

    return xhat * g, backward


@fault("dropout", "x", "1 / keep forgotten", "factor", x=(6, 9), keep=booleans((6, 9), 0.7))
def dropout_unscaled(wrong, x, keep):
    scale = 1 / 0.7
    return x * keep * scale, lambda dy: (dy * keep if wrong else dy * keep * scale,)


@fault("dropout", "x", "scaled by 1 / keep twice", "factor", x=(4, 5), keep=booleans((4, 5), 0.8), w=(5, 3))
def dropout_scaled_twice(wrong, x, keep, w):
    mask = keep / 0.8
    h = np.tanh(x) * mask

    def backward(dy):
        dh = dy @ w.T * mask / (0.8 if wrong else 1)
        return dh * (1 - np.tanh(x) ** 2), h.T @ dy

    return h @ w, backward


@fault("residual", "x", "the shortcut's dy forgotten", "shortcut", x=(40, 30), w=(30, 30))
def residual_without_shortcut(wrong, x, w):
    h = np.tanh(x @ w)

    def backward(dy):
        dz = dy * (1 - h * h)
        return dz @ w.T + (0 if wrong else dy), x.T @ dz

    return x + h, backward


@fault("residual", "x", "dy goes through the norm as well", "shortcut", x=(4, 7), w=(7, 7))
def pre_norm_shortcut_inside(wrong, x, w):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    xhat = (x - x.mean(-1, keepdims=True)) / std

    def backward(dy):
        dxhat = dy @ w.T
        dx = norm_back(xhat, std, dy + dxhat, -1) if wrong else dy + norm_back(xhat, std, dxhat, -1)
        return dx, xhat.T @ dy

    return x + xhat @ w, backward
