"""Variants for marks: norms. See v1_activations.py."""

import numpy as np

from ..exercise import Mistake
from .v1_activations import enter


def rms_norm(x, weight, eps=1e-5):
    """Divide each row by the root of the mean of its squares: y = x / √(mean(x²) + eps) · weight.

    x (..., D), weight (D,). No mean is taken away, and there is no bias. Returns y like x and backward(dy) -> dx like
    x, dweight (D,).
    """
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


enter(
    rms_norm,
    points=6,
    draw=lambda r, n, t, d: (r.normal(n, t, d), r.normal(d)),
    traps={
        "one row alone": lambda r: (r.normal(6), r.normal(6)),
        "short rows, where ε counts": lambda r: (0.003 * r.normal(3, 5), r.normal(5)),
        "another ε": lambda r: (r.normal(2, 3, 4), r.normal(4), 0.1),
    },
    blind={"a weight of ones": lambda x, weight, *eps: (x, np.ones_like(weight), *eps)},
    mistakes=(
        Mistake(
            "centring",
            "the mean is taken away: that is layer norm.",
            lambda x, w, eps=1e-5: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * w,
        ),
        Mistake(
            "N",
            "a sum of squares stands for their mean.",
            lambda x, w, eps=1e-5: x / np.sqrt((x * x).sum(-1, keepdims=True) + eps) * w,
        ),
        Mistake("sqrt", "the root is missing.", lambda x, w, eps=1e-5: x / ((x * x).mean(-1, keepdims=True) + eps) * w),
        Mistake(
            "wrong axis",
            "the mean runs over the whole array; each row has its own.",
            lambda x, w, eps=1e-5: x / np.sqrt((x * x).mean() + eps) * w,
        ),
        Mistake(
            "precision",
            "ε stands outside the root.",
            lambda x, w, eps=1e-5: x / (np.sqrt((x * x).mean(-1, keepdims=True)) + eps) * w,
        ),
    ),
    hints=(
        "Make x longer, and y hardly changes. Move x by a constant, and it does. Which of layer norm's terms stay?",
        "With x̂ = x / r: the weight multiplies x̂ last, so on the way back it comes first.",
    ),
)


def group_norm(x, weight, bias, groups, eps=1e-5):
    """Layer norm of groups of channels: each picture has one mean and one variance for every group.

    x (N, H, W, C), weight (C,), bias (C,); `groups` divides C, and channels that stand side by side form a group. Mean
    and variance run over the pixels and the channels of the group: x̂ = (x − mean) / √(variance + eps), y = weight · x̂
    + bias. Returns y like x and backward(dy) -> dx like x, dweight (C,), dbias (C,).
    """
    return normalised(x, groups, (1, 2, 4), eps) * weight + bias


def normalised(x, groups, axes, eps, aside=False):
    """x with the mean and the deviation over these axes taken out, its channels split into (groups, C / groups)."""
    n, h, w, c = x.shape
    parts = np.moveaxis(x.reshape(n, h, w, c // groups, groups), 3, 4) if aside else x.reshape(n, h, w, groups, -1)
    parts = parts - parts.mean(axes, keepdims=True)
    parts = parts / np.sqrt((parts * parts).mean(axes, keepdims=True) + eps)
    return (np.moveaxis(parts, 4, 3) if aside else parts).reshape(x.shape)


def wrong_groups(axes, aside=False):
    """A wrong group_norm: statistics over other axes, or groups of channels that do not stand side by side."""
    return lambda x, w, b, groups, eps=1e-5: normalised(x, groups, axes, eps, aside) * w + b


enter(
    group_norm,
    points=6,
    draw=lambda r, n, h, w, c: (r.normal(n, h, w, 2 * c), r.normal(2 * c), r.normal(2 * c), 2),
    sizes=("drawn", "drawn again", "drawn once more", "square", "large numbers"),
    traps={
        "one group": lambda r: (r.normal(2, 3, 2, 4), r.normal(4), r.normal(4), 1),
        "three groups, another ε": lambda r: (r.normal(2, 2, 3, 6), r.normal(6), r.normal(6), 3, 0.1),
    },
    blind={"a weight of ones": lambda x, weight, *rest: (x, np.ones_like(weight), *rest)},
    mistakes=(
        Mistake("wrong axis", "the batch is averaged over too: each picture has its own.", wrong_groups((0, 1, 2, 4))),
        Mistake("wrong axis", "each channel is normalised by itself.", wrong_groups((1, 2))),
        Mistake("wrong axis", "each pixel is normalised by itself.", wrong_groups((4,))),
        Mistake("permuted", "a group is of channels that stand side by side.", wrong_groups((1, 2, 4), True)),
    ),
    hints=(
        "Reshape the channels to (groups, C / groups): the rest is layer norm over other axes.",
        "The weight first: g = dy ∘ weight. Then the two terms of layer norm, over the same axes as the mean.",
    ),
)
