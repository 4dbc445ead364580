"""Notebook 11, the rank of the right one: ties, and several right ones."""

import numpy as np

from ...evaluation import ranks
from ..exercise import Mistake
from .n11_zero_shot import exam


def draw_scores(r, n, d):
    """Scores with ties, and one right candidate in each row, sometimes two."""
    n, d = n + 6, d + 3
    scores = np.round(r.normal(n, d), 1)
    right = np.zeros((n, d), bool)
    right[np.arange(n), r.rng.integers(0, d, n)] = True
    right[:4, :2] = True
    scores[0, 1] = scores[0, 0]  # two right ones that tie
    scores[-1] = scores[-1, 0]  # a row of ties
    return scores, right


def collapsed(r):
    """Scores (4, 6) that are all the same, and the right ones."""
    return np.full((4, 6), 0.7), np.eye(4, 6, dtype=bool)


def nearly_collapsed(r):
    """Scores (4, 6) that differ by 1e-8, and the right ones."""
    scores, right = collapsed(r)
    return scores + 1e-8 * r.normal(4, 6), right


def several_right(r):
    """Scores (5, 8), and as right ones the three highest of each row."""
    scores = r.normal(5, 8)
    return scores, scores > np.sort(scores)[:, -4:-3]


def only_right(r):
    """Scores (2, 3), all of them right."""
    return r.normal(2, 3), np.ones((2, 3), bool)


def best_of(scores, right):
    """The score of the best right candidate of each row, (N, M) -> (N, 1)."""
    return np.where(right, scores, -np.inf).max(1, keepdims=True)


exam.function(
    ranks,
    draw=draw_scores,
    points=4,
    traps={
        "a collapsed model, to which all are alike": collapsed,
        "scores that differ by rounding alone": nearly_collapsed,
        "several right ones": several_right,
        "nothing but right ones": only_right,
    },
    mistakes=(
        Mistake(
            "ties",
            "a tie counts for the model: a wrong one that scores as high is to stand before it.",
            lambda s, right: 1 + ((s > best_of(s, right) + 1e-6) & ~right).sum(1),
        ),
        Mistake(
            "itself",
            "the right one stands in its own way: only the wrong ones count.",
            lambda s, right: 1 + (s >= best_of(s, right) - 1e-6).sum(1),
        ),
        Mistake(
            "itself",
            "where two are right, one stands in the other's way.",
            lambda s, right: (s >= best_of(s, right) - 1e-6).sum(1),
        ),
        Mistake(
            "one", "the best has rank 1, and not 0.", lambda s, right: ((s >= best_of(s, right) - 1e-6) & ~right).sum(1)
        ),
        Mistake(
            "best",
            "where two are right, the better one counts, and this takes the first.",
            lambda s, right: 1 + ((s >= np.take_along_axis(s, right.argmax(1)[:, None], 1) - 1e-6) & ~right).sum(1),
        ),
        Mistake(
            "best",
            "where two are right, the better one counts, and this takes the worse.",
            lambda s, right: 1 + ((s >= np.where(right, s, np.inf).min(1, keepdims=True) - 1e-6) & ~right).sum(1),
        ),
        Mistake(
            "−1",
            "it counts those that score lower.",
            lambda s, right: 1 + ((s <= best_of(s, right) + 1e-6) & ~right).sum(1),
        ),
        Mistake(
            "wrong axis",
            "it counts over all rows together.",
            lambda s, right: 1 + np.full(len(s), ((s >= best_of(s, right) - 1e-6) & ~right).sum()),
        ),
    ),
    kinds={
        "ties": "Let all scores be the same. What rank does your function give, and what does such a model know?",
        "itself": "Who stands in the way of the right answer? The wrong ones, and only they.",
        "one": "1 + the number of those before it.",
        "best": "Put −inf in the place of all wrong ones, and take the maximum of the row.",
        "traps": "Two scores that differ by 1e-8 are equal: a float32 encoder repeats itself only to about that.",
        "−1": "A high score is a good one.",
    },
    hints=(
        "Find the score of the best right candidate of each row. Then count.",
        "np.where(right, scores, −np.inf).max(1, keepdims=True)",
        "Count the wrong candidates (~right) with scores >= best − 1e-6, and add 1.",
    ),
)
