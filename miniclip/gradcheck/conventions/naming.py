"""The names that gradients come by: "dW", "grad_W" and "W.grad" are all of W; and gradients as NumPy arrays."""

import re

import numpy as np

from .arguments import Slot, children
from .arrays import is_array, is_number, to_numpy

DECORATED = re.compile(  # dW, d_W, dL_dW, dLdW, grad_W, gradW, delta_W, ∂W; W_grad, W.grad
    r"^(?:d[A-Za-z]_?d_?|d_?|(?:grad|gradient|gradients|delta|nabla|g)_|g(?=[A-Z])|grad(?=[A-Z])|∂)(?P<after>.+)$"
    r"|^(?P<before>.+?)(?:[_.]?(?:grad|gradient)|_g)$"
)


def plain_names(key):
    """The names of which `key` may be the gradient: "dW" -> ["dW", "W"]."""
    names = [str(key)]
    if match := DECORATED.match(names[0]):
        names.append(match["after"] or match["before"])
        if names[0][0] == "d":  # "dLdW" may be dL/dW, or the gradient of LdW
            names.append(names[0][1:].removeprefix("_"))
    return names


def resolve(key, targets):
    """Which of these names is meant by a key of a dict of gradients, or None."""
    by_text = {str(target): target for target in targets}
    for change in (str, str.lower):
        changed = {}
        for text, target in by_text.items():
            changed.setdefault(change(text), []).append(target)
        for name in plain_names(key):
            if len(changed.get(change(name), ())) == 1:
                return changed[change(name)][0]
    return None


def is_keyed(gradients):
    """Whether gradients come by name: a dict, a NamedTuple or a dataclass."""
    return bool(children(gradients)) and type(gradients) not in (list, tuple)


def slots(tree):
    """The names of the arrays of floats in a part of the arguments."""
    if isinstance(tree, Slot):
        return [tree.name]
    return [name for part in children(tree).values() for name in slots(part)]


def targets(name, tree):
    """{what a key of a dict of gradients may say: (name, part)} for a tree of this name.

    Its own keys, and the arrays within it by their full name, or by the last part of that where it is unique.
    """
    full = slots(tree)
    last = [slot.split(".")[-1] for slot in full]
    found = {part: (slot, Slot(slot)) for part, slot in zip(last, full) if last.count(part) == 1}
    found |= {slot.removeprefix(f"{name}."): (slot, Slot(slot)) for slot in full}
    return found | {key: (f"{name}.{key}" if name else key, part) for key, part in children(tree).items()}


def are_resolved(gradients, found):
    """Whether some key of a dict of gradients means one of these targets."""
    return any(resolve(key, found) is not None for key in children(gradients))


def to_array(gradient, dtype=None):
    """A copy of a gradient as a NumPy array: in its own dtype; Python numbers and lists of them in `dtype`.

    None where it holds something else than numbers.
    """
    if is_array(gradient):
        array = np.array(to_numpy(gradient))
        return array if array.dtype.kind in "fciub" else None
    if not is_number(gradient) and not isinstance(gradient, (list, tuple)):
        return None
    try:
        array = np.array([to_numpy(g) for g in gradient] if isinstance(gradient, (list, tuple)) else gradient)
    except (TypeError, ValueError):
        return None
    is_python = array.dtype.kind in "iu" or array.dtype == np.float64
    return array.astype(dtype) if dtype is not None and is_python else array
