"""Wrong averages, wrong runs, and exams that are marked wrongly."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ the average


@bug("moving_average", "young")
def old_from_the_start(average, params, t, decay=0.98):
    return {k: average[k] * decay + params[k] * (1 - decay) for k in params}


@bug("moving_average", "young")
def young_for_ever(average, params, t, decay=0.98):
    return {k: (t * average[k] + 9 * params[k]) / (t + 9) for k in params}


@bug("moving_average", "young")
def the_larger(average, params, t, decay=0.98):
    d = t / (t + 9) if t / (t + 9) > decay else decay
    return {k: d * average[k] + (1 - d) * params[k] for k in params}


@bug("moving_average", "shares")
def mostly_new(average, params, t, decay=0.98):
    d = min(decay, t / (t + 9))
    return {k: average[k] + d * (params[k] - average[k]) for k in params}


@bug("moving_average", "shares")
def not_averaged(average, params, t, decay=0.98):
    return dict(params)


@bug("moving_average", "")
def added_up(average, params, t, decay=0.98):
    d = min(decay, t / (t + 9))
    return {k: d * average[k] + params[k] for k in params}


@bug("moving_average", "")
def plain_mean(average, params, t, decay=0.98):
    return {k: average[k] + (params[k] - average[k]) / t for k in params}


@bug("moving_average", "")
def matrices_alone(average, params, t, decay=0.98):
    d = min(decay, t / (t + 9))
    return {k: d * average[k] + (1 - d) * params[k] if np.ndim(params[k]) else params[k] for k in params}


# ------------------------------------------------------------------------------------------ the run


def mixed(average, params, t):
    d = min(0.98, t / (t + 9))
    return {k: d * average[k] + (1 - d) * params[k] for k in params}


def packed(t, params, m, v, average):
    return {"t": t, "params": params, "m": m, "v": v, "average": average}


@bug("training_run", "resumed")
def from_the_start_again(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(until):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "resumed")
def so_many_more(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    k = state["t"]
    while len(losses) < until:
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
        k += 1
    return packed(k, params, m, v, average), losses


@bug("training_run", "counted")
def step_zero(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for t in range(state["t"], until):
        loss, gradient = slope(params, t)
        params, m, v = step(params, gradient, m, v, t, rate(t))
        average = mixed(average, params, t + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "batch")
def batches_from_the_first(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for n in range(until - state["t"]):
        k = state["t"] + n
        loss, gradient = slope(params, n)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "resumed")
def counted_from_here(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(until - state["t"]):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, state["t"] + k + 1, rate(k))
        average = mixed(average, params, state["t"] + k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "average")
def slope_of_the_average(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(state["t"], until):
        loss, gradient = slope(average, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "average")
def a_step_behind(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        average = mixed(average, params, k + 1)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "carried")
def moments_dropped(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        params, _, _ = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


@bug("training_run", "t")
def steps_of_this_call(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(len(losses), params, m, v, average), losses


@bug("training_run", "")
def until_though_nothing_is_done(state, until, slope, step, rate):
    params, m, v, average, losses = *[state[k] for k in ("params", "m", "v", "average")], []
    k = state["t"]
    while True:  # at least one step
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
        k += 1
        if k >= until:
            return packed(k, params, m, v, average), losses


@bug("training_run", "")
def moments_begin_anew(state, until, slope, step, rate):
    params, average, losses = state["params"], state["average"], []
    m = {k: np.zeros_like(theta) for k, theta in params.items()}
    v = {k: np.zeros_like(theta) for k, theta in params.items()}
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = mixed(average, params, k + 1)
        losses.append(loss)
    return packed(state["t"] + len(losses), params, m, v, average), losses


# ------------------------------------------------------------------------------------------ the exam


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


@bug("top_k_accuracy", "sphere")
def long_names_win(image_features, text_features, answer, k=1):
    best = np.argsort(-(unit(image_features) @ text_features.T), axis=1)[:, :k]
    return (best == answer[:, None]).any(1).mean()


@bug("top_k_accuracy", "order")
def the_last_k(image_features, text_features, answer, k=1):
    best = np.argsort(unit(image_features) @ unit(text_features).T, axis=1)[:, :k]
    return (best == answer[:, None]).any(1).mean()


@bug("top_k_accuracy", "k")
def first_guess_alone(image_features, text_features, answer, k=1):
    return ((unit(image_features) @ unit(text_features).T).argmax(1) == answer).mean()


@bug("top_k_accuracy", "k")
def one_too_many(image_features, text_features, answer, k=1):
    scores = unit(image_features) @ unit(text_features).T
    right = scores[np.arange(len(answer)), answer]
    return ((scores > right[:, None]).sum(1) <= k).mean()


@bug("top_k_accuracy", "diagonal")
def pairs_in_order(image_features, text_features, answer, k=1):
    best = np.argsort(-(unit(image_features) @ unit(text_features).T), axis=1)[:, :k]
    return (best == (np.arange(len(answer)) % len(text_features))[:, None]).any(1).mean()


@bug("top_k_accuracy", "share")
def counted(image_features, text_features, answer, k=1):
    best = np.argsort(-(unit(image_features) @ unit(text_features).T), axis=1)[:, :k]
    return float((best == answer[:, None]).any(1).sum())


@bug("top_k_accuracy", "share")
def in_per_cent(image_features, text_features, answer, k=1):
    best = np.argsort(-(unit(image_features) @ unit(text_features).T), axis=1)[:, :k]
    return 100 * (best == answer[:, None]).any(1).mean()


@bug("top_k_accuracy", "axis")
def softmax_over_pictures(image_features, text_features, answer, k=1):
    p = np.exp(unit(image_features) @ unit(text_features).T)
    best = np.argsort(-p / p.sum(0), axis=1)[:, :k]
    return (best == answer[:, None]).any(1).mean()


@bug("top_k_accuracy", "")
def ties_by_place(image_features, text_features, answer, k=1):
    best = (unit(image_features) @ unit(text_features).T).argsort(1)[:, ::-1][:, :k]
    return float((best == answer[:, None]).any(1).mean())


@bug("top_k_accuracy", "")
def ties_are_right(image_features, text_features, answer, k=1):
    scores = unit(image_features) @ unit(text_features).T
    right = scores[np.arange(len(answer)), answer]
    return ((scores > right[:, None]).sum(1) < k).mean()


@bug("top_k_accuracy", "")
def shares_of_k(image_features, text_features, answer, k=1):
    best = np.argsort(-(unit(image_features) @ unit(text_features).T), axis=1)[:, :k]
    return (best == answer[:, None]).mean()
