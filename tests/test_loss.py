"""The contrastive loss: against its formula, its gradients, and at extreme temperatures."""

import math

import numpy as np
import pytest

from miniclip.layers import softmax
from miniclip.loss import clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def clip_loss_by_loops(image_features, text_features, logit_scale):
    """Figure 3 of the paper, one logarithm at a time."""
    zi, zt, n = unit(image_features), unit(text_features), len(image_features)
    s = [[math.exp(logit_scale) * float(zi[i] @ zt[j]) for j in range(n)] for i in range(n)]
    loss = 0
    for i in range(n):
        loss -= s[i][i] - math.log(sum(math.exp(s[i][j]) for j in range(n)))
        loss -= s[i][i] - math.log(sum(math.exp(s[j][i]) for j in range(n)))
    return loss / (2 * n)


def siglip_loss_by_loops(image_features, text_features, logit_scale, logit_bias):
    zi, zt, n = unit(image_features), unit(text_features), len(image_features)
    loss = 0
    for i, j in np.ndindex(n, n):
        logit = math.exp(logit_scale) * float(zi[i] @ zt[j]) + logit_bias
        loss += math.log(1 + math.exp(-logit if i == j else logit))
    return loss / n


@pytest.mark.parametrize("n, e", [(1, 3), (2, 3), (5, 4), (16, 8)])
@pytest.mark.parametrize("logit_scale", [0.0, 1.3, math.log(100)])
def test_clip_loss_is_two_cross_entropies(prove, normal, n, e, logit_scale):
    image, text = normal(n, e) * 3, normal(n, e)
    loss, _ = clip_loss(image, text, np.array(logit_scale))
    assert np.shape(loss) == ()
    assert float(loss) == pytest.approx(clip_loss_by_loops(image, text, logit_scale), rel=1e-13, abs=1e-14)
    prove(clip_loss, image, text, np.array(logit_scale))


def test_contrastive_loss_gradient(prove, normal):
    prove(contrastive_loss, unit(normal(5, 4)), unit(normal(5, 4)), np.array(1.3))
    prove(symmetric_cross_entropy, normal(5, 5) * 3)


def test_the_gradient_is_as_the_paper_page_says(normal):
    """G = (P + Q − 2I) / 2N, dZ_I = s G Z_T, dZ_T = s Gᵀ Z_I, d logit_scale = Σ G∘S, and ΣG = 0."""
    n, logit_scale = 6, np.array(1.7)
    zi, zt = unit(normal(n, 4)), unit(normal(n, 4))
    s = np.exp(logit_scale)
    similarity = s * zi @ zt.T
    p, q = softmax(similarity, 1)[0], softmax(similarity, 0)[0]
    g = (p + q - 2 * np.eye(n)) / (2 * n)
    assert np.allclose(symmetric_cross_entropy(similarity)[1](), g, rtol=1e-14, atol=1e-16)
    assert abs(g.sum()) < 1e-15

    d_image, d_text, d_logit_scale = contrastive_loss(zi, zt, logit_scale)[1]()
    assert np.allclose(d_image, s * g @ zt) and np.allclose(d_text, s * g.T @ zi)
    assert d_logit_scale == pytest.approx((g * similarity).sum())


@pytest.mark.parametrize("scale", [0, 1, 100, 1e8, 1e300])
def test_the_sum_of_g_is_zero_at_any_scale(normal, scale):
    g = symmetric_cross_entropy(normal(7, 7) * scale)[1]()
    assert abs(g.sum()) < 1e-14


def test_equal_features_cost_ln_n(normal):
    """Where nothing is learned: every name is as likely as every other."""
    features = np.repeat(normal(1, 4), 8, 0)
    loss, backward = clip_loss(features, features, np.array(2.0))
    assert float(loss) == pytest.approx(math.log(8), rel=1e-14)
    d_image, d_text, d_logit_scale = backward()
    assert np.abs(d_image).max() < 1e-14 and np.abs(d_text).max() < 1e-14 and abs(d_logit_scale) < 1e-13


def test_one_pair_teaches_nothing(normal):
    loss, backward = clip_loss(normal(1, 4), normal(1, 4), np.array(2.0))
    assert loss == 0
    assert all((d == 0).all() for d in backward())


def test_pairs_that_are_told_apart_cost_nothing():
    loss, backward = clip_loss(np.eye(6), np.eye(6), np.array(math.log(100)))
    assert 0 <= loss < 1e-40
    assert np.abs(backward()[0]).max() < 1e-40


def test_length_and_order_do_not_matter(normal, rng):
    image, text, logit_scale = normal(6, 4), normal(6, 4), np.array(1.0)
    loss, backward = clip_loss(image, text, logit_scale)
    assert clip_loss(image * 7, text * 0.01, logit_scale)[0] == pytest.approx(loss)
    order = rng.permutation(6)
    assert clip_loss(image[order], text[order], logit_scale)[0] == pytest.approx(loss)
    assert clip_loss(text, image, logit_scale)[0] == pytest.approx(loss)
    d_image, d_text, _ = backward()
    assert np.allclose((d_image * image).sum(1), 0, atol=1e-15)  # so nothing pulls at the length
    assert np.allclose((d_text * text).sum(1), 0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("logit_scale", [-50, 0, math.log(100), 50, 85])
def test_losses_stay_finite_at_any_scale(normal, dtype, logit_scale):
    image, text = normal(5, 4).astype(dtype), normal(5, 4).astype(dtype)
    scale = np.array(logit_scale, dtype)
    for loss, backward in (clip_loss(image, text, scale), siglip_loss(image, text, scale, np.array(-10, dtype))):
        assert np.isfinite(loss) and loss >= 0
        assert all(np.isfinite(d).all() for d in backward())
        assert all(d.dtype == dtype for d in backward())


def test_a_loss_at_a_huge_scale_is_the_margin(normal):
    """At s → ∞ the logarithm of the sum is its largest term: L is s times the mean margin."""
    zi, zt, s = unit(normal(5, 4)), unit(normal(5, 4)), math.exp(50)
    cos = zi @ zt.T
    margin = (cos.max(1) + cos.max(0) - 2 * cos.diagonal()).sum() / 10
    assert float(clip_loss(zi, zt, np.array(50.0))[0]) == pytest.approx(s * margin, rel=1e-12)


@pytest.mark.parametrize("n, e", [(1, 3), (5, 4), (9, 8)])
@pytest.mark.parametrize("logit_scale, logit_bias", [(0.0, 0.0), (math.log(10), -10.0), (2.0, 5.0)])
def test_siglip_loss(prove, normal, n, e, logit_scale, logit_bias):
    image, text = normal(n, e), normal(n, e)
    loss, _ = siglip_loss(image, text, np.array(logit_scale), np.array(logit_bias))
    assert float(loss) == pytest.approx(siglip_loss_by_loops(image, text, logit_scale, logit_bias), rel=1e-13)
    prove(siglip_loss, image, text, np.array(logit_scale), np.array(logit_bias))


@pytest.mark.parametrize("loss, extra", [(clip_loss, ()), (siglip_loss, (np.array(0.0),))])
def test_features_that_do_not_pair_up(normal, loss, extra):
    image, scale = normal(3, 4), np.array(1.0)
    for text, said in (
        (normal(2, 4), r"text_features has shape \(2, 4\), but image_features is \(3, 4\): it must be \(3, 4\)"),
        (normal(3, 5), r"text_features has shape \(3, 5\), but image_features is \(3, 4\)"),
        (normal(4), r"text_features is an array of float64 with shape \(4,\); it must be an array \(N, E\)"),
        ((255 * image).astype(np.uint8), "text_features is an array of uint8"),
    ):
        with pytest.raises(ValueError, match=f"^{loss.__name__}: {said}"):
            loss(image, text, scale, *extra)
    with pytest.raises(ValueError, match=r"logit_scale is an array .*shape \(5,\); it must be a finite number"):
        loss(image, image, normal(5), *extra)
    assert loss(image, image, 1, *extra)[0] == loss(image, image, scale, *extra)[0]
