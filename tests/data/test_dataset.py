"""Picture sets and evaluations refuse what does not fit together."""

import numpy as np
import pytest

from miniclip.data import Evaluation, PictureSet, resize_all

GOOD = np.zeros((2, 8, 8, 4), np.uint8)
TWO = np.arange(2)


@pytest.mark.parametrize(
    "change",
    [
        dict(pictures=GOOD[..., :3]),
        dict(pictures=GOOD[:, :5]),
        dict(pictures=GOOD[0]),
        dict(pictures=GOOD.astype(float)),
        dict(concept=TWO + 1),
        dict(concept=TWO - 1),
        dict(concept=TWO[:1]),
        dict(concept=TWO.astype("i4")),
        dict(captions=[["a"], []]),
        dict(captions=[["a"], ["b", "a"]]),
        dict(style=TWO, styles=["one"]),
        dict(templates=["one"]),
        dict(templates=["{}!"]),  # tokens of "cat!" are not those of "cat" and something
        dict(description_templates=["{} {}"]),
        dict(descriptions=[["c"]]),
    ],
)
def test_a_picture_set_that_does_not_fit_is_refused(change):
    fits = dict(name="x", pictures=GOOD, concept=TWO, captions=[["a"], ["b"]])
    assert len(PictureSet(**fits)) == 2
    with pytest.raises(ValueError, match="^x: "):
        PictureSet(**{**fits, **change})


@pytest.mark.parametrize(
    "change",
    [
        dict(names=["a", "a"]),
        dict(names=[]),
        dict(answer=TWO + 1),
        dict(answer=TWO[:1]),
        dict(candidates=np.array([[0], [0]])),
        dict(candidates=np.array([[0], [1]])),  # a choice of one
        dict(answer=TWO * 0, names=["a"]),
        dict(candidates=np.array([[0, 1], [1, 2]])),
        dict(candidates=np.array([[0, 1]])),
        dict(candidates=TWO),
        dict(templates=["an emoji"]),
        dict(templates=["{} and {}"]),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused(change):
    fits = dict(name="x", pictures=GOOD, answer=TWO, names=["a", "b"])
    assert len(Evaluation(**fits)) == 2
    with pytest.raises(ValueError, match="^x: "):
        Evaluation(**{**fits, **change})


def test_resizing_lets_no_colour_out_of_transparent_pixels():
    pictures = np.zeros((1, 64, 64, 4), np.uint8)
    pictures[:, 16:48, 16:48] = 255
    small = resize_all(pictures, 24)
    assert small.shape == (1, 24, 24, 4) and (small[small[..., 3] > 0][:, :3] == 255).all()
    assert resize_all(pictures, 64) is pictures and resize_all(pictures[:0], 24).shape == (0, 24, 24, 4)
