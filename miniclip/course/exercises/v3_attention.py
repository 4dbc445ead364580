"""Variants for marks: scores of attention. See v1_activations.py."""

import numpy as np

from ..exercise import Mistake
from .formulas import softmax, unit
from .v1_activations import enter


def biased_attention(q, k, v, bias):
    """Attention with a bias that is learned, one number for each head, query and key, shared by all of a batch.

    q, k, v (N, H, T, D), bias (H, T, T). y = softmax(q kᵀ / √D + bias) v, the softmax over the keys. Returns y like q
    and backward(dy) -> dq, dk, dv, dbias (H, T, T).
    """
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias) @ v


enter(
    biased_attention,
    points=6,
    draw=lambda r, n, heads, t, d: (*(r.normal(n, heads, t, d) for _ in range(3)), r.normal(heads, t, t)),
    sizes=("drawn", "drawn again", "drawn once more", "square", "large numbers"),
    traps={"one token": lambda r: (*(r.normal(2, 3, 1, 4) for _ in range(3)), r.normal(3, 1, 1))},
    mistakes=(
        Mistake(
            "missing term",
            "the bias is missing.",
            lambda q, k, v, bias: softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ v,
        ),
        Mistake(
            "√d", "the scores are not divided by √D.", lambda q, k, v, bias: softmax(q @ k.swapaxes(-1, -2) + bias) @ v
        ),
        Mistake(
            "1/√d",
            "the bias is divided by √D as well.",
            lambda q, k, v, bias: softmax((q @ k.swapaxes(-1, -2) + bias) / np.sqrt(q.shape[-1])) @ v,
        ),
        Mistake(
            "shortcut",
            "the bias is added after the softmax.",
            lambda q, k, v, bias: (softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) + bias) @ v,
        ),
    ),
    hints=(
        "Up to the scores it is attention as you know it. What comes back to the scores comes back to the bias.",
        "The bias is copied to all of the batch: on the way back that is a sum over N.",
    ),
)


def cosine_scores(q, k, scale):
    """Scores of attention as cosines: queries and keys are put on the unit sphere, and each head has its scale.

    q, k (N, H, T, D), scale (H,). scores = scale · (q/|q|) (k/|k|)ᵀ (N, H, T, T), the lengths along the last axis.
    Returns scores and backward(dscores) -> dq, dk, dscale (H,).
    """
    return scale[:, None, None] * (unit(q) @ unit(k).swapaxes(-1, -2))


enter(
    cosine_scores,
    points=6,
    draw=lambda r, n, heads, t, d: (r.normal(n, heads, t, d), r.normal(n, heads, t, d), r.normal(heads)),
    sizes=("drawn", "drawn again", "drawn once more", "square", "large numbers"),
    traps={"one token": lambda r: (r.normal(2, 3, 1, 4), r.normal(2, 3, 1, 4), r.normal(3))},
    blind={"queries and keys of length 1": lambda q, k, scale: (unit(q), unit(k), scale)},
    mistakes=(
        Mistake(
            "missing term",
            "queries and keys are not put on the sphere.",
            lambda q, k, s: s[:, None, None] * (q @ k.swapaxes(-1, -2)),
        ),
        Mistake(
            "missing term",
            "the keys are not put on the sphere.",
            lambda q, k, s: s[:, None, None] * (unit(q) @ k.swapaxes(-1, -2)),
        ),
        Mistake("factor", "the scale of the head is missing.", lambda q, k, s: unit(q) @ unit(k).swapaxes(-1, -2)),
        Mistake(
            "√d",
            "cosines need no 1/√D.",
            lambda q, k, s: s[:, None, None] * (unit(q) @ unit(k).swapaxes(-1, -2)) / np.sqrt(q.shape[-1]),
        ),
    ),
    hints=(
        "Three things in turn: the sphere twice, a product, a scale. Go back in the reverse order.",
        "Make q longer: the scores stay. So q and its gradient stand at a right angle.",
    ),
)
