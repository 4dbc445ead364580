"""Notebook 3: softmax, layer norm and the unit sphere. Each ignores something, and its gradient knows it."""

import numpy as np

from ...layers import l2_normalize, layer_norm, softmax
from ..exercise import Mistake, Notebook
from .formulas import unit

norms = Notebook("03_norms")


def masked(r):
    """Scores of which some are −inf, as a causal mask leaves them."""
    return np.where(np.tri(5, dtype=bool), r.normal(5, 5), -np.inf)


def e_to_the_x(x, axis=-1):
    """Softmax with one sum over all rows, and without the largest taken away."""
    return np.exp(x) / np.exp(x).sum()


norms.layer(
    softmax,
    points=4,
    traps={
        "masked scores": masked,
        "scores about 1000": lambda r: 1000 + r.normal(3, 4),
        "another axis": lambda r: (r.normal(2, 3, 4), 1),
    },
    mistakes=(
        Mistake("wrong axis", "the sum runs over all rows together; each row is to sum to 1.", e_to_the_x),
        Mistake("wrong axis", "the sum runs over the first axis.", lambda x, axis=-1: softmax(x, 0)[0]),
        Mistake("missing term", "it is not divided by the sum.", lambda x, axis=-1: np.exp(x)),
        Mistake(
            "missing term", "it is not divided by the sum.", lambda x, axis=-1: np.exp(x - x.max(axis, keepdims=True))
        ),
    ),
    kinds={
        "centring": (
            "Add 1 to all numbers of a row: does the softmax change? So what must the gradient of the row sum to?",
            "One output depends on every input of its row, through the sum below the fraction: dx = y ∘ dy is only the "
            "part through its own.",
        ),
        "missing term": "∂yᵢ/∂xⱼ = yᵢ (δᵢⱼ − yⱼ). Two terms: is the second there?",
        "forward": "Subtract the largest of the row first: nothing changes but that exp(1000) is never asked for.",
        "traps": "exp(1000) is infinite. Subtract the largest of the row first; the result is the same.",
    },
    hints=(
        "Write y with its sum: yᵢ = eᵢ / Σ e. Each xⱼ stands in eⱼ and in the sum.",
        "Multiply the Jacobian yᵢ (δᵢⱼ − yⱼ) by dy: what stays is dy ∘ y, less y times one number for each row.",
        "dx = y ∘ (dy − Σ dy ∘ y), the sum over the axis, with keepdims=True.",
    ),
    inside="whole model (ViT)",
)


def normalised(x, deviation, weight, bias):
    """x (..., D) less its mean, over a deviation that is given, then weight and bias (D,)."""
    return (x - x.mean(-1, keepdims=True)) / deviation * weight + bias


norms.layer(
    layer_norm,
    points=6,
    traps={
        "one row alone": lambda r: (r.normal(6), r.normal(6), r.normal(6)),
        "rows that hardly vary, where ε counts": lambda r: (1 + 0.003 * r.normal(3, 5), r.normal(5), r.normal(5)),
        "another ε": lambda r: (r.normal(2, 3, 4), r.normal(4), r.normal(4), 0.1),
    },
    blind={
        "γ = 1 and β = 0": lambda x, weight, bias, *eps: (x, np.ones_like(weight), np.zeros_like(bias), *eps),
        "γ = 1": lambda x, weight, bias, *eps: (x, np.ones_like(weight), bias, *eps),
        "β = 0": lambda x, weight, bias, *eps: (x, weight, np.zeros_like(bias), *eps),
    },
    mistakes=(
        Mistake(
            "factor",
            "the variance is divided by D − 1; here it is the mean of the squares, divided by D.",
            lambda x, w, b, eps=1e-5: normalised(x, np.sqrt(x.var(-1, ddof=1, keepdims=True) + eps), w, b),
        ),
        Mistake(
            "precision",
            "ε stands outside the root; it is added to the variance.",
            lambda x, w, b, eps=1e-5: normalised(x, x.std(-1, keepdims=True) + eps, w, b),
        ),
        Mistake("precision", "ε is missing.", lambda x, w, b, eps=1e-5: normalised(x, x.std(-1, keepdims=True), w, b)),
        Mistake(
            "sqrt",
            "it is divided by the variance, and not by its root.",
            lambda x, w, b, eps=1e-5: normalised(x, x.var(-1, keepdims=True) + eps, w, b),
        ),
        Mistake(
            "wrong axis",
            "mean and variance run over the first axis: that is batch norm.",
            lambda x, w, b, eps=1e-5: (x - x.mean(0)) / np.sqrt(x.var(0) + eps) * w + b,
        ),
        Mistake(
            "wrong axis",
            "mean and variance run over the whole array; each row has its own.",
            lambda x, w, b, eps=1e-5: (x - x.mean()) / np.sqrt(x.var() + eps) * w + b,
        ),
    ),
    kinds={
        "centring": (
            "The mean of x was taken away in the forward pass: an x that is moved by a constant gives the same y. What "
            "has the gradient to sum to, in each row?",
            "Take the mean of dy ∘ γ away, over the last axis.",
        ),
        "projection": (
            "The length of x − mean was divided out. So the gradient may not point along x̂.",
            "Take away x̂ times the mean of dy ∘ γ ∘ x̂.",
        ),
        "outside the sums": "Three things happen in turn: x̂ is made, γ multiplies it, β is added. Go back in "
        "the reverse order: γ first.",
        "precision": "Which number stands under the root in your forward pass, and which in your backward pass?",
    },
    hints=(
        "Go back through the steps: β, γ, then x̂. Only the last is hard, and it has no parameters.",
        "x̂ = (x − mean) / deviation loses two things of x: its mean, and its length. The gradient loses the same two.",
        "With g = dy ∘ γ: dx = (g − mean(g) − x̂ ∘ mean(g ∘ x̂)) / deviation, both means over the last axis.",
        "dγ = Σ dy ∘ x̂ and dβ = Σ dy, over all axes but the last.",
    ),
    inside="whole model (ViT)",
)


def rows_of_zeros(r):
    """Rows (3, 4), the middle one of zeros."""
    x = r.normal(3, 4)
    x[1] = 0
    return x


def over_squares(root, axis, total=np.sum):
    """A wrong l2_normalize: x over a function of a sum of its squares."""
    return lambda x, eps=1e-12: x / root(total(x * x, axis, keepdims=True))


norms.layer(
    l2_normalize,
    points=4,
    traps={
        "a row of zeros": rows_of_zeros,
        "three axes": lambda r: r.normal(2, 3, 4),
        "short rows": lambda r: 1e-4 * r.normal(3, 4),
        "long rows": lambda r: 1e6 * r.normal(3, 4),
    },
    forward_only=("a row of zeros",),
    blind={"rows that have length 1": lambda x, *eps: (unit(x), *eps)},
    mistakes=(
        Mistake(
            "sqrt",
            "it is divided by the square of the length.",
            lambda x, eps=1e-12: x / (x * x).sum(-1, keepdims=True),
        ),
        Mistake(
            "wrong axis",
            "it is divided by the length of the whole array.",
            lambda x, eps=1e-12: x / np.sqrt((x * x).sum()),
        ),
        Mistake("wrong axis", "the length runs over the first axis.", lambda x, eps=1e-12: x / np.sqrt((x * x).sum(0))),
        Mistake(
            "slope",
            "it is divided by the sum of the absolute values; the length is the root of the sum of squares.",
            lambda x, eps=1e-12: x / np.abs(x).sum(-1, keepdims=True),
        ),
        Mistake(
            "N",
            "the mean of the squares is taken, and not their sum.",
            lambda x, eps=1e-12: x / np.sqrt((x * x).mean(-1, keepdims=True)),
        ),
    ),
    kinds={
        "projection": (
            "Make x twice as long: y stays. So what is the angle between x and its gradient?",
            "Take from dy the part along y: y times Σ dy ∘ y. Then divide by the length.",
        ),
        "traps": "0 / 0 is NaN. What should stand where a row is 0 throughout?",
    },
    hints=(
        "y = x / |x|, and x stands in |x| too.",
        "∂|x|/∂x = x / |x| = y.",
        "dx = (dy − y Σ dy ∘ y) / |x|, the sum over the last axis.",
    ),
    inside="whole model (ViT)",
)
