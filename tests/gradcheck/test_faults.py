"""Ways to be nearly right: the checker must find each of them, say where it is, and mostly what it is.

A fault is a backward that people write by mistake. The forward pass is untouched, but where it is said.
"""

from functools import wraps

import numpy as np
import pytest
from formulas import attention_parameters, block_parameters, mlp_parameters, pool_parameters

from miniclip.attention import attention_pool, causal_mask, self_attention
from miniclip.conv import average_pool, batch_norm, conv2d
from miniclip.gradcheck.check import check
from miniclip.layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax
from miniclip.loss import clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy
from miniclip.transformer import mlp, residual_block, transformer

METHODS = ["complex", "central", pytest.param("richardson", marks=pytest.mark.slow), "adjoint"]
LOSSES = (clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy)
FAULTS = []
rng = np.random.default_rng(7)


def normal(*shape):
    return rng.standard_normal(shape)


def fault(f, *args, at, kind, **options):
    """A test case: `backward(dy, right, y, *args)` in place of f's own.

    at: the array where it must be noticed. kind: how the diagnosis must call it; "" where nothing in the
    numbers tells what is wrong; "preflight" where it is noticed before any number is looked at.
    """

    def decorate(backward):
        @wraps(f)
        def wrong(*arguments):
            y, right = f(*arguments)
            if f in LOSSES:
                return y, lambda: backward(right, y, *arguments)
            return y, lambda dy: backward(dy, right, y, *arguments)

        FAULTS.append(pytest.param(wrong, args, at, kind, options, id=backward.__name__))
        return backward

    return decorate


@fault(linear, normal(3, 4), normal(4, 4), normal(4), at="x", kind="transposed")
def linear_transposed(dy, right, y, x, weight, bias):
    return dy @ weight.T, right(dy)[1]


@fault(linear, normal(3, 4), normal(5, 4), normal(5), at="bias", kind="1/N")
def linear_bias_averaged(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"bias": dy.mean(0)}


@fault(linear, normal(3, 40), normal(50, 40), normal(50), at="weight[31, 7]", kind="some indices")
def linear_wrong_in_one_entry_of_two_thousand(dy, right, y, *args):
    dx, grads = right(dy)
    weight = grads["weight"].copy()
    weight[31, 7] *= 1.01
    return dx, grads | {"weight": weight}


@fault(embedding, np.array([1, 2, 1]), normal(4, 3), at="weight", kind="overwritten")
def embedding_overwritten_where_ids_repeat(dy, right, y, ids, weight):
    dweight = np.zeros_like(weight)
    dweight[ids] = dy
    return dweight


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x", kind="centring")
def layer_norm_without_the_mean_term(dy, right, y, x, weight, bias):
    inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    normal = (x - x.mean(-1, keepdims=True)) * inverse
    d = dy * weight
    return (d - normal * (d * normal).mean(-1, keepdims=True)) * inverse, right(dy)[1]


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x", kind="projection")
def layer_norm_without_the_variance_term(dy, right, y, x, weight, bias):
    d = dy * weight
    return (d - d.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5), right(dy)[1]


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x", kind="outside the sums")
def layer_norm_with_its_weight_outside_the_sums(dy, right, y, x, weight, bias):
    return layer_norm(x, np.ones_like(weight), bias)[1](dy)[0] * weight, right(dy)[1]


@fault(softmax, normal(3, 5), at="x", kind="centring")
def softmax_without_the_sum(dy, right, y, x):
    return dy * y


@fault(relu, normal(3, 5), at="x", kind="mask")
def relu_without_its_mask(dy, right, y, x):
    return dy.copy()


@fault(relu, normal(3, 5), at="dy", kind="preflight")
def relu_that_zeroes_the_callers_array(dy, right, y, x):
    dy[x < 0] = 0
    return dy


@fault(quick_gelu, normal(3, 5), at="x", kind="slope")
def quick_gelu_with_the_slope_of_gelu(dy, right, y, x):
    return gelu(x)[1](dy)


@fault(l2_normalize, normal(3, 5), at="x", kind="projection")
def l2_normalize_without_the_projection(dy, right, y, x):
    return dy / np.sqrt((x * x).sum(-1, keepdims=True))


@fault(conv2d, normal(2, 5, 5, 3), normal(3, 3, 3, 3), normal(3), at="weight", kind="transposed")
def convolution_weight_transposed(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"].transpose(1, 0, 2, 3)}


@fault(conv2d, normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4), 1, 1, at="x", kind="turned")
def convolution_kernel_not_turned(dy, right, y, x, weight, bias, stride, padding):
    return conv2d(dy, weight.transpose(1, 0, 2, 3), None, 1, 1)[0], right(dy)[1]


@fault(
    batch_norm,
    normal(3, 2, 2, 4),
    normal(4),
    normal(4),
    normal(4),
    normal(4) ** 2,
    True,
    at="x",
    kind="centring",
    exclude=["running_*"],
)
def batch_norm_as_if_its_statistics_were_constants(dy, right, y, x, weight, bias, *running):
    return dy * weight / np.sqrt(x.var((0, 1, 2)) + 1e-5), right(dy)[1]


@fault(average_pool, normal(2, 4, 4, 3), 2, at="x", kind="N")
def average_pool_that_sums(dy, right, y, x, size):
    return right(dy) * size**2


@fault(self_attention, normal(2, 3, 4), attention_parameters(normal, 4), 2, at="p.in_proj_weight", kind="some indices")
def attention_without_its_scale(dy, right, y, x, p, heads):
    dx, grads = right(dy)
    scale = np.repeat([2**0.5, 2**0.5, 1], 4)  # queries and keys lost 1/√d
    return dx, grads | {"in_proj_weight": grads["in_proj_weight"] * scale[:, None]}


@fault(
    self_attention,
    normal(2, 4, 4),
    attention_parameters(normal, 4),
    2,
    causal_mask(4, np, float),
    at="x",
    kind="mask",
    exclude=["mask"],
)
def attention_that_forgot_the_mask(dy, right, y, x, p, heads, mask):
    return self_attention(x, p, heads)[1](dy)


@fault(
    attention_pool,
    normal(2, 2, 2, 4),
    pool_parameters(normal, 4, 4, 3),
    2,
    at="p.positional_embedding",
    kind="never accumulated",
)
def attention_pool_position_of_the_first_token_forgotten(dy, right, y, *args):
    dx, grads = right(dy)
    position = grads["positional_embedding"].copy()
    position[0] = 0
    return dx, grads | {"positional_embedding": position}


@fault(residual_block, normal(2, 3, 4), block_parameters(normal, 4), 2, at="x", kind="shortcut")
def block_without_its_shortcut(dy, right, y, *args):
    dx, grads = right(dy)
    return dx - dy, grads


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="image_features", kind="N")
def loss_without_the_mean_over_the_batch(right, y, *args):
    return tuple(10 * d for d in right())


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="logit_scale", kind="τ")
def loss_with_the_gradient_of_the_scale_not_its_logarithm(right, y, image, text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_image, d_text, d_logit_scale / np.exp(logit_scale)


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="image_features", kind="swapped")
def loss_of_one_side_only(right, y, image, text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_text, d_image, d_logit_scale


@fault(siglip_loss, normal(4, 3), normal(4, 3), np.array(1.0), np.array(-1.0), at="logit_bias", kind="−1")
def siglip_bias_with_the_wrong_sign(right, y, *args):
    *others, d_bias = right()
    return *others, -d_bias


@fault(linear, normal(6, 4), normal(4, 4), normal(4), at="weight", kind="transposed")
def linear_weight_transposed(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"].T}


@fault(linear, normal(6, 3), normal(5, 3), normal(5), at="weight", kind="transposed")
def linear_weight_reshaped_where_it_should_be_transposed(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"].T.reshape(5, 3)}


@fault(linear, normal(6, 4), normal(5, 4), normal(5), at="bias", kind="never accumulated")
def linear_bias_forgotten(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"bias": 0 * grads["bias"]}


@fault(linear, normal(6, 4), normal(5, 4), normal(5), at="weight", kind="2")
def linear_weight_added_up_twice(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"] + grads["weight"]}


@fault(linear, normal(4, 5), normal(4, 5), normal(4), at="x", kind="k times")
def linear_input_added_up_three_times(dy, right, y, *args):
    dx, grads = right(dy)
    return 3 * dx, grads


@fault(linear, normal(6, 4), normal(5, 4), normal(5), at="x", kind="never accumulated")
def linear_last_row_of_the_batch_dropped(dy, right, y, *args):
    dx, grads = right(dy)
    return np.concatenate([dx[:-1], np.zeros((1, 4))]), grads


@fault(gelu, normal(3, 5), at="x", kind="precision")
def gelu_with_a_rounded_constant(dy, right, y, x):
    return dy * (y / x + x * np.exp(-x * x / 2) * 0.398941)


@fault(linear, normal(6, 4), normal(5, 4), normal(5), at="x", kind="preflight")
def linear_with_a_cotangent_of_ones(dy, right, y, *args):
    return right(np.ones_like(dy))


@fault(embedding, np.array([0, 3, 1, 1]), normal(5, 3), at="weight", kind="")
def embedding_that_adds_up_into_the_next_row(dy, right, y, ids, weight):
    return np.roll(right(dy)["weight"], 1, axis=0)


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x", kind="centring")
def layer_norm_as_if_its_statistics_were_constants(dy, right, y, x, weight, bias):
    return dy * weight / np.sqrt(x.var(-1, keepdims=True) + 1e-5), right(dy)[1]


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="weight", kind="")
def layer_norm_weight_from_what_was_not_normalised(dy, right, y, x, weight, bias):
    dx, grads = right(dy)
    return dx, grads | {"weight": (dy * x).sum(0)}


@fault(layer_norm, normal(5, 6), normal(6), normal(6), at="bias", kind="1/N")
def layer_norm_bias_averaged(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"bias": dy.mean(0)}


@fault(softmax, normal(3, 5), at="x", kind="centring")
def softmax_of_a_cross_entropy_without_the_truth(dy, right, y, x):
    return dy * y - y * dy.sum(-1, keepdims=True)


@fault(gelu, normal(3, 5), at="x", kind="slope")
def gelu_without_the_density(dy, right, y, x):
    return dy * y / x


@fault(quick_gelu, normal(3, 5), at="dy", kind="preflight")
def quick_gelu_that_writes_into_the_cotangent(dy, right, y, x):
    dx = right(dy)
    dy *= 0
    return dx


@fault(l2_normalize, normal(3, 5), at="x", kind="projection")
def l2_normalize_that_projects_the_wrong_way(dy, right, y, x):
    return (dy + y * (dy * y).sum(-1, keepdims=True)) / np.sqrt((x * x).sum(-1, keepdims=True))


@fault(
    batch_norm,
    normal(3, 2, 2, 4),
    normal(4),
    normal(4),
    normal(4),
    normal(4) ** 2,
    True,
    at="weight",
    kind="1/N",
    exclude=["running_*"],
)
def batch_norm_weight_averaged(dy, right, y, x, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"] / 12}


@fault(average_pool, normal(2, 4, 4, 3), 2, at="x", kind="")
def average_pool_into_one_pixel_of_each_square(dy, right, y, x, size):
    dx = np.zeros_like(x)
    dx[:, ::2, ::2] = dy
    return dx


@fault(conv2d, normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4), 1, 1, at="weight", kind="turned")
def convolution_kernel_turned_where_it_should_not_be(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"][:, :, ::-1, ::-1]}


@fault(conv2d, normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4), 1, 1, at="x", kind="never accumulated")
def convolution_border_forgotten(dy, right, y, *args):
    dx, grads = right(dy)
    inner = np.zeros_like(dx)
    inner[:, 1:] = dx[:, 1:]
    return inner, grads


@fault(self_attention, normal(2, 3, 6), attention_parameters(normal, 6), 2, at="p.in_proj_weight", kind="some indices")
def attention_with_queries_and_keys_exchanged(dy, right, y, *args):
    dx, grads = right(dy)
    q, k, v = np.split(grads["in_proj_weight"], 3)
    return dx, grads | {"in_proj_weight": np.concatenate([k, q, v])}


@fault(attention_pool, normal(4, 2, 2, 4), pool_parameters(normal, 4, 4, 3), 2, at="p.positional_embedding", kind="1/N")
def attention_pool_position_averaged_over_the_batch(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"positional_embedding": grads["positional_embedding"] / 4}


@fault(attention_pool, normal(3, 2, 2, 4), pool_parameters(normal, 4, 4, 3), 2, at="x", kind="")
def attention_pool_without_the_path_through_the_mean(dy, right, y, x, p, heads):
    dx, grads = right(dy)
    return dx - grads["positional_embedding"][0] / 4, grads


@fault(mlp, normal(3, 4), mlp_parameters(normal, 4), at="x", kind="")
def mlp_without_the_slope_of_its_activation(dy, right, y, x, p):
    return dy @ p["c_proj"]["weight"] @ p["c_fc"]["weight"], right(dy)[1]


@fault(residual_block, normal(2, 3, 4), block_parameters(normal, 4), 2, at="x", kind="shortcut")
def block_with_its_shortcut_taken_twice(dy, right, y, *args):
    dx, grads = right(dy)
    return dx + dy, grads


@fault(
    transformer,
    normal(2, 3, 4),
    {"resblocks": [block_parameters(normal, 4) for _ in range(2)]},
    2,
    at="p.resblocks.0.ln_1.bias",
    kind="swapped",
)
def transformer_with_its_gradients_in_backward_order(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, {"resblocks": grads["resblocks"][::-1]}


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="text_features", kind="½")
def loss_halved_twice(right, y, *args):
    d_image, d_text, d_logit_scale = right()
    return d_image, d_text / 2, d_logit_scale


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="text_features", kind="never accumulated")
def loss_that_trains_one_side(right, y, *args):
    d_image, d_text, d_logit_scale = right()
    return d_image, 0 * d_text, d_logit_scale


@fault(contrastive_loss, normal(5, 4), normal(5, 4), np.array(0.7), at="z_image", kind="τ")
def loss_without_the_temperature(right, y, z_image, z_text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_image / np.exp(logit_scale), d_text, d_logit_scale


@fault(contrastive_loss, normal(5, 4), normal(5, 4), np.array(0.7), at="z_text", kind="1/τ")
def loss_with_the_temperature_twice(right, y, z_image, z_text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_image, d_text * np.exp(logit_scale), d_logit_scale


@fault(contrastive_loss, normal(5, 4), normal(5, 4), np.array(0.7), at="z_text", kind="")
def loss_with_a_matrix_that_should_be_transposed(right, y, z_image, z_text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    g = symmetric_cross_entropy(np.exp(logit_scale) * z_image @ z_text.T)[1]()
    return d_image, np.exp(logit_scale) * g @ z_image, d_logit_scale


@fault(symmetric_cross_entropy, normal(5, 5), at="similarity", kind="some indices")
def cross_entropy_with_the_truth_taken_once(right, y, similarity):
    return right() + np.eye(5) / 10


@fault(symmetric_cross_entropy, normal(5, 5), at="similarity", kind="centring")
def cross_entropy_of_rows_alone(right, y, similarity):
    return 2 * right() - (softmax(similarity, 0)[0] - np.eye(5) * 0.5) / 10


def clamped_loss(image_features, text_features, logit_scale):
    """The temperature bounded in the forward pass, where a bound has no slope."""
    return clip_loss(image_features, text_features, logit_scale * 0 + np.log(100))


LOSSES += (clamped_loss,)


@fault(clamped_loss, normal(5, 4), normal(5, 4), np.array(5.0), at="logit_scale", kind="clip")
def temperature_clamp_differentiated_as_if_it_were_not_there(right, y, image, text, logit_scale):
    d_image, d_text, _ = right()
    return d_image, d_text, clip_loss(image, text, np.array(np.log(100)))[1]()[2]


@fault(siglip_loss, normal(4, 3), normal(4, 3), np.array(1.0), np.array(-1.0), at="logit_scale", kind="N")
def siglip_scale_summed(right, y, *args):
    d_image, d_text, d_logit_scale, d_bias = right()
    return d_image, d_text, 4 * d_logit_scale, d_bias


def accepts_the_right_one(wrong, args, method, options):
    right = wrong.__wrapped__
    if right is clamped_loss:  # its own backward is clip_loss's, which knows no clamp
        return
    report = check(right, *args, method=method, **options)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong, args, at, kind, options", FAULTS)
def test_every_fault_is_found_and_placed(wrong, args, at, kind, options, method):
    accepts_the_right_one(wrong, args, method, options)
    report = check(wrong, *args, method=method, **options)
    assert not report.ok
    if kind == "preflight":
        assert any(problem.startswith(f"{at} ") or f" of {at}" in problem for problem in report.problems), f"\n{report}"
    else:
        named = [line.partition("WRONG: ")[2] for line in str(report).splitlines() if "WRONG: " in line]
        assert any(line.startswith(at) for line in named), f"\n{report}"


@pytest.mark.parametrize("method", ["complex", "central", "adjoint"])
@pytest.mark.parametrize(
    "wrong, args, at, kind, options", [fault for fault in FAULTS if fault.values[3] not in ("", "preflight")]
)
def test_faults_are_named(wrong, args, at, kind, options, method):
    report = check(wrong, *args, method=method, **options)
    (row,) = (row for row in report.rows if row.name == at.split("[")[0])
    assert row.kind == kind, f"\n{report}"
    assert f"Probably: {row.why}" in str(report) and row.why.endswith(".")


def test_there_are_enough_of_them():
    kinds = [fault.values[3] for fault in FAULTS]
    assert len(kinds) >= 40 and len([kind for kind in kinds if kind]) >= 30


def test_a_cotangent_of_ones_would_not_have_seen_it():
    """Why it is random: what the forgotten terms subtract is nothing there."""
    x = normal(3, 5)
    y, backward = softmax(x)
    assert np.abs(backward(np.ones((3, 5)))).max() < 1e-15
    assert not check(lambda x: (softmax(x)[0], lambda dy: 2 * softmax(x)[1](dy)), x).ok


# ------------------------------------------------------------------------------------------ the forward pass at fault


@pytest.mark.parametrize(
    "f, gradient, culprit",
    [
        (lambda x: np.linalg.norm(x), lambda x: x / np.sqrt((x * x).sum()), "np.linalg.norm"),
        (
            lambda x: (x * np.linalg.norm(x)).sum(),
            lambda x: np.sqrt((x * x).sum()) + x * x.sum() / np.sqrt((x * x).sum()),
            "np.linalg.norm",
        ),
        (lambda x: (x * np.abs(x)).sum(), lambda x: 2 * np.abs(x), "np.abs"),
        (lambda x: (x * np.var(x)).sum(), lambda x: np.var(x) + 2 * (x - x.mean()) * x.mean(), "np.var"),
        (lambda x: (x * x.conj()).sum(), lambda x: 2 * x, "conj"),
        (lambda x: np.vdot(x, x * x), lambda x: 3 * x * x, "np.vdot"),
        (lambda x: sum(float(value) ** 2 for value in x), lambda x: 2 * x, "float"),
    ],
)
def test_a_forward_pass_that_a_complex_number_cannot_take(f, gradient, culprit):
    """The gradients are right; it is the method that does not apply."""
    x = normal(5)
    assert check(f, x, gradient=gradient, method="central").ok
    for method in ("complex", "adjoint"):
        report = check(f, x, gradient=gradient, method=method)
        assert not report.ok and culprit in str(report) and "method='central'" in str(report), f"\n{report}"
        assert all(row.verdict == "unsafe" and row.kind == "complex-unsafe" for row in report.rows)
