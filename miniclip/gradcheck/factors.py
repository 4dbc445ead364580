"""A gradient that is off by a constant, and what that constant is."""

import numpy as np

from .evidence import CLOSE, alike


def factor(e):
    """a = α n with one α for all."""
    if e.near:
        return None
    alpha = float(e.a @ e.n / (e.n @ e.n))
    return name_factor(alpha, e) if alike(e.a, alpha * e.n) else None


def name_factor(alpha, e):
    """(kind, sentence) for a constant that a gradient is off by."""
    if abs(alpha + 1) <= CLOSE:
        return "−1", "the sign is wrong."
    for value, kind, meaning in known_factors(e):
        if abs(abs(alpha) - abs(value)) <= CLOSE * abs(value):
            sign = "" if alpha * value > 0 else "the sign is wrong, and "
            return kind, f"it is {alpha:.6g} times what it should be: {sign}{meaning}."
    return "factor", f"it is {alpha:.6g} times what it should be: a constant is wrong."


def known_factors(e):
    """Factors that backward passes are commonly off by: (value, kind, meaning), the likeliest first."""
    yield 2, "2", "a ½ was forgotten, or it was added up twice"
    yield 0.5, "½", "one of two equal contributions was forgotten, or a ½ stands twice"
    for name, leaf in e.leaves.items():
        if np.ndim(leaf) == 0 and abs(float(leaf)) < 30:
            for value, label in ((np.exp(float(leaf)), f"exp({name})"), (float(leaf), name)):
                yield value, "1/τ", f"that is {label}, so the scale 1/τ was applied once too often"
                yield 1 / value if value else 0, "τ", f"that is 1/{label}, so the scale 1/τ was forgotten"
    settings = {value: name for name, value in e.constants.items() if isinstance(value, int) and value > 1}
    lengths = lengths_of(e, settings)
    for times, twice in ((1, ""), (2, "twice ")):
        for n, what in lengths.items():
            yield times * n, "N", f"that is {twice}{what}, so a mean's 1/N was forgotten"
            yield 1 / (times * n), "1/N", f"that is 1 over {twice}{what}, so a sum was taken for a mean"
    roots = lengths | {n // s: f"{what} over {settings[s]}" for n, what in lengths.items() for s in settings if n > s}
    for n, what in roots.items():
        yield np.sqrt(n), "√d", f"that is the root of {n}, {what}, so a scale of 1/√d was forgotten"
        yield 1 / np.sqrt(n), "1/√d", f"that is 1 over the root of {n}, {what}, so a scale of 1/√d was applied twice"
    for k in range(3, 17):
        yield k, "k times", f"it was added up {k} times"


def lengths_of(e, settings):
    """{n: what has this many}: axes, products of axes, and the integers among the arguments."""
    lengths = {}
    for name, leaf in [*e.leaves.items(), ("the output", e.cotangent)]:
        shape = np.shape(leaf)
        for axis, length in enumerate(shape):
            lengths.setdefault(length, f"the length of axis {axis} of {name}")
        for count in range(2, len(shape) + 1):
            what = f"the size of {name}" if count == len(shape) else f"the product of {name}'s first {count} axes"
            lengths.setdefault(int(np.prod(shape[:count])), what)
    for value, name in settings.items():
        lengths.setdefault(value, name)
        lengths.setdefault(value**2, f"{name}²")
    return {length: what for length, what in lengths.items() if length > 1}
