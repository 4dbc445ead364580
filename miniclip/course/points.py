"""The points at which an exercise is graded: shapes that are small, drawn, square and large, and large numbers."""

from inspect import signature

import numpy as np

from ..gradcheck import CASES, RandomInputs

BOUNDED = ("heads", "kh", "kw")  # axes that have to fit others
SIZES = {  # the lengths of axes, one after the other, None as RandomInputs draws them; and how large the numbers are
    "drawn": (None, 1.0),
    "drawn again": (None, 1.0),
    "drawn once more": (None, 1.0),
    "square": ((4,), 1.0),
    "long": ((11, 7, 13, 9, 5), 1.0),
    "large numbers": (None, 5.0),
}


class SizedInputs(RandomInputs):
    """`RandomInputs` with axes of given lengths, one after the other, and numbers times `scale`."""

    def __init__(self, seed, lengths=None, scale=1.0):
        super().__init__(seed, least=2)
        self.lengths, self.scale, self.count = lengths, scale, 0

    def length(self, axis):
        """The length of an axis: the next of those given, or drawn."""
        if self.lengths is None or axis in BOUNDED:
            return super().length(axis)
        self.count += 1
        return self.lengths[(self.count - 1) % len(self.lengths)]

    def normal(self, *shape, scale=1.0):
        """Standard normal numbers, times the scale of this point."""
        return super().normal(*shape, scale=scale * self.scale)


def draw_points(exercise, seed=0):
    """{name: arguments}: the points of an exercise, then its traps."""
    points = {}
    for number, name in enumerate(exercise.sizes or SIZES):
        lengths, scale = SIZES[name]
        points[name] = arguments(exercise, SizedInputs([seed, number, *exercise.name.encode()], lengths, scale))
    for name, trap in exercise.traps.items():
        points[name] = as_arguments(trap(SizedInputs([seed, *name.encode()])))
    return points


def arguments(exercise, r):
    """The arguments that an exercise, or the case of gradcheck of its name, draws."""
    draw = exercise.draw or CASES[exercise.name][0]
    _, *axes = (p.name for p in signature(draw).parameters.values() if p.default is p.empty)
    drawn = draw(r, *map(r.length, axes))
    return as_arguments(drawn if exercise.draw else drawn[1:])  # a case draws the function first


def as_arguments(drawn):
    """What a draw returned, as a tuple of arguments."""
    return drawn if isinstance(drawn, tuple) else (drawn,)


def describe(names, args):
    """The arguments in words, of arrays the shapes: "x (3, 4), weight (4,)"."""
    return ", ".join(f"{name} {in_words(value)}" for name, value in zip(names, args) if value is not None)


def in_words(value):
    """An argument in words: an array's shape, a number, a name."""
    if isinstance(value, np.ndarray) and value.ndim:
        return str(value.shape)
    if isinstance(value, (dict, list, tuple)):
        return "a tree" if isinstance(value, dict) else f"a {type(value).__name__} of {len(value)}"
    if callable(value) or isinstance(value, (str, bool)):
        return getattr(value, "__name__", str(value))
    return f"{float(value):.4g}"
