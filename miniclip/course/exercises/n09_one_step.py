"""Notebook 9: one step of training. A gradient says which way; all of this decides how far. First, the schedule."""

import math

from ...optim import learning_rate
from ..exercise import Mistake, Notebook

step = Notebook("09_one_step")


def schedule(before=None, after=None):
    """A wrong `learning_rate`: before and after the end of the warm-up, (step, steps, warmup) -> part of the peak."""

    def wrong(step, steps, peak, warmup):
        part = before if step < warmup else after
        return peak * part(step, steps, warmup) if part else learning_rate(step, steps, peak, warmup)

    return wrong


def cosine(turn):
    """Half a cosine from 1 down to 0: turn(step, steps, warmup) -> the share of the way."""
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
