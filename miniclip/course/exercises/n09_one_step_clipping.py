"""Notebook 9: a gradient that is no longer than it may be, over all arrays together."""

import numpy as np

from ..exercise import Mistake
from .n09_one_step import step


def clip_gradient(gradient, largest):
    """{name: array} -> the gradient, no longer than `largest` over all arrays together, and how long it was."""
    norm = np.sqrt(sum((g * g).sum() for g in gradient.values()))
    shrink = largest / norm if norm > largest else 1.0
    return {name: g * shrink for name, g in gradient.items()}, norm


def norm_of(gradient):
    """The length of {name: array}, over all arrays together."""
    return np.sqrt(sum((g * g).sum() for g in gradient.values()))


def draw_clip(r, n, d):
    """A gradient of three arrays, and a bound that is mostly below its length."""
    gradient = {"weight": r.normal(n, d), "bias": 0.2 * r.normal(d), "logit_scale": np.array(3.0 * r.rng.normal())}
    return gradient, float(r.rng.uniform(0.1, 1.2) * norm_of(gradient))


def scaled(by, norm=norm_of):
    """A wrong `clip_gradient`: the factor by(norm, largest), and how it is measured."""

    def wrong(gradient, largest):
        long = norm(gradient)
        return {name: g * by(long, largest) for name, g in gradient.items()}, long

    return wrong


def at_most(norm, largest):
    """The right factor: never above 1."""
    return min(1.0, largest / norm)


def each_alone(gradient, largest):
    """A wrong clip_gradient: each array is clipped by itself."""
    clipped = {name: g * at_most(np.sqrt((g * g).sum()), largest) for name, g in gradient.items()}
    return clipped, norm_of(gradient)


def each_number(gradient, largest):
    """A wrong clip_gradient: each number is cut off at ± largest."""
    return {name: np.clip(g, -largest, largest) for name, g in gradient.items()}, norm_of(gradient)


def norm_afterwards(gradient, largest):
    """A wrong clip_gradient: it returns the length that the gradient has afterwards."""
    clipped = clip_gradient(gradient, largest)[0]
    return clipped, norm_of(clipped)


step.function(
    clip_gradient,
    draw=draw_clip,
    points=4,
    traps={
        "a gradient of zeros": lambda r: ({"weight": np.zeros((2, 3)), "bias": np.zeros(3)}, 1.0),
        "a short gradient": lambda r: ({"weight": 1e-3 * r.normal(2, 3), "bias": 1e-3 * r.normal(3)}, 1.0),
        "a very long gradient": lambda r: ({"weight": 1e9 * r.normal(2, 3)}, 1.0),
        "one array with nothing but a number": lambda r: ({"logit_scale": np.array(-7.0)}, 2.0),
    },
    mistakes=(
        Mistake("alone", "each array is clipped by itself: one length, over all of them, is meant.", each_alone),
        Mistake(
            "alone", "each number is cut off: the gradient is to become shorter, and point as before.", each_number
        ),
        Mistake("short", "a gradient that is short already is made longer.", scaled(lambda norm, top: top / norm)),
        Mistake(
            "short",
            "it is clipped where it is short, and left where it is long.",
            scaled(lambda norm, top: max(1.0, top / norm)),
        ),
        Mistake(
            "factor", "it is made as long as 1, and not as `largest`.", scaled(lambda norm, top: min(1.0, 1 / norm))
        ),
        Mistake(
            "factor",
            "where it is too long it becomes as long as 1, and not as `largest`.",
            scaled(lambda norm, top: 1 / norm if norm > top else 1.0),
        ),
        Mistake("sqrt", "the length lacks its root.", scaled(at_most, lambda g: norm_of(g) ** 2)),
        Mistake(
            "N",
            "a mean of the squares is taken: a length has their sum.",
            scaled(at_most, lambda g: norm_of(g) / np.sqrt(sum(a.size for a in g.values()))),
        ),
        Mistake(
            "alone",
            "the lengths of the arrays are added: the squares are.",
            scaled(at_most, lambda g: sum(np.sqrt((a * a).sum()) for a in g.values())),
        ),
        Mistake(
            "alone",
            "the largest number is taken for the length.",
            scaled(at_most, lambda g: max(np.abs(a).max() for a in g.values())),
        ),
        Mistake(
            "after", "the length that it has afterwards is returned: that of before is asked for.", norm_afterwards
        ),
    ),
    kinds={
        "alone": "All arrays together are one vector. How long is it, and by which one factor does it become shorter?",
        "short": "What is to happen where the norm is below `largest`?",
        "factor": "If you multiply a vector of length n by f, how long is it then? It should be `largest`.",
        "after": "Measure first, then shorten, and return what you measured: it goes into the log.",
        "sqrt": "The length of (3, 4) is 5.",
        "N": "The length of (3, 4) is 5, whatever the number of entries.",
        "traps": "What does your factor become where the norm is 0, and where it is small?",
    },
    hints=(
        "Add up the squares of all numbers of all arrays. Its root is the length.",
        "One factor for all: 1 where it is short enough, and else largest / norm.",
        "A dict comprehension gives the same names again: {name: … for name, g in gradient.items()}.",
    ),
)
