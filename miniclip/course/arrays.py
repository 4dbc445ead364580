"""Messages between the judge and a student's process: trees of arrays as the bytes of an npz file, without pickles.

What is no array (numbers, text, names of the library's functions) stands in one text, as JSON, in an array of bytes.
"""

import io
import json
import sys
import zipfile
from importlib import import_module

import numpy as np

LARGEST = 1 << 28  # bytes of a message, unpacked


class BadMessage(Exception):
    """What came is no message."""


def pack(tree, handle=None):
    """A tree of dicts, lists, tuples, arrays and plain values -> bytes.

    handle: function -> a number under which the other side may call it. Raises BadMessage for what cannot be told.
    """
    arrays = []

    def plain(node):
        if isinstance(node, dict):
            return {"dict": [[str(key), plain(value)] for key, value in node.items()]}
        if isinstance(node, (tuple, list)):
            return {type_name(node): [plain(part) for part in node]}
        if isinstance(node, (np.ndarray, np.generic)):
            if node.dtype.kind not in "fciub" or node.dtype.itemsize > 16:
                return {"odd": f"an array of {node.dtype}"}
            arrays.append(np.array(node, order="C", subok=False))
            return {"array": len(arrays) - 1, "scalar": isinstance(node, np.generic)}
        if node is None or isinstance(node, (bool, int, str)):
            return {"value": node}
        if isinstance(node, (float, complex)):
            arrays.append(np.asarray(node))
            return {"array": len(arrays) - 1, "number": True}
        if callable(node):
            return handle(node) if handle else {"function": f"{node.__module__}:{node.__qualname__}"}
        return {"odd": type(node).__name__}

    text = json.dumps(plain(tree)).encode()
    held = {f"a{k}": array for k, array in enumerate(arrays)}
    file = io.BytesIO()
    np.savez(file, text=np.frombuffer(text, np.uint8), **held)
    return file.getvalue()


def type_name(node):
    return "tuple" if isinstance(node, tuple) else "list"


class Odd:
    """Something that is no array, number or text: only its name crosses over."""

    def __init__(self, name):
        self.odd_name = name


def unpack(data, handle=None):
    """The tree again. handle: what becomes of a function's number. Raises BadMessage."""
    try:
        if sum(part.file_size for part in zipfile.ZipFile(io.BytesIO(data)).infolist()) > LARGEST:
            raise BadMessage("it is too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file.items())
        return plain_tree(json.loads(arrays.pop("text").tobytes()), arrays, handle)
    except BadMessage:
        raise
    except Exception as error:  # whatever a file that is none may cause
        raise BadMessage(str(error)) from None


def plain_tree(node, arrays, handle):
    kind, value = next(iter(node.items()))
    if kind == "dict":
        return {key: plain_tree(part, arrays, handle) for key, part in value}
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(plain_tree(part, arrays, handle) for part in value)
    if kind == "array":
        array = arrays[f"a{int(value)}"]
        return array.item() if node.get("number") else array[()] if node.get("scalar") else array
    if kind == "value":
        return value
    if kind == "odd":
        return Odd(str(value)[:40])
    if kind == "handle" and handle:
        return handle(node)
    if kind == "function" and not handle:  # of the library alone
        module, _, name = value.partition(":")
        if module.partition(".")[0] != __name__.partition(".")[0]:
            raise BadMessage(f"{value} is no function of the library")
        found = sys.modules.get(module) or import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    raise BadMessage(f"{kind} is not known")


def write(file, data):
    """A message, its length first."""
    file.write(len(data).to_bytes(8, "little") + data)
    file.flush()


def read(file):
    """The next message, or None where the other side is gone. Raises BadMessage."""
    length = int.from_bytes(head, "little") if len(head := file.read(8)) == 8 else 0
    if length > LARGEST:
        raise BadMessage("it is too large")
    data = file.read(length) if length else b""
    return data if data and len(data) == length else None
