"""How far raw pixels get without any model: the baseline that a zero-shot accuracy stands beside."""

import numpy as np
from PIL import Image

from ..checks import listed, takes
from ..preprocess import as_pil


@takes("side ≥ 1")
def nearest_pixel_baseline(training, exam, side=16):
    """Nearest neighbour by pixels: the share of `exam` that the nearest training picture answers.

    training PictureSet; exam Evaluation, which shares names with the training concepts' first captions. Pictures are
    compared by the cosine of their `pixel_rows`; a question takes the name of the nearest picture that bears one of
    its candidate names. Returns a float in [0, 1]. A name that was never drawn in training, as in an unseen
    combination, cannot be answered this way. And the training pictures are needed, as no model needs them.
    """
    row_of = {name: row for row, name in enumerate(exam.names)}
    row = np.array([row_of.get(texts[0], -1) for texts in training.captions])[training.concept]
    named, row = training.pictures[row >= 0], row[row >= 0]
    if not len(row) or not len(exam):
        return 0.0
    likeness = pixel_rows(exam.pictures, side) @ pixel_rows(named, side).T
    if exam.candidates is not None:
        allowed = np.zeros((len(exam), len(exam.names)), bool)
        np.put_along_axis(allowed, exam.candidates, True, axis=1)
        likeness = np.where(allowed[:, row], likeness, -np.inf)
    return float((row[likeness.argmax(1)] == exam.answer).mean())


@takes("side ≥ 1")
def pixel_rows(pictures, side):
    """uint8 (N, S, S, 4) -> float32 (N, side*side*3): on white, shrunk, minus the mean colour, of unit length."""
    pictures = listed(pictures, "pictures")
    rows = np.empty((len(pictures), side * side, 3), np.float32)
    for row, pixels in zip(rows, pictures):
        row[:] = np.asarray(as_pil(pixels).resize((side, side), Image.BOX)).reshape(-1, 3)
    rows -= rows.mean(1, keepdims=True)
    rows = rows.reshape(len(pictures), side * side * 3)
    return rows / np.maximum(np.sqrt((rows * rows).sum(1, keepdims=True)), 1e-6)
