"""Wrong answers to the variants: losses."""

import numpy as np

from .v1_activations import faulty


def soft(s):
    e = np.exp(s - s.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def lse(s):
    m = s.real.max(-1, keepdims=True)
    return (np.log(np.exp(s - m).sum(-1, keepdims=True)) + m)[:, 0]


def hard(fault):
    def answer(scores, beta=1.0):
        s = scores.T if fault == "down the columns" else scores
        n = len(s)
        wrong = np.array([[s[i, j] for j in range(n) if j != i] for i in range(n)])
        right = np.array([s[i, i] for i in range(n)])
        q = lse((1 + beta) * wrong) - lse(beta * wrong) + np.log(n - 1)
        if fault == "not weighted":
            q = lse(wrong)
        both = np.concatenate([right[:, None], q[:, None]], 1)
        losses = lse(both) - right

        def backward():
            share = soft(both)[:, 1]
            weight = (1 + beta) * soft((1 + beta) * wrong) - beta * soft(beta * wrong)
            if fault == "weights taken for constants":
                weight = soft((1 + beta) * wrong)
            if fault == "slope without beta":
                weight = soft((1 + beta) * wrong) - soft(beta * wrong)
            d = np.zeros((n, n))
            for i in range(n):
                d[i, [j for j in range(n) if j != i]] = share[i] * weight[i]
                d[i, i] = 0.0 if fault == "truth forgotten" else share[i] if fault == "sign of the truth" else -share[i]
            return d if fault == "not averaged on the way back" else d / n

        return losses.sum() if fault == "rows added" else losses.mean(), backward

    return answer


faulty(
    "hard_negative_loss",
    hard,
    {
        "down the columns": "transposed",
        "not weighted": "missing term",
        "rows added": "N",
        "weights taken for constants": "",
        "slope without beta": "",
        "truth forgotten": "mask, some indices, missing term",
        "sign of the truth": "some indices, −1",
        "not averaged on the way back": "N",
    },
)


def focal(fault):
    def answer(scores, gamma=2.0):
        s, n = scores.T if fault == "down the columns" else scores, len(scores)
        log_p = np.diagonal(s) - lse(s)
        p = np.exp(log_p)
        factor = p**gamma if fault == "looks at what is right" else (1 - p) ** gamma
        loss = -(factor * log_p).mean()

        def backward():
            second = gamma * (1 - p) ** (gamma - 1) * p * log_p
            if fault == "factor taken for a constant":
                second = 0.0
            if fault == "p forgotten":
                second = gamma * (1 - p) ** (gamma - 1) * log_p
            along = (second - factor) / (1 if fault == "not averaged on the way back" else n)
            truth = 0 if fault == "truth forgotten" else np.eye(n)
            return along[:, None] * (truth - soft(s))

        return -loss if fault == "sign of the loss" else loss, backward

    return answer


faulty(
    "focal_loss",
    focal,
    {
        "down the columns": "transposed",
        "looks at what is right": "swapped",
        "factor taken for a constant": "missing term",
        "p forgotten": "slope, missing term, factor",
        "not averaged on the way back": "N",
        "truth forgotten": "centring, missing term",
        "sign of the loss": "−1",
    },
)


def siglip(fault):
    def answer(z_image, z_text, classes, logit_scale, logit_bias):
        n, t = len(z_image), logit_scale[classes]
        scale = t if fault == "no exponential" else np.exp(t)
        scale = scale[:, None] if fault == "of the picture" else scale[None, :]
        cosine = z_image @ z_text.T
        y = np.where(np.eye(n) > 0, 1.0, -1.0)
        y = -y if fault == "sign of the truth" else y
        z = -y * (scale * cosine + logit_bias)
        up = z.real > 0
        losses = np.where(up, z, 0) + np.log(1 + np.exp(np.where(up, -z, z)))
        count = n * n if fault == "over all pairs" else n

        def backward():
            g = -y / (1 + np.exp(-z)) / count
            d = np.zeros_like(logit_scale)
            if fault == "repeated classes overwrite":
                d[classes] += (g * scale * cosine).sum(0)
            else:
                np.add.at(d, classes, (g * (1.0 if fault == "its own slope" else scale) * cosine).sum(0))
            g_text = g if fault == "scale forgotten" else g * scale
            db = g.mean() if fault == "bias averaged" else g.sum()
            return (g * scale) @ z_text, (g_text if fault == "not transposed" else g_text.T) @ z_image, d, db

        return losses.sum() / count, backward

    return answer


faulty(
    "siglip_by_class",
    siglip,
    {
        "no exponential": "τ",
        "of the picture": "transposed",
        "sign of the truth": "−1",
        "over all pairs": "1/N",
        "repeated classes overwrite": "overwritten",
        "its own slope": "slope, missing term",
        "scale forgotten": "factor, missing term",
        "bias averaged": "1/N",
        "not transposed": "transposed",
    },
)
