"""Mistakes that people make in a backward pass: each must be found, placed, and mostly named.

A fault replaces the gradient of one array. The forward pass stays right, but where it is said.
"""

from functools import wraps
from inspect import signature

import numpy as np
import pytest
from formulas import attention_parameters, block_parameters, mlp_parameters, pool_parameters

from miniclip.attention import attention_pool, causal_mask, self_attention
from miniclip.conv import average_pool, batch_norm, conv2d
from miniclip.gradcheck import check
from miniclip.gradcheck.conventions import as_layer
from miniclip.layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax
from miniclip.loss import clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy
from miniclip.transformer import mlp, residual_block, transformer
from miniclip.tree import tree_map, unflatten

METHODS = ["complex", "central", "adjoint", "richardson"]
CONSTANT = ("mask", "running_*")
FAULTS = []  # (wrong layer, its arguments, at, kind)


def clamped_loss(image_features, text_features, logit_scale):
    """The temperature bounded in the forward pass, where a bound has no slope; backward does not know it."""
    return clip_loss(image_features, text_features, logit_scale * 0 + np.log(100))


def normal(*shape):
    return rng.standard_normal(shape)


rng = np.random.default_rng(7)
LAYERS = {
    "linear": (linear, normal(6, 4), normal(5, 4), normal(5)),
    "square linear": (linear, normal(6, 4), normal(4, 4), normal(4)),
    "large linear": (linear, normal(3, 40), normal(50, 40), normal(50)),
    "embedding": (embedding, np.array([1, 2, 1]), normal(4, 3)),
    "layer_norm": (layer_norm, normal(5, 6), normal(6), normal(6)),
    **{f.__name__: (f, normal(3, 5)) for f in (relu, quick_gelu, gelu, softmax, l2_normalize)},
    "conv2d": (conv2d, normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4), 1, 1),
    "square conv2d": (conv2d, normal(2, 5, 5, 3), normal(3, 3, 3, 3), normal(3)),
    "batch_norm": (batch_norm, normal(3, 2, 2, 4), normal(4), normal(4), normal(4), normal(4) ** 2, True),
    "average_pool": (average_pool, normal(2, 4, 4, 3), 2),
    "attention": (self_attention, normal(2, 3, 4), attention_parameters(normal, 4), 2),
    "causal": (self_attention, normal(2, 4, 4), attention_parameters(normal, 4), 2, causal_mask(4, np, float)),
    "pool": (attention_pool, normal(4, 2, 2, 4), pool_parameters(normal, 4, 4, 3), 2),
    "mlp": (mlp, normal(3, 4), mlp_parameters(normal, 4)),
    "block": (residual_block, normal(2, 3, 4), block_parameters(normal, 4), 2),
    "transformer": (transformer, normal(2, 3, 4), {"resblocks": [block_parameters(normal, 4) for _ in range(2)]}, 2),
    "clip_loss": (clip_loss, normal(5, 4), normal(5, 4), np.array(1.0)),
    "clamped_loss": (clamped_loss, normal(5, 4), normal(5, 4), np.array(5.0)),
    "contrastive_loss": (contrastive_loss, normal(5, 4), normal(5, 4), np.array(0.7)),
    "cross entropy": (symmetric_cross_entropy, normal(5, 5)),
    "siglip_loss": (siglip_loss, normal(4, 3), normal(4, 3), np.array(1.0), np.array(-1.0)),
}


def fault(layer, at, kind, name=None):
    """Enter a function of (g, dy, y, *args) that gives the wrong gradient of `at`, g being the right one.

    kind: the diagnosis; "" where nothing in the numbers says what is wrong; a part of the contract's sentence.
    """
    f, *args = LAYERS[layer]
    array = at.partition("[")[0]
    named = as_layer(f, args, exclude=CONSTANT).namer.name

    def enter(change):
        @wraps(f)
        def wrong(*arguments):
            y, right = f(*arguments)

            def replaced(gradients, dy):
                gradients = named(gradients)
                return unflatten(gradients | {array: change(gradients[array], dy, y, *arguments)})

            is_loss = not signature(right).parameters
            return y, (lambda: replaced(right(), None)) if is_loss else (lambda dy: replaced(right(dy), dy))

        FAULTS.append(pytest.param(wrong, args, at, kind, id=f"{layer}: {name or change.__name__}"))
        return change

    return enter


def scaled(g, index, by):
    g = g.copy()
    g[index] *= by
    return g


TABLE = [  # what the wrong gradient is of the right one
    ("linear", "bias", "1/N", "averaged", lambda g: g / 6),
    ("linear", "bias", "never accumulated", "forgotten", lambda g: 0 * g),
    ("square linear", "weight", "transposed", "transposed", lambda g: g.T),
    ("linear", "weight", "transposed", "reshaped, not transposed", lambda g: g.T.reshape(g.shape)),
    ("linear", "weight", "2", "added up twice", lambda g: g + g),
    ("linear", "x", "k times", "added up three times", lambda g: 3 * g),
    ("linear", "x", "never accumulated", "the last row dropped", lambda g: scaled(g, -1, 0)),
    ("large linear", "weight[31, 7]", "some indices", "one entry of 2,000", lambda g: scaled(g, (31, 7), 1.01)),
    ("embedding", "weight", "", "added up into the next row", lambda g: np.roll(g, 1, axis=0)),
    ("layer_norm", "bias", "1/N", "averaged", lambda g: g / 5),
    ("square conv2d", "weight", "transposed", "transposed", lambda g: g.swapaxes(0, 1)),
    ("conv2d", "weight", "turned", "turned", lambda g: g[:, :, ::-1, ::-1]),
    ("conv2d", "x", "never accumulated", "the border forgotten", lambda g: scaled(g, np.s_[:, 0], 0)),
    ("batch_norm", "weight", "1/N", "averaged", lambda g: g / 12),
    ("average_pool", "x", "N", "summed", lambda g: 4 * g),
    ("attention", "p.in_proj_weight", "some indices", "no 1/√d", lambda g: scaled(g, np.s_[:8], 2**0.5)),
    ("attention", "p.in_proj_weight", "some indices", "q and k exchanged", lambda g: np.r_[g[4:8], g[:4], g[8:]]),
    ("pool", "p.positional_embedding", "never accumulated", "no position of the mean", lambda g: scaled(g, 0, 0)),
    ("pool", "p.positional_embedding", "1/N", "averaged over the batch", lambda g: g / 4),
    ("clip_loss", "image_features", "N", "no mean over the batch", lambda g: 10 * g),
    ("clip_loss", "logit_scale", "τ", "of the scale, not its logarithm", lambda g: g / np.exp(1)),
    ("clip_loss", "text_features", "½", "halved twice", lambda g: g / 2),
    ("clip_loss", "text_features", "never accumulated", "one side only", lambda g: 0 * g),
    ("clamped_loss", "logit_scale", "clip", "as without a clamp", lambda g: g),
    ("contrastive_loss", "z_image", "τ", "no temperature", lambda g: g / np.exp(0.7)),
    ("contrastive_loss", "z_text", "1/τ", "temperature twice", lambda g: g * np.exp(0.7)),
    ("cross entropy", "similarity", "some indices", "the truth taken once", lambda g: g + np.eye(5) / 10),
    ("siglip_loss", "logit_bias", "−1", "the wrong sign", lambda g: -g),
    ("siglip_loss", "logit_scale", "N", "summed", lambda g: 4 * g),
]
for layer, at, kind, name, change in TABLE:
    fault(layer, at, kind, name)(lambda g, *_, change=change: change(g))


@fault("square linear", "x", "transposed")
def linear_transposed(g, dy, y, x, weight, bias):
    return dy @ weight.T


@fault("linear", "x", "not twice the gradient of x")
def linear_with_a_cotangent_of_ones(g, dy, y, x, weight, bias):
    return np.ones_like(dy) @ weight


@fault("embedding", "weight", "overwritten")
def embedding_overwritten_where_ids_repeat(g, dy, y, ids, weight):
    dweight = np.zeros_like(weight)
    dweight[ids] = dy
    return dweight


def normalised(x, axes=-1):
    """x̂ and 1/σ."""
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return (x - x.mean(axes, keepdims=True)) * inverse, inverse


@fault("layer_norm", "x", "centring")
def layer_norm_without_the_mean_term(g, dy, y, x, weight, bias):
    hat, inverse = normalised(x)
    d = dy * weight
    return (d - hat * (d * hat).mean(-1, keepdims=True)) * inverse


@fault("layer_norm", "x", "projection")
def layer_norm_without_the_variance_term(g, dy, y, x, weight, bias):
    d = dy * weight
    return (d - d.mean(-1, keepdims=True)) * normalised(x)[1]


@fault("layer_norm", "x", "outside the sums")
def layer_norm_with_its_weight_outside_the_sums(g, dy, y, x, weight, bias):
    return layer_norm(x, np.ones_like(weight), bias)[1](dy)[0] * weight


@fault("layer_norm", "x", "centring")
def layer_norm_as_if_its_statistics_were_constants(g, dy, y, x, weight, bias):
    return dy * weight * normalised(x)[1]


@fault("layer_norm", "weight", "")
def layer_norm_weight_from_what_was_not_normalised(g, dy, y, x, weight, bias):
    return (dy * x).sum(0)


@fault("batch_norm", "x", "centring")
def batch_norm_as_if_its_statistics_were_constants(g, dy, y, x, weight, *args):
    return dy * weight * normalised(x, (0, 1, 2))[1]


@fault("softmax", "x", "centring")
def softmax_without_the_sum(g, dy, y, x):
    return dy * y


@fault("softmax", "x", "centring")
def softmax_of_a_cross_entropy_without_the_truth(g, dy, y, x):
    return dy * y - y * dy.sum(-1, keepdims=True)


@fault("relu", "x", "mask")
def relu_without_its_mask(g, dy, y, x):
    return dy.copy()


@fault("relu", "x", "dy was written to")
def relu_that_zeroes_the_callers_array(g, dy, y, x):
    dy[x < 0] = 0
    return dy


@fault("quick_gelu", "x", "dy was written to")
def quick_gelu_that_writes_into_the_cotangent(g, dy, y, x):
    dy *= 0
    return g


@fault("quick_gelu", "x", "slope")
def quick_gelu_with_the_slope_of_gelu(g, dy, y, x):
    return gelu(x)[1](dy)


@fault("gelu", "x", "slope")
def gelu_without_the_density(g, dy, y, x):
    return dy * y / x


@fault("gelu", "x", "precision")
def gelu_with_a_rounded_constant(g, dy, y, x):
    return dy * (y / x + x * np.exp(-x * x / 2) * 0.398941)


@fault("l2_normalize", "x", "projection")
def l2_normalize_without_the_projection(g, dy, y, x):
    return dy / np.sqrt((x * x).sum(-1, keepdims=True))


@fault("l2_normalize", "x", "projection")
def l2_normalize_that_projects_the_wrong_way(g, dy, y, x):
    return (dy + y * (dy * y).sum(-1, keepdims=True)) / np.sqrt((x * x).sum(-1, keepdims=True))


@fault("conv2d", "x", "turned")
def convolution_kernel_not_turned(g, dy, y, x, weight, *args):
    return conv2d(dy, weight.swapaxes(0, 1), None, 1, 1)[0]


@fault("average_pool", "x", "")
def average_pool_into_one_pixel_of_each_square(g, dy, y, x, size):
    dx = np.zeros_like(x)
    dx[:, ::2, ::2] = dy
    return dx


@fault("causal", "x", "mask")
def attention_that_forgot_the_mask(g, dy, y, x, p, heads, mask):
    return self_attention(x, p, heads)[1](dy)[0]


@fault("pool", "x", "")
def attention_pool_without_the_path_through_the_mean(g, dy, y, x, p, heads):
    return g - attention_pool(x, p, heads)[1](dy)[1]["positional_embedding"][0] / 4


@fault("mlp", "x", "")
def mlp_without_the_slope_of_its_activation(g, dy, y, x, p):
    return dy @ p["c_proj"]["weight"] @ p["c_fc"]["weight"]


@fault("block", "x", "shortcut")
def block_without_its_shortcut(g, dy, *args):
    return g - dy


@fault("block", "x", "shortcut")
def block_with_its_shortcut_taken_twice(g, dy, *args):
    return g + dy


@fault("transformer", "p.resblocks.0.ln_1.bias", "swapped")
def transformer_with_its_gradients_in_backward_order(g, dy, y, *args):
    return transformer(*args)[1](dy)[1]["resblocks"][1]["ln_1"]["bias"]


@fault("clip_loss", "image_features", "swapped")
def loss_with_its_two_sides_exchanged(g, dy, y, *args):
    return clip_loss(*args)[1]()[1]


@fault("contrastive_loss", "z_text", "")
def loss_with_a_matrix_that_should_be_transposed(g, dy, y, z_image, z_text, logit_scale):
    s = np.exp(logit_scale)
    return s * symmetric_cross_entropy(s * z_image @ z_text.T)[1]() @ z_image


@fault("cross entropy", "similarity", "centring")
def cross_entropy_of_rows_alone(g, dy, y, similarity):
    return 2 * g - (softmax(similarity, 0)[0] - np.eye(5) * 0.5) / 10


# ------------------------------------------------------------------------------------------ the tests


def by_methods(cases, quick):
    """Each case by each method; in the quick suite by `quick` of them, not the same for each case."""

    def mark(k, m):
        return [] if (k + m) % len(METHODS) < quick else [pytest.mark.slow]

    return [
        pytest.param(*case.values, method, id=f"{case.id}-{method}", marks=mark(k, m))
        for k, case in enumerate(cases)
        for m, method in enumerate(METHODS)
    ]


@pytest.mark.parametrize("wrong, args, at, kind, method", by_methods(FAULTS, quick=1))
def test_every_fault_is_found_placed_and_named(wrong, args, at, kind, method):
    report = check(wrong, *args, method=method, exclude=CONSTANT)
    assert not report.ok
    if report.problems:
        assert kind and kind in "\n".join(report.problems)
        return
    assert f"WRONG: {at}" in str(report), f"\n{report}"
    (row,) = (row for row in report.rows if not row.ok)  # no other array is accused
    assert row.name == at.partition("[")[0] and kind in ("", row.kind), f"\n{report}"
    assert f"Probably: {row.why}" in str(report) and row.why.endswith(".")


RIGHT = [pytest.param(f, args, id=name) for name, (f, *args) in LAYERS.items() if f is not clamped_loss]


@pytest.mark.parametrize("f, args, method", by_methods(RIGHT, quick=1))
def test_the_same_layers_without_a_fault_are_right(f, args, method):
    report = check(f, *args, method=method, exclude=CONSTANT)
    assert report.ok, f"\n{report}"


def test_a_cotangent_of_ones_would_not_have_seen_it():
    """Why it is random: what the forgotten term subtracts is nothing there."""
    x = normal(3, 5)
    y, backward = softmax(x)
    assert np.abs(backward(np.ones((3, 5)))).max() < 1e-15
    assert not check(lambda x: (y, lambda dy: dy * y - y * y * dy.sum(-1, keepdims=True)), x).ok


def test_there_are_enough_faults():
    assert len(FAULTS) >= 59 and sum(fault.values[3] != "" for fault in FAULTS) >= 53


@pytest.mark.slow
def test_many_wrong_arrays_are_all_found():
    """After the first four, less is evaluated to name what is wrong."""
    f, x, p, heads = LAYERS["block"]

    def wrong(x, p):
        y, right = f(x, p, heads)
        return y, lambda dy: tuple(tree_map(lambda g: g * (1 + (np.arange(g.size).reshape(g.shape) % 3)), right(dy)))

    for method in ("complex", "central"):
        report = check(wrong, x, p, method=method)
        assert len(report.rows) == 13 and not any(row.ok for row in report.rows), f"\n{report}"


# ------------------------------------------------------------------------------------------ the forward pass at fault


@pytest.mark.parametrize(
    "f, gradient, culprit",
    [
        (lambda x: np.linalg.norm(x), lambda x: x / np.sqrt((x * x).sum()), "np.linalg.norm"),
        (lambda x: (x * np.linalg.norm(x)).sum(),
         lambda x: np.sqrt((x * x).sum()) + x * x.sum() / np.sqrt((x * x).sum()), "np.linalg.norm"),
        (lambda x: (x * np.abs(x)).sum(), lambda x: 2 * np.abs(x), "np.abs"),
        (lambda x: (x * np.var(x)).sum(), lambda x: np.var(x) + 2 * (x - x.mean()) * x.mean(), "np.var"),
        (lambda x: (x * x.conj()).sum(), lambda x: 2 * x, "conj"),
        (lambda x: np.vdot(x, x * x), lambda x: 3 * x * x, "np.vdot"),
        (lambda x: sum(float(value) ** 2 for value in x), lambda x: 2 * x, "float"),
    ],
)  # fmt: skip
def test_a_forward_pass_that_a_complex_number_cannot_take(f, gradient, culprit):
    """The gradients are right; it is the method that does not apply. Left to itself, the checker takes another."""
    x = normal(5)
    assert check(f, x, gradient=gradient, method="central").ok and check(f, x, gradient=gradient).ok
    for method in ("complex", "adjoint"):
        report = check(f, x, gradient=gradient, method=method)
        assert report.verdict == "could not be checked" and culprit in str(report), f"\n{report}"
        assert all(row.verdict == "unchecked" and row.kind == "complex-unsafe" for row in report.rows)
