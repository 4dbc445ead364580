"""Notebook 5, convolution by patches: a window is a row of numbers, and a convolution a linear layer on such rows."""

import numpy as np

from ...conv import conv2d, extract_patches, scatter_patches
from ..exercise import Mistake
from .n05_pictures import WEIGHT_HINT, mistakes_of_a_kernel, pictures, symmetric


def patches_to_scatter(r, n, h, w, c, kh, kw):
    """Patches of pictures (N, H, W, C), stride and padding drawn as well."""
    stride, padding = r.integer(1, 2), r.integer(0, 1)
    return some_patches(r, (n, h, w, c), kh, kw, stride, padding)


def some_patches(r, shape, kh, kw, stride, padding):
    """Random numbers in the shape of the patches of a picture."""
    patches = extract_patches(np.zeros(shape), kh, kw, stride, padding)
    return r.normal(*patches.shape), shape, kh, kw, stride, padding


def windows_read(shape, kh, kw, stride, padding):
    """How many windows read each pixel."""
    ones = np.ones_like(extract_patches(np.zeros(shape), kh, kw, stride, padding))
    return np.maximum(scatter_patches(ones, shape, kh, kw, stride, padding), 1)


def scatter_as(order):
    """A wrong scatter_patches, which takes the numbers of a patch for another order than (kh, kw, C)."""

    def wrong(patches, shape, kh, kw, stride, padding):
        sizes = dict(zip("uvc", (kh, kw, shape[3])))
        parts = patches.reshape(*patches.shape[:3], *(sizes[axis] for axis in order))
        parts = parts.transpose(0, 1, 2, *(3 + order.index(axis) for axis in "uvc"))
        return scatter_patches(parts.reshape(patches.shape), shape, kh, kw, stride, padding)

    return wrong


def scatter_in_turn(patches, shape, kh, kw, stride, padding):
    """Window after window, each overwriting what it finds."""
    n, h, w, c = shape
    padded = np.zeros((n, h + 2 * padding, w + 2 * padding, c))
    for i in range(patches.shape[1]):
        for j in range(patches.shape[2]):
            a, b = i * stride, j * stride
            padded[:, a : a + kh, b : b + kw] = patches[:, i, j].reshape(n, kh, kw, c)
    return padded[:, padding : padding + h, padding : padding + w]


def scatter_by_offset(patches, shape, kh, kw, stride, padding):
    """Offset after offset, each overwriting what it finds."""
    n, h, w, c = shape
    padded = np.zeros((n, h + 2 * padding, w + 2 * padding, c))
    rows, columns = patches.shape[1:3]
    parts = patches.reshape(n, rows, columns, kh, kw, c)
    for u in range(kh):
        for v in range(kw):
            padded[:, u : u + rows * stride : stride, v : v + columns * stride : stride] = parts[:, :, :, u, v]
    return padded[:, padding : padding + h, padding : padding + w]


def framed(patches, shape, kh, kw, stride, padding):
    """The picture with its frame of padding."""
    n, h, w, c = shape
    return scatter_patches(patches, (n, h + 2 * padding, w + 2 * padding, c), kh, kw, stride, 0)


def cut_at_the_end(patches, shape, kh, kw, stride, padding):
    """The frame taken away at the right and below alone."""
    return framed(patches, shape, kh, kw, stride, padding)[:, : shape[1], : shape[2]]


def cut_by_minus(patches, shape, kh, kw, stride, padding):
    """The frame taken away by an end that counts from behind, which −0 does not."""
    return framed(patches, shape, kh, kw, stride, padding)[:, padding:-padding, padding:-padding]


OVERLAP = "windows that overlap overwrite one another: a pixel that several have read gets the sum of what they bring."
EXTRACTED_ORDER = "A patch was made by reshaping (kh, kw, C) to one row. The reshape back has the same order."

pictures.function(
    scatter_patches,
    draw=patches_to_scatter,
    points=4,
    traps={
        "no padding": lambda r: some_patches(r, (2, 4, 5, 2), 3, 2, 1, 0),
        "pixels that no window reads": lambda r: some_patches(r, (2, 6, 6, 2), 3, 3, 2, 0),
        "windows that do not overlap": lambda r: some_patches(r, (2, 4, 6, 3), 2, 2, 2, 0),
        "gaps between windows": lambda r: some_patches(r, (1, 5, 5, 2), 1, 1, 2, 0),
        "much padding": lambda r: some_patches(r, (1, 3, 3, 2), 3, 3, 1, 2),
    },
    mistakes=(
        Mistake("overwritten", OVERLAP, scatter_in_turn),
        Mistake("overwritten", OVERLAP, scatter_by_offset),
        Mistake(
            "1/N",
            "the mean of what the windows bring is taken: it is their sum.",
            lambda patches, *where: scatter_patches(patches, *where) / windows_read(*where),
        ),
        Mistake(
            "permuted", "the numbers of a patch are taken as (C, kh, kw): they are (kh, kw, C).", scatter_as("cuv")
        ),
        Mistake("permuted", "kh and kw are exchanged when a patch is reshaped.", scatter_as("vuc")),
        Mistake(
            "turned",
            "each patch is written back turned by 180°: it goes back as it was read.",
            lambda patches, shape, kh, kw, *where: scatter_patches(
                patches.reshape(*patches.shape[:3], kh * kw, -1)[:, :, :, ::-1].reshape(patches.shape),
                *(shape, kh, kw, *where),
            ),
        ),
        Mistake(
            "some indices",
            "the frame of padding is cut off at the wrong place: it is `padding` wide on each side.",
            cut_at_the_end,
        ),
        Mistake(
            "some indices",
            "the frame is cut off by [padding : −padding], which is empty where padding is 0.",
            cut_by_minus,
        ),
    ),
    kinds={
        "overwritten": "`+=` where `=` stands. With a loop over windows, or over the kh · kw places in a window, no "
        "place occurs twice in one step, so `+=` is enough.",
        "permuted": EXTRACTED_ORDER,
        "some indices": "Scatter into a picture with its frame, then cut the frame off: [padding : padding + h].",
        "traps": "Slices from −0: `a[p:-p]` is empty where p = 0. Write `a[p : p + h]`.",
    },
    hints=(
        "Make a picture of zeros with the frame of padding around it. Each patch is added to the place it was cut "
        "from. Cut the frame off at the end.",
        "The patch of output pixel (i, j) was read at rows i·stride … i·stride + kh, and columns j·stride … j·stride + "
        "kw, of the framed picture.",
        "patches.reshape(n, rows, columns, kh, kw, c)[:, i, j] is the patch, as it was cut.",
        "Faster than a loop over all windows is one over the kh · kw places in a window: place (u, v) of all windows "
        "goes to padded[:, u : u + rows · stride : stride, v : v + columns · stride : stride].",
    ),
)


# ------------------------------------------------------------------------------------------ convolution, by patches


def convolution(r, n, h, w, c, m, kh, kw):
    """Pictures (N, H, W, C), kernel and bias of M outputs, stride and padding."""
    return r.normal(n, h, w, c), *r.dense(m, c, kh, kw).values(), r.integer(1, 2), r.integer(0, 1)


def with_bias(f):
    """A wrong convolution without a bias, as a function with one."""
    return lambda x, weight, bias=None, stride=1, padding=0: (
        f(x, weight, stride, padding) + (0 if bias is None else bias)
    )


pictures.layer(
    conv2d,
    points=4,
    draw=convolution,
    traps={
        "no bias": lambda r: (r.normal(2, 4, 4, 2), r.weight(3, 2, 3, 3), None, 1, 1),
        "a kernel of 1 × 1": lambda r: (r.normal(2, 3, 4, 2), *r.dense(3, 2, 1, 1).values()),
        "pixels that no window reads": lambda r: (r.normal(2, 6, 6, 2), *r.dense(3, 2, 3, 3).values(), 2, 0),
        "patches, as a ViT cuts them": lambda r: (r.normal(2, 6, 6, 3), r.weight(4, 3, 3, 3), None, 3),
        "much padding": lambda r: (r.normal(1, 3, 3, 2), *r.dense(2, 2, 3, 3).values(), 1, 2),
    },
    blind={
        "a kernel of 1 × 1": lambda x, weight, *more: (x, weight[:, :, :1, :1], *more),
        "a symmetric kernel": lambda x, weight, *more: (x, symmetric(weight), *more),
        "windows that do not overlap": lambda x, weight, bias=None, *more: (x, weight, bias, max(weight.shape[2:])),
    },
    mistakes=(
        *mistakes_of_a_kernel(with_bias),
        Mistake("missing term", "the bias is missing.", lambda x, w, b=None, *where: conv2d(x, w, None, *where)[0]),
        Mistake(
            "clip",
            "the frame around the picture holds copies of its edge: it is to be of zeros.",
            lambda x, w, b=None, stride=1, padding=0: conv2d(
                np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), "edge"), w, b, stride
            )[0],
        ),
    ),
    kinds={
        "permuted": "extract_patches flattens (kh, kw, C). Bring the kernel into that order before you flatten it: "
        "weight.transpose(0, 2, 3, 1); and its gradient back.",
        "transposed": "y = patches @ matrix.T: so dpatches = dy @ matrix, and dmatrix = dyᵀ @ patches.",
        "1/N": WEIGHT_HINT,
        "½": WEIGHT_HINT,
        "clip": "Zeros stand outside a picture: extract_patches puts them there.",
    },
    hints=(
        "A convolution is a linear layer on patches: patches (N, H', W', kh·kw·C) times a matrix (O, kh·kw·C).",
        "matrix = weight.transpose(0, 2, 3, 1).reshape(out, -1), in the order in which extract_patches flattens.",
        "Three steps, so three steps back: the linear layer gives dpatches and dmatrix; scatter_patches takes dpatches "
        "to dx; reshape and transpose take dmatrix to dweight.",
        'dweight = dmatrix.reshape(out, kh, kw, c).transpose(0, 3, 1, 2); the gradients are {"weight": …}, and '
        '"bias" where there is one.',
    ),
    inside="bottleneck",
)
