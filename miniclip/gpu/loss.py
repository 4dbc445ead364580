"""Kernels for loss.py: the loss of a similarity matrix without its softmax ever being stored."""

import numpy as np

from ..loss import symmetric_cross_entropy as either
from .launch import by_column, by_row, chunks_of, contiguous, launcher


def symmetric_cross_entropy(similarity, positives=None):
    """As loss.symmetric_cross_entropy, and it itself where positives are given.

    similarity (N, N) -> L (); backward() -> G (N, N).
    """
    if positives is not None:
        return either.plain(similarity, positives)
    launch, xp, real = launcher("loss", similarity)
    (s,) = contiguous(similarity.dtype, similarity)
    n = len(s)
    rows, columns, loss = xp.empty((2, n), real), xp.empty((2, n), real), xp.empty((), s.dtype)
    launch("row_log_sums", *by_row(n), s, rows[0], rows[1], np.int32(n))
    chunks, chunk = chunks_of(n)
    parts = xp.empty((2, chunks, n), real)
    launch("column_log_sums", *by_column(n, chunks), s, parts[0], parts[1], np.int32(n), np.int64(chunk))
    launch("join_log_sums", (-(-n // 256),), (256,), *parts, *columns, np.int32(chunks), np.int32(n))
    launch("contrastive_loss", (1,), (32, 8), s, *rows, *columns, loss, np.int32(n))

    def backward():
        g = xp.empty(s.shape, s.dtype)
        launch("contrastive_gradient", *by_row(n), s, *rows, *columns, g, np.int32(n))
        return g

    return loss, backward
