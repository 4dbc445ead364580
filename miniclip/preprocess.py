"""From pictures of any size and kind to the normalised arrays that the image encoders take.

CLIP's own preprocessing: the shorter side resized to the model's size (bicubic, anti-aliased), the
centre cut out, values scaled to 0..1, then less the mean and over the deviation of each channel.

Pictures become RGB first, transparent ones on white. OpenAI's code resizes first, which is the same for RGB
and grey; but Pillow resizes pictures with a palette, and those of one bit, by nearest neighbour only, and
an alpha channel is thrown away there.
"""

import numpy as np
from PIL import Image, ImageOps

from .checks import listed, takes

# Mean and deviation of the pictures CLIP was trained on, as OpenAI published them.
CLIP_PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
RESIZE_MODES = ("shortest", "squash")  # the shorter side resized and the middle cut out; both sides resized

BYTES_A_PIXEL = {"AVIF": 16, "WEBP": 20, "JPEG2000": 24}  # at the height of decoding; of other formats 12
WHITE = {"F": (1, 255, 65535), "I": (255, 4095, 65535)}  # what it may be in a picture of such numbers


def as_pil(picture):
    """A PIL image in RGB from a PIL image of any mode or uint8 (H, W, 3 or 4); transparency becomes white.

    `upright` says what becomes of a PIL image. Raises ValueError for anything else.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4) or not picture.size:
            raise ValueError(
                f"a picture is an array of {picture.dtype} {picture.shape}; "
                "it must be uint8 (H, W, 3), or (H, W, 4) with transparency."
            )
        picture = Image.fromarray(picture)
    picture = upright(check_pil(picture))
    if picture.mode == "RGB":
        return picture
    flat = Image.new("RGB", picture.size)
    for top, strip in strips(picture):
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return flat


def check_pil(picture):
    """The picture, if it is a PIL image; else ValueError."""
    if not isinstance(picture, Image.Image):
        raise ValueError(f"a picture is a {type(picture).__name__}; give PIL images or an array of uint8 (N, H, W, 3).")
    return picture


def upright(picture):
    """A PIL image of any mode, turned as its EXIF data say -> in RGB, or RGBA where it may be transparent.

        1, L, P, RGB, CMYK, YCbCr, HSV, LAB      as Pillow converts them; colour profiles are not applied
        LA, PA, RGBA, or a transparent colour    RGBA
        I;16, I                                  grey; white is the first of 255, 4095, 65535 that no pixel exceeds
        F                                        grey; white is the first of 1, 255, 65535 that no pixel exceeds
        colours of 16 bits                       the upper 8, which is all that Pillow reads

    Raises ValueError for a picture that cannot be decoded, or that would take more than 210 MB and 210 times its
    file; for numbers that are not finite, below 0 or above 65535; and where white is anybody's guess: numbers of
    type float that end between 1 and 16, and colours of 16 bits that end below 4096.
    """
    check_memory(picture)
    deep = picture.mode[:2] in ("RG", "LA") and ";16" in str([tile[3] for tile in getattr(picture, "tile", [])])
    try:
        picture.load()
        if picture.getexif().get(0x0112, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"a picture cannot be decoded ({error}); mend it or take it out.") from error
    if picture.mode[0] in WHITE:
        picture = grey(picture)
    if picture.mode == "La":
        picture = picture.convert("LA")
    mode = "RGBA" if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    if deep and max(high for _, high in picture.getextrema()[:3]) < 16:
        raise ValueError("a picture's colours of 16 bits end below 4096, nearly black; save it with 8 bits.")
    return picture


def check_memory(picture):
    """ValueError for a picture without pixels or, where it was just opened, with too many: see `upright`."""
    (width, height), most = picture.size, np.inf
    file, tags = getattr(picture, "fp", None), getattr(picture, "tag_v2", {})
    if file and not getattr(file, "closed", False):
        here = file.tell()
        most = 210 * max(1_000_000, file.seek(0, 2)) / BYTES_A_PIXEL.get(picture.format, 12)
        most = min(most, Image.MAX_IMAGE_PIXELS or most)
        file.seek(here)
    if isinstance(tags.get(322), int) and isinstance(tags.get(323), int):  # a TIFF's tile may be larger than it
        width, height = max(width, tags[322]), max(height, tags[323])
    size = f"a picture has {width} × {height} pixels"
    if not all(picture.size) or width * height > most:
        raise ValueError(f"{size}: too large to open safely; make it smaller." if all(picture.size) else f"{size}.")


def grey(picture):
    """A PIL image of mode I;16, I or F -> L, or LA where one number is transparent: see `upright`."""
    bounds = [(pixels.min(), pixels.max()) for _, strip in strips(picture) for pixels in [np.asarray(strip)]]
    low, high = float(np.min(bounds)), float(np.max(bounds))
    if not (0 <= low and high <= 65535) or picture.mode == "F" and 1 < high < 16:
        raise ValueError(
            f"a picture has numbers from {low:g} to {high:g}, of mode {picture.mode}; bring them to 0..255."
        )
    white = next(white for white in WHITE[picture.mode[0]] if high <= white)
    clear = picture.info.get("transparency")
    result = Image.new("L" if clear is None else "LA", picture.size)
    for top, strip in strips(picture):
        pixels = np.asarray(strip)
        shades = Image.fromarray((pixels * (255 / white) + 0.5).astype(np.uint8))
        if clear is not None:
            shades = Image.merge("LA", [shades, Image.fromarray((pixels != clear).astype(np.uint8) * 255)])
        result.paste(shades, (0, top))
    return result


def strips(picture):
    """A PIL image from top to bottom in pieces of about a million pixels, for steps that would take much memory."""
    rows = max(1, 2**20 // picture.width)
    for top in range(0, picture.height, rows):
        yield top, picture.crop((0, top, picture.width, min(top + rows, picture.height)))


@takes("size ≥ 1")
def resize_and_crop(picture, size):
    """A PIL image -> one of size × size: the shorter side resized, the middle kept.

    Of a picture so long and thin that it would grow to 16 million pixels, the middle is cut out first.
    """
    width, height = check_pil(picture).size
    if (width, height) == (size, size):
        return picture
    short = min(width, height)
    if size * size * max(width, height) > 2**24 * short:
        left, top = (max(0, side - 8 * short) // 2 for side in (width, height))
        picture = picture.crop((left, top, width - left, height - top))
        width, height = picture.size
    width, height = int(size * width / short), int(size * height / short)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


@takes("size ≥ 1")
def squash(picture, size):
    """A PIL image -> one of size × size, each side resized for itself."""
    return check_pil(picture).resize((size, size), Image.Resampling.BICUBIC)


@takes("config.preprocess.mean list, config.preprocess.std list")
def mean_and_std(config):
    """What the model takes off each channel, and divides it by: two lists of 3 finite numbers, else ValueError."""
    mean, std = config["preprocess"]["mean"], config["preprocess"]["std"]
    if len(mean) != 3 or len(std) != 3 or not all(type(v) in (int, float) and np.isfinite(v) for v in (*mean, *std)):
        raise ValueError("preprocess has another mean or std than three finite numbers.")
    if min(std) <= 0:
        raise ValueError(f"preprocess has the std {std}; each must be more than 0.")
    return mean, std


@takes("pictures (N, C, H, W)")
def normalize(pictures, config):
    """Numbers in 0..1, of 3 channels -> the same with the model's mean and deviation taken out, a new array.

    Raises ValueError where a picture is not finite.
    """
    if pictures.shape[1] != 3:
        raise ValueError(f"pictures have shape {pictures.shape}; they must have 3 channels, (N, 3, H, W).")
    if not np.isfinite(pictures).all():
        bad = int(np.flatnonzero(~np.isfinite(pictures).all((1, 2, 3)))[0])
        raise ValueError(f"picture {bad} has values that are not finite; every pixel must be a number.")
    mean, std = (np.asarray(values, pictures.dtype)[:, None, None] for values in mean_and_std(config))
    return (pictures - mean) / std


@takes("config.vision_cfg.image_size ≥ 1, config.preprocess tree")
def shrink(pictures, config):
    """PIL images or arrays of any size -> uint8 (S, S, 3) each, in a list, as the model takes them, or ValueError.

    To shrink again changes nothing: what is read ahead may be kept so small.
    """
    mode = config["preprocess"].get("resize_mode", RESIZE_MODES[0])
    if not isinstance(mode, str) or mode not in RESIZE_MODES:
        raise ValueError(f"preprocess has the resize_mode {mode!r:.40}; it must be one of {', '.join(RESIZE_MODES)}.")
    fit = squash if mode == "squash" else resize_and_crop
    size = config["vision_cfg"]["image_size"]
    return [np.asarray(fit(as_pil(picture), size)) for picture in listed(pictures, "pictures")]


@takes("config.vision_cfg.image_size ≥ 1, config.preprocess tree")
def preprocess(pictures, config):
    """PIL images or uint8 (N, H, W, 3 or 4) of any size -> float32 (N, 3, S, S) for the image encoder.

    Raises ValueError for what is no picture.
    """
    size = config["vision_cfg"]["image_size"]
    pictures = shrink(pictures, config)
    if not pictures:
        return np.zeros((0, 3, size, size), np.float32)
    return normalize(np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255, config)
