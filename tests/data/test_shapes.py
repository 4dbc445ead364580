"""Shapes: held-out pairs stay out, pictures show what their captions say, the same seed draws the same."""

import numpy as np
import pytest

from miniclip.data.shapes import COLOURS, CORNERS, HELD_OUT, PAIRS, SIZES, captions, draw_scene, shapes_data


@pytest.fixture(scope="module")
def data():
    return shapes_data(32, 600, seed=3)


def found(picture):
    """Where the ink is: (rows, columns) of the opaque pixels and their colours, without the dark edge."""
    rows, columns = np.nonzero(picture[..., 3] > 250)
    return rows, columns, picture[rows, columns, :3].astype(int)


def nearest_colour(inks):
    names = list(COLOURS)
    distance = np.abs(inks[:, None] - np.array([COLOURS[name] for name in names])).sum(2)
    inside = distance.min(1) < 60
    return names[np.bincount(distance[inside].argmin(1)).argmax()]


def test_held_out_pairs_are_in_no_caption_and_cover_every_colour_and_shape_otherwise(data):
    training, _ = data
    texts = [text for group in training.captions for text in group]
    assert len(HELD_OUT) == 6 and len(set(training.concept)) == len(training.captions)
    for colour, shape in HELD_OUT:
        assert not any(f"{colour} {shape}" in text for text in texts)
    for colour, shape in set(PAIRS) - set(HELD_OUT):
        for size in SIZES:
            assert f"a {size} {colour} {shape}" in texts
    assert len(texts) == len(set(texts))


def test_half_show_one_shape_and_half_two(data):
    training, _ = data
    alone = np.array([len(training.captions[k]) == 1 for k in training.concept])
    assert training.pictures.shape == (600, 32, 32, 4) and training.pictures.dtype == np.uint8
    assert alone.sum() == 300
    assert len(np.unique(training.pictures.reshape(600, -1), axis=0)) == 600


def test_pictures_have_the_colour_and_size_of_their_caption(data):
    training, _ = data
    reach = {(size, shape): [] for size in SIZES for shape in CORNERS}
    for picture, k in zip(training.pictures[:300], training.concept):
        _, size, colour, shape = training.captions[k][0].split()
        rows, columns, inks = found(picture)
        if size == "large" and colour not in ("black", "grey"):  # the others are mostly edge, or like the edge
            assert nearest_colour(inks) == colour
        reach[size, shape].append(max(np.ptp(rows), np.ptp(columns)))
    for shape in CORNERS:
        assert max(reach["small", shape]) < min(reach["large", shape])


@pytest.mark.parametrize("relation", ["above", "left of"])
def test_relations_are_drawn_as_said(relation):
    rng = np.random.default_rng(0)
    for _ in range(20):
        picture = draw_scene(("small", ("red", "square"), relation, ("blue", "circle")), 48, rng).astype(int)
        opaque = picture[..., 3] > 250
        red = np.argwhere(opaque & (picture[..., 0] > picture[..., 2] + 80)).mean(0)
        blue = np.argwhere(opaque & (picture[..., 2] > picture[..., 0] + 80)).mean(0)
        apart = blue - red if relation == "above" else (blue - red)[::-1]
        assert apart[0] > 48 * 0.2 and abs(apart[1]) < apart[0]


def test_each_scene_can_be_told_from_both_sides():
    assert captions(("small", ("red", "circle"))) == ["a small red circle"]
    assert captions(("small", ("red", "circle"), "above", ("blue", "square"))) == [
        "a small red circle above a blue square",
        "a blue square below a small red circle",
    ]
    sideways = captions(("large", ("red", "ring"), "left of", ("blue", "star")))
    assert sideways[1] == "a blue star right of a large red ring"


def test_shapes_differ_from_each_other():
    masks = [draw_scene(("large", ("blue", shape)), 32, np.random.default_rng(7))[..., 3] > 127 for shape in CORNERS]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one != other).sum() > 0.12 * (one | other).sum()


def test_exams_ask_for_held_out_pairs_only(data):
    _, (one, two) = data
    assert one.name == "held-out pairs" and len(one.names) == len(PAIRS) * len(SIZES)
    assert {tuple(one.names[k].split()[2:]) for k in one.answer} == set(HELD_OUT)
    assert two.candidates.shape == (len(two), 10)
    assert (np.array([len(set(row)) for row in two.candidates]) == 10).all()
    for k in two.answer:
        assert any(f"{colour} {shape}" in two.names[k] for colour, shape in HELD_OUT)


def test_same_seed_draws_the_same_and_another_does_not():
    training, exams = shapes_data(16, 100, seed=3)
    again, exams_again = shapes_data(16, 100, seed=3)
    np.testing.assert_array_equal(training.pictures, again.pictures)
    assert training.captions == again.captions
    for exam, exam_again in zip(exams, exams_again):
        np.testing.assert_array_equal(exam.pictures, exam_again.pictures)
    other, _ = shapes_data(16, 100, seed=4)
    assert (other.pictures != training.pictures).any()


def test_nothing_smaller_than_it_can_draw():
    with pytest.raises(ValueError, match="size is 4"):
        shapes_data(4)
    with pytest.raises(ValueError, match="pictures is 1"):
        shapes_data(32, 1)
    assert len(shapes_data(8, 2)[0]) == 2
