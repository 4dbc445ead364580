"""Variants for marks: losses of a matrix of scores. See v1_activations.py."""

import numpy as np

from ..exercise import Mistake
from .formulas import log_sum_exp
from .v1_activations import enter


def without_diagonal(s):
    """(N, N) -> (N, N − 1): what is not the truth of each row."""
    return s[~np.eye(len(s), dtype=bool)].reshape(len(s), -1)


def hard_negative_loss(scores, beta=1.0):
    """A contrastive loss in which the wrong answers that score high count for more.

    scores (N, N): row i belongs to picture i, and text i is right. In place of the sum of e^s over the N − 1 wrong
    texts of a row stands N − 1 times their mean with the weights w_j = e^(beta s_j) / Σ_k e^(beta s_k), k over the
    wrong texts too. With Q_i = (N − 1) Σ_j w_j e^(s_j), the loss is the mean over the rows of ln(e^(s_ii) + Q_i) −
    s_ii. The weights depend on the scores: follow that too. Returns the loss, one number, and backward() -> dscores
    (N, N).
    """
    wrong, right = without_diagonal(scores), np.diagonal(scores)
    hard = np.log(len(scores) - 1) + log_sum_exp((1 + beta) * wrong) - log_sum_exp(beta * wrong)
    return (log_sum_exp(np.stack([right, hard], -1)) - right).mean()


def plain_cross_entropy(scores, beta=1.0):
    """The loss with all wrong answers alike: beta is not used."""
    return (log_sum_exp(scores) - np.diagonal(scores)).mean()


enter(
    hard_negative_loss,
    points=6,
    draw=lambda r, n: (r.normal(n, n), float(r.rng.uniform(0.3, 1.5))),
    traps={
        "beta = 0": lambda r: (r.normal(4, 4), 0.0),
        "scores about 1000": lambda r: (1000 + r.normal(3, 3), 0.5),
        "two pairs": lambda r: (r.normal(2, 2), 1.0),
    },
    blind={"beta = 0": lambda scores, *beta: (scores, 0.0)},
    mistakes=(
        Mistake(
            "missing term", "the wrong ones all have the same weight: that is the plain loss.", plain_cross_entropy
        ),
        Mistake("N", "the rows are added: it is their mean.", lambda s, beta=1.0: len(s) * hard_negative_loss(s, beta)),
        Mistake(
            "transposed",
            "it runs down the columns: row i belongs to picture i.",
            lambda s, beta=1.0: hard_negative_loss(s.T, beta),
        ),
    ),
    kinds={"scores about 1000": "Write it with logarithms of sums, from each of which the largest is taken first."},
    hints=(
        "Q = (N − 1) Σ e^((1+β) s) / Σ e^(β s). So ln Q is a difference of two logarithms of sums.",
        "The slope of a logarithm of a sum of e^(a s) is a times a softmax of a s.",
    ),
)


def focal_loss(scores, gamma=2.0):
    """A contrastive loss that looks away from what is right already: the mean over rows of −(1 − p)^gamma · ln p.

    scores (N, N); p, of row i, is entry i of the softmax of the row. Returns the loss, one number, and backward() ->
    dscores (N, N).
    """
    log_p = np.diagonal(scores) - log_sum_exp(scores)
    return -((1 - np.exp(log_p)) ** gamma * log_p).mean()


def wrong_focus(loss):
    """A wrong focal_loss: loss(ln p of the rows, gamma)."""
    return lambda s, gamma=2.0: loss(np.diagonal(s) - log_sum_exp(s), gamma)


enter(
    focal_loss,
    points=6,
    draw=lambda r, n: (r.normal(n, n), float(r.rng.uniform(1.2, 3))),
    sizes=("drawn", "drawn again", "drawn once more", "square"),
    traps={"gamma = 0": lambda r: (r.normal(4, 4), 0.0), "scores about 1000": lambda r: (1000 + r.normal(3, 3), 2.0)},
    blind={"gamma = 0": lambda scores, *gamma: (scores, 0.0)},
    mistakes=(
        Mistake("missing term", "the factor (1 − p)^γ is missing.", wrong_focus(lambda log_p, gamma: -log_p.mean())),
        Mistake(
            "swapped",
            "p^γ stands where (1 − p)^γ is due.",
            wrong_focus(lambda log_p, gamma: -(np.exp(gamma * log_p) * log_p).mean()),
        ),
        Mistake("−1", "the sign is wrong: a loss is positive.", lambda s, gamma=2.0: -focal_loss(s, gamma)),
        Mistake("N", "the rows are added: it is their mean.", lambda s, gamma=2.0: len(s) * focal_loss(s, gamma)),
        Mistake("transposed", "it runs down the columns.", lambda s, gamma=2.0: focal_loss(s.T, gamma)),
    ),
    kinds={"scores about 1000": "Take the largest of a row away before the exponential: ln p is the same."},
    hints=(
        "Two steps: from the scores to ln p, and from ln p to the loss. In the second, p stands twice.",
        "The slope of ln p_i with respect to the scores of its row is δ − softmax.",
    ),
)
