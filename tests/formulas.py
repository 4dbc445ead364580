"""What layers compute, written again as loops and plain formulas, and random parameters for them."""

import math

import numpy as np


def attention_parameters(normal, width):
    return {
        "in_proj_weight": normal(3 * width, width) / math.sqrt(width),
        "in_proj_bias": normal(3 * width),
        "out_proj": {"weight": normal(width, width), "bias": normal(width)},
    }


def softmax_of(scores):
    powers = [math.exp(s - max(scores)) for s in scores]
    return [power / sum(powers) for power in powers]


def attention_by_loops(x, p, heads, causal=False):
    n, t, width = x.shape
    d = width // heads
    wq, wk, wv = np.split(p["in_proj_weight"], 3)
    bq, bk, bv = np.split(p["in_proj_bias"], 3)
    mixed = np.zeros_like(x)
    for picture in range(n):
        q, k, v = x[picture] @ wq.T + bq, x[picture] @ wk.T + bk, x[picture] @ wv.T + bv
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            for i in range(t):
                seen = range(i + 1 if causal else t)
                weights = softmax_of([q[i, part] @ k[j, part] / math.sqrt(d) for j in seen])
                mixed[picture, i, part] = sum(w * v[j, part] for w, j in zip(weights, seen))
    return mixed @ p["out_proj"]["weight"].T + p["out_proj"]["bias"]


def pool_parameters(normal, pixels, channels, out):
    p = {"positional_embedding": normal(1 + pixels, channels)}
    for name, rows in (("k_proj", channels), ("q_proj", channels), ("v_proj", channels), ("c_proj", out)):
        p[name] = {"weight": normal(rows, channels) / math.sqrt(channels), "bias": normal(rows)}
    return p


def pool_by_loops(x, p, heads):
    """Queries, keys and values of every token, as the paper's code forms them."""
    n, channels = len(x), x.shape[-1]
    d = channels // heads
    y = []
    for picture in x.reshape(n, -1, channels):
        tokens = np.vstack([picture.mean(0), picture]) + p["positional_embedding"]
        q = p["q_proj"]["weight"] @ tokens[0] + p["q_proj"]["bias"]
        k = tokens @ p["k_proj"]["weight"].T + p["k_proj"]["bias"]
        v = tokens @ p["v_proj"]["weight"].T + p["v_proj"]["bias"]
        taken = []
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            weights = softmax_of([q[part] @ key[part] / math.sqrt(d) for key in k])
            taken.append(sum(w * value[part] for w, value in zip(weights, v)))
        y.append(p["c_proj"]["weight"] @ np.concatenate(taken) + p["c_proj"]["bias"])
    return np.array(y)


def mlp_parameters(normal, width):
    return {
        "c_fc": {"weight": normal(4 * width, width) / math.sqrt(width), "bias": normal(4 * width)},
        "c_proj": {"weight": normal(width, 4 * width) / math.sqrt(4 * width), "bias": normal(width)},
    }


def block_parameters(normal, width):
    return {
        "ln_1": {"weight": normal(width), "bias": normal(width)},
        "attn": attention_parameters(normal, width),
        "ln_2": {"weight": normal(width), "bias": normal(width)},
        "mlp": mlp_parameters(normal, width),
    }


def norm_by_formula(x, p):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["weight"] + p["bias"]


def mlp_by_formula(x, p, exact=False):
    h = x @ p["c_fc"]["weight"].T + p["c_fc"]["bias"]
    gate = np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(h) if exact else 1 / (1 + np.exp(-1.702 * h))
    return (h * gate) @ p["c_proj"]["weight"].T + p["c_proj"]["bias"]


def block_by_formula(x, p, heads, causal=False, exact=False):
    x = x + attention_by_loops(norm_by_formula(x, p["ln_1"]), p["attn"], heads, causal)
    return x + mlp_by_formula(norm_by_formula(x, p["ln_2"]), p["mlp"], exact)
