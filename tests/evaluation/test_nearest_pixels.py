"""The baseline of raw pixels: it finds a copy, keeps to the candidates, and knows no name it has not seen."""

import numpy as np
import pytest

from miniclip.data import Evaluation, PictureSet, emoji_data
from miniclip.evaluation import nearest_pixel_baseline
from miniclip.evaluation.nearest_pixels import pixel_rows


def test_nearest_pixels_find_a_copy_and_keep_to_the_candidates(rng):
    pictures = rng.integers(0, 256, (6, 16, 16, 4), dtype=np.uint8)
    names = [f"n{k}" for k in range(6)]
    training = PictureSet("x", pictures, np.arange(6), [[name] for name in names])
    back = names[::-1]
    assert nearest_pixel_baseline(training, Evaluation("x", pictures, np.arange(6)[::-1].copy(), back)) == 1.0
    few = Evaluation("x", pictures[[1]], np.array([5]), back, candidates=np.array([[5, 3]]))
    likeness = pixel_rows(pictures[[1]], 16) @ pixel_rows(pictures[[0, 2]], 16).T  # back[5] and back[3]
    assert nearest_pixel_baseline(training, few) == float(likeness.argmax() == 0)  # though its own copy is nearest
    assert nearest_pixel_baseline(training, Evaluation("x", pictures, np.arange(6), list("abcdef"))) == 0.0


@pytest.mark.slow
def test_nearest_pixels_of_the_unseen_artist():
    training, exams = emoji_data()
    assert 0.30 < nearest_pixel_baseline(training, exams[0]) < 0.34
