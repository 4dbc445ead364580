"""Ranks with a card each: NCCL's calls on the double, among threads; never run on cards yet."""

import numpy as np
import pytest
from training.threads_as_ranks import on_ranks

from miniclip.gpu import Cards
from miniclip.loss import clip_loss
from miniclip.training import gathered_clip_loss, ring_clip_loss

pytestmark = pytest.mark.double


@pytest.fixture
def cards(cupy, monkeypatch):
    """on_cards(size, f): [f(cards) of each rank], as many cards in the machine as there are ranks."""

    def on_cards(size, f, cards=8):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: cards)
        device = cupy.cuda.Device
        monkeypatch.setattr(cupy.cuda, "Device", lambda index=None: device())  # the double has one card for all
        return on_ranks(size, lambda ranks: f(Cards(ranks)))

    return on_cards


@pytest.mark.parametrize("size", [2, 3])
def test_the_verbs(cards, cupy, size):
    rng = np.random.default_rng(size)
    blocks, vectors = rng.standard_normal((size, 3, 2)), rng.standard_normal((size, 7)).astype(np.float32)

    def verbs(ranks):
        block, v = blocks[ranks.rank], cupy.asarray(vectors[ranks.rank])
        ranks.add(v)
        there = ranks.gather(cupy.asarray(block)), ranks.shift(cupy.asarray(block))
        return *map(cupy.asnumpy, (*there, v)), ranks.gather(block), ranks.shift(block), ranks.first(lambda: ranks.rank)

    for rank, (gathered, shifted, added, on_host, shifted_on_host, first) in enumerate(cards(size, verbs)):
        assert (gathered == blocks.reshape(-1, 2)).all() and (on_host == gathered).all() and first == 0
        assert (shifted == blocks[rank - 1]).all() and (shifted_on_host == shifted).all()
        np.testing.assert_allclose(added, vectors.sum(0), rtol=1e-6)


@pytest.mark.parametrize("loss", [gathered_clip_loss, ring_clip_loss])
@pytest.mark.parametrize("spread", [False, True])
def test_the_losses(cards, cupy, loss, spread):
    n, e, size = 12, 5, 2
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((2, n, e))
    positives = np.nonzero(np.eye(n, dtype=bool) | (rng.random((n, n)) < 0.2)) if spread else None
    expected, backward = clip_loss(image, text, np.float64(3), positives)
    d_image, d_text, d_scale = backward()

    def mine(ranks):
        rows = np.array_split(np.arange(n), ranks.size)[ranks.rank]
        arrays = [cupy.asarray(x) for x in (image[rows], text[rows], np.array(3.0))]
        value, backward = loss(*arrays, positives, ranks=ranks, tiles=2)
        got = [cupy.asnumpy(x) for x in (value, *backward())]
        return rows, got

    scales = 0
    for rows, (value, *got) in cards(size, mine):
        assert abs(value - expected) < 1e-12
        for a, b in zip(got, (d_image[rows], d_text[rows])):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
        scales += got[2]
    assert abs(scales - d_scale) < 1e-12


def test_more_ranks_than_cards_are_refused(cards):
    with pytest.raises(ValueError, match="3 ranks are on a machine with 2 graphics card"):
        cards(3, lambda ranks: None, cards=2)
