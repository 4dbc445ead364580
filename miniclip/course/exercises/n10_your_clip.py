"""Notebook 10: what surrounds the layers of a run. The average of its parameters, and the run itself."""

import numpy as np

from ..exercise import Mistake, Notebook
from .n09_one_step_adamw import adamw, state

your_clip = Notebook("10_your_clip")

# ------------------------------------------------------------------------------------------ the average


def moving_average(average, params, t, decay=0.98):
    """{name: array} of both: the average of the parameters, once those of step t = 1, 2, … are in it."""
    kept = min(decay, t / (t + 9))
    return {name: kept * average[name] + (1 - kept) * theta for name, theta in params.items()}


def averaged(kept):
    """A wrong moving_average: what share of the old average is kept, (t, decay) -> number."""

    def wrong(average, params, t, decay=0.98):
        share = kept(t, decay)
        return {name: share * average[name] + (1 - share) * theta for name, theta in params.items()}

    return wrong


def two_trees(r, n, d):
    """Two dicts of three parameters: weight (N, D), bias (D,), logit_scale ()."""
    return tuple({"weight": r.normal(n, d), "bias": r.normal(d), "logit_scale": r.normal()} for _ in range(2))


your_clip.function(
    moving_average,
    draw=lambda r, n, d: (*two_trees(r, n, d), r.integer(2, 40), float(r.rng.uniform(0.6, 0.8))),
    points=2,
    traps={
        "the first step": lambda r: (*two_trees(r, 2, 3), 1),
        "far on": lambda r: (*two_trees(r, 2, 3), 10_000),
        "a decay of 0": lambda r: (*two_trees(r, 2, 3), 5, 0.0),
    },
    mistakes=(
        Mistake("young", "it keeps `decay` from the start: a young average forgets faster.", averaged(lambda t, d: d)),
        Mistake("young", "it stays young: the share is at most `decay`.", averaged(lambda t, d: t / (t + 9))),
        Mistake("young", "of the two shares it takes the larger.", averaged(lambda t, d: max(d, t / (t + 9)))),
        Mistake("young", "t counts from 1 already.", averaged(lambda t, d: min(d, (t + 1) / (t + 10)))),
        Mistake("young", "t counts from 1: it is t, and not t − 1.", averaged(lambda t, d: min(d, (t - 1) / (t + 8)))),
        Mistake(
            "shares",
            "the shares are exchanged: most is to be kept, and a little of the new taken in.",
            averaged(lambda t, d: 1 - min(d, t / (t + 9))),
        ),
        Mistake("shares", "it gives the parameters as they are.", lambda average, params, t, decay=0.98: params),
        Mistake("shares", "the average never moves.", lambda average, params, t, decay=0.98: average),
    ),
    kinds={
        "forward": "Do it by hand for one number: an average of 1, a parameter of 3, and t = 1.",
        "young": "d = min(decay, t / (t + 9)). What is it at t = 1, at t = 9, and at t = 1000?",
        "shares": "At t = 1000 the average should hardly move in a step. How far does yours?",
        "traps": "What is d at t = 1, and what where decay is 0?",
    },
    hints=(
        "First the share d that is kept: the smaller one of two numbers.",
        "Then a dict comprehension over the names: d · average + (1 − d) · params.",
    ),
)  # fmt: skip

# ------------------------------------------------------------------------------------------ the run


def training_run(state, until, slope, step, rate):
    """From a state {"t", "params", "m", "v", "average"} to the one after `until` steps, and the losses on the way."""
    params, m, v, average = (state[name] for name in ("params", "m", "v", "average"))
    losses = []
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = moving_average(average, params, k + 1)
        losses.append(loss)
    return {"t": state["t"] + len(losses), "params": params, "m": m, "v": v, "average": average}, losses


def slope(params, k):
    """A small stand-in for a model: half the squared distance from what batch k asks for, and its gradient."""
    apart = {name: theta - np.sin(k + np.arange(theta.size).reshape(theta.shape)) for name, theta in params.items()}
    return 0.5 * float(sum((part * part).sum() for part in apart.values())), apart


def step(params, gradient, m, v, t, lr):
    """AdamW, array by array."""
    new = {name: adamw(theta, m[name], v[name], gradient[name], t, lr) for name, theta in params.items()}
    return tuple({name: parts[k] for name, parts in new.items()} for k in range(3))


def rate(k):
    """A rate that differs in every step."""
    return 0.1 / (k + 2)


def a_run(r, t, until, n=2, d=3):
    """The state of a run after t steps, and what it needs to go on until `until`."""
    params, nearby = two_trees(r, n, d)
    params, nearby = ({name: np.asarray(leaf) for name, leaf in tree.items()} for tree in (params, nearby))
    average = {name: theta + 0.1 * nearby[name] for name, theta in params.items()}
    moments = {name: state(r, *theta.shape) for name, theta in params.items()}
    m, v = (
        {name: np.asarray(pair[k]) if t else np.zeros_like(pair[k]) for name, pair in moments.items()} for k in (0, 1)
    )
    return {"t": t, "params": params, "m": m, "v": v, "average": average}, until, slope, step, rate


def draw_run(r, n, d):
    """A run that has taken some steps, and is to take two to four more."""
    t = r.integer(3, 9)
    return a_run(r, t, t + r.integer(2, 4), n, d)


def wrong_run(
    steps=lambda t, until: range(t, until),
    batch=lambda k, t: k,
    count=lambda k: k + 1,
    lr=lambda rate, k, t: rate(k),
    at=lambda params, average: params,
    follow=lambda average, before, after, k: moving_average(average, after, k + 1),
    carried=lambda before, after: after,
    taken=lambda t, losses: t + len(losses),
    kept=lambda params, average: (params, average),
    each=lambda before, after: before,
):  # fmt: skip
    """A wrong training_run, one of whose parts is another."""

    def wrong(state, until, slope, step, rate):
        params, m, v, average = (state[name] for name in ("params", "m", "v", "average"))
        losses = []
        for k in steps(state["t"], until):
            loss, gradient = slope(at(params, average), batch(k, state["t"]))
            before = params
            params, new_m, new_v = step(params, gradient, m, v, count(k), lr(rate, k, state["t"]))
            m, v = carried(m, new_m), carried(v, new_v)
            average = follow(average, before, params, k)
            losses.append(each(loss, slope(params, k)[0]))
        params, average = kept(params, average)
        return {"t": taken(state["t"], losses), "params": params, "m": m, "v": v, "average": average}, losses

    return wrong


your_clip.function(
    training_run,
    draw=draw_run,
    points=6,
    traps={
        "a new run": lambda r: a_run(r, 0, 3),
        "nothing left to do": lambda r: a_run(r, 5, 5),
        "a single step": lambda r: a_run(r, 8, 9),
    },
    mistakes=(
        Mistake("resumed", "it begins at step 0 again: t steps are taken.", wrong_run(lambda t, until: range(until))),
        Mistake(
            "resumed",
            "it takes `until` further steps: `until` counts from the beginning of the run.",
            wrong_run(lambda t, until: range(t, t + until)),
        ),
        Mistake("resumed", "it takes one step too many.", wrong_run(lambda t, until: range(t, until + 1))),
        Mistake("resumed", "it takes one step too few.", wrong_run(lambda t, until: range(t, until - 1))),
        Mistake("counted", "step is told k: it counts its steps from 1, so k + 1.", wrong_run(count=lambda k: k)),
        Mistake("counted", "the rate is that of k + 1.", wrong_run(lr=lambda rate, k, t: rate(k + 1))),
        Mistake(
            "resumed",
            "batches and rates begin at 0 again: k counts from the beginning of the run.",
            wrong_run(batch=lambda k, t: k - t, lr=lambda rate, k, t: rate(k - t)),
        ),
        Mistake("resumed", "the rates begin at 0 again.", wrong_run(lr=lambda rate, k, t: rate(k - t))),
        Mistake("batch", "it draws the batches from the first one again.", wrong_run(batch=lambda k, t: k - t)),
        Mistake("batch", "every step sees the same batch.", wrong_run(batch=lambda k, t: t)),
        Mistake("batch", "the batch is that of k + 1: batches count from 0.", wrong_run(batch=lambda k, t: k + 1)),
        Mistake(
            "average", "the slope is taken at the average: the run does not see it.", wrong_run(at=lambda p, a: a)
        ),
        Mistake(
            "average",
            "the average takes in the parameters of before the step.",
            wrong_run(follow=lambda average, before, after, k: moving_average(average, before, k + 1)),
        ),
        Mistake(
            "average",
            "moving_average is told k: it counts its steps from 1, so k + 1.",
            wrong_run(follow=lambda average, before, after, k: moving_average(average, after, k)),
        ),
        Mistake("average", "the average never moves.", wrong_run(follow=lambda average, *_: average)),
        Mistake("average", "the average is returned for the parameters.", wrong_run(kept=lambda p, a: (a, a))),
        Mistake("carried", "m and v are not handed on from step to step.", wrong_run(carried=lambda old, new: old)),
        Mistake("t", 'the new state has the old "t".', wrong_run(taken=lambda t, losses: t)),
        Mistake("t", '"t" counts the steps of this call alone.', wrong_run(taken=lambda t, losses: len(losses))),
        Mistake("losses", "the losses are those of after each step.", wrong_run(each=lambda before, after: after)),
    ),
    kinds={
        "forward": "Follow a run of two steps by hand, from t = 3 until 5: what is called, and with which numbers?",
        "resumed": 'Which k has the first step of a run in which state["t"] steps are taken already? And the last?',
        "counted": "Step k = 0 is the first: t is 1 there. slope and rate take k, and step takes t.",
        "batch": "The batch of a step depends on k alone, so that a run that goes on sees what it would have seen.",
        "average": "The average looks on: after each step it takes in the new parameters. Nobody asks it for a slope.",
        "carried": "What step returns has three parts, and the next step needs all of them.",
        "t": 'state["t"] is how many steps the run has taken since its beginning.',
        "losses": "slope gives the loss of the parameters that the step starts from: keep that one.",
        "traps": "What does range give where nothing is left to do, and what is `t` then?",
    },
    hints=(
        'One loop, over k from state["t"] up to until − 1.',
        "In it four lines: slope, step, moving_average, and the loss into the list.",
        "slope is given params and k; step is given k + 1 and rate(k), and gives three things back; then the average.",
        "Return a dict with the same five names, and the list. Of a run with nothing left to do, t stays.",
    ),
    forbidden=(moving_average,),
)  # fmt: skip
