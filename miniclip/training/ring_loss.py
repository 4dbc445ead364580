"""The contrastive loss of ranks in a ring: texts travel, and no rank ever holds N × N, nor all embeddings.

The equations are those of loss.py, and gathered_loss.py says what an entry of G needs. Here a rank keeps its n images,
and the blocks of n texts go round, R hops until each is home again. On the way forward a text carries its column's
largest score so far, the sum of exp(S − largest), which shrinks when a larger score comes (the streaming softmax), and
what of its column is true; on the way back, the two that are then known, and its gradient, to which each rank adds what
its images give. A rank receives N(E + 3) and N(2E + 2) numbers.

The shift by the largest score stays (without it, as in Inf-CL's ring, a scale of 100 is infinite in float32).
Source: Cheng et al. 2024, "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for Contrastive Loss".
"""

import math

import numpy as np

from ..backend import ALONE, array_module
from ..loss import from_features, true_entries
from ..tree import to_device


def ring_clip_loss(image_features, text_features, logit_scale, positives=None, ranks=ALONE, **_):
    """`loss.clip_loss` of all ranks' pairs, from this rank's, (n, E) of each kind; see `gathered_clip_loss`."""
    return from_features(ring_contrastive_loss, image_features, text_features, logit_scale, positives, ranks)


def ring_contrastive_loss(z_image, z_text, logit_scale, positives=None, ranks=ALONE):
    """The same loss from embeddings (n, E) already on the unit sphere; backward as `gathered_clip_loss`."""
    xp, (n, e) = array_module(z_image), z_image.shape
    total, scale = n * ranks.size, xp.exp(logit_scale)
    rows, columns, x, y = true_entries(total, positives, z_image)
    on_host = [to_device(axis, "cpu") for axis in (rows, columns)]
    owners = [(ranks.rank - hop) % ranks.size for hop in range(ranks.size)]  # of the texts that are here at each hop
    dtype = xp.result_type(z_image, z_text, scale)

    def entries(owner):
        """The true entries of this rank's images with the texts of another: which, and where in S here."""
        among = xp.asarray(np.flatnonzero((on_host[0] // n == ranks.rank) & (on_host[1] // n == owner)))
        return among, rows[among] - n * ranks.rank, columns[among] - n * owner

    row_max, row_sum, row_true = xp.full(n, -math.inf, dtype), xp.zeros(n, dtype), xp.zeros(n, dtype)
    texts = xp.concatenate([z_text, xp.full((n, 1), -math.inf, dtype), xp.zeros((n, 2), dtype)], 1)
    for owner in owners:
        z, column_max, column_sum, column_true = texts[:, :e], texts[:, e], texts[:, e + 1], texts[:, e + 2]
        s = (scale * z_image) @ z.T
        among, i, j = entries(owner)
        xp.add.at(row_true, i, x[among] * s[i, j])
        xp.add.at(column_true, j, y[among] * s[i, j])
        for axis, largest, sums in ((1, row_max, row_sum), (0, column_max, column_sum)):
            before = largest.copy()
            largest[...] = xp.maximum(before.real, s.real.max(axis))
            sums *= xp.exp(before - largest)
            sums += xp.exp(s - xp.expand_dims(largest, axis)).sum(axis)
        texts = ranks.shift(texts)
    column_max, column_sum, column_true = texts[:, e], texts[:, e + 1], texts[:, e + 2]
    of_images, of_texts = row_max - row_true + xp.log(row_sum), column_max - column_true + xp.log(column_sum)
    loss = xp.stack([of_images.sum() / (2 * total) + of_texts.sum() / (2 * total)])
    ranks.add(loss)

    def backward():
        d_image = xp.zeros((n, e), dtype)
        texts = xp.concatenate([z_text, xp.zeros((n, e), dtype), column_max[:, None], column_sum[:, None]], 1)
        for owner in owners:
            z, d_text, largest, sums = texts[:, :e], texts[:, e : 2 * e], texts[:, 2 * e], texts[:, 2 * e + 1]
            s = (scale * z_image) @ z.T
            g = xp.exp(s - row_max[:, None]) / row_sum[:, None] + xp.exp(s - largest) / sums
            among, i, j = entries(owner)
            g[i, j] -= (x + y)[among]
            d_image += g @ z
            d_text += g.T @ z_image
            texts = ranks.shift(texts)
        d_image *= scale / (2 * total)
        return d_image, texts[:, e : 2 * e] * (scale / (2 * total)), (z_image * d_image).sum()

    return loss[0], backward
