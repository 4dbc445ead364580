"""A term too many or too few: what claim and truth differ by is an array that is known. And what is cut off."""

import numpy as np

from .evidence import CLOSE, alike
from .factors import is_round, lengths_of, numbers_of
from .norms import across_x

MATRIX = 4096  # entries of the arrays whose products are tried


def shortcut(e):
    """a = n ± c, where x and y have one shape, as around a residual block."""
    if not e.whole or e.near or e.cotangent.shape != e.claimed.shape or not e.cotangent.any() or e.is_loss:
        return None
    for sign, what in ((-1, "forgotten"), (1, "taken twice")):
        if not alike(e.claimed - e.found, sign * e.cotangent):
            continue
        if e.trace is None or any(step.name == "add" for step in e.trace.steps):
            return "shortcut", f"the output's own gradient was {what}: that of the shortcut around the block, x + f(x)."
        share = f"the share of each entry in the output at its own place was {what}: dy itself"
        return "missing term", f"{share}, as where a cumulated sum leaves out its last term, or in x + f(x)."
    return None


def regulariser(e):
    """The a − n of a loss is a multiple of x, of its signs, or made of both."""
    if not e.whole or not e.is_loss or e.x.size < 3 or e.near:
        return None
    if across_x(e.found, e.x, tuple(range(e.x.ndim)), False, CLOSE):
        return None  # across x: a norm's projection
    off, signs = e.claimed - e.found, np.sign(e.x)
    for term, times, norm in ((e.x, e.name, f"½‖{e.name}‖²"), (signs, f"the signs of {e.name}", f"‖{e.name}‖₁")):
        if np.ptp(term) and (beta := multiple(off, term)):
            what = "was forgotten, or is too small" if beta < 0 else "was taken twice, or is too large (a ½?)"
            return "regulariser", (
                f"it is off by {beta:.4g} times {times}{same_number(abs(beta), e)}: "
                f"the slope of {norm} (the term of a regulariser, a square or a KL divergence) {what}."
            )
    both = np.stack([e.x.ravel(), signs.ravel()], 1)
    (square, absolute), *_ = np.linalg.lstsq(both, off.ravel(), rcond=None)
    if e.x.size > 4 and np.ptp(signs) and alike(both @ [square, absolute], off.ravel()):
        return "regulariser", (
            f"it is off by {square:.4g} times {e.name} and {absolute:.4g} times its signs: "
            "the slope of one regulariser, ½‖·‖² or ‖·‖₁, stands for that of the other."
        )
    return None


def same_number(value, e):
    """ ", which is 2 reg": a number that is a small multiple of one that is known, or that over a length; else ""."""
    known = [(number, label) for number, label, _ in numbers_of(e)]
    known += [(number, f"{name or f'{number:g}'} ({where})") for number, name, where in e.source_numbers]
    lengths = {1: "", **{n: f" over {n}, {what}" for n, what in lengths_of(e).items()}}
    for n, over in lengths.items():
        for number, label in known:
            for times, word in ((1, ""), (2, "2 times "), (0.5, "half of "), (4, "4 times ")):
                if abs(value - times * number / n) <= CLOSE * value:
                    return f", which is {word}{label}{over}"
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


def products(e):
    """a is a matrix product of known arrays, and n another, or the sum of it and its mirror image."""
    if not e.whole or e.claimed.ndim not in (1, 2) or e.claimed.size > MATRIX or e.near:
        return None
    terms = list(known_products(e))
    for name, term in [(name, term) for name, term in terms if multiple(e.claimed, term)]:
        for other, mirrored in ((other, mirrored) for other, mirrored in terms if other != name):
            pair = np.stack([term.ravel(), mirrored.ravel()], 1)
            (first, second), *_ = np.linalg.lstsq(pair, e.found.ravel(), rcond=None)
            if not alike(pair @ [first, second], e.found.ravel()) or e.found.size < 3:
                continue
            if abs(first - second) <= CLOSE * abs(first):
                truth = f"the truth is {name} + {other}"
                return "one-sided", f"it is {name} alone, up to a factor, and {truth}: one of two symmetric terms."
            if abs(first) <= CLOSE * abs(second):
                same = sorted(name.replace("ᵀ", "").split(" @ ")) == sorted(other.replace("ᵀ", "").split(" @ "))
                return "transposed" if same else "missing term", f"it is {name}, up to a factor, where {other} is due."
    return None


def known_products(e):
    """(name, P @ Q) for the pairs of arguments, cotangent and output whose product has the shape of the gradient."""
    arrays = {**e.leaves, "dy": e.cotangent, "y": e.y}
    arrays = {name: np.asarray(a) for name, a in arrays.items() if np.ndim(a) in (1, 2) and np.size(a) <= MATRIX}
    turned = [(name, a) for name, a in list(arrays.items())[:8]]
    turned += [(f"{name}ᵀ", a.T) for name, a in turned if a.ndim == 2]
    for one, p in turned:
        for other, q in turned:
            if p.shape[-1:] == q.shape[:1] and (product := p @ q).shape == e.claimed.shape and product.any():
                yield f"{one} @ {other}", product


def multiple(a, term):
    """The number k of a = k·term, or None."""
    square = float((term * term).sum())
    k = float((a * term).sum()) / square if square else 0.0
    return k if k and alike(a, k * term) else None
