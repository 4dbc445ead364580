"""Notebook 5, average pooling and batch norm: who has a share in a mean gets a share of its gradient."""

import numpy as np

from ...conv import average_pool, batch_norm, extract_patches
from ..exercise import Mistake
from .n05_pictures import pictures

pictures.layer(
    average_pool,
    points=2,
    traps={
        "a remainder at the edge": lambda r: (r.normal(2, 5, 7, 3), 3),
        "a size of 1": lambda r: (r.normal(2, 3, 4, 2), 1),
        "size 2": lambda r: (r.normal(2, 4, 6, 3), 2),
    },
    mistakes=(
        Mistake(
            "N", "it is the sum of each square, and not its mean.", lambda x, size: average_pool(x, size)[0] * size**2
        ),
        Mistake(
            "factor", "it is divided by size, and a square has size².", lambda x, size: average_pool(x, size)[0] * size
        ),
        Mistake(
            "missing term",
            "it takes one pixel of each square, and not their mean.",
            lambda x, size: x[:, ::size, ::size][:, : x.shape[1] // size, : x.shape[2] // size],
        ),
        Mistake(
            "slope",
            "it takes the largest of each square: that is max pooling.",
            lambda x, size: (
                extract_patches(x, size, size, size)
                .reshape(len(x), x.shape[1] // size, x.shape[2] // size, size * size, -1)
                .max(3)
            ),
        ),
    ),
    kinds={
        "N": "Each pixel of a square has a share of 1/size² in its mean.",
        "2": "A square of size × size has size² pixels: each has a share of 1/size² in its mean.",
        "mask": "All size² pixels of a square were read: all get something back.",
        "missing term": "All size² pixels of a square were read: all get something back.",
        "some indices": "What is left out at the right and below was read by no square: dx is 0 there.",
    },
    hints=(
        "Cut the remainder off, then give each square axes of its own: (N, rows, size, columns, size, C).",
        "Backward: dy, for each pixel of its square, divided by size². `np.repeat` copies along an axis.",
        "dx has the shape of x: zeros, and the squares written into it.",
    ),
    inside="bottleneck",
)


# ------------------------------------------------------------------------------------------ batch norm


def batch(r, n, h, w, c, training=True):
    """Pictures (N, H, W, C), the four arrays (C,) of a batch norm, and whether it is in training."""
    return r.normal(n, h, w, c) + 1, *r.batch_norm(c).values(), training


def normalised_over(axes, ddof=0, root=np.sqrt, inside=True):
    """A wrong forward pass: the statistics over other axes, or another deviation."""

    def wrong(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
        if not training:
            return batch_norm(x, weight, bias, running_mean, running_var, False, eps)[0]
        mean, var = x.mean(axes, keepdims=True), x.var(axes, ddof=ddof, keepdims=True)
        return (x - mean) / (root(var + eps) if inside else root(var) + eps) * weight + bias

    return wrong


def plain(x, weight, bias, *more):
    """The same arguments, with γ = 1 and β = 0."""
    return x, np.ones_like(weight), np.zeros_like(bias), *more


def in_use(x, weight, bias, running_mean, running_var, training=False, *eps):
    """The same arguments, with training=False."""
    return x, weight, bias, running_mean, running_var, False, *eps


pictures.layer(
    batch_norm,
    points=6,
    draw=batch,
    traps={
        "in use: training=False": lambda r: batch(r, 3, 2, 4, 3, False),
        "rows, without height and width": lambda r: batch(r, 5, 1, 1, 3),
        "a channel that hardly varies, where ε counts": lambda r: (
            1 + 0.003 * r.normal(3, 2, 2, 2),
            *batch(r, 1, 1, 1, 2)[1:],
        ),
        "another ε": lambda r: (*batch(r, 2, 3, 3, 2), 0.1),
    },
    blind={
        "γ = 1 and β = 0": plain,
        "γ = 1": lambda x, weight, *more: (x, np.ones_like(weight), *more),
        "training=False": in_use,
    },
    mistakes=(
        Mistake(
            "wrong axis",
            "each picture is normalised by itself: mean and variance run over the whole batch.",
            normalised_over((1, 2)),
        ),
        Mistake("wrong axis", "mean and variance run over the channels: that is layer norm.", normalised_over(3)),
        Mistake(
            "wrong axis",
            "each place of the picture has statistics of its own: they run over pictures, rows and columns alike.",
            normalised_over(0),
        ),
        Mistake("wrong axis", "one mean for all channels: each channel has its own.", normalised_over((0, 1, 2, 3))),
        Mistake(
            "factor",
            "the variance is divided by count − 1; only the running one is.",
            normalised_over((0, 1, 2), ddof=1),
        ),
        Mistake(
            "precision",
            "ε stands outside the root; it is added to the variance.",
            normalised_over((0, 1, 2), inside=False),
        ),
        Mistake(
            "sqrt",
            "it is divided by the variance, and not by its root.",
            normalised_over((0, 1, 2), root=lambda var: var),
        ),
        Mistake(
            "mask",
            "it takes the running statistics, also in training.",
            lambda x, w, b, m, v, training=False, eps=1e-5: batch_norm(x, w, b, m, v, False, eps)[0],
        ),
        Mistake(
            "mask",
            "it takes the batch's statistics, also in use.",
            lambda x, w, b, m, v, training=False, eps=1e-5: batch_norm(x, w, b, m, v, True, eps)[0],
        ),
    ),
    kinds={
        "centring": (
            "The mean was read by every pixel of the batch, so each of them has a part in every output. It is the "
            "first of the two terms of layer norm.",
            "Take the mean of dy ∘ γ away, over pictures, rows and columns.",
        ),
        "projection": (
            "The deviation is made of x too. It is the second of the two terms of layer norm.",
            "Take away x̂ times the mean of dy ∘ γ ∘ x̂, over pictures, rows and columns.",
        ),
        "wrong axis": "In training, three axes are summed over, pictures, rows and columns; one stays, the channels. "
        "In use, mean and variance are constants: no sum is left in dx.",
        "mask": "`training` decides which statistics are taken, on both ways.",
        "traps": "In use, mean and variance are constants: which terms of the gradient are left?",
    },
    hints=(
        "It is layer norm along other axes: (0, 1, 2) in the place of the last. What you know of it holds.",
        "γ first: g = dy ∘ γ. In training, take the mean of g and the part along x̂ away; in use, neither.",
        "In training: dx = (g − mean(g) − x̂ ∘ mean(g ∘ x̂)) / deviation, means over (0, 1, 2), for each channel.",
        "dγ = Σ dy ∘ x̂ and dβ = Σ dy, over (0, 1, 2); for the running ones, `to_subtract` is given.",
    ),
    inside="bottleneck",
)
