"""The Transformer of both encoders: pre-norm residual blocks (Radford et al. 2019), stacked.

x = x + attention(layer_norm(x))
x = x + mlp(layer_norm(x))
"""

from .attention import self_attention
from .backend import array_module
from .layers import gelu, layer_norm, linear, quick_gelu


def mlp(x, p, activation=quick_gelu):
    """y = W₂ a(W₁ x + b₁) + b₂.   x (..., D); p: c_fc (4D, D), c_proj (D, 4D), with biases -> y (..., D)."""
    h, c_fc = linear(x, p["c_fc"]["weight"], p["c_fc"]["bias"])
    h, act = activation(h)
    y, c_proj = linear(h, p["c_proj"]["weight"], p["c_proj"]["bias"])

    def backward(dy):
        d, d_c_proj = c_proj(dy)
        d, d_c_fc = c_fc(act(d))
        return d, {"c_fc": d_c_fc, "c_proj": d_c_proj}

    return y, backward


def residual_block(x, p, heads, mask=None, activation=quick_gelu, at=None):
    """One block.   x (N, T, D); p: ln_1, attn, ln_2, mlp; mask (T, T) or None -> y (N, T, D).

    at: positions (N,), where only what becomes of one position of each row is wanted -> y (N, 1, D).
    """
    here = ... if at is None else (array_module(x).arange(len(x))[:, None], at[:, None])
    h, ln_1 = layer_norm(x, **p["ln_1"])
    h, attn = self_attention(h, p["attn"], heads, mask, at)
    x1 = x[here] + h
    h, ln_2 = layer_norm(x1, **p["ln_2"])
    h, mlp_ = mlp(h, p["mlp"], activation)

    def backward(dy):
        d, d_mlp = mlp_(dy)
        d, d_ln_2 = ln_2(d)
        d = d + dy
        e, d_attn = attn(d)
        e, d_ln_1 = ln_1(e)
        e[here] += d
        return e, {"ln_1": d_ln_1, "attn": d_attn, "ln_2": d_ln_2, "mlp": d_mlp}

    return x1 + h, backward


def transformer(x, p, heads, mask=None, activation=quick_gelu, recompute=False, at=None, once=False):
    """All blocks in turn.   x (N, T, D); p: {"resblocks": [block, …]} -> y (N, T, D).

    at: positions (N,), where only what becomes of one position of each row is wanted -> y (N, 1, D). Then the last
    block computes nothing for the others; in those before it they are still listened to.

    recompute: remember only the input of each block and run it again in the backward pass, a third
    more time for a small part of the memory (Chen et al. 2016).

    once: the backward pass frees what each block remembers as soon as it has passed it, and can be called only once.
    """
    count = len(p["resblocks"])
    if at is not None and not count:
        raise ValueError("an encoder has no Transformer block: layers must be at least 1.")
    steps = []
    for i, block in enumerate(p["resblocks"], 1):

        def run(x=x, block=block, at=at if i == count else None):
            return residual_block(x, block, heads, mask, activation, at)

        x, backward_block = run()
        steps.append(run if recompute else backward_block)

    def backward(dy):
        grads = []
        if len(steps) < count:
            raise RuntimeError("this backward pass was made to be called once, and was: run the forward pass again.")
        for i in reversed(range(count)):
            step = steps.pop() if once else steps[i]
            dy, d_block = (step()[1] if recompute else step)(dy)
            grads.append(d_block)
        return dy, {"resblocks": grads[::-1]}

    return x, backward


def activation_of(config):
    """The activation that a model's config names: `quick_gelu` true or false, and not a matter of taste."""
    return quick_gelu if config["quick_gelu"] else gelu
