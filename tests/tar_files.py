"""Tars of pictures and captions, for tests."""

import io
import tarfile

from PIL import Image

from miniclip.data import index_tar


def picture(k=0, format="PNG", size=(20, 16)):
    """The bytes of a picture of one colour, which tells k, from 0 to 511."""
    content = io.BytesIO()
    Image.new("RGB", size, (k % 256, 255 * (k // 256), 90)).save(content, format)
    return content.getvalue()


def pair(k, text=None):
    """The two files of pair k: [(name, bytes)]."""
    return [(f"{k:06}.png", picture(k)), (f"{k:06}.txt", (f"thing {k}" if text is None else text).encode())]


def write_tar(path, files, format=tarfile.PAX_FORMAT):
    """A tar of these files, a list of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_tars(folder, counts, text=lambda k: f"thing {k}"):
    """Tars 000.tar, 001.tar … of so many pairs each, numbered through, with their index. Returns their name."""
    first = 0
    for t, count in enumerate(counts):
        files = [file for k in range(first, first + count) for file in pair(k, text(k))]
        index_tar(write_tar(folder / f"{t:03}.tar", files))
        first += count
    return str(folder / f"{{000..{len(counts) - 1:03}}}.tar")
