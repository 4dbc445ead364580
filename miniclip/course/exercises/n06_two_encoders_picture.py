"""Notebook 6, the picture encoder's beginning: a picture becomes tokens."""

import numpy as np

from ...conv import conv2d
from ..exercise import Mistake
from .n06_two_encoders import encoders


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
    """Pictures of h × w patches, 2 or 3 pixels wide, and parameters of width D."""
    patch = r.integer(2, 3)
    return of_size(r, n, h, w, d, patch)


def of_size(r, n, h, w, d, patch):
    """Pictures (N, 3, h · patch, w · patch), and parameters of width D."""
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
    """The patches as they should be: images (N, 3, S, S'), weight (D, 3, P, P) -> (N, patches, D)."""
    y = conv2d(images.transpose(0, 2, 3, 1), weight, stride=weight.shape[-1])[0]
    return y.reshape(len(images), -1, y.shape[-1])


def columns_first(images, weight):
    """The patches in a wrong order: down the columns."""
    y = conv2d(images.transpose(0, 2, 3, 1), weight, stride=weight.shape[-1])[0].swapaxes(1, 2)
    return y.reshape(len(images), -1, y.shape[-1])


def channels_last_kernel(images, weight):
    """The patch flattened as (P, P, 3) and the kernel as (3, P, P)."""
    n, c, h, w = images.shape
    size = weight.shape[-1]
    cut = images.transpose(0, 2, 3, 1).reshape(n, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, (h // size) * (w // size), -1) @ weight.reshape(len(weight), -1).T


def joined(first, patches, positions):
    """The right x: the class, then the patches, and the positions added."""
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
