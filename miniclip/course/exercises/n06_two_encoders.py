"""Notebook 6, the Transformer: the MLP, and the residual block."""

import numpy as np

from ...attention import causal_mask, self_attention
from ...layers import gelu, layer_norm, linear, quick_gelu, relu
from ...transformer import mlp, residual_block
from ..exercise import Mistake, Notebook

encoders = Notebook("06_two_encoders")
WIDTH = 6


# ------------------------------------------------------------------------------------------ the MLP

encoders.layer(
    mlp,
    points=2,
    draw=lambda r, n, t, d: (r.normal(n, t, d), r.mlp(d)),
    traps={
        "another activation": lambda r: (r.normal(2, 3, 4), r.mlp(4), gelu),
        "rows without a sequence": lambda r: (r.normal(3, 4), r.mlp(4)),
        "a hidden layer of another width": lambda r: (r.normal(2, 5), {"c_fc": r.dense(7, 5), "c_proj": r.dense(5, 7)}),
    },
    mistakes=(
        Mistake(
            "missing term",
            "there is no activation between the two linear layers.",
            lambda x, p, activation=None: linear(linear(x, **p["c_fc"])[0], **p["c_proj"])[0],
        ),
        Mistake(
            "missing term",
            "the biases are missing.",
            lambda x, p, activation=quick_gelu: linear(
                activation(linear(x, p["c_fc"]["weight"])[0])[0], p["c_proj"]["weight"]
            )[0],
        ),
        Mistake(
            "slope",
            "it always takes a ReLU: the activation is an argument.",
            lambda x, p, activation=None: mlp(x, p, relu)[0],
        ),
        Mistake(
            "slope",
            "it always takes quick_gelu: the activation is an argument.",
            lambda x, p, activation=None: mlp(x, p)[0],
        ),
        Mistake(
            "slope",
            "it takes the exact GELU: CLIP's default is quick_gelu.",
            lambda x, p, activation=None: mlp(x, p, gelu)[0],
        ),
        Mistake(
            "shortcut",
            "it adds x: that is the block's business, and not the MLP's.",
            lambda x, p, activation=quick_gelu: x + mlp(x, p, activation)[0],
        ),
    ),
    kinds={
        "unknown": "Three layers forward, three backward: does the middle one, the activation, get its turn?",
        "slope": "The middle layer is `activation(h)`, whichever was given. Its backward comes second, too.",
        "swapped": "What c_proj returns is the gradient of c_proj. Follow the names.",
    },
    hints=(
        "Each layer returns its output and its backward. Keep all three of them, under different names.",
        "Backward calls them in the reverse order: c_proj, the activation, c_fc. What one returns, the next takes.",
        "A linear layer's backward returns two things, dx and its gradients; an activation's returns dx alone.",
    ),
    inside="whole model (ViT)",
)


# ------------------------------------------------------------------------------------------ the block


def a_block(r, n, t, heads):
    """x (N, T, WIDTH), the parameters of a block, the number of heads, and a causal mask (T, T)."""
    return r.normal(n, t, WIDTH), r.block(WIDTH), heads, causal_mask(t, np, np.float64)


def block_of(first, second):
    """A wrong block: first(x, attention), second(x, x1, MLP) say how its halves are put together."""

    def wrong(x, p, heads, mask=None, activation=quick_gelu):
        norm = lambda x, name: layer_norm(x, **p[name])[0]
        x1 = first(x, lambda h: self_attention(h, p["attn"], heads, mask)[0], lambda x: norm(x, "ln_1"))
        return second(x, x1, lambda h: mlp(h, p["mlp"], activation)[0], lambda x: norm(x, "ln_2"))

    return wrong


def pre(x, f, norm):
    """The right first half of a block: x and what f, the attention, says of the normalised x."""
    return x + f(norm(x))


def pre_mlp(x, x1, f, norm):
    """The right second half of a block: x1 and what f, the MLP, says of the normalised x1."""
    return x1 + f(norm(x1))


encoders.layer(
    residual_block,
    points=6,
    draw=a_block,
    traps={
        "no mask": lambda r: (r.normal(2, 3, WIDTH), r.block(WIDTH), 2),
        "another activation": lambda r: (r.normal(2, 3, WIDTH), r.block(WIDTH), 3, None, gelu),
        "one token": lambda r: (r.normal(2, 1, WIDTH), r.block(WIDTH), 2),
    },
    mistakes=(
        Mistake(
            "shortcut",
            "both shortcuts are missing.",
            block_of(lambda x, f, norm: f(norm(x)), lambda x, x1, f, norm: f(norm(x1))),
        ),
        Mistake("shortcut", "x is not added to the MLP's output.", block_of(pre, lambda x, x1, f, norm: f(norm(x1)))),
        Mistake(
            "shortcut", "x is not added to the attention's output.", block_of(lambda x, f, norm: f(norm(x)), pre_mlp)
        ),
        Mistake(
            "shortcut",
            "the second shortcut begins at x: it begins at x + attention.",
            block_of(pre, lambda x, x1, f, norm: x + f(norm(x1))),
        ),
        Mistake(
            "missing term",
            "the MLP reads x: it reads what the attention has left, x + attention.",
            block_of(pre, lambda x, x1, f, norm: x1 + f(norm(x))),
        ),
        Mistake(
            "permuted",
            "the norms stand after the sums (post-norm): in CLIP they stand before attention and MLP.",
            block_of(lambda x, f, norm: norm(x + f(x)), lambda x, x1, f, norm: norm(x1 + f(x1))),
        ),
        Mistake(
            "shortcut",
            "the shortcut carries the normalised x: it carries x as it is.",
            block_of(lambda x, f, norm: norm(x) + f(norm(x)), lambda x, x1, f, norm: norm(x1) + f(norm(x1))),
        ),
        Mistake(
            "missing term",
            "the norms are missing.",
            block_of(lambda x, f, norm: x + f(x), lambda x, x1, f, norm: x1 + f(x1)),
        ),
        Mistake(
            "swapped",
            "ln_1 and ln_2 are exchanged.",
            lambda x, p, *more, **named: residual_block(x, p | {"ln_1": p["ln_2"], "ln_2": p["ln_1"]}, *more, **named)[
                0
            ],
        ),
        Mistake(
            "mask",
            "the mask is not handed on to the attention.",
            lambda x, p, heads, mask=None, activation=quick_gelu: residual_block(x, p, heads, None, activation)[0],
        ),
    ),
    kinds={
        "permuted": "A norm stands on the branch, in front of attention and MLP. What is added is not normalised.",
        "mask": "self_attention takes the mask as its last argument, None or not.",
        "contract": "dx, and a dict of ln_1, attn, ln_2, mlp. And dy stays as it was: `dx1 = dy + d` is a new array, "
        "`dy += d` writes into the caller's.",
        "shortcut": (
            "How often is x used in x + attention(norm(x))? Two ways forward are two ways back; their gradients are "
            "added.",
            "dx1 = dy, past the MLP, and what comes back through the MLP and its norm. Then once more, with dx1 in the "
            "place of dy, for the attention.",
        ),
        "unknown": "What goes past the first half is not dy: it is all that has come back to x1.",
        "2": "Is the way past a half counted twice?",
        "missing term": "Draw the stream from left to right, with two loops that leave it and come back. How many ways "
        "lead from the end to the beginning?",
    },
    hints=(
        "Two halves of the same form: x1 = x + attention(ln_1(x)), and y = x1 + mlp(ln_2(x1)). Go back through the "
        "second first.",
        "A sum hands its gradient to both summands, whole: dy goes into the MLP's backward, and past it.",
        "dx1 = dy + ln_2's backward of the MLP's backward of dy. Then the same for the first half: "
        "dx = dx1 + ln_1's backward of the attention's backward of dx1.",
    ),
    inside="whole model (ViT)",
)
