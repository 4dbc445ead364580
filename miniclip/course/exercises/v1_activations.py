"""Variants for marks, the first five: activations, a weight with a length of its own, positions of two axes.

Of each only the forward pass stands here: no backward pass of theirs can be read anywhere in the library. The texts
under the names are what a student is given, and variants.py says which of them. The hints are two nudges each, and no
formula: this is for marks.
"""

import numpy as np

from ..exercise import VARIANTS, Mistake, Notebook
from .formulas import sigmoid, unit

variants = Notebook(VARIANTS)


def enter(reference, points, **fields):
    """Enter a variant: its backward pass is proven by the forward pass alone."""
    variants.layer(reference, points=points, has_backward=False, **fields)


def gelu_tanh(x):
    """GELU in the form with a tanh: y = ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).

    x: any shape. Returns y and backward(dy) -> dx, both of the shape of x.
    """
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def tanh_form(scale=np.sqrt(2 / np.pi), cubic=0.044715, half=0.5):
    """A wrong gelu_tanh, one of whose constants is another."""
    return lambda x: half * x * (1 + np.tanh(scale * (x + cubic * x * x * x)))


enter(
    gelu_tanh,
    points=6,
    draw=lambda r, n, t, d: r.normal(n, t, d),
    traps={"numbers about 30": lambda r: r.normal(3, 4, scale=30.0), "zeros": lambda r: np.zeros((2, 3))},
    mistakes=(
        Mistake("½", "the ½ in front is missing.", tanh_form(half=1.0)),
        Mistake("factor", "√(2/π) is missing.", tanh_form(scale=1.0)),
        Mistake("missing term", "the cubic term is missing.", tanh_form(cubic=0.0)),
        Mistake("sqrt", "2/π stands there without its root.", tanh_form(scale=2 / np.pi)),
    ),
    hints=(
        "y is a product of two things that both depend on x. So its slope has two terms.",
        "The slope of tanh u is 1 − tanh² u, times the slope of u.",
    ),
)


def squared_relu(x, slope):
    """The square where x is positive, a line that is learned elsewhere: y = x² for x > 0, and slope · x for x ≤ 0.

    x (..., D), slope (D,): one for each column. Returns y (..., D) and backward(dy) -> dx (..., D), dslope (D,).
    """
    return np.where(x > 0, x * x, slope * x)


enter(
    squared_relu,
    points=6,
    draw=lambda r, n, t, d: (r.normal(n, t, d), r.normal(d)),
    traps={
        "no axes but the columns": lambda r: (r.normal(5), r.normal(5)),
        "no positive number": lambda r: (-np.abs(r.normal(3, 4)), r.normal(4)),
    },
    mistakes=(
        Mistake("mask", "what is negative gives 0, and not slope · x.", lambda x, slope: np.where(x > 0, x * x, 0.0)),
        Mistake("missing term", "what is positive is not squared.", lambda x, slope: np.where(x > 0, x, slope * x)),
        Mistake("mask", "the two sides are exchanged.", lambda x, slope: np.where(x > 0, slope * x, x * x)),
        Mistake("slope", "what is negative is squared too.", lambda x, slope: np.where(x > 0, x * x, slope * x * x)),
    ),
    hints=(
        "Two cases, told apart by the sign of x, in the backward pass as in the forward pass.",
        "slope is shared by all rows: what is copied in the forward pass is summed on the way back.",
    ),
)


def swiglu(x, weight, bias):
    """A layer with a gate: h = x weightᵀ + bias has 2M columns, a the first M and g the rest; y = a · g · σ(g).

    x (N, K), weight (2M, K), bias (2M,); σ(g) = 1 / (1 + e^−g). Returns y (N, M) and backward(dy) -> dx (N, K),
    dweight (2M, K), dbias (2M,).
    """
    a, g = np.split(x @ weight.T + bias, 2, axis=-1)
    return a * g * sigmoid(g)


def wrong_gate(gate):
    """A wrong swiglu: gate(a, g) -> y."""
    return lambda x, weight, bias: gate(*np.split(x @ weight.T + bias, 2, axis=-1))


enter(
    swiglu,
    points=6,
    draw=lambda r, n, m, k: (r.normal(n, k), r.weight(2 * m, k), r.normal(2 * m)),
    traps={"one row": lambda r: (r.normal(1, 3), r.weight(4, 3), r.normal(4))},
    mistakes=(
        Mistake("swapped", "gate and value are exchanged.", wrong_gate(lambda a, g: g * a * sigmoid(a))),
        Mistake("missing term", "σ(g) alone is the gate: it is g · σ(g).", wrong_gate(lambda a, g: a * sigmoid(g))),
        Mistake("missing term", "the gate is missing a: y = a · g · σ(g).", wrong_gate(lambda a, g: g * sigmoid(g))),
    ),
    hints=(
        "Three steps: a linear layer, a cut in two, a product. Go back through them in the reverse order.",
        "The slope of g σ(g) is σ(g) + g σ(g) (1 − σ(g)).",
    ),
)


def weight_norm_linear(x, direction, length, bias):
    """A linear layer whose weight is given as a direction and a length: row m of it is length[m] · v / |v|.

    v is row m of `direction`, |v| the root of the sum of its squares. x (N, K), direction (M, K), length (M,),
    bias (M,). Returns y = x weightᵀ + bias (N, M) and backward(dy) -> dx, ddirection, dlength, dbias.
    """
    norm = np.sqrt((direction * direction).sum(-1, keepdims=True))
    return x @ (length[:, None] * direction / norm).T + bias


enter(
    weight_norm_linear,
    points=6,
    draw=lambda r, n, m, k: (r.normal(n, k), r.normal(m, k), r.normal(m), r.normal(m)),
    sizes=("drawn", "drawn again", "drawn once more", "square", "long"),
    traps={"long directions": lambda r: (r.normal(2, 3), 1e3 * r.normal(4, 3), r.normal(4), r.normal(4))},
    blind={"directions of length 1": lambda x, v, length, bias: (x, unit(v), length, bias)},
    mistakes=(
        Mistake(
            "sqrt",
            "it is divided by |v|², and not by |v|.",
            lambda x, v, g, b: x @ (g[:, None] * v / (v * v).sum(-1, keepdims=True)).T + b,
        ),
        Mistake(
            "missing term", "it is not divided by the length of the row.", lambda x, v, g, b: x @ (g[:, None] * v).T + b
        ),
        Mistake(
            "wrong axis",
            "the length is of the whole matrix; each row has its own.",
            lambda x, v, g, b: x @ (g[:, None] * v / np.sqrt((v * v).sum())).T + b,
        ),
        Mistake(
            "wrong axis",
            "the length runs down the columns.",
            lambda x, v, g, b: x @ (g[:, None] * v / np.sqrt((v * v).sum(0))).T + b,
        ),
    ),
    hints=(
        "Make the weight first, and find its gradient as in any linear layer. Then go back to direction and length.",
        "Make a row of `direction` longer: the weight stays. So what is the angle between the row and its gradient?",
    ),
)


def sine_positions(x, frequencies):
    """Add to each pixel where it stands, as waves whose frequencies are learned.

    x (N, H, W, 4F), frequencies (F,). To the pixel in row i and column j comes a vector of four parts of F numbers:
    sin(i f), cos(i f), sin(j f), cos(j f). Returns y like x and backward(dy) -> dx like x, dfrequencies (F,).
    """
    return x + waves(x, frequencies)


def waves(x, frequencies, rows=(0, 1), turn=lambda a: (np.sin(a), np.cos(a))):
    """The vectors (H, W, 4F) that are added."""
    height, width = x.shape[1:3]
    places = [np.indices((height, width))[axis][..., None] for axis in rows]
    return np.concatenate([part for place in places for part in turn(place * frequencies)], -1)


enter(
    sine_positions,
    points=6,
    draw=lambda r, n, h, w, k: (r.normal(n, h, w, 4 * k), r.normal(k)),
    sizes=("drawn", "drawn again", "drawn once more", "square"),
    traps={
        "one pixel": lambda r: (r.normal(2, 1, 1, 8), r.normal(2)),
        "one row": lambda r: (r.normal(2, 1, 5, 8), r.normal(2)),
    },
    mistakes=(
        Mistake("swapped", "rows and columns are exchanged.", lambda x, f: x + waves(x, f, (1, 0))),
        Mistake(
            "swapped",
            "sine and cosine are exchanged.",
            lambda x, f: x + waves(x, f, turn=lambda a: (np.cos(a), np.sin(a))),
        ),
        Mistake("missing term", "x is missing: the waves are added to it.", waves),
    ),
    hints=(
        "y = x + table: what goes back to x is plain. The rest is the slope of the table.",
        "The slope of sin(i f) with respect to f is i cos(i f), and of cos(i f) it is −i sin(i f).",
    ),
)
