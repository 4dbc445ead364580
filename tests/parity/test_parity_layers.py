"""Layer by layer against PyTorch's autograd: what comes out, and the gradient of every parameter and input.

At random points, norms' gains and running averages included, with a random cotangent, in float64 and
float32. A gradient that is 0 in truth (attention's keys, see references.py) is measured by its neighbour.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import DTYPES, assert_within, error, errors

from miniclip.attention import attention_pool, causal_mask, self_attention
from miniclip.conv import average_pool, batch_norm, conv2d
from miniclip.layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax
from miniclip.loss import clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy
from miniclip.optim import AdamW
from miniclip.transformer import mlp, residual_block, transformer
from miniclip.tree import Flat, flatten, tree_map

torch = pytest.importorskip("torch")
F = torch.nn.functional
LIMIT = {"float64": 1e-12, "float32": 1e-5}
both = pytest.mark.parametrize("dtype", DTYPES)


class RandomInputs:
    """Random numbers of one dtype: draw(2, 3), and the trees of parameters that several layers take."""

    def __init__(self, dtype, seed=0):
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def __call__(self, *shape, std=1.0, mean=0.0):
        return (mean + std * self.rng.standard_normal(shape)).astype(self.dtype)

    def dense(self, out, k):
        return {"weight": self(out, k, std=k**-0.5), "bias": self(out)}

    def norm(self, width):
        return {"weight": self(width, mean=1, std=0.5), "bias": self(width)}

    def attention(self, width):
        in_proj = {"in_proj_weight": self(3 * width, width, std=width**-0.5), "in_proj_bias": self(3 * width)}
        return in_proj | {"out_proj": self.dense(width, width)}

    def mlp(self, width):
        return {"c_fc": self.dense(4 * width, width), "c_proj": self.dense(width, 4 * width)}

    def block(self, width):
        makers = {"ln_1": self.norm, "attn": self.attention, "ln_2": self.norm, "mlp": self.mlp}
        return {name: make(width) for name, make in makers.items()}


def tensors(tree):
    """The tree as tensors that want a gradient."""
    return tree_map(lambda a: torch.tensor(a, requires_grad=True), tree)


def compare(layer, reference, x, p, draw, limit=None):
    """Assert that layer(x, p) and reference(x, p), in torch, agree in y, dx and the gradient of every leaf of p."""
    y, backward = layer(x, p)
    their_x = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    their_p = tensors(p)
    their_y = reference(their_x, their_p)
    dy = draw(*y.shape)
    their_y.backward(torch.tensor(dy))

    returned = backward(dy)  # dx, or gradients, or both
    dx, grads = returned if isinstance(returned, tuple) else (None, returned) if p else (returned, {})
    assert y.dtype == dy.dtype == draw.dtype
    ours, theirs = flatten(grads), {name: leaf.grad.numpy() for name, leaf in flatten(their_p).items()}
    if x.dtype.kind == "f":
        ours, theirs = ours | {"x": dx}, theirs | {"x": their_x.grad.numpy()}
    found = errors(ours, theirs) | {"y": error(y, their_y.detach())}
    assert_within(found, limit or LIMIT[draw.dtype])


# ------------------------------------------------------------------------------------------ layers


@both
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape, out", [((5, 3), 4), ((2, 3, 7), 1), ((2, 1, 3, 33), 65), ((1, 1), 1)])
def test_linear(dtype, shape, out, bias):
    draw = RandomInputs(dtype)
    p = draw.dense(out, shape[-1])
    compare(
        lambda x, p: linear(x, **p),
        lambda x, p: F.linear(x, p["weight"], p.get("bias")),
        draw(*shape),
        p if bias else {"weight": p["weight"]},
        draw,
    )


@both
@pytest.mark.parametrize("shape", [(4,), (3, 9), (2, 3, 40)])
def test_embedding(dtype, shape):
    draw = RandomInputs(dtype)
    compare(
        lambda ids, p: embedding(ids, **p),
        lambda ids, p: F.embedding(ids, p["weight"]),
        draw.rng.integers(0, 11, shape),
        {"weight": draw(11, 6)},
        draw,
    )


@both
@pytest.mark.parametrize("shape, mean, std", [((4, 6), 0, 1), ((2, 3, 65), 3, 2), ((1, 5), 0, 1), ((7, 33), 0, 1e-3)])
def test_layer_norm(dtype, shape, mean, std):
    draw = RandomInputs(dtype)
    compare(
        lambda x, p: layer_norm(x, **p),
        lambda x, p: F.layer_norm(x, shape[-1:], p["weight"], p["bias"]),
        draw(*shape, mean=mean, std=std),
        draw.norm(shape[-1]),
        draw,
    )


POINTWISE = {
    "relu": (relu, F.relu),
    "gelu": (gelu, F.gelu),
    "quick_gelu": (quick_gelu, lambda x: x * torch.sigmoid(1.702 * x)),
    "softmax": (softmax, lambda x: x.softmax(-1)),
    "l2_normalize": (l2_normalize, lambda x: F.normalize(x, dim=-1)),
    "softmax of the first axis": (lambda x: softmax(x, 0), lambda x: x.softmax(0)),
}


@both
@pytest.mark.parametrize("std", [0.01, 1, 5])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 50), (3, 2, 2, 5)])
@pytest.mark.parametrize("name", POINTWISE)
def test_layers_without_parameters(dtype, name, shape, std):
    draw, (layer, reference) = RandomInputs(dtype), POINTWISE[name]
    compare(lambda x, p: layer(x), lambda x, p: reference(x), draw(*shape, std=std), {}, draw)


@both
@pytest.mark.parametrize("layer, reference", [POINTWISE["gelu"], POINTWISE["quick_gelu"]])
def test_activations_point_by_point(dtype, layer, reference):
    """Over all of their range, each value alone, where no sum can hide it."""
    x = np.linspace(-12, 12, 20001, dtype=dtype)
    y, backward = layer(x)
    their_x = torch.tensor(x, requires_grad=True)
    their_y = reference(their_x)
    their_y.sum().backward()
    rounding = 16 * np.finfo(dtype).eps * np.maximum(1, np.abs(x))
    assert (np.abs(y - their_y.detach().numpy()) <= rounding).all()
    assert (np.abs(backward(np.ones_like(x)) - their_x.grad.numpy()) <= rounding).all()


# ------------------------------------------------------------------------------------------ convolution


def channels_first(f):
    """A function of torch's (N, C, H, W) as one of (N, H, W, C)."""
    return lambda x, *rest, **named: f(x.permute(0, 3, 1, 2), *rest, **named).permute(0, 2, 3, 1)


@both
@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.integers(1, 4)] * 4, st.integers(1, 3), st.integers(0, 2), *[st.integers(0, 6)] * 2, st.booleans())
def test_conv2d(dtype, kh, kw, channels, out, stride, padding, more_h, more_w, bias):
    """Every kernel, stride and padding, square and not, pictures from the smallest on."""
    draw = RandomInputs(dtype, seed=more_h)
    p = {"weight": draw(out, channels, kh, kw)} | ({"bias": draw(out)} if bias else {})
    x = draw(2, max(1, kh - 2 * padding) + more_h, max(1, kw - 2 * padding) + more_w, channels)
    compare(
        lambda x, p: conv2d(x, **p, stride=stride, padding=padding),
        lambda x, p: channels_first(F.conv2d)(x, p["weight"], p.get("bias"), stride=stride, padding=padding),
        x,
        p,
        draw,
        limit=10 * LIMIT[dtype],
    )  # a gradient may be one product of numbers of opposite sign


@both
@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (3, 1, 1), (1, 1, 0), (8, 8, 0)])
def test_the_convolutions_of_clip(dtype, kernel, stride, padding):
    draw = RandomInputs(dtype)
    compare(
        lambda x, p: conv2d(x, **p, stride=stride, padding=padding),
        lambda x, p: channels_first(F.conv2d)(x, p["weight"], stride=stride, padding=padding),
        draw(2, 33, 30, 16),
        {"weight": draw(24, 16, kernel, kernel)},
        draw,
    )


@both
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (2, 1, 1, 4), (1, 7, 3, 2), (8, 9, 9, 16)])
def test_batch_norm(dtype, shape, training):
    draw = RandomInputs(dtype)
    x, p = draw(*shape, mean=0.5, std=2), draw.norm(shape[-1])
    averages = {"running_mean": draw(shape[-1]), "running_var": draw(shape[-1]) ** 2 + 0.5}
    theirs = {name: torch.tensor(average) for name, average in averages.items()}
    moves = {}

    def layer(x, p):
        y, backward = batch_norm(x, **p, **averages, training=training)

        def without_averages(dy):
            dx, grads = backward(dy)
            moves.update({name: grads.pop(name) for name in averages})
            return dx, grads

        return y, without_averages

    def reference(x, p):
        return channels_first(F.batch_norm)(x, **theirs, **p, training=training, momentum=0.1)

    limit = LIMIT[dtype]
    if training and math.prod(shape[:3]) == 2:
        limit *= 1e4  # of two numbers, dx is what is left of 1 − 1 + ε
    compare(layer, reference, x, p, draw, limit)
    for name, average in averages.items():
        assert error(average - 0.1 * moves[name], theirs[name]) <= LIMIT[dtype]


@both
@pytest.mark.parametrize("shape, size", [((2, 4, 4, 3), 2), ((2, 5, 7, 3), 2), ((1, 9, 6, 2), 3), ((2, 3, 3, 1), 1)])
def test_average_pool(dtype, shape, size):
    draw = RandomInputs(dtype)
    compare(
        lambda x, p: average_pool(x, size),
        lambda x, p: channels_first(F.avg_pool2d)(x, kernel_size=size),
        draw(*shape),
        {},
        draw,
    )


# ------------------------------------------------------------------------------------------ attention, blocks


def torch_multi_head(q, kv, weights, bias, out, heads, mask=None):
    """PyTorch's multi-head attention of tokens (T, N, D); weights and bias: of queries, keys and values."""
    start = (q, kv, kv, q.shape[-1], heads, None, bias, None, None, False, 0.0, out["weight"], out["bias"])
    weights = dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weights))
    more = {"need_weights": False, "attn_mask": mask, "use_separate_proj_weight": True}
    return F.multi_head_attention_forward(*start, **more, **weights)[0]


def torch_attention(x, p, heads, mask):
    """Self-attention, batch first, with the parameters of miniclip's."""
    x, weights = x.transpose(0, 1), p["in_proj_weight"].chunk(3)
    return torch_multi_head(x, x, weights, p["in_proj_bias"], p["out_proj"], heads, mask).transpose(0, 1)


def torch_block(x, p, heads, mask, activation):
    h = F.layer_norm(x, x.shape[-1:], p["ln_1"]["weight"], p["ln_1"]["bias"])
    x = x + torch_attention(h, p["attn"], heads, mask)
    return x + torch_mlp(F.layer_norm(x, x.shape[-1:], p["ln_2"]["weight"], p["ln_2"]["bias"]), p["mlp"], activation)


def torch_mlp(x, p, activation):
    return F.linear(
        activation(F.linear(x, p["c_fc"]["weight"], p["c_fc"]["bias"])), p["c_proj"]["weight"], p["c_proj"]["bias"]
    )


def masks(causal, tokens, dtype):
    ours = causal_mask(tokens, np, dtype) if causal else None
    theirs = torch.full((tokens, tokens), -math.inf, dtype=getattr(torch, dtype)).triu(1) if causal else None
    return ours, theirs


@both
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n, tokens, width, heads", [(2, 5, 8, 2), (1, 1, 4, 1), (3, 17, 12, 12), (2, 50, 64, 4)])
def test_self_attention(dtype, n, tokens, width, heads, causal):
    draw = RandomInputs(dtype)
    mask, their_mask = masks(causal, tokens, dtype)
    p, limit = draw.attention(width), LIMIT[dtype]
    if tokens > 1:
        compare(
            lambda x, p: self_attention(x, p, heads, mask),
            lambda x, p: torch_attention(x, p, heads, their_mask),
            draw(n, tokens, width),
            p,
            draw,
            3 * limit,
        )
        return
    # One token sees itself whatever it asks for: the gradient of queries and keys is 0.
    _, backward = self_attention(draw(n, 1, width), p, heads, mask)
    _, grads = backward(draw(n, 1, width))
    assert (grads["in_proj_weight"][: 2 * width] == 0).all() and (grads["in_proj_weight"][2 * width :] != 0).any()


@both
@pytest.mark.parametrize("n, h, w, channels, heads, out", [(2, 2, 2, 8, 2, 5), (3, 3, 2, 6, 6, 4), (2, 7, 7, 64, 4, 9)])
def test_attention_pool(dtype, n, h, w, channels, heads, out):
    draw = RandomInputs(dtype)
    p = {name: draw.dense(channels, channels) for name in ("k_proj", "q_proj", "v_proj")}
    p |= {"c_proj": draw.dense(out, channels), "positional_embedding": draw(h * w + 1, channels)}

    def reference(x, p):
        tokens = x.reshape(n, h * w, channels).transpose(0, 1)
        tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + p["positional_embedding"][:, None]
        weights, biases = ([p[f"{name}_proj"][kind] for name in "qkv"] for kind in ("weight", "bias"))
        return torch_multi_head(tokens[:1], tokens, weights, torch.cat(biases), p["c_proj"], heads)[0]

    compare(lambda x, p: attention_pool(x, p, heads), reference, draw(n, h, w, channels), p, draw)
    _, backward = attention_pool(draw(n, h, w, channels), p, heads)
    assert (backward(draw(n, out))[1]["k_proj"]["bias"] == 0).all()


ACTIVATIONS = pytest.mark.parametrize("activation, theirs", [POINTWISE["gelu"], POINTWISE["quick_gelu"]])


@both
@ACTIVATIONS
@pytest.mark.parametrize("shape", [(2, 3, 8), (5, 16)])
def test_mlp(dtype, activation, theirs, shape):
    draw = RandomInputs(dtype)
    compare(
        lambda x, p: mlp(x, p, activation),
        lambda x, p: torch_mlp(x, p, theirs),
        draw(*shape),
        draw.mlp(shape[-1]),
        draw,
    )


@both
@ACTIVATIONS
@pytest.mark.parametrize("causal", [True, False])
def test_residual_block(dtype, activation, theirs, causal):
    draw = RandomInputs(dtype)
    mask, their_mask = masks(causal, 9, dtype)
    compare(
        lambda x, p: residual_block(x, p, 4, mask, activation),
        lambda x, p: torch_block(x, p, 4, their_mask, theirs),
        draw(3, 9, 16),
        draw.block(16),
        draw,
    )


@both
@pytest.mark.parametrize("recompute", [True, False])
def test_the_whole_stack(dtype, recompute):
    draw = RandomInputs(dtype)
    mask, their_mask = masks(True, 9, dtype)

    def reference(x, p):
        for block in p["resblocks"]:
            x = torch_block(x, block, 4, their_mask, POINTWISE["quick_gelu"][1])
        return x

    compare(
        lambda x, p: transformer(x, p, 4, mask, recompute=recompute),
        reference,
        draw(3, 9, 16),
        {"resblocks": [draw.block(16) for _ in range(3)]},
        draw,
        3 * LIMIT[dtype],
    )


# ------------------------------------------------------------------------------------------ losses


def torch_contrastive(z_image, z_text, logit_scale):
    logits = logit_scale.exp() * z_image @ z_text.T
    return torch_symmetric(logits)


def torch_symmetric(logits):
    truth = torch.arange(len(logits))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def torch_clip(image_features, text_features, logit_scale):
    return torch_contrastive(F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1), logit_scale)


def torch_siglip(image_features, text_features, logit_scale, logit_bias):
    sign = 2 * torch.eye(len(image_features), dtype=image_features.dtype) - 1
    cosine = F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T
    return -F.logsigmoid(sign * (logit_scale.exp() * cosine + logit_bias)).sum() / len(sign)


@both
@pytest.mark.parametrize("n, width", [(2, 3), (5, 4), (33, 16)])
@pytest.mark.parametrize("scale", [0.0, math.log(1 / 0.07), math.log(100)])
@pytest.mark.parametrize("loss", [clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy])
def test_losses(dtype, loss, n, width, scale):
    draw = RandomInputs(dtype)
    image, text, logit_scale = draw(n, width), draw(n, width), np.array(scale, dtype)
    image += text / 2  # as far as two encoders agree in the middle of training
    unit = [l2_normalize(z)[0] for z in (image, text)]
    reference, args = {
        clip_loss: (torch_clip, [image, text, logit_scale]),
        contrastive_loss: (torch_contrastive, [*unit, logit_scale]),
        siglip_loss: (torch_siglip, [image, text, logit_scale, np.array(-10, dtype)]),
        symmetric_cross_entropy: (torch_symmetric, [np.exp(logit_scale) * unit[0] @ unit[1].T]),
    }[loss]
    value, backward = loss(*args)
    gradients = backward()
    theirs = tensors(args)
    their_value = reference(*theirs)
    their_value.backward()
    found = {"loss": error(value, their_value.detach())}
    for i, (ours, tensor) in enumerate(zip(gradients if len(args) > 1 else [gradients], theirs, strict=True)):
        assert ours.dtype == dtype
        found[i] = error(ours, tensor.grad)
    # Where the pairs are told apart well, 1 − P is a difference of numbers that are nearly the same.
    assert_within(found, {"float64": 1e-10, "float32": 1e-4}[dtype])


# ------------------------------------------------------------------------------------------ the optimiser


@both
def test_adamw_with_clipping_over_a_run_of_real_gradients(dtype):
    """A model of matrices, kernels and vectors learns a batch by heart, beside torch's AdamW on torch's gradients."""
    draw, steps = RandomInputs(dtype), 12
    tree = {"block": draw.block(8), "conv": {"weight": draw(8, 3, 2, 2)}, "logit_scale": np.array(1.5, dtype)}
    images, words = draw(6, 4, 4, 3), draw(6, 8)

    def ours(p):
        x, conv = conv2d(images, **p["conv"], stride=2)
        h, block = residual_block(x.reshape(6, 4, 8), p["block"], 2)
        loss, backward = clip_loss(h.mean(1), words, p["logit_scale"])
        d, _, d_scale = backward()
        dh, d_block = block(np.broadcast_to(d[:, None] / 4, h.shape))
        return loss, {"block": d_block, "conv": conv(dh.reshape(x.shape))[1], "logit_scale": d_scale}

    def theirs(p):
        x = channels_first(F.conv2d)(torch.tensor(images), p["conv"]["weight"], stride=2).reshape(6, 4, 8)
        h = torch_block(x, p["block"], 2, None, POINTWISE["quick_gelu"][1])
        return torch_clip(h.mean(1), torch.tensor(words), p["logit_scale"])

    params, their_tree = Flat(tree), tensors(tree)
    leaves = flatten(their_tree)
    optimizer = AdamW(params, weight_decay=0.3, max_grad_norm=1.0)
    their_optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in leaves.values() if p.ndim > 1], "weight_decay": 0.3},
            {"params": [p for p in leaves.values() if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    norms, losses = [], []
    for step in range(steps):
        for group in their_optimizer.param_groups:
            group["lr"] = 0.003 * (step + 1)
        loss, gradient = ours(params.tree)
        norms.append(optimizer.step(Flat(gradient), 0.003 * (step + 1)))
        their_optimizer.zero_grad()
        their_loss = theirs(their_tree)
        their_loss.backward()
        assert error(norms[-1], torch.nn.utils.clip_grad_norm_(leaves.values(), 1.0)) <= 10 * LIMIT[dtype]
        their_optimizer.step()
        losses.append(loss)
        assert error(loss, their_loss.detach()) <= 10 * LIMIT[dtype]
    assert losses[-1] < losses[0] / 2 and min(norms) < 1 < max(norms)
    moved = {name: leaf - flatten(tree)[name] for name, leaf in flatten(params.tree).items()}
    their_moved = {name: leaf.detach().numpy() - flatten(tree)[name] for name, leaf in leaves.items()}
    found = errors(moved, their_moved)
    # Adam divides by the size of a gradient, so of one that is 0 in truth it makes steps out of noise.
    noise = found.pop("block.attn.k_proj.bias")
    assert_within(found, 10 * LIMIT[dtype])
    assert noise <= 1e3 * LIMIT[dtype]
