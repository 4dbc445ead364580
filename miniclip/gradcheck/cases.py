"""Every backward pass of the library at a random point: what `python -m miniclip gradcheck` checks."""

from fnmatch import fnmatchcase
from inspect import signature

import numpy as np

from ..attention import attend, attention_pool, attention_weights, causal_mask, self_attention
from ..conv import average_pool, batch_norm, conv2d
from ..last_block import self_attention_at, transformer_at
from ..layers import embedding, gelu, l2_normalize, layer_norm, linear, quick_gelu, relu, softmax
from ..loss import clip_loss, contrastive_loss, siglip_loss, symmetric_cross_entropy
from ..model import encode_image
from ..resnet import bottleneck, conv_norm, modified_resnet
from ..text_encoder import encode_text
from ..train_step import loss_and_gradient
from ..training import tiled_clip_loss, tiled_contrastive_loss
from ..transformer import mlp, residual_block, transformer
from ..tree import Flat
from ..vit import vision_transformer
from .check import check
from .random_inputs import RESNET, VIT, RandomInputs

CASES = {}  # {name: (draw, entries)}, see `case`
CONSTANT = ("mask", "micro_batches*", "*running_mean", "*running_var")  # arrays of floats without a gradient


def case(name, entries=32):
    """Enter a function draw(r, n, t, …) -> (f, *args) under a name.

    r is a `RandomInputs`, n, t, … are axes whose lengths it draws. entries: see `check`.
    """

    def enter(draw):
        CASES[name] = draw, entries
        return draw

    return enter


def find_cases(patterns):
    """The names that match one of these patterns, "layer_norm" or "*resnet*". ValueError where one matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CASES):
            raise ValueError(f"there is no layer {pattern!r}; choose one of: {', '.join(CASES)}.")
    return [name for name in CASES if any(fnmatchcase(name, pattern) for pattern in patterns)]


def draw_case(name, seed=0, least=2):
    """f, args and options of `check` for a case, at the point that a seed decides, with axes at least `least` long."""
    draw, entries = CASES[name]
    r = RandomInputs([seed, *name.encode()], least)
    _, *axes = (p.name for p in signature(draw).parameters.values() if p.default is p.empty)
    f, *args = draw(r, *map(r.length, axes))
    return f, tuple(args), {"entries": entries, "exclude": CONSTANT}


def check_layer(name, seed=0, least=2, **options):
    """The `Report` on one case; options as `check` takes them."""
    f, args, own = draw_case(name, seed, least)
    report = check(f, *args, **own | {"cotangent_seed": seed} | options)
    report.function = name
    return report


# ------------------------------------------------------------------------------------------ layers


def mask(t):
    """The causal mask of t tokens, for these float64 cases."""
    return causal_mask(t, np, np.float64)


case("linear")(lambda r, n, t, k, m: (linear, r.normal(n, t, k), *r.dense(m, k).values()))
case("embedding")(lambda r, n, t, v, k: (embedding, r.rng.integers(0, v, (n, t)), r.normal(v, k)))
case("layer_norm")(lambda r, n, t, d: (layer_norm, r.normal(n, t, d), *r.norm(d).values()))
for f in (relu, quick_gelu, gelu, softmax):
    case(f.__name__)(lambda r, n, d, f=f: (f, r.normal(n, d, scale=2)))
case("l2_normalize")(lambda r, n, d: (l2_normalize, r.normal(n, d)))


@case("conv2d")
def _(r, n, h, w, c, m, kh, kw):
    stride, padding = r.integer(1, 2), r.integer(0, 1)
    return conv2d, r.normal(n, h, w, c), *r.dense(m, c, kh, kw).values(), stride, padding


case("conv2d (1 × 1)")(lambda r, n, h, w, c, m: (conv2d, r.normal(n, h, w, c), *r.dense(m, c, 1, 1).values()))
for mode in ("training", "eval"):

    @case(f"batch_norm ({mode})")
    def _(r, n, h, w, c, training=mode == "training"):
        return batch_norm, r.normal(n, h, w, c) + 1, *r.batch_norm(c).values(), training


case("average_pool")(lambda r, n, h, w, c: (average_pool, r.normal(n, h, w, c), r.integer(2, 3)))
case("self_attention")(lambda r, n, t, heads: (self_attention, r.normal(n, t, 6), r.attention(6), heads))
case("self_attention (causal)")(
    lambda r, n, t, heads: (self_attention, r.normal(n, t, 6), r.attention(6), heads, mask(t))
)


@case("self_attention_at")
def _(r, n, t, heads):
    return self_attention_at, r.normal(n, t, 6), r.attention(6), heads, r.rng.integers(0, t, n), mask(t)


case("attend")(lambda r, n, heads, m, t, k: (attend, r.normal(n, heads, m, k), *r.normal(2, n, heads, t, k)))
case("attention_weights")(lambda r, n, t: (attention_weights, r.normal(n, t, t), r.integer(1, 4) / 2 + 0.25, mask(t)))


@case("attention_pool")
def _(r, n, h, w, heads, m):
    return attention_pool, r.normal(n, h, w, 6), r.attention_pool(h * w + 1, 6, m), heads


# ------------------------------------------------------------------------------------------ blocks and encoders


def conv_norm_strided(x, p):
    """conv_norm as the stem of the ResNet calls it."""
    return conv_norm(x, p, 1, True, stride=2, padding=1)


def text_encoder(params, tokens, config):
    """encode_text with one tree of gradients, for a tree of parameters that holds nothing else."""
    features, backward = encode_text(params, tokens, config)
    return features, lambda dfeatures: (backward(dfeatures),)


for f in (quick_gelu, gelu):
    case(f"mlp ({f.__name__})")(lambda r, n, t, f=f: (mlp, r.normal(n, t, 4), r.mlp(4), f))
case("residual_block", 16)(lambda r, n, t, heads: (residual_block, r.normal(n, t, 6), r.block(6), heads, mask(t)))
case("transformer", 8)(lambda r: (transformer, r.normal(2, 3, 4), r.blocks(2, 4), 2, None, gelu))
case("transformer (recomputed)", 8)(lambda r: (transformer, r.normal(2, 3, 4), r.blocks(2, 4), 2, None, gelu, True))
case("transformer_at", 8)(lambda r: (transformer_at, r.normal(2, 3, 4), r.blocks(2, 4), 2, r.rng.integers(1, 3, 2)))


@case("conv_norm", 16)
def _(r):
    return conv_norm_strided, r.normal(3, 5, 5, 2), {"conv1": {"weight": r.weight(3, 2, 3, 3)}, "bn1": r.batch_norm(3)}


@case("bottleneck", 8)
def _(r):
    return bottleneck, r.normal(2, 4, 4, 16), r.parameters(RESNET)["visual"]["layer2"][0], 2, True


case("vision_transformer", 8)(lambda r: (vision_transformer, r.images(2, VIT), r.parameters(VIT)["visual"], VIT))
for mode in ("training", "eval"):

    @case(f"modified_resnet ({mode})", 1)
    def _(r, training=mode == "training"):
        return modified_resnet, r.images(4, RESNET), r.parameters(RESNET)["visual"], RESNET, training


@case("encode_text", 8)
def _(r):
    params = r.parameters(VIT)
    del params["visual"], params["logit_scale"]
    return text_encoder, params, r.tokens(3), VIT


# ------------------------------------------------------------------------------------------ losses

case("clip_loss")(lambda r, n, e: (clip_loss, *r.normal(2, n, e), r.normal() + 1))
case("contrastive_loss")(lambda r, n, e: (contrastive_loss, *r.unit(2, n, e), r.normal() + 1))
case("symmetric_cross_entropy")(lambda r, n: (symmetric_cross_entropy, r.normal(n, n, scale=3)))
case("tiled_clip_loss")(lambda r, n, e: (tiled_clip_loss, *r.normal(2, n, e), r.normal() + 1, 2))
case("tiled_contrastive_loss")(lambda r, n, e: (tiled_contrastive_loss, *r.unit(2, n, e), r.normal() + 1, 2))
case("siglip_loss")(lambda r, n, e: (siglip_loss, *r.normal(2, n, e), r.normal() + 1, r.normal()))


# ------------------------------------------------------------------------------------------ the whole model


def whole_model(params, images, tokens, config):
    """Pictures and texts in, the loss out: every parameter and every pixel."""
    image_features, image_backward = encode_image(params, images, config, training=True)
    text_features, text_backward = encode_text(params, tokens, config)
    loss, loss_backward = clip_loss(image_features, text_features, params["logit_scale"])

    def backward():
        d_image, d_text, d_logit_scale = loss_backward()
        dimages, visual = image_backward(d_image, input_gradient=True)
        return {**visual, **text_backward(d_text), "logit_scale": d_logit_scale}, dimages

    return loss, backward


def training_step(params, micro_batches, config, recompute=False):
    """One loss over the features of all micro-batches, and the gradient of it that a step of training takes."""
    images = [encode_image(params, images, config, training=True)[0] for images, _ in micro_batches]
    texts = [encode_text(params, tokens, config)[0] for _, tokens in micro_batches]
    loss, _ = clip_loss(np.concatenate(images), np.concatenate(texts), params["logit_scale"])

    def backward():
        gradient = Flat(params)
        loss_and_gradient(params, micro_batches, config, gradient, recompute=recompute)
        return (gradient.tree,)

    return loss, backward


for kind, config in (("ViT", VIT), ("ResNet", RESNET)):

    @case(f"whole model ({kind})", 1)
    def _(r, config=config):
        return whole_model, r.parameters(config), r.images(3, config), r.tokens(3), config

    @case(f"micro-batched step ({kind})", 1)
    def _(r, config=config):
        micro_batches = [(r.images(n, config), r.tokens(n)) for n in (3, 2)]
        return training_step, r.parameters(config), micro_batches, config, config is VIT
