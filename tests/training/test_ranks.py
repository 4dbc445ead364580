"""Several processes, one training step: the four verbs, both losses, and the bits, on threads that stand for ranks."""

import numpy as np
import pytest
from training.threads_as_ranks import on_ranks

from miniclip.backend import ALONE, add_up
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.loss import clip_loss
from miniclip.train_step import loss_and_gradient
from miniclip.training.gathered_loss import gathered_clip_loss
from miniclip.training.ranks import check_alike
from miniclip.training.ring_loss import ring_clip_loss
from miniclip.tree import Flat, tree_map

RESNET = RESNET | {"vision_cfg": RESNET["vision_cfg"] | {"image_size": 32}}
LOSSES = pytest.mark.parametrize("loss", [gathered_clip_loss, ring_clip_loss], ids=["gathered", "ring"])


def test_halves_of_halves_are_added_whoever_adds_them():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((24, 100)).astype(np.float32)
    whole = add_up(iter(vectors.copy()), 24)
    np.testing.assert_allclose(whole, vectors.sum(0), rtol=1e-5, atol=1e-5)
    for size in (2, 4, 8):
        parts = [add_up(iter(part), len(part)) for part in vectors.copy().reshape(size, -1, 100)]
        assert add_up(iter(parts), size).tobytes() == whole.tobytes()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_four_verbs(size):
    rng = np.random.default_rng(size)
    blocks, vectors = rng.standard_normal((size, 3, 2)), rng.standard_normal((size, 7))
    expected = add_up(iter(vectors.copy()), size)

    def verbs(ranks):
        v = vectors[ranks.rank].copy()
        ranks.add(v)
        return ranks.gather(blocks[ranks.rank]), v, ranks.shift(blocks[ranks.rank]), ranks.first(lambda: ranks.rank)

    for rank, (gathered, added, shifted, first) in enumerate(on_ranks(size, verbs)):
        assert (gathered == blocks.reshape(-1, 2)).all() and added.tobytes() == expected.tobytes()
        assert (shifted == blocks[rank - 1]).all() and first == 0


def test_alone_is_what_one_rank_is():
    x, v = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    (ranks,) = on_ranks(1, lambda ranks: ranks)
    assert (ALONE.rank, ALONE.size) == (ranks.rank, ranks.size) == (0, 1)
    ALONE.add(v)
    assert (v == np.arange(3.0)).all() and (ALONE.gather(x) == x).all() and (ALONE.shift(x) == x).all()
    assert ALONE.first(lambda: 5) == 5


def test_what_rank_0_raises_all_raise():
    def fail(ranks):
        with pytest.raises(OSError, match="full") as caught:
            ranks.first(lambda: (_ for _ in ()).throw(OSError("full")))
        return caught.value.of_rank_0

    assert on_ranks(3, fail) == [True] * 3


def test_ranks_that_differ_are_refused_with_both():
    with pytest.raises(ValueError, match="the ranks differ in data: b on rank 1 and a on rank 0"):
        on_ranks(2, lambda ranks: check_alike(ranks, {"version": 1, "data": "ab"[ranks.rank]}))
    on_ranks(2, lambda ranks: check_alike(ranks, {"version": 1}))


def positives_of(rng, n):
    """The diagonal, and some more."""
    true = np.eye(n, dtype=bool) | (rng.random((n, n)) < 0.1)
    return np.nonzero(true)


@LOSSES
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("spread", [False, True])
def test_a_loss_of_all_is_that_of_one(loss, size, scale, spread):
    n, e = 48, 5
    rng = np.random.default_rng(size)
    image, text = rng.standard_normal((2, n, e))
    logit_scale, positives = np.log(float(scale)), positives_of(rng, n) if spread else None
    expected, backward = clip_loss(image, text, logit_scale, positives)
    expected = [expected, *backward()]

    def mine(ranks):
        rows = np.array_split(np.arange(n), ranks.size)[ranks.rank]
        value, backward = loss(image[rows], text[rows], logit_scale, positives, ranks=ranks, tiles=2)
        d_image, d_text, d_scale = backward()
        d_scale = np.array([d_scale])
        ranks.add(d_scale)
        again = backward()
        assert (again[0] == d_image).all() and (again[1] == d_text).all()
        return value, d_image, d_text, d_scale[0], dict(ranks.received)

    values, d_image, d_text, d_scale, received = zip(*on_ranks(size, mine))
    for value, scale_too in zip(values, d_scale):
        np.testing.assert_allclose(value, expected[0], rtol=0, atol=1e-12 * max(1, abs(expected[0])))
        np.testing.assert_allclose(scale_too, expected[3], rtol=0, atol=1e-12 * scale)
    for got, right in ((d_image, expected[1]), (d_text, expected[2])):
        np.testing.assert_allclose(np.concatenate(got), right, rtol=0, atol=1e-12 * np.abs(right).max())
    # What travels is what the formulas say.
    rest = n - n // size
    if loss is gathered_clip_loss:
        assert received[0]["gather"] == 2 * rest * e + 6 * rest and not received[0]["shift"]
    else:
        twice = 2  # backward was called twice
        assert received[0]["shift"] == n * (e + 3) + twice * n * (2 * e + 2) and not received[0]["gather"]


def test_bits_of_the_gathered_loss_do_not_depend_on_the_ranks():
    n, e, micro_batches = 64, 12, 8
    rng = np.random.default_rng(1)
    image, text = rng.standard_normal((2, n, e)).astype(np.float32)

    def mine(ranks):
        rows = np.array_split(np.arange(n), ranks.size)[ranks.rank]
        tiles = micro_batches // ranks.size
        value, backward = gathered_clip_loss(image[rows], text[rows], np.float32(3), ranks=ranks, tiles=tiles)
        d_image, d_text, d_scale = backward()
        d_scale = np.array([d_scale])
        ranks.add(d_scale)
        return value, d_image, d_text, d_scale

    def all_bits(size):
        value, d_image, d_text, d_scale = zip(*on_ranks(size, mine))
        assert len(set(value)) == 1
        return (
            value[0].tobytes(),
            np.concatenate(d_image).tobytes(),
            np.concatenate(d_text).tobytes(),
            d_scale[0].tobytes(),
        )

    one = all_bits(1)
    assert all_bits(2) == one and all_bits(4) == one and all_bits(8) == one


@LOSSES
@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_a_step_on_many_ranks_is_that_of_one(loss, config):
    n, count = 8, 4
    inputs = RandomInputs(3)
    params = tree_map(lambda leaf: leaf.astype(np.float64), inputs.parameters(config))
    images, tokens = inputs.images(n, config), inputs.tokens(n)
    micro_batches = [(images[i : i + 2], tokens[i : i + 2]) for i in range(0, n, 2)]

    def step(part, ranks, loss):
        gradient = Flat(tree_map(lambda leaf: np.full_like(leaf, np.nan), params))
        result = loss_and_gradient(params, part, config, gradient, loss=loss, ranks=ranks)
        return float(result["loss"]), gradient.vector

    value, expected = step(micro_batches, ALONE, clip_loss)

    def mine(ranks):
        part = micro_batches[count * ranks.rank // ranks.size : count * (ranks.rank + 1) // ranks.size]
        return step(part, ranks, lambda *features: loss(*features, ranks=ranks, tiles=len(part)))

    for size in (1, 2, 4):
        for got, vector in on_ranks(size, mine):
            assert abs(got - value) < 1e-12
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
