"""The contrastive loss of a batch whose pairs are spread over ranks, and how its gradient needs no gradient of others.

The equations are those of loss.py. A rank has n of the N pairs. With rᵢ the largest score of row i, Rᵢ its sum of
exp(Sᵢⱼ − rᵢ), and c and C the same of the columns, an entry of the gradient needs two numbers of its row and two of
its column:

    Gᵢⱼ = (exp(Sᵢⱼ − rᵢ) / Rᵢ + exp(Sᵢⱼ − cⱼ) / Cⱼ − Xᵢⱼ − Yᵢⱼ) / 2N

So the ranks gather the embeddings, and each computes the rows of S that are its images' and the columns that are its
texts'; then they gather three numbers of each row and column, its largest score, its sum, and what of it is true; and
then each has all it needs of G for the gradient of its own embeddings,

    dZ_I[mine] = s G[mine, :] Z_T        dZ_T[mine] = s G[:, mine]ᵀ Z_I

A rank receives 2(N − n)E + 6(N − n) numbers. OpenAI gathered embeddings so, and computed all of S everywhere.

Rows and columns are worked on in tiles of a micro-batch, and sums are taken tile by tile and then as everywhere: so the
bits do not depend on how many ranks there are, where that is a power of two, nor on the threads.
"""

import numpy as np

from ..backend import ALONE, add_up, array_module
from ..loss import from_features, true_entries
from ..tree import to_device
from .tiled_loss import LARGEST, cut


def gathered_clip_loss(image_features, text_features, logit_scale, positives=None, ranks=ALONE, tiles=1, map=map):
    """`loss.clip_loss` of all ranks' pairs, from this rank's, (n, E) of each kind.

    positives: of the whole batch; tiles: how many a rank's rows are cut into; map: what works on them.
    Returns loss () of the whole batch and backward; backward() -> (d_image (n, E), d_text (n, E), and this rank's part
    of d_logit_scale ()). Raises ValueError as `clip_loss` does.
    """
    return from_features(
        gathered_contrastive_loss, image_features, text_features, logit_scale, positives, ranks, tiles, map
    )


def gathered_contrastive_loss(z_image, z_text, logit_scale, positives=None, ranks=ALONE, tiles=1, map=map):
    """The same loss from embeddings (n, E) already on the unit sphere; backward as `gathered_clip_loss`."""
    xp, n = array_module(z_image), len(z_image)
    total, mine = n * ranks.size, n * ranks.rank
    scale = xp.exp(logit_scale)
    true = true_entries(total, positives, z_image)
    images = Side(z_image, ranks.gather(z_text), scale, mine, true, tiles)
    true = true_entries(total, positives if positives is None else positives[::-1], z_text)
    texts = Side(z_text, ranks.gather(z_image), scale, mine, true, tiles)
    tasks = [(side, tile) for side in (images, texts) for tile in side.tiles]

    def of_both(f):  # f(side, tile) of all tiles, joined for each side
        found = list(map(lambda task: f(*task), tasks))
        return xp.concatenate(found[: len(images.tiles)]), xp.concatenate(found[len(images.tiles) :])

    r, r_sum, r_true, c, c_sum, c_true = ranks.gather(xp.concatenate(of_both(Side.sums), 1)).T
    images.mine, images.theirs = (r.real, r_sum), (c.real, c_sum)
    texts.mine, texts.theirs = images.theirs, images.mine
    loss = (xp.log(r_sum) - r_true).sum() / (2 * total) + (xp.log(c_sum) - c_true).sum() / (2 * total)

    def backward():
        d_image, d_text = of_both(Side.gradient)
        parts = ((z_image[tile] * d_image[tile]).sum() for tile in images.tiles)  # Σ G∘S of its rows
        return d_image, d_text, add_up(parts, len(images.tiles))

    return loss, backward


class Side:
    """This rank's rows of S, seen from one side: its images against all texts, or its texts against all images.

    z (n, E), others (N, E), scale (); start: which of the N its first row is; true: as `true_entries`, by row, of this
    side; tiles: how many to cut the rows into. mine, theirs: the largest scores and the sums, (N,) each, of all rows of
    this side and of the other, once they are gathered.
    """

    mine = theirs = None

    def __init__(self, z, others, scale, start, true, tiles):
        self.z, self.others, self.scale, self.start = z, others, scale, start
        self.rows, self.columns, self.share, self.other_share = true
        self.first = np.searchsorted(to_device(self.rows, "cpu"), np.arange(len(others) + 1))
        self.tiles = cut(slice(0, len(z)), -(-len(z) // min(tiles, len(z))))
        self.held = {} if len(z) * len(others) <= LARGEST else None  # S of the forward pass, for the backward

    def scores(self, tile):
        """S of a tile's rows (t, N)."""
        return (self.scale * self.z[tile]) @ self.others.T

    def true(self, tile):
        """The true entries of a tile's rows: which of all, and where in the tile."""
        among = slice(self.first[self.start + tile.start], self.first[self.start + tile.stop])
        return among, (self.rows[among] - self.start - tile.start, self.columns[among])

    def sums(self, tile):
        """Of each row of a tile its largest score, Σ exp(S − largest), and what of S − largest is true: (t, 3)."""
        s = self.scores(tile)
        xp, largest = array_module(s), s.real.max(1)
        among, (rows, columns) = self.true(tile)
        true = xp.zeros_like(s[:, 0])
        xp.add.at(true, rows, self.share[among] * (s[rows, columns] - largest[rows]))
        if self.held is not None:
            self.held[tile.start] = s
        return xp.stack([largest.astype(s.dtype), xp.exp(s - largest[:, None]).sum(1), true], 1)

    def gradient(self, tile):
        """s G Z of a tile's rows (t, E)."""
        held = (self.held or {}).pop(tile.start, None)
        s = self.scores(tile) if held is None else held
        xp, own = array_module(s), slice(self.start + tile.start, self.start + tile.stop)
        (largest, total), (other_largest, other_total) = self.mine, self.theirs
        g = xp.exp(s - largest[own, None])
        g *= 1 / total[own, None]
        s -= other_largest
        xp.exp(s, out=s)
        s *= 1 / other_total
        g += s
        among, where = self.true(tile)
        g[where] -= (self.share + self.other_share)[among]
        return (g @ self.others) * (self.scale / (2 * len(self.others)))
