"""Random sizes, parameters and inputs of every layer and model: the points where gradients are checked.

A seed decides them all. Nothing is 0 or 1 by construction, neither a bias nor the weight of a norm, for a backward
that forgets it would still be right there. The models are small, with every kind of parameter of the real ones.
"""

import math

import numpy as np

from ..init import initialize
from ..tree import flatten, tree_map, unflatten

TEXT = {"context_length": 6, "vocab_size": 20, "width": 8, "heads": 2, "layers": 2}
VIT = {
    "embed_dim": 6,
    "quick_gelu": True,
    "text_cfg": TEXT,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4},
}
RESNET = VIT | {"vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 4, "head_width": 32}}
LENGTHS = {  # of an axis, by its letter: the least and the most
    "n": (1, 5), "t": (1, 5), "k": (1, 5), "m": (1, 5), "d": (2, 8), "e": (2, 5), "v": (2, 6),
    "h": (3, 5), "w": (3, 5), "c": (1, 4), "kh": (1, 3), "kw": (1, 3), "heads": (1, 3),
}  # fmt: skip


class RandomInputs:
    """Random numbers and lengths from one seed; an axis is at least `least` long where LENGTHS allows it."""

    def __init__(self, seed, least=1):
        self.rng, self.least = np.random.default_rng(seed), least

    def length(self, axis):
        """The length of an axis that has a letter."""
        low, high = LENGTHS[axis]
        return self.integer(min(max(low, self.least), high), high)

    def integer(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def normal(self, *shape, scale=1.0):
        return self.rng.standard_normal(shape) * scale

    def unit(self, *shape):
        """Rows of length 1."""
        x = self.normal(*shape)
        return x / np.sqrt((x * x).sum(-1, keepdims=True))

    def weight(self, out, *k):
        """A matrix, or a kernel, that keeps the size of what it is applied to."""
        return self.normal(out, *k, scale=math.prod(k) ** -0.5)

    def dense(self, out, *k):
        return {"weight": self.weight(out, *k), "bias": self.normal(out)}

    def norm(self, n):
        return {"weight": self.normal(n), "bias": self.normal(n)}

    def batch_norm(self, c):
        return self.norm(c) | {"running_mean": self.normal(c), "running_var": self.normal(c) ** 2 + 0.5}

    def attention(self, d):
        weights = {"in_proj_weight": self.weight(3 * d, d), "in_proj_bias": self.normal(3 * d)}
        return weights | {"out_proj": self.dense(d, d)}

    def mlp(self, d):
        return {"c_fc": self.dense(4 * d, d), "c_proj": self.dense(d, 4 * d)}

    def block(self, d):
        return {"ln_1": self.norm(d), "ln_2": self.norm(d), "attn": self.attention(d), "mlp": self.mlp(d)}

    def blocks(self, count, d):
        return {"resblocks": [self.block(d) for _ in range(count)]}

    def attention_pool(self, positions, c, out):
        layers = {name: self.dense(c, c) for name in ("k_proj", "q_proj", "v_proj")}
        return {"positional_embedding": self.normal(positions, c), "c_proj": self.dense(out, c)} | layers

    def parameters(self, config):
        """Those of a whole model, all moved from where `initialize` puts them."""
        p = tree_map(lambda a: a + self.normal(*a.shape, scale=0.2), initialize(config, 0, np.float64))
        return unflatten({n: a * a + 0.5 if n.endswith("running_var") else a for n, a in flatten(p).items()})

    def images(self, n, config):
        return self.normal(n, 3, *[config["vision_cfg"]["image_size"]] * 2)

    def tokens(self, n):
        """start, some ids, end, zeros."""
        start, end = TEXT["vocab_size"] - 2, TEXT["vocab_size"] - 1
        rows = self.rng.integers(1, start, (n, TEXT["context_length"]))
        rows[:, 0] = start
        for row, place in zip(rows, self.rng.integers(1, TEXT["context_length"], n)):
            row[place], row[place + 1 :] = end, 0
        return rows
