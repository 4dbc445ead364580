"""A gradient that is off by a constant, and what that constant is.

One number may be many things: 4 is twice 2, a batch of four, the root of 16. All that fit are named.
"""

import re
from itertools import combinations_with_replacement, islice

import numpy as np

from .evidence import CLOSE, PERHAPS, alike, subsets

SCALE = re.compile(r"tau|temp|logit|beta|\bt\b", re.IGNORECASE)  # names of a temperature or its inverse
DIVIDES = re.compile(r"tau|temp|\bt\b", re.IGNORECASE)  # names of a temperature
MOST = 6  # readings that are told


def factor(e):
    """a = α n with one α for all."""
    if e.near or not (e.n @ e.n):
        return None
    alpha = float(e.a @ e.n / (e.n @ e.n))
    return name_factor(alpha, e) if alike(e.a, alpha * e.n) else None


def name_factor(alpha, e, what="it"):
    """(kind, sentence) for a constant that a gradient is off by; a hint where nothing is known of it."""
    if abs(alpha + 1) <= CLOSE:
        return "−1", f"the sign {'' if what == 'it' else f'of {what} '}is wrong."
    times = f"{what} is {alpha:.4g} times what it should be: " + ("the sign is wrong, and " if alpha < 0 else "")
    found = readings(abs(alpha), e)
    if not found:
        return "factor", f"{times}a constant is wrong.", PERHAPS
    words = list(dict.fromkeys(words for _, words in found))
    return found[0][0], f"{times}{', or '.join(words[:MOST])}."


def readings(size, e):
    """[(kind, what happened)] for a factor of this size, the likeliest first."""
    for candidates, close in ((known_factors, CLOSE), (of_two, CLOSE / 10)):
        found = [(kind, words) for value, kind, words in candidates(e) if abs(size - value) <= close * value]
        if found:
            return found
    return []


def known_factors(e):
    """Factors that backward passes are commonly off by: (value, kind, what happened), the likeliest first."""
    in_source, lengths = e.source_numbers, lengths_of(e)
    named = [(value, number_label(value, name, where), name) for value, name, where in in_source if name]
    floats = [(value, f"{value:g} ({where})") for value, name, where in in_source if not name and value % 1]
    for value, label, name in named:
        if SCALE.search(name):
            yield from of_scale(value, label, name)
    together = sum(float((g * g).sum()) for g in e.gradients.values())
    for what, square in (("its length", float(e.a @ e.a)), ("the length of all gradients together", together)):
        if e.whole and e.a.size > 1 and e.n.any() and is_round(length := np.sqrt(square)):
            alpha = np.sqrt((e.a @ e.a) / (e.n @ e.n))
            yield alpha, "clip", f"perhaps backward clips the norm, for {what} is {length:.4g}"
    yield 2, "2", "a ½ was forgotten, or it was added up two times"
    yield 0.5, "½", "the 2 of a square, or one of two equal contributions, was forgotten, or a ½ stands there two times"
    for value, label, is_scale in numbers_of(e):
        yield from of_scale(value, label, label) if is_scale else of_number(value, label)
    for value, label, name in named:
        if value % 1 and not SCALE.search(name):
            yield from of_number(value, label)
    for value, label in floats:
        yield from islice(of_number(value, label), 2)
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
        yield n / 2, "N", f"a mean's 1/{n} was forgotten, and a 2 ({n} is {what})"
        yield 2 / n, "1/N", f"a sum was taken for a mean, and doubled ({n} is {what})"
        if n > 2:
            yield n / (n - 1), "factor", f"1/{n - 1} stands for 1/{n}, or the other way about ({n} is {what})"
            yield (n - 1) / n, "factor", f"1/{n} stands for 1/{n - 1}, or the other way about ({n} is {what})"
    for value, label in floats:
        yield from of_its_forms(value, label)
    for m, one in axes_of(e).items():
        for n, other in axes_of(e).items():
            counts = one.startswith("how many") or other.startswith("how many")
            kind, over = ("N", "the wrong rows") if counts else ("wrong axis", "the wrong axis")
            yield m / n, kind, f"it was averaged over {over} ({m} is {one}, {n} is {other})"
    if e.is_loss and e.y:
        y, what = abs(float(e.y)), f"the output itself, {float(e.y):.4g}: the slope of a log, a root or a square"
        yield y, "factor", f"it was multiplied once too often by {what}"
        yield 1 / y, "factor", f"it was not multiplied by {what}"


def of_scale(value, label, name):
    """Factors made of a temperature τ or of its inverse, as the name says."""
    scale, what, inverse = (value, label, f"1 over {label}")
    if DIVIDES.search(name):
        scale, what, inverse = 1 / value, inverse, what
    yield scale, "1/τ", f"the scale 1/τ was applied once too often (this is {what})"
    yield 1 / scale, "τ", f"the scale 1/τ was forgotten (this is {inverse})"
    yield scale**2, "1/τ", f"the scale 1/τ stands on the wrong side of a fraction (this is the square of {what})"
    yield 1 / scale**2, "τ", f"the scale 1/τ stands on the wrong side of a fraction (this is the square of {inverse})"


def of_number(value, label):
    """Factors made of any other number."""
    yield value, "factor", f"{label} stands there once too often, or divides where it multiplies"
    yield 1 / value, "factor", f"{label} was forgotten"
    yield from of_its_forms(value, label)


def of_its_forms(value, label):
    """Factors made of a number's square and root and, as of a probability, of 1 less it."""
    forms = {f"the square of {label}": value**2, f"the root of {label}": value**0.5}
    if value < 1:
        forms |= {f"1 − {label}": 1 - value, f"(1 − {label})/({label})": (1 - value) / value}
    for what, form in forms.items():
        yield form, "factor", f"{label} is in the wrong place (this is {what})"
        yield 1 / form, "factor", f"{label} is in the wrong place (this is 1 over {what})"


def number_label(value, name, where):
    """A number of the source as a reader knows it: “beta = 2.5 (line 12)”."""
    return f"{name} = {value:g} ({where})"


def is_round(value):
    """Whether a number is one that a person would write: 1, 5, 0.25."""
    return value > 0 and abs(value - float(f"{value:.2g}")) <= 2e-6 * value


def of_two(e):
    """Products and fractions of two known numbers."""
    numbers = [(value, label) for value, label, _ in numbers_of(e)]
    known = [(2, "2"), *numbers, *((n, f"{n}, {what}") for n, what in axes_of(e).items())]
    known += [(value, number_label(value, name, where)) for value, name, where in e.source_numbers if name][:8]
    for (one, first), (other, second) in combinations_with_replacement(known, 2):
        both = f"({first}) and ({second})"
        yield one * other, "factor", f"perhaps this is the product of {both}"
        yield 1 / (one * other), "factor", f"perhaps this is 1 over the product of {both}"
        yield one / other, "factor", f"perhaps this is the ratio of {both}"
        yield other / one, "factor", f"perhaps this is 1 over the ratio of {both}"


def numbers_of(e):
    """[(value, label, is a scale)]: the numbers among the arguments, and exp of a differentiated one."""
    found = []
    numbers = e.leaves | {name: value for name, value in e.constants.items() if isinstance(value, float)}
    for name, number in numbers.items():
        if np.size(number) != 1 or not 0 != (value := float(np.ravel(number)[0])) or not abs(value) < 1e6:
            continue
        is_scale = name in e.gradients or bool(SCALE.search(name))
        if is_scale and abs(value) < 30:
            found.append((float(np.exp(value)), f"exp({name})", True))
        found.append((abs(value), name, is_scale))
    return [(value, label, is_scale) for value, label, is_scale in found if abs(value - 1) > CLOSE]


def axes_of(e):
    """{n: what has this many}: the axes of all arrays, of the output, the integers, and what is true of a mask."""
    lengths = {}
    for name, array in [*e.leaves.items(), ("the output", e.cotangent), *e.constants.items()]:
        for axis, length in enumerate(np.shape(array)) if hasattr(array, "shape") else ():
            lengths.setdefault(length, f"the length of axis {axis} of {name}")
        if type(array) is int:
            lengths.setdefault(array, name)
        if getattr(array, "dtype", np.dtype(int)).kind == "b":
            lengths.setdefault(int(array.sum()), f"how many of {name} are true")
    return {n: what for n, what in lengths.items() if n > 1}


def lengths_of(e):
    """These, products of axes, and squares of the integers."""
    lengths = axes_of(e)
    for name, array in [*e.leaves.items(), ("the output", e.cotangent)]:
        for axes in subsets(range(np.ndim(array)))[::-1]:
            what = f"the size of {name}" if len(axes) == np.ndim(array) else f"the product of axes {axes} of {name}"
            lengths.setdefault(int(np.prod([array.shape[axis] for axis in axes])), what)
    squares = {value**2: f"{name}²" for name, value in e.constants.items() if type(value) is int and value**2 > 1}
    return squares | {n: what for n, what in lengths.items() if n > 1}


def roots_of(e, lengths):
    """{n: what has this many} for the √n of a scale: lengths, and lengths over a number of heads."""
    counts = [(name, heads) for name, heads in e.constants.items() if type(heads) is int and heads > 1]
    shared = {
        n // h: f"{what} over {name}" for name, h in counts for n, what in lengths.items() if n % h == 0 and n > h
    }
    return shared | lengths
