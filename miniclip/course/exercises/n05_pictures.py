"""Notebook 5: convolution by loops and by patches, pooling, batch norm. A gradient goes to where a number was read."""

import numpy as np

from ...conv import average_pool, batch_norm, conv2d, extract_patches, scatter_patches
from ..exercise import Mistake, Notebook

pictures = Notebook("05_pictures")


# ------------------------------------------------------------------------------------------ convolution, by loops


def convolve(x, weight, stride=1):
    """y[n, i, j, o] = Σ weight[o, c, u, v] x[n, i·stride + u, j·stride + v, c]: no bias, and no padding.

    x (N, H, W, C), weight (O, C, kh, kw) -> y (N, H', W', O), backward; backward(dy) -> dx, {"weight": dweight}.
    """
    return conv2d(x, weight, None, stride)


def turned(weight):
    return weight[:, :, ::-1, ::-1]


def symmetric(weight):
    return weight + turned(weight)


def kernel_in_wrong_order(x, weight, stride, padding=0):
    """The kernel flattened as (C, kh, kw), and the window as (kh, kw, C)."""
    out, _, kh, kw = weight.shape
    return extract_patches(x, kh, kw, stride, padding) @ weight.reshape(out, -1).T


def mistakes_of_a_kernel(wrap):
    """Forward mistakes of loops and of patches. wrap: f(x, weight, stride, padding) -> the exercise's signature."""
    return (
        Mistake(
            "turned",
            "the kernel is turned by 180°, as mathematicians do: networks lay it on the window as it is.",
            wrap(lambda x, w, stride, padding: conv2d(x, turned(w), None, stride, padding)[0]),
        ),
        Mistake(
            "permuted",
            "window and kernel are flattened in different orders: the window is (kh, kw, C), the kernel (C, kh, kw).",
            wrap(kernel_in_wrong_order),
        ),
        Mistake(
            "transposed",
            "rows and columns of the kernel are exchanged.",
            wrap(lambda x, w, stride, padding: conv2d(x, w.swapaxes(2, 3), None, stride, padding)[0]),
        ),
        Mistake(
            "1/N",
            "it is a mean over the window, and a sum is due.",
            wrap(lambda x, w, stride, padding: conv2d(x, w / w[0].size, None, stride, padding)[0]),
        ),
        Mistake(
            "missing term",
            "only the first channel of the picture is used: the sum runs over all.",
            wrap(lambda x, w, stride, padding: conv2d(x[..., :1], w[:, :1], None, stride, padding)[0]),
        ),
    )


def windows(r, n, h, w, c, m, kh, kw):
    """Pictures with h × w windows."""
    stride = r.integer(1, 2)
    return r.normal(n, (h - 1) * stride + kh, (w - 1) * stride + kw, c), r.weight(m, c, kh, kw), stride


WEIGHT_HINT = "The kernel is used at every place of every picture: its gradient is the sum over all of them."

pictures.layer(
    convolve,
    points=6,
    draw=windows,
    traps={
        "pixels that no window reads": lambda r: (r.normal(2, 6, 6, 2), r.weight(3, 2, 3, 3), 2),
        "one window alone": lambda r: (r.normal(2, 3, 4, 2), r.weight(3, 2, 3, 4), 1),
        "windows that do not overlap": lambda r: (r.normal(2, 4, 6, 2), r.weight(3, 2, 2, 2), 2),
        "a kernel wider than tall": lambda r: (r.normal(2, 4, 5, 2), r.weight(3, 2, 1, 3), 1),
    },
    blind={
        "a kernel of 1 × 1": lambda x, weight, stride: (x, weight[:, :, :1, :1], stride),
        "a symmetric kernel": lambda x, weight, stride: (x, symmetric(weight), stride),
        "one window alone": lambda x, weight, stride: (x[:, : weight.shape[2], : weight.shape[3]], weight, 1),
    },
    mistakes=(
        *mistakes_of_a_kernel(lambda f: lambda x, weight, stride=1: f(x, weight, stride, 0)),
        Mistake(
            "slope",
            "each window is summed up first, and the kernel too: multiply number by number, then sum.",
            lambda x, weight, stride=1: conv2d(x, np.ones_like(weight), None, stride)[0] * weight.sum((1, 2, 3)),
        ),
    ),
    kinds={
        "overwritten": "How many windows read this pixel? Each of them sends something back.",
        "turned": "The window at (i, j) read x[i·stride + u] with weight u. Send dy[i] times weight u back to the same "
        "place.",
        "1/N": WEIGHT_HINT,
        "½": WEIGHT_HINT,
        "some indices": "Which windows read this pixel, and which of them send something back in your function?",
        "time step": "Does the loop of backward go over as many windows as that of the forward pass?",
    },
    hints=(
        "Cut one window out: x[:, a : a + kh, b : b + kw], of shape (N, kh, kw, C). Which axes are summed with the "
        "kernel's, and which stay?",
        "np.einsum('nuvc,ocuv->no', window, weight) is one pixel of y, for all pictures and all output channels.",
        "Backward has the same two loops. At each place two things are read, the window and the kernel: each of them "
        "gets the other, times dy there, added to what it has already.",
        "dwindow = einsum('no,ocuv->nuvc', dy[:, i, j], weight), added into the same slice of dx; dweight += "
        "einsum('no,nuvc->ocuv', dy[:, i, j], window).",
    ),
    forbidden=(conv2d, extract_patches, scatter_patches),
)


# ------------------------------------------------------------------------------------------ patches


def patches_to_scatter(r, n, h, w, c, kh, kw):
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


def cut_at_the_end(patches, shape, kh, kw, stride, padding):
    """The frame of padding taken away at the right and below alone."""
    n, h, w, c = shape
    framed = scatter_patches(patches, (n, h + 2 * padding, w + 2 * padding, c), kh, kw, stride, 0)
    return framed[:, :h, :w]


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


# ------------------------------------------------------------------------------------------ average pooling

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
    return x, np.ones_like(weight), np.zeros_like(bias), *more


def in_use(x, weight, bias, running_mean, running_var, training=False, *eps):
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
        "wrong axis": "Three axes are summed over, pictures, rows and columns; one stays, the channels.",
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
