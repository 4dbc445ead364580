"""Wrong attentions, masks, heads and poolings."""

import numpy as np

from miniclip.attention import attend as right_attend
from miniclip.layers import linear, softmax

from . import bug

# ------------------------------------------------------------------------------------------ attend


def turned(a):
    return a.swapaxes(-1, -2)


def attention(q, k, v, mask, back, scale=None):
    """An attention with another backward pass, back(dy, a, soft, q, k, v, scale) -> dq, dk, dv."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ turned(k) * scale
    if mask is not None:
        scores = scores + mask
    a, soft = softmax(scores)
    return a @ v, lambda dy: back(dy, a, soft, q, k, v, scale)


@bug("attend", "√d")
def scale_forgotten(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v))
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "1/√d")
def scale_twice(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v)) * scale * scale
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "√d")
def scale_for_queries_alone(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v))
        return ds @ k * scale, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "")
def softmax_forgotten(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = dy @ turned(v) * scale
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "missing term, centring")
def sum_forgotten(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = a * (dy @ turned(v)) * scale
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "missing term, centring, wrong axis")
def softmax_over_the_queries(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        da = dy @ turned(v)
        ds = a * (da - (da * a).sum(-2, keepdims=True)) * scale
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "transposed")
def weights_not_turned(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v)) * scale
        square = a.shape[-1] == a.shape[-2]
        return ds @ k, turned(ds) @ q, (a if square else turned(a)) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "transposed")
def scores_not_turned(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v)) * scale
        square = a.shape[-1] == a.shape[-2]
        return ds @ k, (ds if square else turned(ds)) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "swapped")
def exchanged(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v)) * scale
        return turned(ds) @ q, ds @ k, turned(a) @ dy

    y, backward = attention(q, k, v, mask, back)

    def returned(dy):
        dk, dq, dv = backward(dy)
        return (dk, dq, dv) if dk.shape == dq.shape else (dq, dk, dv)

    return y, returned


@bug("attend", "−1")
def keys_pushed_away(q, k, v, mask=None):
    def back(dy, a, soft, q, k, v, scale):
        ds = soft(dy @ turned(v)) * scale
        return ds @ k, -turned(ds) @ q, turned(a) @ dy

    return attention(q, k, v, mask, back)


@bug("attend", "√d")
def no_scale(q, k, v, mask=None):
    return attention(q, k, v, mask, None, 1.0)


@bug("attend", "factor")
def scale_the_wrong_way(q, k, v, mask=None):
    return attention(q, k, v, mask, None, q.shape[-1] ** 0.5)


@bug("attend", "wrong axis")
def each_key_shares_itself_out(q, k, v, mask=None):
    scores = q @ turned(k) / np.sqrt(q.shape[-1])
    a, _ = softmax(scores if mask is None else scores + mask, -2)
    return a @ v, lambda dy: None


def right_back(dy, a, soft, q, k, v, scale):
    ds = soft(dy @ turned(v)) * scale
    return ds @ k, turned(ds) @ q, turned(a) @ dy


@bug("attend", "mask")
def mask_forgotten(q, k, v, mask=None):
    return attention(q, k, v, None, right_back)


@bug("attend", "mask")
def mask_multiplied(q, k, v, mask=None):
    a, soft = softmax(q @ turned(k) / np.sqrt(q.shape[-1]))
    kept = 1.0 if mask is None else np.exp(mask)
    a = a * kept

    def backward(dy):
        ds = soft(dy @ turned(v) * kept) / np.sqrt(q.shape[-1])
        return ds @ k, turned(ds) @ q, turned(a) @ dy

    return a @ v, backward


@bug("attend", "factor")
def number_of_keys_for_their_width(q, k, v, mask=None):
    return attention(q, k, v, mask, right_back, k.shape[-2] ** -0.5)


# ------------------------------------------------------------------------------------------ causal mask


@bug("causal_mask", "transposed")
def the_past_forbidden(tokens):
    return np.where(np.arange(tokens)[:, None] > np.arange(tokens), -np.inf, 0.0)


@bug("causal_mask", "mask")
def oneself_forbidden(tokens):
    return np.where(np.arange(tokens)[:, None] <= np.arange(tokens), -np.inf, 0.0)


@bug("causal_mask", "mask")
def ones(tokens):
    return np.tril(np.ones((tokens, tokens)))


@bug("causal_mask", "")
def zero_times_infinity(tokens):
    with np.errstate(invalid="ignore"):
        return (1 - np.tri(tokens)) * -np.inf


@bug("causal_mask", "mask")
def inverted(tokens):
    return np.where(np.tri(tokens) > 0, -np.inf, 0.0)


@bug("causal_mask", "precision")
def large_number(tokens):
    return (1 - np.tri(tokens)) * -1e9 + 0.0


@bug("causal_mask", "")
def trues_and_falses(tokens):
    return np.tri(tokens, dtype=bool)


# ------------------------------------------------------------------------------------------ heads


def parts(x, count, heads):
    return x.reshape(*x.shape[:2], count, heads, -1).transpose(2, 0, 3, 1, 4)


def together(*arrays):
    rows = np.stack(arrays).transpose(1, 3, 0, 2, 4)
    return rows.reshape(*rows.shape[:2], -1)


@bug("attend_heads", "permuted")
def three_of_each_head(qkv, heads, mask=None):
    n, t, width = qkv.shape
    q, k, v = qkv.reshape(n, t, heads, 3, -1).transpose(3, 0, 2, 1, 4)
    y, back = right_attend(q, k, v, mask)
    return together(y), lambda dy: together(*back(parts(dy, 1, heads)[0]))


@bug("attend_heads", "permuted")
def put_together_by_reshape(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads), mask)
    n, h, t, d = y.shape
    return y.reshape(n, t, h * d), lambda dy: together(*back(dy.reshape(n, h, t, d)))


@bug("attend_heads", "permuted")
def cut_by_reshape_on_the_way_back(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads), mask)
    return together(y), lambda dy: together(*back(dy.reshape(y.shape)))


@bug("attend_heads", "permuted")
def together_by_reshape_on_the_way_back(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads), mask)

    def backward(dy):
        return np.stack(back(parts(dy, 1, heads)[0]), 2).reshape(qkv.shape)

    return together(y), backward


@bug("attend_heads", "permuted, swapped")
def values_first_on_the_way_back(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads), mask)

    def backward(dy):
        dq, dk, dv = back(parts(dy, 1, heads)[0])
        return together(dv, dk, dq)

    return together(y), backward


@bug("attend_heads", "permuted")
def three_side_by_side_in_each_head(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads), mask)

    def backward(dy):
        grads = np.concatenate(back(parts(dy, 1, heads)[0]), -1)
        return grads.swapaxes(1, 2).reshape(qkv.shape)

    return together(y), backward


@bug("attend_heads", "mask")
def mask_not_handed_on(qkv, heads, mask=None):
    y, back = right_attend(*parts(qkv, 3, heads))
    return together(y), lambda dy: together(*back(parts(dy, 1, heads)[0]))


@bug("attend_heads", "missing term")
def one_head(qkv, heads, mask=None):
    q, k, v = np.split(qkv, 3, -1)
    y, back = right_attend(q, k, v, mask)
    return y, lambda dy: np.concatenate(back(dy), -1)


@bug("attend_heads", "wrong axis")
def heads_attend_to_heads(qkv, heads, mask=None):
    q, k, v = qkv.reshape(*qkv.shape[:2], 3, heads, -1).transpose(2, 0, 1, 3, 4)
    y, _ = right_attend(q, k, v)
    return y.reshape(*qkv.shape[:2], -1), lambda dy: None


# ------------------------------------------------------------------------------------------ pooling


def pool(x, p, heads, **wrong):
    """An attention pooling; each name in `wrong` is a fault of its backward pass."""
    n, channels = len(x), x.shape[-1]
    pixels = x.reshape(n, -1, channels)
    count = pixels.shape[1]
    tokens = np.concatenate([pixels.mean(1, keepdims=True), pixels], 1) + p["positional_embedding"]

    def split(t):
        return t.reshape(n, -1, heads, channels // heads).swapaxes(1, 2)

    def merge(t):
        return t.swapaxes(1, 2).reshape(n, -1, channels)

    q, q_back = linear(tokens[:, :1], **p["q_proj"])
    k, k_back = linear(tokens, **p["k_proj"])
    v, v_back = linear(tokens, **p["v_proj"])
    mixed, back = right_attend(split(q), split(k), split(v))
    y, c_back = linear(merge(mixed)[:, 0], **p["c_proj"])

    def backward(dy):
        dmixed, d_c = c_back(dy)
        dq, dk, dv = map(merge, back(split(dmixed[:, None])))
        dfirst, d_q = q_back(dq)
        dt_k, d_k = k_back(dk)
        dt_v, d_v = v_back(dv)
        dtokens = dt_k * wrong.get("key", 1) + dt_v * wrong.get("value", 1)
        dtokens[:, :1] += dfirst * wrong.get("query", 1)
        share = dtokens[:, :1] * wrong.get("mean", 1) / (1 if "count" in wrong else count)
        dpixels = dtokens[:, 1:] + share
        positions = dtokens.mean(0) if "average" in wrong else dtokens.sum(0)
        if "exchange" in wrong:
            d_k, d_v = d_v, d_k
        grads = {"positional_embedding": positions, "q_proj": d_q, "k_proj": d_k, "v_proj": d_v, "c_proj": d_c}
        return dpixels.reshape(x.shape), grads

    return y, backward


@bug("attention_pool", "missing term, shortcut")
def mean_not_followed(x, p, heads):
    return pool(x, p, heads, mean=0)


@bug("attention_pool", "N, missing term")
def mean_as_a_sum(x, p, heads):
    return pool(x, p, heads, count=True)


@bug("attention_pool", "missing term, some indices")
def query_not_followed(x, p, heads):
    return pool(x, p, heads, query=0)


@bug("attention_pool", "missing term")
def keys_not_followed(x, p, heads):
    return pool(x, p, heads, key=0)


@bug("attention_pool", "missing term")
def values_not_followed(x, p, heads):
    return pool(x, p, heads, value=0)


@bug("attention_pool", "1/N")
def positions_averaged(x, p, heads):
    return pool(x, p, heads, average=True)


@bug("attention_pool", "swapped")
def keys_for_values(x, p, heads):
    return pool(x, p, heads, exchange=True)


@bug("attention_pool", "−1")
def query_subtracted(x, p, heads):
    return pool(x, p, heads, query=-1)
