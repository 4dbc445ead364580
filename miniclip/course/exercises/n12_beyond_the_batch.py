"""Notebook 12: a sum that grows while its largest term changes, and what the losses of this notebook are drawn from."""

import numpy as np

from ..exercise import Mistake, Notebook
from .formulas import unit

beyond = Notebook("12_beyond_the_batch")


def strangers(r, n, e):
    """Unit rows of pictures, and of texts that lie nearest to the picture before their own: something to learn."""
    z = r.unit(n, e)
    return z, unit(np.roll(z, 1, 0) + 0.3 * unit(r.rng.standard_normal((n, e))))


# ------------------------------------------------------------------------------------------ a sum that grows


def running_sum(largest, total, scores):
    """What is known of K columns, after some more rows of their scores.

    largest (K,): the largest score so far; total (K,): Σ exp(score − largest); scores (R, K). -> both, with these
    """
    now = np.maximum(largest, scores.real.max(0))
    return now, total * np.exp(largest - now) + np.exp(scores - now).sum(0)


def draw_columns(r, n, k):
    """Columns some of which have had their largest score, and some not yet."""
    before = r.normal(n + 1, k, scale=3.0)
    largest = before.max(0)
    return largest, np.exp(before - largest).sum(0), r.normal(n, k, scale=3.0)


def nothing_yet(r):
    """Four columns of which nothing is known: largest −∞, total 0."""
    return np.full(4, -np.inf), np.zeros(4), r.normal(3, 4)


def column_high(height):
    """r -> columns whose scores, old and new, are about `height`."""

    def draw(r):
        largest, total, scores = draw_columns(r, 3, 4)
        return largest + height, total, scores + height

    return draw


def far_below(r):
    """Columns whose new scores are far below the old."""
    largest, total, scores = draw_columns(r, 3, 4)
    return largest, total, scores - 1000


def far_above(r):
    """Columns whose new scores are far above the old."""
    largest, total, scores = draw_columns(r, 3, 4)
    return largest, total, scores + 1000


def with_shift(shift, keep):
    """A wrong `running_sum`: another shift of the scores, another factor for what was there."""

    def wrong(largest, total, scores):
        now = np.maximum(largest, scores.max(0))
        return now, total * keep(largest, now) + np.exp(scores - shift(largest, now, scores)).sum(0)

    return wrong


def right_shift(largest, now, scores):
    """What is to be taken away from the new scores: the largest of all so far."""
    return now


def right_keep(largest, now):
    """The right factor for what was there."""
    return np.exp(largest - now)


def by_rows(largest, total, scores):
    """A wrong `running_sum`: along the rows."""
    now = np.maximum(largest.max(), scores.max(1))
    return now, np.exp(scores - now[:, None]).sum(1)


beyond.function(
    running_sum,
    draw=draw_columns,
    points=4,
    traps={
        "nothing seen yet: largest −∞, total 0": nothing_yet,
        "scores about 1000": column_high(1000.0),
        "scores about −1000": column_high(-1000.0),
        "new scores far below the old": far_below,
        "new scores far above the old": far_above,
    },
    mistakes=(
        Mistake(
            "rescale",
            "what was summed so far is not made smaller where a larger score comes.",
            with_shift(right_shift, lambda largest, now: 1.0),
        ),
        Mistake(
            "rescale",
            "the factor of what was summed so far is upside down: it may only become smaller.",
            with_shift(right_shift, lambda largest, now: np.exp(now - largest)),
        ),
        Mistake("forgotten", "what was summed so far is gone.", with_shift(right_shift, lambda largest, now: 0.0)),
        Mistake(
            "shift",
            "the new scores are compared with the old largest, and not with the new one.",
            with_shift(lambda largest, now, scores: largest, right_keep),
        ),
        Mistake(
            "shift",
            "the new scores are compared with the largest of their own, and not of all so far.",
            with_shift(lambda largest, now, scores: scores.max(0), right_keep),
        ),
        Mistake(
            "shift",
            "nothing is taken away from the new scores: their exponential may be infinite.",
            with_shift(lambda largest, now, scores: 0.0, right_keep),
        ),
        Mistake("wrong axis", "it runs along the rows: a column's scores stand one below the other.", by_rows),
        Mistake(
            "largest",
            "the largest is that of the new scores alone.",
            lambda largest, total, scores: (scores.max(0), running_sum(largest, total, scores)[1]),
        ),
    ),
    kinds={
        "rescale": (
            "total was counted in units of exp(largest). Now the unit is another one.",
            "Σ exp(x − new) = exp(old − new) · Σ exp(x − old)",
        ),
        "forgotten": "The sum of all so far is the old sum and the new one, in the same unit.",
        "shift": "One number is taken away from all: the largest of everything seen so far, the new scores included.",
        "largest": "A column that had its largest score before keeps it.",
        "traps": "Which numbers may be infinite? −∞ − (−∞) is NaN, and −∞ less a number is −∞, whose exponential is 0.",
    },
    hints=(
        "First the largest of all so far, np.maximum(largest, scores.real.max(0)). Then the sums.",
        "The old total is Σ exp(x − old largest). What has it to be multiplied by, to be Σ exp(x − new largest)?",
        "total · exp(largest − now) + Σ exp(scores − now), the sum over the rows.",
    ),
)
