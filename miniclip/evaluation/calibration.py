"""How sure a model may be: its probabilities against how often they are right, and a scale that mends them.

A model is trained at a scale s = 1/τ that suits the training pictures, and is too sure of an artist it has not seen.
So s is fitted anew on pictures of a style left out of training, and with it the cosine t below which none of the names
fits: with cosines c of a picture with K names,

    pₖ = exp(s cₖ) / (Σⱼ exp(s cⱼ) + exp(s t))        p(none of these) = exp(s t) / (the same)

which is a logistic regression in s and u = s t: −log p is convex, and Newton's method finds its only minimum.
Source: temperature scaling, Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

import numpy as np


def fit_scale(cosines, answer, steps=50):
    """The scale s and the cosine t that make the right answers likeliest: (s, t), two floats.

    cosines (N, K): of each picture with its K names; answer (N,): integers, which name is right, or -1 where none is.
    Raises ValueError for other shapes, and where the answers are all names or all -1, or no scale above 0 fits.
    """
    cosines, answer = np.asarray(cosines, float), np.asarray(answer)
    fits = cosines.ndim == 2 and answer.shape == cosines.shape[:1] and answer.dtype.kind in "iu" and cosines.size
    if not fits or answer.min() < -1 or answer.max() >= cosines.shape[1] or not np.isfinite(cosines).all():
        raise ValueError("cosines must be finite (N, K), and answer N integers from -1 to K - 1.")
    if answer.min() > -1 or answer.max() < 0:
        raise ValueError("some pictures must have a right name, and some none (-1).")
    # What s and u multiply, for each name and, last, for none of them.
    n, k = cosines.shape
    features = np.zeros((n, k + 1, 2))
    features[:, :k, 0], features[:, k, 1] = cosines, 1
    true = features[np.arange(n), answer]  # -1 is the last

    def loss_and_chances(w):
        logits = features @ w
        shifted = logits - logits.max(1, keepdims=True)
        total = np.exp(shifted).sum(1)
        return (np.log(total) - shifted[np.arange(n), answer]).mean(), np.exp(shifted) / total[:, None]

    w = np.zeros(2)
    loss, p = loss_and_chances(w)
    for _ in range(steps):
        mean = np.einsum("nk,nkf->nf", p, features)
        hessian = (np.einsum("nk,nkf,nkg->fg", p, features, features) - mean.T @ mean) / n
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), (mean - true).mean(0))
        while (tried := loss_and_chances(w - step))[0] > loss and abs(step).max() > 1e-12:
            step = step / 2  # from afar, Newton's step may be too long
        w, (loss, p) = w - step, tried
        if abs(step).max() < 1e-9 * (1 + abs(w).max()):
            break
    else:
        raise ValueError("no scale is the best: the right names are the nearest so often that larger is always better.")
    scale, u = w
    if not (np.isfinite(w).all() and scale > 0):
        raise ValueError("no scale above 0 fits: the right names are no nearer to their pictures than the others.")
    return float(scale), float(u / scale)


def calibration(probabilities, right, bins=15):
    """Confidence against accuracy, in bins of equal width, and the expected calibration error (Guo et al. 2017).

    probabilities (N,): of the answer given, from 0 to 1; right (N,): bool, whether it was right.
    -> {"ece", "confidence" (bins,), "accuracy" (bins,), "count" (bins,)}; NaN where a bin is empty.
    Raises ValueError for what is none of these.
    """
    probabilities, right = np.asarray(probabilities, float), np.asarray(right)
    fits = probabilities.ndim == 1 and right.shape == probabilities.shape and right.dtype == bool and right.size
    if not fits or not (probabilities >= 0).all() or not (probabilities <= 1 + 1e-6).all() or bins < 1:
        raise ValueError("probabilities must be N numbers from 0 to 1, right N bools, and bins at least 1.")
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_of, probabilities, bins) / count
        accuracy = np.bincount(bin_of, right, bins) / count
    filled = count > 0
    ece = (count * abs(confidence - accuracy))[filled].sum() / len(right)
    return {"ece": float(ece), "confidence": confidence, "accuracy": accuracy, "count": count}
