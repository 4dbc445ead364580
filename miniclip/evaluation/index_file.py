"""The file of an index: written in one step, and trusted as little as any other file."""

import os
import warnings
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..checkpoints import read_arrays, write_arrays
from .retrieval import unit_rows

MOST_KEPT = 16  # files in one folder, for as many models


@dataclass
class Index:
    """N pictures and their embeddings."""

    names: list  # paths below the folder, or codes of emoji
    features: np.ndarray  # float32 (N, E), of length 1
    digests: np.ndarray  # uint8 (N, 32): SHA-256 of the files
    stamps: np.ndarray  # int64 (N, 4): size, times and inode; zeros where they prove nothing

    def arrays(self):
        """{name: array}, to be written."""
        names = np.frombuffer(os.fsencode("\0".join(self.names)), np.uint8)
        return {"names": names, "features": self.features, "digests": self.digests, "stamps": self.stamps}


def cache_folder():
    """The folder for what can be made anew: miniclip, in that of the user."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~")) / ".cache") / "miniclip"


def read_index(path, key, width):
    """The `Index` of this key and this width of embeddings in a file, or None; warns where there is anything else."""
    try:
        arrays, notes = read_arrays(path)
        if notes.get("index") != key or arrays.keys() != {part.name for part in fields(Index)}:
            raise ValueError("it is another model's, or no index")
        index = Index(os.fsdecode(bytes(arrays.pop("names"))).split("\0"), **arrays)
        wanted = {"features": (np.float32, width), "digests": (np.uint8, 32), "stamps": (np.int64, 4)}
        if any((arrays[n].dtype, *arrays[n].shape) != (d, len(index.names), w) for n, (d, w) in wanted.items()):
            raise ValueError("its arrays do not fit together")
        unit_rows(index.features, "its features")
        return index
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        warnings.warn(f"the index {path} cannot be used, and is made anew ({why})")
        return None


def same(index, other):
    """Whether two indices hold the same pictures."""
    ours, theirs = index.arrays(), other.arrays()
    return all(np.array_equal(ours[name], theirs[name]) for name in ("names", "digests", "stamps"))


def keep(index, key, paths):
    """Write an index to the first of these paths that can be written to; warns where that is not the first."""
    for path in paths:
        try:
            if path.parent == cache_folder():
                path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, index.arrays(), {"index": key})
            break
        except (OSError, ValueError) as error:
            raw = getattr(error, "strerror", None)  # of Python, not of `write_arrays`
            why = f"{path.parent} cannot be made ({raw})" if raw else str(error).rstrip(".")
    else:
        warnings.warn(f"the index cannot be kept, and the next search embeds anew: {why}")
        return
    if path != paths[0]:
        warnings.warn(f"the index is kept in {path.parent}, for {why}")
    beside = [file for file in path.parent.glob(".miniclip-*.safetensors" if path.name[0] == "." else "*.safetensors")]
    with suppress(OSError):  # another process is quicker
        for file in sorted(beside, key=lambda file: file.stat().st_mtime)[:-MOST_KEPT]:
            file.unlink()
