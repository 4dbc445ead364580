"""Muon: the step of a hidden matrix is its momentum with all singular values made alike.

    m ← μ m + g                      u = g + μ m                          (Nesterov's look ahead)
    W ← W − lr · (0.2 √max(rows, columns) · UVᵀ + λ W)                    where u = UΣVᵀ

A gradient of a matrix is large in few directions, and so is Adam's step; UVᵀ goes as far in each of them. It is not
computed from a decomposition but by products alone: five Newton-Schulz steps of an odd polynomial p on X = u / |u|,

    X ← a X + (b G + c G²) X         G = XXᵀ           each singular value: σ ← p(σ) = a σ + b σ³ + c σ⁵

0.2 √max(rows, columns) gives the step the root mean square of Adam's, so that learning rates can be kept. Embeddings,
whose rows are looked up or added, biases, norms and the temperature are AdamW's. The heads of an attention are
matrices of their own: a step for all heads together would share among them what each should have for itself.

Sources: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", also for a, b, c; the scale:
Liu et al. 2025, "Muon is Scalable for LLM Training".
"""

import re

from ..backend import array_module
from ..init import is_resnet
from ..optim import NOT_ADAMW, AdamW
from ..tree import flatten

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c: p is steep at 0, and takes what is above to 0.7 to 1.2, not to 1
SCALE = 0.2


def orthogonal(u, steps=5):
    """UVᵀ of each matrix u = UΣVᵀ of a stack (M, rows, columns), roughly: singular values of 0.7 to 1.2."""
    xp = array_module(u)
    x = u / (xp.sqrt((u * u).sum((1, 2), keepdims=True)) + 1e-7)
    if tall := x.shape[1] > x.shape[2]:
        x = x.swapaxes(1, 2)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.swapaxes(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.swapaxes(1, 2) if tall else x


def matrices(tree, config):
    """{dotted name: (M, rows, columns)} of a model's hidden matrices: how many each leaf holds, and of which shape.

    A kernel is the matrix of what it makes of a patch; the projections of queries, keys and values are one a head.
    """
    vision = config["vision_cfg"]
    width = vision["width"] * (32 if is_resnet(config) else 1)
    heads = {"visual": width // vision.get("head_width", 64), "transformer": config["text_cfg"]["heads"]}
    found = {}
    for name, leaf in flatten(tree).items():
        if leaf.ndim > 1 and "embedding" not in name:
            parts = 3 if "in_proj" in name else 1 if re.search(r"attnpool\.[qkv]_proj", name) else 0
            count = parts * heads[name.split(".")[0]] if parts else 1
            found[name] = (count, len(leaf) // count, leaf.size // len(leaf))
    return found


class Muon(AdamW):
    """The optimiser of a model's parameters: Muon's step for the hidden matrices, AdamW's for the rest.

    params: `Flat`; config: the model's; momentum: μ; the rest as for `AdamW`, with whose state this is kept: where it
    is Muon's, `m` is the momentum and `v` stays 0. Raises as `AdamW` does.
    """

    def __init__(self, params, config, *numbers, momentum=0.95, **more):
        super().__init__(params, *numbers, **more)
        self.momentum = momentum
        shapes = matrices(params.tree, config)
        self.matrices = [(params.slices[name], shape) for name, shape in shapes.items()]
        for i, name in enumerate(params.slices):
            if name in shapes:
                self.leaves[i] = params.slices[name], NOT_ADAMW
                self.kinds[params.slices[name]] = NOT_ADAMW

    def update(self, gradient, lr, shrink, finite, map):
        """As AdamW's, and before it the step of each matrix; neither waits for `finite`."""
        xp = array_module(self.m)

        def update_matrix(matrix):
            place, shape = matrix
            theta, m, g = self.params.vector[place], self.m[place], gradient.vector[place] * shrink
            momentum = self.momentum * m + g
            step = orthogonal((g + self.momentum * momentum).reshape(shape)).reshape(-1)
            step *= SCALE * max(shape[1:]) ** 0.5
            step += self.weight_decay * theta
            m[...] = xp.where(finite, momentum, m)
            theta[...] = xp.where(finite, theta - lr * step, theta)

        list(map(update_matrix, self.matrices))
        super().update(gradient, lr, shrink, finite, map)


OPTIMIZERS = {"adamw": lambda params, config, *numbers: AdamW(params, *numbers), "muon": Muon}
