"""Wrong losses."""

import numpy as np

from . import bug

# ------------------------------------------------------------------------------------------ the logarithm of a sum


def lse(x, axis, dx):
    """A right forward pass; dx(dy with its axis, the softmax, e)."""
    m = x.real.max(axis, keepdims=True)
    e = np.exp(x - m)
    total = e.sum(axis, keepdims=True)
    return (m + np.log(total)).squeeze(axis), lambda dy: dx(np.expand_dims(dy, axis), e / total, e)


@bug("log_sum_exp", "traps")
def overflow(x, axis=-1):
    e = np.exp(x)
    total = e.sum(axis, keepdims=True)
    return np.log(total).squeeze(axis), lambda dy: np.expand_dims(dy, axis) * e / total


@bug("log_sum_exp", "traps")
def largest_of_all(x, axis=-1):
    m = x.real.max()
    e = np.exp(x - m)
    total = e.sum(axis, keepdims=True)
    return m + np.log(total).squeeze(axis), lambda dy: np.expand_dims(dy, axis) * e / total


@bug("log_sum_exp", "largest")
def never_added_again(x, axis=-1):
    e = np.exp(x - x.real.max(axis, keepdims=True))
    total = e.sum(axis, keepdims=True)
    return np.log(total).squeeze(axis), lambda dy: np.expand_dims(dy, axis) * e / total


@bug("log_sum_exp", "wrong axis")
def last_axis_only(x, axis=-1):
    return lse(x, -1, lambda dy, p, e: dy * p)


@bug("log_sum_exp", "wrong axis")
def of_everything(x, axis=-1):
    e = np.exp(x)
    return np.log(e.sum()), lambda dy: dy * e / e.sum()


@bug("log_sum_exp", "missing term, centring, factor")
def not_over_the_sum(x, axis=-1):
    return lse(x, axis, lambda dy, p, e: dy * e)


@bug("log_sum_exp", "")
def dy_forgotten(x, axis=-1):
    return lse(x, axis, lambda dy, p, e: 0 * dy + p)


@bug("log_sum_exp", "")
def as_a_sigmoid(x, axis=-1):
    return lse(x, axis, lambda dy, p, e: dy * p * (1 - p))


@bug("log_sum_exp", "missing term, slope, centring")
def only_the_largest(x, axis=-1):
    return lse(x, axis, lambda dy, p, e: dy * (e.real == 1))


# ------------------------------------------------------------------------------------------ both cross-entropies


def soft(s, axis):
    e = np.exp(s - s.real.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_of_sum(s, axis):
    m = s.real.max(axis)
    return m + np.log(np.exp(s - s.real.max(axis, keepdims=True)).sum(axis))


def crossed(s, g):
    """A right forward pass; g(P, Q, N) is G."""
    n = len(s)
    loss = ((log_of_sum(s, 1) + log_of_sum(s, 0)) / 2 - np.diagonal(s)).mean()
    return loss, lambda: g(soft(s, 1), soft(s, 0), n)


def less_one(p, by):
    p = p.copy()
    p[np.diag_indices(len(p))] -= by
    return p


@bug("symmetric_cross_entropy", "one-sided")
def rows_alone(similarity, positives=None):
    n = len(similarity)
    loss = (log_of_sum(similarity, 1) - np.diagonal(similarity)).mean()
    return loss, lambda: (soft(similarity, 1) - np.eye(n)) / n


@bug("symmetric_cross_entropy", "one-sided, missing term")
def g_of_rows_alone(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p, 1) / n)


@bug("symmetric_cross_entropy", "one-sided, missing term, centring, shortcut")
def q_forgotten(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p, 2) / (2 * n))


@bug("symmetric_cross_entropy", "some indices, centring, missing term")
def truth_once(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p + q, 1) / (2 * n))


@bug("symmetric_cross_entropy", "some indices, centring, missing term")
def truth_forgotten(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: (p + q) / (2 * n))


@bug("symmetric_cross_entropy", "2")
def half_forgotten(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p + q, 2) / n)


@bug("symmetric_cross_entropy", "N, k times, factor")
def not_averaged(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p + q, 2) / 2)


@bug("symmetric_cross_entropy", "−1")
def truth_less_belief(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: -less_one(p + q, 2) / (2 * n))


@bug("symmetric_cross_entropy", "transposed, one-sided, missing term, wrong axis")
def q_of_the_transpose(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: less_one(p + q.T, 2) / (2 * n))


@bug("symmetric_cross_entropy", "traps")
def infinite(similarity, positives=None):
    n = len(similarity)
    e = np.exp(similarity)
    p, q = e / e.sum(1, keepdims=True), e / e.sum(0, keepdims=True)
    loss = -(np.log(np.diagonal(p)) + np.log(np.diagonal(q))).mean() / 2
    return loss, lambda: less_one(p + q, 2) / (2 * n)


@bug("symmetric_cross_entropy", "traps")
def logarithm_of_nothing(similarity, positives=None):
    n = len(similarity)
    p, q = soft(similarity, 1), soft(similarity, 0)
    loss = -(np.log(np.diagonal(p)) + np.log(np.diagonal(q))).mean() / 2
    return loss, lambda: less_one(p + q, 2) / (2 * n)


@bug("symmetric_cross_entropy", "precision")
def an_epsilon_in_the_logarithm(similarity, positives=None):
    n = len(similarity)
    p, q = soft(similarity, 1), soft(similarity, 0)
    loss = -(np.log(np.diagonal(p) + 1e-8) + np.log(np.diagonal(q) + 1e-8)).mean() / 2
    return loss, lambda: less_one(p + q, 2) / (2 * n)


@bug("symmetric_cross_entropy", "")
def double_precision(similarity, positives=None):
    return crossed(similarity, lambda p, q, n: (p + q - 2 * np.eye(n)) / (2 * n))


# ------------------------------------------------------------------------------------------ the temperature


def tempered(z, t, logit_scale, back):
    """A right forward pass; back(G, S, s, Z_I, Z_T) gives the gradients."""
    s = np.exp(logit_scale)
    similarity = s * z @ t.T
    loss, cross = crossed(similarity, lambda p, q, n: less_one(p + q, 2) / (2 * n))
    return loss, lambda: back(cross(), similarity, s, z, t)


@bug("contrastive_loss", "τ, 1/τ, factor")
def s_forgotten(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (g @ t, g.T @ z, (g * S).sum()))


@bug("contrastive_loss", "τ, 1/τ, factor")
def s_forgotten_once(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, g.T @ z, (g * S).sum()))


@bug("contrastive_loss", "τ, 1/τ, factor")
def exponential_forgotten(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, (g * S).sum() / s))


@bug("contrastive_loss", "transposed")
def g_not_transposed(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g @ z, (g * S).sum()))


@bug("contrastive_loss", "swapped")
def exchanged(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g.T @ z, s * g @ t, (g * S).sum()))


@bug("contrastive_loss", "")
def pulled_by_its_own_kind(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ z, s * g.T @ t, (g * S).sum()))


@bug("contrastive_loss", "never accumulated, clip, missing term")
def temperature_a_constant(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, 0 * g.sum()))


@bug("contrastive_loss", "never accumulated, clip, centring, missing term, slope")
def sum_of_g(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, g.sum()))


@bug("contrastive_loss", "N, 1/N, factor")
def mean_for_sum(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, (g * S).mean()))


@bug("contrastive_loss", "−1")
def as_if_tau(z_image, z_text, logit_scale, positives=None):
    return tempered(z_image, z_text, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, -(g * S).sum()))


@bug("contrastive_loss", "τ")
def not_exponentiated(z_image, z_text, logit_scale, positives=None):
    loss, cross = crossed(logit_scale * z_image @ z_text.T, lambda p, q, n: less_one(p + q, 2) / (2 * n))
    return loss, lambda: (
        logit_scale * cross() @ z_text,
        logit_scale * cross().T @ z_image,
        (cross() * (z_image @ z_text.T)).sum(),
    )


# ------------------------------------------------------------------------------------------ from features


def sphere(x):
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    z = x / length
    return z, lambda dz: (dz - z * (dz * z).sum(-1, keepdims=True)) / length


def right(z, t, logit_scale):
    return tempered(z, t, logit_scale, lambda g, S, s, z, t: (s * g @ t, s * g.T @ z, (g * S).sum()))


def from_features(image, text, logit_scale, back):
    """A right forward pass; back(dZ_I, dZ_T, the way back of each sphere, features) gives the two gradients."""
    (z, image_back), (t, text_back) = sphere(image), sphere(text)
    loss, backward = right(z, t, logit_scale)

    def back_to_features():
        dz, dt, d_scale = backward()
        return *back(dz, dt, image_back, text_back, image, text), d_scale

    return loss, back_to_features


@bug("clip_loss", "projection")
def sphere_forgotten(image_features, text_features, logit_scale, positives=None):
    return from_features(image_features, text_features, logit_scale, lambda dz, dt, ib, tb, i, t: (dz, dt))


@bug("clip_loss", "projection")
def texts_left_out(image_features, text_features, logit_scale, positives=None):
    return from_features(image_features, text_features, logit_scale, lambda dz, dt, ib, tb, i, t: (ib(dz), dt))


@bug("clip_loss", "projection")
def lengths_constants(image_features, text_features, logit_scale, positives=None):
    def back(dz, dt, ib, tb, i, t):
        return dz / np.sqrt((i * i).sum(1, keepdims=True)), dt / np.sqrt((t * t).sum(1, keepdims=True))

    return from_features(image_features, text_features, logit_scale, back)


@bug("clip_loss", "")
def through_the_other_sphere(image_features, text_features, logit_scale, positives=None):
    return from_features(image_features, text_features, logit_scale, lambda dz, dt, ib, tb, i, t: (tb(dz), ib(dt)))


@bug("clip_loss", "swapped")
def the_other_order(image_features, text_features, logit_scale, positives=None):
    return from_features(image_features, text_features, logit_scale, lambda dz, dt, ib, tb, i, t: (tb(dt), ib(dz)))


@bug("clip_loss", "projection")
def not_on_the_sphere(image_features, text_features, logit_scale, positives=None):
    return right(image_features, text_features, logit_scale)


@bug("clip_loss", "projection, factor, missing term")
def length_forgotten(image_features, text_features, logit_scale, positives=None):
    def back(dz, dt, ib, tb, i, t):
        return [d - (u := sphere(x)[0]) * (d * u).sum(-1, keepdims=True) for d, x in ((dz, i), (dt, t))]

    return from_features(image_features, text_features, logit_scale, back)


@bug("clip_loss", "wrong axis")
def over_the_batch(image_features, text_features, logit_scale, positives=None):
    (z, ib), (t, tb) = sphere(image_features.T), sphere(text_features.T)
    loss, backward = right(z.T, t.T, logit_scale)
    return loss, lambda: (ib(backward()[0].T).T, tb(backward()[1].T).T, backward()[2])
