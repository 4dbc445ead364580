"""The linear probe: how well a straight line through frozen features separates the classes.

Multinomial logistic regression, trained to convergence. With z = X Wᵀ + b,

    L = mean(−ln softmax(z)[label]) + l2/2 ΣW²
    dz = (softmax(z) − one-hot) / N        dW = dzᵀ X + l2 W        db = Σ dz

L is convex, so L-BFGS from zero finds its one minimum.
Source: CLIP paper, section 3.2 and appendix A.3.
"""

import warnings

import numpy as np

from ..backend import array_module
from ..checks import finite, takes


@takes("features_train (N, E) real, features_test (M, E) real")
def linear_probe(features_train, labels_train, features_test, labels_test, l2=1e-4):
    """Accuracy of logistic regression on frozen features, trained to convergence in float64.

    Labels are integers (N,); a test label that training lacks is a miss. scikit-learn's C is 1 / (l2 N).
    l2 may be a list: every fifth training example is then set aside, the value that does best on
    those is chosen, and the probe is trained again on all. Deterministic.
    -> {"accuracy", "weight" (K, E), "bias" (K,), "classes" (K,), "l2", "loss", "iterations"}
    Raises ValueError for NaN, shapes that do not fit, fewer than two classes, l2 that is not positive.
    """
    xp = array_module(features_train)
    x, x_test = finite(features_train, "features_train"), finite(features_test, "features_test")
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    if max(float(abs(x).max()), float(abs(x_test).max())) > 1e100:
        raise ValueError("The features have numbers beyond 1e100: divide them by their largest.")
    labels, labels_test = integers(labels_train, x, "labels_train"), integers(labels_test, x_test, "labels_test")
    classes, y = xp.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("A linear probe needs training labels of at least two classes.")
    values = np.array(l2 if isinstance(l2, (list, tuple, np.ndarray)) else [l2], object).ravel()
    if not values.size or not all(isinstance(v, (int, float, np.number)) and 0 < v < np.inf for v in values):
        raise ValueError(f"l2 must be positive, not {l2!r:.80}.")

    start = xp.zeros((len(classes), x.shape[1] + 1))  # [W b]
    fit = lambda x, y, l2: lbfgs(lambda w: probe_loss(w, x, y, l2), start)
    accuracy = lambda w, x, labels: float((classes[(x @ w[:, :-1].T + w[:, -1]).argmax(1)] == labels).mean())

    if len(values) > 1:
        held = xp.asarray(np.random.default_rng(0).permutation(len(x)) % 5 == 0)
        scores = [accuracy(fit(x[~held], y[~held], l2)[0], x[held], labels[held]) for l2 in values]
        values = values[[int(np.argmax(scores))]]
    w, loss, iterations = fit(x, y, values[0])
    result = {"accuracy": accuracy(w, x_test, labels_test), "weight": w[:, :-1], "bias": w[:, -1], "classes": classes}
    return result | {"l2": float(values[0]), "loss": loss, "iterations": iterations}


def probe_loss(w, x, y, l2):
    """L and its gradient (K, E+1) at w = [W b], for features x (N, E) and classes y (N,) in 0..K-1."""
    xp = array_module(x)
    rows = xp.arange(len(x))
    z = x @ w[:, :-1].T + w[:, -1]
    z = z - z.max(1, keepdims=True)
    p = xp.exp(z)
    total = p.sum(1, keepdims=True)
    loss = (xp.log(total[:, 0]) - z[rows, y]).mean() + l2 / 2 * (w[:, :-1] * w[:, :-1]).sum()
    dz = p / (total * len(x))
    dz[rows, y] -= 1 / len(x)
    return float(loss), xp.concatenate([dz.T @ x + l2 * w[:, :-1], dz.sum(0)[:, None]], 1)


def lbfgs(f, x, tolerance=1e-5, limit=1000, memory=10):
    """Minimise a smooth convex f(x) -> (value, gradient). Returns x, its value, and the steps taken.

    Stops when the largest entry of the gradient is `tolerance` of what it was at the start, or when
    rounding hides any further descent; warns when `limit` comes first. The direction is the two-loop
    recursion (Nocedal & Wright, algorithm 7.4), the step is halved until f falls enough.
    """
    value, g = f(x)
    enough = tolerance * float(abs(g).max())
    pairs = []  # (Δx, Δgradient, their product), oldest first
    steps = 0
    while not float(abs(g).max()) <= enough:  # with NaN, too, it ends in the warning
        if steps == limit:
            left = f"The probe's gradient is still {float(abs(g).max()) / enough * tolerance:.0e} of its start"
            warnings.warn(f"{left} after {limit} steps of L-BFGS; a larger l2 converges sooner.")
            break
        d, alphas = -g, []
        for dx, dg, product in reversed(pairs):
            alphas.append((dx * d).sum() / product)
            d = d - alphas[-1] * dg
        if pairs:
            d = d * (pairs[-1][2] / (pairs[-1][1] * pairs[-1][1]).sum())
        for (dx, dg, product), alpha in zip(pairs, reversed(alphas)):
            d = d + (alpha - (dg * d).sum() / product) * dx

        slope, length = float((g * d).sum()), 1.0
        while (trial := f(x + length * d))[0] > value + 1e-4 * length * slope and length > 1e-12:
            length /= 2
        if trial[0] >= value:
            break
        dx, dg = length * d, trial[1] - g
        x, (value, g) = x + dx, trial
        if (product := float((dx * dg).sum())) > 0:
            pairs = [*pairs, (dx, dg, product)][-memory:]
        steps += 1
    return x, value, steps


def finite_rows(x, what):
    """x (N, E), at least float32; ValueError where a number is not finite."""
    return finite(x, what).astype(np.result_type(x.dtype, np.float32), copy=False)


def integers(labels, x, what):
    """The labels (N,) of the rows of x as an array of its library; ValueError where these are not integers."""
    try:
        labels = array_module(x).asarray(labels)
    except (TypeError, ValueError):  # a ragged list, or an array of another library
        labels = array_module(x).zeros(0)
    if labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold one integer for each of the {len(x)} rows.")
    return labels
