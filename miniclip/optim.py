"""AdamW over one flat vector, and how its learning rate goes.

    m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
    θ ← θ − lr · ( m̂ / (√v̂ + ε) + λ θ )         m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

Decay λ is taken off the parameter itself, not added to the gradient (Loshchilov & Hutter 2019), and only
off matrices and kernels: none on biases, norms and the temperature (Radford et al. 2021, §2.5).
"""

import math

import numpy as np

from .backend import array_module
from .gpu import kernels
from .model import MAXIMUM_LOGIT_SCALE
from .train_step import is_statistic
from .tree import flatten

BLOCK = 1 << 17  # numbers updated at once: of fewer, Python is the most
STATISTIC_RATE = 0.1  # PyTorch's momentum of batch normalisation's averages


def learning_rate(step, steps, peak, warmup):
    """Linear from 0 to `peak` over `warmup` steps, then half a cosine to 0 at `steps` (§2.5)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class AdamW:
    """The optimiser of one `Flat` of parameters, which it changes in place.

    Besides θ it keeps `average`, an exponential moving average of θ (Polyak): what is evaluated and kept. With
    average_decay 0 that is θ itself. clip: the largest norm of the gradient, or None for any.
    `state()` and `restore()` give and take everything that the next step depends on.
    """

    def __init__(self, params, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.2, clip=1.0, average_decay=0.0):
        xp = array_module(params.vector)
        self.params, self.beta1, self.beta2, self.eps = params, beta1, beta2, eps
        self.weight_decay, self.clip, self.average_decay = weight_decay, clip, average_decay
        self.count = 0
        self.m, self.v = xp.zeros_like(params.vector), xp.zeros_like(params.vector)
        self.average = params.like(params.vector.copy()) if average_decay else params
        self._blocks = []  # (slice, "weight" | "vector" | "statistic")
        kinds = None if xp is np else np.empty(params.vector.size, np.uint8)  # the same, number by number
        leaves = flatten(params.tree)
        for name, place in params.slices.items():
            kind = "statistic" if is_statistic(name) else "weight" if leaves[name].ndim > 1 else "vector"
            if kinds is not None:
                kinds[place] = kernels.KINDS.index(kind)
            for start in range(place.start, place.stop, BLOCK):
                self._blocks.append((slice(start, min(start + BLOCK, place.stop)), kind))
        self._kinds = None if kinds is None else xp.asarray(kinds)

    def gradient_norm(self, gradient, map=map):
        """|g| over all parameters of the loss, a scalar of the arrays' library."""
        vector = gradient.vector
        if array_module(vector) is not np:
            learned = vector * (self._kinds != kernels.KINDS.index("statistic"))
            return (learned @ learned) ** 0.5
        blocks = [place for place, kind in self._blocks if kind != "statistic"]
        return sum(map(lambda place: vector[place] @ vector[place], blocks)) ** 0.5

    def step(self, gradient, lr, map=map, norm=None):
        """One update from a `Flat` of gradients; returns their norm before clipping (Pascanu et al. 2013).

        norm: what `gradient_norm` gave for this gradient, where it is known already. Where nothing is clipped it
        is not computed, and returned as it was given. A step whose norm is not finite changes nothing but `count`.

        Afterwards logit_scale is bounded to ln 100, here and not in the forward pass, where a bound would
        have a gradient of zero.
        """
        xp = array_module(gradient.vector)
        self.count += 1
        shrink, finite = xp.ones((), self.m.dtype), xp.ones((), bool)
        if self.clip is not None:
            norm = self.gradient_norm(gradient, map) if norm is None else norm
            shrink, finite = xp.minimum(1, self.clip / (norm + 1e-6)).astype(self.m.dtype), xp.isfinite(norm)
        step_size = lr / (1 - self.beta1**self.count)
        correction = (1 - self.beta2**self.count) ** -0.5
        follow = 1 - min(self.average_decay, self.count / (self.count + 9))  # a young average forgets faster

        def update(block):
            place, kind = block
            theta, g, average = self.params.vector[place], gradient.vector[place], self.average.vector[place]
            if kind == "statistic":
                theta -= STATISTIC_RATE * g
            else:
                m, v = self.m[place], self.v[place]
                # `part` is, in turn, (1 − β₁) g, (1 − β₂) g², √v̂ + ε and the step: one array for all.
                part = g * ((1 - self.beta1) * shrink)
                m *= self.beta1
                m += part
                part *= part
                part *= (1 - self.beta2) / (1 - self.beta1) ** 2
                v *= self.beta2
                v += part
                xp.sqrt(v, out=part)
                part *= correction
                part += self.eps
                xp.divide(m, part, out=part)
                part *= step_size
                if kind == "weight":
                    theta *= 1 - lr * self.weight_decay
                theta -= part
            if self.average is not self.params:
                average *= 1 - follow
                average += follow * theta

        if xp is not np:  # `finite` stays there: nobody waits to read it
            kernels.adamw(
                self.params.vector,
                gradient.vector,
                self.m,
                self.v,
                self.average.vector,
                self._kinds,
                shrink,
                finite,
                lr=lr,
                beta1=self.beta1,
                beta2=self.beta2,
                eps=self.eps,
                step_size=step_size,
                weight_decay=self.weight_decay,
                correction=correction,
                follow=follow,
                statistic_rate=STATISTIC_RATE,
            )
        elif finite:
            list(map(update, self._blocks))
        for tree in (self.params.tree, self.average.tree):
            xp.minimum(tree["logit_scale"], MAXIMUM_LOGIT_SCALE, out=tree["logit_scale"])
        return norm

    def state(self):
        """{"params", "m", "v", "average"}: vectors (P,), and "count": int. Not copies."""
        return {
            "params": self.params.vector,
            "m": self.m,
            "v": self.v,
            "average": self.average.vector,
            "count": self.count,
        }

    def restore(self, state):
        """Go on from what `state()` gave. Raises ValueError when it is of another model."""
        for name, mine in self.state().items():
            if name != "count":
                if state[name].shape != mine.shape:
                    raise ValueError(
                        f"the saved {name} has {state[name].shape} numbers, this model {mine.shape}: "
                        "the run was started with another model or other data."
                    )
                mine[...] = state[name]
        self.count = int(state["count"])
