"""Formulas that several exercises share: the forward pass alone, of real numbers and of complex ones. No exercises.

They stand here and not in the library, so that references and wrong functions do not rest on what they judge.
"""

import numpy as np


def sigmoid(x):
    """σ(x) = 1 / (1 + e^−x) of each number, by a tanh, which is finite everywhere."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x):
    """ln(1 + e^x) of each number, with an exponential that is at most 1."""
    positive = np.real(x) > 0
    return np.where(positive, x, 0) + np.log(1 + np.exp(np.where(positive, -x, x)))


def softmax(x, axis=-1):
    """Softmax along an axis, y like x; the largest goes out first."""
    e = np.exp(x - x.real.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_sum_exp(x, axis=-1):
    """ln Σ exp(x) along an axis, which is gone from y; the largest goes out first, and comes back at the end."""
    largest = x.real.max(axis, keepdims=True)
    return (np.log(np.exp(x - largest).sum(axis, keepdims=True)) + largest).squeeze(axis)


def plain_log_sum_exp(x, axis=-1):
    """ln Σ exp(x) as it is written: right for small scores, and infinite for large ones."""
    return np.log(np.exp(x).sum(axis))


def unit(x):
    """The rows of x (..., D) made as long as 1."""
    return x / np.sqrt((x * x).sum(-1, keepdims=True))
