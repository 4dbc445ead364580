"""Attention: each position looks at others and takes from them what it asked for.

    attention(Q, K, V) = softmax(Q Kᵀ / √d + mask) V            (Vaswani et al. 2017, equation 1)

in H heads of width d = D / H, whose outputs stand side by side and pass one more linear map.
"""

import math

from .backend import array_module, dispatch
from .checks import takes
from .layers import linear, softmax


@dispatch
def matmul(a, b):
    """a @ b, for stacks of matrices.   a (..., M, K), b (..., K, N) -> (..., M, N)."""
    return a @ b


@takes("tokens ≥ 1")
def causal_mask(tokens, xp, dtype):
    """(T, T): 0 where a position may look (itself and what came before), −inf where not."""
    return xp.triu(xp.full((tokens, tokens), -math.inf), 1).astype(dtype)  # CuPy's triu has no bfloat16


@takes("q (..., A, d), k (..., T, d), v (..., T, d)")
def attend(q, k, v, mask=None):
    """The equation above: y (..., A, d) = softmax(Q Kᵀ / √d + mask) V, the mask as in `attention_weights`.

    backward(dy) -> dq, dk, dv.
    """
    weights, softmax_ = attention_weights(matmul(q, k.swapaxes(-1, -2)), q.shape[-1] ** -0.5, mask)

    def backward(dy):
        dscores = softmax_(matmul(dy, v.swapaxes(-1, -2)))
        dv = matmul(weights.swapaxes(-1, -2), dy)
        return matmul(dscores, k), matmul(dscores.swapaxes(-1, -2), q), dv

    return matmul(weights, v), backward


@takes("scores (...), scale (), mask (*)")
@dispatch
def attention_weights(scores, scale, mask=None):
    """softmax(scale · scores + mask) over the last axis. The mask is repeated along the axes that it lacks."""
    scaled = scores * scale
    if mask is not None:
        scaled = scaled + mask
    weights, softmax_ = softmax(scaled)

    def backward(dweights):
        dscores = softmax_(dweights)
        dscores *= scale
        return dscores

    return weights, backward


@takes("qkv (N, T, 3D), heads ≥ 1")
@dispatch
def attend_heads(qkv, heads, mask=None):
    """`attend` in each head -> y (N, T, D).   qkv: all heads' queries, then keys, then values; mask: as there."""
    y, attend_ = attend(*split_heads(qkv, 3, heads), mask)

    def backward(dy):
        return merge_heads(*attend_(*split_heads(dy, 1, heads)))

    return merge_heads(y), backward


def split_heads(x, parts, heads):
    """(N, T, parts · D) -> views (parts, N, H, T, d). Raises ValueError when D is not divisible by `heads`."""
    check_heads(x.shape[-1] // parts, heads)
    return x.reshape(*x.shape[:2], parts, heads, -1).transpose(2, 0, 3, 1, 4)


def merge_heads(*parts):
    """Arrays (N, H, T, d) -> (N, T, parts · D): the transpose of `split_heads`."""
    rows = array_module(parts[0]).stack([part.swapaxes(1, 2) for part in parts], 2)
    return rows.reshape(*rows.shape[:2], -1)


@takes(
    "x (N, T, D), p.in_proj_weight (3D, D), p.in_proj_bias (3D), p.out_proj.weight (D, D), p.out_proj.bias (D), "
    "heads ≥ 1"
)
def self_attention(x, p, heads, mask=None):
    """Multi-head self-attention -> y (N, T, D).

    in_proj: queries, keys, values in that order; mask: (T, T), or as in `attention_weights` for scores (N, H, T, T).
    """
    qkv, in_proj = linear(x, p["in_proj_weight"], p["in_proj_bias"])
    mixed, attend_ = attend_heads(qkv, heads, mask)
    y, out_proj = linear(mixed, **p["out_proj"])

    def backward(dy):
        dmixed, d_out = out_proj(dy)
        dx, d_in = in_proj(attend_(dmixed))
        return dx, {"in_proj_weight": d_in["weight"], "in_proj_bias": d_in["bias"], "out_proj": d_out}

    return y, backward


def check_heads(width, heads):
    """ValueError where a width cannot be split into so many heads."""
    if width % heads:
        raise ValueError(f"attention of width {width} cannot be split into {heads} heads.")


@takes(
    "x (N, H, W, C), p.positional_embedding (T, C), p.{q,k,v}_proj.weight (C, C), p.{q,k,v}_proj.bias (C), "
    "p.c_proj.weight (E, C), p.c_proj.bias (E), heads ≥ 1"
)
def attention_pool(x, p, heads):
    """CLIP's attention pooling: the mean of all pixels asks, once, what the picture shows (§2.4) -> y (N, E).

    There is one query a picture, so the products are taken in the order that costs least. Keys and values of all
    tokens need never be formed: q · (K t) = (Kᵀ q) · t, and Σ wₜ (V t) = V (Σ wₜ t). The same numbers for one part in
    1 + H·W of the work. It also shows that a bias on the keys adds the same to every score and so does nothing: its
    gradient is 0. Raises ValueError when C is not divisible by `heads`, or the picture is not of the model's size.
    """
    n, channels = x.shape[0], x.shape[-1]
    check_heads(channels, heads)
    xp = array_module(x)
    pixels = x.reshape(n, -1, channels)
    count = pixels.shape[1]
    if len(p["positional_embedding"]) != count + 1:
        raise ValueError(
            f"attention pooling was made for {len(p['positional_embedding']) - 1} pixels, "
            f"the picture has {count}: images do not have the model's image_size."
        )
    tokens = xp.concatenate([pixels.mean(1, keepdims=True), pixels], 1) + p["positional_embedding"]  # (N, T, C)
    width = channels // heads
    key_weight = p["k_proj"]["weight"].reshape(heads, width, channels)
    value_weight = p["v_proj"]["weight"].reshape(heads, width, channels)

    query, q_proj = linear(tokens[:, 0], **p["q_proj"])
    query = query.reshape(n, heads, width).transpose(1, 0, 2)  # (H, N, d)
    asked = matmul(query, key_weight).transpose(1, 0, 2)  # (N, H, C) = Kᵀ q
    weights, softmax_ = attention_weights(matmul(asked, tokens.swapaxes(1, 2)), width**-0.5)  # (N, H, T)
    taken = matmul(weights, tokens).transpose(1, 0, 2)  # (H, N, C) = Σ wₜ t
    values = matmul(taken, value_weight.swapaxes(1, 2)).transpose(1, 0, 2).reshape(n, channels)
    y, c_proj = linear(values + p["v_proj"]["bias"], **p["c_proj"])

    def backward(dy):
        dvalues, d_c = c_proj(dy)
        by_head = dvalues.reshape(n, heads, width).transpose(1, 0, 2)  # (H, N, d)
        dvalue_weight = matmul(by_head.swapaxes(1, 2), taken)
        dtaken = matmul(by_head, value_weight).transpose(1, 0, 2)  # (N, H, C)
        dscores = softmax_(matmul(dtaken, tokens.swapaxes(1, 2)))
        dasked = matmul(dscores, tokens).transpose(1, 0, 2)  # (H, N, C)
        dtokens = matmul(weights.swapaxes(1, 2), dtaken) + matmul(dscores.swapaxes(1, 2), asked)
        dkey_weight = matmul(query.swapaxes(1, 2), dasked)
        dquery = matmul(dasked, key_weight.swapaxes(1, 2)).transpose(1, 0, 2)
        dfirst, d_q = q_proj(dquery.reshape(n, channels))
        dtokens[:, 0] += dfirst
        dpixels = dtokens[:, 1:] + dtokens[:, :1] / count
        d_k = {"weight": dkey_weight.reshape(channels, channels), "bias": xp.zeros_like(p["k_proj"]["bias"])}
        d_v = {"weight": dvalue_weight.reshape(channels, channels), "bias": dvalues.sum(0)}
        grads = {"positional_embedding": dtokens.sum(0), "k_proj": d_k, "q_proj": d_q, "v_proj": d_v, "c_proj": d_c}
        return dpixels.reshape(x.shape), grads

    return y, backward
