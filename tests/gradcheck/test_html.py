"""A report in a notebook: sound HTML, the diagnosis first, what is right folded, nothing of the user's unescaped."""

from html.parser import HTMLParser

import numpy as np
import pytest

from miniclip.gradcheck import check
from miniclip.gradcheck.contract import Problem
from miniclip.gradcheck.html import picture_html, picture_of
from miniclip.gradcheck.report import Report, Row
from miniclip.layers import layer_norm, linear

NO_END = {"rect"}  # written as <rect …/>


class Page(HTMLParser):
    """What an HTML text is made of: tags, the text, and the text in each element. Asserts that every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.folded, self.fills = [], [], "", "", []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_startendtag(self, tag, attributes):
        assert tag in NO_END
        self.tags.append(tag)
        self.fills.append(dict(attributes)["fill"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "details" in self.open:
            self.folded += data


def wrong_linear(x, weight, bias):
    y, backward = linear(x, weight, bias)

    def wrong(dy):
        dx, grads = backward(dy)
        return dx, {"weight": grads["weight"], "bias": 2 * grads["bias"]}

    return y, wrong


@pytest.fixture
def wrong(normal):
    return check(wrong_linear, normal(2, 3), normal(4, 3), normal(4))


def test_what_is_wrong_comes_first_and_what_is_right_is_folded(wrong):
    page = Page(wrong._repr_html_())
    headline, diagnosis, fold = (
        page.text.index(words) for words in ("wrong_linear: auto, WRONG", "2 times", "2 arrays are right")
    )
    assert headline < diagnosis < fold and diagnosis < page.text.index("relative error")
    assert "should be" in page.text and page.tags.count("details") == 1
    assert "weight" in page.folded and "bias" not in page.folded and "script" not in page.tags


def test_numbers_have_four_digits(wrong):
    row = next(row for row in wrong.rows if row.name == "bias")
    assert f"{row.analytic:.4g}" in Page(wrong._repr_html_()).text
    assert f"{row.analytic:.6g}" not in wrong._repr_html_()


def test_what_is_right_is_one_line_and_a_fold(normal):
    page = Page(check(layer_norm, normal(2, 3), normal(3), normal(3))._repr_html_())
    unfolded = page.text.removesuffix(page.folded)
    assert unfolded.startswith("✓ layer_norm: auto, ok") and "array" not in unfolded
    assert "3 arrays are right" in page.folded


def test_many_arrays_that_are_wrong_are_folded_too():
    rows = [Row(f"w{i}", (3,), 1, 2, 0.5, verdict="WRONG", why=f"reason {i}") for i in range(9)]
    page = Page(Report("f", "auto", rows, summary="the same in all")._repr_html_())
    assert page.text.index("the same in all") < page.text.index("reason 0")
    assert "reason 5" not in page.folded and "reason 6" in page.folded and "3 more arrays are wrong" in page.folded


def test_what_could_not_be_checked_says_why_and_no_infinity():
    def random(x):
        return x * np.nan, lambda dy: dy

    page = Page(check(random, np.ones(3))._repr_html_())
    assert page.text.startswith("? ") and "could not be checked" in page.text and "not finite" in page.text
    unchecked = Row("x", (3,), 1, np.inf, np.inf, verdict="unchecked", why="it has no slope.")
    for report in (Report("f", "auto", [unchecked]), Report("f", "auto", [], [Problem("x was written to.")])):
        assert "inf" not in Page(report._repr_html_()).text


def test_what_the_user_wrote_is_escaped():
    evil = "<script>alert('&')</script>"
    row = Row(evil, (2,), 1, 2, 0.5, index=(1,), claimed=1, found=2, verdict="WRONG", why=evil, method="central")
    right = Row(evil, (2,), 1, 1, 0, why=evil, method="central")
    page = Page(Report(evil, "auto", [row, right], [Problem(evil)], [evil], evil)._repr_html_())
    assert "script" not in page.tags and page.text.count(evil) >= 8


def test_a_picture_shows_both_sides_in_one_scale():
    claimed, found = np.array([[2.0, -1, 0], [1, 0, 0]]), np.array([[2.0, -1, 0], [-2, np.nan, 0]])
    page = Page(picture_html(picture_of(claimed, found, (1, 0))))
    panels = [[fill for fill in page.fills[i : i + 7]] for i in (0, 7, 14)]
    red, blue, white, grey = "#b2182b", "#2166ac", "#ffffff", "rgba(128, 128, 128, .45)"
    assert panels[0][0] == red and panels[0][4] == white and panels[0][-1] == "none"
    assert panels[1][0] == red and panels[1][3] == blue and panels[1][4] == grey
    assert panels[2][:4] == [white, white, white, red]
    assert page.text.startswith("claimedtruedifference, up to 3") and "grey: not evaluated" in page.text


def test_a_picture_of_a_large_array_is_a_part_around_the_worst():
    claimed = np.arange(2 * 50 * 60.0).reshape(2, 50, 60)
    picture = picture_of(claimed, claimed + 1, (1, 49, 0))
    assert picture.claimed.shape == (12, 24) and picture.shape == (100, 60) and picture.corner == (88, 0)
    assert picture.claimed[99 - 88, 0] == claimed[1, 49, 0]
    assert "rows 88 to 99 and columns 0 to 23 of 100 × 60" in Page(picture_html(picture)).text
    assert picture_of(np.float64(1), np.float64(2)) is None and picture_of(np.ones(1), np.ones(1)) is None
    vector = picture_of(np.arange(5.0), np.arange(5.0), (4,))
    assert vector.claimed.shape == (1, 5) and "no difference" in picture_html(vector)


def test_a_picture_stands_in_the_report_and_not_in_its_json():
    row = Row("x", (2, 2), 1, 2, 0.5, index=(0, 1), claimed=1, found=2, verdict="WRONG", why="it is transposed.")
    row.picture = picture_of(np.eye(2), np.ones((2, 2)), (0, 1))
    report = Report("f", "auto", [row])
    page = Page(report._repr_html_())
    assert page.tags.count("svg") == 3 and "picture" not in str(report.to_json())
