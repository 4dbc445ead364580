"""Attention: each position looks at others and takes from them what it asked for.

    attention(Q, K, V) = softmax(Q Kᵀ / √d + mask) V            (Vaswani et al. 2017, equation 1)

in H heads of width d = D / H, whose outputs stand side by side and pass one more linear map.
"""

import math

from .backend import array_module
from .gpu.kernels import has_twin
from .gpu.matmul import matmul
from .layers import linear, softmax, sum_rows


def causal_mask(tokens, xp, dtype):
    """(T, T): 0 where a position may look (itself and what came before), −inf where not."""
    return xp.triu(xp.full((tokens, tokens), -math.inf, dtype), 1)


def attend(q, k, v, mask=None, out=None):
    """The equation above: softmax(Q Kᵀ / √d + mask) V.

    q (…, A, d), k and v (…, T, d), mask (A, T) or one for each of the first axis, or None -> y (…, A, d). out: where
    y is written. backward(dy, out=(None, None, None)) -> dq, dk, dv, written there.
    """
    weights, softmax_ = attention_weights(matmul(q, k.swapaxes(-1, -2)), q.shape[-1] ** -0.5, mask)
    y = matmul(weights, v, out)

    def backward(dy, out=(None, None, None)):
        dscores = softmax_(matmul(dy, v.swapaxes(-1, -2)))
        return (
            matmul(dscores, k, out[0]),
            matmul(dscores.swapaxes(-1, -2), q, out[1]),
            matmul(weights.swapaxes(-1, -2), dy, out[2]),
        )

    return y, backward


@has_twin
def attention_weights(scores, scale, mask=None):
    """softmax(scale · scores + mask) over the last axis.

    scores (…, A, T), scale a number, mask as in `attend` -> weights (…, A, T); backward(dweights) -> dscores.
    """
    scaled = scores * scale
    if mask is not None:
        scaled += mask
    weights, softmax_ = softmax(scaled)

    def backward(dweights):
        return softmax_(dweights) * scale

    return weights, backward


def self_attention(x, p, heads, mask=None, at=None):
    """Multi-head self-attention.

    x (N, T, D); p: in_proj_weight (3D, D) and in_proj_bias (3D,) (queries, keys, values in that
    order), out_proj.weight (D, D), out_proj.bias (D,); mask (T, T), added to the scores, or None
    -> y (N, T, D). Raises ValueError when D is not divisible by `heads`.
    at: positions (N,), where only what one position of each row hears is wanted -> y (N, 1, D).
    """
    n, t, width = x.shape
    if heads < 1 or width % heads:
        raise ValueError(f"attention of width {width} cannot be split into {heads} heads.")
    if at is not None:
        return _self_attention_at(x, p, heads, mask, at)
    xp = array_module(x)

    def split(rows):  # (N, T, …·D) -> (…, N, H, T, d), a view
        return rows.reshape(n, t, -1, heads, width // heads).transpose(2, 0, 3, 1, 4)

    qkv, project = linear(x, p["in_proj_weight"], p["in_proj_bias"])
    mixed = xp.empty((n, t, width), x.dtype)  # the heads write side by side into it
    _, attend_ = attend(*split(qkv), mask, out=split(mixed)[0])
    y, out = linear(mixed, p["out_proj"]["weight"], p["out_proj"]["bias"])

    def backward(dy):
        dmixed, d_out = out(dy)
        dqkv = xp.empty((n, t, 3 * width), dy.dtype)
        attend_(split(dmixed)[0], out=split(dqkv))
        dx, d_in = project(dqkv)
        return dx, {"in_proj_weight": d_in["weight"], "in_proj_bias": d_in["bias"], "out_proj": d_out}

    return y, backward


def _self_attention_at(x, p, heads, mask, at):
    # Only position `at` asks, so the others need no query; keys and values are still everyone's.
    n, t, width = x.shape
    xp, size = array_module(x), width // heads
    rows = xp.arange(n)
    q, ask = linear(x[rows, at], p["in_proj_weight"][:width], p["in_proj_bias"][:width])
    kv, offer = linear(x, p["in_proj_weight"][width:], p["in_proj_bias"][width:])
    k, v = kv.reshape(n, t, 2, heads, size).transpose(2, 0, 3, 1, 4)
    mixed, attend_ = attend(q.reshape(n, heads, 1, size), k, v, None if mask is None else mask[at][:, None, None])
    y, out = linear(mixed.reshape(n, 1, width), p["out_proj"]["weight"], p["out_proj"]["bias"])

    def backward(dy):
        dmixed, d_out = out(dy)
        dkv = xp.empty((n, t, 2, heads, size), dy.dtype)
        dq, _, _ = attend_(dmixed.reshape(n, heads, 1, size), out=(None, *dkv.transpose(2, 0, 3, 1, 4)))
        dx, d_offer = offer(dkv.reshape(n, t, 2 * width))
        dasked, d_ask = ask(dq.reshape(n, width))
        dx[rows, at] += dasked
        return dx, {
            "in_proj_weight": xp.concatenate([d_ask["weight"], d_offer["weight"]]),
            "in_proj_bias": xp.concatenate([d_ask["bias"], d_offer["bias"]]),
            "out_proj": d_out,
        }

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
        raise ValueError(
            f"attention pooling was made for {p['positional_embedding'].shape[0] - 1} pixels, "
            f"the picture has {count}: images do not have the model's image_size."
        )
    tokens = xp.concatenate([pixels.mean(1, keepdims=True), pixels], 1) + p["positional_embedding"]  # (N, T, C)
    width = channels // heads
    key_weight = p["k_proj"]["weight"].reshape(heads, width, channels)
    value_weight = p["v_proj"]["weight"].reshape(heads, width, channels)

    query, ask = linear(tokens[:, 0], p["q_proj"]["weight"], p["q_proj"]["bias"])
    query = query.reshape(n, heads, width).transpose(1, 0, 2)  # (H, N, d)
    asked = matmul(query, key_weight).transpose(1, 0, 2)  # (N, H, C) = Kᵀ q
    weights, softmax_ = attention_weights(matmul(asked, tokens.swapaxes(1, 2)), width**-0.5)  # (N, H, T)
    taken = matmul(weights, tokens).transpose(1, 0, 2)  # (H, N, C) = Σ wₜ t
    values = matmul(taken, value_weight.swapaxes(1, 2)).transpose(1, 0, 2).reshape(n, channels)
    y, out = linear(values + p["v_proj"]["bias"], p["c_proj"]["weight"], p["c_proj"]["bias"])

    def backward(dy):
        dvalues, d_c = out(dy)
        by_head = dvalues.reshape(n, heads, width).transpose(1, 0, 2)  # (H, N, d)
        dvalue_weight = matmul(by_head.swapaxes(1, 2), taken)
        dtaken = matmul(by_head, value_weight).transpose(1, 0, 2)  # (N, H, C)
        dscores = softmax_(matmul(dtaken, tokens.swapaxes(1, 2)))
        dasked = matmul(dscores, tokens).transpose(1, 0, 2)  # (H, N, C)
        dtokens = matmul(weights.swapaxes(1, 2), dtaken)
        dtokens += matmul(dscores.swapaxes(1, 2), asked)
        dquery = matmul(dasked, key_weight.swapaxes(1, 2))
        dkey_weight = matmul(query.swapaxes(1, 2), dasked)
        dfirst, d_q = ask(dquery.transpose(1, 0, 2).reshape(n, channels))
        dtokens[:, 0] += dfirst
        dpixels = dtokens[:, 1:] + dtokens[:, :1] / count
        return dpixels.reshape(x.shape), {
            "positional_embedding": sum_rows(dtokens.reshape(n, -1)).reshape(tokens.shape[1:]),
            "k_proj": {"weight": dkey_weight.reshape(channels, channels), "bias": xp.zeros_like(p["k_proj"]["bias"])},
            "q_proj": d_q,
            "v_proj": {"weight": dvalue_weight.reshape(channels, channels), "bias": sum_rows(dvalues)},
            "c_proj": d_c,
        }

    return y, backward
