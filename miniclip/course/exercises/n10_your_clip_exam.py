"""Notebook 10, the exam: how many pictures are named rightly within k guesses."""

import numpy as np

from ...evaluation import ranks
from ...layers import l2_normalize
from ..exercise import Mistake
from .n10_your_clip import your_clip


def top_k_accuracy(image_features, text_features, answer, k=1):
    """Which share of M pictures has its right name, answer (M,), among the k of K names with the highest cosines."""
    return within(cosines(image_features, text_features), answer, k)


def cosines(image_features, text_features):
    """The cosines (M, K) of pictures (M, E) and names (K, E)."""
    return l2_normalize(image_features)[0] @ l2_normalize(text_features)[0].T


def within(scores, answer, k):
    """The share of rows of scores (M, K) where fewer than k others are as high as the right one, answer (M,)."""
    right = np.take_along_axis(scores, answer[:, None], axis=1)
    others = np.ones(scores.shape, bool)
    np.put_along_axis(others, answer[:, None], False, axis=1)
    ahead = ((scores >= right) & others).sum(1)
    return float((ahead < k).mean())


def scored(scores=cosines, share=within):
    """A wrong top_k_accuracy: how it scores, or what it makes of the scores."""
    return lambda images, texts, answer, k=1: share(scores(images, texts), answer, k)


def draw_exam(r, n, m, d):
    """Pictures near their names, names of very different lengths, the answers, and k."""
    count = m + 4
    lengths = np.exp(r.rng.normal(0, 1, (count, 1)))
    names = r.normal(count, d + 1)
    answer = r.rng.integers(0, count, 3 * n + 6)
    images = names[answer] / np.abs(names[answer]).max() + 0.6 * r.rng.normal(size=(len(answer), d + 1))
    return images, names * lengths, answer, r.integer(1, 3)


def half_alike(r):
    """Pictures and names along the axes, where cosines are exactly equal or not at all."""
    alike = np.eye(3)[[0, 0, 1, 1, 2]]
    return alike, alike.copy(), np.arange(5)


your_clip.function(
    top_k_accuracy,
    draw=draw_exam,
    points=4,
    forbidden=(ranks,),
    traps={
        "two names in one place, k = 1": lambda r: (*half_alike(r), 1),
        "two names in one place, k = 2": lambda r: (*half_alike(r), 2),
        "as many guesses as names": lambda r: (*draw_exam(r, 2, 2, 3)[:3], 6),
        "one picture": lambda r: (r.normal(1, 3), r.normal(5, 3), np.array([4]), 2),
        "nothing is right": lambda r: (np.eye(3)[:2], np.eye(3), np.array([2, 2]), 1),
    },
    mistakes=(
        Mistake("sphere", "the names are not put on the unit sphere: long ones win.", scored(lambda i, t: i @ t.T)),
        Mistake("sphere", "the distance is taken of what is not on the unit sphere.",
                scored(lambda i, t: -((i[:, None] - t) ** 2).sum(-1))),
        Mistake("order", "the k lowest cosines are taken.", scored(lambda i, t: -cosines(i, t))),
        Mistake("k", "it looks at the first guess alone, whatever k.", scored(share=lambda s, a, k: within(s, a, 1))),
        Mistake("k", "one name too many counts as guessed.", scored(share=lambda s, a, k: within(s, a, k + 1))),
        Mistake("k", "one name too few counts as guessed.", scored(share=lambda s, a, k: within(s, a, k - 1))),
        Mistake("diagonal", "the n-th picture is held to have the n-th name: `answer` says which.",
                scored(share=lambda s, a, k: within(s, np.arange(len(a)) % s.shape[1], k))),
        Mistake("axis", "the softmax runs over the pictures; a picture is to choose among the names.",
                scored(lambda i, t: cosines(i, t) - np.log(np.exp(cosines(i, t)).sum(0)))),
        Mistake("axis", "it asks in the other direction: which pictures each name would choose.",
                scored(share=lambda s, a, k: float(((s > s[np.arange(len(a)), a]).sum(0)[a] < k).mean()))),
        Mistake("share", "it counts: a share of the pictures is asked for.",
                scored(share=lambda s, a, k: within(s, a, k) * len(a))),
        Mistake("share", "it is in per cent: a share, from 0 to 1, is asked for.",
                scored(share=lambda s, a, k: within(s, a, k) * 100)),
        Mistake("share", "it gives the share of errors.", scored(share=lambda s, a, k: 1 - within(s, a, k))),
    ),
    kinds={
        "forward": "Print the scores of one picture, and find its right name among them.",
        "sphere": "What is compared is an angle. What else does a plain inner product depend on?",
        "order": "np.argsort begins with the smallest.",
        "k": "Say it for k = 1 and k = 2, and a picture whose right name comes second.",
        "diagonal": "scores[m, answer[m]] is the score of the right name of picture m.",
        "axis": "Rows are pictures, columns are names. A picture chooses among names: along its row.",
        "share": "Of 4 pictures with 3 right, 0.75.",
        "traps": "Where two score the same, count those that score at least as high as the right one.",
    },
    hints=(
        "Put both on the unit sphere. One matrix product then gives all cosines: a row for each picture.",
        "The right one's: scores[np.arange(len(answer)), answer].",
        "How many names of a row score at least as high as the right one? It counts itself: with 1 it is the first.",
        "The mean of (that number <= k) over the pictures.",
    ),
)  # fmt: skip
