"""Notebook 12, the loss of single pairs; and who is guilty, where many functions are wrong."""

import numpy as np

from ...loss import siglip_loss
from ..exercise import Mistake
from .formulas import sigmoid, unit
from .n12_beyond_the_batch import beyond, strangers

# ------------------------------------------------------------------------------------------ SigLIP's loss


def draw_features(r, n, e):
    """Features of any length, a scale, and a bias."""
    z_image, z_text = strangers(r, n, e)
    lengths = r.rng.uniform(0.5, 2.0, (2, len(z_image), 1))
    scale, bias = r.rng.uniform(0.3, 1.4), r.rng.uniform(-2.0, -0.5)
    return lengths[0] * z_image, lengths[1] * z_text, np.array(scale), np.array(bias)


def with_scale_and_bias(n, scale, bias):
    """r -> n pairs of features, with this scale and this bias."""
    return lambda r: (*draw_features(r, n, 4)[:2], np.array(scale), np.array(bias))


def wrong_siglip(sign=1, each=None, mean=lambda loss: loss.sum() / len(loss), score=None, normal=unit):
    """A wrong loss of SigLIP, one of whose parts is another."""

    def wrong(image_features, text_features, logit_scale, logit_bias):
        n = len(image_features)
        cosines = normal(image_features) @ normal(text_features).T
        scores = (score or (lambda c, t, b: np.exp(t) * c + b))(cosines, logit_scale, logit_bias)
        margins = sign * (2 * np.eye(n) - 1) * scores
        return mean((each or (lambda m: np.log1p(np.exp(-m))))(margins))

    return wrong


beyond.layer(
    siglip_loss,
    points=6,
    draw=draw_features,
    traps={
        "one pair": with_scale_and_bias(1, 0.7, -1.0),
        "scores about 1000": with_scale_and_bias(3, np.log(1000.0), -3.0),
        "a bias of −800": with_scale_and_bias(3, 1.0, -800.0),
        "a bias above 0": with_scale_and_bias(4, 1.0, 2.0),
    },
    blind={
        "s = 1": lambda images, texts, logit_scale, bias: (images, texts, np.zeros_like(logit_scale), bias),
        "texts that lie where the pictures do": lambda images, texts, *rest: (images, images.copy(), *rest),
        "features of length 1": lambda images, texts, *rest: (unit(images), unit(texts), *rest),
    },
    mistakes=(
        Mistake("−1", "the signs are the wrong way round: own pairs are pushed apart.", wrong_siglip(sign=-1)),
        Mistake(
            "1/N",
            "it is the mean over all N² pairs: the sum is divided by N, the pictures.",
            wrong_siglip(mean=lambda loss: loss.mean()),
        ),
        Mistake("N", "the sum over the pairs is not divided by N.", wrong_siglip(mean=lambda loss: loss.sum())),
        Mistake(
            "missing term",
            "only the true pairs are in it: all N² pairs are.",
            wrong_siglip(mean=lambda loss: np.diagonal(loss).mean()),
        ),
        Mistake("bias", "the bias is missing from the scores.", wrong_siglip(score=lambda c, t, b: np.exp(t) * c)),
        Mistake("bias", "the bias is subtracted.", wrong_siglip(score=lambda c, t, b: np.exp(t) * c - b)),
        Mistake(
            "bias", "the bias is multiplied by s as well.", wrong_siglip(score=lambda c, t, b: np.exp(t) * (c + b))
        ),
        Mistake(
            "τ",
            "logit_scale is a logarithm: the cosines are multiplied by its exponential.",
            wrong_siglip(score=lambda c, t, b: t * c + b),
        ),
        Mistake("slope", "log(1 + exp(−m)) is due, and not the sigmoid.", wrong_siglip(each=sigmoid)),
        Mistake("projection", "the features are not put on the sphere.", wrong_siglip(normal=lambda x: x)),
    ),
    kinds={
        "bias": "The score of a pair is s · cos + b: one bias for all pairs.",
        "factor": "The score is s · cos + b. Which part of it grows with s, and which has nothing to do with it?",
        "projection": "The loss sees the direction of a feature alone: l2_normalize, there and back.",
        "traps": (
            "exp(1000) is infinite. For which m may you take the exponential of −m, and for which that of m?",
            "log(1 + exp(−m)) = max(−m, 0) + log(1 + exp(−|m|)): whether m is negative decides.",
        ),
        "−1": "y is +1 on the diagonal and −1 elsewhere, and a pair is well where y · score is large.",
    },
    hints=(
        "Four steps: onto the sphere, scores s Z_I Z_Tᵀ + b, the margin y · score, the mean of log(1 + exp(−margin)).",
        "The slope of log(1 + exp(−m)) is −σ(−m): how much the pair is wrong. So G = −y σ(−m) / N.",
        "dZ_I = s G Z_T, dZ_T = s Gᵀ Z_I, d logit_scale = Σ G ∘ s Z_I Z_Tᵀ (without the bias), d logit_bias = Σ G.",
        "For large margins: take np.log1p of exp(−|m|), and add −m where m is negative.",
    ),
)


# ------------------------------------------------------------------------------------------ who is guilty?


def culprits(wrong, uses):
    """Of the names that are wrong, those that use no other wrong one, sorted: they are guilty themselves.

    wrong: list of names; uses {name: list of the names it uses}, where a name that uses nothing may be missing
    """
    return sorted(name for name in wrong if not any(used in wrong for used in uses.get(name, ())))


NAMES = "linear softmax layer_norm relu attend mlp self_attention residual_block transformer whole_model".split()


def draw_library(r, n):
    """A small library in which one to three functions are wrong, and so are all that use them."""
    uses = {
        name: sorted(str(used) for used in r.rng.choice(NAMES[:k], min(k, 2), replace=False))
        for k, name in enumerate(NAMES)
        if k >= 3
    }
    wrong = {str(name) for name in r.rng.choice(NAMES[:7], r.integer(1, 3), replace=False)}
    for name in NAMES:
        if wrong & set(uses.get(name, ())):
            wrong.add(name)
    return [str(name) for name in r.rng.permutation(sorted(wrong))], uses


beyond.function(
    culprits,
    draw=draw_library,
    points=2,
    traps={
        "nothing is wrong": lambda r: ([], {"mlp": ["linear", "relu"]}),
        "one that uses nothing": lambda r: (["relu"], {"mlp": ["linear"]}),
        "a chain": lambda r: (["c", "b", "a"], {"c": ["b"], "b": ["a"]}),
    },
    mistakes=(
        Mistake(
            "all",
            "it names all that are wrong, also those that only use a wrong one.",
            lambda wrong, uses: sorted(wrong),
        ),
        Mistake(
            "other way",
            "it names those that use a wrong one: they may be innocent.",
            lambda wrong, uses: sorted(name for name in wrong if any(used in wrong for used in uses.get(name, ()))),
        ),
        Mistake(
            "other way",
            "it names those that no wrong one uses: these are the largest, and not the smallest.",
            lambda wrong, uses: sorted(
                name for name in wrong if not any(name in uses.get(other, ()) for other in wrong)
            ),
        ),
        Mistake("all", "it names those that use nothing at all.", lambda wrong, uses: sorted(set(wrong) - set(uses))),
        Mistake("order", "the names are not sorted.", lambda wrong, uses: culprits(wrong, uses)[::-1]),
        Mistake(
            "order",
            "the names are not sorted.",
            lambda wrong, uses: [name for name in wrong if name in culprits(wrong, uses)],
        ),
    ),
    kinds={
        "all": "mlp is wrong, and linear in it is wrong. What do you know about the code of mlp itself?",
        "other way": "Whom do you believe to be guilty: the one that uses a wrong function, or the one that is used?",
        "order": "sorted(…) gives the names in the order of the alphabet.",
        "traps": "Where nothing is wrong, nobody is guilty. And a name that uses nothing may be missing from uses.",
    },
    hints=(
        "For each wrong name look at what it uses. If one of these is wrong, the name may be innocent.",
        "A name that is not in uses, uses nothing. A name is guilty where none of those that it uses is in wrong.",
    ),
)
