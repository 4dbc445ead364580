"""What a forward pass returned: its outputs as NumPy arrays, and cotangents in the form that it has."""

from typing import NamedTuple

import numpy as np

from .arguments import children, with_children
from .arrays import is_array, is_number, is_number_list, kind, like, to_numpy


class Outputs:
    """What a forward pass returned: `.arrays`, its floats as NumPy arrays in order, and `.names` of them."""

    def __init__(self, tree):
        self.tree = tree
        parts = [(key, y) for key, y in leaves_of(tree) if kind(y)]
        floats = [(key, y) for key, y in parts if kind(y) in ("f", "c")] or parts
        self.given = [y for _, y in floats]
        self.arrays = [np.array(to_numpy(y)) for y in self.given]  # copies: some functions return one buffer twice
        self.names = [f"y{key}" if key == "" or isinstance(key, int) else str(key) for key, _ in floats]

    def like(self, i, cotangent):
        """A cotangent of output i in the kind of array that output i is."""
        return like(cotangent, self.given[i])

    def filled(self, cotangents):
        """The cotangents in the structure that the outputs have; None where an output is no array of floats."""
        left = iter(cotangents)

        def fill(part):
            if any(part is y for y in self.given):
                return next(left)
            entries = children(part)
            return with_children(part, {key: fill(entry) for key, entry in entries.items()}) if entries else None

        return fill(self.tree)


def leaves_of(tree, key=""):
    """(key, leaf) of all leaves of what a forward pass returned."""
    parts = {} if is_number_list(tree) else children(tree)
    if not parts:
        yield key, tree
    for name, part in parts.items():
        yield from leaves_of(part, name if key == "" else f"{key}.{name}")


class Read(NamedTuple):
    """What a forward returned, understood: its outputs, how its gradients are got, and whether without cotangents."""

    outputs: Outputs
    pull: object  # [cotangent] -> whatever backward returns
    is_loss: bool
    may_omit: bool = False  # whether an argument without a gradient may be data, and is no fault
    takes_step: bool = False  # whether backward takes a step of gradient descent at once


def is_one_number(y):
    """Whether y is a number, or an array of one."""
    return is_number(y) or is_array(y) and to_numpy(y).size == 1
