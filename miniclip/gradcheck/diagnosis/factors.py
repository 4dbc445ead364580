"""A gradient that is off by a constant, and what that constant is.

One number may be many things: 4 is twice 2, a batch of four, the root of 16. All that fit are named.
"""

import re

import numpy as np

from .evidence import CLOSE, PERHAPS, alike

SCALE = re.compile(r"tau|temp|logit|beta|\bt\b", re.IGNORECASE)  # names of a temperature or its inverse
MOST = 6  # readings that are told


def factor(e):
    """a = α n with one α for all."""
    if e.near or not (e.n @ e.n):
        return None
    alpha = float(e.a @ e.n / (e.n @ e.n))
    return name_factor(alpha, e) if alike(e.a, alpha * e.n) else None


def name_factor(alpha, e):
    """(kind, sentence) for a constant that a gradient is off by; a hint where nothing is known of it."""
    if abs(alpha + 1) <= CLOSE:
        return "−1", "the sign is wrong."
    times = f"it is {alpha:.4g} times what it should be: " + ("the sign is wrong, and " if alpha < 0 else "")
    found = readings(abs(alpha), e)
    if not found:
        return "factor", f"{times}a constant is wrong.", PERHAPS
    words = list(dict.fromkeys(words for _, words in found))
    return found[0][0], f"{times}{', or '.join(words[:MOST])}."


def readings(size, e):
    """[(kind, what happened)] for a factor of this size, the likeliest first."""
    for candidates, close in ((known_factors, CLOSE), (halves, CLOSE), (products, CLOSE / 10)):
        found = [(kind, words) for value, kind, words in candidates(e) if abs(size - value) <= close * value]
        if found:
            return found
    return []


def known_factors(e):
    """Factors that backward passes are commonly off by: (value, kind, what happened), the likeliest first."""
    yield 2, "2", "a ½ was forgotten, or it was added up two times"
    yield 0.5, "½", "the 2 of a square, or one of two equal contributions, was forgotten, or a ½ stands there two times"
    yield from of_numbers(e)
    lengths = lengths_of(e)
    for n, what in lengths.items():
        yield n, "N", f"a mean's 1/{n} was forgotten ({n} is {what})"
        yield 1 / n, "1/N", f"a sum was taken for a mean ({n} is {what})"
    for n, what in lengths.items():
        yield 2 * n, "N", f"a mean's 1/{n} was forgotten, and a ½ ({n} is {what})"
        yield 0.5 / n, "1/N", f"a sum was taken for a mean, and halved ({n} is {what})"
    for k in range(3, 17):
        yield k, "k times", f"it was added up {k} times"
    for n, what in roots_of(e, lengths).items():
        yield np.sqrt(n), "√d", f"a scale of 1/√{n} was forgotten ({n} is {what})"
        yield 1 / np.sqrt(n), "1/√d", f"a scale of 1/√{n} was applied twice ({n} is {what})"
    for n, what in lengths.items():
        yield n * n, "N", f"a mean's 1/{n} was forgotten two times ({n} is {what})"
        yield 1 / n**2, "1/N", f"it was divided by {n} two times ({n} is {what})"
        if n > 2:
            yield n / (n - 1), "factor", f"1/{n - 1} stands for 1/{n}, or the other way about ({n} is {what})"
            yield (n - 1) / n, "factor", f"1/{n} stands for 1/{n - 1}, or the other way about ({n} is {what})"
    for m, one in axes_of(e).items():
        for n, other in axes_of(e).items():
            yield m / n, "wrong axis", f"it was averaged over the wrong axis ({m} is {one}, {n} is {other})"
    if e.is_loss and e.y:
        y, what = abs(float(e.y)), f"the output itself, {float(e.y):.4g}: the slope of a log, a root or a square"
        yield y, "factor", f"it was multiplied once too often by {what}"
        yield 1 / y, "factor", f"it was not multiplied by {what}"


def of_numbers(e):
    """Factors that are made of a number among the arguments."""
    for value, label, is_scale in numbers_of(e):
        if is_scale:
            yield value, "1/τ", f"the scale 1/τ was applied once too often (this is {label})"
            yield 1 / value, "τ", f"the scale 1/τ was forgotten (this is 1/{label})"
            continue
        yield value, "factor", f"{label} was applied once too often, or divided by where it multiplies"
        yield 1 / value, "factor", f"{label} was forgotten (this is 1/({label}))"
        yield value**2, "factor", f"{label} stands on the wrong side of a fraction (this is its square)"
        yield 1 / value**2, "factor", f"{label} stands on the wrong side of a fraction (this is 1 over its square)"


def halves(e):
    """Half of a length: two things at once."""
    for n, what in lengths_of(e).items():
        yield n / 2, "N", f"a mean's 1/{n} was forgotten, and a 2 ({n} is {what})"
        yield 2 / n, "1/N", f"a sum was taken for a mean, and doubled ({n} is {what})"


def products(e):
    """Products and fractions of two known numbers."""
    numbers = [(value, label) for value, label, _ in numbers_of(e)]
    known = [(2, "2"), *numbers, *((n, f"{n}, {what}") for n, what in axes_of(e).items())]
    for i, (one, first) in enumerate(known):
        for other, second in known[i:]:
            both = f"({first}) and ({second})"
            yield one * other, "factor", f"perhaps this is the product of {both}"
            yield 1 / (one * other), "factor", f"perhaps this is 1 over the product of {both}"
            yield one / other, "factor", f"perhaps this is the ratio of {both}"
            yield other / one, "factor", f"perhaps this is 1 over the ratio of {both}"


def numbers_of(e):
    """[(value, label, is a scale)]: the numbers among the arguments, exp of a differentiated one, 1 less a fraction."""
    found = []
    numbers = e.leaves | {name: value for name, value in e.constants.items() if isinstance(value, float)}
    for name, number in numbers.items():
        if np.size(number) != 1 or not 0 != (value := float(np.ravel(number)[0])) or not abs(value) < 1e6:
            continue
        is_scale = name in e.gradients or bool(SCALE.search(name))
        if is_scale and abs(value) < 30:
            found.append((float(np.exp(value)), f"exp({name})", True))
        found.append((abs(value), name, is_scale))
        if not is_scale and 0 < value < 1:
            found.append((1 - value, f"1 − {name}", False))
    return [(value, label, is_scale) for value, label, is_scale in found if abs(value - 1) > CLOSE]


def axes_of(e):
    """{n: what has this many}: the axes of all arrays, of the output, and the integers among the arguments."""
    lengths = {}
    for name, leaf in [*e.leaves.items(), ("the output", e.cotangent), *e.constants.items()]:
        for axis, length in enumerate(np.shape(leaf)) if hasattr(leaf, "shape") else ():
            lengths.setdefault(length, f"the length of axis {axis} of {name}")
        if type(leaf) is int:
            lengths.setdefault(leaf, name)
    return {n: what for n, what in lengths.items() if n > 1}


def lengths_of(e):
    """These, products of axes, and squares of the integers."""
    lengths = axes_of(e)
    for name, leaf in [*e.leaves.items(), ("the output", e.cotangent)]:
        shape = np.shape(leaf)
        for count in range(2, len(shape) + 1):
            what = f"the size of {name}" if count == len(shape) else f"the product of {name}'s first {count} axes"
            lengths.setdefault(int(np.prod(shape[:count])), what)
            lengths.setdefault(int(np.prod(shape[-count:])), f"the product of {name}'s last {count} axes")
        if len(shape) == 4:
            lengths.setdefault(shape[0] * shape[2] * shape[3], f"the product of {name}'s axes 0, 2 and 3")
    for name, value in e.constants.items():
        if type(value) is int:
            lengths.setdefault(value**2, f"{name}²")
    return {n: what for n, what in lengths.items() if n > 1}


def roots_of(e, lengths):
    """{n: what has this many} for the √n of a scale: lengths, and lengths over a number of heads."""
    found = dict(lengths)
    for name, heads in e.constants.items():
        for n, what in lengths.items() if type(heads) is int and heads > 1 else ():
            if n > heads and n % heads == 0:
                found.setdefault(n // heads, f"{what} over {name}")
    return found
