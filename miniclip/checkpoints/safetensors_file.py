"""A safetensors file with its own checksum: arrays and what there is to know about them.

    8 bytes      the header's length
    header       JSON: name, dtype, shape and place of each array, and one entry of metadata,
                 "miniclip": "sha256 <digest> <JSON>"
    the rest     the numbers, little-endian, in C order

The digest is of the metadata and of the name, dtype, shape and bytes of every array, so no bit of the file can
change unnoticed. No file is trusted: its header must fit the file's size before anything is read.

The format is simple enough to be read and written here. An array is never copied into a second file in memory,
and memory that runs out is a MemoryError.
"""

import hashlib
import json
import math
import os
import platform
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from .untrusted import Damaged, in_our_words, parse_json

LARGEST_HEADER = 1 << 22  # bytes; CLIP's own vocabulary takes one million of them
# In the order in which arrays lie in a file, the widest first: so that all begin where their dtype suits.
NAMES = "U64 I64 F64 F32 U32 I32 BF16 F16 U16 I16 I8  U8".split()
CODES = "<u8 <i8 <f8 <f4 <u4 <i4 <u2  <f2 <u2 <i2 |i1 |u1".split()
DTYPES = dict(zip(NAMES, CODES))
WRITTEN = {code: name for name, code in DTYPES.items() if name != "BF16"}
LEFT_BEHIND = 3600  # seconds: nobody writes any more to a temporary file that old
OTHER_FILES = {
    b"PK": "a zip archive, as PyTorch's .pt files are",
    b"\x80": "a pickle",
    b"<": "a web page",
    b"{": "JSON text",
    b"version https://git-lfs": "a Git LFS pointer to a file that was not fetched",
}


def write_arrays(path, arrays, metadata):
    """Write NumPy arrays {dotted name: array} and a dict of JSON values to one file with a checksum.

    The same content always gives the same bytes. Raises ValueError for what cannot be stored, and what
    `write_files` raises: a file that was there then stays.
    """
    write_files({path: with_checksum(path, arrays, metadata)})


def with_checksum(path, arrays, metadata, **notes):
    """The file that is to be `path`, a list of bytes and arrays. Raises ValueError for what cannot be stored.

    notes: what the header says to other libraries, such as format="pt".
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.str not in WRITTEN or name == "__metadata__":
            raise ValueError(f"{name} of dtype {array.dtype} cannot be stored in {path}.")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
        parse_json(text)  # what is written can be read again
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata for {path} cannot be written as JSON: {error}.") from None
    header, end = {"__metadata__": notes | {"miniclip": _checksum(arrays, text)}}, 0
    order = sorted(arrays, key=lambda name: (NAMES.index(WRITTEN[arrays[name].dtype.str]), name))
    for name in order:
        start, end = end, end + arrays[name].nbytes
        dtype, shape = WRITTEN[arrays[name].dtype.str], list(arrays[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > LARGEST_HEADER:
        raise ValueError(f"the names and metadata for {path} take more than {LARGEST_HEADER} bytes.")
    try:
        parse_json(head)
    except Damaged as error:
        raise ValueError(f"the names for {path} could not be read again: {error}.") from None
    return [len(head).to_bytes(8, "little"), head, *(arrays[name] for name in order)]


def write_files(contents):
    """Write {path: bytes, or a list of parts}: all are safe on the disk before the first file is replaced, in order.

    Whenever the power fails, each file is there whole, the old one or the new one. Each write has temporary files of
    its own, `path`.….tmp, so two at a time do not meet; what a killed process left of them, a later write removes.
    Raises ValueError where a folder or the like is in the way, FileNotFoundError where the folder is not there, and
    OSError where the disk is full or may not be written to, saying what is still whole.
    """
    contents = {Path(os.path.realpath(path)): content for path, content in contents.items()}
    for path in contents:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file, so a checkpoint cannot take its place.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to.")
    mine = f".{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporary = {path: path.with_name(path.name + mine) for path in contents}
    try:
        for path, content in contents.items():
            with open(temporary[path], "xb") as file:
                for part in [content] if isinstance(content, bytes) else content:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(temporary[path], path)
    except OSError as error:
        still = "what was there before is whole" if path.exists() else "nothing was there before"
        raise type(error)(f"{path} could not be written ({error.strerror or error}); {still}.") from None
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    for path in contents:
        _remove_what_was_left(path)


def _remove_what_was_left(path):
    """Remove the temporary files of `path` of processes that are no more."""
    pattern = re.compile(re.escape(path.name) + r"\.(.*)-(\d+)-[0-9a-f]{8}\.tmp")
    for file in path.parent.iterdir():
        if match := pattern.fullmatch(file.name):
            with suppress(OSError):  # another process is quicker
                gone = match[1] == platform.node() and not _lives(int(match[2]))
                if gone or time.time() - file.stat().st_mtime > LEFT_BEHIND:
                    file.unlink()


def _lives(process):
    """Whether there is a process of this number; True where that cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # no signal: only the question
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def read_arrays(path):
    """Arrays {dotted name: array} and metadata of a safetensors file, its checksum verified where it has one.

    The metadata are what `write_arrays` was given or, in a file from elsewhere, a dict of str. The arrays
    are writable views of one buffer of the file's size. bfloat16, which NumPy lacks, becomes float32.
    Raises FileNotFoundError, or ValueError naming a file that is damaged, cut short, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise (ValueError if path.exists() else FileNotFoundError)(f"there is no file {path}.")
    with open(path, "rb") as file:
        start = file.read(32)
        length, size = int.from_bytes(start[:8], "little"), os.fstat(file.fileno()).st_size
        try:
            if not 0 < length <= min(size - 8, LARGEST_HEADER):
                raise Damaged(f"it has {size} bytes and claims a header of {length}")
            file.seek(8)
            header, notes = _header(file.read(length), size - 8 - length)
            numbers = np.fromfile(file, np.uint8, size - 8 - length)
            arrays = {name: _view(numbers, *entry) for name, entry in header.items()}
            return arrays, _verified(arrays, notes)
        except (ValueError, TypeError) as error:
            kinds = [kind for sign, kind in OTHER_FILES.items() if length > LARGEST_HEADER and start.startswith(sign)]
            what = kinds[0] if kinds else "damaged or cut short, or something else" if size else "empty"
            raise ValueError(f"{path} is {what}, and no checkpoint ({in_our_words(error)}).") from None


def widened(array):
    """bfloat16, given as its 16 bits in a uint16, -> float32, of which it is the upper half."""
    return np.asarray(array.astype(np.uint32) << 16).view(np.float32)


def _header(text, size):
    """{name: (dtype's name, shape, start, end)} and the notes; each of the `size` bytes must belong to one array."""
    if not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
        raise Damaged("its header is not one dict, filled up with spaces")
    try:
        header = parse_json(text.decode())
    except UnicodeDecodeError:
        raise Damaged("its header is no UTF-8") from None
    notes = header.pop("__metadata__", None)
    notes = {} if notes is None else notes
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise Damaged("its __metadata__ are no dict of texts")
    for name, entry in header.items():
        header[name] = _entry(name[:80], entry)
    end = 0
    for _, _, start, stop in sorted(header.values(), key=lambda entry: entry[2:]):
        if start != end:
            raise Damaged("its arrays overlap, or leave bytes out")
        end = stop
    if end != size:
        raise Damaged(f"its arrays take {str(end)[:30]} bytes, and {size} are there")
    return header, notes


def _entry(name, entry):
    """(dtype's name, shape, start, end) of one array, which fit each other."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Damaged(f"of {name} it does not say dtype, shape and data_offsets")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Damaged(f"{name} has numbers of the type {str(dtype)[:20]}, which cannot be read")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
            raise Damaged(f"the shape or the place of {name} is not a list of whole numbers")
    count = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if len(place) != 2 or len(shape) > 32 or place[1] - place[0] != count:
        raise Damaged(f"the shape of {name} does not fit its place")
    return dtype, tuple(shape), *place


def _view(numbers, dtype, shape, start, end):
    """One array in the bytes (P,) that follow the header."""
    array = numbers[start:end].view(DTYPES[dtype]).reshape(shape)
    return widened(array) if dtype == "BF16" else array


def _checksum(arrays, text):
    """The entry of metadata: digest and text."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array)
    return f"sha256 {digest.hexdigest()} {text}"


def _verified(arrays, notes):
    """The metadata that `write_arrays` was given, or the notes of a file from elsewhere."""
    # Either sign will do: no single bit, flipped, makes a file with a checksum look like one from elsewhere.
    entry = next((note for key, note in notes.items() if key == "miniclip" or note.startswith("sha256 ")), None)
    if entry is None:
        return notes
    text = entry[len("sha256 ") + 64 + 1 :]  # what follows the digest
    if {"format": "pt", **notes} != {"format": "pt", "miniclip": _checksum(arrays, text)}:
        raise Damaged("what it holds is not what was written: the sha256 differs")
    metadata = parse_json(text)
    if not isinstance(metadata, dict):
        raise Damaged("its metadata are no dict")
    return metadata
