"""An index of pictures: their embeddings, kept on disk, so that the next search embeds only what is new.

    photos/.miniclip-<key>.safetensors     or, where that cannot be written, in the user's cache folder

The key stands for the image encoder, its configuration and parameters: another model has an index of its own. A
picture whose size, times and inode are those of before is taken as it was; any other is known by the SHA-256 of its
file. So one that was renamed, copied or touched is not embedded again, and one that was changed is. The file has a
checksum and is replaced in one step: searches at the same time, or one that is killed, leave a whole one.
"""

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np

from ..backend import cpu_count
from ..data import emoji_pictures, endings, open_picture
from ..preprocess import shrink
from ..tree import flatten, to_device
from .index_file import Index, cache_folder, keep, read_index, same

VERSION = 1  # to be raised where the same model embeds the same picture in another way than before
TEXT = {"", ".csv", ".tsv", ".txt", ".token", ".json", ".jsonl", ".md"}  # what may well lie beside pictures
BLOCK = 64  # pictures read and embedded together
SAVE_EVERY = 30  # seconds of embedding after which the index is written meanwhile
SETTLED = 2_000_000_000  # nanoseconds after which a file's times tell of any further change


def index_folder(clip, folder):
    """Embed what is new of the pictures in a folder and below, and keep it. -> `Index`, and {path: why} of the broken.

    Hidden files are left out. Warns of files that were passed over, of an index that was damaged and is made anew,
    and where it cannot be kept beside the pictures. Raises FileNotFoundError for a folder that is not there, and
    ValueError for one without pictures.
    """
    folder, key = Path(folder), key_of(clip)
    names = pictures_below(folder)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    paths = [folder / f".miniclip-{key[:16]}.safetensors", cache_folder() / f"{place}-{key[:16]}.safetensors"]
    known = [index for path in paths if (index := read_index(path, key, clip.config["embed_dim"]))]
    features, digest_of = {}, {}
    for index in known:
        rows = list(zip(index.names, map(bytes, index.stamps), map(bytes, index.digests)))
        digest_of |= {(name, stamp): digest for name, stamp, digest in rows}
        features |= {digest: row for (*_, digest), row in zip(rows, index.features)}
    with ThreadPoolExecutor(cpu_count()) as pool:
        seen = dict(zip(names, pool.map(lambda name: look(folder / name, name, digest_of), names)))

    new = {digest: folder / name for name, (_, digest) in seen.items() if digest not in features}  # of copies, one

    def save():
        index = gather(seen, features)
        if index.names and not any(same(index, other) for other in known):
            keep(index, key, paths)
        return index

    broken, saved = {}, time.monotonic()
    for digest, found in embed(clip, new):
        (broken if isinstance(found, ValueError) else features)[digest] = found
        if time.monotonic() - saved > SAVE_EVERY:
            save()
            saved = time.monotonic()
    unread = {folder / name: digest for name, (_, digest) in seen.items() if digest in broken}
    return save(), {file: str(broken[of]).replace(str(new[of]), str(file)) for file, of in unread.items()}


def gather(seen, features):
    """The `Index` of those of the pictures {name: (stamp, digest)} whose {digest: features} are known."""
    seen = {name: both for name, both in seen.items() if both[1] in features}
    stamps, digests = (b"".join(both[n] for both in seen.values()) for n in range(2))
    rows = np.array([features[digest] for _, digest in seen.values()], np.float32)
    return Index(
        list(seen),
        rows,
        np.frombuffer(digests, np.uint8).reshape(-1, 32),
        np.frombuffer(stamps, np.int64).reshape(-1, 4),
    )


def index_emoji(clip, style):
    """The `Index` of a style's emoji, kept in the user's cache folder. Raises ValueError for an unknown style."""
    mosaics = {file.name: file for file in (resources.files("miniclip") / "data" / "mosaics").iterdir()}
    if f"{style}.webp" not in mosaics:
        emoji_pictures(style)  # which says what there is
    key = hashlib.sha256(key_of(clip).encode())
    for name in ("emoji.json", f"{style}.webp"):
        key.update(mosaics[name].read_bytes())
    path = cache_folder() / f"emoji-{style}-{key.hexdigest()[:16]}.safetensors"
    index = read_index(path, key.hexdigest(), clip.config["embed_dim"])
    if not index:
        pictures, codes = emoji_pictures(style)
        found = to_device(clip.encode_image(pictures), "cpu")
        index = Index(codes, found, np.zeros((len(codes), 32), np.uint8), np.zeros((len(codes), 4), np.int64))
        keep(index, key.hexdigest(), [path])
    return index


def key_of(clip):
    """64 hexadecimal digits that stand for a model's image encoder: its configuration and its parameters."""
    config = {name: clip.config[name] for name in ("embed_dim", "quick_gelu", "vision_cfg", "preprocess")}
    digest = hashlib.sha256(json.dumps([VERSION, config], sort_keys=True).encode())
    for name, leaf in flatten(to_device(clip.params["visual"], "cpu")).items():
        digest.update(f"{name} {leaf.dtype.str} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def pictures_below(folder):
    """The paths below a folder, in order, of all files that look like pictures: a list of str.

    Follows links, but into no folder twice. Warns of what is passed over; raises as `index_folder` does.
    """
    if not folder.is_dir():
        raise (ValueError if folder.exists() else FileNotFoundError)(
            f"there is no folder {folder}: say which holds pictures."
        )
    found, others, visited, closed = [], Counter(), set(), []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=closed.append):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        below = os.path.relpath(place, folder).removeprefix(".")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(name for name in files if not name.startswith(".")):
            ending = os.path.splitext(name)[1].lower()
            if ending in endings():
                found.append(os.path.join(below, name))
            elif ending not in TEXT:
                others[ending] += 1
    if others:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        warnings.warn(f"{folder}: files that Pillow does not read as pictures, which were passed over: {kinds}")
    for error in closed:
        warnings.warn(f"{error.filename} was passed over: it cannot be read ({error.strerror})")
    if not found:
        raise ValueError(f"there is no picture in {folder}.")
    return found


def look(file, name, digest_of):
    """The stamp of a file (32 bytes) and the digest of what it holds, which is known by its name and stamp, or read."""
    zeros = bytes(32)
    try:
        about = os.stat(file)
        times = about.st_mtime_ns, about.st_ctime_ns
        stamp = np.array([n & (1 << 63) - 1 for n in (about.st_size, *times, about.st_ino)], np.int64).tobytes()
        if (name, stamp) in digest_of:
            return stamp, digest_of[name, stamp]
        if os.path.isfile(file):  # a pipe would be waited for
            with open(file, "rb") as content:
                digest = hashlib.file_digest(content, "sha256").digest()
            return stamp if time.time_ns() - max(times) > SETTLED else zeros, digest
    except OSError:
        pass
    return zeros, hashlib.sha256(b"unreadable " + os.fsencode(name)).digest()  # why, `open_picture` says


def embed(clip, files):
    """Yield (key, features (E,)), or (key, why not: ValueError), of picture files {key: path}."""
    from tqdm import tqdm

    def read(file):
        try:
            return shrink([open_picture(file)], clip.config)[0]
        except ValueError as error:
            return error

    keys = list(files)
    with (
        ThreadPoolExecutor(cpu_count()) as pool,
        tqdm(total=len(keys), unit="picture", leave=False, disable=None) as bar,
    ):
        for start in range(0, len(keys), BLOCK):
            block = keys[start : start + BLOCK]
            pictures = list(pool.map(read, map(files.get, block)))
            found = [picture for picture in pictures if not isinstance(picture, ValueError)]
            found = iter(to_device(clip.encode_image(np.array(found)), "cpu") if found else [])
            for key, picture in zip(block, pictures):
                yield key, picture if isinstance(picture, ValueError) else next(found)
            bar.update(len(block))
