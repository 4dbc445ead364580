"""Notebook 8, CLIP's loss of embeddings and of features: the temperature, and the sphere."""

import numpy as np

from ... import loss
from ...training import tiled_clip_loss, tiled_contrastive_loss
from ..exercise import Mistake
from .formulas import unit
from .n08_heart import halves, heart

# ------------------------------------------------------------------------------------------ the temperature


# Where all pairs are told apart, P − I is a difference of equal numbers, and no gradient is known to many digits. So at
# all points some are not: by a moderate temperature, or by texts that lie nearest to another picture.


def scale(r):
    """A moderate logit_scale ()."""
    return np.array(r.rng.uniform(0.3, 1.4))


def strangers(r, n, e):
    """Unit rows of pictures, and of texts each of which is near the picture of the one before it."""
    z = r.unit(n, e)
    return z, unit(np.roll(z, 1, 0) + 0.3 * r.normal(n, e))


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
        "missing term": "dS/d logit_scale = S: each entry of G is multiplied by that of S, before the sum.",
        "never accumulated": "The temperature is learned, too. How does each entry of S change with logit_scale?",
        "1/N": "The mean over the pairs is in G already. All entries of G ∘ S are added up.",
        "−1": "logit_scale is ln 1/τ, and not τ: where it grows, s grows.",
        "unknown": "What pulls at a picture are texts. So with which of the two is G multiplied for dZ_I?",
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
    """The same arguments, with features (N, E) of length 1."""
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
