"""Notebook 11, how sure a model may be, and the loss of a linear probe."""

import numpy as np

from ...evaluation import probe_loss
from ..exercise import Mistake
from .formulas import softmax
from .n11_zero_shot import exam

# ------------------------------------------------------------------------------------------ reliability


def reliability(confidence, right, bins):
    """Answers (N,) sorted by confidence, in `bins` parts of equal size -> confidence and share right of each, error.

    error: the mean, over all answers, of how far their part's confidence is from its share.
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    sure = np.array([confidence[part].mean() for part in parts])
    share = np.array([right[part].mean() for part in parts])
    sizes = np.array([len(part) for part in parts])
    return sure, share, float((sizes * np.abs(sure - share)).sum() / len(right))


def draw_confidence(r, n, d):
    """Confidences (N,), whether each answer is right (N,), and a number of parts that does not divide N."""
    bins = 2 + n % 4
    count = 3 * bins * (1 + d % 3) + 1 + r.integer(0, bins - 2)  # so that the parts are not of one size
    confidence = r.rng.random(count) ** 0.5
    return confidence, r.rng.random(count) < confidence**2, bins


def wrong_reliability(order=lambda confidence, right: np.argsort(confidence, kind="stable"), error=None):
    """A wrong `reliability`: another order of the answers, or another error(gaps, sizes)."""

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
    """A wrong `reliability`: confidence and share change places."""
    sure, share, error = reliability(confidence, right, bins)
    return share, sure, error


def of_equal_width(confidence, right, bins):
    """A wrong `reliability`: parts of equal width, and not of equal size."""
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    size = np.array([(number == k).sum() for k in range(bins)])
    sure, share = (np.array([x[number == k].mean() for k in range(bins)]) for x in (confidence, right))
    return sure, share, float((size * np.abs(sure - share)).sum() / len(right))


exam.function(
    reliability,
    draw=draw_confidence,
    points=4,
    traps={
        "one part": lambda r: (r.rng.random(11), r.rng.random(11) < 0.5, 1),
        "a part for each answer": lambda r: (r.rng.random(6), r.rng.random(6) < 0.5, 6),
        "confidences that are equal": lambda r: (np.full(10, 0.5), np.arange(10) < 7, 3),
    },
    mistakes=(
        Mistake("order", "it is not sorted by confidence.", wrong_reliability(lambda c, right: np.arange(len(c)))),
        Mistake(
            "order", "the surest come first: the least sure do.", wrong_reliability(lambda c, right: np.argsort(-c))
        ),
        Mistake(
            "order",
            "it is sorted by what is right.",
            wrong_reliability(lambda c, right: np.argsort(right, kind="stable")),
        ),
        Mistake("order", "the parts have equal widths: they are to have equally many answers.", of_equal_width),
        Mistake(
            "gap",
            "in the error the parts count alike: each answer is to count alike.",
            wrong_reliability(error=lambda gap, sizes: np.abs(gap).mean()),
        ),
        Mistake(
            "gap",
            "the gaps have a sign, and cancel: take their absolute values.",
            wrong_reliability(error=lambda gap, sizes: (sizes * gap).sum() / sizes.sum()),
        ),
        Mistake(
            "gap",
            "the gaps are squared.",
            wrong_reliability(error=lambda gap, sizes: (sizes * gap * gap).sum() / sizes.sum()),
        ),
        Mistake("gap", "it is the largest gap.", wrong_reliability(error=lambda gap, sizes: np.abs(gap).max())),
        Mistake(
            "gap",
            "the error is a sum: it is to be divided by the number of answers.",
            wrong_reliability(error=lambda gap, sizes: (sizes * np.abs(gap)).sum()),
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
    """w (K, D + 1) with the bias last, x (N, D), y (N,) and l2."""
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
        p = softmax(x @ w[:, :-1].T + w[:, -1])
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
