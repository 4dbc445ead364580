"""Messages between the judge and a student's process: trees of arrays, as one text and the arrays' bytes after it.

The text is JSON, and holds what is no array: numbers, words, names of the library's functions, and of each array its
dtype and shape. Nothing of it is ever run, and nothing unfolds to more than its own length.
"""

import json
import math
import sys
from importlib import import_module

import numpy as np

LARGEST = 1 << 28  # bytes of a message


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
            if not is_plain(node.dtype):
                return {"odd": f"an array of {node.dtype}"}
            arrays.append(np.asarray(node).tobytes())
            return {"array": node.dtype.str, "shape": node.shape, "scalar": isinstance(node, np.generic)}
        if node is None or isinstance(node, (bool, int, str)):
            return {"value": node}
        if isinstance(node, (float, complex)):
            return plain(np.asarray(node)) | {"number": True}
        if callable(node):
            return handle(node) if handle else {"function": f"{node.__module__}:{node.__qualname__}"}
        return {"odd": type(node).__name__}

    text = json.dumps(plain(tree)).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *arrays])


def is_plain(dtype):
    """Whether numbers of this kind may cross over."""
    return dtype.kind in "fciub" and dtype.itemsize <= 16


def type_name(node):
    """What a sequence is called in a message: "tuple" or "list"."""
    return "tuple" if isinstance(node, tuple) else "list"


class Odd:
    """Something that is no array, number or text: only its name crosses over."""

    def __init__(self, name):
        self.odd_name = name


def unpack(data, handle=None):
    """The tree again. handle: what becomes of a function's number. Raises BadMessage."""
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        return plain_tree(json.loads(data[8:end]), Bytes(data, end), handle)
    except BadMessage:
        raise
    except Exception as error:  # whatever bytes that are none may cause
        raise BadMessage(str(error)) from None


class Bytes:
    """The arrays' bytes, of which one array after the other is taken."""

    def __init__(self, data, start):
        self.data, self.start = data, start

    def take(self, node):
        """The next array of the bytes, or the number it stands for. Raises BadMessage for what holds no numbers."""
        dtype, shape = np.dtype(str(node["array"])), tuple(map(int, node["shape"]))
        if not is_plain(dtype) or min(shape, default=0) < 0:
            raise BadMessage("an array of no numbers")
        array = np.frombuffer(self.data, dtype, math.prod(shape), self.start).reshape(shape).copy()
        self.start += array.nbytes
        return array.item() if node.get("number") else array[()] if node.get("scalar") else array


def plain_tree(node, arrays, handle):
    """The tree that a node of a message describes: arrays out of `arrays`, a `Bytes`, and functions by `handle`."""
    kind, value = next(iter(node.items()))
    if kind == "dict":
        return {key: plain_tree(part, arrays, handle) for key, part in value}
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(plain_tree(part, arrays, handle) for part in value)
    if kind == "array":
        return arrays.take(node)
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
