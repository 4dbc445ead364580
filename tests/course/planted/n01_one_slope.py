"""Wrong slopes."""

import numpy as np

from . import bug


@bug("central", "one-sided")
def only_forward(y, h):
    here, there = y(0), y(h)
    return (there - here) / h


@bug("central", "2")
def over_h(y, h):
    return (y(+h) - y(-h)) / h


@bug("central", "factor")
def precedence(y, h):
    return (y(h) - y(-h)) / 2 * h


@bug("central", "−1")
def other_way(y, h):
    left, right = y(h), y(-h)
    return (right - left) / (2 * h)


@bug("central", "")
def a_step_of_its_own(y, h):
    h = 1e-6
    return (y(h) - y(-h)) / (2 * h)


@bug("central", "")
def one_number_alone(y, h):
    return float(np.ravel(y(h) - y(-h))[0]) / (2 * h)


def difference(y, h):
    return (y(h) - y(-h)) / (2 * h)


@bug("richardson", "missing term")
def two_steps(y, h):
    return difference(y, h / 2) + (difference(y, h / 2) - difference(y, h)) / 3


@bug("richardson", "permuted")
def the_other_way_about(y, h):
    a, b, c = difference(y, h), difference(y, h / 2), difference(y, h / 4)
    return (64 * a - 20 * b + c) / 45


@bug("richardson", "factor")
def no_45(y, h):
    return 64 * difference(y, h / 4) - 20 * difference(y, h / 2) + difference(y, h)


@bug("richardson", "−1")
def plus_20(y, h):
    return (64 * difference(y, h / 4) + 20 * difference(y, h / 2) + difference(y, h)) / 45


@bug("richardson", "factor")
def a_third(y, h):
    return (64 * difference(y, h / 3) - 20 * difference(y, h / 2) + difference(y, h)) / 45


@bug("richardson", "")
def longer_steps(y, h):
    return (64 * difference(y, h) - 20 * difference(y, 2 * h) + difference(y, 4 * h)) / 45


@bug("complex_step", "swapped")
def real_part(y, h):
    return y(1j * h).real / h


@bug("complex_step", "factor")
def not_divided(y, h):
    return y(1j * h).imag


@bug("complex_step", "½")
def over_two(y, h):
    return y(1j * h).imag / (2 * h)


@bug("complex_step", "missing term")
def also_along(y, h):
    return y(h + 1j * h).imag / h


@bug("complex_step", "−1")
def conjugate(y, h):
    return y(-1j * h).imag / h


@bug("complex_step", "")
def complex_answer(y, h):
    return (y(1j * h) - y(0)) / (1j * h)


@bug("two_sides", "swapped")
def exchanged(layer, x, c, u):
    walked = layer(x + 1e-30j * c)[0].imag / 1e-30
    return (u * walked).sum(), (layer(x)[1](u) * c).sum()


@bug("two_sides", "swapped")
def backward_first(layer, x, c, u):
    y, backward = layer(x)
    return (backward(c) * u).sum(), (c * layer(x + 1e-30j * u)[0].imag / 1e-30).sum()


@bug("two_sides", "shortcut")
def from_backward(layer, x, c, u):
    side = (layer(x)[1](c) * u).sum()
    return side, side


@bug("two_sides", "N")
def means(layer, x, c, u):
    walked = layer(x + 1e-30j * u)[0].imag / 1e-30
    return (c * walked).mean(), (layer(x)[1](c) * u).mean()


@bug("two_sides", "missing term")
def ones(layer, x, c, u):
    walked = layer(x + 1e-30j * u)[0].imag / 1e-30
    return (c * walked).sum(), (layer(x)[1](np.ones_like(x)) * u).sum()


@bug("two_sides", "")
def a_difference(layer, x, c, u):
    walked = (layer(x + 1e-4 * u)[0] - layer(x - 1e-4 * u)[0]) / 2e-4
    return (c * walked).sum(), (layer(x)[1](c) * u).sum()


@bug("two_sides", "")
def no_sum(layer, x, c, u):
    walked = layer(x + 1e-30j * u)[0].imag / 1e-30
    return c * walked, layer(x)[1](c) * u
