"""Against the reference's preprocessing: no pixel further away than one step of 255.

OpenAI's own is torchvision's Resize(n, bicubic), CenterCrop(n), RGB, ToTensor. It runs here where
torchvision does; transformers' image processor, on PIL, runs wherever transformers does. They agree
with each other but for three things. Where the part to cut off is an odd number of pixels, transformers
leaves the middle half a pixel elsewhere. A picture with a palette (or of one bit) is resized by
OpenAI's code as it is, which Pillow does without mixing any colours, and by transformers, as here, once
it is RGB. And what is transparent becomes white here, while both of them drop the transparency: so
pictures with transparency are opaque ones in this comparison.
"""

import numpy as np
import pytest
from PIL import Image

from miniclip.preprocess import CLIP_PREPROCESS, preprocess

STEP = 1 / 255
MODES = ["RGB", "L", "RGBA", "P"]


def config(size):
    """A configuration that leaves values in 0..1."""
    return {"vision_cfg": {"image_size": size}, "preprocess": CLIP_PREPROCESS | {"mean": [0, 0, 0], "std": [1, 1, 1]}}


def picture(rng, width, height, mode):
    """Noise, or soft colours: the hardest and the easiest to resize. A palette is of 256 colours."""
    if rng.random() < 0.5:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    else:
        image = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    return image.convert(mode)


def sizes(rng, number):
    """Model's size, width, height: tiny, upscaled, odd, tall, wide and just what is wanted."""
    for n in range(number):
        size = int(rng.choice([224, 32, 33, 64, 288]))
        low, high = [(1, 40), (200, 600), (size, size + 3), (101, 300)][n % 4]
        width, height = (int(side) for side in rng.integers(low, high + 1, 2))
        if n % 3 == 1:
            width, height = max(1, width // 8), height + 90
        if n % 3 == 2:
            width, height = width + 90, max(1, height // 8)
        yield size, width, height


def furthest(reference, number=200, modes=MODES, allowed=lambda size, width, height: True):
    """The largest difference, in 1/255, from reference(picture, size) -> (3, S, S) in 0..1; and how many there were."""
    rng, largest, count = np.random.default_rng(0), 0.0, 0
    for n, (size, width, height) in enumerate(sizes(rng, number)):
        image = picture(rng, width, height, modes[n % len(modes)])
        if allowed(size, width, height):
            ours = preprocess([image], config(size))[0]
            largest = max(largest, float(np.abs(ours - reference(image, size)).max()) / STEP)
            count += 1
    return largest, count


def test_torchvision_as_openai_uses_it():
    transforms = pytest.importorskip("torchvision.transforms", exc_type=ImportError)

    def reference(image, size):
        if image.mode == "P":
            image = image.convert("RGB")
        resize = transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC)
        image = transforms.CenterCrop(size)(resize(image)).convert("RGB")
        return transforms.ToTensor()(image).numpy()

    largest, count = furthest(reference, 400)
    assert largest <= 1.001 and count == 400


def transformers_processor(size, **settings):
    processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip", exc_type=ImportError)
    return processing.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **settings
    )


def cuts_evenly(size, width, height):
    """Whether an even number of pixels is cut off, so that everyone has the same middle."""
    short = min(width, height)
    return (int(size * max(width, height) / short) - size) % 2 == 0


def test_transformers_processor_wherever_the_middle_is_the_same():
    def reference(image, size):
        return transformers_processor(size, do_normalize=False)(image, return_tensors="np")["pixel_values"][0]

    largest, count = furthest(reference, allowed=cuts_evenly)
    assert largest <= 1.001 and count > 80


def test_transformers_processor_with_its_mean_and_deviation():
    """The defaults as they stand: 224 pixels, CLIP's mean and deviation."""
    rng = np.random.default_rng(1)
    image = picture(rng, 501, 301, "RGB").crop((0, 0, 500, 300))
    theirs = transformers_processor(224)(image, return_tensors="np")["pixel_values"]
    ours = preprocess([image], {"vision_cfg": {"image_size": 224}, "preprocess": CLIP_PREPROCESS})
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-5 + STEP / min(CLIP_PREPROCESS["std"]) * 1.001


def test_one_pixel_to_the_right_would_be_seen():
    def one_to_the_right(image, size):
        return np.roll(preprocess([image], config(size))[0], 1, axis=2)

    assert furthest(one_to_the_right, 12)[0] > 20
