"""Picture files: the one reader of them, and what a picture is known by, wherever it stands and whatever its name."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..backend import cpu_count
from ..preprocess import resize_and_crop, strips, upright

# Pillow knows of programs, films and data as well, and unpacks icons before anybody can ask how large they are.
NO_PICTURES = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "ICO", "ICNS"}
AT_ONCE = 1024  # files waiting to be read
SPLIT = 23  # numbers this way of splitting: with another, other pictures are kept from training


def open_picture(file):
    """The picture in a file, a path or an open binary file: a PIL image in RGB or RGBA, by the rules of `upright`.

    Training, `classify` and whoever calls this get the same pixels. Of several frames the first is taken. Raises
    ValueError, which names the file, for what is no picture, is damaged, or is too large to open safely.
    """
    if isinstance(file, (str, Path)) and Path(file).exists() and not Path(file).is_file():
        raise ValueError(f"{file} is no file; give the path of a picture.")  # a pipe would be waited for
    try:
        Image.init()
        with Image.open(file, formats=[name for name in Image.ID if name not in NO_PICTURES]) as image:
            return upright(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{file} is too large a picture to open safely ({error}); make it smaller.") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, ...
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        reason = "Pillow knows no such format" if isinstance(error, UnidentifiedImageError) else reason
        raise ValueError(f"{file} is no picture that can be read: {reason}.") from error


def read_picture(file, size):
    """A picture, resized and cropped: uint8 RGBA (size, size, 4), and its `content`. Raises as `open_picture` does."""
    picture = open_picture(file)
    return np.asarray(resize_and_crop(picture, size).convert("RGBA")), content(picture)


def content(picture):
    """32 bytes that stand for the pixels of a PIL image, whatever the file, its name and its format."""
    digest = hashlib.sha256(repr(picture.size).encode())
    for _, strip in strips(picture):
        digest.update(strip.convert("RGBA").tobytes())
    return digest.digest()


def read_pictures(files, size):
    """Pictures uint8 (M, size, size, 4) of M files, and a list of their `content`. Raises as `open_picture` does."""
    pictures, contents = np.empty((len(files), size, size, 4), np.uint8), []
    with ThreadPoolExecutor(cpu_count()) as pool:  # Pillow decodes without Python's lock
        for start in range(0, len(files), AT_ONCE):
            for picture, known_by in pool.map(lambda file: read_picture(file, size), files[start : start + AT_ONCE]):
                pictures[len(contents)] = picture
                contents.append(known_by)
    return pictures, contents


def is_held_out(content, seed, share):
    """Whether a picture is kept from training: decided by its content and the seed alone, for a `share` of all."""
    return int.from_bytes(hashlib.sha256(b"%d %d " % (SPLIT, seed) + content).digest()[:8]) < share * 2**64


@cache
def endings():
    """The endings of file names that Pillow can read, in lower case, with their dot."""
    return {ending for ending, name in Image.registered_extensions().items() if name in set(Image.OPEN) - NO_PICTURES}
