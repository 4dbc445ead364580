"""The last block of a Transformer, only where it is read: the one optimisation in the core.

An encoder reads one position of its last block, the class token or the end of the text. The others need no
query, no output and no MLP there; as keys and values they are still listened to. A whole training step of a
small ViT takes 1.26 times as long without it (benchmarks/results/tricks.json).
"""

import numpy as np

from .attention import attend, merge_heads, split_heads
from .backend import array_module
from .checks import takes
from .layers import layer_norm, linear, quick_gelu
from .transformer import mlp, transformer


@takes(
    "x (N, T, D), p.in_proj_weight (3D, D), p.in_proj_bias (3D), p.out_proj.weight (D, D), p.out_proj.bias (D), "
    "heads ≥ 1, at (N) int, mask (T, T)"
)
def self_attention_at(x, p, heads, at, mask=None):
    """`self_attention`, where only what position at[n] of row n hears is wanted -> y (N, D).

    Raises ValueError for a position beyond T, unless it is on a graphics card.
    """
    n, tokens, width = x.shape
    if array_module(at) is np and not (0 <= at.min() and at.max() < tokens):
        raise ValueError(f"positions {at.min()}..{at.max()} are not all among {tokens} tokens.")
    xp = array_module(x)
    rows = xp.arange(n)
    weight, bias = p["in_proj_weight"], p["in_proj_bias"]
    q, q_proj = linear(x[rows, at], weight[:width], bias[:width])
    kv, kv_proj = linear(x, weight[width:], bias[width:])
    (q,), (k, v) = split_heads(q[:, None], 1, heads), split_heads(kv, 2, heads)
    mixed, attend_ = attend(q, k, v, None if mask is None else mask[at][:, None, None])
    y, out_proj = linear(merge_heads(mixed)[:, 0], **p["out_proj"])

    def backward(dy):
        dmixed, d_out = out_proj(dy)
        dq, dk, dv = attend_(*split_heads(dmixed[:, None], 1, heads))
        dx, d_kv = kv_proj(merge_heads(dk, dv))
        dasked, d_q = q_proj(merge_heads(dq)[:, 0])
        dx[rows, at] += dasked
        d_in = {f"in_proj_{name}": xp.concatenate([d_q[name], d_kv[name]]) for name in ("weight", "bias")}
        return dx, {**d_in, "out_proj": d_out}

    return y, backward


@takes("x (N, T, D), p.{ln_1,ln_2}.{weight,bias} (D), p.{attn,mlp} tree, heads ≥ 1, at (N) int, mask (T, T)")
def residual_block_at(x, p, heads, at, mask=None, activation=quick_gelu):
    """`residual_block` at one position of each row -> y (N, D)."""
    here = array_module(x).arange(len(x)), at
    h, ln_1 = layer_norm(x, **p["ln_1"])
    h, attn = self_attention_at(h, p["attn"], heads, at, mask)
    x1 = x[here] + h
    h, ln_2 = layer_norm(x1, **p["ln_2"])
    h, mlp_ = mlp(h, p["mlp"], activation)

    def backward(dy):
        d, d_mlp = mlp_(dy)
        d, d_ln_2 = ln_2(d)
        dx1 = dy + d
        d, d_attn = attn(dx1)
        dx, d_ln_1 = ln_1(d)
        dx[here] += dx1
        return dx, {"ln_1": d_ln_1, "attn": d_attn, "ln_2": d_ln_2, "mlp": d_mlp}

    return x1 + h, backward


@takes("x (N, T, D), p.resblocks list, recompute flag")
def transformer_at(x, p, heads, at, mask=None, activation=quick_gelu, recompute=False):
    """`transformer` at one position of each row -> y (N, D).

    Raises ValueError where there is no block.
    """
    *blocks, last = p["resblocks"] or [None]
    if last is None:
        raise ValueError("an encoder has no Transformer block: layers must be at least 1.")
    x, backward_blocks = transformer(x, {"resblocks": blocks}, heads, mask, activation, recompute)
    y, backward_last = residual_block_at(x, last, heads, at, mask, activation)

    def backward(dy):
        dx, d_last = backward_last(dy)
        dx, grads = backward_blocks(dx)
        return dx, {"resblocks": [*grads["resblocks"], d_last]}

    return y, backward
