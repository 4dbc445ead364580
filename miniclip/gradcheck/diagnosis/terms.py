"""A term too many or too few: what claim and truth differ by is an array that is known."""

import numpy as np

from .evidence import CLOSE, alike
from .factors import lengths_of, numbers_of
from .norms import across_x

MATRIX = 4096  # entries of the arrays whose products are tried


def shortcut(e):
    """a = n ± c, where x and y have one shape, as around a residual block."""
    if not e.whole or e.near or e.cotangent.shape != e.claimed.shape or not e.cotangent.any() or e.is_loss:
        return None
    for sign, what in ((-1, "forgotten"), (1, "taken twice")):
        if alike(e.claimed - e.found, sign * e.cotangent):
            return "shortcut", f"the output's own gradient was {what}: that of the shortcut around the block, x + f(x)."
    return None


def regulariser(e):
    """The a − n of a loss is a multiple of x, of its signs, or made of both."""
    if not e.whole or not e.is_loss or e.x.size < 3 or e.near:
        return None
    if across_x(e.found, e.x, tuple(range(e.x.ndim)), False, CLOSE):
        return None  # across x: a norm's projection
    off, signs = e.claimed - e.found, np.sign(e.x)
    if beta := multiple(off, e.x):
        return "regulariser", regulariser_sentence(e, beta, f"times {e.name}", f"½‖{e.name}‖²")
    if np.ptp(signs) == 0:
        return None
    if beta := multiple(off, signs):
        return "regulariser", regulariser_sentence(e, beta, f"times the signs of {e.name}", f"‖{e.name}‖₁")
    both = np.stack([e.x.ravel(), signs.ravel()], 1)
    (square, absolute), *_ = np.linalg.lstsq(both, off.ravel(), rcond=None)
    if e.x.size > 4 and alike(both @ [square, absolute], off.ravel()):
        return "regulariser", (
            f"it is off by {square:.4g} times {e.name} and {absolute:.4g} times its signs: "
            "the slope of one regulariser, ½‖·‖² or ‖·‖₁, stands for that of the other."
        )
    return None


def regulariser_sentence(e, beta, times, norm):
    what = "was forgotten, or is too small" if beta < 0 else "was taken twice, or is too large (a ½?)"
    return (
        f"it is off by {beta:.4g} {times}{same_number(abs(beta), e)}: "
        f"the slope of {norm} (the term of a regulariser, a square or a KL divergence) {what}."
    )


def same_number(value, e):
    """ ", which is 2 reg": a number that is a small multiple of one among the arguments; else ""."""
    for number, label, _ in numbers_of(e):
        for times, word in ((1, ""), (2, "2 "), (0.5, "½ "), (4, "4 ")):
            if abs(value - times * number) <= CLOSE * value:
                return f", which is {word}{label}"
            for n, what in lengths_of(e).items():
                if abs(value - times * number / n) <= CLOSE * value:
                    return f", which is {word}{label} over {n}, {what}"
    return ""


def clipped(e):
    """a is n cut off at a bound."""
    if not e.whole or e.near or e.a.size < 3:
        return None
    largest = float(np.abs(e.a).max())
    for low, high in ((-largest, largest), (e.a.min(), np.inf), (-np.inf, e.a.max())):
        cut = (e.n < low - CLOSE * e.size) | (e.n > high + CLOSE * e.size)
        if len(np.unique(np.round(e.a[~cut] / e.size, 6))) < 4:
            continue  # few numbers, which any bound may cut
        if cut.any() and alike(e.a, np.clip(e.n, low, high)) and (cut.sum() > 1 or is_round(np.abs(e.a[cut]).max())):
            at = ", ".join(f"{bound:.4g}" for bound in (low, high) if np.isfinite(bound))
            return "clip", f"it is cut off at {at}: backward clips a gradient, and the forward pass does not."
    return None


def shortened(e):
    """a = α n, α < 1, and the length of a, or of all gradients together, is a round number."""
    if e.near or not e.whole:
        return None
    alpha = float(e.a @ e.n / max(e.n @ e.n, 1e-300))
    if not 0 < alpha < 1 or not alike(e.a, alpha * e.n) or e.a.size < 2:
        return None
    length = float(np.sqrt(e.a @ e.a))
    total = float(np.sqrt(sum(float((g * g).sum()) for g in e.gradients.values())))
    for value, what in ((length, "its length"), (total, "the length of all gradients together")):
        if is_round(value):
            times = f"so it is {alpha:.4g} times what it should be"
            return "clip", f"{what} is {value:.4g}: perhaps backward clips the norm, {times}."
    return None


def is_round(value):
    """Whether a number is one that a person would write: 1, 5, 0.25."""
    return value > 0 and abs(value - float(f"{value:.2g}")) <= 2e-6 * value


def products(e):
    """a is a matrix product of known arrays, and n another, or the sum of it and its mirror image."""
    if not e.whole or e.claimed.ndim not in (1, 2) or e.claimed.size > MATRIX or e.near:
        return None
    terms = list(known_products(e))
    for (name, term), (other, mirrored) in ((t, m) for t in terms for m in terms if t[1] is not m[1]):
        if multiple(e.claimed, term) is None:
            continue
        pair = np.stack([term.ravel(), mirrored.ravel()], 1)
        coefficients, *_ = np.linalg.lstsq(pair, e.found.ravel(), rcond=None)
        if alike(pair @ coefficients, e.found.ravel()) and len(set(name) & set(other)) and e.found.size > 2:
            first, second = coefficients
            if abs(first - second) <= CLOSE * abs(first):
                truth = f"the truth is {name} + {other}"
                return "one-sided", f"it is {name} alone, up to a factor, and {truth}: one of two symmetric terms."
            if abs(first) <= CLOSE * abs(second):
                return ("transposed" if mirror(name) == mirror(other) else "missing term"), (
                    f"it is {name}, up to a factor, where {other} is due."
                )
    return None


def mirror(name):
    """The letters of a product without its transposes."""
    return sorted(name.replace("ᵀ", "").split(" @ "))


def known_products(e):
    """(name, P @ Q) for the pairs of arguments, cotangent and output whose product has the shape of the gradient."""
    arrays = {**e.leaves, "dy": e.cotangent, "y": e.y}
    arrays = {name: np.asarray(a) for name, a in arrays.items() if np.ndim(a) in (1, 2) and np.size(a) <= MATRIX}
    arrays = dict(list(arrays.items())[:8])
    turned = [*arrays.items(), *((f"{name}ᵀ", a.T) for name, a in arrays.items() if a.ndim == 2)]
    for one, p in turned:
        for other, q in turned:
            if p.shape[-1:] == q.shape[:1]:
                product = p @ q
                if product.shape == e.claimed.shape and product.any():
                    yield f"{one} @ {other}", product


def multiple(a, term):
    """The number k of a = k·term, or None."""
    square = float((term * term).sum())
    k = float((a * term).sum()) / square if square else 0.0
    return k if k and alike(a, k * term) else None
