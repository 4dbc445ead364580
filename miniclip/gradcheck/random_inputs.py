"""Random sizes, parameters and inputs, for every layer and every model there is: where gradients are checked.

A seed decides them all. Nothing is 0 or 1 by construction, neither a bias nor the weight of a norm, for
there a forgotten one would not be seen. The models are small but whole: every kind of parameter that the
real ones have is in them.
"""

import numpy as np

from ..model import initialize
from ..tree import flatten, tree_map, unflatten

TEXT = {"context_length": 6, "vocab_size": 20, "width": 8, "heads": 2, "layers": 2}
VIT = {
    "embed_dim": 6,
    "quick_gelu": True,
    "text_cfg": TEXT,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4},
}
RESNET = {
    "embed_dim": 6,
    "quick_gelu": True,
    "text_cfg": TEXT,
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 4, "head_width": 32},
}


class RandomInputs:
    """Random numbers and sizes from one seed."""

    def __init__(self, seed, least=1):
        self.rng, self.least = np.random.default_rng(seed), least

    def normal(self, *shape, scale=1.0):
        return self.rng.standard_normal(shape) * scale

    def size(self, low=1, high=5):
        """The length of an axis."""
        return self.number(min(max(low, self.least), high), high)

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def weight(self, out, k):
        """A matrix that keeps the size of what it is applied to."""
        return self.normal(out, k, scale=k**-0.5)

    def dense(self, out, k):
        return {"weight": self.weight(out, k), "bias": self.normal(out)}

    def norm(self, n):
        return {"weight": self.normal(n), "bias": self.normal(n)}

    def block(self, d):
        return {
            "ln_1": self.norm(d),
            "ln_2": self.norm(d),
            "attn": {
                "in_proj_weight": self.weight(3 * d, d),
                "in_proj_bias": self.normal(3 * d),
                "out_proj": self.dense(d, d),
            },
            "mlp": {"c_fc": self.dense(4 * d, d), "c_proj": self.dense(d, 4 * d)},
        }

    def statistics(self, c):
        return self.normal(c), self.normal(c) ** 2 + 0.5

    def parameters(self, config):
        """A whole model's, none of them where `initialize` puts it."""
        p = tree_map(lambda a: a + self.normal(*a.shape, scale=0.2), initialize(config, 0, np.float64))
        return unflatten(
            {name: leaf * leaf + 0.5 if name.endswith("running_var") else leaf for name, leaf in flatten(p).items()}
        )

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
