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
"""

from .backend import array_module, dispatch
from .layers import l2_normalize, softmax


def clip_loss(image_features, text_features, logit_scale):
    """CLIP's loss of a batch, from the encoders' features.

    image_features (N, E), text_features (N, E): any length, normalised here; logit_scale (): ln 1/τ.
    Returns loss () and backward; backward() -> (d_image (N, E), d_text (N, E), d_logit_scale ()).
    Raises ValueError when the shapes do not pair up.
    """
    z_image, z_text, to_features = unit_pairs(image_features, text_features)
    loss, contrastive = contrastive_loss(z_image, z_text, logit_scale)

    def backward():
        d_image, d_text, d_logit_scale = contrastive()
        return *to_features(d_image, d_text), d_logit_scale

    return loss, backward


def contrastive_loss(z_image, z_text, logit_scale):
    """The same loss from embeddings (N, E) already on the unit sphere; backward as `clip_loss`."""
    scale = array_module(z_image).exp(logit_scale)
    similarity = scale * (z_image @ z_text.T)
    loss, softmax_cross_entropy = symmetric_cross_entropy(similarity)

    def backward():
        g = softmax_cross_entropy()
        return scale * (g @ z_text), scale * (g.T @ z_image), (g * similarity).sum()

    return loss, backward


@dispatch
def symmetric_cross_entropy(similarity):
    """L of a matrix S (N, N) whose diagonal holds the true pairs; backward() -> G = ∂L/∂S (N, N).

    Exact at any scale: each row and column is shifted by its largest value before the exponential.
    """
    xp = array_module(similarity)
    n = len(similarity)
    true = xp.arange(n)
    loss = 0
    for axis in (1, 0):
        shifted = similarity - similarity.real.max(axis, keepdims=True)
        loss = loss + (xp.log(xp.exp(shifted).sum(axis)) - shifted[true, true]).sum() / (2 * n)

    def backward():
        g = softmax(similarity, 1)[0] + softmax(similarity, 0)[0]
        g[true, true] -= 2
        g /= 2 * n
        return g

    return loss, backward


def siglip_loss(image_features, text_features, logit_scale, logit_bias):
    """The sigmoid loss of SigLIP (Zhai et al. 2023, equation 1): each pair is judged alone.

        L = Σᵢⱼ log(1 + exp(−yᵢⱼ (s Z_I Z_Tᵀ + b)ᵢⱼ)) / N        y = +1 on the diagonal, −1 elsewhere

    Shapes as in `clip_loss`, logit_bias (). backward() -> (d_image, d_text, d_logit_scale, d_logit_bias).
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
