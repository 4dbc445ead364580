"""Variants for marks: SigLIP's loss with a temperature for each class. See v1_activations.py."""

import numpy as np

from ..exercise import Mistake
from .formulas import softplus
from .v1_activations import enter


def siglip_by_class(z_image, z_text, classes, logit_scale, logit_bias):
    """SigLIP's loss in which each class of texts has a temperature of its own.

    z_image, z_text (N, E), on the unit sphere already; classes (N,) integers: that of text j; logit_scale (K,), of
    each class; logit_bias (). Pair (i, j) scores s = e^(logit_scale[classes[j]]) · z_image[i] · z_text[j] + logit_bias;
    the loss is (1/N) Σ over all pairs of ln(1 + e^(−y s)), with y = 1 where i = j and −1 elsewhere. Returns the loss
    and backward() -> dz_image, dz_text, dlogit_scale (K,), dlogit_bias ().
    """
    return siglip(z_image, z_text, np.exp(logit_scale[classes]), logit_bias)


def siglip(z_image, z_text, temperatures, logit_bias, sign=-1.0):
    """SigLIP's loss with a temperature for each column (N,), or another shape that fits (N, N)."""
    s = temperatures * (z_image @ z_text.T) + logit_bias
    return softplus(sign * s * (2 * np.eye(len(s)) - 1)).sum() / len(s)


def draw_classes(r, n, e, k):
    """Temperatures up to e²: with larger ones all pairs may be told apart, and there is no slope to be seen."""
    return r.unit(n, e), r.unit(n, e), r.rng.integers(0, k, n), r.rng.uniform(-1, 2, k), r.normal()


enter(
    siglip_by_class,
    points=6,
    draw=draw_classes,
    traps={
        "one class": lambda r: draw_classes(r, 4, 3, 1),
        "a class that no text has": lambda r: (
            r.unit(3, 4),
            r.unit(3, 4),
            np.array([2, 0, 2]),
            r.rng.uniform(-1, 2, 4),
            r.normal(),
        ),
    },
    mistakes=(
        Mistake(
            "transposed",
            "the temperature is that of the picture's place: it is the text's.",
            lambda zi, zt, c, t, b: siglip(zi, zt, np.exp(t[c])[:, None], b),
        ),
        Mistake("τ", "the temperature is e^logit_scale.", lambda zi, zt, c, t, b: siglip(zi, zt, t[c], b)),
        Mistake(
            "−1",
            "the sign is wrong: a right pair is to score high.",
            lambda zi, zt, c, t, b: siglip(zi, zt, np.exp(t[c]), b, 1.0),
        ),
        Mistake(
            "N",
            "the sum over the pairs is to be divided by N.",
            lambda zi, zt, c, t, b: len(zi) * siglip_by_class(zi, zt, c, t, b),
        ),
        Mistake(
            "1/N",
            "it is divided by N², and should be by N.",
            lambda zi, zt, c, t, b: siglip_by_class(zi, zt, c, t, b) / len(zi),
        ),
    ),
    hints=(
        "Find the gradient of the scores first: everything else is a product with it.",
        "The slope of ln(1 + e^(−y s)) is −y σ(−y s).",
    ),
)
