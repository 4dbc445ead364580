"""Where the first number that is not finite came from, when a training run breaks."""

import sys

import numpy as np

from .backend import array_module
from .model import encode_image, encode_text


def first_overflow(params, shards, config):
    """The name of the first layer whose output is not finite, "visual.layer2.0.bn1" say, or None.

    The forward pass is run again while Python tells of every function that returns. A layer returns
    (output, backward), and its arguments are found again, by identity, among the parameters: so the
    layers need not know that they are watched. Parameters that are not finite themselves come first.
    """
    names = {}

    def walk(node, name):
        names[id(node)] = name
        if isinstance(node, (dict, list)):
            for key, child in node.items() if isinstance(node, dict) else enumerate(node):
                walk(child, f"{name}.{key}".lstrip("."))

    walk(params, "")
    for name, broken in ((names[key], _is_broken(leaf)) for key, leaf in _leaves(params)):
        if broken:
            return f"the parameter {name}"
    found = []

    def watch(frame, event, result):
        is_layer = event == "return" and isinstance(result, tuple) and len(result) == 2 and callable(result[1])
        if found or not is_layer or not _is_broken(result[0]):
            return
        mine = [names[id(value)] for value in frame.f_locals.values() if id(value) in names]
        while not mine and frame.f_back:                # relu and softmax have no parameters: ask the caller
            frame = frame.f_back
            mine = [names[id(value)] for value in frame.f_locals.values() if id(value) in names and names[id(value)]]
        found.append(f"{max(mine, key=len, default='the encoder')} ({frame.f_code.co_name})")

    before = sys.getprofile()
    try:
        for images, tokens in shards:
            if _is_broken(images):
                return "the pictures themselves"
            sys.setprofile(watch)
            with np.errstate(all="ignore"):             # what NumPy would warn of is what is looked for
                encode_image(params, images, config, training=True)
                encode_text(params, tokens, config)
            sys.setprofile(before)
            if found:
                return found[0]
    finally:
        sys.setprofile(before)


def _leaves(node):
    if isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _leaves(child)
    else:
        yield id(node), node


def _is_broken(x):
    return hasattr(x, "dtype") and x.dtype.kind in "fc" and not bool(array_module(x).isfinite(x).all())
