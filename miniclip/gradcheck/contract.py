"""What must hold of a layer before its gradient is compared.

Forward and backward give the same bits when they run again. Nothing that was passed in is written to. The dtype
and shape of a gradient are those of its array. Everything is finite. For a complex step, the forward pass takes
complex numbers. Each violation is one sentence.
"""

import inspect
import re

import numpy as np

from ..backend import array_module, to_array_on
from .numeric import METHODS

NOT_ANALYTIC = re.compile(
    r"(?:np|xp|cp|numpy)\.(?:linalg\.norm|abs|absolute|fabs|var|std|vdot|conj|conjugate|real|hypot"
    r"|sign|float64|float32)\b|\.(?:var|std|conj|conjugate)\(|\babs\(|\bfloat\(|\bmath\.\w+"
)
ADVICE = "Write it without, or use method='central'."


def check_contract(point, rng, method):
    """Run forward and backward at a `Point` -> the random cotangent, {name: gradient}, and violations.

    Gradients are float64 on the CPU, and {} where there is a violation. Raises ValueError where a backward that
    takes no cotangent belongs to an output that is not one number.
    """
    given = point.copies()
    y, backward = point.call(given)
    xp = array_module(y)
    if y.dtype != point.dtype or not xp.isfinite(y).all():
        return None, {}, [f"the output ({y.dtype}) is not {point.dtype}, or not finite."]
    if not same_bits(y, point.call(point.copies())[0]):
        return None, {}, ["the same input gave two outputs: something is random, or kept between calls."]
    if not METHODS[method].subtracts and (problem := complex_problem(point)):
        return None, {}, [problem]

    is_loss = not inspect.signature(backward).parameters
    if is_loss and y.ndim:
        raise ValueError(
            f"the output has shape {y.shape}; a loss, or what is checked with gradient=, must return one number."
        )

    def gradients_of(dy):
        return point.named(backward() if is_loss else backward(dy))

    cotangent = xp.asarray(1.0 if is_loss else rng.standard_normal(y.shape), point.dtype)
    dy = cotangent.copy()
    gradients = {name: to_array_on("cpu")(xp.array(g)) for name, g in gradients_of(dy).items()}
    again = gradients_of(cotangent.copy())
    doubled = again if is_loss else gradients_of(2 * cotangent)

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
            cause = "it accumulates between calls, or writes into what the forward pass kept"
            problems.append(f"backward, called again, gave another gradient of {name}: {cause}.")
        elif not is_loss and not xp.allclose(doubled[name], 2 * again[name], rtol=1e-5, atol=0):
            cause = "dy is not used, or not used once"
            problems.append(f"backward of twice the cotangent is not twice the gradient of {name}: {cause}.")
    gradients = {} if problems else {name: gradients[name].astype(float) for name in point.names}
    return cotangent.astype(np.float64), gradients, problems


def complex_problem(point):
    """Why the forward pass cannot take complex numbers, in a sentence, or None."""
    try:
        y, _ = point.call(point.copies(np.complex128))
    except Exception as error:  # whatever a function of real numbers may raise
        problem = f"the forward pass cannot take complex numbers ({type(error).__name__}: {error})"
    else:
        if y.dtype.kind == "c":
            return None
        problem = f"the forward pass turns complex numbers into {y.dtype}, so a complex step sees no slope"
    return f"{problem}{not_analytic(point.f)}. {ADVICE}"


def not_analytic(f):
    """ " (its source has np.abs)" where the source of f can be read and has such a function; else ""."""
    try:
        source = inspect.getsource(inspect.unwrap(f))
    except (OSError, TypeError):
        return ""
    found = list(dict.fromkeys(match.strip("(").lstrip(".") for match in NOT_ANALYTIC.findall(source)))
    return f" (its source has {', '.join(found)})" if found else ""


def same_bits(a, b):
    """Whether two arrays are equal to the last bit."""
    a, b = (np.asarray(to_array_on("cpu")(x)) for x in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
