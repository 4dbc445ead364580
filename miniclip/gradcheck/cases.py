"""Every backward pass of the house at a random point: what `python -m miniclip gradcheck` proves.

The sizes, parameters and inputs are drawn in draw.py, as a seed decides.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from ..attention import attend, attention_pool, attention_weights, causal_mask, self_attention
from ..conv import average_pool, batch_norm, conv2d
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

STATISTICS = ("*running_mean", "*running_var")  # averages, which the loss does not differentiate


class Subject(NamedTuple):
    """What to check: check(f, *args, **options)."""

    f: object
    args: tuple
    options: dict


CASES = {}  # {name: function of a `Draw` -> Subject}


def subject(name):
    """Enter a function draw -> f, *args, or (f, *args, options), under a name."""

    def enter(make):
        def made(draw):
            f, *args = make(draw)
            options = args.pop() if args and isinstance(args[-1], dict) and "entries" in args[-1] else {}
            return Subject(f, tuple(args), options)

        CASES[name] = made
        return make

    return enter


def find_cases(patterns):
    """The names that match one of these patterns, "layer_norm" or "*resnet*". ValueError where one matches none."""
    for pattern in patterns:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in CASES):
            raise ValueError(f"there is no layer {pattern!r}; choose one of: {', '.join(CASES)}.")
    return [name for name in CASES if any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)]


def draw_case(name, seed=0, least=2):
    """The subject of this name at the point that a seed decides, with sizes of at least `least`."""
    return CASES[name](RandomInputs([seed, *name.encode()], least))


def check_layer(name, seed=0, least=2, **options):
    """The `Report` on one subject; options as `gradcheck.check` takes them."""
    f, args, own = draw_case(name, seed, least)
    report = check(f, *args, **own | {"cotangent_seed": seed} | options)
    report.function = name
    return report


# ------------------------------------------------------------------------------------------ layers


@subject("linear")
def _(d):
    k, m = d.size(), d.size()
    return linear, d.normal(d.size(), d.size(), k), d.weight(m, k), d.normal(m)


@subject("embedding")
def _(d):
    v, width = d.size(2, 6), d.size()
    return embedding, d.rng.integers(0, v, (d.size(), d.size())), d.normal(v, width)


@subject("layer_norm")
def _(d):
    width = d.size(2, 8)
    return layer_norm, d.normal(d.size(), d.size(), width), d.normal(width), d.normal(width)


for activation in (relu, quick_gelu, gelu):
    subject(activation.__name__)(lambda d, f=activation: (f, d.normal(d.size(), d.size(), scale=2)))


@subject("softmax")
def _(d):
    return softmax, d.normal(d.size(), d.size(2, 6), scale=2)


@subject("l2_normalize")
def _(d):
    return l2_normalize, d.normal(d.size(), d.size(2, 6))


@subject("conv2d")
def _(d):
    kernel, c, out = d.size(1, 3), d.size(1, 3), d.size(1, 3)
    return (
        conv2d,
        d.normal(d.size(1, 2), d.size(3, 6), d.size(3, 6), c),
        d.normal(out, c, kernel, d.size(1, 3)),
        d.normal(out),
        d.number(1, 2),
        d.number(0, 1),
    )


@subject("conv2d (1 × 1)")
def _(d):
    c, out = d.size(), d.size()
    return conv2d, d.normal(2, d.size(), d.size(), c), d.normal(out, c, 1, 1), d.normal(out)


def batch_norm_subject(training):
    """Batch norm with its own statistics or with the running ones."""

    def make(d):
        c = d.size()
        x = d.normal(d.size(2, 4), d.size(2, 3), d.size(2, 3), c) + 1
        return (
            batch_norm,
            x,
            d.normal(c),
            d.normal(c),
            *d.statistics(c),
            training,
            {"entries": 32, "exclude": ["running_*"]},
        )

    return make


subject("batch_norm (training)")(batch_norm_subject(True))
subject("batch_norm (in use)")(batch_norm_subject(False))


@subject("average_pool")
def _(d):
    size = d.size(2, 3)
    return average_pool, d.normal(d.size(1, 2), d.size(size, 7), d.size(size, 7), d.size(1, 3)), size


def attention_subject(causal):
    """Self-attention that sees everything, or only what came before."""

    def make(d):
        heads, t = d.size(1, 3), d.size()
        width = heads * d.size(1, 4)
        p = d.block(width)["attn"]
        if not causal:
            return self_attention, d.normal(d.size(1, 3), t, width), p, heads
        return (
            self_attention,
            d.normal(d.size(1, 3), t, width),
            p,
            heads,
            causal_mask(t, np, np.float64),
            {"entries": 32, "exclude": ["mask"]},
        )

    return make


subject("self_attention")(attention_subject(False))
subject("self_attention (causal)")(attention_subject(True))


@subject("self_attention (at one position)")
def _(d):
    heads, t, n = d.size(1, 3), d.size(2), d.size(1, 3)
    width = heads * d.size(1, 4)
    return (
        self_attention,
        d.normal(n, t, width),
        d.block(width)["attn"],
        heads,
        causal_mask(t, np, np.float64),
        d.rng.integers(1, t, n),
        {"entries": 32, "exclude": ["mask"]},
    )


@subject("attend")
def _(d):
    shape, t, size = (d.size(1, 3), d.size(1, 3)), d.size(), d.size()
    return attend, d.normal(*shape, d.size(), size), d.normal(*shape, t, size), d.normal(*shape, t, size)


@subject("attention_weights")
def _(d):
    t = d.size(2)
    scale = d.number(1, 4) / 2 + 0.25
    return (
        attention_weights,
        d.normal(d.size(1, 3), t, t),
        scale,
        causal_mask(t, np, np.float64),
        {"entries": 32, "exclude": ["mask"]},
    )


@subject("attention_pool")
def _(d):
    heads = d.size(1, 3)
    c, h, w, out = heads * d.size(1, 3), d.size(1, 3), d.size(1, 3), d.size(1, 4)
    p = {
        "positional_embedding": d.normal(h * w + 1, c),
        "c_proj": d.dense(out, c),
        **{name: d.dense(c, c) for name in ("k_proj", "q_proj", "v_proj")},
    }
    return attention_pool, d.normal(d.size(1, 3), h, w, c), p, heads


# ------------------------------------------------------------------------------------------ blocks

for activation in (quick_gelu, gelu):
    subject(f"mlp ({activation.__name__})")(
        lambda d, f=activation, width=4: (mlp, d.normal(d.size(), d.size(), width), d.block(width)["mlp"], f)
    )


@subject("residual_block")
def _(d):
    heads, t = d.size(1, 2), d.size(1, 4)
    width = heads * d.size(2, 3)
    return (
        residual_block,
        d.normal(d.size(1, 2), t, width),
        d.block(width),
        heads,
        causal_mask(t, np, np.float64),
        {"entries": 16, "exclude": ["mask"]},
    )


for again in (False, True):
    subject("transformer" + " (recomputed)" * again)(
        lambda d, again=again: (
            transformer,
            d.normal(2, 3, 4),
            {"resblocks": [d.block(4), d.block(4)]},
            2,
            None,
            gelu,
            again,
            {"entries": 8},
        )
    )


@subject("transformer (at one position)")
def _(d):
    return (
        transformer,
        d.normal(2, 3, 4),
        {"resblocks": [d.block(4), d.block(4)]},
        2,
        None,
        quick_gelu,
        False,
        d.rng.integers(1, 3, 2),
        {"entries": 8},
    )


@subject("conv_norm")
def _(d):
    p = {
        "conv1": {"weight": d.normal(3, 2, 3, 3)},
        "bn1": d.norm(3) | dict(zip(("running_mean", "running_var"), d.statistics(3))),
    }
    f = conv_norm_strided
    return f, d.normal(3, 5, 5, 2), p, {"entries": 16, "exclude": STATISTICS}


def conv_norm_strided(x, p):
    """conv_norm as the stem of the ResNet calls it."""
    return conv_norm(x, p, 1, True, stride=2, padding=1)


@subject("bottleneck")
def _(d):
    p = d.parameters(RESNET)["visual"]["layer2"][0]
    return bottleneck, d.normal(2, 4, 4, 16), p, 2, True, {"entries": 8, "exclude": STATISTICS}


# ------------------------------------------------------------------------------------------ encoders


@subject("vision_transformer")
def _(d):
    return (vision_transformer, d.images(2, VIT), d.parameters(VIT)["visual"], VIT, {"entries": 8})


for training in (True, False):
    subject("modified_resnet" + (" (training)" if training else " (in use)"))(
        lambda d, training=training: (
            modified_resnet,
            d.images(4, RESNET),
            d.parameters(RESNET)["visual"],
            RESNET,
            training,
            {"entries": 1, "exclude": STATISTICS},
        )
    )


def text_encoder(params, tokens, config):
    """encode_text with one tree of gradients, for a tree of parameters that holds nothing else."""
    features, backward = encode_text(params, tokens, config)
    return features, lambda dfeatures: (backward(dfeatures),)


@subject("encode_text")
def _(d):
    params = d.parameters(VIT)
    del params["visual"], params["logit_scale"]
    return text_encoder, params, d.tokens(3), VIT, {"entries": 8}


# ------------------------------------------------------------------------------------------ losses


@subject("clip_loss")
def _(d):
    n, e = d.size(1, 6), d.size(2, 5)
    return clip_loss, d.normal(n, e), d.normal(n, e), d.normal() + 1


@subject("contrastive_loss")
def _(d):
    n, e = d.size(2, 6), d.size(2, 5)
    return contrastive_loss, l2_normalize(d.normal(n, e))[0], l2_normalize(d.normal(n, e))[0], d.normal() + 1


@subject("symmetric_cross_entropy")
def _(d):
    n = d.size(2, 6)
    return symmetric_cross_entropy, d.normal(n, n, scale=3)


@subject("tiled_clip_loss")
def _(d):
    n, e = d.size(2, 6), d.size(2, 5)
    return tiled_clip_loss, d.normal(n, e), d.normal(n, e), d.normal() + 1, d.size(2, 3)


@subject("tiled_contrastive_loss")
def _(d):
    n, e = d.size(2, 6), d.size(2, 5)
    return (tiled_contrastive_loss, l2_normalize(d.normal(n, e))[0], l2_normalize(d.normal(n, e))[0], d.normal() + 1, 2)


@subject("siglip_loss")
def _(d):
    n, e = d.size(1, 6), d.size(2, 5)
    return siglip_loss, d.normal(n, e), d.normal(n, e), d.normal() + 1, d.normal()


# ------------------------------------------------------------------------------------------ the whole


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


def sharded_step(params, shards, config, recompute=False):
    """One training step, as train.py takes it: the loss of all shards, the gradient in one flat vector."""
    gradient = Flat(params)
    loss = loss_and_gradient(params, shards, config, gradient, recompute=recompute)["loss"]
    return loss, lambda: (gradient.tree,)


for kind, config in (("ViT", VIT), ("ResNet", RESNET)):
    options = {"entries": 1, "exclude": [*STATISTICS, "shards*"]}
    subject(f"whole model ({kind})")(
        lambda d, config=config, options=options: (
            whole_model,
            d.parameters(config),
            d.images(4, config),
            d.tokens(4),
            config,
            options,
        )
    )
    subject(f"one sharded step ({kind})")(
        lambda d, config=config, options=options: (
            sharded_step,
            d.parameters(config),
            [(d.images(n, config), d.tokens(n)) for n in (4, 3)],
            config,
            kind == "ViT",
            options,
        )
    )
