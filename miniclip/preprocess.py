"""From pictures of any size and kind to the normalised arrays that the image encoders take.

CLIP's own preprocessing: the shorter side resized to the model's size (bicubic, anti-aliased), the
centre cut out, values scaled to 0..1, then less the mean and over the deviation of each channel.

Pictures become RGB first, transparent ones on white. OpenAI's code resizes first, which is the same for RGB
and grey; but Pillow resizes pictures with a palette, and those of one bit, by nearest neighbour only, and
an alpha channel is thrown away there.
"""

import numpy as np
from PIL import Image

# Mean and deviation of the pictures CLIP was trained on, as OpenAI published them.
CLIP_PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def as_pil(picture):
    """A PIL image in RGB from a PIL image of any mode or uint8 (H, W, 3 or 4); transparency becomes white.

    Raises ValueError for anything else.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4) or not picture.size:
            raise ValueError(
                f"a picture is an array of {picture.dtype} {picture.shape}; "
                "it must be uint8 (H, W, 3), or (H, W, 4) with transparency."
            )
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise ValueError(f"a picture is a {type(picture).__name__}; give PIL images or an array of uint8 (N, H, W, 3).")
    if picture.mode == "F" or not all(picture.size):
        raise ValueError(
            f"a picture has mode {picture.mode} and {picture.width} × {picture.height} pixels; "
            "it must have at least one, and no pixels of type float."
        )
    if picture.mode.startswith("I"):  # 16 bits; Pillow would cut them off at 255
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def resize_and_crop(picture, size):
    """A PIL image -> one of size × size: the shorter side resized, the middle kept."""
    width, height = picture.size
    if (width, height) == (size, size):
        return picture
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def normalize(pictures, config):
    """(N, 3, S, S) floats in 0..1 -> the same with the model's mean and deviation taken out, a new array.

    Raises ValueError where a picture is not finite.
    """
    if not np.isfinite(pictures).all():
        bad = int(np.flatnonzero(~np.isfinite(pictures).all((1, 2, 3)))[0])
        raise ValueError(f"picture {bad} has values that are not finite; every pixel must be a number.")
    preprocess = config["preprocess"]
    mean, std = (np.asarray(preprocess[key], pictures.dtype)[:, None, None] for key in ("mean", "std"))
    return (pictures - mean) / std


def preprocess(pictures, config):
    """PIL images or uint8 (N, H, W, 3 or 4) of any size -> float32 (N, 3, S, S) for the image encoder.

    Raises ValueError for what is no picture.
    """
    size = config["vision_cfg"]["image_size"]
    pictures = [np.asarray(resize_and_crop(as_pil(picture), size)) for picture in pictures]
    pixels = np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8)
    return normalize(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255, config)
