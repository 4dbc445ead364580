"""Pictures and captions in tars, too many for memory: which tars, how many pairs, and the reading of one pair.

    shards/{00000..41454}.tar       a run of numbers, both ends among them; also {train,extra} and *
    shards/                         a folder that holds nothing but tars and notes, as img2dataset writes it

What a tar looks like, and how it is indexed, stands in tar_index.py. Nothing but numbers of pairs is kept in memory.
"""

import hashlib
import json
import os
import re
from glob import glob
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ..preprocess import as_pil
from .captions import find_table
from .tar_index import LEFT_OUT, caption, check_tar, read_index, stamp_of

BRACES = re.compile(r"\{([^{}]*)\}")
FORMATS = ("JPEG", "PNG", "WEBP")
MOST_TARS = 1_000_000


class TarSet:
    """Pairs of pictures and captions in tars that were indexed.

    name: str; paths: list of Path; counts: int64 (number of tars,), the pairs of each; left_out: {what: how many} that
    the indices report; `len` is the number of pairs. Raises FileNotFoundError where a tar or its index is missing, and
    ValueError where one changed since it was indexed, or an index is damaged.
    """

    def __init__(self, name, paths):
        self.name, self.paths = name, [Path(path) for path in paths]
        rows = [read_index(path, "tar", "headers", "left_out") for path in self.paths]
        if not rows:
            raise ValueError(f"{name} is no tar at all: name at least one.")
        self.counts, self.stamps = np.array([row[0][0] for row in rows]), [tuple(row[0][1:].tolist()) for row in rows]
        self.headers = [row[1].tobytes() for row in rows]
        self.left_out = dict(zip(LEFT_OUT, np.sum([row[2] for row in rows], axis=0).tolist()))

    def __len__(self):
        return int(self.counts.sum())

    def fingerprint(self):
        """A str that tells one set of training data from another: by the tars' names, sizes, pairs and headers."""
        digest = hashlib.sha256()
        for path, count, (size, _), headers in zip(self.paths, self.counts.tolist(), self.stamps, self.headers):
            digest.update(json.dumps([path.name, size, count, headers.hex()]).encode())
        return digest.hexdigest()

    def table(self, t):
        """Of tar t: where its pairs lie, int64 (n, 4), and what their texts are compared by, uint64 (n,).

        Raises ValueError or FileNotFoundError where the tar or its index changed since this set was made.
        """
        headers, pairs, texts = read_index(self.paths[t], "headers", "pairs", "texts")
        if headers.tobytes() != self.headers[t] or len(pairs) != self.counts[t]:
            raise ValueError(f"{self.paths[t]} was replaced since this run began: start again.")
        return pairs, texts

    def open(self, t):
        """Tar t, open to be read. Raises FileNotFoundError, and ValueError where it changed since it was indexed."""
        check_tar(self.paths[t])
        file = open(self.paths[t], "rb", buffering=0)
        if stamp_of(file) != self.stamps[t]:
            file.close()
            raise ValueError(f"{self.paths[t]} changed since it was indexed: run python -m miniclip index on it again.")
        return file


def read_pair(file, place, size):
    """A picture, PIL in RGB and upright, and its caption, from an open tar; place: int64 (4,), a row of its table.

    Where a JPEG is at least twice `size` on both sides it is decoded at a half, a quarter or an eighth. Raises
    ValueError, which names the file of the picture, where that cannot be read.
    """
    (offset, length, text_offset, text_length), descriptor = place.tolist(), file.fileno()
    text = caption(os.pread(descriptor, abs(text_length), text_offset), text_length < 0)
    try:
        with Image.open(BytesIO(os.pread(descriptor, length, offset)), formats=FORMATS) as picture:
            picture.draft(None, (size, size))
            return as_pil(picture), text
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything
        name = os.pread(descriptor, 100, offset - 512).split(b"\0")[0].decode(errors="replace")
        reason = "Pillow knows no such format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{name} in {file.name} cannot be read ({reason})") from None


def tar_data(name):
    """The `TarSet` that a name stands for. Raises ValueError and FileNotFoundError as `tar_paths` and `TarSet` do."""
    return TarSet(Path(name).name, tar_paths(name))


def names_tars(name):
    """Whether a name of data stands for tars: by braces, a star, its ending, or a folder that holds tars alone."""
    folder = Path(name)
    if not folder.is_dir():
        return bool(re.search(r"\{.*\}|\*|\.tar(\.\w+)?$|\.tgz$|^pipe:|://", str(name)))
    if not next(folder.glob("*.tar"), None) or find_table(folder):
        return False
    return not any(path.is_dir() and path.name[0] not in "._" for path in folder.iterdir())


def tar_paths(name):
    """The tars that a name stands for, a list of Path; whether they are there is not looked at, but for a star.

    Raises ValueError for braces that say nothing, tars named twice, and what is not on this machine.
    """
    name = str(name)
    if "://" in name or name.startswith("pipe:"):
        raise ValueError(f"{name} is not in a folder of this machine: fetch the tars first, and name them here.")
    patterns = [name + "/*.tar"] if Path(name).is_dir() else without_braces(name)
    paths = [path for pattern in patterns for path in (sorted(glob(pattern)) if "*" in pattern else [pattern])]
    if not paths:
        raise ValueError(f"{name} matches no tar: name some that are there.")
    if twice := len(paths) - len(set(paths)):
        raise ValueError(f"{name} names {twice} of its tars twice: name each once.")
    return [Path(path) for path in paths]


def without_braces(name):
    """Each name that braces stand for: "{08..10}" is 08, 09, 10, "{a,b}" is a, b. str -> list of str, or ValueError."""
    match = BRACES.search(name)
    if not match:
        return [name]
    choices = []
    for choice in match[1].split(","):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", choice)
        first, last = map(int, numbers.groups()) if numbers else (0, 0)
        if not first <= last < first + MOST_TARS:
            raise ValueError(f"{choice} in {name} must be two numbers, the smaller one first, as in {{000..122}}.")
        choices += [f"{k:0{len(numbers[1])}}" for k in range(first, last + 1)] if numbers else [choice]
    before, after = name[: match.start()], name[match.end() :]
    if len(match[1].split(",")) == 1 and not numbers or before.count("{") != before.count("}"):
        raise ValueError(f"{match[0]} in {name} is no choice: write it as {{000..122}}, {{a,b}} or {{0..6,8..9}}.")
    return [path for choice in choices for path in without_braces(before + choice + after)]
