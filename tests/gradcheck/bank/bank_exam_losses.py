"""Faults to examine with: cross entropy, hinge and square losses, regularisers, contrastive losses, KL and VAE."""

import numpy as np
from bank_fault import booleans, integers, new_bank, one_hot, positive, sigmoid, softmax

FAULTS, fault = new_bank()


@fault(
    "cross entropy", "scores", "a summed loss, but its gradient divided by N", "1/N", scores=(7, 9), y=integers(7, 9)
)
def cross_entropy_sum_divided(wrong, scores, y):
    p = softmax(scores)
    loss = -np.log(p[np.arange(7), y]).sum()
    return loss, lambda: ((p - one_hot(y, 9)) / (7 if wrong else 1),)


@fault(
    "cross entropy",
    "scores",
    "ignored rows get a gradient",
    "mask, some indices",
    scores=(9, 5),
    y=integers(9, 5),
    keep=booleans(9),
)
def cross_entropy_ignored_rows(wrong, scores, y, keep):
    p = softmax(scores)
    count = keep.sum()
    loss = -(np.log(p[np.arange(9), y]) * keep).sum() / count
    return loss, lambda: ((p - one_hot(y, 5)) * (1 if wrong else keep[:, None]) / count,)


@fault(
    "cross entropy", "z", "the sigmoid's slope multiplied in once more", "slope", z=(10, 3), y=booleans((10, 3), 0.5)
)
def bce_slope_once_more(wrong, z, y):
    p = sigmoid(z)
    loss = np.mean(np.log1p(np.exp(z)) - y * z)
    return loss, lambda: ((p - y) * (p * (1 - p) if wrong else 1) / 30,)


@fault(
    "cross entropy",
    "x, w",
    "the 1 of the true class never subtracted",
    "missing term, some indices, centring",
    x=(9, 4),
    w=(4, 6),
    y=integers(9, 6),
)
def cross_entropy_one_not_subtracted(wrong, x, w, y):
    p = softmax(x @ w)
    d = (p - (0 if wrong else one_hot(y, 6))) / 9
    return -np.log(p[np.arange(9), y]).mean(), lambda: (d @ w.T, x.T @ d)


@fault(
    "hinge",
    "scores",
    "the true class counts its own margin too",
    "some indices, mask, factor",
    scores=(10, 5),
    y=integers(10, 5),
)
def svm_own_margin_counted(wrong, scores, y):
    rows = np.arange(10)
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    active = (margins > 0).astype(float)
    margins[rows, y] = 0

    def backward():
        d = active.copy()
        if not wrong:
            d[rows, y] = 0
        d[rows, y] = -d.sum(1)
        return (d / 10,)

    return margins.sum() / 10, backward


@fault("hinge", "w", "the regulariser only in the forward", "regulariser", w=(4, 7), x=(7, 9), y=integers(9, 4))
def svm_regulariser_forgotten(wrong, w, x, y):
    scores, columns = w @ x, np.arange(9)
    margins = np.maximum(0, scores - scores[y, columns] + 1)
    margins[y, columns] = 0

    def backward():
        d = (margins > 0) * 1.0
        d[y, columns] = -d.sum(0)
        return d @ x.T / 9 + (0 if wrong else 2 * 0.7 * w), w.T @ d / 9

    return margins.sum() / 9 + 0.7 * (w * w).sum(), backward


@fault("square loss", "p, t", "the 2 forgotten", "1/2", p=(6, 7), t=(6, 7))
def mse_half(wrong, p, t):
    d = (1 if wrong else 2) * (p - t) / p.size
    return np.mean((p - t) ** 2), lambda: (d, -d)


@fault("square loss", "t", "the target's sign", "-1", p=(9,), t=(9,))
def mse_target_sign(wrong, p, t):
    d = 2 * (p - t) / 9
    return ((p - t) ** 2).mean(), lambda: (d, d if wrong else -d)


@fault(
    "square loss", "p, t", "1 / beta forgotten in the quadratic part", "factor, some indices, slope", p=(8, 4), t=(8, 4)
)
def smooth_l1_beta(wrong, p, t):
    beta, d = 0.5, p - t
    small = np.abs(d) < beta
    loss = np.where(small, 0.5 * d * d / beta, np.abs(d) - 0.5 * beta).sum()
    slope = np.where(small, d / (1 if wrong else beta), np.sign(d))
    return loss, lambda: (slope, -slope)


@fault("regulariser", "w1, w2", "lambda for lambda / m", "regulariser", w1=(3, 5), w2=(5, 2))
def l2_not_divided_by_batch(wrong, w1, w2):
    m, lam = 8, 0.6
    x = np.random.default_rng(4).normal(size=(m, 3))
    h = np.maximum(0, x @ w1)
    y = h @ w2

    def backward():
        decay = lam / (1 if wrong else m)
        dh = y / m @ w2.T * (h > 0)
        return x.T @ dh + decay * w1, h.T @ y / m + decay * w2

    return (y * y).sum() / 2 / m + lam / 2 / m * (np.sum(w1**2) + np.sum(w2**2)), backward


@fault("regulariser", "w", "the regulariser subtracted, not added", "regulariser", x=(10, 4), w=(4, 3), b=(3,))
def weight_decay_sign(wrong, x, w, b):
    r = np.sin(x @ w + b)

    def backward():
        dz = r * np.cos(x @ w + b) / 10
        return dz @ w.T, x.T @ dz + (-1 if wrong else 1) * 0.3 * w, dz.sum(0)

    return 0.5 * (r * r).sum() / 10 + 0.15 * (w * w).sum(), backward


@fault(
    "contrastive",
    "zt",
    "only the softmax over the texts: nothing of the other direction",
    "one-sided, missing term",
    zi=(5, 6),
    zt=(5, 6),
)
def clip_text_one_direction(wrong, zi, zt):
    s = np.exp(0.7)
    logits = s * zi @ zt.T
    p, q = softmax(logits, 1), softmax(logits, 0)

    def backward():
        g = s * (p + q - 2 * np.eye(5)) / 10
        return g @ zt, (s * (p - np.eye(5)) / 10 if wrong else g).T @ zi

    return -(np.log(np.diag(p)).mean() + np.log(np.diag(q)).mean()) / 2, backward


@fault("contrastive", "tau", "the sign of 1 / tau's derivative", "-1, tau", a=(6, 4), b=(6, 4), tau=positive())
def info_nce_tau_sign(wrong, a, b, tau):
    s = a @ b.T
    p = softmax(s / tau)

    def backward():
        g = (p - np.eye(6)) / 6
        return g @ b / tau, g.T @ a / tau, np.asarray((1 if wrong else -1) * (g * s).sum() / tau**2)

    return -np.log(np.diag(p)).mean(), backward


@fault("contrastive", "zi, zt", "the mean of both directions not halved", "2", zi=(7, 3), zt=(7, 3))
def clip_directions_not_halved(wrong, zi, zt):
    p, q = softmax(2 * zi @ zt.T), softmax(2 * zt @ zi.T)

    def backward():
        g = (p + q.T - 2 * np.eye(7)) / (7 if wrong else 14)
        return 2 * g @ zt, 2 * g.T @ zi

    return -(np.log(np.diag(p)) + np.log(np.diag(q))).mean() / 2, backward


@fault("contrastive", "a, b", "projected onto the raw embedding, not the unit one", "projection", a=(6, 4), b=(6, 4))
def cosine_projected_on_raw(wrong, a, b):
    def unit(v):
        return v / np.sqrt((v * v).sum(1, keepdims=True))

    za, zb = unit(a), unit(b)
    p = softmax(4 * za @ zb.T)

    def back(v, z, dz):
        second = v if wrong else z
        return (dz - second * (dz * second).sum(1, keepdims=True)) / np.sqrt((v * v).sum(1, keepdims=True))

    def backward():
        g = 4 * (p - np.eye(6)) / 6
        return back(a, za, g @ zb), back(b, zb, g.T @ za)

    return -np.log(np.diag(p)).mean(), backward


@fault(
    "contrastive",
    "anchor, near, far",
    "satisfied triplets pull as well",
    "mask, some indices",
    anchor=(9, 3),
    near=(9, 3),
    far=(9, 3),
)
def triplet_without_mask(wrong, anchor, near, far):
    def distance(u):
        return np.sqrt((u * u).sum(1, keepdims=True))

    u, v = anchor - near, anchor - far
    loss = np.maximum(0, distance(u) - distance(v) + 0.2)

    def backward():
        active = 1 if wrong else loss > 0
        du, dv = active * u / distance(u), active * v / distance(v)
        return du - dv, -du, dv

    return loss.sum(), backward


@fault("likelihood", "x", "1 / tau left over: tau log sum exp(x / tau)", "tau", x=(5, 6))
def soft_maximum_temperature(wrong, x):
    tau = 0.25
    y = tau * np.log(np.exp(x / tau).sum(1))
    return y, lambda dy: (dy[:, None] * softmax(x / tau) / (tau if wrong else 1),)


@fault("likelihood", "logvar", "the 1/2 of the KL forgotten", "2", mu=(5, 3), logvar=(5, 3))
def gaussian_kl_doubled(wrong, mu, logvar):
    kl = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)
    return kl.sum(), lambda: (mu, (1 if wrong else 0.5) * (np.exp(logvar) - 1))
