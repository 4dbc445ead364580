"""What a backward pass may do wrong at one step of the forward pass.

Each is a `Change`: "it is the gradient as if" + its phrase, and a function of the `Step` (tracing.py) that gives its
result with the slope that such a backward pass has.
"""

from typing import NamedTuple

import numpy as np

from .evidence import fits
from .factors import SCALE
from .norms import lacking
from .source_text import operand, place
from .step import STEP, Step
from .tracing import run

CHOICES = {"maximum", "minimum", "where", "fmax", "fmin", "clip", "absolute", "fabs"}
MATRIX = {"matmul", "dot", "einsum"}
PRODUCTS = {"multiply", "divide", "true_divide"} | MATRIX
SUMS = {"add", "subtract"}
JOINED = {"concatenate", "stack", "hstack", "vstack", "column_stack", "dstack"}
CURVES = {"tanh", "exp", "divide", "sqrt", "where", "log", "log1p", "sin", "cos", "reciprocal"}
SLOPES = {  # of an activation y: factors that a backward pass may have too many or too few
    "y": lambda y: y,
    "1 − y": lambda y: 1 - y,
    "1 + y": lambda y: 1 + y,
    "y(1 − y)": lambda y: y * (1 - y),
    "1 − y²": lambda y: 1 - y * y,
}
OF_Y = {"tanh": SLOPES["1 − y²"], "divide": SLOPES["y(1 − y)"], "exp": SLOPES["y"]}  # slopes by the output
FUNCTIONS = {  # of the same: the function, and its inverse
    "tanh": (np.tanh, np.arctanh),
    "divide": (lambda x: 1 / (1 + np.exp(-x)), lambda y: np.log(y / (1 - y))),  # 1 / (1 + exp(−x))
    "exp": (np.exp, np.log),
}


class Change(NamedTuple):
    """What backward may do at a step."""

    kind: object  # or a function of the evidence that gives it
    phrase: str
    change: object  # the step -> its result, None where it stays as it is
    path: str = ""  # the path by which nothing comes back, where that is all: it may come back with a factor too


def changes(spot, e):
    """The `Change`s for one `Spot` of the forward pass, the likeliest first."""
    step = spot.step
    if step.name in ("transpose", "swapaxes"):
        phrase = f"{place(step)} had been a reshape: its axes are not exchanged back"
        yield Change("permuted", phrase, lambda s: s.with_slope(s.inputs[0].imag.reshape(s.result.shape)))
        return
    if step.name in ("take", "repeat", "tile"):
        phrase = f"an entry that {place(step)} takes more than once counted once, as by = in place of += (np.add.at)"
        yield Change("overwritten", phrase, last_taken)
    yield from without_mask(step)
    yield from without_path(spot, e)
    for i in step.moving:
        yield from straight(step, i)
        if len(step.inputs) == 2 and step.name in PRODUCTS | SUMS:
            yield from transposed(step, i)
            yield from multiplied_before(step, i, e)
        if step.name in JOINED:
            yield from exchanged_parts(step, i)
    if not step.reduces and len(step.inputs) - len(step.moving) < 2:
        yield from slopes(step)
    if spot.rounds > 1:
        yield from some_rounds(spot, e)
    if step.result.shape == e.x.shape and not is_leaf(step.inputs[0], e):
        phrase = f"{place(step)} were {e.name}: what lies between the two does not come back"
        kind = lambda e: "slope" if e.diagonals else lacking(e)
        yield Change(kind, phrase, lambda s: s.with_slope(STEP * s.trace.direction))


def is_leaf(values, e):
    """Whether values are the array itself."""
    return np.shape(values) == e.x.shape and np.array_equal(np.real(values), e.x)


# ------------------------------------------------------------------------------------------ what is forgotten


def without_path(spot, e):
    """One of several inputs, or the whole step, that backward takes for a constant."""
    step = spot.step
    for i in step.moving if len(step.moving) > 1 else ():
        path = f"{operand(step, i)} in {place(step)}"
        yield nothing_by(path, lost_kind(spot, i, e), lambda s, i=i: s.without(i), e)
    carried = spot.recurs and not any(is_leaf(step.inputs[i], e) for i in step.moving)
    kind = "time step" if carried else "missing term" if step.name == "take" else lacking
    yield nothing_by(place(step), kind, Step.still, e)


def nothing_by(path, kind, change, e):
    """The `Change` where nothing comes back by a path."""
    return Change(kind, f"{path} did not depend on {e.name}", change, path)


def lost_kind(spot, i, e):
    """The kind where backward forgets one of several inputs that depend on the array."""
    step = spot.step
    if spot.recurs and not is_leaf(step.inputs[i], e):
        return "time step"
    if step.name in SUMS and is_leaf(step.inputs[i], e):
        return "shortcut"
    one, *others = (np.sort(np.real(step.inputs[k]), None) for k in step.moving)
    return "one-sided" if step.name in PRODUCTS and any(np.array_equal(one, x) for x in others) else "missing term"


def last_taken(step):
    """Of an entry that is taken more than once, the last alone moves."""
    source = step.inputs[0]
    numbers = np.asarray(step.call(np.arange(source.size).reshape(source.shape))).ravel()
    _, last = np.unique(numbers[::-1], return_index=True)
    kept = np.isin(np.arange(numbers.size), numbers.size - 1 - last)
    return step.with_slope(step.result.imag * kept.reshape(step.result.shape))


def without_mask(step):
    """A step that masks, where(…) or a product or sum with a mask, that does not: its value changes as well."""
    for i in step.moving:
        if np.shape(step.inputs[i]) != step.result.shape:
            continue
        kind, mask = "mask", operand(step, 1 - i)
        if step.name == "where":
            kind, mask = "slope" if len(step.moving) > 1 else "mask", operand(step, 0)
        elif step.name in SUMS | {"multiply"} and len(step.inputs) == 2:
            values = np.real(step.inputs[1 - i])
            if np.size(values) < 2 or not np.isin(values, (0, 1 if step.name == "multiply" else values.min())).all():
                continue
        else:
            continue
        yield Change(kind, f"{mask} did not mask anything in {place(step)}", lambda s, i=i: s.inputs[i] + 0j)


def straight(step, i):
    """The slope passes through as it is: a mask, a factor or the slope of an activation is forgotten, or inverted."""
    if np.shape(step.inputs[i]) != step.result.shape or step.name in SUMS | JOINED:
        return
    others = [np.real(x) for k, x in enumerate(step.inputs) if k != i]
    phrase = f"the slope of {place(step)} were 1"
    if step.name == "clip":
        kind = "clip"
    elif step.name in CHOICES or any(np.size(x) > 1 and ((x == 0) | (x == x.max())).all() for x in others):
        kind = "mask"
        words = f"{place(step)} chose the other entries: the mask is inverted"
        yield Change(kind, words, lambda s: s.instead(i, s.inputs[i].imag - s.part(i)))
    elif step.name in PRODUCTS and len(others) == 1:
        scale = others[0].size == 1 and SCALE.search(operand(step, 1 - i))
        kind = "τ" if scale else "−1" if np.isin(others[0], (-1, 1)).all() else "factor"
        phrase = f"{operand(step, 1 - i)} were not in {place(step)}"
    else:
        kind = "slope" if step.result.size > 1 else "factor"
    yield Change(kind, phrase, lambda s: s.instead(i, s.inputs[i].imag))


def some_rounds(spot, e):
    """A step in a loop that counts in some of its rounds only, or has the slope of the round before."""
    step, last = spot.step, spot.rounds - 1
    alone, forgotten = ("time step", "time step") if spot.recurs else ("overwritten", "some indices")
    for i in step.moving:
        what = f"{operand(step, i)} in {place(step)}"
        for word, kept in (("first", 0), ("last", last)):
            phrase = f"{what} counted in the {word} of its {spot.rounds} rounds alone, as by = in place of +="
            yield Change(alone, phrase, lambda s, i=i, kept=kept: s.without(i) if s.round != kept else None)
        for k in (0, last):
            phrase = f"{what} were forgotten in round {k} of 0–{last}"
            yield Change(forgotten, phrase, lambda s, i=i, k=k: s.without(i) if s.round == k else None)
    if step.name in OF_Y and spot.recurs:
        slope, phrase = OF_Y[step.name], f"the slope of {place(step)} were that of the round before"
        yield Change("time step", phrase, lambda s: s.with_slope(s.slope * slope(before(s, e)) / slope(s.y)))


def before(step, e):
    """The result of a step in the round before; in the first, an argument that may be where the loop starts, or 0."""
    earlier = [s.y for s in step.trace.steps if s.site == step.site and s.round == step.round - 1]
    starts = [leaf for leaf in e.leaves.values() if leaf.shape == step.y.shape]
    return (earlier or starts or [np.zeros(step.y.shape)])[0]


# ------------------------------------------------------------------------------------------ what is another


def transposed(step, i):
    """A sum or product where something is transposed on its way to input i."""
    if step.result.ndim > 1 and step.result.shape[-1] == step.result.shape[-2]:
        kind = "wrong axis" if np.size(step.inputs[i]) < step.result.size and step.name not in MATRIX else "transposed"
        phrase = f"what comes back to {place(step)} were transposed on its way to {operand(step, i)}"
        yield Change(kind, phrase, lambda s: s.instead(i, s.part(i).swapaxes(-1, -2)))
    shape = np.shape(step.inputs[1 - i])
    if step.name in MATRIX and len(shape) > 1 and shape[-1] == shape[-2]:
        phrase, turned = f"{operand(step, 1 - i)} in {place(step)} were transposed", lambda x: x.swapaxes(-1, -2)
        yield Change("transposed", phrase, lambda s: s.instead(i, s.part(i, {1 - i: turned(s.inputs[1 - i])})))


def multiplied_before(step, i, e):
    """A factor that is multiplied in before what is done to the array, in place of after it."""
    factor = np.real(step.inputs[1 - i])
    if step.name == "multiply" and 1 - i not in step.moving and np.size(factor) > 1 and not is_leaf(step.inputs[i], e):
        if fits(factor.shape, e.x.shape):

            def change(s):
                _, trace = run(e, s.trace.direction * factor)
                return s.instead(i, next(t.inputs[i].imag for t in trace.steps if t.site == s.site))

            phrase = f"{operand(step, 1 - i)} were multiplied into {e.name} itself, not into {operand(step, i)}"
            yield Change("missing term", phrase, change)


def exchanged_parts(step, i):
    """What is joined with others, in the place of another."""
    for j, other in enumerate(step.inputs):
        if j != i and np.shape(other) == np.shape(step.inputs[i]):

            def change(s, j=j):
                inputs = [np.real(x) + (1j * s.inputs[i].imag if k == j else 0j) for k, x in enumerate(s.inputs)]
                return s.instead(i, s.call(*inputs).imag)

            yield Change("swapped", f"parts {i} and {j} of {place(step)} were exchanged", change)


def slopes(step):
    """The slope of an activation, entry by entry, with a factor too many or too few, or taken elsewhere."""
    what = f"the slope of y = {place(step)}"
    for words, by in SLOPES.items() if step.name in CURVES else ():
        yield Change("slope", f"{what} lacked its factor {words}", lambda s, by=by: s.with_slope(s.slope / by(s.y)))
        yield Change("slope", f"{what} had a factor {words} too many", lambda s, by=by: s.with_slope(s.slope * by(s.y)))
    if step.name in OF_Y:
        slope = OF_Y[step.name]
        words = ("were taken at y, so the function is applied twice", "were taken of x by the formula for y")
        for how, moved in zip(words, FUNCTIONS[step.name]):
            change = lambda s, moved=moved: s.with_slope(s.slope * slope(moved(s.y)) / slope(s.y))
            yield Change("slope", f"{what} {how}", change)
