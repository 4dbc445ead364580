"""Kinks: points where the slope jumps, as that of relu at 0, and where no difference gives the gradient."""

import numpy as np

from .numeric import METHODS

SHORT = 3e-6  # a step along which a smooth function is a parabola


def at_kinks(array, entries):
    """Which of these entries are at a kink: bool (len(entries),). After four that are not, no more are tested."""
    kinks = np.zeros(len(entries), bool)
    for k, entry in enumerate(entries):
        kinks[k] = is_kink(array, array.unit(entry))
        if k + 1 - kinks.sum() == 4:
            break
    return kinks


def is_kink(array, u):
    """Whether F has a kink within a step of x along u, and backward is right about the slope at x itself.

    With a kink beside x, a step too short to reach it misses the claim by much less. (A wrong claim is missed by
    as much at every step.) With a kink at x, the claim lies between the slopes of the two sides, and the second
    difference (F(s) − 2 F(0) + F(−s)) / s², which is the same number at s, s/2 and s/4 where F is smooth, grows
    as 1/s.
    """
    line = array.point.line({array.name: u})
    here = line(0.0)

    def slope(s):
        return float((array.cotangent * (line(s) - here)).sum()) / s

    claimed = float(u @ array.claimed)
    rounding = 8 * np.finfo(float).eps * float(abs(array.cotangent * here).sum())
    reaches = METHODS[array.method].subtracts  # else the method stays at x, and only a kink there counts
    missed = abs(array.slope(u) - claimed)
    h = METHODS[array.method].step if reaches else SHORT
    while h > SHORT / 1000:
        sides = [slope(sign * h / k) for k in (1, 2, 4) for sign in (1, -1)]
        if reaches and abs((sides[0] + sides[1]) / 2 - claimed) <= 0.1 * missed:
            return True
        jumps = [sides[i] - sides[i + 1] for i in (0, 2, 4)]
        bends = [jumps[0], 2 * jumps[1], 4 * jumps[2]]
        bent = max(bends) - min(bends) > 0.2 * max(map(abs, bends)) and max(map(abs, jumps)) > 50 * rounding / h
        slack = 4 * rounding / h + 1e-3 * (max(sides) - min(sides))
        if bent and h <= SHORT and min(sides) - slack <= claimed <= max(sides) + slack:
            return True
        h /= 10
    return False
