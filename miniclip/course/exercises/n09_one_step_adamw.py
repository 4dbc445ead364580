"""Notebook 9, AdamW for one array."""

import numpy as np

from ...optim import AdamW, update
from ..exercise import Mistake
from .n09_one_step import step


def adamw(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    """One array θ, its running means m and v, its gradient g at step t = 1, 2, … -> θ, m, v after the step."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    direction = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta - lr * (direction + decay * theta), m, v


def state(r, *shape):
    """m and v as some steps leave them: v is positive, and m is no larger than its root."""
    v = 0.01 + r.normal(*shape) ** 2
    return 0.5 * np.tanh(r.normal(*shape)) * np.sqrt(v), v


def draw_adamw(r, n, d):
    """All ten arguments: arrays (N, D), t, the rate, both β, ε and the decay."""
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
    """No correction: m and v as they are."""
    return 1


def no_decay(theta, move, lr, decay):
    """The step without weight decay."""
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
            "exchanged",
            "β₁ and β₂ are exchanged: β₁ is for m.",
            lambda theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, *rest: adamw(
                theta, m, v, g, t, lr, beta2, beta1, *rest
            ),
        ),
        Mistake(
            "exchanged",
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
        "exchanged": "β near 1 means a long memory: most of the old, a little of the new.",
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
