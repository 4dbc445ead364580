"""Notebook 8, CLIP's loss of a matrix: the logarithm of a sum in its stable form, both cross-entropies."""

import numpy as np

from ... import loss
from ...training import tiled_clip_loss, tiled_contrastive_loss
from ..exercise import Mistake, Notebook
from . import formulas
from .formulas import plain_log_sum_exp, softmax

heart = Notebook("08_heart")


def log_sum_exp(x, axis=-1):
    """ln Σ exp(x) along an axis; backward(dy) -> dx. The largest goes out first: its exponential may be too large."""
    y, p = formulas.log_sum_exp(x, axis), softmax(x, axis)
    return y, lambda dy: np.expand_dims(dy, axis) * p


heart.layer(
    log_sum_exp,
    draw=lambda r, n, d: (r.normal(n, d),),
    points=4,
    traps={
        "scores about 1000": lambda r: 1000 + r.normal(3, 4),
        "scores about −1000": lambda r: -1000 + r.normal(3, 4),
        "rows of very different height": lambda r: r.normal(4, 3) + 1000 * np.arange(-2, 2)[:, None],
        "another axis": lambda r: (r.normal(2, 3, 4), 0),
    },
    mistakes=(
        Mistake("missing term", "the logarithm is missing.", lambda x, axis=-1: np.exp(x).sum(axis)),
        Mistake(
            "wrong axis",
            "the sum runs over the whole array; each row has its own.",
            lambda x, axis=-1: plain_log_sum_exp(x, None),
        ),
        Mistake("wrong axis", "the sum runs over the first axis.", lambda x, axis=-1: plain_log_sum_exp(x, 0)),
        Mistake("N", "the mean is taken, and not the sum.", lambda x, axis=-1: np.log(np.exp(x).mean(axis))),
        Mistake(
            "largest",
            "the largest number was taken away, and never added again.",
            lambda x, axis=-1: plain_log_sum_exp(x - x.max(axis, keepdims=True), axis),
        ),
        Mistake(
            "traps",
            "the exponential of a large score is infinite: take the largest of its row away.",
            plain_log_sum_exp,
        ),
        Mistake(
            "traps",
            "the largest number of all was taken away; each row has its own.",
            lambda x, axis=-1: x.max() + plain_log_sum_exp(x - x.max(), axis),
        ),
        Mistake(
            "wrong axis", "it runs along the last axis, whichever was asked for.", lambda x, axis=-1: log_sum_exp(x)[0]
        ),
        Mistake(
            "permuted",
            "the logarithm comes before the sum: that is the sum of the scores.",
            lambda x, axis=-1: x.sum(axis),
        ),
    ),
    kinds={
        "largest": (
            "ln Σ exp(x − m) is smaller than what is asked for. By how much?",
            "ln Σ exp(x) = m + ln Σ exp(x − m): what was taken away inside is added outside.",
        ),
        "traps": (
            "exp(1000) is infinite, and exp(−1000) is 0, whose logarithm is −∞. What can you take away first?",
            "Each row has a largest number of its own: take that of the row away, and add it again at the end.",
        ),
        "another axis": "axis is an argument: the largest, the sum and np.expand_dims all take it.",
        "contract": "y has one number for each row, and so has dy: it multiplies the softmax of its own row.",
        "centring": "Add 1 to all numbers of a row: how much does y grow? So what do the slopes of y sum to?",
        "missing term": "The slope of ln(u) is 1/u times that of u. Is the sum in the denominator there?",
    },
    hints=(
        "Two functions, one in the other: a logarithm of a sum. The slope of ln u is u′ / u.",
        "∂y/∂xⱼ = exp(xⱼ) / Σ exp(x). You know this one: it is the softmax.",
        "y lacks the axis that was summed over: np.expand_dims(dy, axis) puts it back.",
        "dx = dy · softmax(x), with dy in each row the same for all; the softmax from exp(x − largest).",
    ),
)


# ------------------------------------------------------------------------------------------ the two cross-entropies


def surprise(s, axis, eps=0):
    """−ln of the probability of each true pair."""
    return -np.log(np.diag(softmax(s, axis)) + eps)


def halves(s, eps=0):
    """The loss from the probabilities: right, but for scores at which one of them is 0 to the computer."""
    return (surprise(s, 0, eps) + surprise(s, 1, eps)).mean() / 2


def without_shift(s):
    """The loss by plain exponentials: of large scores they are infinite."""
    e = np.exp(s)
    return -np.log(np.diag(e / e.sum(1, keepdims=True)) * np.diag(e / e.sum(0, keepdims=True))).mean() / 2


def same_for_texts_and_pictures(s):
    """Scores (N, N) made symmetric, as the arguments."""
    return ((s + s.T) / 2,)


heart.layer(
    loss.symmetric_cross_entropy,
    draw=lambda r, h: (r.normal(h, h, scale=3),),  # at least three pairs: with two, much is the same as something else
    points=6,
    traps={
        "scores of 1000 and more": lambda r: r.normal(5, 5, scale=1000),
        "one row about 1000": lambda r: r.normal(4, 4) + 1000 * np.eye(4)[1][:, None],
        "one pair alone": lambda r: r.normal(1, 1),
    },
    blind={"a symmetric S": same_for_texts_and_pictures},
    mistakes=(
        Mistake("one-sided", "only the rows are asked; the columns count as much.", lambda s: surprise(s, 1).mean()),
        Mistake("one-sided", "only the columns are asked; the rows count as much.", lambda s: surprise(s, 0).mean()),
        Mistake(
            "one-sided", "half of the rows is there, and nothing of the columns.", lambda s: surprise(s, 1).mean() / 2
        ),
        Mistake(
            "one-sided", "half of the columns is there, and nothing of the rows.", lambda s: surprise(s, 0).mean() / 2
        ),
        Mistake(
            "N",
            "it is the sum over the pairs; the loss is their mean.",
            lambda s: (surprise(s, 0) + surprise(s, 1)).sum() / 2,
        ),
        Mistake(
            "2", "the two halves are added, and the ½ is missing.", lambda s: (surprise(s, 0) + surprise(s, 1)).mean()
        ),
        Mistake(
            "N",
            "it is divided by N², the number of entries; there are N pairs.",
            lambda s: (surprise(s, 0) + surprise(s, 1)).sum() / (2 * s.size),
        ),
        Mistake(
            "−1",
            "the sign: a probability below 1 has a negative logarithm, and the loss is positive.",
            lambda s: -(surprise(s, 0) + surprise(s, 1)).mean() / 2,
        ),
        Mistake(
            "missing term",
            "the score of the true pair is not subtracted.",
            lambda s: (plain_log_sum_exp(s, 0) + plain_log_sum_exp(s, 1)).mean() / 2,
        ),
        Mistake(
            "2",
            "the score of the true pair counts in the rows and in the columns: it is subtracted twice.",
            lambda s: (plain_log_sum_exp(s, 0) + plain_log_sum_exp(s, 1) - np.diag(s)).mean() / 2,
        ),
        Mistake("traps", "the exponential of a large score is infinite.", without_shift),
        Mistake("traps", "a probability may be 0 to the computer, and its logarithm is −∞.", halves),
        Mistake(
            "precision",
            "an ε stands in the logarithm: it caps the loss, and log_sum_exp needs none.",
            lambda s: halves(s, 1e-8),
        ),
    ),
    kinds={
        "one-sided": (
            "There are two exams: which text belongs to the picture, and which picture belongs to the text?",
            "In G, P comes from the rows of S and Q from its columns. Are both there, and does Q stand as S does?",
        ),
        "centring": (
            "Add 1 to every entry of S: the loss stays. So what must G sum to?",
            "What is true sums to 2N, in 2I. Do P and Q together sum to the same?",
        ),
        "missing term": "Each true score enters three times: through its row, through its column, and by itself.",
        "wrong axis": "P: each row sums to 1. Q: each column does. Which axis does each of your softmaxes run along?",
        "transposed": "Q is the softmax of each column of S, and stands as S does: row i, column j.",
        "traps": "Use the stable form: log_sum_exp of the rows, and of the columns. Each has its own largest number.",
        "shortcut": "S has two ways to the loss: through its rows, and through its columns. Each sends something back.",
        "some indices": (
            "Where is it wrong: on the diagonal? What is true stands there.",
            "The true pair is asked for in its row, and once more in its column: how often is it subtracted?",
        ),
        "inside": "np.eye(n) is of float64, and so is all that touches it. Change the diagonal in place instead.",
    },
    hints=(
        "Write the loss with log_sum_exp: −ln P_ii = (ln Σ_j exp S_ij) − S_ii, and so for the columns.",
        "The derivative of each log_sum_exp is a softmax; that of −S_ii is −1, on the diagonal alone.",
        "Rows give P − I, columns Q − I, and all of it is divided by 2N.",
        "G = (P + Q − 2I) / 2N, P = softmax(S, 1), Q = softmax(S, 0).",
    ),
    inside="whole model (ViT)",
    forbidden=(loss.clip_loss, loss.contrastive_loss, tiled_clip_loss, tiled_contrastive_loss),
)
