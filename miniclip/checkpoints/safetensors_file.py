"""A safetensors file with its own checksum: arrays and what there is to know about them.

    8 bytes      the header's length
    header       JSON: name, dtype, shape and place of each array, and one entry of metadata,
                 "miniclip": "sha256 <digest> <JSON>"
    the rest     the numbers, little-endian, in C order

The digest is of the metadata and of the name, dtype, shape and bytes of every array, so no bit of the file can
change unnoticed. No file is trusted: its header must fit the file's size before anything is read.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

LARGEST_HEADER = 1 << 22  # bytes; CLIP's own vocabulary takes one million of them
NAMES = "F64 F32 F16 BF16 I64 I32 I16 I8  U64 U32 U16 U8".split()
CODES = "<f8 <f4 <f2 <u2  <i8 <i4 <i2 |i1 <u8 <u4 <u2 |u1".split()
DTYPES = dict(zip(NAMES, CODES))
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
    """The bytes of the file that is to be `path`. Raises ValueError for what cannot be stored.

    notes: what the header says to other libraries, such as format="pt". (safetensors writes several entries
    of metadata in any order, so the bytes are then not always the same.)
    """
    # The library writes arrays that are not in C order wrongly and says nothing (0.8.0).
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.str not in CODES or name == "__metadata__":
            raise ValueError(f"{name} of dtype {array.dtype} cannot be stored in {path}.")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata for {path} cannot be written as JSON: {error}.") from None
    content = to_bytes(arrays, notes | {"miniclip": _checksum(arrays, text)})
    if int.from_bytes(content[:8], "little") > LARGEST_HEADER:
        raise ValueError(f"the names and metadata for {path} take more than {LARGEST_HEADER} bytes.")
    return content


def write_files(contents):
    """Write {path: bytes}: all are safe on the disk before the first file is replaced, in the order given.

    Whenever the power fails, each file is there whole, the old one or the new one. A process killed in the
    middle leaves files named `path` + ".tmp", which the next write replaces. Raises ValueError where a folder or the
    like is in the way, FileNotFoundError where the folder is not there, and OSError where the disk is full.
    """
    contents = {Path(os.path.realpath(path)): content for path, content in contents.items()}
    for path in contents:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file, so a checkpoint cannot take its place.")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to.")
    temporary = {path: path.with_name(path.name + ".tmp") for path in contents}
    try:
        for path, content in contents.items():
            with open(temporary[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(temporary[path], path)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


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
                raise ValueError(f"it has {size} bytes and claims a header of {length}")
            with safe_open(path, "np"):
                pass  # the library checks the whole header against the file's size
            file.seek(8)
            text = file.read(length)
            if not text.rstrip(b" ").endswith(b"}"):  # which it does not check
                raise ValueError("its header is not filled up with spaces")
            header = json.loads(text)
            notes = header.pop("__metadata__", None) or {}
            numbers = np.fromfile(file, np.uint8, size - 8 - length)
            arrays = {name: _view(numbers, **entry) for name, entry in header.items()}
            return arrays, _verified(arrays, notes)
        except (SafetensorError, ValueError, TypeError, RecursionError) as error:
            kinds = [kind for sign, kind in OTHER_FILES.items() if length > LARGEST_HEADER and start.startswith(sign)]
            what = kinds[0] if kinds else "damaged or cut short, or something else" if size else "empty"
            raise ValueError(f"{path} is {what}, and no checkpoint ({str(error)[:200]}).") from None


def widened(array):
    """bfloat16, given as its 16 bits in a uint16, -> float32, of which it is the upper half."""
    return np.asarray(array.astype(np.uint32) << 16).view(np.float32)


def _view(numbers, dtype, shape, data_offsets):
    """One array in the bytes (P,) that follow the header."""
    if dtype not in DTYPES:
        raise ValueError(f"it holds numbers of type {dtype}")
    array = numbers[slice(*data_offsets)].view(DTYPES[dtype]).reshape(shape)
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
        raise ValueError("what it holds is not what was written: the sha256 differs")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are no dict")
    return metadata
