"""A file as a student hands it in: what is right, what is wrong, and what fails. The tests of the command check it."""

import numpy as np

from miniclip.gradcheck import assert_gradients, check

print("the homework is loaded")


def batchnorm_forward(x, gamma, beta, eps=1e-5):
    mean, var = x.mean(0), x.var(0)
    normed = (x - mean) / np.sqrt(var + eps)
    return gamma * normed + beta, (normed, gamma, var, eps)


def batchnorm_backward(dout, cache):
    """Right for gamma and beta; for x the variance is taken for a constant."""
    normed, gamma, var, eps = cache
    dnormed = dout * gamma
    return (dnormed - dnormed.mean(0)) / np.sqrt(var + eps), (dout * normed).sum(0), dout.sum(0)


def batchnorm_inputs(rng):
    return {"gamma": rng.normal(size=5), "x": rng.normal(size=(4, 5)), "beta": rng.normal(size=5)}


def affine(x, w):
    return x @ w, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout


def affine_wrong_backward(dout, cache):
    x, w = cache
    return dout @ w.T, 2 * x.T @ dout


def softmax(x):
    print("softmax runs")
    p = np.exp(x - x.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    return p, lambda dy: p * (dy - (p * dy).sum(-1, keepdims=True))


def softmax_backward(dout):
    raise AssertionError("softmax has its own")


def inputs_softmax(seed):
    return np.random.default_rng(seed).normal(size=(3, 4))


def cross_entropy(scores, labels):
    p, _ = softmax(scores)
    rows = np.arange(len(labels))

    def backward():
        return (p - np.eye(p.shape[1])[labels]) / len(labels)

    return -np.log(p[rows, labels]).mean(), backward


def inputs_for_cross_entropy(rng):
    return [rng.normal(size=(3, 4)), np.array([0, 3, 2])]


def square(x):
    return np.sum(x * x)


def square_gradient(x):
    return 2 * x


class LinearLayer:
    def __init__(self, wide=4, narrow=3):
        self.W = np.random.default_rng(0).normal(size=(wide, narrow))

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        self.dW = self.x.T @ dout
        return dout @ self.W.T


class Sized(LinearLayer):
    def __init__(self, size):
        super().__init__(size, size)


layer = LinearLayer(5, 2)


def check_square():
    return check(square, np.arange(1.0, 4), gradient=square_gradient)


def check_cube():
    return (lambda x: (x**3, lambda dy: 2 * dy * x)), np.arange(1.0, 3)


def assert_softmax():
    return assert_gradients(lambda x: (x, lambda dy: 2 * dy), np.ones(2))


def gives_nothing():
    pass


def fails(x):
    return undefined_name * x  # noqa: F821


def leaves(x):
    raise SystemExit(0)
