"""Notebook 1: slopes by differences and by the complex step, and the two sides of an adjoint test."""

import numpy as np

from ...gradcheck import central, complex_step, richardson
from ...layers import gelu, l2_normalize, softmax
from ..exercise import Mistake, Notebook
from . import formulas

slope = Notebook("01_one_slope")


# Walks: t -> where a function is after a little way from where it stood. Each has a name, to be called by it.


def softplus(t):
    """A walk along the softplus, from 1."""
    return formulas.softplus(1 + t)


def fifth_power(t):
    """A walk along the fifth power, from 0.7."""
    return (0.7 + t) ** 5


def wave(t):
    """A walk along a sine that grows."""
    return np.exp(t) * np.sin(2 * t + 0.3)


def quotient(t):
    """A walk along a quotient of two polynomials."""
    return (1 + t) / (2 + t * t)


def three_at_once(t):
    """A walk of three numbers at once: t -> (3,)."""
    return np.array([1.0, 2.0, -0.5]) / (1 + np.exp(np.array([0.1, -1.0, 2.0]) + t))


WALKS = (softplus, fifth_power, wave, quotient, three_at_once)


def a_walk(r, lengths):
    """A walk, and a step between two lengths."""
    return WALKS[r.integer(0, len(WALKS) - 1)], float(r.rng.uniform(*lengths))


slope.function(
    central,
    draw=lambda r: a_walk(r, (0.05, 0.3)),
    points=2,
    traps={"a short step": lambda r: (softplus, 1e-4), "several numbers at once": lambda r: (three_at_once, 0.1)},
    mistakes=(
        Mistake("one-sided", "it is the one-sided slope.", lambda y, h: (y(h) - y(0.0)) / h),
        Mistake("one-sided", "it is the one-sided slope, of the other side.", lambda y, h: (y(0.0) - y(-h)) / h),
        Mistake("2", "the way from −h to h is 2h long, and it is divided by h.", lambda y, h: (y(h) - y(-h)) / h),
        Mistake("½", "it is divided by too long a way: from −h to h it is 2h.", lambda y, h: (y(h) - y(-h)) / (4 * h)),
        Mistake("−1", "the two ends are exchanged.", lambda y, h: (y(-h) - y(h)) / (2 * h)),
        Mistake("factor", "the difference is not divided by its way, 2h.", lambda y, h: y(h) - y(-h)),
        Mistake(
            "factor",
            "`a / 2 * h` divides by 2 and multiplies by h: write (2 * h).",
            lambda y, h: (y(h) - y(-h)) / 2 * h,
        ),
    ),
    kinds={"one-sided": "Walk to both sides: once h forward, and once h backward."},
    hints=("How much y changes, over how much t changed.", "(y(h) − y(−h)) / 2h"),
)


def richardson_of_two(y, h):
    """Richardson's slope of two differences alone, at h and h/2: h² is cancelled, and h⁴ is not."""
    return (4 * central(y, h / 2) - central(y, h)) / 3


slope.function(
    richardson,
    draw=lambda r: a_walk(r, (0.1, 0.4)),
    points=4,
    traps={"several numbers at once": lambda r: (three_at_once, 0.3)},
    tolerance=1e-11,
    mistakes=(
        Mistake("missing term", "it cancels h² alone: a third difference, at h/4, cancels h⁴.", richardson_of_two),
        Mistake(
            "missing term",
            "it is the same with h/2 and h/4: the difference at h is missing.",
            lambda y, h: richardson_of_two(y, h / 2),
        ),
        Mistake(
            "permuted",
            "the weights stand at the wrong steps: 64 belongs to the shortest.",
            lambda y, h: (64 * central(y, h) - 20 * central(y, h / 2) + central(y, h / 4)) / 45,
        ),
        Mistake(
            "factor",
            "the weights are to sum to 1: 64 − 20 + 1 = 45.",
            lambda y, h: 64 * central(y, h / 4) - 20 * central(y, h / 2) + central(y, h),
        ),
        Mistake(
            "−1",
            "a sign is wrong: the middle one is subtracted.",
            lambda y, h: (64 * central(y, h / 4) + 20 * central(y, h / 2) + central(y, h)) / 45,
        ),
        Mistake(
            "factor",
            "the steps are h, h/2 and h/4, and not h, h/2 and h/3.",
            lambda y, h: (64 * central(y, h / 3) - 20 * central(y, h / 2) + central(y, h)) / 45,
        ),
    ),
    kinds={
        "missing term": "Two unknown errors, of h² and of h⁴, and the slope: three unknowns want three differences."
    },
    hints=(
        "D(h) = slope + a h² + b h⁴ + … Write it down for h, h/2 and h/4.",
        "Weights that sum to 1, and under which h² and h⁴ both come to 0.",
        "(64 D(h/4) − 20 D(h/2) + D(h)) / 45",
    ),
)

slope.function(
    complex_step,
    draw=lambda r: a_walk(r, (0.05, 0.3)),
    points=2,
    traps={
        "h = 1e-30": lambda r: (wave, 1e-30),
        "h = 1e-200": lambda r: (softplus, 1e-200),
        "several numbers at once": lambda r: (three_at_once, 1e-20),
    },
    mistakes=(
        Mistake(
            "swapped", "it takes the real part: the slope is in the imaginary one.", lambda y, h: np.real(y(1j * h)) / h
        ),
        Mistake("factor", "it is not divided by h.", lambda y, h: np.imag(y(1j * h))),
        Mistake("shortcut", "it steps along the real axis, by h and not by ih.", lambda y, h: (y(h) - y(0.0)) / h),
        Mistake("−1", "it steps the other way, by −ih.", lambda y, h: np.imag(y(-1j * h)) / h),
        Mistake("missing term", "it steps to h + ih: the step is ih alone.", lambda y, h: np.imag(y(h + 1j * h)) / h),
        Mistake(
            "½",
            "nothing comes from the other side here: the way is h, and not 2h.",
            lambda y, h: np.imag(y(1j * h)) / (2 * h),
        ),
    ),
    kinds={"swapped": "f(x + ih) = f(x) + ih f′(x) − …: which part holds f′?"},
    hints=(
        "Python writes the imaginary unit 1j.",
        "The slope is the imaginary part of y(ih), over h.",
        "y(1j * h).imag / h",
    ),
)


def two_sides(layer, x, c, u):
    """⟨c, J u⟩ by a complex step of the forward pass along u, and ⟨Jᵀ c, u⟩ by backward: two equal numbers."""
    walked = layer(x + 1e-30j * u)[0].imag / 1e-30
    return (c * walked).sum(), (layer(x)[1](c) * u).sum()


# Layers, right and wrong: where backward is wrong, the two sides differ, and only there can they be told apart.


def running_sum(x):
    """The sum of all numbers so far along each row, x (..., D) -> y like x, backward."""
    return np.cumsum(x, -1), lambda dy: np.cumsum(dy[..., ::-1], -1)[..., ::-1]


def running_sum_not_turned(x):
    """The running sum, whose backward runs from the left, as forward does: it is to run from the right."""
    return np.cumsum(x, -1), lambda dy: np.cumsum(dy, -1)


def softmax_without_its_sum(x):
    """Softmax, in whose backward the sum Σ dy ∘ y is missing."""
    y = softmax(x)[0]
    return y, lambda dy: y * dy


def sphere_without_its_length(x):
    """The unit sphere, whose backward does not divide by the length of x."""
    y = l2_normalize(x)[0]
    return y, lambda dy: dy - y * (dy * y).sum(-1, keepdims=True)


LAYERS = (running_sum, running_sum_not_turned, softmax_without_its_sum, sphere_without_its_length)


def layer_and_directions(r, n, d):
    """One of the layers, and x, c and u (N, D)."""
    return LAYERS[r.integer(0, len(LAYERS) - 1)], r.normal(n, d), r.normal(n, d), r.normal(n, d)


def sides(walk, given, pulled, along, of=np.sum, step=1e-30):
    """A wrong `two_sides`: which of c and u stands in each of four places, of {"c": c, "u": u, "1": ones}."""

    def wrong(layer, x, c, u):
        at = {"c": c, "u": u, "1": np.ones_like(c)}
        walked = layer(x + 1e-30j * at[walk])[0].imag / step
        return of(at[given] * walked), of(layer(x)[1](at[pulled]) * at[along])

    return wrong


def backward_twice(layer, x, c, u):
    """A wrong `two_sides`: both come from backward."""
    return (two_sides(layer, x, c, u)[1],) * 2


slope.function(
    two_sides,
    draw=layer_and_directions,
    points=4,
    traps={"a layer that is right": lambda r: (gelu, *r.normal(3, 2, 4))},
    mistakes=(
        Mistake("swapped", "c and u are exchanged: the walk is along u, and backward takes c.", sides(*"cuuc")),
        Mistake("swapped", "the two are exchanged: forward comes first.", lambda *args: two_sides(*args)[::-1]),
        Mistake("shortcut", "both come from backward: the first is to come from the forward pass.", backward_twice),
        Mistake("factor", "the imaginary part is not divided by the step.", sides(*"uccu", step=1)),
        Mistake("N", "means stand where sums are due.", sides(*"uccu", of=np.mean)),
        Mistake("missing term", "backward is given ones: it takes c.", sides(*"uc1u")),
        Mistake("missing term", "c is missing on the forward side.", sides(*"u1cu")),
    ),
    hints=(
        "⟨a, b⟩ is (a * b).sum().",
        "J u is what the output does on a walk along u: layer(x + 1e-30j * u)[0].imag / 1e-30.",
        "Jᵀ c is what backward(c) returns.",
    ),
)
