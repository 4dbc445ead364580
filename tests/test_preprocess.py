"""From pictures of any kind to what the encoders take."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from miniclip.preprocess import CLIP_PREPROCESS, as_pil, normalize, preprocess, resize_and_crop

CONFIG = {"vision_cfg": {"image_size": 8}, "preprocess": CLIP_PREPROCESS}
PLAIN = CONFIG | {"preprocess": CLIP_PREPROCESS | {"mean": [0, 0, 0], "std": [1, 1, 1]}}


def noise(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


def rgba(*values):
    return np.array([[values]], np.uint8)


def numbers(rows, dtype=np.float32):
    return Image.fromarray(np.array(rows, dtype))


def through_png(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return Image.open(file)


# ------------------------------------------------------------------------------------------ any kind


@pytest.mark.parametrize(
    "picture, colour",
    [
        (rgba(255, 0, 0, 0), (255, 255, 255)),  # transparency becomes white
        (rgba(255, 0, 0, 255), (255, 0, 0)),
        (rgba(255, 0, 0, 51), (255, 204, 204)),
        (Image.new("LA", (1, 1), (0, 0)), (255, 255, 255)),
        (Image.new("L", (1, 1), 77), (77, 77, 77)),
        (Image.new("1", (1, 1), 1), (255, 255, 255)),
        (Image.new("I;16", (1, 1), 77 * 257), (77, 77, 77)),
        (Image.new("I", (1, 1), 77 * 257), (77, 77, 77)),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0)),
    ],
)
def test_a_picture_of_any_mode_becomes_rgb(picture, colour):
    assert as_pil(picture).mode == "RGB" and as_pil(picture).getpixel((0, 0)) == colour


def test_a_palette_with_a_transparent_colour():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    assert [as_pil(picture).getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 0)]
    reread = through_png(picture, transparency=0)
    assert reread.mode == "P"
    assert [as_pil(reread).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 0)]


def test_a_16_bit_png_keeps_its_shades():
    shades = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = np.asarray(as_pil(through_png(Image.fromarray(shades))))
    assert np.abs(pixels[..., 0] - shades / 257).max() <= 1


ARRAYS = np.zeros((4, 4, 3)), *(np.zeros(shape, np.uint8) for shape in ((4, 4), (4, 4, 1), (0, 4, 3), (2, 4, 4, 3)))


@pytest.mark.parametrize(
    "picture, sentence",
    [
        *((array, "a picture is an array of .* must be uint8") for array in ARRAYS),
        *((x, f"a picture is a {type(x).__name__}; give PIL images") for x in ("fox.png", None, 3, [[1, 2]])),
        (numbers([[0.5, math.nan]]), "numbers from nan to nan, of mode F; bring them to 0..255"),
        (numbers([[0.5, math.inf]]), "numbers from 0.5 to inf"),
        (numbers([[0.0, 1.02]]), "from 0 to 1.02"),  # 0..1, or nearly black?
        (numbers([[-0.5, 1.0]]), "from -0.5 to 1"),
        (numbers([[0, 70_000]], np.int32), "from 0 to 70000, of mode I"),
        (numbers([[-1, 7]], np.int32), "from -1 to 7"),
        (Image.new("RGB", (0, 5)), "0 × 5"),
    ],
)
def test_what_is_no_picture_is_refused(picture, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_pil(picture)


# ------------------------------------------------------------------------------------------ any size


@pytest.mark.parametrize(
    "width, height, left, top", [(8, 8, 0, 0), (8, 12, 0, 2), (14, 8, 3, 0), (9, 8, 0, 0), (8, 11, 0, 2), (13, 8, 2, 0)]
)
def test_the_middle_is_cut_out(rng, width, height, left, top):
    """The shorter side fits, so no pixel changes. Half a pixel is rounded to the even side, as torchvision does."""
    pixels = noise(rng, height, width, 3)
    cut = np.asarray(resize_and_crop(Image.fromarray(pixels), 8))
    assert (cut == pixels[top : top + 8, left : left + 8]).all()


@pytest.mark.parametrize("width, height", [(1, 1), (1, 9), (100, 3), (16, 16), (17, 9), (7, 8), (640, 481)])
def test_any_size_comes_out_square(rng, width, height):
    assert resize_and_crop(Image.fromarray(noise(rng, height, width, 3)), 8).size == (8, 8)


def resampled(pixels, width):
    """One axis of Pillow's bicubic filter with anti-aliasing (Keys 1981, a = −1/2): (H, W) -> (H, width)."""

    def cubic(t):
        t = abs(t)
        return (1.5 * t - 2.5) * t * t + 1 if t < 1 else ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0

    scale = pixels.shape[1] / width
    stretch = max(scale, 1)
    weights = np.array(
        [[cubic((x + 0.5 - (i + 0.5) * scale) / stretch) for x in range(pixels.shape[1])] for i in range(width)]
    )
    return pixels @ (weights / weights.sum(1, keepdims=True)).T


@pytest.mark.parametrize(
    "width, height, resized",
    [(24, 16, (12, 8)), (21, 33, (8, 12)), (5, 4, (10, 8)), (19, 19, (8, 8)), (15, 11, (10, 8))],
)
def test_the_resize_is_bicubic_with_anti_aliasing(rng, width, height, resized):
    smooth = np.clip(resampled(resampled(noise(rng, 4, 4).astype(float), width).T, height).T, 0, 255).astype(np.uint8)
    expected = np.clip(resampled(resampled(smooth.astype(float), resized[0]).T, resized[1]).T, 0, 255)
    left, top = round((resized[0] - 8) / 2), round((resized[1] - 8) / 2)
    pixels = np.asarray(resize_and_crop(Image.fromarray(np.stack([smooth] * 3, -1)), 8))
    assert np.abs(pixels[..., 0] - expected[top : top + 8, left : left + 8]).max() <= 1.5


# ------------------------------------------------------------------------------------------ to the model


def test_pixels_become_channels_first_and_normal(rng):
    pictures = noise(rng, 3, 8, 8, 3)
    images = preprocess(pictures, CONFIG)
    assert images.shape == (3, 3, 8, 8) and images.dtype == np.float32
    for channel, (mean, std) in enumerate(zip(CLIP_PREPROCESS["mean"], CLIP_PREPROCESS["std"])):
        assert np.allclose(images[:, channel], (pictures[..., channel] / 255 - mean) / std, atol=1e-5)


def test_the_numbers_of_clip():
    """A black and a white pixel, by the mean and deviation that OpenAI published."""
    images = preprocess([Image.new("RGB", (8, 8), colour) for colour in ("black", "white")], CONFIG)
    assert np.allclose(images[0, :, 0, 0], [-1.7922626, -1.7520971, -1.4802198], atol=1e-6)
    assert np.allclose(images[1, :, 0, 0], [1.9303361, 2.0748837, 2.1458969], atol=1e-6)


def test_pictures_of_many_kinds_in_one_batch(rng):
    pictures = [Image.fromarray(noise(rng, 20, 30, 3)), noise(rng, 9, 8, 4), Image.new("L", (3, 5), 9)]
    together = preprocess(pictures, PLAIN)
    assert together.shape == (3, 3, 8, 8)
    for picture, image in zip(pictures, together):
        assert (preprocess([picture], PLAIN)[0] == image).all()
    assert np.allclose(together[2], 9 / 255)


def test_no_pictures():
    assert preprocess([], CONFIG).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pictures_are_not_written_to(rng, dtype):
    pictures, values = noise(rng, 2, 8, 8, 4), np.full((1, 3, 8, 8), 0.5, dtype)
    pictures.flags.writeable = values.flags.writeable = False
    preprocess(pictures, CONFIG)
    assert normalize(values, CONFIG).dtype == dtype


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_picture_that_is_not_finite_is_named(value):
    pictures = np.zeros((4, 3, 8, 8), np.float32)
    pictures[2, 1, 3, 3] = value
    with pytest.raises(ValueError, match="picture 2 has values that are not finite"):
        normalize(pictures, CONFIG)


def test_what_normalize_does_not_take():
    for pictures, said in (
        (np.zeros((2, 3, 8, 8), np.uint8), "normalize: pictures is an array of uint8"),
        (np.zeros((2, 1, 8, 8)), "they must have 3 channels"),  # and are not repeated for each
    ):
        with pytest.raises(ValueError, match=said):
            normalize(pictures, CONFIG)
    for change, said in (
        ({"std": [1, 1, 0]}, "each must be more than 0"),
        ({"mean": [0, 0, math.nan]}, "three finite numbers"),
        ({"mean": None}, "mean is None; it must be a list"),
    ):
        with pytest.raises(ValueError, match=said):
            normalize(np.zeros((2, 3, 8, 8)), CONFIG | {"preprocess": CONFIG["preprocess"] | change})
    with pytest.raises(ValueError, match="resize_mode 'stretch'; it must be one of shortest, squash"):
        preprocess([], CONFIG | {"preprocess": CONFIG["preprocess"] | {"resize_mode": "stretch"}})
