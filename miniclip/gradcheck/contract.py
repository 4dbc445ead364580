"""Before digits are counted: what must hold of a layer for a check of its gradient to mean anything.

Forward and backward give the same bits when they run again; nothing that was given is written to;
dtypes and shapes of gradients are those of what they are gradients of; all is finite; and for a complex
step, the forward pass takes complex numbers. Each that does not hold is a sentence.
"""

from inspect import signature

import numpy as np

from ..backend import array_module, to_array_on
from .diagnosis import suspicious_source
from .numeric import METHODS


def preflight(point, rng, method):
    """What must hold before digits count -> the cotangent, {name: gradient} if all is well, sentences."""
    given = point.copies()
    y, backward = point.call(given)
    xp = array_module(y)
    if y.dtype != point.dtype or not xp.isfinite(y).all():
        return None, {}, [f"the output ({y.dtype}) is not {point.dtype}, or not finite."]
    if not same_bits(y, point.call(point.copies())[0]):
        return None, {}, ["the same input gave two outputs: something is random, or kept between calls."]
    if not METHODS[method].subtracts and (problem := complex_problem(point)):
        return None, {}, [problem]

    is_loss = not signature(backward).parameters
    if is_loss and y.ndim:
        raise ValueError(
            f"the output has shape {y.shape}; a function whose backward takes no cotangent, or that is "
            "checked with gradient=, must return one number."
        )
    cotangent = xp.asarray(1.0 if is_loss else rng.standard_normal(y.shape), point.dtype)
    pull = (lambda dy: backward()) if is_loss else backward
    dy = cotangent.copy()
    gradients = {name: to_array_on("cpu")(xp.array(g)) for name, g in point.named(pull(dy)).items()}
    again = point.named(pull(cotangent.copy()))
    doubled = again if is_loss else point.named(pull(2 * cotangent))

    before, after = point.copies() | {"dy": cotangent}, given | {"dy": dy}
    problems = [f"{name} was written to." for name in before if not same_bits(before[name], after[name])]
    problems += [f"backward gives no gradient of {name}." for name in point.names if name not in gradients]
    for name, gradient in gradients.items():
        leaf = given.get(name)
        if name not in point.names:
            problems.append(f"backward gives a gradient of {name}, which is no input.")
        elif (gradient.dtype, gradient.shape) != (leaf.dtype, leaf.shape):
            problems.append(f"{name} is {leaf.dtype} {leaf.shape}, its gradient {gradient.dtype} {gradient.shape}.")
        elif not np.isfinite(gradient).all():
            problems.append(f"the gradient of {name} is not finite.")
        elif not same_bits(gradient, again[name]):
            problems.append(
                f"backward, called again, gave another gradient of {name}: it accumulates between calls, "
                "or writes into what the forward pass kept."
            )
        elif not is_loss and not xp.allclose(doubled[name], 2 * again[name], rtol=1e-5, atol=0):
            problems.append(
                f"backward of twice the cotangent is not twice the gradient of {name}: the cotangent dy is "
                "not used, or not used once."
            )
    gradients = {} if problems else {name: gradients[name].astype(float) for name in point.names}
    return cotangent.astype(np.float64), gradients, problems


def complex_problem(point):
    """Why the forward pass cannot take complex numbers, in a sentence, or None."""
    advice = "Write it without, or use method='central'."
    try:
        y, _ = point.call(point.copies(np.complex128))
    except Exception as error:  # whatever a function of real numbers may raise
        return (
            f"the forward pass cannot take complex numbers ({type(error).__name__}: {error})"
            f"{suspicious_source(point.f)}. {advice}"
        )
    if y.dtype.kind != "c":
        return (
            f"the forward pass turns complex numbers into {y.dtype}, so a complex step sees no slope"
            f"{suspicious_source(point.f)}. {advice}"
        )
    return None


def same_bits(a, b):
    """Whether two arrays are equal to the last bit."""
    a, b = (np.asarray(to_array_on("cpu")(x)) for x in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
