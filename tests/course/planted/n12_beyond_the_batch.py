"""Wrong running sums, losses in tiles, losses of pairs, and verdicts."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ a sum that grows


@bug("running_sum", "rescale")
def added_as_it_is(largest, total, scores):
    now = np.maximum(largest, scores.real.max(0))
    return now, total + np.exp(scores - now).sum(0)


@bug("running_sum", "rescale")
def upside_down(largest, total, scores):
    now = np.maximum(largest, scores.real.max(0))
    return now, total * np.exp(now - largest) + np.exp(scores - now).sum(0)


@bug("running_sum", "forgotten")
def the_new_alone(largest, total, scores):
    now = np.maximum(largest, scores.real.max(0))
    return now, np.exp(scores - now).sum(0)


@bug("running_sum", "shift")
def old_unit(largest, total, scores):
    now = np.maximum(largest, scores.real.max(0))
    return now, total * np.exp(largest - now) + np.exp(scores - largest).sum(0)


@bug("running_sum", "shift")
def unit_of_its_own(largest, total, scores):
    best = scores.real.max(0)
    now = np.maximum(largest, best)
    return now, total * np.exp(largest - now) + np.exp(scores - best).sum(0)


@bug("running_sum", "")
def along_the_rows(largest, total, scores):
    now = np.maximum(largest, scores.real.max(1))
    return now, total * np.exp(largest - now) + np.exp(scores - now[:, None]).sum(1)


@bug("running_sum", "largest")
def new_largest(largest, total, scores):
    now = np.maximum(largest, scores.real.max(0))
    return scores.real.max(0), total * np.exp(largest - now) + np.exp(scores - now).sum(0)


@bug("running_sum", "")
def not_from_nothing(largest, total, scores):
    m = np.maximum(largest, scores.real.max(0))
    return m, np.exp(np.log(total) + largest - m) + np.exp(scores - m).sum(0) + 0 * largest


@bug("running_sum", "")
def without_a_shift(largest, total, scores):
    whole = total * np.exp(largest) + np.exp(scores).sum(0)
    now = np.maximum(largest, scores.real.max(0))
    return now, whole / np.exp(now)


# ------------------------------------------------------------------------------------------ the loss in tiles


def in_tiles(z_image, z_text, logit_scale, tile, truth=None, image=None, text=None, scale=None, p_and_q=None):
    """The loss in tiles, with other lines in its backward pass."""
    n, s = len(z_image), np.exp(logit_scale)
    size = tile or n
    whole = s * z_image @ z_text.T
    row_max, column_max = whole.real.max(1), whole.real.max(0)
    row_sum = np.exp(whole - row_max[:, None]).sum(1)
    column_sum = np.exp(whole - column_max).sum(0)
    logs = row_max + np.log(row_sum) + column_max + np.log(column_sum)
    loss = (logs - 2 * np.diagonal(whole)).sum() / (2 * n)

    def backward():
        d_image, d_text = np.zeros_like(whole[:, :1] * z_image), np.zeros_like(whole[:, :1] * z_text)
        total = 0
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            scores = whole[rows]
            p = np.exp(scores - row_max[rows, None]) / row_sum[rows, None]
            q = np.exp(scores - column_max) / column_sum
            g = (p_and_q or (lambda p, q, scores: p + q))(p, q, scores) / (2 * n)
            lines = np.arange(len(g))
            (truth or right_truth)(g, lines, start, n)
            d_image[rows] = (image or (lambda s, g: s * g @ z_text))(s, g)
            (text or add_text)(d_text, s * g.T @ z_image[rows])
            total = total + (g * scores).sum()
        return d_image, d_text, total if scale is None else scale(z_image, d_image, s, total)

    return loss, backward


def right_truth(g, lines, start, n):
    g[lines, start + lines] -= 1 / n


def add_text(d_text, part):
    d_text += part


def truth_at_the_diagonal_of_the_tile(g, lines, start, n):
    g[lines, lines] -= 1 / n


def truth_once(g, lines, start, n):
    g[lines, start + lines] -= 1 / (2 * n)


def put_text(d_text, part):
    d_text[:] = part


def no_truth(g, lines, start, n): ...


@bug("tiled_contrastive_loss", "some indices, offset, permuted, missing term")
def offset_forgotten(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, truth=truth_at_the_diagonal_of_the_tile)


@bug("tiled_contrastive_loss", "missing term, factor, one-sided")
def truth_of_one_exam(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, truth=truth_once)


@bug("tiled_contrastive_loss", "overwritten, missing term, never accumulated, time step")
def last_tile_only(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, text=put_text)


@bug("tiled_contrastive_loss", "τ")
def scale_forgotten(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, image=lambda s, g: g @ z_text)


@bug("tiled_contrastive_loss", "τ, 1/τ, factor")
def of_the_scale(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, scale=lambda z, d, s, total: total / s)


@bug("tiled_contrastive_loss", "one-sided, missing term")
def rows_on_the_way_back(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, p_and_q=lambda p, q, scores: 2 * p)


@bug("tiled_contrastive_loss", "")
def columns_within_a_tile(z_image, z_text, logit_scale, tile=None):
    def p_and_q(p, q, scores):
        e = np.exp(scores - scores.real.max(0))
        return p + e / e.sum(0)

    return in_tiles(z_image, z_text, logit_scale, tile, p_and_q=p_and_q)


@bug("tiled_contrastive_loss", "missing term, centring")
def belief_alone(z_image, z_text, logit_scale, tile=None):
    return in_tiles(z_image, z_text, logit_scale, tile, truth=no_truth)


@bug("tiled_contrastive_loss", "columns")
def forward_columns_within_a_tile(z_image, z_text, logit_scale, tile=None):
    n, s = len(z_image), np.exp(logit_scale)
    total = 0
    for start in range(0, n, tile or n):
        scores = s * z_image[start : start + (tile or n)] @ z_text.T
        truth = (scores[np.arange(len(scores)), start + np.arange(len(scores))]).sum()
        total = total + np.log(np.exp(scores).sum(1)).sum() + np.log(np.exp(scores).sum(0)).sum() - 2 * truth
    return total / (2 * n), lambda: None


@bug("tiled_contrastive_loss", "offset")
def the_rest_lost(z_image, z_text, logit_scale, tile=None):
    n, s = len(z_image), np.exp(logit_scale)
    size = min(tile or n, n)
    columns, total = 0, 0
    scores = s * z_image @ z_text.T
    for number in range(n // size):
        some = scores[number * size : (number + 1) * size]
        truth = np.diagonal(scores)[number * size : (number + 1) * size]
        total = total + np.log(np.exp(some).sum(1)).sum() - 2 * truth.sum()
    columns = np.log(np.exp(scores).sum(0)).sum()
    return (total + columns) / (2 * n), lambda: None


@bug("tiled_contrastive_loss", "")
def overflow(z_image, z_text, logit_scale, tile=None):
    n, s = len(z_image), np.exp(logit_scale)
    e = np.exp(s * z_image @ z_text.T)
    p, q = e / e.sum(1, keepdims=True), e / e.sum(0)
    loss = -(np.log(np.diagonal(p)) + np.log(np.diagonal(q))).sum() / (2 * n)

    def backward():
        g = (p + q - 2 * np.eye(n)) / (2 * n)
        d_image = s * g @ z_text
        return d_image, s * g.T @ z_image, (z_image * d_image).sum()

    return loss, backward


# ------------------------------------------------------------------------------------------ SigLIP's loss


def unit(x):
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    return x / length, lambda d: (d - x / length * (d * x / length).sum(-1, keepdims=True)) / length


def pairs(images, texts, logit_scale, logit_bias, **other):
    """SigLIP's loss, some of whose lines are other ones."""
    (z, back_image), (w, back_text) = unit(images), unit(texts)
    n, s = len(z), np.exp(logit_scale)
    y = 2 * np.eye(n) - 1
    cosines = z @ w.T
    m = y * other.get("score", lambda c: s * c + logit_bias)(cosines)
    loss = other.get("mean", lambda each: each.sum() / n)(np.log(1 + np.exp(-m)))

    def backward():
        g = other.get("g", lambda y, m, n: -y / (1 + np.exp(m)) / n)(y, m, n)
        d_image, d_text = s * g @ w, s * g.T @ z
        scale = other.get("scale", lambda g, c: (g * s * c).sum())(g, cosines)
        images_too = other.get("sphere", lambda d: (back_image(d[0]), back_text(d[1])))((d_image, d_text))
        return *images_too, scale, other.get("bias", lambda g: g.sum())(g)

    return loss, backward


@bug("siglip_loss", "1/N")
def mean_over_pairs(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, mean=lambda each: each.mean())


@bug("siglip_loss", "N")
def summed(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, mean=lambda each: each.sum())


@bug("siglip_loss", "bias")
def bias_forgotten(image_features, text_features, logit_scale, logit_bias):
    return pairs(
        image_features, text_features, logit_scale, logit_bias, score=lambda cosines: np.exp(logit_scale) * cosines
    )


@bug("siglip_loss", "N")
def mean_forgotten_on_the_way_back(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, g=lambda y, m, n: -y / (1 + np.exp(m)))


@bug("siglip_loss", "−1")
def uphill(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, g=lambda y, m, n: y / (1 + np.exp(m)) / n)


@bug("siglip_loss", "missing term, some indices, one-sided, slope")
def sigmoid_of_the_wrong_side(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, g=lambda y, m, n: -y / (1 + np.exp(-m)) / n)


@bug("siglip_loss", "projection")
def length_a_constant(image_features, text_features, logit_scale, logit_bias):
    lengths = [np.sqrt((x * x).sum(-1, keepdims=True)) for x in (image_features, text_features)]
    return pairs(
        image_features,
        text_features,
        logit_scale,
        logit_bias,
        sphere=lambda d: tuple(one / length for one, length in zip(d, lengths)),
    )


@bug("siglip_loss", "1/N, factor")
def bias_averaged(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias, bias=lambda g: g.sum() / len(g))


@bug("siglip_loss", "")
def bias_in_the_temperature(image_features, text_features, logit_scale, logit_bias):
    return pairs(
        image_features,
        text_features,
        logit_scale,
        logit_bias,
        scale=lambda g, c: (g * (np.exp(logit_scale) * c + logit_bias)).sum(),
    )


@bug("siglip_loss", "")
def infinite(image_features, text_features, logit_scale, logit_bias):
    return pairs(image_features, text_features, logit_scale, logit_bias)


# ------------------------------------------------------------------------------------------ who is guilty?


@bug("culprits", "all")
def everybody(wrong, uses):
    return sorted(wrong)


@bug("culprits", "other way")
def who_uses_a_wrong_one(wrong, uses):
    return sorted({name for name in wrong for used in uses.get(name, []) if used in wrong})


@bug("culprits", "other way")
def the_largest(wrong, uses):
    inner = {used for name in wrong for used in uses.get(name, [])}
    return sorted(set(wrong) - inner)


@bug("culprits", "all")
def leaves(wrong, uses):
    return sorted(name for name in wrong if name not in uses)


@bug("culprits", "order")
def as_they_came(wrong, uses):
    return [name for name in wrong if not set(uses.get(name, [])) & set(wrong)]


@bug("culprits", "")
def unknown_name(wrong, uses):
    return sorted(name for name in wrong if not set(uses[name]) & set(wrong))
