"""Augmentation: each part by itself against a picture worked out by hand, and the same bits on any thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from miniclip.data import Augmentation, augment, mix, plain

NOTHING = Augmentation().times(0)
PARTS = [field.name for field in fields(Augmentation)]


def blobs(n, side, seed=0):
    """Soft coloured blobs on nothing: uint8 RGBA (n, side, side, 4)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    centre = rng.uniform(-0.15, 0.15, (n, 2, 1, 1))
    alpha = (1.5 - 5 * np.hypot(x - centre[:, 0], y - centre[:, 1])).clip(0, 1)
    colour = rng.integers(0, 256, (n, 1, 1, 3)) + 40 * np.sin(9 * x + 5 * y)[None, ..., None]
    return np.concatenate([colour.clip(0, 255), 255 * alpha[..., None]], 3).round().astype(np.uint8)


def on_white(pictures):
    alpha = pictures[..., 3:] / 255
    return (pictures[..., :3] / 255 * alpha + 1 - alpha).transpose(0, 3, 1, 2)


def test_plain_lays_pictures_on_white():
    pictures = blobs(5, 24)
    views = plain(pictures, 24)
    assert views.shape == (5, 3, 24, 24) and views.dtype == np.float32 and views.flags.c_contiguous
    np.testing.assert_allclose(views, on_white(pictures), atol=0.6 / 255)


def test_shapes_dtype_and_range():
    views = augment(blobs(37, 64), np.random.default_rng(0), 48, 2.0)
    assert views.shape == (37, 3, 48, 48) and views.dtype == np.float32 and views.flags.c_contiguous
    assert 0 <= views.min() and views.max() <= 1 and np.isfinite(views).all()
    assert len(np.unique(views.reshape(37, -1), axis=0)) == 37
    assert augment(blobs(0, 64), np.random.default_rng(0), 48).shape == (0, 3, 48, 48)
    assert plain(blobs(0, 64), 48).shape == (0, 3, 48, 48)


def test_strength_0_is_plain():
    pictures = blobs(20, 32)
    np.testing.assert_allclose(augment(pictures, np.random.default_rng(0), 32, 0), plain(pictures, 32), atol=1e-6)


def test_same_generator_gives_the_same_bits_on_any_thread():
    pictures = blobs(48, 40)

    def run(seed):
        return augment(pictures, np.random.default_rng(seed), 32, 1.5)

    with threadpool_limits(1):
        alone = [run(seed) for seed in range(6)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(run, range(6)))
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)
    assert (alone[0] != alone[1]).mean() > 0.2


def test_pictures_are_left_as_they_were():
    pictures = blobs(8, 32)
    before = pictures.copy()
    pictures.flags.writeable = False
    augment(pictures, np.random.default_rng(0), 32)
    plain(pictures, 16)
    mix(pictures, pictures[::-1], np.random.default_rng(0))
    np.testing.assert_array_equal(pictures, before)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_does_something_and_can_be_switched_off(part):
    pictures = blobs(60, 32)
    usual = getattr(Augmentation(), part) or 0.5
    alone = augment(pictures, np.random.default_rng(1), 32, parts=replace(NOTHING, **{part: usual}))
    changed = np.abs(alone - plain(pictures, 32)).max((1, 2, 3)) > 0.02
    assert changed.sum() >= 2
    everything = replace(Augmentation(), **{part: usual})
    without = augment(pictures, np.random.default_rng(1), 32, parts=replace(everything, **{part: 0.0}))
    assert not np.array_equal(without, augment(pictures, np.random.default_rng(1), 32, parts=everything))


class Fixed:
    """A generator whose every uniform draw is the top of its range."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def uniform(self, low, high, size):
        return np.broadcast_to(np.float64(high), size).copy()

    def random(self, size):
        return self.rng.random(size)


def test_a_quarter_turn_and_a_mirror_are_exact():
    pictures = blobs(3, 32)
    expected = plain(pictures, 32)
    turned = augment(pictures, Fixed(), 32, parts=replace(NOTHING, rotate=90.0))
    np.testing.assert_allclose(turned, np.rot90(expected, 1, (2, 3)), atol=1e-5)
    mirrored = augment(pictures, Fixed(), 32, parts=replace(NOTHING, flip=1.0))
    np.testing.assert_allclose(mirrored, expected[..., ::-1], atol=1e-5)


def test_shift_moves_by_the_part_given_and_outside_is_white():
    pictures = blobs(3, 32)
    pictures[..., 3] = 255
    moved = augment(pictures, Fixed(), 32, parts=replace(NOTHING, shift=0.25))
    expected = np.ones_like(moved)
    expected[:, :, :24, :24] = plain(pictures, 32)[:, :, 8:, 8:]
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_bilinear_look_up_agrees_with_pillow():
    pictures = blobs(4, 32)
    pictures[..., 3] = 255
    turned = augment(pictures, Fixed(), 32, parts=replace(NOTHING, rotate=30.0))
    for picture, view in zip(pictures, turned):
        other = Image.fromarray(picture[..., :3]).rotate(30, Image.Resampling.BILINEAR, fillcolor=(255, 255, 255))
        inside = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 14
        np.testing.assert_allclose(view.transpose(1, 2, 0)[inside], np.asarray(other)[inside] / 255, atol=3 / 255)


def test_colours_turn_as_worked_out():
    pictures = np.zeros((2, 8, 8, 4), np.uint8)
    pictures[...] = [200, 100, 50, 255]
    # A third of a turn permutes the channels.
    third = augment(pictures, Fixed(), 8, parts=replace(NOTHING, hue=120.0))
    np.testing.assert_allclose(third[0, :, 4, 4] * 255, [50, 200, 100], atol=1)
    grey = augment(pictures, Fixed(), 8, parts=replace(NOTHING, grey=1.0))
    np.testing.assert_allclose(grey[0, :, 4, 4] * 255, 0.3 * 200 + 0.59 * 100 + 0.11 * 50, atol=1)
    lighter = augment(pictures, Fixed(), 8, parts=replace(NOTHING, brightness=0.1))
    np.testing.assert_allclose(lighter[0, :, 4, 4] * 255, [225.5, 125.5, 75.5], atol=1)
    curved = augment(pictures, Fixed(), 8, parts=replace(NOTHING, curve=0.5))
    x = np.array([200, 100, 50]) / 255
    np.testing.assert_allclose(curved[0, :, 4, 4], x + 0.5 * x * (1 - x), atol=0.005)


def test_colour_changes_leave_the_background_white():
    pictures = blobs(40, 32)
    pictures[:, :4] = 0
    tinted = replace(NOTHING, hue=40, saturation=1, contrast=0.5, brightness=0.3, tint=0.2, curve=0.5, shade=0.5)
    views = augment(pictures, np.random.default_rng(0), 32, parts=tinted)
    np.testing.assert_array_equal(views[:, :, :4], 1)


def test_downscaling_is_anti_aliased():
    pictures = np.full((1, 128, 128, 4), 255, np.uint8)
    pictures[:, :, ::2, :3] = 0  # stripes of one pixel are grey from afar
    for views in (plain(pictures, 32), augment(pictures, np.random.default_rng(0), 32, 0)):
        np.testing.assert_allclose(views, 0.5, atol=0.06)


def test_no_dark_fringe_from_transparent_pixels():
    pictures = np.zeros((1, 64, 64, 4), np.uint8)
    pictures[:, 16:48, 16:48] = 255
    turned = augment(pictures, np.random.default_rng(0), 48, parts=replace(NOTHING, rotate=20.0))
    np.testing.assert_allclose(turned, 1, atol=1e-5)


def test_mix_keeps_places_where_both_agree():
    a, b = np.zeros((2, 200, 16, 16, 4), np.uint8)
    a[..., [0, 3]], b[..., [2, 3]] = 255, 255
    mixed = mix(a, b, np.random.default_rng(0))
    assert mixed.shape == a.shape and mixed.dtype == np.uint8 and (mixed[..., 3] == 255).all()
    np.testing.assert_allclose(mixed[..., 0] + mixed[..., 2].astype(int), 255, atol=1)
    red = mixed[..., 0].reshape(200, -1) / 255
    untouched, spread = (red == 1).all(1), np.ptp(red, 1)
    assert 70 < untouched.sum() < 130
    assert 25 < (spread > 0.9).sum() and 25 < ((spread < 0.01) & ~untouched).sum()
    faint = blobs(50, 16)
    np.testing.assert_array_equal(mix(faint, faint[::-1], np.random.default_rng(5), 0), faint)
    with pytest.raises(ValueError, match="one shape"):
        mix(a, b[:10], np.random.default_rng(0))


@pytest.mark.parametrize(
    "shape, dtype", [((2, 8, 8, 3), "uint8"), ((2, 8, 8, 4), "float32"), ((8, 8, 4), "uint8"), ((2, 8, 9, 4), "uint8")]
)
def test_pictures_of_another_kind_are_refused(shape, dtype):
    pictures = np.zeros(shape, dtype)
    with pytest.raises(ValueError, match="uint8"):
        augment(pictures, np.random.default_rng(0), 8)
    with pytest.raises(ValueError, match="uint8"):
        plain(pictures, 8)


@pytest.mark.parametrize("strength", [-1, float("nan"), float("inf")])
def test_senseless_strength_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        augment(blobs(2, 8), np.random.default_rng(0), 8, strength)
