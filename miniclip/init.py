"""Configurations, and the parameters that a model starts from.

A configuration is a plain dict in the shape of open_clip's JSON, and with its names. Parameters are a tree
with the names, shapes and layouts of OpenAI's state dict.
"""

import math
from copy import deepcopy

import numpy as np

from .preprocess import CLIP_PREPROCESS
from .tree import flatten

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)

TEXT = {"context_length": 24, "vocab_size": 1536, "width": 128, "heads": 4, "layers": 2}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}
VIT = {"image_size": 32, "layers": 4, "width": 128, "head_width": 32, "patch_size": 4}
MODELS = {
    "resnet-micro": {"embed_dim": 128, "vision_cfg": RESNET, "text_cfg": {"width": 64, "heads": 2, "layers": 1}},
    "resnet-tiny": {"embed_dim": 128, "vision_cfg": RESNET, "text_cfg": {"layers": 1}},
    "resnet": {"embed_dim": 256, "vision_cfg": RESNET | {"image_size": 64, "width": 24}},
    "vit-tiny": {"embed_dim": 128, "vision_cfg": VIT},
}


def model_config(name, **text_cfg):
    """The configuration of one of `MODELS`, a new dict; `text_cfg` overrides parts of the text encoder's.

    Raises ValueError for a name that is not there.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; choose one of {', '.join(MODELS)}.")
    config = {"quick_gelu": True, **deepcopy(MODELS[name])}
    words = TEXT | config.get("text_cfg", {}) | text_cfg
    return config | {"text_cfg": words, "preprocess": deepcopy(CLIP_PREPROCESS)}


def is_resnet(config):
    """Whether the image encoder is the ResNet: a list of layers, one number a stage (open_clip's rule)."""
    return isinstance(config["vision_cfg"]["layers"], (list, tuple))


def initialize(config, seed=0, dtype=np.float32):
    """Parameters as CLIP draws them (§2.4 and OpenAI's code), from a seed: a tree of arrays on the CPU."""
    rng = np.random.default_rng(seed)
    return _Parameters(
        config,
        normal=lambda std, *shape: (rng.standard_normal(shape) * std).astype(dtype),
        uniform=lambda bound, *shape: rng.uniform(-bound, bound, shape).astype(dtype),
        full=lambda value, *shape: np.full(shape, value, dtype),
    ).tree()


def parameter_shapes(config):
    """{dotted name: shape} of what `initialize` makes, in its order; no array is made for it."""

    def empty(_, *shape):
        return np.broadcast_to(np.float32(0), shape)

    return {name: leaf.shape for name, leaf in flatten(_Parameters(config, empty, empty, empty).tree()).items()}


class _Parameters:
    """The tree of parameters, each made by one of normal(std, *shape), uniform(bound, *shape), full(value, *shape)."""

    def __init__(self, config, normal, uniform, full):
        self.config, self.normal, self.uniform, self.full = config, normal, uniform, full

    def tree(self):
        embed, text = self.config["embed_dim"], self.config["text_cfg"]
        width = text["width"]
        visual = (self.resnet if is_resnet(self.config) else self.vit)(embed, **self.config["vision_cfg"])
        return {
            "positional_embedding": self.normal(0.01, text["context_length"], width),
            "text_projection": self.normal(width**-0.5, width, embed),
            "logit_scale": self.full(INITIAL_LOGIT_SCALE),
            "visual": visual,
            "transformer": self.blocks(width, text["layers"], text.get("mlp_ratio", 4)),
            "token_embedding": {"weight": self.normal(0.02, text["vocab_size"], width)},
            "ln_final": self.affine(width),
        }

    def vit(self, embed, width, layers, image_size, patch_size, mlp_ratio=4, **_):
        std = width**-0.5
        return {
            "class_embedding": self.normal(std, width),
            "positional_embedding": self.normal(std, (image_size // patch_size) ** 2 + 1, width),
            "proj": self.normal(std, width, embed),
            "conv1": self.conv(width, 3, patch_size),
            "ln_pre": self.affine(width),
            "transformer": self.blocks(width, layers, mlp_ratio),
            "ln_post": self.affine(width),
        }

    def resnet(self, embed, width, layers, image_size, **_):
        half = width // 2
        p = self.conv_norm(1, half, 3, 3) | self.conv_norm(2, half, half, 3) | self.conv_norm(3, width, half, 3)
        channels = width
        for stage, count in enumerate(layers):
            planes, blocks = width * 2**stage, []
            for i in range(count):
                block = self.conv_norm(1, planes, channels, 1) | self.conv_norm(2, planes, planes, 3)
                block |= self.conv_norm(3, 4 * planes, planes, 1, gain=0)  # every block starts as its shortcut
                if i == 0:
                    block["downsample"] = list(self.conv_norm(0, 4 * planes, channels, 1).values())
                blocks.append(block)
                channels = 4 * planes
            p[f"layer{stage + 1}"] = blocks
        # The stem's first convolution halves the picture (rounding up); four average pools then do.
        side, std = (image_size + 1) // 2 // 16, channels**-0.5
        pool = {"positional_embedding": self.normal(std, side**2 + 1, channels)}
        pool |= {name: self.dense(channels, channels, std) for name in ("k_proj", "q_proj", "v_proj")}
        return p | {"attnpool": pool | {"c_proj": self.dense(embed, channels, std)}}

    def blocks(self, width, layers, mlp_ratio):
        std, hidden = width**-0.5, int(width * mlp_ratio)
        proj_std, fc_std = std * (2 * layers) ** -0.5, (2 * width) ** -0.5

        def block():
            attn = {"in_proj_weight": self.normal(std, 3 * width, width), "in_proj_bias": self.full(0, 3 * width)}
            attn["out_proj"] = self.dense(width, width, proj_std)
            mlp = {"c_fc": self.dense(hidden, width, fc_std), "c_proj": self.dense(width, hidden, proj_std)}
            return {"attn": attn, "ln_1": self.affine(width), "mlp": mlp, "ln_2": self.affine(width)}

        return {"resblocks": [block() for _ in range(layers)]}

    def conv_norm(self, i, out, k, size, gain=1):
        statistics = {"running_mean": self.full(0, out), "running_var": self.full(1, out)}
        return {f"conv{i}": self.conv(out, k, size), f"bn{i}": self.affine(out, gain) | statistics}

    def conv(self, out, k, size):
        return {"weight": self.uniform((k * size * size) ** -0.5, out, k, size, size)}

    def dense(self, out, k, std):
        return {"weight": self.normal(std, out, k), "bias": self.full(0, out)}

    def affine(self, n, gain=1):
        return {"weight": self.full(gain, n), "bias": self.full(0, n)}
