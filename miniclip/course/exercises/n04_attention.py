"""Notebook 4: attention. What a position hears is a weighted mean, and the gradient goes back by the same weights."""

import math

import numpy as np

from ...attention import attend, attend_heads, attention_pool, attention_weights, merge_heads, split_heads
from ...layers import softmax
from ..exercise import Mistake, Notebook

attention = Notebook("04_attention")


def mask_of(t):
    return np.triu(np.full((t, t), -math.inf), 1)


def some_masked(r, m, t):
    """A mask that leaves each query its first key, and each key its first query."""
    return np.where((r.rng.random((m, t)) < 0.4) & (np.arange(m)[:, None] * np.arange(t) > 0), -math.inf, 0.0)


def attended(q, k, v, mask=None, scale=None, axis=-1):
    """The output of `attend`, perhaps with another scale, or with a softmax along another axis."""
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return softmax(scores + (0 if mask is None else mask), axis)[0] @ v


attention.layer(
    attend,
    points=6,
    draw=lambda r, n, heads, m, t, d: (r.normal(n, heads, m, d), *r.normal(2, n, heads, t, d), some_masked(r, m, t)),
    traps={
        "no mask": lambda r: tuple(r.normal(3, 2, 5, 4)),
        "a causal mask": lambda r: (*r.normal(3, 2, 5, 4), mask_of(5)),
        "values wider than keys": lambda r: (r.normal(2, 3, 4), r.normal(2, 5, 4), r.normal(2, 5, 6)),
        "a mask for each text": lambda r: (
            r.normal(2, 2, 1, 4),
            *r.normal(2, 2, 2, 5, 4),
            mask_of(5)[[1, 3]][:, None, None],
        ),
        "one query, no further axes": lambda r: (r.normal(1, 4), *r.normal(2, 6, 4)),
    },
    blind={
        "d = 1": lambda q, k, v, *mask: (q[..., :1], k[..., :1], v, *mask),
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
            "√d is that of the keys' number, and not of their width.",
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
    forbidden=(attention_weights,),
)


def causal_mask(tokens):
    """The library's has two more parameters, for arrays on a graphics card and for their kind of number."""
    return mask_of(tokens)


attention.function(
    causal_mask,
    draw=lambda r: (r.integer(2, 9),),
    points=2,
    traps={"one token": lambda r: (1,)},
    mistakes=(
        Mistake(
            "transposed",
            "it is transposed: row t holds what position t may look at, and that is what came before it.",
            lambda tokens: mask_of(tokens).T,
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
        Mistake("−1", "+inf draws all attention; it is to be −inf.", lambda tokens: -mask_of(tokens)),
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
)


def cut(x, order, heads, turn):
    """qkv (N, T, 3D) cut into three by another order of its last axis, and turned to (3, N, H, T, d)."""
    n, t, width = x.shape
    sizes = {"3": 3, "h": heads, "d": width // (3 * heads)}
    return x.reshape(n, t, *(sizes[letter] for letter in order)).transpose(turn)


def joined(y):
    return y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1)


attention.layer(
    attend_heads,
    points=4,
    draw=lambda r, n, t, heads: (r.normal(n, t, 3 * heads * r.integer(2, 3)), heads, mask_of(t)),
    sizes=("drawn", "drawn again", "drawn once more", "square"),
    traps={
        "no mask": lambda r: (r.normal(2, 5, 18), 3),
        "one head": lambda r: (r.normal(2, 3, 12), 1),
        "heads of width 1": lambda r: (r.normal(2, 3, 12), 4),
        "as many tokens as heads": lambda r: (r.normal(2, 4, 24), 4),
    },
    blind={"one head": lambda qkv, heads, *mask: (qkv, 1, *mask)},
    mistakes=(
        Mistake(
            "permuted",
            "the last axis of qkv is cut as (heads, 3, d). First come all queries: it is (3, heads, d).",
            lambda x, heads, mask=None: joined(attend(*cut(x, "h3d", heads, (3, 0, 2, 1, 4)), mask)[0]),
        ),
        Mistake(
            "permuted",
            "the last axis of qkv is cut as (3, d, heads). A head is d numbers in a row: it is (3, heads, d).",
            lambda x, heads, mask=None: joined(attend(*cut(x, "3dh", heads, (2, 0, 4, 1, 3)), mask)[0]),
        ),
        Mistake(
            "permuted",
            "the heads are reshaped together: (N, heads, T, d) is first turned to (N, T, heads, d).",
            lambda x, heads, mask=None: attend(*split_heads(x, 3, heads), mask)[0].reshape(*x.shape[:2], -1),
        ),
        Mistake(
            "missing term",
            "all heads are one: the width is not cut into heads.",
            lambda x, heads, mask=None: attend(*np.split(x, 3, -1), mask)[0],
        ),
        Mistake(
            "wrong axis",
            "each position attends to its own heads: tokens and heads are exchanged before attend.",
            lambda x, heads, mask=None: attend(*cut(x, "3hd", heads, (2, 0, 1, 3, 4)))[0].reshape(*x.shape[:2], -1),
        ),
        Mistake(
            "swapped",
            "queries and keys are exchanged.",
            lambda x, heads, mask=None: joined(attend(*split_heads(x, 3, heads)[[1, 0, 2]], mask)[0]),
        ),
        Mistake(
            "mask",
            "the mask is not handed on to attend.",
            lambda x, heads, mask=None: joined(attend(*split_heads(x, 3, heads))[0]),
        ),
    ),
    kinds={
        "permuted": (
            "A reshape never moves a number; it only says where rows end. To exchange two axes you need a transpose.",
            "Backward undoes: what was turned last is turned back first, and reshaped after.",
        ),
        "swapped": "Queries, then keys, then values: forward and backward alike.",
        "mask": "attend takes the mask as its last argument: hand it on.",
        "traps": "At this point something is special: no mask, one head, or two axes of the same length, where a "
        "reshape that is wrong does not fail.",
    },
    hints=(
        "reshape(N, T, 3, heads, d) names the parts of the last axis. Then bring 3 to the front, and heads before T.",
        "Behind attend it goes back: (N, heads, T, d) is turned to (N, T, heads, d), and then reshaped to (N, T, D).",
        "Backward is the same with the arrows turned: cut dy into heads, give it to attend's backward, and put the "
        "three that come back together in the order in which they were cut.",
        "np.stack([dq, dk, dv]) is (3, N, heads, T, d); .transpose(1, 3, 0, 2, 4) makes it (N, T, 3, heads, d).",
    ),
    inside="whole model (ViT)",
    forbidden=(split_heads, merge_heads),
)

attention.layer(
    attention_pool,
    points=6,
    sizes=("drawn", "drawn again", "drawn once more", "square"),  # large ones make weights of 1e-320
    traps={
        "one head": lambda r: (r.normal(2, 3, 2, 4), r.attention_pool(7, 4, 3), 1),
        "one picture": lambda r: (r.normal(1, 2, 2, 6), r.attention_pool(5, 6, 4), 3),
    },
    blind={"pictures of one pixel": lambda x, p, heads: (x[:, :1, :1], one_pixel(p), heads)},
    kinds={
        "shortcut": "The first token is the mean of the pixels: what comes back to it goes on to each of them.",
        "missing term": (
            "How many ways lead from a pixel to the output? It is key, it is value, and it is part of a mean.",
            "And the first token: it asks, it is a key, it is a value. Three gradients, added up.",
        ),
        "1/N": "Of a mean, each of H · W pixels gets one share of H · W: the gradient is divided by their number.",
        "N": "Of a mean, each of H · W pixels gets one share of H · W: the gradient is divided by their number.",
        "wrong axis": "The table of positions is the same for all pictures: its gradient is summed over them, alone.",
        "never accumulated": "All parameters are there: positional_embedding, q_proj, k_proj, v_proj, c_proj?",
    },
    hints=(
        "Draw it: pixels → tokens → queries, keys, values → attend → c_proj. Then turn all arrows round.",
        "linear and attend give their backward passes with their outputs. What is left is where arrows meet: the "
        "gradients that arrive at one place are added.",
        "dtokens = what comes from the keys + what comes from the values; at the first token also what comes from the "
        "query.",
        "dpixels = dtokens of the pixels + dtokens of the first / (H · W). positional_embedding gets dtokens summed "
        "over the pictures.",
    ),
    inside="whole model (ResNet)",
)


def one_pixel(p):
    return p | {"positional_embedding": p["positional_embedding"][:2]}
