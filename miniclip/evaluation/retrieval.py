"""Retrieval and search: everything is read off one matrix of cosines, Z_I Z_Tᵀ, of unit rows.

A rank is 1 + the number of wrong candidates that score at least as high as the right one: ties count
against the model, so a collapsed encoder, for which all candidates are equal, is never right by luck.
Scores closer than TIE are equal, for a float32 encoder repeats itself only to about that.
"""

import numpy as np

from ..backend import array_module
from ..checks import finite, takes
from .linear_probe import finite_rows

TIE = 1e-6


def unit_rows(x, what):
    """x (N, E), at least float32; ValueError unless its rows are finite and of length 1 (to 1 %)."""
    x = finite_rows(x, what)
    off = abs((x * x).sum(1) - 1) > 0.02
    if bool(off.any()):
        raise ValueError(f"{what} must be rows of length 1, and row {int(off.argmax())} is not: normalise them first.")
    return x


@takes("a (N, E) real, b (K, F) real")
def cosines(a, b, what_a, what_b):
    """a bᵀ (N, K) for unit rows a (N, E) and b (K, E), both checked."""
    a, b = unit_rows(a, what_a), unit_rows(b, what_b)
    if a.shape[1] != b.shape[1]:
        widths = f"{what_a} have width {a.shape[1]} but {what_b} have width {b.shape[1]}"
        raise ValueError(f"{widths}: they come from two models.")
    return a @ b.T


@takes("scores (N, K) real, right (N, K) bool")
def ranks(scores, right):
    """Rank (N,) of the best right candidate in each row of scores; K + 1 where none is right.

    Ties count against it (see the top); other right candidates do not stand in its way. Raises ValueError where a
    score is not finite.
    """
    xp, scores = array_module(scores), finite(scores, "scores")
    best = xp.where(right, scores, -xp.inf).max(1, keepdims=True)
    return 1 + ((scores >= best - TIE) & ~right).sum(1)


@takes("scores (..., K) real, k ≥ 1")
def top_k(scores, k=5):
    """The k best of each row of scores: indices (..., k) and their scores, best first.

    Equal scores keep their order. Where k exceeds K, all K come back. Raises ValueError where a score is not finite.
    """
    xp, backwards = array_module(scores), finite(scores, "scores")[..., ::-1]  # −scores would wrap around
    best = scores.shape[-1] - 1 - xp.argsort(backwards, axis=-1, kind="stable")[..., : -k - 1 : -1]
    return best, xp.take_along_axis(scores, best, axis=-1)


@takes("image_features (N, E) real, text_features (T, E) real")
def retrieval(image_features, text_features, image_of_text=None):
    """Find a picture's text among all texts, and a text's picture among all pictures.

    image_features, text_features: unit rows. image_of_text (T,): which image each text
    describes, so that one may have several (Flickr8k has five); None: text i describes image i.
    -> {"image_to_text": {"R@1", "R@5", "R@10", "median_rank"}, "text_to_image": {the same}}
    From a picture, the best of its texts counts and the others are not in its way. A picture that no
    text describes is never asked for, but stands among the candidates.
    Raises ValueError when features are no unit rows, or image_of_text does not fit them.
    """
    images, texts = unit_rows(image_features, "image_features"), unit_rows(text_features, "text_features")
    everyone = np.arange(len(images))
    if image_of_text is None and len(texts) != len(images):
        unequal = f"{len(images)} images and {len(texts)} texts are no pairs"
        raise ValueError(f"{unequal}: say in image_of_text which image each text describes.")
    try:
        owner = everyone if image_of_text is None else np.asarray(image_of_text)
    except (TypeError, ValueError):  # a ragged list, or an array of the graphics card
        owner = np.zeros(0)
    if owner.shape != (len(texts),) or owner.dtype.kind not in "iu" or owner.min() < 0 or owner.max() >= len(images):
        wanted = f"one integer from 0 to {len(images) - 1} for each of the {len(texts)} texts"
        raise ValueError(f"image_of_text must hold {wanted}.")
    return {
        "image_to_text": _recall(images, texts, everyone, owner),
        "text_to_image": _recall(texts, images, owner, everyone),
    }


def _recall(queries, gallery, query_image, gallery_image, block=256):
    """Recall and median rank of the queries that have a match: a row of the gallery that belongs to the same image."""
    xp = array_module(queries)
    asked = np.flatnonzero(np.isin(query_image, gallery_image))
    found = []
    for start in range(0, len(asked), block):  # the whole matrix may not fit in memory
        rows = asked[start : start + block]
        scores = cosines(queries[xp.asarray(rows)], gallery, "The features asked with", "the features searched")
        found.append(ranks(scores, xp.asarray(query_image[rows][:, None] == gallery_image)))
    found = xp.concatenate(found)
    return {**{f"R@{k}": float((found <= k).mean()) for k in (1, 5, 10)}, "median_rank": float(xp.median(found))}


@takes("count ≥ 1")
def search(clip, query, pictures, count=10):
    """The pictures that fit a query best: indices (count,) and cosines (count,), best first.

    query: one string, or the unit features (1, E) of words or of a picture. pictures: their unit features (M, E), or
    uint8 (M, H, W, 3 or 4), or PIL images.
    """
    if isinstance(query, str):
        query = clip.encode_text([query])
    elif getattr(query, "ndim", 0) != 2 or len(query) != 1:
        raise ValueError(f"The query must be one string, or features of shape (1, E), not {str(query)[:80]!r}.")
    features = pictures if getattr(pictures, "ndim", 0) == 2 else clip.encode_image(pictures)
    scores = cosines(query, features, "The query's features", "the pictures' features")
    return top_k(scores[0], count)
