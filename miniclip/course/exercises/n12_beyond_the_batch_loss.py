"""Notebook 12, the loss in tiles, which never holds N × N numbers."""

import numpy as np

from ...loss import clip_loss, contrastive_loss, symmetric_cross_entropy
from ...training import tiled_clip_loss, tiled_contrastive_loss
from ..exercise import Mistake
from .formulas import plain_log_sum_exp
from .n12_beyond_the_batch import beyond, strangers


def draw_pairs(tile, scale=None):
    """(r, n, e) -> pairs of at least three, logit_scale, drawn where it is not given, and the tile."""

    def draw(r, n, e):
        return *strangers(r, n + 2, e), np.array(r.rng.uniform(0.3, 1.4) if scale is None else scale), tile

    return draw


def trap_of(n, tile, scale=None):
    """r -> n pairs in tiles of `tile` rows."""
    return lambda r: draw_pairs(tile, scale)(r, n - 2, 4)


def wrong_loss(total=None, truth=None, tiles=None):
    """A wrong loss in tiles: of S (N, N), the tile's rows, and what is made of them."""

    def wrong(z_image, z_text, logit_scale, tile=None):
        n = len(z_image)
        size = tile or n
        s = np.exp(logit_scale) * z_image @ z_text.T
        starts = list(range(0, n, size))[: tiles(n, size) if tiles else None]
        rows, columns = plain_log_sum_exp(s, 1), plain_log_sum_exp(s, 0)
        true = np.concatenate([(truth or right_truth)(s, start, size) for start in starts])
        rows = rows[: len(true)]
        return (total or (lambda r, c, t, s, n, starts, size: (r.sum() + c.sum() - 2 * t.sum()) / (2 * n)))(
            rows, columns, true, s, n, starts, size
        )

    return wrong


def right_truth(s, start, size):
    """The scores of the true pairs of a tile, of S (N, N)."""
    return np.diagonal(s)[start : start + size]


def columns_of_tiles(r, c, t, s, n, starts, size):
    """A wrong total: the columns are summed within each tile."""
    columns = sum(plain_log_sum_exp(s[start : start + size], 0).sum() for start in starts)
    return (r.sum() + columns - 2 * t.sum()) / (2 * n)


def columns_of_the_last(r, c, t, s, n, starts, size):
    """A wrong total: the columns of the last tile alone."""
    return (r.sum() + plain_log_sum_exp(s[starts[-1] :], 0).sum() - 2 * t.sum()) / (2 * n)


def shifted(r, c, t, s, n, starts, size):
    """A wrong total: the largest of each row and column is taken away, and never added again."""
    return (r.sum() - s.max(1).sum() + c.sum() - s.max(0).sum() - 2 * t.sum()) / (2 * n)


beyond.layer(
    tiled_contrastive_loss,
    points=6,
    draw=draw_pairs(2),
    traps={
        "tiles that do not divide N": trap_of(7, 3),
        "one row at a time": trap_of(4, 1),
        "a tile larger than N": trap_of(3, 100),
        "no tile given: all rows at once": lambda r: trap_of(4, None)(r)[:3],
        "scores about 1000": trap_of(5, 2, np.log(1000.0)),
    },
    blind={
        "s = 1": lambda z_image, z_text, logit_scale, *tile: (z_image, z_text, np.zeros_like(logit_scale), *tile),
        "texts that lie where the pictures do": lambda z_image, z_text, *rest: (z_image, z_image.copy(), *rest),
        "a single tile": lambda z_image, z_text, logit_scale, *tile: (z_image, z_text, logit_scale, len(z_image)),
    },
    forbidden=(contrastive_loss, clip_loss, symmetric_cross_entropy, tiled_clip_loss),
    mistakes=(
        Mistake(
            "columns",
            "the columns are summed within each tile: a column runs through all tiles.",
            wrong_loss(columns_of_tiles),
        ),
        Mistake("columns", "the columns are those of the last tile.", wrong_loss(columns_of_the_last)),
        Mistake(
            "offset",
            "the true entry of row i of a tile is not in column i, but in column start + i.",
            wrong_loss(truth=lambda s, start, size: np.diagonal(s[start : start + size])),
        ),
        Mistake(
            "offset",
            "the rows that are left over when tiles do not divide N are lost.",
            wrong_loss(tiles=lambda n, size: max(1, n // size)),
        ),
        Mistake(
            "one-sided",
            "it is the exam of the rows alone.",
            wrong_loss(lambda r, c, t, s, n, *_: (r.sum() - t.sum()) / n),
        ),
        Mistake(
            "one-sided",
            "the true scores are subtracted once, and stand in both exams.",
            wrong_loss(lambda r, c, t, s, n, *_: (r.sum() + c.sum() - t.sum()) / (2 * n)),
        ),
        Mistake(
            "2", "it is twice the loss.", wrong_loss(lambda r, c, t, s, n, *_: (r.sum() + c.sum() - 2 * t.sum()) / n)
        ),
        Mistake(
            "N",
            "it is a sum over the pairs: the loss is their mean.",
            wrong_loss(lambda r, c, t, s, n, *_: (r.sum() + c.sum() - 2 * t.sum()) / 2),
        ),
        Mistake("largest", "the largest scores were taken away, and never added again.", wrong_loss(shifted)),
        Mistake(
            "τ",
            "logit_scale is a logarithm: the scores are multiplied by its exponential.",
            lambda z, w, t, tile=None: contrastive_loss(z, w, np.log(t))[0],
        ),
        Mistake(
            "τ", "the scores are not multiplied by s.", lambda z, w, t, tile=None: contrastive_loss(z, w, 0 * t)[0]
        ),
    ),
    kinds={
        "columns": "What is known of a column goes from tile to tile: that is what running_sum is for.",
        "offset": (
            "Row i of the tile that begins at `start` is picture start + i. Where does its own text stand?",
            "np.arange(start, start + rows) are the columns of the truth.",
        ),
        "some indices": "Are all tiles wrong but the first? Row i of a tile is picture start + i, and so is its text.",
        "largest": "ln Σ exp(x) = m + ln Σ exp(x − m).",
        "traps": "Is every exponential one of a score less the largest of its row, or of its column?",
        "overwritten": "Each tile has something to say to every text: d_text is added to, tile after tile.",
        "unknown": "Each tile has its rows of d_image, and a part of all of d_text. Is every part added up?",
    },
    hints=(
        "Forward: of each tile, S = s · z_image[rows] @ z_text.T. Its rows are known at once, its columns not.",
        "Keep four arrays (N,): the largest and the sum, of rows and of columns. The true scores are s Σ Z_I ∘ Z_T.",
        "Backward: make S of the tile again, then P and Q from the four arrays; the truth stands at (i, start + i).",
        "d_image[rows] = s G Z_T and d_text += s Gᵀ Z_I[rows]; d_logit_scale = Σ Z_I ∘ dZ_I.",
    ),
    inside="tiled_clip_loss",
)
