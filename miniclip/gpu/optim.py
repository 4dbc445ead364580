"""Kernels for optim.py: AdamW over whole vectors in one launch, without waiting for the card."""

import numpy as np

from ..optim import STATISTIC, STATISTIC_RATE
from .launch import by_element, contiguous, launcher


def update(gradient, optimizer, lr, shrink, finite, map=map):
    """As optim.update, for float32 or float64: `shrink` and `finite` are read on the card.

    Raises ValueError when the vectors are not of one length, each without gaps in memory.
    """
    theta, average, follows = (
        optimizer.params.vector,
        optimizer.average.vector,
        optimizer.average is not optimizer.params,
    )
    vectors = (theta, gradient, optimizer.m, optimizer.v, average, optimizer.kinds)
    if any(a.shape != theta.shape or not a.flags.c_contiguous for a in vectors):
        raise ValueError(f"AdamW needs vectors of one length without gaps, not {[a.shape for a in vectors]}.")
    launch, _, real = launcher("optim", theta)
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    step_size, correction, keep, follow = optimizer.rates(lr)
    numbers = beta1, 1 - beta1, beta2, (1 - beta2) / (1 - beta1) ** 2, correction, optimizer.eps, step_size, keep
    numbers = (*numbers, follow if follows else 1, STATISTIC_RATE)
    scalars = *contiguous(real, shrink), *contiguous(bool, finite), np.int64(theta.size)
    launch("adamw", *by_element(theta.size), *vectors, *scalars, *[real.type(number) for number in numbers])


def squared_norm(vector, optimizer, map=map):
    """As optim.squared_norm, in one product."""
    learned = vector * (optimizer.kinds != STATISTIC)
    return learned @ learned
