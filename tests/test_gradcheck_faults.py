"""Ways to be nearly right: the checker must find each of them, and say where it is.

A fault is a backward that people write by mistake. The forward pass is untouched.
"""

from functools import wraps

import numpy as np
import pytest

from miniclip.attention import attention_pool, causal_mask, self_attention
from miniclip.conv import average_pool, batch_norm, conv2d
from miniclip.gradcheck import check
from miniclip.layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax
from miniclip.loss import clip_loss, siglip_loss
from miniclip.transformer import residual_block
from test_attention import attention_parameters, pool_parameters
from test_transformer import block_parameters

METHODS = ["complex", "central", "adjoint"]
FAULTS = []
rng = np.random.default_rng(7)


def normal(*shape):
    return rng.standard_normal(shape)


def fault(f, *args, at, **options):
    """A test case: `backward(dy, right, y, *args)` in place of f's own; `at` is where it must be noticed."""
    def decorate(backward):
        @wraps(f)
        def wrong(*arguments):
            y, right = f(*arguments)
            if f in (clip_loss, siglip_loss):
                return y, lambda: backward(right, y, *arguments)
            return y, lambda dy: backward(dy, right, y, *arguments)

        FAULTS.append(pytest.param(wrong, args, at, options, id=backward.__name__))
        return backward

    return decorate


@fault(linear, normal(3, 4), normal(4, 4), normal(4), at="x")
def linear_transposed(dy, right, y, x, weight, bias):
    return dy @ weight.T, right(dy)[1]


@fault(linear, normal(3, 4), normal(5, 4), normal(5), at="bias")
def linear_bias_averaged(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"bias": dy.mean(0)}


@fault(linear, normal(3, 40), normal(50, 40), normal(50), at="weight[31, 7]")
def linear_wrong_in_one_entry_of_two_thousand(dy, right, y, *args):
    dx, grads = right(dy)
    weight = grads["weight"].copy()
    weight[31, 7] *= 1.0001
    return dx, grads | {"weight": weight}


@fault(embedding, np.array([1, 2, 1]), normal(4, 3), at="weight")
def embedding_overwritten_where_ids_repeat(dy, right, y, ids, weight):
    dweight = np.zeros_like(weight)
    dweight[ids] = dy
    return dweight


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x")
def layer_norm_without_the_mean_term(dy, right, y, x, weight, bias):
    inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    normal = (x - x.mean(-1, keepdims=True)) * inverse
    d = dy * weight
    return (d - normal * (d * normal).mean(-1, keepdims=True)) * inverse, right(dy)[1]


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x")
def layer_norm_without_the_variance_term(dy, right, y, x, weight, bias):
    d = dy * weight
    return (d - d.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5), right(dy)[1]


@fault(layer_norm, normal(3, 6), normal(6), normal(6), at="x")
def layer_norm_with_its_weight_outside_the_sums(dy, right, y, x, weight, bias):
    return layer_norm(x, np.ones_like(weight), bias)[1](dy)[0] * weight, right(dy)[1]


@fault(softmax, normal(3, 5), at="x")
def softmax_without_the_sum(dy, right, y, x):
    return dy * y


@fault(relu, normal(3, 5), at="x")
def relu_without_its_mask(dy, right, y, x):
    return dy.copy()


@fault(relu, normal(3, 5), at="dy")
def relu_that_zeroes_the_callers_array(dy, right, y, x):
    dy[x < 0] = 0
    return dy


@fault(quick_gelu, normal(3, 5), at="x")
def quick_gelu_with_the_slope_of_gelu(dy, right, y, x):
    return gelu(x)[1](dy)


@fault(l2_normalize, normal(3, 5), at="x")
def l2_normalize_without_the_projection(dy, right, y, x):
    return dy / np.sqrt((x * x).sum(-1, keepdims=True))


@fault(conv2d, normal(2, 5, 5, 3), normal(3, 3, 3, 3), normal(3), at="weight")
def convolution_weight_transposed(dy, right, y, *args):
    dx, grads = right(dy)
    return dx, grads | {"weight": grads["weight"].transpose(1, 0, 2, 3)}


@fault(conv2d, normal(2, 5, 5, 3), normal(4, 3, 3, 3), normal(4), 1, 1, at="x")
def convolution_kernel_not_turned(dy, right, y, x, weight, bias, stride, padding):
    return conv2d(dy, weight.transpose(1, 0, 2, 3), None, 1, 1)[0], right(dy)[1]


@fault(batch_norm, normal(3, 2, 2, 4), normal(4), normal(4), normal(4), normal(4)**2, True, at="x",
       exclude=["running_*"])
def batch_norm_as_if_its_statistics_were_constants(dy, right, y, x, weight, bias, *running):
    return dy * weight / np.sqrt(x.var((0, 1, 2)) + 1e-5), right(dy)[1]


@fault(average_pool, normal(2, 4, 4, 3), 2, at="x")
def average_pool_that_sums(dy, right, y, x, size):
    return right(dy) * size**2


@fault(self_attention, normal(2, 3, 4), attention_parameters(normal, 4), 2, at="p.in_proj_weight")
def attention_without_its_scale(dy, right, y, x, p, heads):
    dx, grads = right(dy)
    scale = np.repeat([2**0.5, 2**0.5, 1], 4)                    # queries and keys lost 1/√d
    return dx, grads | {"in_proj_weight": grads["in_proj_weight"] * scale[:, None]}


@fault(self_attention, normal(2, 4, 4), attention_parameters(normal, 4), 2,
       causal_mask(4, np, float), at="x", exclude=["mask"])
def attention_that_forgot_the_mask(dy, right, y, x, p, heads, mask):
    return self_attention(x, p, heads)[1](dy)


@fault(attention_pool, normal(2, 2, 2, 4), pool_parameters(normal, 4, 4, 3), 2, at="p.positional_embedding")
def attention_pool_position_of_the_first_token_forgotten(dy, right, y, *args):
    dx, grads = right(dy)
    position = grads["positional_embedding"].copy()
    position[0] = 0
    return dx, grads | {"positional_embedding": position}


@fault(residual_block, normal(2, 3, 4), block_parameters(normal, 4), 2, at="x")
def block_without_its_shortcut(dy, right, y, *args):
    dx, grads = right(dy)
    return dx - dy, grads


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="image_features")
def loss_without_the_mean_over_the_batch(right, y, *args):
    return tuple(10 * d for d in right())


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="logit_scale")
def loss_with_the_gradient_of_the_scale_not_its_logarithm(right, y, image, text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_image, d_text, d_logit_scale / np.exp(logit_scale)


@fault(clip_loss, normal(5, 4), normal(5, 4), np.array(1.0), at="image_features")
def loss_of_one_side_only(right, y, image, text, logit_scale):
    d_image, d_text, d_logit_scale = right()
    return d_text, d_image, d_logit_scale


@fault(siglip_loss, normal(4, 3), normal(4, 3), np.array(1.0), np.array(-1.0), at="logit_bias")
def siglip_bias_with_the_wrong_sign(right, y, *args):
    *others, d_bias = right()
    return *others, -d_bias


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong, args, at, options", FAULTS)
def test_every_fault_is_found_and_named(wrong, args, at, options, method):
    right = check(wrong.__wrapped__, *args, method=method, **options)
    assert right.ok, f"\n{right}"
    report = check(wrong, *args, method=method, **options)
    assert not report.ok
    named = [line for line in str(report).splitlines() if "WRONG: " in line or "was written to" in line]
    assert any(line.partition("WRONG: ")[2].startswith(at) or line.split()[0] == at for line in named), f"\n{report}"


def test_a_cotangent_of_ones_would_not_have_seen_it():
    """Why it is random: what the forgotten terms subtract is nothing there."""
    x = normal(3, 5)
    y, backward = softmax(x)
    assert np.abs(backward(np.ones((3, 5)))).max() < 1e-15
    assert not check(lambda x: (softmax(x)[0], lambda dy: 2 * softmax(x)[1](dy)), x).ok
