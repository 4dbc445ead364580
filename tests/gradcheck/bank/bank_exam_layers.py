"""Faults to examine with: affine maps, activations, softmax, normalisation, dropout and residual blocks."""

import numpy as np
from bank_fault import booleans, new_bank, norm_back, sigmoid, softmax

FAULTS, fault = new_bank()


@fault("affine", "w", "dyᵀ x for xᵀ dy: the square gradient is transposed", "transposed", x=(8, 5), w=(5, 5), b=(5,))
def weight_gradient_transposed(wrong, x, w, b):
    return x @ w + b, lambda dy: (dy @ w.T, dy.T @ x if wrong else x.T @ dy, dy.sum(0))


@fault("affine", "b", "summed over the features, not the batch", "wrong axis", x=(6, 4), w=(4, 6), b=(6,))
def bias_wrong_axis(wrong, x, w, b):
    return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.sum(1 if wrong else 0))


@fault(
    "affine",
    "w, b",
    "the layer divides by the batch although the loss does so",
    "1/N",
    w=(20, 30),
    x=(30, 50),
    b=(20, 1),
)
def layer_divides_by_batch(wrong, w, x, b):
    m = x.shape[1] if wrong else 1
    return w @ x + b, lambda dy: (dy @ x.T / m, w.T @ dy, dy.sum(1, keepdims=True) / m)


@fault(
    "affine", "x, w1", "the hidden layer's relu has no mask in the backward", "mask", x=(10, 5), w1=(5, 7), w2=(7, 3)
)
def hidden_relu_without_mask(wrong, x, w1, w2):
    h = np.maximum(0, x @ w1)

    def backward(dy):
        dh = dy @ w2.T
        if not wrong:
            dh[h <= 0] = 0
        return dh @ w1.T, x.T @ dh, h.T @ dy

    return h @ w2, backward


@fault("affine", "x, w", "the cotangent is multiplied in twice", "cotangent", x=(4, 3), w=(3, 5))
def cotangent_twice(wrong, x, w):
    def backward(dy):
        g = dy * dy if wrong else dy
        return g @ w.T, x.T @ g

    return x @ w, backward


@fault("activation", "x", "the slope of the sigmoid of an already activated value", "slope", x=(4, 9))
def sigmoid_applied_twice(wrong, x):
    y = sigmoid(x)
    s = sigmoid(y) if wrong else y
    return y, lambda dy: (dy * s * (1 - s),)


@fault("activation", "x", "beta multiplied once too often", "tau, factor", x=(5, 7))
def softplus_beta(wrong, x):
    beta = 2.5
    return np.log1p(np.exp(beta * x)) / beta, lambda dy: (dy * (beta if wrong else 1) * sigmoid(beta * x),)


@fault("activation", "x", "y + 1 for y + alpha below zero", "slope, some indices", x=(6, 8))
def elu_alpha(wrong, x):
    alpha = 1.7
    y = np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))
    return y, lambda dy: (dy * np.where(x > 0, 1, y + (1 if wrong else alpha)),)


@fault("activation", "x", "alpha rounded to 1.7", "precision, slope", x=(6, 8))
def selu_constant_rounded(wrong, x):
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    y = scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: (dy * scale * np.where(x > 0, 1, (1.7 if wrong else alpha) * np.exp(x)),)


@fault("activation", "x", "1 / (1 + |x|), not squared", "slope", x=(7, 6))
def softsign_not_squared(wrong, x):
    d = 1 + np.abs(x)
    return x / d, lambda dy: (dy / (d if wrong else d * d),)


@fault("activation", "gate, up", "the gradients of SwiGLU's two inputs exchanged", "swapped", gate=(5, 6), up=(5, 6))
def swiglu_exchanged(wrong, gate, up):
    s = sigmoid(gate)

    def backward(dy):
        dgate, dup = dy * up * s * (1 + gate * (1 - s)), dy * gate * s
        return (dup, dgate) if wrong else (dgate, dup)

    return gate * s * up, backward


@fault("activation", "x", "the sigmoid's slope taken of the gradient itself", "slope, cotangent", x=(7, 4), w=(4, 3))
def sigmoid_slope_of_gradient(wrong, x, w):
    h = sigmoid(x)

    def backward(dy):
        dh = dy @ w.T
        return dh * (1 - dh) if wrong else dh * h * (1 - h), h.T @ dy

    return h @ w, backward


@fault("softmax", "x", "the sum is of dy, not of dy p", "centring", x=(6, 5))
def softmax_sum_of_dy(wrong, x):
    p = softmax(x)
    return p, lambda dy: (p * (dy - (dy if wrong else dy * p).sum(1, keepdims=True)),)


@fault("softmax", "x", "dy not summed in the second term", "centring", x=(5, 8))
def log_softmax_dy_not_summed(wrong, x):
    p = softmax(x)
    return np.log(p), lambda dy: (dy - p * (dy if wrong else dy.sum(1, keepdims=True)),)


@fault("batch norm", "x", "the mean taken for a constant", "centring", x=(8, 5), g=(5,), b=(5,))
def batch_norm_constant_mean(wrong, x, g, b):
    std = np.sqrt(x.var(0) + 1e-5)
    xhat = (x - x.mean(0)) / std

    def backward(dy):
        d = dy * g
        mean = 0 if wrong else d.mean(0)
        return (d - mean - xhat * (d * xhat).mean(0)) / std, (dy * xhat).sum(0), dy.sum(0)

    return g * xhat + b, backward


@fault("batch norm", "x", "the 2 of the square forgotten in the variance's path", "projection, 1/2", x=(7, 4), g=(4,))
def batch_norm_square_without_two(wrong, x, g):
    centred = x - x.mean(0)
    var = (centred**2).mean(0) + 1e-5

    def backward(dy):
        dxhat = dy * g
        dvar = (dxhat * centred).sum(0) * -0.5 * var**-1.5
        dcentred = dxhat / np.sqrt(var) + (1 if wrong else 2) * centred * dvar / len(x)
        return dcentred - dcentred.mean(0), (dy * centred).sum(0) / np.sqrt(var)

    return g * centred / np.sqrt(var), backward


@fault("batch norm", "x", "the means over the batch only, not over the pixels", "wrong axis, centring", x=(3, 2, 4, 5))
def batch_norm_2d_batch_only(wrong, x):
    axes = (0, 2, 3)
    std = np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - x.mean(axes, keepdims=True)) / std
    return xhat, lambda dy: (norm_back(xhat, std, dy, 0 if wrong else axes),)


@fault("layer norm", "x", "the mean of dy gamma subtracted twice", "centring", x=(16, 64), g=(64,), b=(64,))
def layer_norm_mean_twice(wrong, x, g, b):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    xhat = (x - x.mean(-1, keepdims=True)) / std

    def backward(dy):
        d = dy * g
        mean = d.mean(-1, keepdims=True) * (2 if wrong else 1)
        return (d - mean - xhat * (d * xhat).mean(-1, keepdims=True)) / std, (dy * xhat).sum(0), dy.sum(0)

    return xhat * g + b, backward


@fault("layer norm", "x", "the means over tokens and features together", "wrong axis, centring", x=(3, 4, 6), g=(6,))
def layer_norm_three_axes(wrong, x, g):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    xhat = (x - x.mean(-1, keepdims=True)) / std
    return xhat * g, lambda dy: (norm_back(xhat, std, dy * g, (1, 2) if wrong else -1), (dy * xhat).sum((0, 1)))


@fault("group norm", "g", "channels (C / G, G) for (G, C / G)", "permuted", x=(3, 6, 5), g=(6,))
def group_norm_channels_misread(wrong, x, g):
    groups = x.reshape(3, 2, 3, 5)
    std = np.sqrt(groups.var((2, 3), keepdims=True) + 1e-5)
    xhat = (groups - groups.mean((2, 3), keepdims=True)) / std

    def backward(dy):
        dg = (dy.reshape(xhat.shape) * xhat).sum((0, 3))
        dxhat = (dy * g[:, None]).reshape(xhat.shape)
        return norm_back(xhat, std, dxhat, (2, 3)).reshape(x.shape), (dg.T if wrong else dg).reshape(6)

    return xhat.reshape(x.shape) * g[:, None], backward


@fault(
    "instance norm", "x", "the second mean divided by the batch as well", "projection, factor, centring", x=(4, 2, 3, 5)
)
def instance_norm_second_mean(wrong, x):
    axes = (2, 3)
    std = np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - x.mean(axes, keepdims=True)) / std

    def backward(dy):
        second = (dy * xhat).sum(axes, keepdims=True) / (15 * (4 if wrong else 1))
        return ((dy - dy.mean(axes, keepdims=True) - xhat * second) / std,)

    return xhat, backward


@fault("rms norm", "x", "gamma forgotten within the mean", "projection, outside the sums", x=(4, 16, 24), g=(24,))
def rms_norm_gamma_not_in_mean(wrong, x, g):
    r = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    xhat = x / r

    def backward(dy):
        inner = ((dy if wrong else dy * g) * xhat).mean(-1, keepdims=True)
        return (dy * g - xhat * inner) / r, (dy * xhat).sum((0, 1))

    return xhat * g, backward


@fault("dropout", "x", "the mask forgotten, the scale not", "mask", x=(30, 40), keep=booleans((30, 40), 0.7))
def dropout_without_mask(wrong, x, keep):
    return x * keep / 0.7, lambda dy: (dy / 0.7 if wrong else dy * keep / 0.7,)


@fault("dropout", "x", "1 / p for 1 / (1 - p)", "factor", x=(4, 9), keep=booleans((4, 9), 0.75), w=(9, 3))
def dropout_scale_of_p(wrong, x, keep, w):
    p = 0.25
    h = x * keep / (1 - p)
    return h @ w, lambda dy: (dy @ w.T * keep / (p if wrong else 1 - p), h.T @ dy)


@fault("residual", "x", "the shortcut's dy counted twice", "shortcut", x=(40, 20), w=(20, 20))
def residual_shortcut_twice(wrong, x, w):
    h = np.maximum(0, x)
    return x + h @ w, lambda dy: ((2 if wrong else 1) * dy + (dy @ w.T) * (x > 0), h.T @ dy)


@fault("residual", "x", "the 1 × 1 shortcut's path forgotten", "shortcut, missing term", x=(7, 4), w=(4, 6), ws=(4, 6))
def residual_projection_forgotten(wrong, x, w, ws):
    h = np.tanh(x @ w)

    def backward(dy):
        dz = dy * (1 - h * h)
        return dz @ w.T + (0 if wrong else dy @ ws.T), x.T @ dz, x.T @ dy

    return x @ ws + h, backward
