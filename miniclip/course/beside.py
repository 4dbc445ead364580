"""A student's function beside the reference: at points where no slope can be taken, and inside a larger function."""

import copy
import inspect

import numpy as np

from ..gradcheck import draw_case
from ..tree import flatten, tree_map
from .compare import differs
from .library import put_in

SINGLE = 2e-3  # relative error of a whole model in float32


def pull(backward, y, seed=None):
    """What backward returns for a cotangent of ones, or one that a seed decides; a loss takes none."""
    if not inspect.signature(backward).parameters:
        return backward()
    ones = np.ones(np.shape(y), np.asarray(y).dtype)
    return backward(
        ones if seed is None else ones * np.random.default_rng(seed).normal(size=ones.shape).astype(ones.dtype)
    )


def gradients(function, args, seed=None):
    """Forward and backward at once, without a trace on the arguments -> what backward returns."""
    y, backward = function(*copy.deepcopy(args))
    return pull(backward, y, seed)


def hides_at(exercise, function, args):
    """The names of points, often taken for a check, at which a wrong backward pass is right."""
    if not exercise.has_backward:
        return []
    places = {name: (move(*copy.deepcopy(args)), 0) for name, move in exercise.blind.items()}
    places["a cotangent of ones"] = args, None
    return [name for name, (moved, seed) in places.items() if is_right_at(exercise, function, moved, seed)]


def is_right_at(exercise, function, args, seed):
    """Whether the gradients are the reference's at a cotangent that a seed decides, or of ones."""
    try:
        y, backward = exercise.reference(*copy.deepcopy(args))
        if seed is None and not np.ndim(y):
            return False  # a loss: there is no other cotangent
        return not differs(gradients(function, args, seed), pull(backward, y, seed), 1e-9, floor=1e-3)
    except Exception:
        return False


def known_mistake(exercise, function, points):
    """The `Mistake`, of those that the exercise knows, that answers as the function does at all points; or None."""
    return next((mistake for mistake in exercise.mistakes if is_like(exercise, function, mistake, points)), None)


def is_like(exercise, function, mistake, points):
    """Whether the function answers as a `Mistake` does at all points; no, where either raises."""
    try:
        for args in points:
            found, like = function(*copy.deepcopy(args)), mistake.function(*copy.deepcopy(args))
            if differs(found[0] if exercise.is_layer else found, like, 1e-7):
                return False
    except Exception:
        return False
    return True


def differs_inside(case, function, seed=0):
    """In the library's place, inside a case of gradcheck: where what comes out differs, in words, or "".

    In float64 and in float32. Raises what the function raises.
    """
    f, args, _ = draw_case(case, seed)
    for dtype, tolerance in ((np.float64, 1e-8), (np.float32, SINGLE)):
        given = tree_map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, args)
        y, backward = f(*given)
        wanted = y, pull(backward, y)
        with put_in(function):
            found, backward = f(*given)
            found = found, pull(backward, y)
        floor = 1e-3 * max(float(np.abs(leaf).max(initial=0)) for leaf in flatten(wanted).values())
        if problem := differs(found, wanted, tolerance, "the answer", floor):
            return f"in {dtype.__name__}, {problem}"
    return ""


def is_float(leaf):
    """Whether a leaf is an array of floating-point numbers."""
    return getattr(leaf, "dtype", np.dtype(int)).kind == "f"
