"""Notebook 4: attention. What a position hears is a weighted mean, and the gradient goes back by the same weights.

Here are the equation and its mask; the heads and the pooling stand in the file beside this one.
"""

import math

import numpy as np

from ... import attention as library
from ...layers import softmax
from ..exercise import Mistake, Notebook

attention = Notebook("04_attention")


def causal_mask(tokens):
    """The library's, without its two parameters for arrays on a graphics card and for their kind of number."""
    return library.causal_mask(tokens, np, np.float64)


def some_masked(r, m, t):
    """A mask that leaves each query its first key, and each key its first query."""
    return np.where((r.rng.random((m, t)) < 0.4) & (np.arange(m)[:, None] * np.arange(t) > 0), -math.inf, 0.0)


def attended(q, k, v, mask=None, scale=None, axis=-1):
    """The output of `attend`, perhaps with another scale, or with a softmax along another axis."""
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return softmax(scores + (0 if mask is None else mask), axis)[0] @ v


attention.layer(
    library.attend,
    points=6,
    draw=lambda r, n, heads, m, t, d: (r.normal(n, heads, m, d), *r.normal(2, n, heads, t, d), some_masked(r, m, t)),
    traps={
        "no mask": lambda r: tuple(r.normal(3, 2, 5, 4)),
        "a causal mask": lambda r: (*r.normal(3, 2, 5, 4), causal_mask(5)),
        "more queries than keys": lambda r: (r.normal(2, 6, 4), *r.normal(2, 2, 3, 4)),
        "a mask for each text": lambda r: (
            r.normal(2, 2, 1, 4),
            *r.normal(2, 2, 2, 5, 4),
            causal_mask(5)[[1, 3]][:, None, None],
        ),
        "one query, no further axes": lambda r: (r.normal(1, 4), *r.normal(2, 6, 4)),
    },
    blind={
        "d = 1": lambda q, k, v, *mask: (q[..., :1], k[..., :1], v[..., :1], *mask),
        "values that are all alike": lambda q, k, v, *mask: (q, k, v[..., :1, :] + np.zeros_like(v), *mask),
        "a single key": lambda q, k, v, *mask: (q, k[..., :1, :], v[..., :1, :], *(m[..., :1] * 0 for m in mask)),
    },
    mistakes=(
        Mistake("√d", "the scores are not divided by √d.", lambda q, k, v, mask=None: attended(q, k, v, mask, 1.0)),
        Mistake(
            "1/√d",
            "the scores are divided by d, and not by its root.",
            lambda q, k, v, mask=None: attended(q, k, v, mask, 1 / q.shape[-1]),
        ),
        Mistake(
            "factor",
            "the scores are multiplied by √d, and not divided.",
            lambda q, k, v, mask=None: attended(q, k, v, mask, q.shape[-1] ** 0.5),
        ),
        Mistake(
            "wrong axis",
            "the softmax runs over the queries: each query is to share out one whole among the keys.",
            lambda q, k, v, mask=None: attended(q, k, v, mask, axis=-2),
        ),
        Mistake(
            "factor",
            "the root is that of the number of keys; it is to be that of their width.",
            lambda q, k, v, mask=None: attended(q, k, v, mask, k.shape[-2] ** -0.5),
        ),
        Mistake(
            "missing term",
            "there is no softmax: the scores themselves are the weights.",
            lambda q, k, v, mask=None: q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5 @ v,
        ),
        Mistake("mask", "the mask is forgotten.", lambda q, k, v, mask=None: attended(q, k, v)),
        Mistake(
            "mask",
            "the mask takes weights away behind the softmax, and the rest does not sum to 1. It is added before it.",
            lambda q, k, v, mask=None: np.exp(mask) * softmax(q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5)[0] @ v,
        ),
    ),
    kinds={
        "√d": (
            "The scores were divided by √d on the way forward. What does that do to a gradient that comes back through "
            "them?",
            "Both dQ and dK come from the gradient of the scores, and it is divided by √d, once.",
        ),
        "1/√d": "√d stands once between Q Kᵀ and the softmax. So it stands once in dQ, once in dK, and not in dV.",
        "transposed": (
            "Write the shapes below each product: A is (queries, keys). dV has one row for each key.",
            "dV = Aᵀ dY and dK = dSᵀ Q: both are transposed, and dQ = dS K is not.",
        ),
        "swapped": "dQ has a row for each query: it is a sum of keys. dK has a row for each key: a sum of queries.",
        "centring": (
            "Add the same to all scores of one query: what changes? So what must dS sum to in each row?",
            "Between dA and dS stands the backward pass of a softmax.",
        ),
        "missing term": "Between dA and dS stands the whole backward pass of a softmax, with its sum.",
        "unknown": "Is the gradient of v right, and those of q and k are wrong? Then look between dA and dS, where "
        "the backward pass of a softmax belongs, and at the scale.",
        "mask": "softmax(scores + mask): where the mask is −inf the weight is 0, and the others share the whole.",
        "traps": "The mask has −inf in it. It is added before the softmax, it may have any shape that fits the "
        "scores, and it has no gradient.",
    },
    hints=(
        "Give each step a name: S = Q Kᵀ / √d + mask, A = softmax(S), Y = A V. Go back from the last to the first.",
        "Of a product Y = A V: dA = dY Vᵀ and dV = Aᵀ dY. For stacks of matrices, ᵀ is .swapaxes(-1, -2).",
        "The softmax gives its backward with its output: weights, softmax_back = softmax(scores).",
        "dS = softmax_back(dY Vᵀ) / √d, then dQ = dS K, dK = dSᵀ Q, and dV = Aᵀ dY.",
    ),
    inside="whole model (ViT)",
    forbidden=(library.attention_weights,),
)


attention.function(
    causal_mask,
    draw=lambda r: (r.integer(2, 9),),
    points=2,
    traps={"one token": lambda r: (1,)},
    mistakes=(
        Mistake(
            "transposed",
            "it is transposed: row t holds what position t may look at, and that is what came before it.",
            lambda tokens: causal_mask(tokens).T,
        ),
        Mistake(
            "mask",
            "the diagonal is masked as well: a position may look at itself.",
            lambda tokens: np.triu(np.full((tokens, tokens), -math.inf)),
        ),
        Mistake(
            "mask",
            "it is to be added to the scores: 0 where one may look, −inf where not.",
            lambda tokens: np.tri(tokens),
        ),
        Mistake(
            "mask",
            "it is to be added to the scores: 0 where one may look, −inf where not.",
            lambda tokens: np.triu(np.ones((tokens, tokens)), 1),
        ),
        Mistake(
            "mask",
            "0 and −inf stand the other way about.",
            lambda tokens: np.where(np.tri(tokens, dtype=bool), -math.inf, 0.0),
        ),
        Mistake("−1", "+inf draws all attention; it is to be −inf.", lambda tokens: -causal_mask(tokens)),
        Mistake(
            "precision",
            "a large number is not infinite; −inf gives weights that are exactly 0.",
            lambda tokens: np.triu(np.full((tokens, tokens), -1e9), 1),
        ),
    ),
    kinds={
        "transposed": "Which of the two is the one that asks, row or column? Row 0 may look at itself alone.",
        "forward": "Is there NaN in it? 0 · inf is no number: choose the entries, and do not multiply.",
        "mask": "Write the one for three positions on paper. Which of the nine entries are forbidden?",
    },
    hints=(
        "Row t is what position t may look at: 0 up to column t, and −inf behind it.",
        "np.triu(a, 1) keeps what lies above the diagonal and puts 0 elsewhere; np.where chooses.",
    ),
    forbidden=(library.causal_mask,),
)
