"""The figure of a Jacobian shows what is claimed, what is true and their difference, on one scale."""

import numpy as np
import pytest

from miniclip import plots
from miniclip.gradcheck.jacobian_view import Jacobian


def figure_of(claimed, numeric, shape_out, shape_in, inside):
    both = Jacobian("f", claimed, numeric, shape_out, shape_in, ("y", "w$"), "central")
    return inside(plots.jacobian(both))


def test_three_matrices_on_one_scale(inside, rng):
    numeric = rng.standard_normal((6, 8))
    claimed = numeric.copy()
    claimed[4, 2] += 5
    figure = figure_of(claimed, numeric, (2, 3), (4, 2), inside)
    first, second, third, bar = figure.axes
    shown = [axes.images[0] for axes in (first, second, third)]
    for image, matrix in zip(shown, (claimed, numeric, claimed - numeric)):
        np.testing.assert_array_equal(image.get_array(), matrix)
    largest = max(abs(claimed).max(), abs(numeric).max())
    assert {image.get_clim() for image in shown} == {(-largest, largest)}
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "claimed by backward", "by the forward pass (central)", "difference (at most 5)",
    ]  # fmt: skip
    assert first.get_ylabel() == "entries of y, 2 × 3" and first.get_xlabel() == "entries of w$, 4 × 2"
    (frame,) = third.patches
    assert frame.get_xy() == (1.5, 3.5)


def test_a_small_difference_is_magnified_and_rounding_is_not(inside):
    numeric = np.eye(3)
    image, title = last(figure_of(1.002 * numeric, numeric, (3,), (3,), inside))
    np.testing.assert_allclose(image, 0.2 * numeric, atol=1e-12)
    assert title == "difference × 100 (at most 0.002)"
    image, title = last(figure_of(numeric + 1e-15, numeric, (3,), (3,), inside))
    assert image.max() < 1e-14 and "×" not in title


def last(figure):
    axes = figure.axes[2]
    return axes.images[0].get_array(), axes.get_title()


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 300), (300, 1), (40, 3)])
def test_every_shape_fits(inside, rows, columns):
    zeros = np.zeros((rows, columns))
    figure = figure_of(zeros, zeros, (rows,), (columns,), inside)
    assert figure.axes[2].get_title() == "difference (at most 0)" and not figure.axes[2].patches
