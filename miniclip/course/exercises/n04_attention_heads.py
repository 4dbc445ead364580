"""Notebook 4, attention with several heads: how the width is cut, and pooling, which asks once."""

import numpy as np

from ...attention import attend, attend_heads, attention_pool, merge_heads, split_heads
from ..exercise import Mistake
from .n04_attention import attention, causal_mask, some_masked


def cut(x, order, heads, turn):
    """qkv (N, T, 3D) cut into three by another order of its last axis, and turned to (3, N, H, T, d)."""
    n, t, width = x.shape
    sizes = {"3": 3, "h": heads, "d": width // (3 * heads)}
    return x.reshape(n, t, *(sizes[letter] for letter in order)).transpose(turn)


def joined(y):
    """Heads side by side: (N, H, T, d) -> (N, T, H d)."""
    return y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1)


IN_ATTEND = "√d stands in attend, and nowhere else here. Is yours right? What is wrong there is wrong here as well."

attention.layer(
    attend_heads,
    points=4,
    draw=lambda r, n, t, heads: (r.normal(n, t, 3 * heads * r.integer(2, 3)), heads, some_masked(r, t, t)),
    sizes=("drawn", "drawn again", "drawn once more", "square"),
    traps={
        "no mask": lambda r: (r.normal(2, 5, 18), 3),
        "a causal mask": lambda r: (r.normal(2, 5, 18), 3, causal_mask(5)),
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
        "√d": IN_ATTEND,
        "1/√d": IN_ATTEND,
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
        "√d": IN_ATTEND,
        "1/√d": IN_ATTEND,
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
    """The parameters of a pool with the positions of the mean and of one pixel alone."""
    return p | {"positional_embedding": p["positional_embedding"][:2]}
