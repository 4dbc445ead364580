"""Notebook 11: naming what was never shown, and saying honestly how well. Each number answers one question."""

import numpy as np

from ...layers import l2_normalize
from ...model import class_embeddings
from ..exercise import Mistake, Notebook

exam = Notebook("11_zero_shot")


# ------------------------------------------------------------------------------------------ ensembles


def ensemble(features):
    """Unit rows (P, K, E) of K names in P prompts -> one unit row for each name (K, E)."""
    return l2_normalize(features.mean(0))[0]


exam.function(
    ensemble,
    draw=lambda r, n, k, e: r.unit(n, k + 1, e),
    points=2,
    forbidden=(class_embeddings,),
    traps={"one prompt alone": lambda r: r.unit(1, 3, 4), "one name alone": lambda r: r.unit(4, 1, 5)},
    mistakes=(
        Mistake("sphere", "the mean is not made unit again: it lies inside the sphere.", lambda f: f.mean(0)),
        Mistake("sphere", "it is the sum, and no unit row.", lambda f: f.sum(0)),
        Mistake(
            "wrong axis",
            "the mean runs over the names, and not over the prompts.",
            lambda f: l2_normalize(f.mean(1))[0],
        ),
        Mistake(
            "wrong axis",
            "all names together are made unit: each name is a row of its own.",
            lambda f: f.mean(0) / np.sqrt((f.mean(0) ** 2).sum()),
        ),
        Mistake(
            "wrong axis",
            "the columns are made unit: each name is a row.",
            lambda f: f.mean(0) / np.sqrt((f.mean(0) ** 2).sum(0)),
        ),
        Mistake("missing term", "it is the first prompt alone.", lambda f: f[0]),
        Mistake(
            "sqrt",
            "it is divided by the square of the length.",
            lambda f: f.mean(0) / (f.mean(0) ** 2).sum(-1)[:, None],
        ),
    ),
    kinds={
        "sphere": "How long is the mean of two unit vectors that do not point the same way?",
        "wrong axis": "Prompts, names, numbers of an embedding: (P, K, E). Which of the three is to be gone?",
        "missing term": "Every prompt is to count.",
    },
    hints=(
        "Two steps: a mean over the prompts, and then the unit sphere.",
        "l2_normalize of notebook 3 returns (y, backward): take y.",
    ),
)


# ------------------------------------------------------------------------------------------ intervals


def interval(right, draws, level=0.95):
    """Answers (N,), and draws (B, N) of question numbers -> the bounds between which `level` of the B means lie."""
    means = right[draws].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_answers(r, n, d):
    """Answers (N,) of 0 and 1, draws (B, N) of question numbers, and a level."""
    count = 8 * n + d
    right = (r.rng.random(count) < r.rng.uniform(0.3, 0.8)).astype(float)
    draws = r.rng.integers(0, count, (60 + n, count))
    return right, draws, float(r.rng.uniform(0.6, 0.95))


def between(low, high):
    """A wrong `interval`: other quantiles of the means, functions of the level."""

    def wrong(right, draws, level=0.95):
        means = right[draws].mean(1)
        return float(np.quantile(means, low(level))), float(np.quantile(means, high(level)))

    return wrong


def of_the_answers(right, draws, level=0.95):
    """A wrong interval: the quantiles of single answers."""
    return tuple(float(bound) for bound in np.quantile(right[draws], [(1 - level) / 2, (1 + level) / 2]))


def of_the_questions(right, draws, level=0.95):
    """A wrong interval: the means run over the draws."""
    means = right[draws].mean(0)
    return tuple(float(bound) for bound in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


def by_deviation(right, draws, level=0.95):
    """A wrong interval: 1.96 deviations to both sides, whatever the level."""
    means = right[draws].mean(1)
    return float(means.mean() - 1.96 * means.std()), float(means.mean() + 1.96 * means.std())


exam.function(
    interval,
    draw=draw_answers,
    points=4,
    traps={
        "all answers right": lambda r: (np.ones(20), r.rng.integers(0, 20, (40, 20))),
        "differences, which may be negative": lambda r: (r.normal(30), r.rng.integers(0, 30, (50, 30)), 0.9),
        "the level left out": lambda r: (np.round(r.rng.random(40)), r.rng.integers(0, 40, (80, 40))),
    },
    mistakes=(
        Mistake(
            "level",
            "what is outside is not halved: at 95 %, 2.5 % lie below and 2.5 % above.",
            between(lambda level: 1 - level, lambda level: level),
        ),
        Mistake(
            "level", "it reaches from the least mean to the greatest.", between(lambda level: 0.0, lambda level: 1.0)
        ),
        Mistake(
            "level", "the level is not used: it need not be 0.95.", between(lambda level: 0.025, lambda level: 0.975)
        ),
        Mistake(
            "swapped",
            "the upper bound comes first.",
            between(lambda level: (1 + level) / 2, lambda level: (1 - level) / 2),
        ),
        Mistake("one by one", "the quantiles are those of single answers, and not of the means.", of_the_answers),
        Mistake("wrong axis", "the means run over the draws: each draw, a row, is one exam.", of_the_questions),
        Mistake("level", "it is the mean ± 1.96 deviations, whatever the level: take quantiles.", by_deviation),
    ),
    kinds={
        "level": "A share of 1 − level lies outside, half of it below and half above. Which two quantiles are that?",
        "one by one": "One draw gives one exam, and one exam has one result: a mean.",
        "wrong axis": "right[draws] is (B, N): exams, questions. Over which axis runs the mean of an exam?",
        "swapped": "Low first.",
    },
    hints=(
        "right[draws] draws all exams at once: (B, N).",
        "One mean for each exam, (B,). Then np.quantile.",
        "The quantiles (1 − level) / 2 and (1 + level) / 2.",
    ),
)
