"""Notebook 9: one step of training. A gradient says which way; all of this decides how far."""

import math

import numpy as np

from ...optim import MAXIMUM_LOGIT_SCALE, AdamW, learning_rate, update
from ..exercise import Mistake, Notebook

step = Notebook("09_one_step")


def adamw(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    """One array θ, its running means m and v, its gradient g at step t = 1, 2, … -> θ, m, v after the step."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    direction = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta - lr * (direction + decay * theta), m, v


def clip_gradient(gradient, largest):
    """{name: array} -> the gradient, no longer than `largest` over all arrays together, and how long it was."""
    norm = np.sqrt(sum((g * g).sum() for g in gradient.values()))
    shrink = largest / norm if norm > largest else 1.0
    return {name: g * shrink for name, g in gradient.items()}, norm


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


# ------------------------------------------------------------------------------------------ the schedule


def schedule(before=None, after=None):
    """A wrong `learning_rate`: before and after the end of the warm-up, (step, steps, warmup) -> part of the peak."""

    def wrong(step, steps, peak, warmup):
        part = before if step < warmup else after
        return peak * part(step, steps, warmup) if part else learning_rate(step, steps, peak, warmup)

    return wrong


def cosine(turn):
    return lambda step, steps, warmup: 0.5 * (1 + math.cos(math.pi * turn(step, steps, warmup)))


step.function(
    learning_rate,
    draw=lambda r: (r.integer(0, 40), 41, float(r.rng.uniform(0.5, 2)), 2 * r.integer(6, 11)),
    points=2,
    traps={
        "the first step": lambda r: (0, 40, 0.5, 10),
        "the last step of the warm-up": lambda r: (9, 40, 0.5, 10),
        "the first step after the warm-up": lambda r: (10, 40, 0.5, 10),
        "the last step of all": lambda r: (39, 40, 0.5, 10),
        "no warm-up": lambda r: (0, 40, 0.5, 0),
    },
    mistakes=(
        Mistake(
            "warm-up",
            "the first step has the rate 0, and is lost: step 0 is to have peak / warmup.",
            schedule(before=lambda step, steps, warmup: step / warmup),
        ),
        Mistake("warm-up", "there is no warm-up: it begins at the peak.", schedule(before=lambda *_: 1)),
        Mistake(
            "warm-up",
            "there is no warm-up: the cosine begins at step 0.",
            schedule(
                cosine(lambda step, steps, warmup: step / steps), cosine(lambda step, steps, warmup: step / steps)
            ),
        ),
        Mistake(
            "cosine",
            "the cosine runs over all steps: it is to begin where the warm-up ends.",
            schedule(after=cosine(lambda step, steps, warmup: step / steps)),
        ),
        Mistake(
            "cosine",
            "the cosine is too slow: it has only the steps after the warm-up to come down.",
            schedule(after=cosine(lambda step, steps, warmup: (step - warmup) / steps)),
        ),
        Mistake(
            "cosine",
            "a whole turn comes up again: half a cosine, from 0 to π, comes down.",
            schedule(after=cosine(lambda step, steps, warmup: 2 * (step - warmup) / (steps - warmup))),
        ),
        Mistake(
            "cosine",
            "a quarter of a turn: from the peak to 0 the cosine goes from 1 to −1, moved up and halved.",
            schedule(after=lambda step, steps, warmup: math.cos(math.pi / 2 * (step - warmup) / (steps - warmup))),
        ),
        Mistake(
            "cosine",
            "the cosine goes from 1 to −1, and a rate may not be negative: add 1, and halve it.",
            schedule(after=lambda step, steps, warmup: math.cos(math.pi * (step - warmup) / (steps - warmup))),
        ),
        Mistake(
            "2",
            "the ½ before the cosine is missing: at its start, 1 + cos is 2.",
            schedule(after=lambda step, steps, warmup: 1 + math.cos(math.pi * (step - warmup) / (steps - warmup))),
        ),
        Mistake(
            "cosine",
            "it comes down along a straight line.",
            schedule(after=lambda step, steps, warmup: 1 - (step - warmup) / (steps - warmup)),
        ),
    ),
    kinds={
        "warm-up": "What are the rates of the first steps, if there are 4 of warm-up: a quarter of the peak, and then?",
        "cosine": "What is the rate at step = warmup, at step = steps, and halfway between? The cosine there?",
        "2": "What is 1 + cos(0)?",
        "traps": "Two pieces meet at step = warmup. Which of them has this step, and what does it say there?",
    },
    hints=(
        "Two cases: step < warmup, and the rest.",
        "In the rest, the share of the way that is done is (step − warmup) / (steps − warmup), from 0 to 1.",
        "peak (step + 1) / warmup, then peak · ½ (1 + cos(π · share)).",
    ),
)


# ------------------------------------------------------------------------------------------ AdamW


def state(r, *shape):
    """m and v as some steps leave them: v is positive, and m is no larger than its root."""
    v = 0.01 + r.normal(*shape) ** 2
    return 0.5 * np.tanh(r.normal(*shape)) * np.sqrt(v), v


def draw_adamw(r, n, d):
    uniform = lambda low, high: float(r.rng.uniform(low, high))
    m, v = state(r, n, d)
    rates = uniform(0.05, 0.2), uniform(0.7, 0.9), uniform(0.95, 0.99), uniform(0.001, 0.1), uniform(0.1, 0.4)
    return r.normal(n, d), m, v, r.normal(n, d), r.integer(2, 12), *rates


def wrong_adamw(
    mean=lambda m, g, b: b * m + (1 - b) * g,
    square=lambda v, g, b: b * v + (1 - b) * g * g,
    correct=lambda b, t: 1 - b**t,
    correct_v=lambda b, t: 1 - b**t,
    root=lambda v, eps: np.sqrt(v) + eps,
    end=lambda theta, move, lr, decay: theta - lr * (move + decay * theta),
    in_gradient=0.0,
    keep_corrected=False,
):
    """A wrong AdamW, one of whose parts is another."""

    def wrong(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
        g = g + in_gradient * decay * theta
        m, v = mean(m, g, beta1), square(v, g, beta2)
        m_hat, v_hat = m / correct(beta1, t), v / correct_v(beta2, t)
        m, v = (m_hat, v_hat) if keep_corrected else (m, v)
        return end(theta, m_hat / root(v_hat, eps), lr, decay), m, v

    return wrong


def one(b, t):
    return 1


def no_decay(theta, move, lr, decay):
    return theta - lr * move


step.function(
    adamw,
    draw=draw_adamw,
    points=6,
    forbidden=(update, AdamW.step),
    traps={
        "the first step": lambda r: (r.normal(3, 4), np.zeros((3, 4)), np.zeros((3, 4)), r.normal(3, 4), 1, 0.1),
        "a gradient of zeros from the start": lambda r: (r.normal(4), *np.zeros((3, 4)), 1, 0.1),
        "a single number": lambda r: (np.array(2.0), np.array(0.1), np.array(0.2), np.array(-1.0), 5, 0.1),
        "step 10,000": lambda r: (r.normal(5), *state(r, 5), r.normal(5), 10_000, 0.1),
    },
    mistakes=(
        Mistake(
            "correction",
            "the correction is missing: m and v began at 0, and are too small by 1 − βᵗ.",
            wrong_adamw(correct=one, correct_v=one),
        ),
        Mistake("correction", "m is corrected, and v is not.", wrong_adamw(correct_v=one)),
        Mistake("correction", "v is corrected, and m is not.", wrong_adamw(correct=one)),
        Mistake(
            "correction",
            "it corrects by 1 − β in every step: the power t is missing.",
            wrong_adamw(correct=lambda b, t: 1 - b, correct_v=lambda b, t: 1 - b),
        ),
        Mistake(
            "correction",
            "t counts from 1 already: the power is t, and not t + 1.",
            wrong_adamw(correct=lambda b, t: 1 - b ** (t + 1), correct_v=lambda b, t: 1 - b ** (t + 1)),
        ),
        Mistake(
            "correction",
            "t counts from 1: the power is t, and not t − 1.",
            wrong_adamw(correct=lambda b, t: 1 - b ** (t - 1), correct_v=lambda b, t: 1 - b ** (t - 1)),
        ),
        Mistake(
            "kept",
            "m̂ and v̂ are returned, and so the next step would correct what is corrected: return m and v.",
            wrong_adamw(keep_corrected=True),
        ),
        Mistake(
            "regulariser",
            "the decay is added to the gradient, and so divided by √v̂ with it: that is Adam, and not AdamW.",
            wrong_adamw(in_gradient=1.0, end=no_decay),
        ),
        Mistake("missing term", "the weight decay is missing.", wrong_adamw(end=no_decay)),
        Mistake(
            "decay",
            "the decay is not multiplied by the rate lr.",
            wrong_adamw(end=lambda theta, move, lr, decay: theta - lr * move - decay * theta),
        ),
        Mistake(
            "decay",
            "the decay is subtracted twice, or its sign is wrong: it makes θ smaller.",
            wrong_adamw(end=lambda theta, move, lr, decay: theta - lr * (move - decay * theta)),
        ),
        Mistake(
            "decay",
            "θ is made smaller after the step, and the step with it: decay takes λ of the old θ.",
            wrong_adamw(end=lambda theta, move, lr, decay: (theta - lr * move) * (1 - lr * decay)),
        ),
        Mistake(
            "precision",
            "ε stands under the root: it is added to √v̂.",
            wrong_adamw(root=lambda v, eps: np.sqrt(v + eps)),
        ),
        Mistake("precision", "ε is missing.", wrong_adamw(root=lambda v, eps: np.sqrt(v))),
        Mistake("sqrt", "it divides by v̂, and not by its root.", wrong_adamw(root=lambda v, eps: v + eps)),
        Mistake(
            "−1",
            "it goes uphill: the step is subtracted.",
            wrong_adamw(end=lambda theta, move, lr, decay: theta + lr * (move - decay * theta)),
        ),
        Mistake(
            "slope",
            "v is the mean of g: it is that of its square.",
            wrong_adamw(square=lambda v, g, b: b * v + (1 - b) * g),
        ),
        Mistake(
            "factor",
            "the factors 1 − β are missing: a mean has weights that sum to 1.",
            wrong_adamw(mean=lambda m, g, b: b * m + g, square=lambda v, g, b: b * v + g * g),
        ),
        Mistake(
            "factor",
            "the factor 1 − β₁ is missing from m: a mean has weights that sum to 1.",
            wrong_adamw(mean=lambda m, g, b: b * m + g),
        ),
        Mistake(
            "swapped",
            "β₁ and β₂ are exchanged: β₁ is for m.",
            lambda theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, *rest: adamw(
                theta, m, v, g, t, lr, beta2, beta1, *rest
            ),
        ),
        Mistake(
            "swapped",
            "β and 1 − β are exchanged: β is for what was, 1 − β for what is new.",
            wrong_adamw(mean=lambda m, g, b: (1 - b) * m + b * g, square=lambda v, g, b: (1 - b) * v + b * g * g),
        ),
    ),
    kinds={
        "correction": (
            "At t = 1, m is (1 − β₁) g. What should its mean be, of the one gradient that has been seen?",
            "m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ), with t = 1 at the first step.",
        ),
        "kept": "The running means go on as they are; only this step uses the corrected ones.",
        "regulariser": "The decay is taken off θ itself: lr · λ · θ, beside the step and not within it.",
        "decay": "θ ← θ − lr (step + λ θ): the rate stands before both, and both are taken from the old θ.",
        "missing term": "Is every letter of the formula used: λ too?",
        "precision": "ε keeps the division from 0 / 0. It is added to the root, not under it.",
        "swapped": "β near 1 means a long memory: most of the old, a little of the new.",
        "slope": "v measures how large g is, whatever its sign.",
        "factor": "If all gradients were 1, to what would your m grow?",
        "−1": "Down is where the gradient does not point.",
        "traps": "At the first step m and v are 0 before it. Work it through for one number.",
    },
    hints=(
        "Four lines: m, v, the step m̂ / (√v̂ + ε), and θ.",
        "m ← β₁ m + (1 − β₁) g, and v the same with β₂ and g².",
        "m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); return m and v without the hat.",
        "θ ← θ − lr · (m̂ / (√v̂ + ε) + λ θ)",
    ),
)


# ------------------------------------------------------------------------------------------ clipping


def norm_of(gradient):
    return np.sqrt(sum((g * g).sum() for g in gradient.values()))


def draw_clip(r, n, d):
    gradient = {"weight": r.normal(n, d), "bias": 0.2 * r.normal(d), "logit_scale": np.array(3.0 * r.rng.normal())}
    return gradient, float(r.rng.uniform(0.1, 1.2) * norm_of(gradient))


def scaled(by, norm=norm_of):
    """A wrong `clip_gradient`: the factor by(norm, largest), and how it is measured."""

    def wrong(gradient, largest):
        long = norm(gradient)
        return {name: g * by(long, largest) for name, g in gradient.items()}, long

    return wrong


def at_most(norm, largest):
    return min(1.0, largest / norm)


def each_alone(gradient, largest):
    clipped = {name: g * at_most(np.sqrt((g * g).sum()), largest) for name, g in gradient.items()}
    return clipped, norm_of(gradient)


def each_number(gradient, largest):
    return {name: np.clip(g, -largest, largest) for name, g in gradient.items()}, norm_of(gradient)


def norm_afterwards(gradient, largest):
    clipped = clip_gradient(gradient, largest)[0]
    return clipped, norm_of(clipped)


step.function(
    clip_gradient,
    draw=draw_clip,
    points=4,
    traps={
        "a gradient of zeros": lambda r: ({"weight": np.zeros((2, 3)), "bias": np.zeros(3)}, 1.0),
        "a short gradient": lambda r: ({"weight": 1e-3 * r.normal(2, 3), "bias": 1e-3 * r.normal(3)}, 1.0),
        "a very long gradient": lambda r: ({"weight": 1e9 * r.normal(2, 3)}, 1.0),
        "one array with nothing but a number": lambda r: ({"logit_scale": np.array(-7.0)}, 2.0),
    },
    mistakes=(
        Mistake("alone", "each array is clipped by itself: one length, over all of them, is meant.", each_alone),
        Mistake(
            "alone", "each number is cut off: the gradient is to become shorter, and point as before.", each_number
        ),
        Mistake("short", "a gradient that is short already is made longer.", scaled(lambda norm, top: top / norm)),
        Mistake(
            "short",
            "it is clipped where it is short, and left where it is long.",
            scaled(lambda norm, top: max(1.0, top / norm)),
        ),
        Mistake(
            "factor", "it is made as long as 1, and not as `largest`.", scaled(lambda norm, top: min(1.0, 1 / norm))
        ),
        Mistake(
            "factor",
            "where it is too long it becomes as long as 1, and not as `largest`.",
            scaled(lambda norm, top: 1 / norm if norm > top else 1.0),
        ),
        Mistake("sqrt", "the length lacks its root.", scaled(at_most, lambda g: norm_of(g) ** 2)),
        Mistake(
            "N",
            "a mean of the squares is taken: a length has their sum.",
            scaled(at_most, lambda g: norm_of(g) / np.sqrt(sum(a.size for a in g.values()))),
        ),
        Mistake(
            "alone",
            "the lengths of the arrays are added: the squares are.",
            scaled(at_most, lambda g: sum(np.sqrt((a * a).sum()) for a in g.values())),
        ),
        Mistake(
            "alone",
            "the largest number is taken for the length.",
            scaled(at_most, lambda g: max(np.abs(a).max() for a in g.values())),
        ),
        Mistake(
            "after", "the length that it has afterwards is returned: that of before is asked for.", norm_afterwards
        ),
    ),
    kinds={
        "alone": "All arrays together are one vector. How long is it, and by which one factor does it become shorter?",
        "short": "What is to happen where the norm is below `largest`?",
        "factor": "If you multiply a vector of length n by f, how long is it then? It should be `largest`.",
        "after": "Measure first, then shorten, and return what you measured: it goes into the log.",
        "sqrt": "The length of (3, 4) is 5.",
        "N": "The length of (3, 4) is 5, whatever the number of entries.",
        "traps": "What does your factor become where the norm is 0, and where it is small?",
    },
    hints=(
        "Add up the squares of all numbers of all arrays. Its root is the length.",
        "One factor for all: 1 where it is short enough, and else largest / norm.",
        "A dict comprehension gives the same names again: {name: … for name, g in gradient.items()}.",
    ),
)


# ------------------------------------------------------------------------------------------ the whole step


def draw_step(r, n, d):
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
    return {name: np.zeros_like(theta) for name, theta in params.items()}


def at_the_bound(r):
    params = {"weight": r.normal(2, 3), "bias": r.normal(3), "logit_scale": np.array(math.log(100))}
    gradient = {"weight": r.normal(2, 3), "bias": r.normal(3), "logit_scale": np.array(0.7)}
    return params, gradient, zeros_like(params), zeros_like(params), 1, 0.1


def first_of_all(r):
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
