"""Faults to develop with: cross entropy, hinge and square losses, regularisers, contrastive losses, KL and VAE."""

import numpy as np
from bank_fault import booleans, integers, new_bank, one_hot, positive, scaled, sigmoid, softmax

FAULTS, fault = new_bank()


def mean_nll(p, y):
    return -np.log(p[np.arange(len(y)), y]).mean()


@fault("cross entropy", "scores", "the mean's 1/N forgotten", "N", scores=(11, 6), y=integers(11, 6))
def cross_entropy_not_divided(wrong, scores, y):
    p = softmax(scores)
    return mean_nll(p, y), lambda: ((p - one_hot(y, 6)) / (1 if wrong else 11),)


@fault(
    "cross entropy",
    "scores",
    "p[y] -= 1 takes 1 from whole rows",
    "some indices, missing term",
    scores=(9, 5),
    y=integers(9, 5),
)
def cross_entropy_rows_by_label(wrong, scores, y):
    p = softmax(scores)

    def backward():
        d = p.copy()
        d[y if wrong else (np.arange(9), y)] -= 1
        return (d / 9,)

    return mean_nll(p, y), backward


@fault(
    "cross entropy", "scores", "label smoothing only in the forward", "missing term", scores=(8, 6), y=integers(8, 6)
)
def label_smoothing_forward_only(wrong, scores, y):
    target = 0.8 * one_hot(y, 6) + 0.2 / 6
    p = softmax(scores)
    return -(target * np.log(p)).sum() / 8, lambda: ((p - (one_hot(y, 6) if wrong else target)) / 8,)


@fault(
    "cross entropy",
    "scores",
    "saturated probabilities were clipped in the forward",
    "clip, mask, some indices",
    scores=scaled(4, 12, 3),
    y=booleans((12, 3)),
)
def bce_clipped_probabilities(wrong, scores, y):
    p = sigmoid(scores)
    c = np.clip(p, 0.02, 0.98)
    loss = -np.where(y, np.log(c), np.log(1 - c)).mean()
    return loss, lambda: ((p - y) / p.size * (1 if wrong else c == p),)


@fault(
    "cross entropy",
    "scores",
    "divided by the batch, not by batch and length",
    "factor, N",
    scores=(3, 7, 5),
    y=integers((3, 7), 5),
)
def sequence_loss_divided_by_batch(wrong, scores, y):
    p, target = softmax(scores), one_hot(y, 5)
    loss = -(target * np.log(p)).sum() / 21
    return loss, lambda: ((p - target) / (3 if wrong else 21),)


@fault(
    "hinge",
    "x, w",
    "the right class gets no gradient",
    "missing term, some indices, one-sided",
    x=(9, 6),
    w=(6, 4),
    y=integers(9, 4),
)
def svm_right_class_forgotten(wrong, x, w, y):
    scores, rows = x @ w, np.arange(9)
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    margins[rows, y] = 0

    def backward():
        d = (margins > 0) / 9
        if not wrong:
            d[rows, y] -= d.sum(1)
        return d @ w.T, x.T @ d

    return margins.sum() / 9, backward


@fault(
    "hinge", "w", "the regulariser's derivative 2 reg w for reg w", "regulariser", x=(8, 5), w=(5, 3), y=integers(8, 3)
)
def svm_regulariser_doubled(wrong, x, w, y):
    reg, rows = 0.4, np.arange(8)
    scores = x @ w
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    margins[rows, y] = 0

    def backward():
        d = (margins > 0) / 8
        d[rows, y] -= d.sum(1)
        return d @ w.T, x.T @ d + (2 if wrong else 1) * reg * w

    return margins.sum() / 8 + 0.5 * reg * (w**2).sum(), backward


@fault("square loss", "p, t", "a mean over N D entries, divided by N", "factor, N", p=(7, 5), t=(7, 5))
def mse_divided_by_rows(wrong, p, t):
    d = 2 * (p - t) / (7 if wrong else 35)
    return ((p - t) ** 2).mean(), lambda: (d, -d)


@fault("square loss", "x, w, b", "the 2 kept although the loss has 1/2", "2", x=(12, 4), w=(4, 3), b=(3,))
def half_mse_twice(wrong, x, w, b):
    y = np.sin(np.arange(36)).reshape(12, 3)
    r = x @ w + b - y

    def backward():
        d = (2 if wrong else 1) * r / 12
        return d @ w.T, x.T @ d, d.sum(0)

    return 0.5 * (r**2).sum() / 12, backward


@fault(
    "square loss", "p, t", "huber's linear part not clipped", "clip, slope, some indices", p=scaled(2, 6, 5), t=(6, 5)
)
def huber_unclipped(wrong, p, t):
    d = p - t
    loss = np.where(np.abs(d) < 1, 0.5 * d * d, np.abs(d) - 0.5).mean()
    slope = (d if wrong else np.clip(d, -1, 1)) / 30
    return loss, lambda: (slope, -slope)


@fault("regulariser", "w1", "the first layer's term forgotten", "regulariser", w1=(4, 6), w2=(6, 3))
def l2_of_first_layer_forgotten(wrong, w1, w2):
    x = np.random.default_rng(8).normal(size=(10, 4))
    h = np.tanh(x @ w1)

    def backward():
        dy = h @ w2 / 10
        dz = dy @ w2.T * (1 - h * h)
        return x.T @ dz + (0 if wrong else 0.1 * w1), h.T @ dy + 0.1 * w2

    return 0.5 * ((h @ w2) ** 2).sum() / 10 + 0.05 * ((w1**2).sum() + (w2**2).sum()), backward


@fault("regulariser", "w", "w for the sign of w in an L1 term", "regulariser, slope", x=(9, 5), w=(5, 4))
def l1_with_l2_gradient(wrong, x, w):
    r = x @ w
    loss = 0.5 * (r**2).mean() + 0.3 * np.abs(w).sum()
    return loss, lambda: (r @ w.T / 36, x.T @ r / 36 + 0.3 * (w if wrong else np.sign(w)))


@fault("contrastive", "zi, zt", "only the softmax over rows", "one-sided, missing term", zi=(6, 4), zt=(6, 4))
def clip_rows_only(wrong, zi, zt):
    s, eye = 3.0, np.eye(6)
    p, q = softmax(s * zi @ zt.T), softmax(s * zt @ zi.T)

    def backward():
        g = s * (p - eye + (0 if wrong else q.T - eye)) / 12
        return g @ zt, g.T @ zi

    return -np.log(np.diag(p) * np.diag(q)).sum() / 12, backward


@fault(
    "contrastive", "logit_scale", "the derivative of exp forgotten", "tau, factor", zi=(5, 8), zt=(5, 8), logit_scale=()
)
def logit_scale_without_exp(wrong, zi, zt, logit_scale):
    s = np.exp(logit_scale)
    cosine = zi @ zt.T / 8
    p, q = softmax(s * cosine), softmax(s * cosine.T)

    def backward():
        g = (p + q.T - 2 * np.eye(5)) / 10
        return s * g @ zt / 8, s * g.T @ zi / 8, np.asarray((g * cosine).sum() * (1 if wrong else s))

    return -np.log(np.diag(p) * np.diag(q)).sum() / 10, backward


@fault("contrastive", "a, b", "the unit length's projection forgotten", "projection", a=(6, 5), b=(6, 5))
def clip_embeddings_without_projection(wrong, a, b):
    ra, rb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    za, zb = a / ra, b / rb
    p = softmax(5 * za @ zb.T)

    def project(z, dz):
        return dz if wrong else dz - z * (dz * z).sum(1, keepdims=True)

    def backward():
        g = 5 * (p - np.eye(6)) / 6
        return project(za, g @ zb) / ra, project(zb, g.T @ za) / rb

    return -np.log(np.diag(p)).mean(), backward


@fault("contrastive", "negative", "the negative's sign", "-1", anchor=(8, 4), positive_=(8, 4), negative=(8, 4))
def triplet_negative_sign(wrong, anchor, positive_, negative):
    near, far = anchor - positive_, anchor - negative
    loss = np.maximum(0, (near**2).sum(1) - (far**2).sum(1) + 2)

    def backward():
        active = 2 * (loss > 0)[:, None] / 8
        return active * (near - far), -active * near, active * (-far if wrong else far)

    return loss.mean(), backward


@fault("contrastive", "z", "only as anchors, not as partners", "one-sided", z=(8, 3))
def nt_xent_anchors_only(wrong, z):
    partner = (np.arange(8) + 4) % 8
    p = softmax(np.where(np.eye(8, dtype=bool), -np.inf, z @ z.T))

    def backward():
        g = (p - one_hot(partner, 8)) / 8
        return ((g if wrong else g + g.T) @ z,)

    return -np.log(p[np.arange(8), partner]).mean(), backward


@fault("likelihood", "x", "exp(x - max) not divided by its sum", "missing term, factor", x=(6, 7))
def logsumexp_not_normalised(wrong, x):
    top = x.max(1, keepdims=True)
    e = np.exp(x - top)
    total = e.sum(1, keepdims=True)
    return (np.log(total) + top)[:, 0], lambda dy: (dy[:, None] * e / (1 if wrong else total),)


@fault("likelihood", "logvar", "the 1/2 of exp(logvar / 2) forgotten", "2", mu=(6, 4), logvar=(6, 4))
def reparametrised_twice(wrong, mu, logvar):
    eps = np.random.default_rng(5).normal(size=mu.shape)
    sigma = np.exp(0.5 * logvar)
    return mu + sigma * eps, lambda dz: (dz, dz * eps * sigma * (1 if wrong else 0.5))


@fault("likelihood", "sigma", "log sigma's term forgotten", "missing term", mu=(9,), sigma=positive(9), x=(9,))
def gaussian_nll_without_log(wrong, mu, sigma, x):
    u = (x - mu) / sigma

    def backward():
        return -u / sigma, ((0 if wrong else 1) - u * u) / sigma, u / sigma

    return (0.5 * u**2 + np.log(sigma)).sum(), backward
