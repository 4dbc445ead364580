"""Notebook 9, the step of a whole model: clipping, AdamW array by array, the bound of the temperature."""

import math

import numpy as np

from ...optim import MAXIMUM_LOGIT_SCALE, AdamW, update
from ..exercise import Mistake
from .n09_one_step import step
from .n09_one_step_adamw import adamw, no_decay, state, wrong_adamw
from .n09_one_step_clipping import clip_gradient, each_alone, norm_of


def one_step(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    """{name: array} of each -> params, m, v after a step of the whole model, logit_scale at most ln 100."""
    gradient, _ = clip_gradient(gradient, largest)
    stepped = {
        name: adamw(theta, m[name], v[name], gradient[name], t, lr, decay=decay if theta.ndim > 1 else 0.0)
        for name, theta in params.items()
    }
    params, m, v = ({name: parts[k] for name, parts in stepped.items()} for k in range(3))
    params["logit_scale"] = np.minimum(params["logit_scale"], MAXIMUM_LOGIT_SCALE)
    return params, m, v


def draw_step(r, n, d):
    """Parameters, gradient, m and v of three arrays each, t, the rate, the decay, and the bound of the length."""
    shapes = {"weight": (n, d), "bias": (d,), "logit_scale": ()}
    params = {
        name: r.normal(*shape) if shape else np.array(4.6 - 0.1 * r.rng.random()) for name, shape in shapes.items()
    }
    gradient = {name: r.normal(*shape) if shape else np.array(r.rng.normal() - 1.0) for name, shape in shapes.items()}
    states = {name: state(r, *shape) if shape else (np.array(-0.1), np.array(0.1)) for name, shape in shapes.items()}
    m, v = ({name: np.array(pair[k]) for name, pair in states.items()} for k in (0, 1))
    t, lr, largest = r.integer(2, 12), float(r.rng.uniform(0.05, 0.2)), float(r.rng.uniform(0.3, 0.9))
    return params, gradient, m, v, t, lr, 0.2, largest * float(norm_of(gradient))


def zeros_like(params):
    """{name: zeros} of the shapes of the parameters."""
    return {name: np.zeros_like(theta) for name, theta in params.items()}


def at_the_bound(r):
    """A first step from logit_scale = ln 100, with a gradient that leads down from it."""
    params = {"weight": r.normal(2, 3), "bias": r.normal(3), "logit_scale": np.array(math.log(100))}
    gradient = {"weight": r.normal(2, 3), "bias": r.normal(3), "logit_scale": np.array(0.7)}
    return params, gradient, zeros_like(params), zeros_like(params), 1, 0.1


def first_of_all(r):
    """A first step: m and v are zeros."""
    params, gradient, *_ = draw_step(r, 3, 4)
    return params, gradient, zeros_like(params), zeros_like(params), 1, 1e-3


def wrong_step(
    clip=clip_gradient,
    decays=lambda name, theta: theta.ndim > 1,
    bound=lambda before, after: np.minimum(after, MAXIMUM_LOGIT_SCALE),
    inner=adamw,
):
    """A wrong `one_step`, one of whose parts is another."""

    def wrong(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
        gradient = clip(gradient, largest)[0]
        new = {}
        for name, theta in params.items():
            part = decay if decays(name, theta) else 0.0
            new[name] = inner(theta, m[name], v[name], gradient[name], t, lr, decay=part)
        after, m, v = ({name: parts[k] for name, parts in new.items()} for k in range(3))
        after["logit_scale"] = bound(params["logit_scale"], after["logit_scale"])
        return after, m, v

    return wrong


step.function(
    one_step,
    draw=draw_step,
    points=6,
    forbidden=(update, AdamW.step),
    traps={"at the bound, and the gradient points down again": at_the_bound, "the first step": first_of_all},
    mistakes=(
        Mistake(
            "bound",
            "logit_scale is not bounded after the update, or by 100: its bound is ln 100.",
            wrong_step(bound=lambda b, a: a),
        ),
        Mistake(
            "bound",
            "logit_scale is kept from falling: it has an upper bound, and no lower one.",
            wrong_step(bound=lambda b, a: np.maximum(a, MAXIMUM_LOGIT_SCALE)),
        ),
        Mistake("bound", "logit_scale does not move at all.", wrong_step(bound=lambda b, a: b)),
        Mistake(
            "decay",
            "the decay is taken off everything: only matrices and kernels, of two axes and more, decay.",
            wrong_step(decays=lambda name, theta: True),
        ),
        Mistake(
            "decay",
            "logit_scale does not decay, but the bias does: only what has two axes or more decays.",
            wrong_step(decays=lambda name, theta: name != "logit_scale"),
        ),
        Mistake("decay", "nothing decays: `decay` is not handed on.", wrong_step(decays=lambda name, theta: False)),
        Mistake(
            "decay",
            "the decay is the wrong way about: matrices decay, and what has fewer axes does not.",
            wrong_step(decays=lambda name, theta: theta.ndim <= 1),
        ),
        Mistake("clip", "the gradient is not clipped.", wrong_step(clip=lambda g, largest: (g, 0))),
        Mistake("clip", "each array is clipped by itself: clip all together, once.", wrong_step(clip=each_alone)),
        Mistake(
            "clip",
            "it is clipped at 1, and not at `largest`.",
            wrong_step(clip=lambda g, largest: clip_gradient(g, 1.0)),
        ),
        Mistake(
            "regulariser",
            "the decay is added to the gradient.",
            wrong_step(inner=wrong_adamw(in_gradient=1.0, end=no_decay)),
        ),
    ),
    kinds={
        "bound": (
            "When is the bound applied: before the step, within it, or to what comes out of it?",
            'At the very end: params["logit_scale"] = np.minimum(…, ln 100).',
        ),
        "decay": "How many axes has a matrix, a bias, the temperature? `theta.ndim` tells.",
        "clip": "The first line: the whole gradient, clipped once to `largest`. Everything after sees that alone.",
        "regulariser": "The decay belongs to θ, and not to g. See your `adamw`.",
        "traps": "What happens to logit_scale where it stands at the bound?",
    },
    hints=(
        "Three things, in this order: clip, update array by array, bound.",
        "Call your adamw for each name, with decay=decay where theta.ndim > 1, and decay=0 elsewhere.",
        'Collect three dicts of the same names. At the end, np.minimum(params["logit_scale"], np.log(100)).',
    ),
)
