"""Wrong schedules, wrong AdamWs, wrong clipping, and wrong steps of a whole model."""

import math

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ the schedule


@bug("learning_rate", "warm-up")
def first_step_lost(step, steps, peak, warmup):
    if step < warmup:
        return peak * step / warmup
    return peak / 2 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup)))


@bug("learning_rate", "warm-up, cosine")
def one_cosine(step, steps, peak, warmup):
    return peak * (1 + math.cos(math.pi * step / steps)) / 2


@bug("learning_rate", "cosine")
def all_steps_below(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / steps))


@bug("learning_rate", "cosine")
def whole_turn(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(2 * math.pi * (step - warmup) / (steps - warmup)))


@bug("learning_rate", "2")
def half_forgotten(step, steps, peak, warmup):
    if step >= warmup:
        return peak * (1 + math.cos((step - warmup) / (steps - warmup) * math.pi))
    return peak * (step + 1) / warmup


@bug("learning_rate", "cosine")
def bare_cosine(step, steps, peak, warmup):
    if step >= warmup:
        return peak * math.cos((step - warmup) / (steps - warmup) * math.pi)
    return peak * (step + 1) / warmup


@bug("learning_rate", "cosine")
def straight_down(step, steps, peak, warmup):
    return peak * min((step + 1) / max(warmup, 1), (steps - step) / (steps - warmup))


@bug("learning_rate", "")
def less_or_equal(step, steps, peak, warmup):
    if step <= warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@bug("learning_rate", "")
def degrees(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(180 * (step - warmup) / (steps - warmup)))


# ------------------------------------------------------------------------------------------ AdamW


@bug("adamw", "correction")
def uncorrected(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g**2 - v)
    return theta - lr * m / (np.sqrt(v) + eps) - lr * decay * theta, m, v


@bug("adamw", "correction")
def power_forgotten(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1) / (np.sqrt(v / (1 - beta2)) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "correction")
def counts_from_zero(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    t = t + 1
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "kept")
def hats_kept(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
    v = (beta2 * v + (1 - beta2) * g**2) / (1 - beta2**t)
    return theta - lr * (m / (np.sqrt(v) + eps) + decay * theta), m, v


@bug("adamw", "regulariser")
def adam_with_l2(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    g = g + decay * theta
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


@bug("adamw", "missing term")
def no_decay_at_all(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


@bug("adamw", "decay")
def decay_without_rate(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta * (1 - decay) - lr * step, m, v


@bug("adamw", "precision")
def eps_under_the_root(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1**t) / np.sqrt(v / (1 - beta2**t) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "sqrt")
def no_root(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1**t) / (v / (1 - beta2**t) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "exchanged")
def betas_exchanged(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta2 * m + (1 - beta2) * g
    v = beta1 * v + (1 - beta1) * g**2
    step = m / (1 - beta2**t) / (np.sqrt(v / (1 - beta1**t)) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "factor")
def momentum_of_old(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "")
def one_length_for_all(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g**2).mean()
    step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "")
def eps_before_the_correction(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    step = m / (1 - beta1**t) / (np.sqrt(v) + eps) * np.sqrt(1 - beta2**t)
    return theta - lr * (step + decay * theta), m, v


@bug("adamw", "")
def nan_where_nothing_came(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    root = np.sqrt(v / (1 - beta2**t))
    step = m / (1 - beta1**t) / (root + eps * root / root)
    return theta - lr * (step + decay * theta), m, v


# ------------------------------------------------------------------------------------------ clipping


def length(gradient):
    return math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))


@bug("clip_gradient", "alone")
def arrays_alone(gradient, largest):
    return {k: g * min(1, largest / np.linalg.norm(g)) for k, g in gradient.items()}, length(gradient)


@bug("clip_gradient", "alone")
def numbers_cut(gradient, largest):
    return {k: np.minimum(np.maximum(g, -largest), largest) for k, g in gradient.items()}, length(gradient)


@bug("clip_gradient", "short")
def always_scaled(gradient, largest):
    norm = length(gradient)
    return {k: largest * g / norm for k, g in gradient.items()}, norm


@bug("clip_gradient", "factor")
def of_length_one(gradient, largest):
    norm = length(gradient)
    return {k: g / norm if norm > largest else g for k, g in gradient.items()}, norm


@bug("clip_gradient", "sqrt")
def squared(gradient, largest):
    norm = length(gradient) ** 2
    return {k: g * min(1, largest / norm) for k, g in gradient.items()}, norm


@bug("clip_gradient", "alone")
def lengths_added(gradient, largest):
    norm = sum(np.sqrt((g * g).sum()) for g in gradient.values())
    return {k: g * min(1, largest / norm) for k, g in gradient.items()}, norm


@bug("clip_gradient", "after")
def measured_too_late(gradient, largest):
    norm = length(gradient)
    clipped = {k: g * min(1, largest / norm) for k, g in gradient.items()}
    return clipped, length(clipped)


@bug("clip_gradient", "")
def zero_over_zero(gradient, largest):
    norm = np.sqrt(sum((g * g).sum() for g in gradient.values()))
    return {k: g / norm * np.minimum(norm, largest) for k, g in gradient.items()}, norm


@bug("clip_gradient", "")
def matrices_only(gradient, largest):
    norm = np.sqrt(sum((g * g).sum() for g in gradient.values() if g.ndim > 1))
    return {k: g * largest / norm if norm > largest else g for k, g in gradient.items()}, norm


# ------------------------------------------------------------------------------------------ the whole step


def adam(theta, m, v, g, t, lr, decay):
    m = 0.9 * m + 0.1 * g
    v = 0.98 * v + 0.02 * g**2
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.98**t)) + 1e-6)
    return theta - lr * (step + decay * theta), m, v


def stepped(params, gradient, m, v, t, lr, decay, largest, decays=lambda a: a.ndim > 1, clip=True):
    norm = length(gradient)
    factor = min(1.0, largest / norm) if clip else 1.0
    new_params, new_m, new_v = {}, {}, {}
    for k, theta in params.items():
        part = decay if decays(theta) else 0
        new_params[k], new_m[k], new_v[k] = adam(theta, m[k], v[k], gradient[k] * factor, t, lr, part)
    return new_params, new_m, new_v


def bounded(params, m, v, bound=math.log(100)):
    params["logit_scale"] = np.minimum(params["logit_scale"], bound)
    return params, m, v


@bug("one_step", "bound")
def no_bound(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return stepped(params, gradient, m, v, t, lr, decay, largest)


@bug("one_step", "bound")
def bound_before(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    params = dict(params, logit_scale=np.minimum(params["logit_scale"], math.log(100)))
    return stepped(params, gradient, m, v, t, lr, decay, largest)


@bug("one_step", "bound")
def bound_of_a_hundred(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return bounded(*stepped(params, gradient, m, v, t, lr, decay, largest), bound=100.0)


@bug("one_step", "decay")
def everything_decays(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return bounded(*stepped(params, gradient, m, v, t, lr, decay, largest, decays=lambda a: True))


@bug("one_step", "decay")
def biases_decay(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return bounded(*stepped(params, gradient, m, v, t, lr, decay, largest, decays=lambda a: a.ndim > 0))


@bug("one_step", "decay")
def decay_not_handed_on(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return bounded(*stepped(params, gradient, m, v, t, lr, 0, largest))


@bug("one_step", "clip")
def not_clipped(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    return bounded(*stepped(params, gradient, m, v, t, lr, decay, largest, clip=False))


@bug("one_step", "")
def stuck_at_the_bound(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    if params["logit_scale"] >= math.log(100):  # as a bound within the forward pass does
        gradient = dict(gradient, logit_scale=np.zeros(()))
    return bounded(*stepped(params, gradient, m, v, t, lr, decay, largest))


@bug("one_step", "")
def clipped_after_the_mean(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    new, new_m, new_v = stepped(params, gradient, m, v, t, lr, decay, largest, clip=False)
    factor = min(1.0, largest / length(gradient))
    return bounded({k: params[k] + factor * (new[k] - params[k]) for k in new}, new_m, new_v)
