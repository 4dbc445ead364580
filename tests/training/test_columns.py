"""The loss of pictures with several texts each: a mean of losses, one for each column of texts."""

from functools import partial

import numpy as np
import pytest
from training.threads_as_ranks import on_ranks

from miniclip.gradcheck import check
from miniclip.loss import clip_loss
from miniclip.training.columns import loss_of_columns
from miniclip.training.gathered_loss import gathered_clip_loss
from miniclip.training.ring_loss import ring_clip_loss

N, E = 12, 5
WEIGHTS = 1, 0.3, 2


@pytest.fixture
def features():
    """Of N images, and of three texts of each, one after the other."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(N, E)), rng.normal(size=(3 * N, E))


@pytest.fixture
def truths():
    rng = np.random.default_rng(4)
    return [None, *(np.nonzero((rng.random((N, N)) < 0.2) | np.eye(N, dtype=bool)) for _ in range(2))]


def columns_of(loss, truths):
    return loss_of_columns([partial(loss, positives=true) for true in truths], WEIGHTS)


def test_it_is_the_weighted_mean_of_the_columns_losses(features, truths):
    images, texts = features
    value, backward = columns_of(clip_loss, truths)(images, texts, np.array(1.7))
    parts = [clip_loss(images, texts[c::3], np.array(1.7), true) for c, true in enumerate(truths)]
    assert value == pytest.approx(sum(w * part for w, (part, _) in zip(WEIGHTS, parts)) / 3.3, rel=1e-14)
    d_images, d_texts, d_logit_scale = backward()
    assert d_texts.shape == texts.shape
    for c, (weight, (_, of_column)) in enumerate(zip(WEIGHTS, parts)):
        d = of_column()
        np.testing.assert_allclose(d_texts[c::3], weight / 3.3 * d[1], rtol=1e-13)
        d_images, d_logit_scale = d_images - weight / 3.3 * d[0], d_logit_scale - weight / 3.3 * d[2]
    np.testing.assert_allclose(d_images, 0, atol=1e-16)
    assert d_logit_scale == pytest.approx(0, abs=1e-15)


def test_every_gradient(features, truths):
    def layer(image_features, text_features, logit_scale):
        value, backward = columns_of(clip_loss, truths)(image_features, text_features, logit_scale)
        return value, lambda d: tuple(d * gradient for gradient in backward())

    report = check(layer, *features, np.array(1.7))
    assert report.ok and report.max_error < 1e-12, report


def test_of_one_column_it_is_the_loss_itself():
    assert loss_of_columns([clip_loss], WEIGHTS) is clip_loss


@pytest.mark.parametrize("loss", [gathered_clip_loss, ring_clip_loss])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_on_ranks_that_each_have_a_part(features, truths, loss, size):
    (images, texts), scale = features, np.array(2.0)
    expected, backward = columns_of(clip_loss, truths)(images, texts, scale)
    n = N // size

    def of_rank(ranks):
        mine = slice(n * ranks.rank, n * (ranks.rank + 1))
        of_texts = slice(3 * mine.start, 3 * mine.stop)
        value, back = columns_of(partial(loss, ranks=ranks), truths)(images[mine], texts[of_texts], scale)
        return value, *back()

    values, d_images, d_texts, d_logit_scale = zip(*on_ranks(size, of_rank))
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    for found, right in zip((np.concatenate(d_images), np.concatenate(d_texts), sum(d_logit_scale)), backward()):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-16)
