"""Notebook 8: CLIP's loss. The logarithm of a sum in its stable form, both cross-entropies, the temperature."""

import numpy as np

from ... import loss
from ...training import tiled_clip_loss, tiled_contrastive_loss
from ..exercise import Mistake, Notebook

heart = Notebook("08_heart")


def log_sum_exp(x, axis=-1):
    """ln Σ exp(x) along an axis; backward(dy) -> dx. The largest goes out first: its exponential may be too large."""
    largest = x.real.max(axis, keepdims=True)
    e = np.exp(x - largest)
    total = e.sum(axis, keepdims=True)
    y = (np.log(total) + largest).squeeze(axis)
    return y, lambda dy: np.expand_dims(dy, axis) * (e / total)


def by_hand(x, axis=-1):
    return np.log(np.exp(x).sum(axis))


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
            lambda x, axis=-1: by_hand(x, None),
        ),
        Mistake("wrong axis", "the sum runs over the first axis.", lambda x, axis=-1: by_hand(x, 0)),
        Mistake("N", "the mean is taken, and not the sum.", lambda x, axis=-1: np.log(np.exp(x).mean(axis))),
        Mistake(
            "largest",
            "the largest number was taken away, and never added again.",
            lambda x, axis=-1: by_hand(x - x.max(axis, keepdims=True), axis),
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


def soft(s, axis):
    e = np.exp(s - s.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def surprise(s, axis):
    """−ln of the probability of each true pair."""
    return -np.log(np.diag(soft(s, axis)))


def same_for_texts_and_pictures(s):
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
            lambda s: (by_hand(s, 0) + by_hand(s, 1)).mean() / 2,
        ),
        Mistake(
            "2",
            "the score of the true pair counts in the rows and in the columns: it is subtracted twice.",
            lambda s: (by_hand(s, 0) + by_hand(s, 1) - np.diag(s)).mean() / 2,
        ),
    ),
    kinds={
        "one-sided": (
            "There are two exams: which text belongs to the picture, and which picture belongs to the text?",
            "In G, P comes from the rows of S and Q from its columns. Are both there?",
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


# ------------------------------------------------------------------------------------------ the temperature


# Where all pairs are told apart, P − I is a difference of equal numbers, and no gradient is known to many digits. So at
# all points some are not: by a moderate temperature, or by texts that lie nearest to another picture.


def scale(r):
    return np.array(r.rng.uniform(0.3, 1.4))


def strangers(r, n, e):
    """Unit rows of pictures, and of texts each of which is near the picture of the one before it."""
    z = r.unit(n, e)
    return z, unit(np.roll(z, 1, 0) + 0.3 * r.normal(n, e))


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def halves(s):
    return (surprise(s, 0) + surprise(s, 1)).mean() / 2


heart.layer(
    loss.contrastive_loss,
    draw=lambda r, h, e: (*r.unit(2, h, e), scale(r)),
    points=4,
    traps={
        "τ = 1/100": lambda r: (*strangers(r, 5, 4), np.array(np.log(100))),
        "a very sharp model": lambda r: (*strangers(r, 4, 3), np.array(9.0)),
        "a very soft model": lambda r: (*r.unit(2, 4, 3), np.array(-3.0)),
    },
    blind={
        "s = 1": lambda z, t, scale: (z, t, np.zeros_like(scale)),
        "pictures and texts at the same places": lambda z, t, scale: (z, z.copy(), scale),
    },
    mistakes=(
        Mistake(
            "τ",
            "the similarities are multiplied by logit_scale itself, and not by its exponential.",
            lambda z, t, scale: halves(scale * z @ t.T),
        ),
        Mistake(
            "1/τ",
            "the similarities are multiplied by τ; they are divided by it.",
            lambda z, t, scale: halves(np.exp(-scale) * z @ t.T),
        ),
        Mistake("τ", "the temperature is missing.", lambda z, t, scale: halves(z @ t.T)),
        Mistake(
            "shortcut", "pictures are compared with pictures.", lambda z, t, scale: halves(np.exp(scale) * z @ z.T)
        ),
    ),
    kinds={
        "τ": "S = s · Z_I Z_Tᵀ. What stands beside Z_I in this product, and so beside its gradient?",
        "1/τ": "S = s · Z_I Z_Tᵀ, and s stands in the slope once: is it in your G already?",
        "transposed": (
            "G has pictures in its rows. The gradient of the texts needs them in its columns.",
            "dZ_I = s G Z_T, and dZ_T = s Gᵀ Z_I.",
        ),
        "swapped": "What pulls at a picture are texts. So with which of the two is G multiplied for dZ_I?",
        "factor": "s = exp(logit_scale) is its own derivative: dS/d logit_scale = S, with the s in it.",
    },
    hints=(
        "Three arrays make S. Take two of them for constants, and you have three small problems.",
        "A product: if S = s A Bᵀ, then dA = s G B and dB = s Gᵀ A.",
        "S = exp(logit_scale) · cosines. Derived by logit_scale it stays as it is: S.",
        "d_image = s G Z_T, d_text = s Gᵀ Z_I, d_logit_scale = Σ G ∘ S.",
    ),
    inside="whole model (ViT)",
    forbidden=(loss.clip_loss, tiled_clip_loss, tiled_contrastive_loss),
)


# ------------------------------------------------------------------------------------------ from features


def at_length_one(image, text, scale):
    return unit(image), unit(text), scale


heart.layer(
    loss.clip_loss,
    draw=lambda r, h, e: (*r.normal(2, h, e), scale(r)),
    points=2,
    traps={
        "features of very different lengths": lambda r: (
            r.normal(4, 3) * 10.0 ** np.arange(-1, 3)[:, None],
            r.normal(4, 3) * 10.0 ** np.arange(2, -2, -1)[:, None],
            np.array(1.5),
        ),
        "τ = 1/100": lambda r: (*strangers(r, 5, 4), np.array(np.log(100))),
    },
    blind={"features of length 1": at_length_one},
    mistakes=(
        Mistake("projection", "the features are not put on the sphere.", lambda i, t, s: halves(np.exp(s) * i @ t.T)),
        Mistake(
            "projection",
            "the pictures are put on the sphere, and the texts are not.",
            lambda i, t, s: halves(np.exp(s) * unit(i) @ t.T),
        ),
        Mistake(
            "projection",
            "the texts are put on the sphere, and the pictures are not.",
            lambda i, t, s: halves(np.exp(s) * i @ unit(t).T),
        ),
        Mistake(
            "wrong axis",
            "the features are normalised over the batch: the sphere is that of each row.",
            lambda i, t, s: halves(np.exp(s) * (i / np.sqrt((i * i).sum(0))) @ (t / np.sqrt((t * t).sum(0))).T),
        ),
    ),
    kinds={
        "projection": (
            "The features were put on the sphere in the forward pass. What takes a gradient back from there?",
            "l2_normalize returns a backward for the pictures and one for the texts: call each with its gradient.",
        ),
        "unknown": (
            "Is each row of the gradient at a right angle to its features? If not: what takes it back from the sphere?",
            "What contrastive_loss sends back is the gradient of the embeddings, and not yet of the features.",
        ),
        "centring": "The features were put on the sphere: call the backward of l2_normalize with each gradient.",
        "swapped": "Each kind has a sphere of its own: the gradient of the pictures goes back through the pictures'.",
    },
    hints=(
        "Three layers in a row: two spheres side by side, then the loss. Go back through them in the reverse order.",
        "z, backward = l2_normalize(features), for each kind; then your contrastive_loss.",
        "backward_image(d_image), backward_text(d_text), and d_logit_scale as it comes.",
    ),
    inside="whole model (ViT)",
    forbidden=(tiled_clip_loss, tiled_contrastive_loss),
)
