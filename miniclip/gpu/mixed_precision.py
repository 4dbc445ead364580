"""Training in half precision: the encoders in 16 bits, everything that is added up in 32.

Parameters, optimiser and the sum of gradients stay in float32. A step makes a copy of the parameters in 16 bits and
runs the encoders on it; the features, and so the loss, are float32 again (Micikevicius et al. 2018, "Mixed precision
training"). bfloat16 has float32's range with 8 bits of precision. float16 has 11, but nothing below 6e-8: there the
gradients are made larger on their way through the encoders, and smaller again when they have arrived.
"""

import numpy as np

from ..backend import array_module
from ..train_step import encoders_of, is_statistic
from ..tree import flatten, unflatten


def half_encoders(dtype, loss_scale=None):
    """What `loss_and_gradient` takes for encoders_of, to compute in `dtype`, float16 or bfloat16.

    loss_scale (): what gradients are multiplied with on their way, or None for 1.
    """

    def half_encoders_of(params, config, trained):
        full = params["logit_scale"].dtype
        weights = {name: leaf if is_statistic(name) else leaf.astype(dtype) for name, leaf in flatten(params).items()}
        embed = encoders_of(unflatten(weights), config, trained)

        def embed_half(encoder, images, tokens):
            features, backward = embed(encoder, images.astype(dtype), tokens)

            def backward_half(dfeatures):
                if loss_scale is None:
                    return backward(dfeatures.astype(dtype))
                grads = flatten(backward((dfeatures * loss_scale).astype(dtype)))
                return {
                    name: leaf.astype(full) / (1 if is_statistic(name) else loss_scale) for name, leaf in grads.items()
                }

            return features.astype(full), backward_half

        return embed_half

    return half_encoders_of


def in_float32(layer):
    """The layer, which computes 16-bit arrays as float32 and rounds its output and dx: a cast at either border."""

    def wide(value):
        return value.astype(np.float32) if hasattr(value, "astype") else value

    def cast(x, *arrays, **others):
        if x.dtype.itemsize != 2:
            return layer(x, *arrays, **others)
        y, backward = layer(*map(wide, (x, *arrays)), **{name: wide(value) for name, value in others.items()})

        def backward_cast(dy):
            found = backward(wide(dy))
            return (found[0].astype(x.dtype), *found[1:]) if isinstance(found, tuple) else found.astype(x.dtype)

        return y.astype(x.dtype), backward_cast

    return cast


class GradScaler:
    """What the loss is multiplied with, so that gradients in float16 do not vanish (Micikevicius et al. 2018, §3.2).

    `scale` () float32 is doubled after `patience` steps that were finite, and halved after one that was not, which
    `AdamW.step` has then left out. Both numbers stay with the arrays of `xp`: on a graphics card nobody waits for them.
    """

    def __init__(self, xp=np, scale=2.0**15, patience=2000):
        self.scale, self.patience = xp.full((), scale, np.float32), patience
        self.finite_steps = xp.zeros((), np.int32)

    def update(self, norm):
        """Take note of the norm () of the last gradient."""
        xp = array_module(norm)
        steps = (self.finite_steps + 1) * xp.isfinite(norm)
        grow = steps >= self.patience
        self.scale *= xp.where(steps == 0, 0.5, xp.where(grow, 2, 1)).astype(np.float32)
        self.finite_steps[...] = steps * ~grow

    def state(self):
        """{"loss_scale", "finite_steps"}: arrays (), not copies."""
        return {"loss_scale": self.scale, "finite_steps": self.finite_steps}

    def restore(self, state):
        """Go on from what `state()` gave."""
        for name, mine in self.state().items():
            mine[...] = state[name]
