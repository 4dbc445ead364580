"""PyTorch's own files, read without PyTorch and without trusting them.

What torch.save and torch.jit.save write is a zip archive. Its data.pkl says which tensors there are (see
torch_pickle.py); the numbers lie beside it, one stored entry a storage:

    NAME/data.pkl     {"ln_final.weight": rebuild(storage "7", offset 0, shape (512,), stride (1,)), …}
    NAME/data/7       2048 bytes

No claim is trusted: an entry must be stored plainly, whole, and where the list says; a tensor must fit its
storage; and all tensors together must fit the file.
"""

import math
import os
import struct
import warnings
import zlib
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from .safetensors_file import widened
from .torch_pickle import BFLOAT16, Module, Tensor, named_tensors, run
from .untrusted import Budget, Damaged, in_our_words

LARGEST_PICKLE = 1 << 22  # bytes; a model with its optimiser takes half a million
MOST_TIMES, OF_PICKLE = 12, 30  # the file, or the pickle, for what this builds; a real pickle takes up to 24
DIRECTORY = 1 << 17  # bytes of the list of entries that any archive may have; a larger one, a third of the archive
# Where training programs keep a state dict, in what they save.
WRAPPERS = "state_dict model_state_dict model_state model module net weights params clip".split()
# OSError, for an archive may send one to a place before its beginning.
DAMAGED = (ValueError, TypeError, LookupError, EOFError, OSError, OverflowError, RuntimeError, struct.error, BadZipFile)


def read_torch(path):
    """The arrays {dotted name: array} of a state dict or of a traced module that PyTorch (1.6 or later) saved.

    A checkpoint of a training run, {"state_dict": …} or another of `WRAPPERS`, gives its state dict, and a warning
    where more weights lie beside it; other values that are no tensors are left out. bfloat16 becomes float32. Arrays
    are in C order, writable, and share nothing.
    Raises ValueError naming a file that is damaged, asks for anything but tensors, or is something else.
    """
    with open(path, "rb") as file:
        try:
            arrays, beside = _read(file, os.fstat(file.fileno()).st_size)
        except DAMAGED as error:
            why = in_our_words(error, "it is cut short or damaged")
            raise ValueError(f"{path} is a zip archive like PyTorch's .pt files, and no checkpoint ({why}).") from None
    if beside:
        more = ", ".join(beside)[:200]
        warnings.warn(f"{path} holds more weights beside the model's, which are not read: {more}.", stacklevel=2)
    return arrays


def _read(file, size):
    """Arrays, and the names of other state dicts beside them."""
    entries = _entries(file, size)
    program = _content(file, entries["data.pkl"], min(size, LARGEST_PICKLE)).tobytes()
    if "byteorder" in entries and _content(file, entries["byteorder"], 16).tobytes() != b"little":
        raise Damaged("its numbers are big-endian")
    with warnings.catch_warnings(action="ignore"):  # of odd names; they are refused, or only names
        budget = Budget(min(MOST_TIMES * size, OF_PICKLE * len(program)))
        result, beside = _state_dict(run(program, budget))
    tensors = named_tensors(result, budget)
    if sum(tensor.storage.dtype.itemsize * math.prod(tensor.shape) for tensor in tensors.values()) > size:
        raise Damaged("its tensors together claim more bytes than the file has")
    arrays, key = {}, None
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].storage.key):
        if tensor.storage.key != key:  # each storage is read once and copied from
            key = tensor.storage.key
            content = _content(file, entries.get(f"data/{key}"), size)
        arrays[name] = _array(content, tensor)
    return arrays, beside


def _state_dict(value):
    """The state dict in what a training program saved, and what else there is like it: a list of names."""
    beside = []
    for _ in WRAPPERS:
        if not isinstance(value, dict) or not (wrapped := [key for key in WRAPPERS if _has_weights(value.get(key))]):
            break
        if len(wrapped) > 1:
            raise Damaged(f"it holds several models, {' and '.join(wrapped)}: save one of them alone")
        beside += [str(key)[:80] for key, other in value.items() if key != wrapped[0] and _has_weights(other)]
        value = value[wrapped[0]]
    return value, beside


def _has_weights(value, deeper=2):
    """Whether this is a state dict or a module, or a dict that wraps one."""
    if isinstance(value, Module):
        return True
    if not isinstance(value, dict):
        return False
    if any(isinstance(child, Tensor) for child in value.values()):
        return True
    return deeper > 0 and any(_has_weights(value.get(key), deeper - 1) for key in WRAPPERS)


def _entries(file, size):
    """{name: ZipInfo} of the folder with data.pkl, in an archive that is what it says."""
    if _directory_size(file, size) > DIRECTORY + size // 3:
        raise Damaged("its list of entries takes more room than what it lists")
    infos = ZipFile(file).infolist()
    entries = {info.filename: info for info in infos}
    if len(entries) < len(infos):
        raise Damaged("it holds two entries of one name")
    for name, info in entries.items():
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise Damaged(f"its entry {name[:80]!r} lies outside the archive")
        if info.flag_bits & 1:
            raise Damaged(f"its entry {name[:80]!r} is encrypted")
    if sum(info.compress_size for info in infos) > size:
        raise Damaged("its entries together are longer than the file")
    folders = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(folders) != 1:
        raise Damaged(f"it holds {len(folders)} entries NAME/data.pkl, not one")
    return {name.removeprefix(folders[0]): info for name, info in entries.items() if name.startswith(folders[0])}


def _directory_size(file, size):
    """How many bytes the archive's list of entries has, which stands at its end, by its last record."""
    file.seek(max(0, size - 98))  # a record of 56 bytes, 20 that say where it is, and 22, if the archive is large
    end = file.read(98)
    if end[-22:-18] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise Damaged("it does not end as PyTorch ends its archives: it is cut short, or has more behind it")
    length = int.from_bytes(end[-10:-6], "little")
    if end[-42:-38] != b"PK\6\7":
        return length
    if end[:4] != b"PK\6\6":
        raise Damaged("it does not end as PyTorch ends its archives")
    return int.from_bytes(end[40:48], "little")


def _content(file, info, most):
    """The bytes of one entry, uint8 (P,), which must be stored as it is, at most so long, and undamaged."""
    if info is None:
        raise Damaged("an entry that its data.pkl speaks of is missing")
    name, encoding = info.orig_filename, "utf-8" if info.flag_bits & 0x800 else "cp437"
    if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
        raise Damaged(f"its entry {name[:80]!r} is compressed, which PyTorch never does to numbers")
    if info.file_size > most:
        raise Damaged(f"its entry {name[:80]!r} claims {info.file_size} bytes, more than the {most} there can be")
    file.seek(info.header_offset)
    signature, length, extra = struct.unpack("<4s22xHH", file.read(30))
    if signature != b"PK\3\4" or file.read(length) != name.encode(encoding):
        raise Damaged(f"its entry {name[:80]!r} is not where the list of entries says")
    file.seek(extra, os.SEEK_CUR)
    content = np.fromfile(file, np.uint8, info.file_size)
    if len(content) < info.file_size or zlib.crc32(content) != info.CRC:
        raise Damaged(f"its entry {name[:80]!r} is cut short or damaged: the CRC-32 differs")
    return content


def _array(content, tensor):
    """The tensor's numbers from the bytes of its storage. ValueError where it does not fit there."""
    storage, count, dtype = tensor.storage, math.prod(tensor.shape), tensor.storage.dtype
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride))
    if storage.size * dtype.itemsize > len(content) or count > storage.size or (count and last >= storage.size):
        raise Damaged(f"a tensor of {count:.3g} numbers does not fit into its storage {storage.key[:20]}")
    numbers = content[: storage.size * dtype.itemsize].view(dtype)[tensor.offset :]
    strides = [step * dtype.itemsize for step in tensor.stride]
    array = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides).copy()
    return widened(array) if dtype == BFLOAT16 else array
