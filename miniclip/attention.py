"""Attention: each position looks at others and takes from them what it asked for.

    attention(Q, K, V) = softmax(Q Kᵀ / √d + mask) V            (Vaswani et al. 2017, equation 1)

in H heads of width d = D / H, whose outputs stand side by side and pass one more linear map.
"""

import math

from .backend import array_module
from .layers import linear, softmax


def causal_mask(tokens, xp, dtype):
    """(T, T): 0 where a position may look (itself and what came before), −inf where not."""
    return xp.triu(xp.full((tokens, tokens), -math.inf, dtype), 1)


def self_attention(x, p, heads, mask=None):
    """Multi-head self-attention.

    x (N, T, D); p: in_proj_weight (3D, D) and in_proj_bias (3D,) (queries, keys, values in that
    order), out_proj.weight (D, D), out_proj.bias (D,); mask (T, T), added to the scores, or None
    -> y (N, T, D). Raises ValueError when D is not divisible by `heads`.
    """
    n, t, width = x.shape
    if heads < 1 or width % heads:
        raise ValueError(f"attention of width {width} cannot be split into {heads} heads.")
    xp = array_module(x)
    scale = (width // heads) ** -0.5

    def split(rows):                                   # (N, T, …·D) -> (…, N, H, T, d)
        return rows.reshape(n, t, -1, heads, width // heads).transpose(2, 0, 3, 1, 4)

    qkv, project = linear(x, p["in_proj_weight"], p["in_proj_bias"])
    q, k, v = split(qkv)
    scores = q @ k.swapaxes(-1, -2) * scale            # (N, H, T, T)
    weights, softmax_ = softmax(scores if mask is None else scores + mask)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(n, t, width)
    y, out = linear(mixed, p["out_proj"]["weight"], p["out_proj"]["bias"])

    def backward(dy):
        dmixed, d_out = out(dy)
        dmixed = split(dmixed)[0]
        dscores = softmax_(dmixed @ v.swapaxes(-1, -2)) * scale
        dqkv = xp.empty((n, t, 3, heads, width // heads), dy.dtype)
        dq, dk, dv = dqkv.transpose(2, 0, 3, 1, 4)     # views: written in place, no transpose after
        dq[...] = dscores @ k
        dk[...] = dscores.swapaxes(-1, -2) @ q
        dv[...] = weights.swapaxes(-1, -2) @ dmixed
        dx, d_in = project(dqkv.reshape(n, t, 3 * width))
        return dx, {"in_proj_weight": d_in["weight"], "in_proj_bias": d_in["bias"], "out_proj": d_out}

    return y, backward


def attention_pool(x, p, heads):
    """CLIP's attention pooling: the mean of all pixels asks, once, what the picture shows (§2.4).

    x (N, H, W, C); p: positional_embedding (1 + H·W, C) and q_proj, k_proj, v_proj (C, C), c_proj
    (E, C), each with weight and bias -> y (N, E).

    There is one query a picture, so the products are taken in the order that costs least. Keys and
    values of all tokens need never be formed: q · (K t) = (Kᵀ q) · t, and Σ wₜ (V t) = V (Σ wₜ t).
    The same numbers for one part in 1 + H·W of the work. It also shows that a bias on the keys adds
    the same to every score and so does nothing: its gradient is 0.
    """
    n, channels = x.shape[0], x.shape[-1]
    if heads < 1 or channels % heads:
        raise ValueError(f"attention pooling of width {channels} cannot be split into {heads} heads.")
    xp = array_module(x)
    pixels = x.reshape(n, -1, channels)
    count = pixels.shape[1]
    if p["positional_embedding"].shape[0] != count + 1:
        raise ValueError(f"attention pooling was made for {p['positional_embedding'].shape[0] - 1} pixels, "
                         f"the picture has {count}: images do not have the model's image_size.")
    tokens = xp.concatenate([pixels.mean(1, keepdims=True), pixels], 1) + p["positional_embedding"]   # (N, T, C)
    width = channels // heads
    key_weight = p["k_proj"]["weight"].reshape(heads, width, channels)
    value_weight = p["v_proj"]["weight"].reshape(heads, width, channels)

    query, ask = linear(tokens[:, 0], p["q_proj"]["weight"], p["q_proj"]["bias"])
    query = query.reshape(n, heads, width).transpose(1, 0, 2) * width**-0.5        # (H, N, d)
    asked = (query @ key_weight).transpose(1, 0, 2)                                # (N, H, C) = Kᵀ q
    weights, softmax_ = softmax(asked @ tokens.swapaxes(1, 2))                     # (N, H, T)
    taken = (weights @ tokens).transpose(1, 0, 2)                                  # (H, N, C) = Σ wₜ t
    values = (taken @ value_weight.swapaxes(1, 2)).transpose(1, 0, 2).reshape(n, channels)
    y, out = linear(values + p["v_proj"]["bias"], p["c_proj"]["weight"], p["c_proj"]["bias"])

    def backward(dy):
        dvalues, d_c = out(dy)
        by_head = dvalues.reshape(n, heads, width).transpose(1, 0, 2)              # (H, N, d)
        dvalue_weight = by_head.swapaxes(1, 2) @ taken
        dtaken = (by_head @ value_weight).transpose(1, 0, 2)                       # (N, H, C)
        dscores = softmax_(dtaken @ tokens.swapaxes(1, 2))
        dasked = (dscores @ tokens).transpose(1, 0, 2)                             # (H, N, C)
        dtokens = weights.swapaxes(1, 2) @ dtaken + dscores.swapaxes(1, 2) @ asked
        dquery = dasked @ key_weight.swapaxes(1, 2) * width**-0.5
        dkey_weight = query.swapaxes(1, 2) @ dasked
        dfirst, d_q = ask(dquery.transpose(1, 0, 2).reshape(n, channels))
        dtokens[:, 0] += dfirst
        dpixels = dtokens[:, 1:] + dtokens[:, :1] / count
        return dpixels.reshape(x.shape), {
            "positional_embedding": dtokens.sum(0),
            "k_proj": {"weight": dkey_weight.reshape(channels, channels),
                       "bias": xp.zeros_like(p["k_proj"]["bias"])},
            "q_proj": d_q,
            "v_proj": {"weight": dvalue_weight.reshape(channels, channels), "bias": dvalues.sum(0)},
            "c_proj": d_c,
        }

    return y, backward
