"""Where the first number that is not finite came from, when a training run breaks."""

import sys

import numpy as np

from ..backend import array_module
from ..model import encode_image, encode_text
from ..tree import flatten


def first_nonfinite(params, micro_batches, config, training=True):
    """The name of the first layer whose output is not finite, "visual.layer2.0.bn1 (batch_norm)" say, or None.

    The forward pass is run again while Python tells of every function that returns. A layer is what
    returns (output, backward), and its arguments are found again among the parameters: so the layers
    need not know that they are watched. Parameters that are not finite themselves come first. training: as for
    `encode_image`.
    """
    for name, leaf in flatten(params).items():
        if _is_broken(leaf):
            return f"the parameter {name}"
    names = dict(_places(params))
    found = []

    def watch(frame, event, result):
        if event != "return" or found or not _is_layer(result) or not _is_broken(result[0]):
            return
        function, mine = frame.f_code.co_name, []
        while frame and not mine:  # softmax and pooling have no parameters: ask the caller
            mine = [names[place] for place in map(_place, frame.f_locals.values()) if place in names]
            frame = frame.f_back
        found.append(f"{mine[0] if mine else 'the encoder'} ({function})")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        with np.errstate(all="ignore"):
            for images, tokens in micro_batches:
                if _is_broken(images):
                    return "the pictures themselves"
                encode_image(params, images, config, training)
                encode_text(params, tokens, config)
                if found:
                    return found[0]
    finally:
        sys.setprofile(before)


def _places(node, name=""):
    """Pairs (place in memory, name of the layer) of all that lies below a branch of the parameters."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        own = name if key in ("weight", "bias", "running_mean", "running_var") else f"{name}.{key}".lstrip(".")
        yield _place(child), own
        if isinstance(child, (dict, list)):
            yield from _places(child, own)


def _place(value):
    """Where an array's first number stands, for a weight may arrive as its transpose; of anything else, its id."""
    if hasattr(value, "strides") and not isinstance(value, type):
        return value.__array_interface__["data"][0] if array_module(value) is np else value.data.ptr
    return id(value)


def _is_layer(result):
    return isinstance(result, tuple) and len(result) == 2 and callable(result[1])


def _is_broken(x):
    return hasattr(x, "strides") and x.dtype.kind in "fc" and not bool(array_module(x).isfinite(x).all())
