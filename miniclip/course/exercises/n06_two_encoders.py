"""Notebook 6: MLP and residual block; a picture becomes tokens; a text is read where it ends."""

import numpy as np

from ...attention import causal_mask, self_attention
from ...conv import conv2d
from ...layers import gelu, layer_norm, linear, quick_gelu, relu
from ...transformer import mlp, residual_block
from ..exercise import Mistake, Notebook

encoders = Notebook("06_two_encoders")
WIDTH = 6


def mask_of(t):
    return causal_mask(t, np, np.float64)


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
        "slope": "Three layers forward, three backward: does the middle one, the activation, get its turn?",
        "swapped": "What c_proj returns is the gradient of c_proj. Follow the names.",
    },
    hints=(
        "Each layer returns its output and its backward. Keep all three of them, under different names.",
        "Backward calls them in the reverse order: c_proj, the activation, c_fc. What one returns, the next takes.",
        "A linear layer's backward returns two things, dx and its gradients; an activation's returns dx alone.",
    ),
    forbidden=(mlp,),
    inside="whole model (ViT)",
)


# ------------------------------------------------------------------------------------------ the block


def a_block(r, n, t, heads):
    return r.normal(n, t, WIDTH), r.block(WIDTH), heads, mask_of(t)


def block_of(first, second):
    """A wrong block: first(x, attention), second(x, x1, MLP) say how its halves are put together."""

    def wrong(x, p, heads, mask=None, activation=quick_gelu):
        norm = lambda x, name: layer_norm(x, **p[name])[0]
        x1 = first(x, lambda h: self_attention(h, p["attn"], heads, mask)[0], lambda x: norm(x, "ln_1"))
        return second(x, x1, lambda h: mlp(h, p["mlp"], activation)[0], lambda x: norm(x, "ln_2"))

    return wrong


def pre(x, f, norm):
    return x + f(norm(x))


def pre_mlp(x, x1, f, norm):
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
        "shortcut": (
            "How often is x used in x + attention(norm(x))? Two ways forward are two ways back; their gradients are "
            "added.",
            "dx1 = dy, past the MLP, and what comes back through the MLP and its norm. Then once more, with dx1 in the "
            "place of dy, for the attention.",
        ),
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


# ------------------------------------------------------------------------------------------ a picture becomes tokens


def picture_tokens(images, p):
    """The tokens of pictures: the class, then the patches from left to right and from top to bottom; positions added.

    images (N, 3, S, S'); p: conv1.weight (D, 3, P, P), class_embedding (D,), positional_embedding (1 + patches, D)
    -> x (N, 1 + patches, D), backward; backward(dx) -> dimages, grads.
    """
    n = len(images)
    patches, conv1 = conv2d(images.transpose(0, 2, 3, 1), **p["conv1"], stride=p["conv1"]["weight"].shape[-1])
    grid = patches.shape
    patches = patches.reshape(n, -1, grid[-1])
    first = np.broadcast_to(p["class_embedding"], (n, 1, grid[-1]))
    x = np.concatenate([first, patches], 1) + p["positional_embedding"]

    def backward(dx):
        dimages, d_conv1 = conv1(dx[:, 1:].reshape(grid))
        position = dx.sum(0)
        grads = {"conv1": d_conv1, "class_embedding": position[0], "positional_embedding": position}
        return dimages.transpose(0, 3, 1, 2), grads

    return x, backward


def some_pictures(r, n, h, w, d):
    patch = r.integer(2, 3)
    return of_size(r, n, h, w, d, patch)


def of_size(r, n, h, w, d, patch):
    p = {"conv1": {"weight": r.weight(d, 3, patch, patch)}, "class_embedding": r.normal(d)}
    return r.normal(n, 3, h * patch, w * patch), p | {"positional_embedding": r.normal(1 + h * w, d)}


def tokens_as(put, patches=None):
    """A wrong picture_tokens: put(class (N, 1, D), patches (N, T, D), positions) -> x."""

    def wrong(images, p):
        n = len(images)
        of = patches or right_patches
        parts = of(images, p["conv1"]["weight"])
        first = np.broadcast_to(p["class_embedding"], (n, 1, parts.shape[-1]))
        return put(first, parts, p["positional_embedding"])

    return wrong


def right_patches(images, weight):
    y = conv2d(images.transpose(0, 2, 3, 1), weight, stride=weight.shape[-1])[0]
    return y.reshape(len(images), -1, y.shape[-1])


def columns_first(images, weight):
    y = conv2d(images.transpose(0, 2, 3, 1), weight, stride=weight.shape[-1])[0].swapaxes(1, 2)
    return y.reshape(len(images), -1, y.shape[-1])


def channels_last_kernel(images, weight):
    """The patch flattened as (P, P, 3) and the kernel as (3, P, P)."""
    n, c, h, w = images.shape
    size = weight.shape[-1]
    cut = images.transpose(0, 2, 3, 1).reshape(n, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, (h // size) * (w // size), -1) @ weight.reshape(len(weight), -1).T


def joined(first, patches, positions):
    return np.concatenate([first, patches], 1) + positions


encoders.layer(
    picture_tokens,
    points=6,
    draw=some_pictures,
    traps={
        "one patch": lambda r: of_size(r, 3, 1, 1, 4, 3),
        "patches of one pixel": lambda r: of_size(r, 2, 2, 3, 4, 1),
        "a picture wider than tall": lambda r: of_size(r, 2, 2, 4, 3, 2),
    },
    blind={"one picture": lambda images, p: (images[:1], p)},
    mistakes=(
        Mistake(
            "permuted",
            "the class stands behind the patches: it is the first token.",
            tokens_as(lambda first, patches, at: np.concatenate([patches, first], 1) + at),
        ),
        Mistake(
            "permuted", "the patches run down the columns: they run along the rows.", tokens_as(joined, columns_first)
        ),
        Mistake(
            "permuted",
            "patch and kernel are flattened in different orders: (P, P, 3) and (3, P, P).",
            tokens_as(joined, channels_last_kernel),
        ),
        Mistake(
            "missing term",
            "the positions are missing.",
            tokens_as(lambda first, patches, at: np.concatenate([first, patches], 1)),
        ),
        Mistake(
            "missing term",
            "the class has a position too, the first.",
            tokens_as(lambda first, patches, at: np.concatenate([first, patches + at[1:]], 1)),
        ),
        Mistake(
            "missing term",
            "the class is added to each patch: it is a token of its own.",
            lambda images, p: (
                np.concatenate(
                    [
                        0 * p["class_embedding"] + np.zeros((len(images), 1, 1)),
                        right_patches(images, p["conv1"]["weight"]) + p["class_embedding"],
                    ],
                    1,
                )
                + p["positional_embedding"]
            ),
        ),
    ),
    kinds={
        "1/N": "The class is one vector and stands in each picture: it gets the sum of what they send back.",
        "½": "The class is one vector and stands in each picture: it gets the sum of what they send back.",
        "permuted": "Undo reshape and transpose in the reverse order: tokens, the grid of patches, the picture.",
        "missing term": "Three things were joined and added. Each of them has a gradient, and the first position is "
        "that of the class.",
    },
    hints=(
        "Patches that do not overlap are a convolution whose stride is its kernel's size: `conv2d`, which wants "
        "channels last.",
        "(N, rows, columns, D) becomes (N, rows · columns, D); the class, copied for each picture, goes before it; the "
        "positions are added to all.",
        "Backward: a sum hands dx to both summands. What was copied for each picture is summed over the pictures: "
        "the positions, and the class.",
        "dpositions = dx.sum(0), whose first row is the class's gradient too; dx[:, 1:], in the shape of the grid, "
        "goes into the convolution's backward.",
    ),
)


# ------------------------------------------------------------------------------------------ a text is read at its end


def read_at_end(x, tokens, end_token):
    """What stands at the first end token of each row.

    x (N, T, D), tokens (N, T) integers, each row with an end_token -> y (N, D), backward; backward(dy) -> dx.
    """
    rows, at = np.arange(len(x)), (tokens == end_token).argmax(1)

    def backward(dy):
        dx = np.zeros_like(x)
        dx[rows, at] = dy
        return dx

    return x[rows, at], backward


def some_texts(r, n, t, d):
    end = r.integer(3, 9)  # of ids up to 11: rarely the largest
    tokens = r.rng.integers(0, 12, (n, t))
    tokens[np.arange(n), r.rng.integers(0, t, n)] = end
    return r.normal(n, t, d), tokens, end


def filled(fill):
    """Texts with the end id 5 and `fill` behind it."""

    def draw(r):
        tokens = r.rng.integers(6, 9, (4, 6))
        for row, length in zip(tokens, (1, 3, 4, 5)):
            row[length], row[length + 1 :] = 5, fill
        return r.normal(4, 6, 3), tokens, 5

    return draw


def at(place):
    """A wrong reading, at another place: place(tokens, end) -> (N,)."""
    return lambda x, tokens, end_token: x[np.arange(len(x)), place(tokens, end_token)]


encoders.layer(
    read_at_end,
    points=4,
    draw=some_texts,
    traps={
        "filled up with zeros": filled(0),
        "filled up with end tokens": filled(5),
        "ids above the end token's": filled(7),
        "one row": lambda r: (r.normal(1, 4, 3), np.array([[2, 5, 1, 5]]), 5),
    },
    blind={
        "texts that all end at the same place": lambda x, tokens, end: (
            x,
            np.where(np.arange(x.shape[1]) == 1, end, 0 * tokens),
            end,
        ),
        "one text": lambda x, tokens, end: (x[:1], tokens[:1], end),
    },
    mistakes=(
        Mistake(
            "largest id",
            "it reads at the largest id: that is the end token in CLIP's own vocabulary, and in few others.",
            at(lambda tokens, end: tokens.argmax(1)),
        ),
        Mistake(
            "last place",
            "it reads at the last place: behind the end there is padding.",
            at(lambda tokens, end: tokens.shape[1] - 1),
        ),
        Mistake(
            "last end",
            "it reads at the last end token: some tokenizers fill up with it, so the first counts.",
            at(lambda tokens, end: tokens.shape[1] - 1 - (tokens == end)[:, ::-1].argmax(1)),
        ),
        Mistake(
            "one before", "it reads one token before the end.", at(lambda tokens, end: (tokens == end).argmax(1) - 1)
        ),
        Mistake("last place", "it reads at the first place: that one has seen nothing.", lambda x, t, e: x[:, 0]),
        Mistake("1/N", "it is the mean of all places.", lambda x, tokens, end: x.mean(1)),
        Mistake(
            "last end",
            "where the end token stands twice in a row, both are added: the first counts.",
            lambda x, tokens, end: (x * (tokens == end)[..., None]).sum(1),
        ),
    ),
    kinds={
        "largest id": "Compare each id with end_token. Where is the first that is equal?",
        "last place": "Texts differ in length. Where does each of them end?",
        "last end": "(tokens == end_token).argmax(1) finds the first: argmax takes the first of several equal ones.",
        "one before": "The end token itself is read: it is the only one that has seen the whole text.",
        "overwritten": "dx[:, at] is every row at every place. One place in each row wants two lists: rows, places.",
    },
    hints=(
        "A comparison gives an array of true and false. argmax finds the first true in each row.",
        "x[rows, at], with rows = np.arange(N), takes one vector of each row.",
        "Backward: zeros everywhere, and dy at the places that were read.",
    ),
)
