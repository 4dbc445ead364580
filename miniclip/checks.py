"""The door of every function: what it takes stands above it, as a reader wants to see it, and is held against.

    @takes("x (..., K), weight (M, K), bias (M)")
    def linear(x, weight, bias=None):

A letter is a size, at least 1 and the same wherever it stands; 3D is three times D; ... are any axes, the same
wherever they stand, and * such as repeat along them; () is a finite number of Python, or one in an array. Of arrays,
shapes and dtypes are looked at, numbers never: nothing waits for a graphics card, and NaN goes through, up to the loss,
where it is found.
What is not part of a training step looks at the numbers too: `finite`. What layers are made of (matmul, add_bias,
extract_patches and the like) has no door of its own, but stands behind theirs.
"""

import math
import re
import reprlib
from functools import lru_cache, wraps
from inspect import Parameter, signature

import numpy as np

from .backend import array_module

ITEM = re.compile(
    r"(?P<name>[^\s?]+)(?P<optional>\?)? (?:\((?P<axes>[^)]*)\)(?: (?P<numbers>int|bool|real))?"
    r"|≥ (?P<least>\d+)|of (?P<whose>\w+)|(?P<word>flag|function|tree|list|given))(?:, |$)"
)
WORDS = {"flag": "True or False", "function": "a function", "tree": "a dict", "list": "a list", "given": "there"}
KINDS = {  # of numbers: NumPy's letters, and what they are called
    None: ("fc", "floating-point numbers"),  # and bfloat16
    "real": ("fiu", "real numbers"),
    "int": ("iu", "integers"),
    "bool": ("b", "True and False"),
}


def takes(spec):
    """A decorator: the function raises a ValueError, in one sentence, for what is not as `spec` says; see the top.

    The names are those of arguments, or of leaves in trees. What is not named is not looked at.

        weight (M, K)           an array of floating-point numbers, real or complex, as the complex step makes them
        ids (N, T) int          of integers; likewise bool, and real: integers or floating-point
        stride ≥ 1              an integer
        axis of x               one of the axes of x
        training flag           True or False; likewise function, tree: a dict, list, and given: anything but None
        p.ln.{weight,bias} (D)  two leaves of the tree p
        config.heads? ≥ 1       a leaf that may be missing, or None

    None is taken where it is the default. A layer's backward refuses a cotangent of another shape than its output.
    """
    matches = list(ITEM.finditer(spec))
    if "".join(match[0] for match in matches) != spec:
        raise ValueError(f"{spec!r} is no list of what a function takes.")
    items = [Item(**match.groupdict() | {"name": name}) for match in matches for name in _names(match["name"])]
    paths, ndarray = [item.name.split(".") for item in items], np.ndarray

    def enter(f):
        defaults = {name: parameter.default for name, parameter in signature(f).parameters.items()}
        optional = {name for name, default in defaults.items() if default is None}
        places = [(list(defaults).index(name), name, defaults[name], path) for name, *path in paths]
        function = re.sub(r"\.__\w+__$", "", f.__qualname__)
        check = lru_cache(256)(lambda *found: _check(function, items, optional, found))

        @wraps(f)
        def checked(*args, **named):
            found, count = [], len(args)
            for place, name, default, path in places:
                value = args[place] if place < count else named.get(name, default)
                for key in path:
                    value = value.get(key) if isinstance(value, dict) else None
                found += (ndarray, value.shape, value.dtype) if type(value) is ndarray else _found(value)
            check(*found)  # remembered: most calls only look here
            result = f(*args, **named)
            if type(result) is tuple and len(result) == 2 and callable(result[1]):
                return result[0], _guarded(function, *result)
            return result

        checked.__doc__ = f"{(f.__doc__ or '').rstrip()}\n\n    Takes {spec}; else ValueError.\n"
        return checked

    return enter


def finite(x, what):
    """x, an array. Raises ValueError where a number in it is NaN or infinite, saying in which row of `what`."""
    good = array_module(x).isfinite(x)
    if not bool(good.all()):
        row = f", but row {int(good.reshape(len(x), -1).all(1).argmin())} holds NaN or infinity" if x.ndim > 1 else ""
        raise ValueError(f"{what} must be finite{row}.")
    return x


def listed(items, what):
    """A list of what can be gone through one by one. Raises ValueError, naming `what`, for anything else and a text."""
    if isinstance(items, (str, bytes, dict)) or not hasattr(items, "__iter__") or getattr(items, "shape", None) == ():
        raise ValueError(f"{what} must be a list, not {reprlib.repr(items)}.")
    return list(items)


class Item:
    """What one argument, or one leaf of a tree, must be."""

    def __init__(self, name, optional, axes, numbers, least, whose, word):
        self.name, self.optional, self.numbers = name, optional, numbers
        self.axes, self.least, self.whose, self.word = axes, least, whose, word
        self.rest, *axes = re.fullmatch(r"(\.\.\.|\*)?(?:, )?(.*)", axes or "").groups("")
        self.sizes = [(int(times or 1), letter) for times, letter in re.findall(r"(\d*)([^,\d ]\w*)", axes[0])]

    def __str__(self):
        if self.axes is not None:
            return f"an array ({self.axes}) of {KINDS[self.numbers][1]}" if self.axes else "a finite number"
        if self.least:
            return f"an integer of at least {self.least}"
        return f"an axis of {self.whose} that is not empty" if self.whose else WORDS[self.word]

    def fits(self, kind, value, dtype, shapes):
        """Whether it may be what `_found` found, its sizes apart. shapes: of the arguments before it."""
        integer = issubclass(kind, (int, np.integer)) and not issubclass(kind, bool)
        if self.axes is not None and dtype is None:
            return not self.axes and (integer or issubclass(kind, float) and value)
        if self.axes is not None:
            more = len(value) - len(self.sizes)
            number = dtype.kind in KINDS[self.numbers][0] or dtype.name == "bfloat16" and self.numbers is None
            plain = kind.__name__ not in ("matrix", "MaskedArray")  # which compute otherwise
            return plain and number and (more >= 0 if self.rest else more == 0)
        if self.least:
            return integer and value >= int(self.least)
        if self.whose:
            shape = shapes.get(self.whose, ())
            return integer and -len(shape) <= value < len(shape) and shape[value] > 0
        if self.word == "function":
            return value == "callable"
        types = {"flag": (bool, np.bool_), "tree": dict, "list": (list, tuple), "given": object}
        return issubclass(kind, types[self.word]) and kind is not type(None)

    def compare(self, shapes, sizes):
        """How its shape disagrees with those of the arguments before it, or None.

        sizes: {letter: (size, whose)}, to which those of this shape are added; "..." is a letter, too.
        """
        shape, wanted, against = shapes[self.name], [], None
        rest = shape[: len(shape) - len(self.sizes)]
        if self.rest:
            axes, other = sizes.get("...", (rest, self.name))
            if self.rest == "...":
                sizes["..."], alike = (axes, other), rest == axes
            else:
                alike = len(rest) <= len(axes) and all(a in (1, b) for a, b in zip(rest[::-1], axes[::-1]))
            wanted, against = [*map(str, axes)], None if alike else other
        for (times, letter), size in zip(self.sizes, shape[len(rest) :]):
            one, other = sizes.setdefault(letter, (size / times, self.name))
            wanted.append(f"{times}{letter}".lstrip("1") if other == self.name else str(int(times * one)))
            if times * one != size or one % 1 or not size:
                against = other
        if against is None:
            return None
        other = "" if against == self.name else f", but {against} is {shapes[against]}"
        empty = " and not empty" if 0 in shape else ""
        wanted = ", ".join(wanted) + "," * (len(wanted) == 1)
        return f"{self.name} has shape {shape}{other}: it must be ({wanted}){empty}"


def _names(name):
    """Its braces taken apart: p.ln.{weight,bias} -> p.ln.weight, p.ln.bias."""
    start, *rest = re.split(r"\{(.*?)\}", name, maxsplit=1)
    return [start + one + more for one in rest[0].split(",") for more in _names(rest[1])] if rest else [start]


def _check(function, items, optional, found):
    """ValueError for the first of what was found that is not as its item says."""
    shapes, sizes, first = {}, {}, None
    for item, kind, value, dtype in zip(items, found[::3], found[1::3], found[2::3]):
        if kind is Parameter.empty:  # not given, without a default: Python will say so
            return
        if kind is type(None) and (item.optional or item.name in optional):
            continue
        if not item.fits(kind, value, dtype, shapes):
            raise ValueError(f"{function}: {item.name} {_words(kind, value, dtype)}; it must be {item}.")
        if dtype is None:
            continue
        shapes[item.name] = value
        if wrong := item.compare(shapes, sizes):
            raise ValueError(f"{function}: {wrong}.")
        if item.numbers is None and not issubclass(kind, np.generic):
            library = "NumPy" if issubclass(kind, np.ndarray) else "CuPy"
            first = first or (item.name, library)
            if library != first[1]:
                both = f"an array of {library}, but {first[0]} is one of {first[1]}"
                raise ValueError(f"{function}: {item.name} is {both}: bring them to one device.")


def _found(value):
    """What a check needs to know of an argument or leaf, hashable: its type, its shape or value, its dtype or None."""
    if isinstance(value, (np.ndarray, np.inexact)) or array_module(value) is not np:
        return type(value), value.shape, value.dtype
    if isinstance(value, float):
        return float, math.isfinite(value), None
    if value is Parameter.empty:
        return value, None, None
    return type(value), value if isinstance(value, (int, np.integer, str)) else "callable" * callable(value), None


def _words(kind, value, dtype):
    """What was found, in words."""
    if dtype is not None:
        return f"is an array of {dtype} with shape {value}"
    if kind in (type(None), float):
        return "is None" if kind is not float else "is of type float" if value else "is not finite"
    return f"is {value!r:.60}" if issubclass(kind, (int, np.integer, str)) else f"is of type {kind.__name__}"


def _guarded(function, y, backward):
    """backward, which refuses a cotangent of another shape than y, or of other numbers than can be its gradient."""
    shape, kinds = y.shape, "fcV" if y.dtype.kind == "c" else "fV"  # V: bfloat16

    def checked(*dy, **named):
        if dy and (getattr(dy[0], "shape", None) != shape or dy[0].dtype.kind not in kinds):
            has = _words(*_found(dy[0]))
            raise ValueError(f"{function}: the gradient of the output {has}; it must be floating-point, {shape}.")
        return backward(*dy, **named)

    checked.__wrapped__ = backward  # for its signature
    return checked
