"""The index of a tar: where its pairs lie, so that any of them is one read away, and what is wrong with it.

    00000.tar               an ordinary tar; the files of a pair have one name, up to its first full stop
        000000000.jpg       a picture: jpg, jpeg, png or webp
        000000000.txt       its caption
        000000000.json      or an object with the caption under "caption", which counts where there is no txt
    00000.tar.index.npz     written beside it
        pairs               int64 (n, 4): offset and size of picture and caption; of JSON the size is negative
        texts               uint64 (n,): what captions are compared by, see `text_key`
        tar                 int64 (3,): n, the tar's size, and the time of its last change in ns
        headers             uint8 (32,): SHA-256 of the headers of all its files
        left_out            int64 (6,): how many of LEFT_OUT there are

Source: WebDataset (Aizman et al. 2019) and img2dataset, which write such tars; tar's own formats, ustar, pax and GNU,
are read by Python's tarfile. It ends without a word where a header is damaged, as at the end of a tar: but there
follow zeros alone.
"""

import hashlib
import json
import os
import re
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..tokenizer import clean

KINDS = dict.fromkeys(("jpg", "jpeg", "png", "webp"), "picture") | {"txt": "caption", "json": "JSON"}
LEFT_OUT = (
    "pictures without a caption",
    "captions without a picture",
    "pictures with an empty caption",
    "pictures whose caption cannot be read",
    "pictures of no bytes",
    "other files",
)
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}
LARGEST_CAPTION = 1 << 20  # bytes
COMPARED = 75  # bytes of a text; CLIP reads 77 tokens of it, with start and end
META = re.compile(r"__[^/]*__($|/)")  # WebDataset's notes about a tar
BLOCK, STEP = 512, 1 << 20  # bytes: of tar, and of what is read at once


def index_tar(path):
    """Write the index of a tar, in one step, unless the one beside it is of this very tar.

    Returns the number of pairs and {what: how many} of LEFT_OUT. Raises FileNotFoundError; ValueError, which names
    the tar, where it is compressed, damaged, cut short, without pairs, or has a file twice or two pictures of one
    name; and OSError where the index cannot be written.
    """
    path = Path(path)
    try:
        (count, *_), numbers = read_index(path, "tar", "left_out")
        return int(count), dict(zip(LEFT_OUT, numbers.tolist()))
    except (ValueError, FileNotFoundError):
        check_tar(path)  # it is there, and its index is not, or is another tar's
    digest, files, others = hashlib.sha256(), {}, 0
    with open(path, "rb") as file:
        stamp = stamp_of(file)
        for name, kind, offset, size in files_of(file, path, digest):
            if kind is None:
                others += 1
                continue
            found = files.setdefault(name, {})
            if kind in found:
                what = "two pictures" if kind == "picture" else f"two files of {kind}"
                raise ValueError(f"{path} holds {what} by the name {name!r}: write it anew, each name once.")
            found[kind] = offset, size
        pairs, texts, missing = pairs_of(file, files)
        if stamp != stamp_of(file):
            raise ValueError(f"{path} changed while it was read: index it again when it is whole.")
    missing["other files"] = others
    if not pairs:
        found = ", ".join(f"{count} {what}" for what, count in missing.items() if count) or "no files at all"
        raise ValueError(f"{path} holds no picture with a caption ({found}): leave it out.")
    counts = [missing[what] for what in LEFT_OUT]
    arrays = {
        "pairs": np.array(pairs, np.int64),
        "texts": np.array(texts, np.uint64),
        "tar": np.array((len(pairs), *stamp)),
    }
    arrays |= {"headers": np.frombuffer(digest.digest(), np.uint8), "left_out": np.array(counts, np.int64)}
    write_index(path, arrays)
    return len(pairs), dict(zip(LEFT_OUT, counts))


def check_tar(path):
    """Raises FileNotFoundError or ValueError where a path is not that of a file that may be a tar."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: fetch it, or leave it out.")
    if not path.is_file():
        raise ValueError(f"{path} is no file: leave it out.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: fetch it again, or leave it out.")


def files_of(file, path, digest):
    """(name up to its first full stop, kind, offset, size) of each file in an open tar; kind is None for other files.

    The digest is fed with all headers. Raises ValueError, which names the tar, where it is damaged or cut short.
    """
    end, descriptor = 0, file.fileno()
    size = os.fstat(descriptor).st_size
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would keep them all
                start = member.offset_data
                if not end <= member.offset < start <= start + member.size <= size:
                    raise tarfile.ReadError("a file ends beyond it")
                digest.update(os.pread(descriptor, start - member.offset, member.offset))
                end = start + member.size
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                plain = member.isreg() and not member.issparse() and stem and not META.match(member.name)
                if plain:
                    yield folder + slash + stem, KINDS.get(ending.lower()), start, member.size
                elif not member.isdir():
                    yield member.name, None, start, member.size
            end = tar.offset
    except (tarfile.TarError, OSError, OverflowError, UnicodeError) as error:
        what = f"damaged or cut short after byte {end}" if end else "no tar, or damaged"
        start = b"" if end else os.pread(descriptor, BLOCK, 0)
        for packer in (name for sign, name in PACKED.items() if start.startswith(sign)):
            raise ValueError(f"{path} is packed by {packer}, and its files cannot be reached: unpack it.") from None
        raise ValueError(f"{path} is {what} ({error}): fetch or write it again, or leave it out.") from None
    check_end(descriptor, path, end, size)


def check_end(descriptor, path, end, size):
    """Raises ValueError unless zeros, at least a block of them, are all that stands from byte `end` of a tar on."""
    if size - end < BLOCK:
        raise ValueError(f"{path} is cut short at byte {size}: fetch or write it again, or leave it out.")
    for offset in range(end, size, STEP):
        rest = os.pread(descriptor, STEP, offset)
        if rest.count(0) < len(rest):
            byte = offset + len(rest) - len(rest.lstrip(b"\0"))
            raise ValueError(
                f"{path} has a damaged header, or goes on after its end, at byte {byte}: what follows would be lost; "
                "fetch or write it again, or leave it out."
            )


def pairs_of(file, files):
    """The table of pairs and the keys of their texts, two lists, and {what: how many} of those left out."""
    pairs, texts, missing = [], [], Counter()
    for found in files.values():
        place = found.get("caption") or found.get("JSON")
        if "picture" not in found or place is None:
            missing[LEFT_OUT["picture" not in found]] += 1
            continue
        offset, size = place
        is_json = "caption" not in found
        try:
            text = caption(os.pread(file.fileno(), min(size, LARGEST_CAPTION + 1), offset), is_json)
        except ValueError:
            missing["pictures whose caption cannot be read"] += 1
            continue
        if not text or not found["picture"][1]:
            missing["pictures of no bytes" if text else "pictures with an empty caption"] += 1
            continue
        pairs.append((*found["picture"], offset, -size if is_json else size))
        texts.append(text_key(text))
    return pairs, texts, missing


def caption(content, is_json):
    """The caption in a file, without spaces around it; "" where there is none. Raises ValueError for what is none."""
    if len(content) > LARGEST_CAPTION:
        raise ValueError("a caption of more than a million bytes.")
    text = content.decode("utf-8-sig")
    if is_json:
        try:
            notes = json.loads(text)
            text = notes["caption"] if notes.get("caption") is not None else ""
        except (AttributeError, RecursionError):
            raise ValueError("JSON that is no object with a caption.") from None
        if not isinstance(text, str):
            raise ValueError("a caption that is no text.")
    return text.strip()


def text_key(text):
    """A number of 64 bits, the same for texts that have the same tokens once they are cut to CLIP's 77, or more.

    It is the digest of the first 75 bytes without spaces: whatever the vocabulary, a token is at least one of them.
    Long texts that only begin alike have one key, too.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        text = text.lower()  # all that is left to clean, and far quicker
    else:
        text = clean(text).replace("\u0345", "")  # which no token holds
    letters = "".join(text.split()).encode("utf-8", "replace")[:COMPARED]
    return int.from_bytes(hashlib.blake2b(letters, digest_size=8).digest(), "little")


def stamp_of(file):
    """What tells that a tar, open or a path, changed: its size, and the time of its last change in ns."""
    status = os.stat(file if isinstance(file, Path) else file.fileno())
    return status.st_size, status.st_mtime_ns


def index_path(path):
    """The file of a tar's index."""
    return path.with_name(path.name + ".index.npz")


def write_index(path, arrays):
    """Write the index of a tar in one step. Raises OSError, which says what to do where the folder is read-only."""
    target = index_path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(beside, "wb") as file:
                np.savez(file, **arrays)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"the index {target} cannot be written ({error.strerror or error}): make its folder one that you may write "
            "to, or link the tars into a folder of yours (ln -s) and index them there."
        ) from None


def read_index(path, *names):
    """The arrays of these names of a tar's index, a list.

    Raises FileNotFoundError where there is none, or no tar, and ValueError where it is damaged, or the tar changed.
    """
    file = index_path(path)
    if not path.is_file():
        check_tar(path)
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as index:
            tar, *found = (index[name] for name in ("tar", *names))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not indexed: run python -m miniclip index on it.") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, BadZipFile, zlib.error):
        raise ValueError(
            f"the index {file} is damaged, or cannot be read: run python -m miniclip index again."
        ) from None
    if tar[1:].tolist() != list(stamp_of(path)):
        raise ValueError(f"{path} changed since it was indexed: run python -m miniclip index on it again.")
    return found
