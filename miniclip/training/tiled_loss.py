"""The contrastive loss that never holds N × N: a tile of rows of the similarity matrix at a time.

The equations are those of loss.py. With Rᵢ = Σⱼ exp(Sᵢⱼ − rᵢ), rᵢ the largest score of row i, and Cⱼ, cⱼ the same
of column j,

    L = Σᵢ (log Rᵢ + log Cᵢ) / 2N − Σᵢⱼ (Xᵢⱼ (Sᵢⱼ − rᵢ) + Yᵢⱼ (Sᵢⱼ − cⱼ)) / 2N
    Pᵢⱼ = exp(Sᵢⱼ − rᵢ) / Rᵢ        Qᵢⱼ = exp(Sᵢⱼ − cⱼ) / Cⱼ        G = (P + Q − X − Y) / 2N

so a tile of rows needs of all the others no more than c and C, 2N numbers. Forward, a row's sum is whole within its
tile, and a column's grows from tile to tile: where the largest score so far rises from c to c′, what was summed so
far shrinks by exp(c − c′) (the streaming softmax of Milakov & Gimelshein 2018). Backward, each tile of S is computed
once more, becomes its rows of G, and is gone (as in FlashAttention: Dao et al. 2022):

    dZ_I[rows] = s G Z_T        dZ_T += s Gᵀ Z_I[rows]        d logit_scale = Σ G∘S = Σ Z_I ∘ dZ_I

Memory is that of one tile instead of several N × N. The price is a fourth matrix product where there were three, and
it comes back: a tile's memory is used again and again, what follows its product is done in strips of a few rows that
stay in the processor's cache, and the backward begins with the tile that the forward ended with. Rows and columns
have an exponential each. One would do for both, exp(S − m) with a common m, and save a few per cent; but it is 0 for
a whole row or column whose scores are far below m, and this is exact for any.
"""

import math

import numpy as np

from ..backend import array_module
from ..loss import from_features, true_entries
from ..tree import to_device

LARGEST = 1 << 25  # numbers in a tile whose rows are not given
STRIP = 32  # rows that stay in a processor's cache from line to line


def tiled_clip_loss(image_features, text_features, logit_scale, tile=None, positives=None):
    """`loss.clip_loss`, the same numbers up to rounding, in memory that grows with N and not with N².

    image_features (N, E), text_features (N, E): any length, normalised here; logit_scale (): ln 1/τ; tile: rows at
    a time; None for half of them, or as many as make 2²⁵ numbers where half is more; positives: as there.
    Returns loss () and backward; backward() -> (d_image (N, E), d_text (N, E), d_logit_scale ()).
    Raises ValueError when the shapes do not pair up, or tile is less than 1.
    """
    return from_features(tiled_contrastive_loss, image_features, text_features, logit_scale, tile, positives)


def tiled_contrastive_loss(z_image, z_text, logit_scale, tile=None, positives=None):
    """The same loss from embeddings (N, E) already on the unit sphere; backward as `tiled_clip_loss`."""
    xp, n = array_module(z_image), len(z_image)
    scale = xp.exp(logit_scale)
    dtype = xp.result_type(z_image, z_text, scale)
    tiles = cut(slice(0, n), rows_of_a_tile(n) if tile is None else tile)
    most = tiles[-1].stop - tiles[-1].start  # rows of the largest
    strip = min(STRIP, most) if xp is np else most  # a graphics card has no use for little work at a time

    def memory(rows):
        return xp.empty((rows, n), dtype)

    def similarity(rows, held):
        return xp.matmul(scale * z_image[rows], z_text.T, out=held[: rows.stop - rows.start])

    def strips(rows, held):
        return [(few, held[few.start - rows.start : few.stop - rows.start]) for few in cut(rows, strip)]

    true_rows, true_columns, x, y = true_entries(n, positives, z_image)
    first = np.searchsorted(to_device(true_rows, "cpu"), np.arange(n + 1))  # of each row's true entries

    def entries(few):  # the true ones of some rows: which, and where in these rows
        among = slice(first[few.start], first[few.stop])
        return among, (true_rows[among] - few.start, true_columns[among])

    true, row_sum, column_sum = xp.empty(len(x), dtype), xp.empty(n, dtype), xp.zeros(n, dtype)
    row_max, column_max = xp.empty_like(row_sum.real), xp.full_like(row_sum.real, -math.inf)
    held, work = memory(most), memory(strip)
    for rows in tiles:
        among, where = entries(rows)
        true[among] = similarity(rows, held)[where]
        for few, s in strips(rows, held):
            row_max[few] = s.real.max(1)
            row_sum[few] = exp(s, row_max[few, None], out=work).sum(1)
            before, column_max = column_max, xp.maximum(column_max, s.real.max(0))
            column_sum *= xp.exp(before - column_max)
            column_sum += exp(s, column_max, out=work).sum(0)
    of_images = xp.log(row_sum).sum() - (x * (true - row_max[true_rows])).sum()
    of_texts = xp.log(column_sum).sum() - (y * (true - column_max[true_columns])).sum()
    loss = of_images / (2 * n) + of_texts / (2 * n)
    last = [held]  # S of the last rows, until a backward takes it

    def backward():
        d_image, d_text = xp.empty(z_image.shape, dtype), xp.zeros(z_text.shape, dtype)
        held = last.pop() if last else similarity(tiles[-1], memory(most))
        work = memory(strip)
        for rows in reversed(tiles):
            g = held if rows is tiles[-1] else similarity(rows, held)  # S, and strip by strip G in its place
            for few, s in strips(rows, held):
                p = exp(s, row_max[few, None], out=work)
                p *= 1 / row_sum[few, None]
                q = exp(s, column_max, out=s)
                q *= 1 / column_sum
                s += p  # P + Q − X − Y; what all entries share, s / 2N, comes last
                among, where = entries(few)
                s[where] -= (x + y)[among]
            xp.matmul(g, z_text, out=d_image[rows])
            d_text += g.T @ z_image[rows]
        d_image *= scale / (2 * n)
        d_text *= scale / (2 * n)
        return d_image, d_text, (z_image * d_image).sum()

    return loss, backward


def exp(s, shift, out):
    """exp(S − shift), written into `out`, which may have more rows than S, or be S."""
    e = array_module(s).subtract(s, shift, out=out[: len(s)])
    return array_module(s).exp(e, out=e)


def rows_of_a_tile(n):
    """Half of N rows, or as many as make 2²⁵ numbers where half is more."""
    return max(1, min(-(-n // 2), LARGEST // max(1, n)))


def cut(rows, size):
    """A slice in parts of at most `size` rows, as equal as can be, the last one the largest."""
    if size < 1:
        raise ValueError(f"tile is {size}; it must be at least 1 row.")
    n, parts = rows.stop - rows.start, max(1, -(-(rows.stop - rows.start) // size))
    return [slice(rows.start + n * i // parts, rows.start + n * (i + 1) // parts) for i in range(parts)]
