"""Texts that are true of several images: the loss whose truth is spread over all true entries."""

import numpy as np
import pytest

from miniclip.gradcheck import check
from miniclip.layers import softmax
from miniclip.loss import clip_loss, symmetric_cross_entropy, true_entries
from miniclip.training.tiled_loss import tiled_clip_loss

N, E = 13, 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def features(rng):
    return rng.normal(size=(2, N, E))


@pytest.fixture
def truth(rng):
    """Which text (column) is true of which image (row): its own, and some more."""
    return (rng.random((N, N)) < 0.15) | np.eye(N, dtype=bool)


def of_one_argument(loss, *rest, **more):
    """A loss in the manner of layers.py, whose backward takes the gradient of the number that it returns."""

    def layer(image_features, text_features, logit_scale):
        value, backward = loss(image_features, text_features, logit_scale, *rest, **more)
        return value, lambda d: tuple(d * gradient for gradient in backward())

    return layer


@pytest.mark.parametrize("loss", [clip_loss, lambda *a, **k: tiled_clip_loss(*a, tile=5, **k)])
def test_every_gradient(features, truth, loss):
    report = check(of_one_argument(loss, positives=np.nonzero(truth)), *features, np.array(1.7))
    assert report.ok and report.max_error < 1e-12, report


def test_the_gradient_is_the_probability_less_the_truth(rng, truth):
    s = 3 * rng.normal(size=(N, N))
    loss, backward = symmetric_cross_entropy(s, np.nonzero(truth))
    x, y = truth / truth.sum(1, keepdims=True), truth / truth.sum(0)
    p, q = softmax(s, 1)[0], softmax(s, 0)[0]
    np.testing.assert_allclose(loss, -(x * np.log(p) + y * np.log(q)).sum() / (2 * N), rtol=1e-13)
    np.testing.assert_allclose(backward(), (p + q - x - y) / (2 * N), atol=1e-16)
    assert abs(backward().sum()) < 1e-14


def test_the_plain_loss_is_its_special_case(features):
    plain, backward = clip_loss(*features, np.array(2.0))
    special, of_special = clip_loss(*features, np.array(2.0), (np.arange(N), np.arange(N)))
    assert plain == special and all((a == b).all() for a, b in zip(backward(), of_special()))


def test_two_images_that_one_text_describes_share_its_truth():
    rows, columns, x, y = true_entries(2, ([0, 1, 1], [0, 1, 0]), np.ones(1))
    assert rows.tolist() == [0, 1, 1] and columns.tolist() == [0, 0, 1]
    assert x.tolist() == [1, 0.5, 0.5] and y.tolist() == [0.5, 0.5, 1]


def test_what_is_as_true_as_it_can_be_costs_the_entropy_of_the_truth():
    """Two images of one thing with two texts, both true of both, and alike: nothing can be told apart, or need be."""
    loss, backward = symmetric_cross_entropy(np.zeros((2, 2)), ([0, 0, 1, 1], [0, 1, 0, 1]))
    assert loss == pytest.approx(np.log(2)) and not backward().any()


@pytest.mark.parametrize("tile", [1, 4, 13, None])
@pytest.mark.parametrize("logit_scale", [0.0, 4.0, np.log(1000)])
def test_tiles_give_the_same(features, truth, tile, logit_scale):
    arguments = *features, np.array(logit_scale)
    loss, backward = clip_loss(*arguments, positives=np.nonzero(truth))
    tiled, of_tiled = tiled_clip_loss(*arguments, tile=tile, positives=np.nonzero(truth))
    assert tiled == pytest.approx(loss, rel=1e-12)
    for a, b in zip(backward(), of_tiled()):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12 * abs(a).max())


@pytest.mark.parametrize("loss", [clip_loss, tiled_clip_loss])
def test_their_order_and_their_repetition_do_not_matter(features, truth, rng, loss):
    rows, columns = np.nonzero(truth)
    some = np.concatenate([rng.permutation(len(rows)), [0, 0, 3]])
    one, backward = loss(*features, np.array(1.0), positives=(rows, columns))
    other, of_other = loss(*features, np.array(1.0), positives=(rows[some], columns[some]))
    assert one == other and all((a == b).all() for a, b in zip(backward(), of_other()))


@pytest.mark.parametrize(
    "positives",
    [
        (np.arange(N - 1), np.arange(N - 1)),  # the last image has no text
        (np.arange(N), np.zeros(N, int)),  # texts of no image
        (np.arange(N), np.arange(N) + 1),
        (np.arange(N) - 1, np.arange(N)),
        (np.arange(N), np.arange(N) / 2),
        (np.zeros(0, int), np.zeros(0, int)),
        (np.arange(N), np.arange(N), np.arange(N)),
        (np.arange(N), np.arange(2 * N) % N),
    ],
)
def test_what_is_no_truth_is_refused(features, positives):
    with pytest.raises(ValueError, match="positives must be two arrays"):
        clip_loss(*features, np.array(0.0), positives)
