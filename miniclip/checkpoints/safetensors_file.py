"""The sealed file: arrays and what there is to know about them, in one safetensors file that vouches for itself.

    8 bytes      the header's length
    header       JSON: each array's name, dtype, shape and place, and one entry of metadata,
                 "miniclip": "sha256 <digest> <JSON>"
    the rest     the numbers, little-endian, in C order

The digest is of the metadata and of the name, dtype, shape and bytes of every array, so no bit of the
file can change unnoticed. A file is written beside its place and moved there once it is safe on the
disk: whenever the power fails, the old one or the new one is there, whole.

No file is trusted: its header must fit the file's size before anything is read.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

LARGEST_HEADER = 1 << 22  # bytes; CLIP's own vocabulary takes one million of them
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
}
OTHER_FILES = {
    b"PK": "a zip archive, as PyTorch's .pt files are",
    b"\x80": "a pickle",
    b"<": "a web page",
    b"{": "JSON text",
    b"version https://git-lfs": "a Git LFS pointer to a file that was not fetched",
}


def write_arrays(path, arrays, metadata):
    """Write NumPy arrays {dotted name: array} and a dict of JSON values to one sealed safetensors file.

    The same content always gives the same bytes. A process killed in the middle leaves a file of the
    name `path` + ".tmp", which the next write replaces.
    Raises ValueError for what cannot be stored, FileNotFoundError where the folder is not there, OSError
    where the disk is full: a file that was there then stays.
    """
    write_files({path: sealed(path, arrays, metadata)})


def sealed(path, arrays, metadata, **notes):
    """The bytes of the sealed file that is to be `path`.

    notes: what the header says to others beside the seal, such as format="pt". (The library writes several
    entries of metadata in any order; one alone gives the same bytes always.) Raises ValueError for what
    cannot be stored.
    """
    # The library writes arrays that are not in C order wrongly and says nothing (0.8.0).
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.str not in DTYPES.values() or name == "__metadata__":
            raise ValueError(f"{name} of dtype {array.dtype} cannot be stored in {path}.")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata for {path} cannot be written as JSON: {error}.") from None
    content = to_bytes(arrays, notes | {"miniclip": _seal(arrays, text)})
    if int.from_bytes(content[:8], "little") > LARGEST_HEADER:
        raise ValueError(f"the names and metadata for {path} take more than {LARGEST_HEADER} bytes.")
    return content


def write_files(contents):
    """Write {path: bytes} so that all files are safe on the disk before the first is replaced.

    They are replaced in the order given. Raises ValueError where a folder or the like is in the way,
    FileNotFoundError where the folder is not there, and OSError where the disk is full.
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
    """Arrays {dotted name: array} and metadata of a safetensors file, its sha256 verified where it has one.

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
                pass  # the library holds the whole header against the file's size
            file.seek(8)
            text = file.read(length)
            if not text.rstrip(b" ").endswith(b"}"):  # which it does not do
                raise ValueError("its header is not filled up with spaces")
            header = json.loads(text)
            notes = header.pop("__metadata__", None) or {}
            numbers = np.fromfile(file, np.uint8, size - 8 - length)
            arrays = {name: _view(numbers, **entry) for name, entry in header.items()}
            return arrays, _unseal(arrays, notes)
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


def _seal(arrays, text):
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array)
    return f"sha256 {digest.hexdigest()} {text}"


def _unseal(arrays, notes):
    """The metadata that `write_arrays` was given, or the notes of a file from elsewhere."""
    # Either sign will do: no single bit, flipped, turns a sealed file into one from elsewhere.
    seal = next((note for key, note in notes.items() if key == "miniclip" or note.startswith("sha256 ")), None)
    if seal is None:
        return notes
    text = seal[len("sha256 ") + 64 + 1 :]  # what follows the digest
    if {"format": "pt", **notes} != {"format": "pt", "miniclip": _seal(arrays, text)}:
        raise ValueError("what it holds is not what was written: the sha256 differs")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are no dict")
    return metadata
