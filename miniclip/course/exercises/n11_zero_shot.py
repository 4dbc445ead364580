"""Notebook 11: naming what was never shown, and saying honestly how well. Each number answers one question."""

import numpy as np

from ...evaluation.linear_probe import probe_loss
from ...evaluation.retrieval import ranks
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
    return tuple(float(bound) for bound in np.quantile(right[draws], [(1 - level) / 2, (1 + level) / 2]))


def of_the_questions(right, draws, level=0.95):
    means = right[draws].mean(0)
    return tuple(float(bound) for bound in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


def by_deviation(right, draws, level=0.95):
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


# ------------------------------------------------------------------------------------------ ranks


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
    return np.full((4, 6), 0.7), np.eye(4, 6, dtype=bool)


def nearly_collapsed(r):
    scores, right = collapsed(r)
    return scores + 1e-8 * r.normal(4, 6), right


def several_right(r):
    scores = r.normal(5, 8)
    return scores, scores > np.sort(scores)[:, -4:-3]


def only_right(r):
    return r.normal(2, 3), np.ones((2, 3), bool)


def best_of(scores, right):
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


# ------------------------------------------------------------------------------------------ calibration


def calibration(confidence, right, bins):
    """Answers (N,) sorted by confidence, in `bins` parts of equal size -> confidence and share right of each, error.

    error: the mean, over all answers, of how far their part's confidence is from its share.
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    sure = np.array([confidence[part].mean() for part in parts])
    share = np.array([right[part].mean() for part in parts])
    sizes = np.array([len(part) for part in parts])
    return sure, share, float((sizes * np.abs(sure - share)).sum() / len(right))


def draw_confidence(r, n, d):
    bins = 2 + n % 4
    count = 3 * bins * (1 + d % 3) + 1 + r.integer(0, bins - 2)  # so that the parts are not of one size
    confidence = r.rng.random(count) ** 0.5
    return confidence, r.rng.random(count) < confidence**2, bins


def wrong_calibration(order=lambda confidence, right: np.argsort(confidence, kind="stable"), error=None):
    def wrong(confidence, right, bins):
        parts = np.array_split(order(confidence, right), bins)
        sure = np.array([confidence[part].mean() for part in parts])
        share = np.array([right[part].mean() for part in parts])
        sizes = np.array([len(part) for part in parts])
        if error:
            return sure, share, float(error(sure - share, sizes))
        return sure, share, float((sizes * np.abs(sure - share)).sum() / len(right))

    return wrong


def exchanged(confidence, right, bins):
    sure, share, error = calibration(confidence, right, bins)
    return share, sure, error


def of_equal_width(confidence, right, bins):
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    size = np.array([(number == k).sum() for k in range(bins)])
    sure, share = (np.array([x[number == k].mean() for k in range(bins)]) for x in (confidence, right))
    return sure, share, float((size * np.abs(sure - share)).sum() / len(right))


exam.function(
    calibration,
    draw=draw_confidence,
    points=4,
    traps={
        "one part": lambda r: (r.rng.random(11), r.rng.random(11) < 0.5, 1),
        "a part for each answer": lambda r: (r.rng.random(6), r.rng.random(6) < 0.5, 6),
        "confidences that are equal": lambda r: (np.full(10, 0.5), np.arange(10) < 7, 3),
    },
    mistakes=(
        Mistake("order", "it is not sorted by confidence.", wrong_calibration(lambda c, right: np.arange(len(c)))),
        Mistake(
            "order", "the surest come first: the least sure do.", wrong_calibration(lambda c, right: np.argsort(-c))
        ),
        Mistake(
            "order",
            "it is sorted by what is right.",
            wrong_calibration(lambda c, right: np.argsort(right, kind="stable")),
        ),
        Mistake("order", "the parts have equal widths: they are to have equally many answers.", of_equal_width),
        Mistake(
            "gap",
            "in the error the parts count alike: each answer is to count alike.",
            wrong_calibration(error=lambda gap, sizes: np.abs(gap).mean()),
        ),
        Mistake(
            "gap",
            "the gaps have a sign, and cancel: take their absolute values.",
            wrong_calibration(error=lambda gap, sizes: (sizes * gap).sum() / sizes.sum()),
        ),
        Mistake(
            "gap",
            "the gaps are squared.",
            wrong_calibration(error=lambda gap, sizes: (sizes * gap * gap).sum() / sizes.sum()),
        ),
        Mistake("gap", "it is the largest gap.", wrong_calibration(error=lambda gap, sizes: np.abs(gap).max())),
        Mistake(
            "gap",
            "the error is a sum: it is to be divided by the number of answers.",
            wrong_calibration(error=lambda gap, sizes: (sizes * np.abs(gap)).sum()),
        ),
        Mistake("swapped", "confidence comes first, then the share that is right.", exchanged),
    ),
    kinds={
        "order": "np.argsort gives the answers from the least sure to the surest; np.array_split cuts them.",
        "gap": "If one part has three answers and another four, which of them weighs more in a mean over answers?",
        "swapped": "How sure, how right, how wrong: in this order.",
        "traps": "What comes out where all answers are in one part, and where each has its own?",
    },
    hints=(
        'np.array_split(np.argsort(confidence, kind="stable"), bins) gives the parts, as lists of numbers of answers.',
        "For each part two means: of confidence and of right.",
        "error = Σ size · |confidence − share| / N",
    ),
)


# ------------------------------------------------------------------------------------------ the probe


def draw_probe(r, n, k, d):
    n, k = n + 2, k + 1
    return r.normal(k, d + 1, scale=0.5), r.normal(n, d), r.rng.integers(0, k, n), float(r.rng.uniform(0.05, 0.5))


def wrong_probe(
    loss=lambda surprise, w, l2: surprise.mean() + l2 / 2 * (w[:, :-1] ** 2).sum(),
    true=1.0,
    scale=lambda n: n,
    weight=lambda w, l2: l2 * w[:, :-1],
    bias=lambda dz, w, l2: dz.sum(0),
    sign=1.0,
):
    """A wrong `probe_loss`, one of whose parts is another."""

    def wrong(w, x, y, l2):
        z = x @ w[:, :-1].T + w[:, -1]
        z = z - z.max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        rows = np.arange(len(x))
        dz = p.copy()
        dz[rows, y] -= true
        dz = sign * dz / scale(len(x))
        gradient = np.concatenate([dz.T @ x + weight(w, l2), bias(dz, w, l2)[:, None]], 1)
        return float(loss(-np.log(p[rows, y]), w, l2)), gradient

    return wrong


exam.function(
    probe_loss,
    draw=draw_probe,
    points=6,
    traps={
        "scores about 1000": lambda r: (300 * r.normal(3, 5), r.normal(6, 4), r.rng.integers(0, 3, 6), 0.1),
        "a class that nobody has": lambda r: (r.normal(4, 3), r.normal(5, 2), r.rng.integers(0, 2, 5), 0.1),
        "no decay": lambda r: (r.normal(3, 4), r.normal(5, 3), r.rng.integers(0, 3, 5), 0.0),
    },
    mistakes=(
        Mistake(
            "regulariser",
            "the bias is in the decay of the loss: it decays the weights W alone.",
            wrong_probe(loss=lambda s, w, l2: s.mean() + l2 / 2 * (w * w).sum()),
        ),
        Mistake(
            "regulariser",
            "the bias decays, in the loss and in the gradient: only W does.",
            wrong_probe(
                loss=lambda s, w, l2: s.mean() + l2 / 2 * (w * w).sum(),
                bias=lambda dz, w, l2: dz.sum(0) + l2 * w[:, -1],
            ),
        ),
        Mistake(
            "regulariser",
            "the bias decays in the gradient, and in the loss it does not.",
            wrong_probe(bias=lambda dz, w, l2: dz.sum(0) + l2 * w[:, -1]),
        ),
        Mistake("regulariser", "the gradient of the decay, l2 W, is missing.", wrong_probe(weight=lambda w, l2: 0.0)),
        Mistake("regulariser", "the decay is missing from the loss.", wrong_probe(loss=lambda s, w, l2: s.mean())),
        Mistake(
            "regulariser",
            "the decay is missing, from the loss and from the gradient.",
            wrong_probe(loss=lambda s, w, l2: s.mean(), weight=lambda w, l2: 0.0),
        ),
        Mistake(
            "2",
            "the ½ of the decay is missing from the loss, and the slope of ½W² is W.",
            wrong_probe(loss=lambda s, w, l2: s.mean() + l2 * (w[:, :-1] ** 2).sum()),
        ),
        Mistake("2", "the slope of ½W² is W, and not 2W.", wrong_probe(weight=lambda w, l2: 2 * l2 * w[:, :-1])),
        Mistake(
            "N",
            "the loss sums over the rows: it is their mean.",
            wrong_probe(loss=lambda s, w, l2: s.sum() + l2 / 2 * (w[:, :-1] ** 2).sum()),
        ),
        Mistake(
            "N", "the loss is a mean over N rows, and its gradient is not divided by N.", wrong_probe(scale=lambda n: 1)
        ),
        Mistake(
            "N",
            "loss and gradient are sums over the rows: the loss is their mean.",
            wrong_probe(loss=lambda s, w, l2: s.sum() + l2 / 2 * (w[:, :-1] ** 2).sum(), scale=lambda n: 1),
        ),
        Mistake(
            "1/N", "the gradient of the bias is the sum over the rows.", wrong_probe(bias=lambda dz, w, l2: dz.mean(0))
        ),
        Mistake(
            "missing term",
            "the truth, the one-hot row, is not subtracted from the probabilities.",
            wrong_probe(true=0.0),
        ),
        Mistake(
            "−1",
            "dz is the probability less the truth, and not the truth less the probability.",
            wrong_probe(sign=-1.0),
        ),
        Mistake(
            "−1",
            "the sign of the loss is wrong: it is −ln p.",
            wrong_probe(loss=lambda s, w, l2: -s.mean() + l2 / 2 * (w[:, :-1] ** 2).sum()),
        ),
    ),
    kinds={
        "regulariser": "l2/2 ΣW² is part of the loss, so l2 W is part of its gradient. The bias is in neither.",
        "missing term": "What is the gradient where the model is sure and right? It should be 0.",
        "1/N": "Every row uses the bias once. Its gradients add up; that of the mean is in dz already.",
        "N": "L = mean(…): the 1/N belongs into dz.",
        "traps": "exp(1000) is infinite: take the largest of each row away first.",
    },
    hints=(
        "Take w apart: W = w[:, :-1] and b = w[:, -1]. Then z = x Wᵀ + b, (N, K).",
        "p is the softmax of z over each row. The loss needs p[rows, y], the gradient p less 1 at [rows, y].",
        "dz = (p − one-hot) / N; dW = dzᵀ x + l2 W; db = Σ dz over the rows.",
        "np.concatenate([dW, db[:, None]], 1) puts the two together again.",
    ),
)
