"""What a backward pass may do wrong at one step of the forward pass.

Each change is (kind, phrase, change): "it is the gradient as if" + phrase, and a function of the `Step` (tracing.py)
that gives its result with the slope that such a backward pass has. kind may be a function of the evidence.
"""

import numpy as np

from .factors import SCALE
from .norms import centring, projection
from .source_text import operand, place
from .step import Step

NORMS = {"var", "std", "norm"}
CHOICES = {"maximum", "minimum", "where", "fmax", "fmin", "clip", "absolute", "fabs"}
MATRIX = {"matmul", "dot", "einsum"}
PRODUCTS = {"multiply", "divide", "true_divide"} | MATRIX
SUMS = {"add", "subtract"}
JOINED = {"concatenate", "stack", "hstack", "vstack", "column_stack", "dstack"}
CURVES = {"tanh", "exp", "divide", "sqrt", "where", "log", "log1p", "sin", "cos", "reciprocal"}
SLOPES = {  # of an activation y: what a backward pass may have too many or too few
    "lacked its factor 1 − y": lambda y: 1 / (1 - y),
    "lacked its factor y": lambda y: 1 / y,
    "lacked its factor y(1 − y)": lambda y: 1 / (y * (1 - y)),
    "lacked its factor 1 − y²": lambda y: 1 / (1 - y * y),
    "were 1 − y, where it is 1 − y²": lambda y: 1 / (1 + y),
    "had a factor y too many": lambda y: y,
    "had a factor 1 − y too many": lambda y: 1 - y,
    "had a factor 1 − y² too many": lambda y: 1 - y * y,
    "had the other sign": lambda y: -1 + 0 * y,
}
TWICE = {  # a function whose slope is taken at y: that slope over the true one
    "tanh": lambda y: (1 - np.tanh(y) ** 2) / (1 - y * y),
    "divide": lambda y: np.exp(-y) / (1 + np.exp(-y)) ** 2 / (y * (1 - y)),  # 1 / (1 + exp(−x))
}


def changes(step, rounds, e):
    """(kind, phrase, change) for one step, that runs so many rounds."""
    moves, what, name = step.moving, place(step), e.name
    if step.name in ("transpose", "swapaxes"):
        phrase = f"{what} had been a reshape: its axes are not exchanged back"
        yield "permuted", phrase, lambda s: s.with_slope(s.inputs[0].imag.reshape(s.result.shape))
        return
    if step.name in ("take", "repeat", "tile"):
        phrase = f"an entry that {what} takes more than once counted once, as by = in place of += (np.add.at)"
        yield "overwritten", phrase, last_taken
    yield from without_mask(step)
    for i in moves if len(moves) > 1 else ():
        phrase = f"{operand(step, i)} in {what} did not depend on {name}"
        yield lost_kind(step, i, rounds, e), phrase, lambda s, i=i: s.without(i)
    if not step.reduces:  # else it was tried before
        carried = rounds > 1 and not any(is_leaf(step.inputs[i], e) for i in moves)
        yield "time step" if carried else still_kind(step), f"{what} did not depend on {name}", Step.still
    for i in moves:
        yield from straight(step, i)
        if len(step.inputs) == 2:
            yield from by_operand(step, i)
        if step.name in JOINED:
            yield from exchanged_parts(step, i)
    if step.reduces:
        yield from as_sum_or_mean(step)
    elif len(step.inputs) - len(moves) < 2:
        yield from slopes(step)
    for by, kind, words in ((2, "2", "counted two times"), (0.5, "½", "counted half")):
        yield kind, f"{what} {words}", lambda s, by=by: s.with_slope(s.result.imag * by)


def is_leaf(values, e):
    """Whether values are the array itself."""
    return np.shape(values) == e.x.shape and np.array_equal(np.real(values), e.x)


# ------------------------------------------------------------------------------------------ what is forgotten


def lost_kind(step, i, rounds, e):
    """The kind where backward forgets one of several inputs that depend on the array."""
    if rounds > 1 and not is_leaf(step.inputs[i], e):
        return "time step"
    if step.name in SUMS and is_leaf(step.inputs[i], e):
        return "shortcut"
    one, *others = (np.sort(np.real(step.inputs[k]), None) for k in step.moving)
    return "one-sided" if step.name in PRODUCTS and any(np.array_equal(one, x) for x in others) else "missing term"


def still_kind(step):
    """The kind where nothing flows back through a step: what the step is for, or else what the numbers lack."""

    def kind(e):
        squares = step.name in ("mean", "sum") and came_from(step, "power", "square", "multiply")
        if step.name in NORMS or squares:
            return "projection" if divides(step) else "missing term"
        if step.name == "sum" and came_from(step, "exp") or step.name == "mean" and is_subtracted(step):
            return "centring"
        for test in (centring, projection) if step.name not in ("take", "mean") else ():
            if answer := test(e):
                return answer[0]
        return "missing term"

    return kind


def came_from(step, *names):
    """Whether the first input of a step is the result of such a function."""
    return any(s.name in names and same_values(s.result, step.inputs[0]) for s in step.trace.steps)


def is_subtracted(step):
    """Whether the result of a step is subtracted from something."""
    return any(s.name == "subtract" and same_values(s.inputs[1], step.result) for s in step.trace.steps)


def divides(step):
    """Whether something is divided by the result of a step, or by its root."""
    values = [step.result]
    for s in step.trace.steps:
        known = [any(same_values(x, value) for value in values) for x in s.inputs]
        if s.name in ("divide", "true_divide") and known[1]:
            return True
        if any(known) and s.name in ("add", "sqrt", "power", "maximum", "reciprocal"):
            values.append(s.result)
    return False


def same_values(one, other):
    return np.array_equal(np.ravel(np.real(one)), np.ravel(np.real(other)))


def last_taken(step):
    """Of an entry that is taken more than once, the last alone moves."""
    source = step.inputs[0]
    numbers = np.asarray(step.call(np.arange(source.size).reshape(source.shape))).ravel()
    _, last = np.unique(numbers[::-1], return_index=True)
    kept = np.isin(np.arange(numbers.size), numbers.size - 1 - last)
    return step.with_slope(step.result.imag * kept.reshape(step.result.shape))


def without_mask(step):
    """A step that masks, where(…) or a product or sum with a mask, that does not: its value changes as well."""
    what = place(step)
    for i in step.moving:
        if np.shape(step.inputs[i]) != step.result.shape:
            continue
        if step.name == "where":
            kind = "slope" if len(step.moving) > 1 else "mask"
            yield kind, f"{operand(step, 0)} did not mask anything in {what}", lambda s, i=i: s.inputs[i] + 0j
        elif step.name in SUMS | {"multiply"} and len(step.inputs) == 2:
            mask = np.real(step.inputs[1 - i])
            if np.size(mask) > 1 and np.isin(mask, (0, 1) if step.name == "multiply" else (0, mask.min())).all():
                yield "mask", f"{operand(step, 1 - i)} did not mask anything in {what}", lambda s, i=i: s.inputs[i] + 0j


def straight(step, i):
    """The slope passes through as it is: a mask, a factor or the slope of an activation is forgotten."""
    if np.shape(step.inputs[i]) != step.result.shape or step.name in SUMS | JOINED:
        return
    others = [np.real(x) for k, x in enumerate(step.inputs) if k != i]
    phrase = f"the slope of {place(step)} were 1"
    if step.name == "clip":
        kind = "clip"
    elif step.name in CHOICES or any(np.size(x) > 1 and ((x == 0) | (x == x.max())).all() for x in others):
        kind = "mask"
    elif step.name in PRODUCTS and len(others) == 1:
        kind = "τ" if others[0].size == 1 and SCALE.search(operand(step, 1 - i)) else "factor"
        phrase = f"{operand(step, 1 - i)} were not in {place(step)}"
    else:
        kind = "slope"
    yield kind, phrase, lambda s: s.instead(i, s.inputs[i].imag)


# ------------------------------------------------------------------------------------------ what is another


def by_operand(step, i):
    """A sum or product by way of its input i: another sign, something transposed, or a factor there twice."""
    what, one, other = place(step), operand(step, i), operand(step, 1 - i)
    if step.name not in PRODUCTS | SUMS:
        return
    yield "−1", f"{one} in {what} had the other sign", lambda s: s.instead(i, -s.part(i))
    if step.result.ndim > 1 and step.result.shape[-1] == step.result.shape[-2]:
        summed = np.size(step.inputs[i]) < step.result.size and step.name not in MATRIX
        phrase = f"what comes back to {what} were transposed on its way to {one}"
        yield "wrong axis" if summed else "transposed", phrase, lambda s: s.instead(i, s.part(i).swapaxes(-1, -2))
    if step.name in MATRIX and np.ndim(step.inputs[1 - i]) > 1:
        if step.inputs[1 - i].shape[-1] == step.inputs[1 - i].shape[-2]:
            phrase = f"{other} in {what} were transposed"
            yield "transposed", phrase, lambda s: s.instead(i, s.part(i, {1 - i: s.inputs[1 - i].swapaxes(-1, -2)}))
    elif step.name in PRODUCTS - MATRIX:

        def twice(s):
            slope = 1j * s.result.imag
            return s.with_slope(s.call(*(slope if k == i else np.real(x) for k, x in enumerate(s.inputs))).imag)

        yield "factor", f"{other} were there twice in {what}", twice


def exchanged_parts(step, i):
    """What is joined with others, in the place of another."""
    for j, other in enumerate(step.inputs):
        if j != i and np.shape(other) == np.shape(step.inputs[i]):

            def change(s, j=j):
                inputs = [np.real(x) + (1j * s.inputs[i].imag if k == j else 0j) for k, x in enumerate(s.inputs)]
                return s.instead(i, s.call(*inputs).imag)

            yield "swapped", f"parts {i} and {j} of {place(step)} were exchanged", change


def as_sum_or_mean(step):
    """A mean whose 1/N is forgotten, a sum that is taken for a mean."""
    count, what = np.size(step.inputs[0]) // max(1, step.result.size), place(step)
    if step.name in ("mean", "var", "average"):
        yield "N", f"{what} were a sum: its 1/{count} is forgotten", lambda s: s.with_slope(s.result.imag * count)
    if step.name == "sum":
        yield "1/N", f"{what} were a mean, of {count}", lambda s: s.with_slope(s.result.imag / count)


def slopes(step):
    """The slope of an activation, entry by entry, with a factor too many or too few, or taken at the output."""
    what = place(step)
    if step.name in ("power", "square"):
        by = float(np.real(step.inputs[1])) if step.name == "power" and np.ndim(step.inputs[1]) == 0 else 2.0
        phrase = f"the exponent of {what} did not come down as a factor"
        yield "2", phrase, lambda s: s.with_slope(s.result.imag / by)
    for words, by in SLOPES.items() if step.name in CURVES else ():
        phrase = f"the slope of y = {what} {words}"
        yield "slope", phrase, lambda s, by=by: s.with_slope(s.result.imag * by(s.result.real))
    if step.name in TWICE:
        phrase = f"the slope of y = {what} were taken at y, so the function is applied twice"
        yield "slope", phrase, lambda s: s.with_slope(s.result.imag * TWICE[step.name](s.result.real))
