"""How sure a model may be: its probabilities against how often they are right, and what mends them.

A model is trained at a scale s = 1/τ that suits the training pictures, and is too sure of an artist it has not seen.
So s is fitted anew on pictures that training did not see, and with it the cosine t of what is not among the names:
with cosines c of a picture with K names,

    pₖ = exp(s cₖ) / (Σⱼ exp(s cⱼ) + K exp(s t))        p(none of these) = K exp(s t) / (the same)

"None of these" weighs as much as another K names with the cosine t, so that s and t serve few names and many. This is
a logistic regression in s and u = s t: −log p is convex, and Newton's method finds its only minimum.
A picture of nothing, noise or one colour, may be near a name by chance. What tells it from others is its own embedding,
by a linear probe: see `fit_nothing`.
Source: temperature scaling, Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

import numpy as np

from .linear_probe import linear_probe

COUNTS = 5, 30, 300, 1500  # numbers of names that a scale is fitted to serve, all alike


def fit_calibrated(tasks):
    """The scale s at which answers to `draw_tasks` are best calibrated, and the likeliest cosine t there: (s, t).

    Of the scales near the likeliest one, that with the least calibration error of pictures with a right name, the mean
    over the tasks. It is the larger: a few pictures that look like nothing it knows weigh much in a likelihood.
    Raises as `fit_scale`.
    """
    likeliest, _ = fit_scale(tasks)
    error = lambda scale: sum(row["named_ece"] for row in reliability(tasks, scale, 0.0))
    return fit_scale(tasks, scale=float(min(likeliest * np.geomspace(0.8, 1.6, 15), key=error)))


def fit_scale(tasks, steps=50, scale=None):
    """The scale s and the cosine t that make the right answers likeliest: (s, t), two floats; s may be given.

    tasks: [(cosines (N, K), answer (N,)), …], of any numbers of names K, all with the same weight; cosines: of each
    picture with its K names; answer: integers, which name is right, or -1 where none is.
    Raises ValueError for other shapes, and where the answers are all names or all -1, or no scale above 0 fits.
    """
    tasks = [(np.asarray(cosines, float), np.asarray(answer)) for cosines, answer in tasks]
    for cosines, answer in tasks:
        fits = cosines.ndim == 2 and answer.shape == cosines.shape[:1] and answer.dtype.kind in "iu" and cosines.size
        if not fits or answer.min() < -1 or answer.max() >= cosines.shape[1] or not np.isfinite(cosines).all():
            raise ValueError("cosines must be finite (N, K), and answer N integers from -1 to K - 1.")
        if answer.min() > -1 or answer.max() < 0:
            raise ValueError("some pictures must have a right name, and some none (-1).")
    w = np.array([scale or 0, 0], float)  # s and u
    loss, gradient, hessian = negative_log_likelihood(w, tasks)
    for _ in range(steps):
        free = np.array([scale is None, True])
        step = np.linalg.solve(np.where(np.outer(free, free), hessian, 0) + 1e-12 * np.eye(2), gradient * free)
        while (tried := negative_log_likelihood(w - step, tasks))[0] > loss and abs(step).max() > 1e-12:
            step = step / 2  # from afar, Newton's step may be too long
        w, (loss, gradient, hessian) = w - step, tried
        if abs(step).max() < 1e-9 * (1 + abs(w).max()):
            break
    else:
        raise ValueError("no scale is the best: the right names are the nearest so often that larger is always better.")
    if not (np.isfinite(w).all() and w[0] > 0):
        raise ValueError("no scale above 0 fits: the right names are no nearer to their pictures than the others.")
    return float(w[0]), float(w[1] / w[0])


def negative_log_likelihood(w, tasks):
    """The mean over tasks of −log p of the right answers at w = (s, u), its gradient (2,) and its Hessian (2, 2)."""
    loss, gradient, hessian = 0, np.zeros(2), np.zeros((2, 2))
    for cosines, answer in tasks:
        log_p = log_probabilities(cosines, *w)
        p, rows, unnamed = np.exp(log_p), np.arange(len(answer)), answer < 0
        names, none = p[:, :-1], p[:, -1]
        mean = (names * cosines).sum(1)
        variance = (names * cosines**2).sum(1) - mean**2
        right = np.where(unnamed, 0, cosines[rows, answer])
        loss -= log_p[rows, answer].mean() / len(tasks)  # -1 is the last
        gradient += np.array([(mean - right).mean(), (none - unnamed).mean()]) / len(tasks)
        mixed = -(mean * none).mean()
        hessian += np.array([[variance.mean(), mixed], [mixed, (none * (1 - none)).mean()]]) / len(tasks)
    return loss, gradient, hessian


def log_probabilities(cosines, scale, u):
    """log of pₖ and, last, of p(none of these): (N, K + 1) of cosines (N, K) with the names; u = s t."""
    none = np.full((len(cosines), 1), u + np.log(cosines.shape[1]))
    logits = np.concatenate([scale * cosines, none], 1)
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def draw_tasks(cosines, answer, counts=COUNTS, seed=0):
    """Questions for `fit_scale`: each picture among K names with its own, and among K names without it.

    cosines (N, V): of each picture with all names; answer (N,): which is right. -> for each of the counts K, of those
    below V, or for V - 1 where none is: (cosines (2N, K), answer (2N,)), half of the answers -1.
    Raises ValueError for less than two names.
    """
    if cosines.ndim != 2 or cosines.shape[1] < 2:
        raise ValueError(f"cosines are of shape {cosines.shape}; it must be (N, V) with at least two names.")
    rng, rows, tasks = np.random.default_rng(seed), np.arange(len(cosines)), []
    for count in [count for count in counts if count < cosines.shape[1]] or [cosines.shape[1] - 1]:
        order = rng.random(cosines.shape)
        order[rows, answer] = 2  # the right name comes last
        others = np.argsort(order, 1)[:, :count]
        asked = np.concatenate([others, others])
        asked[: len(rows), 0] = answer
        known = np.repeat([0, -1], len(rows))
        tasks.append((np.take_along_axis(np.concatenate([cosines, cosines]), asked, 1), known))
    return tasks


def fit_nothing(pictures, nothing):
    """What tells pictures of nothing from others: {"weight" [E floats], "bias" float}, for σ(weight · z + bias).

    pictures (N, E), nothing (M, E): unit features of pictures of something, and of noise and blank ones.
    Raises as `linear_probe`, which finds it.
    """
    features, labels = np.concatenate([pictures, nothing]), np.repeat([0, 1], [len(pictures), len(nothing)])
    probe = linear_probe(features, labels, features, labels)
    (weight, bias) = (probe[part][1] - probe[part][0] for part in ("weight", "bias"))
    return {"weight": [float(f"{number:.5g}") for number in weight], "bias": float(f"{bias:.5g}")}


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


def reliability(tasks, scale, none):
    """How sure the answers to `draw_tasks` are at (s, t), and how often right: a dict for each task.

    -> [{"names": K, "ece", "accuracy", "confidence", "named_ece", "named_accuracy", "named_confidence"}, …]; "named":
    of the pictures whose right name is there, when it is known that it is, so that "none of these" is no answer.
    """
    found = []
    for cosines, answer in tasks:
        p = np.exp(log_probabilities(cosines, scale, scale * none))
        p_named, true = p[answer >= 0, :-1], answer[answer >= 0]
        row = {"names": cosines.shape[1]}
        for kind, some, best in (
            ("", p, answer % p.shape[1]),
            ("named_", p_named / p_named.sum(1, keepdims=True), true),
        ):
            sure, right = some.max(1), some.argmax(1) == best
            row |= {f"{kind}ece": calibration(sure, right)["ece"], f"{kind}accuracy": float(right.mean())}
            row[f"{kind}confidence"] = float(sure.mean())
        found.append(row)
    return found
