"""Kinks: points where the slope jumps, as that of relu at 0, and where no difference gives the gradient.

At a kink many gradients are right, and with several at once, as under a blank row and a bias of 0, no slope along a
line bounds them. So a gradient that is missed where the forward pass has a kink is checked again beside it, at
x + δ and at x − δ for a small random δ: there a right backward is right, and one with a wrong mask is wrong on one
side or on the other.
"""

import numpy as np

from .numeric import random_direction

SHORT = 3e-6  # a step along which a smooth function is a parabola
NEAR = 1e-3  # how far beside a kink, in units of the array
TRIALS = 3  # points that may happen to lie at another kink


def has_kink(array, u, step):
    """Whether y has a kink within a step of x along u.

    The bend (y(s) + y(−s) − 2 y(0)) / s is proportional to s where y is smooth. At a kink it does not depend on s,
    and beside one it falls to nothing at once. Each output by itself, for those of several kinks may cancel.
    """
    point = array.point
    line = point.line({array.name: u})
    here = line(0.0)
    weights = np.abs(point.cotangent)

    def bend(s):
        return float(np.max(weights * np.abs(line(s) + line(-s) - 2 * here), initial=0)) / s

    s = 2 * max(SHORT * array.unit_step, step)
    least = 1e-5 * array.scale
    for _ in range(8):
        long, short = bend(s), bend(s / 2)
        largest = max(long, short)
        if not np.isfinite(largest):
            return False
        if largest > max(least, 20 * point.noise / s) and abs(long - 2 * short) > 0.3 * largest:
            return True
        s /= 4
    return False


def at_kinks(array, entries):
    """Which of these entries are at a kink: bool (len(entries),). After four that are not, no more are tested."""
    kinks = np.zeros(len(entries), bool)
    for k, entry in enumerate(entries):
        kinks[k] = has_kink(array, array.unit(entry), array.step)
        if k + 1 - kinks.sum() == 4:
            break
    return kinks


def right_beside(array, sides, check):
    """The rows of an array at x + δ and x − δ where it is right at both, for one of some pairs of points, else [].

    sides: pairs of points; check: point -> the array's `Row` there.
    """
    for pair in sides:
        rows = [check(point) for point in pair if point is not None]
        if len(rows) == 2 and all(row.ok for row in rows):
            return rows if claims_a_slope(array) else []
    return []


def claims_a_slope(array):
    """Whether what backward claims at a kink lies among the slopes around it, give or take three times their range.

    With k kinks there are 2ᵏ slopes around the point, of which a few are looked at.
    """
    rng, point = np.random.default_rng([*b"slopes around"]), array.point
    around = [point.replaced(leaves) for _ in range(8) for leaves in beside(point, rng)] if array.missed() else []
    for finding in array.missed()[:3]:
        u = {array.name: array.unit(finding.index)}
        slopes = [place.slope(u, "central", 0.1 * array.unit_step) for place in around]
        slopes = [slope for slope in slopes if np.isfinite(slope)]
        low, high = min(slopes, default=np.nan), max(slopes, default=np.nan)
        reach = 3 * (high - low) + 10 * NEAR * array.scale
        if not low - reach <= finding.claimed <= high + reach:
            return False
    return True


def beside(point, rng):
    """The arrays at x + δ and x − δ."""
    offsets = {}
    for name in point.names:
        shape = point.leaves[name].shape
        offsets[name] = NEAR * point.unit(name) * random_direction(rng, point.leaves[name].size).reshape(shape)
    return [{name: point.leaves[name] + sign * offsets[name] for name in offsets} for sign in (1, -1)]


def neighbours(point):
    """Pairs of points x + δ and x − δ, with what backward claims there; None where the layer cannot be evaluated."""
    rng = np.random.default_rng([*b"neighbours"])
    for _ in range(TRIALS):
        yield [evaluated(point, leaves) for leaves in beside(point, rng)]


def evaluated(point, leaves):
    """The point with these arrays, or None where something is not finite or raises."""
    try:
        return point.moved(leaves)
    except Exception:  # whatever a function may raise beside the point that it was made for
        return None
