"""AdamW over one flat vector, and how its learning rate goes.

    m ← β₁ m + (1 − β₁) g            v ← β₂ v + (1 − β₂) g²
    θ ← θ − lr · ( m̂ / (√v̂ + ε) + λ θ )         m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

Decay λ is taken off the parameter itself, not added to the gradient (Loshchilov & Hutter 2019), and only
off matrices and kernels: none on biases, norms and the temperature (Radford et al. 2021, §2.5).
"""

import math

import numpy as np

from .backend import array_module, dispatch
from .checks import takes
from .train_step import is_statistic
from .tree import Flat, flatten

MAXIMUM_LOGIT_SCALE = math.log(100)
KINDS = WEIGHT, VECTOR, STATISTIC, NOT_ADAMW = range(4)  # of a number: decayed; not; a running average; another's
STATISTIC_RATE = 0.1  # PyTorch's momentum of batch normalisation's averages


@takes("step ≥ 0, steps ≥ 0, peak (), warmup ()")
def learning_rate(step, steps, peak, warmup):
    """Linear from 0 to `peak` over `warmup` steps, then half a cosine to 0 at `steps` (§2.5)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class AdamW:
    """The optimiser of one `Flat` of parameters, which it changes in place.

    Besides θ it keeps `average`, an exponential moving average of θ (Polyak): what is evaluated and kept. With
    ema_decay 0 that is θ itself. max_grad_norm: the largest norm of the gradient, or None for any.
    `state()` and `restore()` give and take everything that the next step depends on. Raises ValueError for numbers
    with which no step can be taken.
    """

    def __init__(self, params, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.2, max_grad_norm=1.0, ema_decay=0.0):
        if not isinstance(params, Flat):
            raise ValueError(f"params is a {type(params).__name__}; it must be a Flat of the tree: Flat(params).")
        shares = {"beta1": beta1, "beta2": beta2, "ema_decay": ema_decay}
        sizes = {
            "eps": eps,
            "weight_decay": weight_decay,
            "max_grad_norm": 1 if max_grad_norm is None else max_grad_norm,
        }
        for name, value in (shares | sizes).items():
            if not isinstance(value, (int, float, np.number)) or not 0 <= value < (1 if name in shares else math.inf):
                bound = "less than 1" if name in shares else "finite"
                raise ValueError(f"{name} is {value!r}; it must be a number, at least 0 and {bound}.")
        xp = array_module(params.vector)
        self.params, self.beta1, self.beta2, self.eps = params, beta1, beta2, eps
        self.weight_decay, self.max_grad_norm, self.ema_decay, self.count = weight_decay, max_grad_norm, ema_decay, 0
        self.m, self.v = xp.zeros_like(params.vector), xp.zeros_like(params.vector)
        self.average = params.like(params.vector.copy()) if ema_decay else params
        self.kinds = np.empty(params.vector.size, np.uint8)  # of each number
        self.leaves = []  # (slice, kind) of each
        leaves = flatten(params.tree)
        for name, place in params.slices.items():
            kind = STATISTIC if is_statistic(name) else WEIGHT if leaves[name].ndim > 1 else VECTOR
            self.kinds[place] = kind
            self.leaves.append((place, kind))
        self.kinds = xp.asarray(self.kinds)

    def gradient_norm(self, gradient, map=map):
        """|g| over all parameters of the loss, a scalar of the arrays' library."""
        return squared_norm(gradient.vector, self, map) ** 0.5

    @takes("lr ()")
    def step(self, gradient, lr, map=map, norm=None):
        """One update from a `Flat` of gradients; returns their norm before clipping (Pascanu et al. 2013).

        norm: what `gradient_norm` gave for this gradient, where it is known already. Where nothing is clipped it
        is not computed, and returned as it was given. A step whose norm is not finite changes nothing but `count`.

        Afterwards logit_scale is bounded to ln 100, here and not in the forward pass, where a bound would
        have a gradient of zero. Raises ValueError for a gradient that is laid out otherwise than the parameters, and
        for a rate that is not finite.
        """
        if getattr(gradient, "slices", None) != self.params.slices or gradient.vector.dtype != self.m.dtype:
            raise ValueError("the gradient is laid out otherwise than the parameters: make it with `params.like`.")
        if not math.isfinite(lr):
            raise ValueError(f"lr is {lr}; it must be finite.")
        xp, dtype = array_module(gradient.vector), self.m.dtype
        self.count += 1
        shrink, finite = xp.ones((), dtype), xp.ones((), bool)
        if self.max_grad_norm is not None:
            norm = self.gradient_norm(gradient, map) if norm is None else norm
            shrink, finite = xp.minimum(1, self.max_grad_norm / (norm + 1e-6)).astype(dtype), xp.isfinite(norm)
        self.update(gradient, lr, shrink, finite, map)
        for tree in (self.params.tree, self.average.tree):
            xp.minimum(tree["logit_scale"], MAXIMUM_LOGIT_SCALE, out=tree["logit_scale"])
        return norm

    def update(self, gradient, lr, shrink, finite, map):
        """Change θ and the average; shrink (): the factor of clipping; finite (): where False, nothing changes."""
        update(gradient.vector, self, lr, shrink, finite, map)

    def rates(self, lr):
        """lr / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), 1 − lr λ, and how far the average follows: a young one forgets faster."""
        follow = 1 - min(self.ema_decay, self.count / (self.count + 9))
        correction = (1 - self.beta2**self.count) ** -0.5
        return lr / (1 - self.beta1**self.count), correction, 1 - lr * self.weight_decay, follow

    def state(self):
        """{"params", "m", "v", "average"}: vectors (P,), and "count": int. Not copies."""
        vectors = {"params": self.params.vector, "m": self.m, "v": self.v, "average": self.average.vector}
        return vectors | {"count": self.count}

    def restore(self, state):
        """Go on from what `state()` gave. Raises ValueError when it is of another model."""
        for name, mine in self.state().items():
            if name != "count":
                if (shape := getattr(state.get(name), "shape", None)) != mine.shape:
                    raise ValueError(
                        f"the saved {name} has {shape} numbers, this model {mine.shape}: "
                        "the run was started with another model or other data."
                    )
        for name, mine in self.state().items():
            if name != "count":
                mine[...] = state[name]
        self.count = int(state["count"])


@dispatch
def squared_norm(vector, optimizer, map=map):
    """Σ g² over all numbers of a vector (P,) that are no statistics."""
    places = [place for place, kind in optimizer.leaves if kind != STATISTIC]
    return sum(map(lambda place: vector[place] @ vector[place], places))


@dispatch
def update(gradient, optimizer, lr, shrink, finite, map=map):
    """AdamW's formula, in place, leaf by leaf, for a gradient (P,).

    shrink (): the factor of clipping; finite (): where False, nothing changes; map: what works on the leaves.
    """
    beta1, beta2, eps = optimizer.beta1, optimizer.beta2, optimizer.eps
    step_size, correction, keep, follow = optimizer.rates(lr)

    def update_leaf(leaf):
        place, kind = leaf
        theta, average = optimizer.params.vector[place], optimizer.average.vector[place]
        if kind == STATISTIC:
            theta -= STATISTIC_RATE * gradient[place]
        elif kind != NOT_ADAMW:
            m, v = optimizer.m[place], optimizer.v[place]
            # `part` is, in turn, (1 − β₁) g, (1 − β₂) g², √v̂ + ε and the step: one array for all.
            part = gradient[place] * ((1 - beta1) * shrink)
            m *= beta1
            m += part
            part *= part
            part *= (1 - beta2) / (1 - beta1) ** 2
            v *= beta2
            v += part
            np.sqrt(v, out=part)
            part *= correction
            part += eps
            np.divide(m, part, out=part)
            part *= step_size
            if kind == WEIGHT:
                theta *= keep
            theta -= part
        if optimizer.average is not optimizer.params:
            average *= 1 - follow
            average += follow * theta

    if finite:
        list(map(update_leaf, optimizer.leaves))
