"""Notebook 2: the first layers. What is copied on the way forward is added up on the way back."""

import numpy as np

from ...layers import embedding, gelu, linear, quick_gelu, relu, sum_by_id
from ..exercise import Mistake, Notebook
from .formulas import sigmoid

layers = Notebook("02_layers")


def symmetric(x, weight, bias=None):
    """The same arguments, with weight + weightᵀ in the place of a square weight (M, K)."""
    return x, (weight + weight.T if weight.shape[0] == weight.shape[1] else weight), bias


layers.layer(
    linear,
    points=6,
    draw=lambda r, n, t, k, m: (r.normal(n, t, k), *r.dense(m, k).values()),
    traps={
        "no bias": lambda r: (r.normal(2, 3, 4), r.normal(5, 4)),
        "one row, no further axes": lambda r: (r.normal(4), r.normal(3, 4), r.normal(3)),
        "three axes before the last": lambda r: (r.normal(2, 3, 2, 4), r.normal(5, 4), r.normal(5)),
    },
    blind={
        "one row alone": lambda x, weight, *bias: (x.reshape(-1, x.shape[-1])[:1], weight, *bias),
        "a symmetric weight": symmetric,
    },
    mistakes=(
        Mistake("missing term", "the bias is not added.", lambda x, weight, bias=None: x @ weight.T),
        Mistake(
            "−1", "the bias is subtracted.", lambda x, weight, bias=None: x @ weight.T - (0 if bias is None else bias)
        ),
    ),
    kinds={
        "1/N": (
            "Every row uses the same weight and the same bias. What each of them wants is added up: a mean belongs to "
            "the loss, if anywhere.",
            "dW = dYᵀ X and db = the sum of the rows of dY. Nothing is divided.",
        ),
        "transposed": (
            "Where the weight is square, W and Wᵀ both fit. Take a weight of 3 × 5 and write the shapes down.",
            "xₖ stands in every yₘ, with the factor Wₘₖ: dxₖ = Σₘ dyₘ Wₘₖ. Which of the two indices is summed over?",
        ),
        "overwritten": "The weight is used once for each row of each batch. All of them add to its gradient.",
        "traps": "Make one long list of rows first: x.reshape(-1, x.shape[-1]). Give dx the shape of x again. Where "
        "there is no bias, there is no gradient of it either.",
        "contract": "dx has the shape of x, dW that of W, and db that of b; the last two come in a dict.",
    },
    hints=(
        "However many axes x has, it is a list of rows: x.reshape(-1, x.shape[-1]). The same for dy.",
        "yᵣₘ = Σₖ xᵣₖ Wₘₖ + bₘ. Of each of x, W, b: in which y does one entry stand, and with which factor?",
        "dX = dY W, dW = dYᵀ X, db = Σ over the rows of dY.",
    ),
    inside="whole model (ViT)",
)


def never_twice(ids, weight):
    """Ids of which none repeats."""
    return np.arange(len(weight))[::-1], weight


layers.layer(
    embedding,
    points=4,
    draw=lambda r, n, t, v, d: (r.rng.integers(0, v + 2, (n, t)), r.normal(v + 2, d)),
    traps={
        "one id throughout": lambda r: (np.full((2, 3), 1), r.normal(4, 5)),
        "ids in a row": lambda r: (np.array([2, 0, 2, 3]), r.normal(5, 3)),
        "rows that nobody uses": lambda r: (np.array([[0, 7, 7], [0, 0, 7]]), r.normal(9, 2)),
    },
    blind={"ids that never repeat": never_twice},
    mistakes=(
        Mistake("permuted", "the row before is taken: ids begin at 0.", lambda ids, weight: weight[ids - 1]),
        Mistake("missing term", "only the first text is looked up.", lambda ids, weight: weight[ids[0]]),
    ),
    kinds={
        "overwritten": (
            "A word that occurs twice used its row twice: two gradients arrive, and both count.",
            "table[ids] += rows reads all rows, adds, and writes all back: of an id that repeats, the last one stays. "
            "np.add.at(table, ids, rows) adds one after the other.",
        ),
        "1/N": "A row that was used three times gets three gradients, added up, not their mean.",
        "contract": "The ids are integers and have no gradient: backward gives {'weight': …} alone.",
    },
    hints=(
        "Which rows of the table does the output not depend on? Their gradient is 0: begin with zeros.",
        "Each position sends its dy to the row that it came from. A row that was used twice gets two.",
        "np.add.at(table, ids, rows) adds rows to table[ids], each as often as its id occurs.",
    ),
    inside="whole model (ViT)",
    forbidden=(sum_by_id,),
)


def with_a_zero(r):
    """Random numbers (3, 4), of which one is 0."""
    x = r.normal(3, 4)
    x[1, 2] = 0
    return x


layers.layer(
    relu,
    points=2,
    draw=lambda r, n, d: r.normal(n + 2, d + 2),  # hardly ever all below zero, where there is nothing to check
    traps={
        "a zero": with_a_zero,
        "all below zero": lambda r: -1 - r.rng.random((3, 4)),
        "three axes": lambda r: r.normal(2, 3, 4),
    },
    blind={"all above zero": lambda x: (np.abs(x) + 0.1,)},
    mistakes=(
        Mistake("slope", "that is |x|: below zero the output is 0.", np.abs),
        Mistake("slope", "that is min(x, 0), the other half.", lambda x: np.minimum(x, 0)),
        Mistake("slope", "that is the step function: above zero the output is x.", lambda x: (x > 0) * 1.0),
        Mistake("slope", "below zero something is left, as in a leaky ReLU.", lambda x: np.where(x > 0, x, 0.01 * x)),
    ),
    kinds={
        "mask": (
            "Where the output is 0 whatever x does, x gets nothing back. Which x are these?",
            "The mask is that of the forward pass, x > 0. What dy is has nothing to do with it.",
        ),
        "traps": "0 / 0 is no number: choose by x > 0, and do not divide by x.",
    },
    hints=("Two cases: x above 0, and x below. What is the slope in each?", "dx = dy where x > 0, else 0."),
    inside="whole model (ResNet)",
)


layers.layer(
    quick_gelu,
    points=4,
    traps={
        "a zero": with_a_zero,
        "numbers about ±30": lambda r: np.array([[-30.0, 30.0, -1.0], [25.0, 0.5, -28.0]]) + 0.1 * r.normal(2, 3),
        "three axes": lambda r: r.normal(2, 3, 4),
    },
    blind={"x = 0": lambda x: (x * 0,), "large x": lambda x: (np.abs(x) + 30,)},
    mistakes=(
        Mistake("factor", "the 1.702 is missing.", lambda x: x * sigmoid(x)),
        Mistake("precision", "1.702 was rounded to 1.7.", lambda x: x * sigmoid(1.7 * x)),
        Mistake("missing term", "that is the sigmoid alone: it is multiplied by x.", lambda x: sigmoid(1.702 * x)),
        Mistake("−1", "the sign in the exponential is wrong: σ(a) = 1 / (1 + e⁻ᵃ).", lambda x: x * sigmoid(-1.702 * x)),
        Mistake(
            "precision",
            "that is the exact GELU, x Φ(x). QuickGELU is near to it, and another function.",
            lambda x: gelu(x)[0],
        ),
    ),
    kinds={
        "slope": (
            "x enters twice: as the factor, and inside the sigmoid. Two terms.",
            "The slope of σ(a) is σ(a) (1 − σ(a)); that of σ(1.702 x) has a 1.702 in front of it.",
        ),
        "precision": "1.702, in both passes?",
        "traps": "exp(−1.702 x) of a very negative x is huge: σ(a) = (1 + tanh(a/2)) / 2 is the same and never is.",
    },
    hints=(
        "The product rule: (x σ)′ = σ + x σ′.",
        "σ′(a) = σ(a) (1 − σ(a)), and the chain rule brings the 1.702 of σ(1.702 x).",
        "dx = dy ∘ (σ + 1.702 x σ (1 − σ)), with σ = σ(1.702 x).",
    ),
    inside="whole model (ViT)",
)
