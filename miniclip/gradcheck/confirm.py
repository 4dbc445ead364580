"""Where may a complex step be believed?

Where the forward pass has np.abs, np.var or float(), a complex number goes another way than a real one, and the slope
that a complex step sees is of another function: just without the dependence that a student forgets. So the slope is
taken by a central difference as well, along random directions, and only where both agree is the complex step used.
"""

import inspect
import re

import numpy as np

from .numeric import random_direction
from .point import NotAnalytic

NOT_ANALYTIC = re.compile(
    r"(?:np|xp|cp|numpy)\.(?:linalg\.norm|abs|absolute|fabs|var|std|vdot|conj|conjugate|real|hypot|sign|max|min|amax"
    r"|amin|floor|ceil|rint|round|isclose|float64|float32|zeros|empty|zeros_like)\b"
    r"|\.(?:var|std|conj|conjugate|real|astype)\b|\babs\(|\bfloat\(|\bint\(|\bmath\.\w+"
)
AGREE = 1e-7  # relative; of a central difference's digits
NOTHING = 1e-9  # a slope by which F, over a unit of the array, changes by less than this part of its size


def not_analytic(point):
    """{name: why a complex step cannot be believed there, "" where it can} for every array of a `Point`.

    All arrays are moved at once, each along a random direction and so far that all have a like share in the slope.
    Where that fails, each by itself.
    """
    rng = np.random.default_rng([*b"directions"])
    directions = {name: random_direction(rng, point.leaves[name].size) for name in point.names}
    units = {name: point.unit(name) for name in point.names}
    shares = {name: units[name] * float(np.linalg.norm(point.gradients[name])) for name in point.names}
    least = max(min(shares.values()), 1e-2 * max(shares.values()))
    together = {
        name: u * units[name] * (least / max(shares[name], least) if least else 1) for name, u in directions.items()
    }
    reason = compare_slopes(point, together, 1.0)
    if not reason:
        return dict.fromkeys(point.names, "")
    if len(point.names) == 1 or "complex numbers" in reason:
        return dict.fromkeys(point.names, reason)
    return {name: compare_slopes(point, {name: u}, units[name]) for name, u in directions.items()}


def compare_slopes(point, directions, unit):
    """Why the slope by a complex step is not that of the function along these directions, or ""."""
    try:
        by_complex = point.slope(directions, "complex")
    except NotAnalytic as reason:
        return str(reason)
    if not np.isfinite(by_complex):
        return "is not finite at a complex number"
    size = max(abs(by_complex), NOTHING * point.size / unit)
    real = point.best_slope(directions, unit, enough=0.1 * AGREE * size)
    size = max(size, abs(real.value))
    if real.error > 1e-2 * size:
        return "is so rough that no difference confirms the complex step"
    if abs(by_complex - real.value) > max(2 * real.error, AGREE * size):
        return "is no analytic function: at a complex number it has another slope"
    return ""


def suspects(f):
    """ " (its source has np.abs)" where the source of f can be read and has such a function; else ""."""
    f = f if inspect.isroutine(f) or inspect.isclass(f) else type(f)
    try:
        source = inspect.getsource(inspect.unwrap(f))
    except (OSError, TypeError):
        return ""
    found = list(dict.fromkeys(match.strip("(").lstrip(".") for match in NOT_ANALYTIC.findall(source)))
    return f" (its source has {', '.join(found)})" if found else ""
