"""Wrong ensembles, intervals, ranks, calibrations and probes."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ ensembles


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


@bug("ensemble", "sphere")
def mean_alone(features):
    return features.sum(0) / len(features)


@bug("ensemble", "sphere")
def unit_first(features):
    return unit(features).mean(0)


@bug("ensemble", "wrong axis")
def over_the_names(features):
    return unit(features.mean(1))


@bug("ensemble", "wrong axis")
def one_length_for_all(features):
    mean = features.mean(0)
    return mean / np.linalg.norm(mean)


@bug("ensemble", "wrong axis")
def columns(features):
    mean = features.mean(0)
    return mean / np.linalg.norm(mean, axis=0)


@bug("ensemble", "sqrt")
def no_root(features):
    mean = features.mean(0)
    return mean / (mean * mean).sum(-1, keepdims=True)


@bug("ensemble", "")
def median(features):
    return unit(np.median(features, axis=0))


# ------------------------------------------------------------------------------------------ intervals


@bug("interval", "level")
def both_tails_whole(right, draws, level=0.95):
    means = np.array([right[draw].mean() for draw in draws])
    return np.quantile(means, 1 - level), np.quantile(means, level)


@bug("interval", "level")
def always_95(right, draws, level=0.95):
    means = right[draws].mean(1)
    return np.percentile(means, 2.5), np.percentile(means, 97.5)


@bug("interval", "level")
def all_of_them(right, draws, level=0.95):
    means = right[draws].mean(1)
    return means.min(), means.max()


@bug("interval", "level")
def bell(right, draws, level=0.95):
    means = right[draws].mean(1)
    return means.mean() - 1.96 * means.std(), means.mean() + 1.96 * means.std()


@bug("interval", "one by one")
def answers(right, draws, level=0.95):
    flat = right[draws].ravel()
    return np.quantile(flat, (1 - level) / 2), np.quantile(flat, (1 + level) / 2)


@bug("interval", "wrong axis")
def other_axis(right, draws, level=0.95):
    means = right[draws].mean(axis=0)
    return np.quantile(means, (1 - level) / 2), np.quantile(means, (1 + level) / 2)


@bug("interval", "swapped")
def upside_down(right, draws, level=0.95):
    means = right[draws].mean(1)
    outside = (1 - level) / 2
    return np.quantile(means, 1 - outside), np.quantile(means, outside)


@bug("interval", "")
def draws_forgotten(right, draws, level=0.95):
    p = right.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / len(right))
    return p - half, p + half


@bug("interval", "")
def percent(right, draws, level=0.95):
    means = 100 * right[draws].mean(1)
    return np.quantile(means, (1 - level) / 2), np.quantile(means, (1 + level) / 2)


# ------------------------------------------------------------------------------------------ ranks


@bug("ranks", "ties")
def ties_for_the_model(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + (scores > best).sum(1)


@bug("ranks", "itself")
def right_ones_too(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + (scores >= best - 1e-6).sum(1)


@bug("ranks", "itself")
def itself_for_the_one(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return (scores >= best - 1e-6).sum(1)


@bug("ranks", "one")
def from_zero(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return ((scores >= best - 1e-6) & ~right).sum(1)


@bug("ranks", "best")
def the_first_right_one(scores, right):
    first = scores[np.arange(len(scores)), right.argmax(1)][:, None]
    return 1 + ((scores >= first - 1e-6) & ~right).sum(1)


@bug("ranks", "−1")
def lowest_first(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores <= best + 1e-6) & ~right).sum(1)


@bug("ranks", "")
def no_tie(scores, right):
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    return 1 + ((scores >= best) & ~right).sum(1)


@bug("ranks", "")
def by_sorting(scores, right):
    order = np.argsort(-scores, axis=1)
    return 1 + np.take_along_axis(right, order, 1).argmax(1)


@bug("ranks", "")
def zero_for_wrong(scores, right):
    best = (scores * right).max(1, keepdims=True)
    return 1 + ((scores >= best - 1e-6) & ~right).sum(1)


# ------------------------------------------------------------------------------------------ reliability


def parts_of(order, confidence, right, bins):
    parts = np.array_split(order, bins)
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]) / len(right),
    )


@bug("reliability", "order")
def not_sorted(confidence, right, bins):
    sure, share, weight = parts_of(np.arange(len(right)), confidence, right, bins)
    return sure, share, (weight * abs(sure - share)).sum()


@bug("reliability", "order")
def surest_first(confidence, right, bins):
    sure, share, weight = parts_of(np.argsort(confidence)[::-1], confidence, right, bins)
    return sure, share, (weight * abs(sure - share)).sum()


@bug("reliability", "gap")
def parts_alike(confidence, right, bins):
    sure, share, _ = parts_of(np.argsort(confidence, kind="stable"), confidence, right, bins)
    return sure, share, np.mean(abs(sure - share))


@bug("reliability", "gap")
def signed(confidence, right, bins):
    sure, share, weight = parts_of(np.argsort(confidence, kind="stable"), confidence, right, bins)
    return sure, share, (weight * (sure - share)).sum()


@bug("reliability", "gap")
def squares(confidence, right, bins):
    sure, share, weight = parts_of(np.argsort(confidence, kind="stable"), confidence, right, bins)
    return sure, share, (weight * (sure - share) ** 2).sum()


@bug("reliability", "swapped")
def share_first(confidence, right, bins):
    sure, share, weight = parts_of(np.argsort(confidence, kind="stable"), confidence, right, bins)
    return share, sure, (weight * abs(sure - share)).sum()


@bug("reliability", "")
def each_answer_alone(confidence, right, bins):
    sure, share, _ = parts_of(np.argsort(confidence, kind="stable"), confidence, right, bins)
    return sure, share, abs(confidence - right).mean()


# ------------------------------------------------------------------------------------------ the probe


def parts(w, x, y):
    weight, bias = w[:, :-1], w[:, -1]
    z = x @ weight.T + bias
    z = z - z.max(1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(1, keepdims=True)
    return weight, p, np.eye(len(w))[y]


def put_together(dz, x, weight, l2):
    return np.hstack([dz.T @ x + l2 * weight, dz.sum(0)[:, None]])


@bug("probe_loss", "regulariser")
def decay_forgotten_in_the_gradient(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, 0)


@bug("probe_loss", "regulariser")
def bias_decays(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (w**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, 0) + l2 * w


@bug("probe_loss", "2")
def half_forgotten(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 * (weight**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, l2)


@bug("probe_loss", "2")
def slope_of_the_square(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, 2 * l2)


@bug("probe_loss", "N")
def not_over_n(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together(p - true, x, weight, l2)


@bug("probe_loss", "N")
def sums(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).sum() + l2 / 2 * (weight**2).sum()
    return loss, put_together(p - true, x, weight, l2)


@bug("probe_loss", "1/N")
def bias_averaged(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    dz = (p - true) / len(x)
    return loss, np.hstack([dz.T @ x + l2 * weight, dz.mean(0)[:, None]])


@bug("probe_loss", "missing term")
def truth_forgotten(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together(p / len(x), x, weight, l2)


@bug("probe_loss", "−1")
def uphill(w, x, y, l2):
    weight, p, true = parts(w, x, y)
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together((true - p) / len(x), x, weight, l2)


@bug("probe_loss", "")
def overflow(w, x, y, l2):
    weight, bias = w[:, :-1], w[:, -1]
    z = np.exp(x @ weight.T + bias)
    p, true = z / z.sum(1, keepdims=True), np.eye(len(w))[y]
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, l2)


@bug("probe_loss", "")
def softmax_of_the_columns(w, x, y, l2):
    weight, bias = w[:, :-1], w[:, -1]
    z = np.exp(x @ weight.T + bias)
    p, true = z / z.sum(0), np.eye(len(w))[y]
    loss = -np.log((p * true).sum(1)).mean() + l2 / 2 * (weight**2).sum()
    return loss, put_together((p - true) / len(x), x, weight, l2)
