"""The grids mark what is right and wrong, draw pictures on white, and keep every word inside."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from miniclip import plots


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 4), np.uint8)


def frames(figure, colour):
    """Upper left corners of the frames of one colour."""
    return [
        patch.get_xy()
        for patch in figure.axes[0].patches
        if not patch.get_fill() and to_hex(patch.get_edgecolor()).upper() == colour
    ]


def crosses(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() == "x"]


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_retrieval_marks_hits_and_misses(inside):
    right = np.array([[True, False, True], [False, False, True]])
    found = np.array([[4, 0, 1], [2, 2, 3]])
    shown = pictures(5)
    scores = np.array([[0.91, 0.5, 0.25], [0.75, 0.5, -0.25]])
    queries = ["costs $5 or $6", "a query that is a good deal longer than any of the others, so it is folded"]
    figure = inside(plots.retrieval_grid(queries, shown, found, right, scores, title="found"))
    assert len(frames(figure, plots.GREEN)) == 3 and len(frames(figure, plots.RED)) == 3
    centres = sorted((float(line.get_xdata()[0]) // 1.1, float(line.get_ydata()[0]) // 1.3) for line in crosses(figure))
    assert centres == [(0, 1), (1, 0), (1, 1)]
    images = figure.axes[0].images
    assert len(images) == 6 and "costs $5 or $6" in words(figure) and "-0.25" in words(figure)
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)  # a $ is a dollar
    first = shown[4].astype(float)
    white = first[..., :3] * first[..., 3:] / 255 + 255 - first[..., 3:]
    assert abs(images[0].get_array() - white).max() <= 1
    assert images[1].get_extent() == [1.1, 2.1, 1, 0]


def test_retrieval_without_truth_has_no_marks(inside):
    figure = inside(plots.retrieval_grid(["sun"], pictures(3), [[0, 2]]))
    assert not figure.axes[0].patches and not crosses(figure) and len(figure.axes[0].images) == 2


def test_predictions_show_the_likeliest_names_and_where_the_right_one_is(inside):
    names = ["pea", "pod", "a name that is far too long to stand beside a picture", "$x", "fox"]
    p = np.array([[0.5, 0.3, 0.1, 0.06, 0.04], [0.2, 0.5, 0.2, 0.05, 0.05], [0.05, 0.1, 0.2, 0.6, 0.05]])
    figure = inside(plots.prediction_grid(pictures(3), names, p, [0, 0, 4], title="named"))
    assert len(frames(figure, plots.GREEN)) == 1 and len(frames(figure, plots.RED)) == 2 == len(crosses(figure))
    bars = [patch for patch in figure.axes[0].patches if patch.get_fill()]
    np.testing.assert_allclose([bar.get_width() / 1.45 for bar in bars], [0.5, 0.3, 0.1, 0.5, 0.2, 0.2, 0.6, 0.2, 0.1])
    assert words(figure)[1:9:2] == ["pea", "pod", "a name that is far too lo…", "pod"]
    assert [word for word in words(figure) if word.startswith("is:")] == ["is: fox"]  # pea stands second
    green = [text.get_text() for text in figure.axes[0].texts if text.get_color() == plots.GREEN]
    assert green == ["pea", "pea"]


def test_predictions_without_truth_and_mistakes(inside):
    p = np.full((5, 2), 0.5)
    figure = inside(plots.prediction_grid(pictures(5), ["a", "b"], p))
    assert not crosses(figure) and len(figure.axes[0].images) == 5
    said = ["a very long wrong name that will not fit"] * 5
    figure = inside(plots.mistakes_grid(pictures(5), ["train"] * 5, said, pictures(5, 1)))
    assert len(figure.axes[0].images) == 10 and words(figure).count("train") == 5


@pytest.mark.parametrize("count", [1, 3, 14])
def test_no_figure_is_wider_than_a_page_and_limits_hold_everything(count):
    shown = pictures(count)
    for figure in (
        plots.retrieval_grid(["q"], shown, np.arange(count)[None], np.zeros((1, count))),
        plots.prediction_grid(shown, ["a", "b"], np.full((count, 2), 0.5), np.zeros(count, int)),
        plots.mistakes_grid(shown, ["a"] * count, ["b"] * count, shown),
    ):
        axes = figure.axes[0]
        assert figure.get_figwidth() <= 10 + 1e-9
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for image in axes.images:
            x0, x1, y1, y0 = image.get_extent()
            assert left <= x0 and x1 <= right and top <= y0 and y1 <= bottom


def test_given_axes_are_drawn_on():
    mine = Figure().subplots()
    assert plots.retrieval_grid(["q"], pictures(2), [[0, 1]], ax=mine) is mine.figure and len(mine.images) == 2


@pytest.mark.parametrize(
    "draw, culprit",
    [
        (lambda p: plots.retrieval_grid(["a", "b"], p, [[0]]), "2 queries"),
        (lambda p: plots.prediction_grid(p, ["a"], np.ones((2, 1))), "3 pictures"),
        (lambda p: plots.prediction_grid(p[:0], ["a"], np.ones((0, 1))), "at least one"),
        (lambda p: plots.mistakes_grid(p, ["a"], ["b"], p), "3 pictures, 1 true names"),
        (lambda p: plots.retrieval_grid(["a"], p[..., 0], [[0]]), "uint8"),
    ],
)
def test_bad_input_is_named(draw, culprit):
    with pytest.raises(ValueError, match=culprit):
        draw(pictures(3))
