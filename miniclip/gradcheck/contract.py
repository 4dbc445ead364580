"""What must hold of a layer before its gradient is compared.

Forward and backward give the same bits when they run again. Nothing that was handed over is written to. The dtype
and shape of a gradient are those of its array. Everything is finite. Backward is linear in its cotangent. Each
violation is one sentence.
"""

import numpy as np

from ..backend import to_array_on
from .diagnosis import name_nonlinear
from .point import Point
from .refusals import CannotCheck, looks_like_data

RANDOM = (
    "the same input gave two outputs: something is random, or kept between calls. Hand the generator over as an "
    "argument, or draw the mask outside."
)


class Problem(str):
    """A violation, as a sentence. `wrong`: by backward; else it keeps the gradient from being checked."""

    wrong = True

    @classmethod
    def unchecked(cls, sentence):
        problem = cls(sentence)
        problem.wrong = False
        return problem


def check_contract(layer, rng, dtype=np.float64):
    """Run forward and backward -> `Point`, violations. Its gradients are those that can be compared, as float64.

    Raises CannotCheck where a backward that takes no cotangent belongs to an output that is not one number.
    """
    point = Point(layer, layer.leaves, dtype)
    point.is_single, point.without = False, []
    point.gradients = dict.fromkeys(layer.names)
    run = point.run()
    y = point.join(run.outputs)
    if not np.isfinite(y).all():
        return at_once(point, Problem.unchecked("the output is not finite: choose another point."))
    if not all(map(same_bits, run.outputs, point.run().outputs)):
        return at_once(point, Problem.unchecked(RANDOM))
    precision = {output.dtype for output in run.outputs}
    if dtype != np.float64 and precision != {np.dtype(dtype)}:
        names = ", ".join(sorted(map(str, precision)))
        return at_once(point, Problem(f"the output ({names}) is not {np.dtype(dtype)}."))
    if layer.is_loss and np.shape(y):
        raise CannotCheck(
            f"the output has shape {y.shape}; a loss, or what is checked with gradient=, must return one number."
        )

    point.cotangent = np.asarray(1.0 if layer.is_loss else rng.standard_normal(np.shape(y)).astype(dtype), float)
    point.size = point.measure_size(y)
    kinds = [output.dtype for output in run.outputs]
    cotangents = [c.astype(kind) for c, kind in zip(point.split(point.cotangent), kinds)]

    def pull(factor=1):
        return run.pull([factor * c for c in cotangents])

    claims = {name: None if g is None else np.array(g) for name, g in pull().items()}
    again = pull()
    twice = again if layer.is_loss else pull(2)

    point.gradients = dict.fromkeys([n for n in layer.names if n in claims or n not in layer.optional])
    problems = [Problem(f"{name} was written to.") for name in run.written()]
    for name in point.gradients:
        if name not in claims:
            problems.append(Problem(missing(name, layer.leaves[name])))
    for name, gradient in claims.items():
        if gradient is not None and (sentence := problem_of(name, gradient, again, twice, point, kinds)):
            problems.append(Problem(sentence))
            claims[name] = None
    point.gradients = {
        name: np.asarray(claims[name], float) for name in point.gradients if claims.get(name) is not None
    }
    given = [np.asarray(gradient) for gradient in claims.values() if gradient is not None]
    point.is_single = any(kind != np.float64 for kind in [*kinds, *(gradient.dtype for gradient in given)])
    point.without = [name for name in layer.names if name in claims and claims[name] is None and not problems]
    if point.without and not point.gradients:
        problems.append(
            Problem.unchecked(f"backward gives None for {', '.join(point.without)}: there is nothing to check.")
        )
    return point, problems


def at_once(point, problem):
    """What `check_contract` returns where there is nothing to compare."""
    point.gradients = {}
    return point, [problem]


def missing(name, array):
    """The sentence for a gradient that is not there."""
    hint = looks_like_data(name, array) or (
        f"Where it is data or a constant, pass exclude=['{name.split('.')[0]}'], or return None for it."
    )
    return f"backward gives no gradient of {name}. {hint}"


def problem_of(name, gradient, again, twice, point, kinds):
    """What is wrong with one gradient before it is compared, in a sentence, or None."""
    if name not in point.gradients:
        return None if name in point.leaves else f"backward gives a gradient of {name}, which is no input."
    leaf = point.leaves[name]
    wanted = point.dtype if all(kind == point.dtype for kind in kinds) else gradient.dtype
    if gradient.shape != leaf.shape or gradient.dtype != wanted:
        return f"{name} is {point.dtype} {leaf.shape}, its gradient {gradient.dtype} {gradient.shape}."
    if not np.isfinite(gradient).all():
        return f"the gradient of {name} is not finite."
    if not same_bits(gradient, again[name]):
        cause = "it accumulates between calls, or writes into what the forward pass kept"
        return f"backward, called again, gave another gradient of {name}: {cause}."
    kind = gradient.dtype if gradient.dtype.kind == "f" else np.float64
    nothing = np.finfo(kind).tiny  # below it numbers lose their digits
    if not point.layer.is_loss and not np.allclose(twice[name], 2 * again[name], rtol=1e-5, atol=nothing):
        cause = name_nonlinear(np.asarray(again[name], float), np.asarray(twice[name], float))
        return f"backward of twice the cotangent is not twice the gradient of {name}: {cause}."
    return None


def same_bits(a, b):
    """Whether two arrays are equal to the last bit."""
    a, b = (np.asarray(to_array_on("cpu")(x)) for x in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
