"""What the tests of figures share."""

import pytest


@pytest.fixture
def inside():
    return check_inside


def check_inside(figure):
    """Draw the figure; assert that every word of it lies within, to a pixel. Returns it."""
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for axes in figure.axes:
        words = [*axes.texts, axes.title, axes._left_title]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            # An axis keeps ticks beyond its ends, which it does not draw.
            low, high = sorted(axis.get_view_interval())
            words += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
        for word in filter(lambda word: word.get_visible() and word.get_text(), words):
            box = word.get_window_extent()
            assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, word.get_text()
    return figure
