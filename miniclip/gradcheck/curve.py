"""The error of each method at every step: the V of a difference, and the line of the complex step."""

import numpy as np

from .contract import check_contract
from .conventions import as_layer
from .numeric import METHODS
from .refusals import CannotCheck


def v_curve(f, *args, gradient=None, methods=("one-sided", "central", "richardson", "complex"), exclude=(), seed=0):
    """How far each method is from the backward pass, at every step: {method: (steps (S,), errors (S,))}.

    The error is relative, along random directions through all arguments. That of a difference falls with the step,
    by its power h, h² or h⁶, until rounding, which rises as 1/h, takes over: a V whose lowest point is the best that
    the method can do. plots.v_curve draws it. Arguments and errors as in `check`; CannotCheck also where the layer
    breaks its contract (see contract.py).
    """
    layer = as_layer(f, args, gradient=gradient, exclude=exclude)
    rng = np.random.default_rng([seed, *b"v curve"])
    point, problems = check_contract(layer, rng)
    if problems:
        raise CannotCheck(f"there is no curve to draw: {' '.join(problems)}")
    directions = [{name: rng.standard_normal(g.size) for name, g in point.gradients.items()} for _ in range(3)]
    curves = {}
    for method in methods:
        derive, subtracts = METHODS[method].derive, METHODS[method].subtracts
        steps = 10.0 ** np.arange(-12 if subtracts else -30, 0.25, 0.25)
        errors = np.zeros((len(directions), len(steps)))
        for row, u in zip(errors, directions):
            claimed = sum(float(u[name] @ g.ravel()) for name, g in point.gradients.items())
            y = point.line(u)
            row[:] = [abs(point.weigh(derive(y, h)) - claimed) / abs(claimed) for h in steps]
        curves[method] = steps, np.median(errors, axis=0)
    return curves
