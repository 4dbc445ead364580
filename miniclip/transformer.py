"""The Transformer of both encoders: pre-norm residual blocks (Radford et al. 2019), stacked.

    x = x + attention(layer_norm(x))
    x = x + mlp(layer_norm(x))

Each block adds to a stream that runs through all of them. The norm stands before attention and MLP, not after.
"""

from .attention import self_attention
from .checks import takes
from .layers import gelu, layer_norm, linear, quick_gelu


@takes(
    "x (..., D), p.c_fc.weight (M, D), p.c_fc.bias (M), p.c_proj.weight (D, M), p.c_proj.bias (D), activation function"
)
def mlp(x, p, activation=quick_gelu):
    """y (..., D) = W₂ a(W₁ x + b₁) + b₂, as a rule with M = 4D."""
    h, c_fc = linear(x, **p["c_fc"])
    h, act = activation(h)
    y, c_proj = linear(h, **p["c_proj"])

    def backward(dy):
        d, d_c_proj = c_proj(dy)
        d, d_c_fc = c_fc(act(d))
        return d, {"c_fc": d_c_fc, "c_proj": d_c_proj}

    return y, backward


@takes("x (N, T, D), p.{ln_1,ln_2}.{weight,bias} (D), p.{attn,mlp} tree, heads ≥ 1")
def residual_block(x, p, heads, mask=None, activation=quick_gelu):
    """One block -> y (N, T, D).   p.attn as in `self_attention`, p.mlp as in `mlp`."""
    h, ln_1 = layer_norm(x, **p["ln_1"])
    h, attn = self_attention(h, p["attn"], heads, mask)
    x1 = x + h
    h, ln_2 = layer_norm(x1, **p["ln_2"])
    h, mlp_ = mlp(h, p["mlp"], activation)

    def backward(dy):
        d, d_mlp = mlp_(dy)
        d, d_ln_2 = ln_2(d)
        dx1 = dy + d
        d, d_attn = attn(dx1)
        dx, d_ln_1 = ln_1(d)
        dx += dx1
        return dx, {"ln_1": d_ln_1, "attn": d_attn, "ln_2": d_ln_2, "mlp": d_mlp}

    return x1 + h, backward


@takes("x (N, T, D), p.resblocks list, recompute flag")
def transformer(x, p, heads, mask=None, activation=quick_gelu, recompute=False):
    """All blocks in turn -> y (N, T, D).

    recompute: remember only the input of each block and run it again in the backward pass, a third
    more time for a small part of the memory (Chen et al. 2016).
    """
    steps = []
    for block in p["resblocks"]:

        def run(x=x, block=block):
            return residual_block(x, block, heads, mask, activation)

        x, backward_block = run()
        steps.append(run if recompute else backward_block)

    def backward(dy):
        grads = []
        for step in reversed(steps):
            backward_block = step()[1] if recompute else step
            dy, d_block = backward_block(dy)
            grads.insert(0, d_block)
        return dy, {"resblocks": grads}

    return x, backward


def activation_of(config):
    """The activation that a model's config names: `quick_gelu` true or false, and not a matter of taste."""
    return quick_gelu if config["quick_gelu"] else gelu
