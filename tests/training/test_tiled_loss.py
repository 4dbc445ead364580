"""The loss in tiles of rows: the dense loss's numbers, whatever the tile, and never its memory."""

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest

from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.random_inputs import VIT
from miniclip.loss import clip_loss, contrastive_loss
from miniclip.train_step import loss_and_gradient
from miniclip.training import tiled_clip_loss, tiled_contrastive_loss
from miniclip.training.tiled_loss import STRIP, cut, rows_of_a_tile
from miniclip.tree import Flat


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def numbers(result):
    """[loss, d_image, d_text, d_logit_scale] of what a loss returns."""
    loss, backward = result
    return [loss, *backward()]


def apart(these, those):
    """How far two lists of numbers differ, at most, relative to the largest of each (or to 1 where all are small)."""
    return max(np.abs(a - b).max() / max(1, np.abs(b).max()) for a, b in zip(these, those))


@pytest.mark.parametrize("n, tile", [(1, 1), (1, 5), (2, 1), (5, 2), (7, 3), (16, 4), (16, 16), (17, 4), (33, 32)])
@pytest.mark.parametrize("logit_scale", [0.0, math.log(1 / 0.07), math.log(100)])
def test_the_dense_loss(normal, n, tile, logit_scale):
    image, text, logit_scale = normal(n, 6) * 3, normal(n, 6), np.array(logit_scale)
    on_sphere = unit(image), unit(text), logit_scale
    tiled, dense = tiled_clip_loss(image, text, logit_scale, tile), clip_loss(image, text, logit_scale)
    assert apart(numbers(tiled), numbers(dense)) <= 1e-12
    tiled, dense = tiled_contrastive_loss(*on_sphere, tile), contrastive_loss(*on_sphere)
    assert apart(numbers(tiled), numbers(dense)) <= 1e-12


@pytest.mark.parametrize("n, tile", [(1000, 1024), (1000, 128), (1023, 100), (300, 1), (501, None)])
def test_the_dense_loss_of_many(normal, n, tile):
    z_image = unit(normal(n, 32))
    z_text, logit_scale = unit(z_image + 0.3 * normal(n, 32)), np.array(math.log(50))
    tiled, dense = (
        numbers(f(z_image, z_text, logit_scale)) for f in (partial(tiled_contrastive_loss, tile=tile), contrastive_loss)
    )
    for ours, theirs in zip(tiled, dense):
        assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("n, e, tile", [(1, 3, 1), (5, 4, 2), (6, 8, 6), (7, 3, 3)])
@pytest.mark.parametrize("logit_scale", [0.0, 1.3, math.log(100)])
def test_gradient(prove, normal, n, e, tile, logit_scale):
    prove(tiled_clip_loss, normal(n, e) * 3, normal(n, e), np.array(logit_scale), tile)
    prove(tiled_contrastive_loss, unit(normal(n, e)), unit(normal(n, e)), np.array(logit_scale), tile)


def test_a_second_backward_has_the_same_bits(normal):
    """The first starts with the tile that the forward left, the second computes it again."""
    _, backward = tiled_clip_loss(normal(9, 4), normal(9, 4), np.array(2.0), 4)
    first = backward()
    for again in (backward(), backward()):
        assert all(same_bits(a, b) for a, b in zip(again, first))


def scores_far_apart():
    """Embeddings whose largest scores, over rows and over columns, lie between −s and s: none may vanish."""
    angles = np.array([0.0, 0.05, 3.0, 3.1, 1.5, 1.6])
    z_image = np.stack([np.cos(angles), np.sin(angles)], 1)
    return z_image, np.stack([np.cos(angles / 9), np.sin(angles / 9)], 1)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8, 1e300])
@pytest.mark.parametrize("tile", [1, 2, 4, 6])
def test_huge_scales_are_finite_and_right(scale, tile):
    z_image, z_text = scores_far_apart()
    tiled, dense = (
        numbers(f(z_image, z_text, np.array(math.log(scale))))
        for f in (partial(tiled_contrastive_loss, tile=tile), contrastive_loss)
    )
    assert all(np.isfinite(a).all() for a in tiled)
    scores = scale * z_image @ z_text.T
    assert scores.max(0).min() < scores.max() - 0.01 * scale and scores.max(1).min() < -0.8 * scale
    for ours, theirs in zip(tiled, dense):
        assert np.abs(ours - theirs).max() <= 1e-11 * np.abs(theirs).max()


@pytest.mark.parametrize("scale", [10.0, 1e20])
def test_two_texts_alike_share_their_probability(scale):
    """Each is right half of the time, at any scale, though log 2 is lost beside the score."""
    z = np.array([[0.6, 0.8], [0.6, 0.8]])
    loss, backward = tiled_contrastive_loss(z, z, np.array(math.log(scale)), 1)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    assert all(np.abs(d).max() <= 1e-15 * scale for d in backward())


def test_pairs_that_are_told_apart_cost_nothing():
    loss, backward = tiled_clip_loss(np.eye(6), np.eye(6), np.array(math.log(100)), 4)
    assert 0 <= loss < 1e-40
    assert np.abs(backward()[0]).max() < 1e-40


def test_nan_is_not_hidden(normal):
    image = normal(5, 4)
    image[3, 1] = np.nan
    assert np.isnan(tiled_clip_loss(image, normal(5, 4), np.array(1.0), 2)[0])


def test_single_precision_is_as_near_the_truth_as_the_dense_loss(normal):
    """At scale 100, against float64 on the same float32 embeddings."""
    z_image = unit(normal(700, 64)).astype(np.float32)
    z_text, logit_scale = unit(z_image + 0.2 * normal(700, 64)).astype(np.float32), np.float32(math.log(100))
    truth = numbers(contrastive_loss(*(a.astype(np.float64) for a in (z_image, z_text, logit_scale))))
    dense, tiled = (
        numbers(f(z_image, z_text, logit_scale)) for f in (contrastive_loss, partial(tiled_contrastive_loss, tile=128))
    )
    for true, theirs, ours in zip(truth, dense, tiled):
        assert ours.dtype == np.float32
        assert np.abs(ours - true).max() <= 3 * np.abs(theirs - true).max() + 1e-6 * np.abs(true).max()


def peak(f, *args, **options):
    """Bytes that a loss and its backward allocate, at most."""
    tracemalloc.start()
    try:
        numbers(f(*args, **options))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_one_tile():
    n, tile, e = 4096, 128, 16
    rng = np.random.default_rng(0)
    image, text = (rng.standard_normal((n, e), np.float32) for _ in range(2))
    tiled = peak(tiled_clip_loss, image, text, np.float32(2.0), tile=tile)
    assert tiled <= (tile + STRIP) * n * 4 + 12 * n * e * 4
    assert tiled <= n * n * 4 / 8
    assert peak(clip_loss, image, text, np.float32(2.0)) >= 2 * n * n * 4


def test_the_tile_is_let_go_once_it_is_used(normal):
    n, tile = 1000, 500
    tracemalloc.start()
    try:
        _, backward = tiled_contrastive_loss(unit(normal(n, 4)), unit(normal(n, 4)), np.array(1.0), tile)
        before = tracemalloc.get_traced_memory()[0]
        backward()
        assert before - tracemalloc.get_traced_memory()[0] >= 0.9 * tile * n * 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n, size", [(1, 1), (7, 3), (8, 4), (9, 100), (100, 33)])
def test_a_cut_is_whole_and_even(n, size):
    parts = cut(slice(5, 5 + n), size)
    lengths = [part.stop - part.start for part in parts]
    assert [row for part in parts for row in range(5, 5 + n)[part.start - 5 : part.stop - 5]] == list(range(5, 5 + n))
    assert max(lengths) == lengths[-1] <= size and max(lengths) - min(lengths) <= 1


def test_a_tile_is_half_of_the_rows_or_as_much_as_fits():
    assert [rows_of_a_tile(n) for n in (1, 2, 7, 4096, 8192, 32768, 1 << 26)] == [1, 1, 4, 2048, 4096, 1024, 1]


def test_a_step_of_micro_batches(inputs):
    """A whole training step with the loss in tiles is that with the dense one."""
    params = inputs.parameters(VIT)
    micro_batches = [(inputs.images(n, VIT), inputs.tokens(n)) for n in (3, 4)]
    dense, tiled = Flat(params), Flat(params)
    losses = [
        loss_and_gradient(params, micro_batches, VIT, gradient, loss=loss)["loss"]
        for gradient, loss in ((dense, clip_loss), (tiled, partial(tiled_clip_loss, tile=2)))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    assert np.abs(dense.vector).max() > 1e-3
    assert np.abs(tiled.vector - dense.vector).max() <= 1e-12 * np.abs(dense.vector).max()


def test_what_does_not_fit_is_refused(normal):
    for image, text in (((3, 4), (2, 4)), ((3, 4), (3, 5)), ((4,), (4,))):
        with pytest.raises(ValueError, match="do not pair up"):
            tiled_clip_loss(normal(*image), normal(*text), np.array(1.0))
    for tile in (0, -1):
        with pytest.raises(ValueError, match="at least 1 row"):
            tiled_clip_loss(normal(3, 4), normal(3, 4), np.array(1.0), tile)
