"""Notebook 5: convolution, pooling, batch norm. A gradient goes to wherever a number was read.

Here is the convolution by loops; that by patches, and pooling and batch norm, stand in the files beside this one.
"""

import numpy as np

from ...conv import conv2d, extract_patches, scatter_patches
from ..exercise import Mistake, Notebook

pictures = Notebook("05_pictures")


def convolve(x, weight, stride=1):
    """y[n, i, j, o] = Σ weight[o, c, u, v] x[n, i·stride + u, j·stride + v, c]: no bias, and no padding.

    x (N, H, W, C), weight (O, C, kh, kw) -> y (N, H', W', O), backward; backward(dy) -> dx, {"weight": dweight}.
    """
    return conv2d(x, weight, None, stride)


def turned(weight):
    """A kernel (O, C, kh, kw) turned by 180°."""
    return weight[:, :, ::-1, ::-1]


def symmetric(weight):
    """A kernel (O, C, kh, kw) that is the same when it is turned by 180°."""
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
