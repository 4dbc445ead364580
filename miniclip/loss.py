"""The contrastive loss: the similarity matrix, the temperature, and their gradients.

N images and N texts, row i of one belonging to row i of the other. On the unit sphere,

    S = s · Z_I Z_Tᵀ          s = exp(logit_scale) = 1/τ                     (N, N)
    P = softmax of S over each row       which text belongs to image i?
    Q = softmax of S over each column    which image belongs to text j?
    L = −Σᵢ (log Pᵢᵢ + log Qᵢᵢ) / 2N

(Radford et al. 2021, figure 3). The gradient of the softmax cross-entropy is the probability less
the truth, so with I the identity

    G = ∂L/∂S = (P + Q − 2I) / 2N
    dZ_I = s G Z_T        dZ_T = s Gᵀ Z_I        d logit_scale = Σ G∘S

ΣG = 0 always: what the loss pulls together it takes from what it pushes apart.

A text may be true of several images: "something to drink". The truth of a row or a column is then spread evenly over
its true entries: with X and Y the shares of the rows and of the columns, each row of X and each column of Y summing
to 1,

    L = −Σᵢⱼ (Xᵢⱼ log Pᵢⱼ + Yᵢⱼ log Qᵢⱼ) / 2N        G = (P + Q − X − Y) / 2N

of which the loss above is the case X = Y = I.
"""

import numpy as np

from .backend import array_module, dispatch
from .checks import takes
from .layers import l2_normalize, softmax


@takes("image_features (N, E), text_features (N, E), logit_scale ()")
def clip_loss(image_features, text_features, logit_scale, positives=None):
    """CLIP's loss of a batch, from the encoders' features.

    Features of any length, normalised here, row i of one belonging to row i of the other; logit_scale: ln 1/τ;
    positives: the true entries of S where they are not the diagonal alone (see `true_entries`).
    Returns loss () and backward; backward() -> (d_image (N, E), d_text (N, E), d_logit_scale ()).
    """
    return from_features(contrastive_loss, image_features, text_features, logit_scale, positives)


@takes("z_image (N, E), z_text (N, E), logit_scale ()")
def contrastive_loss(z_image, z_text, logit_scale, positives=None):
    """The same loss from embeddings (N, E) already on the unit sphere; backward as `clip_loss`."""
    scale = array_module(z_image).exp(logit_scale)
    similarity = scale * (z_image @ z_text.T)
    loss, softmax_cross_entropy = symmetric_cross_entropy(similarity, positives)

    def backward():
        g = softmax_cross_entropy()
        return scale * (g @ z_text), scale * (g.T @ z_image), (g * similarity).sum()

    return loss, backward


@takes("similarity (N, N)")
@dispatch
def symmetric_cross_entropy(similarity, positives=None):
    """L of a matrix S (N, N) of which some entries are true; backward() -> G = ∂L/∂S (N, N).

    positives: as `true_entries` takes them. Exact at any scale: each row and column is shifted by its largest value
    before the exponential.
    """
    xp = array_module(similarity)
    n = len(similarity)
    rows, columns, x, y = true_entries(n, positives, similarity)
    loss = 0
    for axis, share in ((1, x), (0, y)):
        shifted = similarity - similarity.real.max(axis, keepdims=True)
        true = (share * shifted[rows, columns]).sum()
        loss = loss + (xp.log(xp.exp(shifted).sum(axis)).sum() - true) / (2 * n)

    def backward():
        g = softmax(similarity, 1)[0] + softmax(similarity, 0)[0]
        g[rows, columns] -= x + y
        g /= 2 * n
        return g

    return loss, backward


def true_entries(n, positives, like):
    """Where S (N, N) is true, and what share each entry has in its row and in its column.

    positives: (rows, columns), two integer arrays (M,) on the host that name each true entry once, at least one in
    every row and column; None for the diagonal. like: an array in whose library and dtype the answer is.
    Returns rows, columns, x, y, each (M,), by row. Raises ValueError for positives that are no such arrays.
    """
    xp, dtype = array_module(like), like.real.dtype
    if positives is None:
        rows = columns = np.arange(n)
    else:
        axes = [np.asarray(axis) for axis in positives]
        pairs = len(axes) == 2 and axes[0].shape == axes[1].shape and axes[0].ndim == 1
        if not pairs or any(axis.dtype.kind not in "iu" or set(axis.tolist()) != set(range(n)) for axis in axes):
            raise ValueError(
                f"positives must be two arrays of as many integers, rows and columns, each with all from 0 to {n - 1}."
            )
        rows, columns = np.unique(axes, axis=1)
    x, y = (1 / np.bincount(axis, minlength=n)[axis] for axis in (rows, columns))
    return xp.asarray(rows), xp.asarray(columns), xp.asarray(x, dtype), xp.asarray(y, dtype)


@takes("image_features (N, E), text_features (N, E), logit_scale (), logit_bias ()")
def siglip_loss(image_features, text_features, logit_scale, logit_bias):
    """The sigmoid loss of SigLIP (Zhai et al. 2023, equation 1): each pair is judged alone.

        L = Σᵢⱼ log(1 + exp(−yᵢⱼ (s Z_I Z_Tᵀ + b)ᵢⱼ)) / N        y = +1 on the diagonal, −1 elsewhere

    Arguments as in `clip_loss`, and a bias. backward() -> (d_image, d_text, d_logit_scale, d_logit_bias).
    """
    z_image, z_text, to_features = unit_pairs(image_features, text_features)
    xp = array_module(z_image)
    n = len(z_image)
    scale = xp.exp(logit_scale)
    similarity = scale * (z_image @ z_text.T)
    sign = 2 * xp.eye(n, dtype=z_image.real.dtype) - 1
    margin = sign * (similarity + logit_bias)
    # log(1 + e^−m) = max(−m, 0) + log(1 + e^−|m|), which overflows at neither end
    flip = xp.where(margin.real < 0, -1, 1).astype(sign.dtype)
    decay = xp.exp(-flip * margin)
    loss = ((flip < 0) * -margin + xp.log1p(decay)).sum() / n

    def backward():
        wrong = xp.where(flip > 0, decay, 1) / (1 + decay)  # σ(−m)
        g = -sign * wrong / n
        d_image, d_text = to_features(scale * (g @ z_text), scale * (g.T @ z_image))
        return d_image, d_text, (g * similarity).sum(), g.sum()

    return loss, backward


def from_features(loss_on_sphere, image_features, text_features, *more):
    """A loss of embeddings on the unit sphere, taken of features of any length, and its way back to these.

    loss_on_sphere(z_image, z_text, *more) -> loss and a backward like that of `contrastive_loss`.
    """
    z_image, z_text, to_features = unit_pairs(image_features, text_features)
    loss, backward_to_sphere = loss_on_sphere(z_image, z_text, *more)

    def backward():
        d_image, d_text, d_logit_scale = backward_to_sphere()
        return *to_features(d_image, d_text), d_logit_scale

    return loss, backward


def unit_pairs(image_features, text_features):
    """Features (N, E) of both kinds, put on the unit sphere, and what takes the embeddings' gradients back to them.

    Raises ValueError when the shapes do not pair up.
    """
    if image_features.ndim != 2 or image_features.shape != text_features.shape:
        raise ValueError(
            f"image features {image_features.shape} and text features {text_features.shape} "
            "do not pair up: both must be (N, E), row i of one belonging to row i of the other."
        )
    z_image, image_norm = l2_normalize(image_features)
    z_text, text_norm = l2_normalize(text_features)
    return z_image, z_text, lambda d_image, d_text: (image_norm(d_image), text_norm(d_text))
