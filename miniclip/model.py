"""The model: its configuration, its initial parameters, and the object that people hold.

A configuration is a plain dict in the shape of open_clip's JSON, and with its names. Parameters are a tree
with the names, shapes and layouts of OpenAI's state dict.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from . import text_encoder
from .backend import array_module, worker_threads
from .layers import l2_normalize, softmax
from .preprocess import CLIP_PREPROCESS, preprocess
from .resnet import modified_resnet
from .tree import flatten, to_device
from .vit import vision_transformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAXIMUM_LOGIT_SCALE = math.log(100)

TEXT = {"context_length": 24, "vocab_size": 1536, "width": 128, "heads": 4, "layers": 2}
MODELS = {
    "resnet-micro": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {"width": 64, "heads": 2, "layers": 1},
    },
    "resnet-tiny": {"embed_dim": 128, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}},
    "resnet": {"embed_dim": 256, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24}},
    "vit-tiny": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 32, "layers": 4, "width": 128, "head_width": 32, "patch_size": 4},
    },
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


def encode_image(params, images, config, training=False, recompute=False, once=False):
    """Features of pictures, before normalisation.

    params: a CLIP state dict as a tree; images (N, C, S, S) float, already preprocessed; training: batch
    statistics in the ResNet's norms; recompute, once: for less memory, as in `transformer` (not in the ResNet).
    Returns features (N, E) and backward; backward(dfeatures (N, E)) -> gradients of `params["visual"]` as
    {"visual": tree}, and backward(dfeatures, input_gradient=True) -> (dimages, gradients).
    Raises ValueError when images do not have the model's shape.
    """
    size = config["vision_cfg"]["image_size"]
    if images.ndim != 4 or images.shape[1:] != (3, size, size):
        raise ValueError(f"images have shape {images.shape}; this model takes (N, 3, {size}, {size}).")
    if is_resnet(config):
        features, backward_tower = modified_resnet(images, params["visual"], config, training)
    else:
        features, backward_tower = vision_transformer(images, params["visual"], config, recompute, once)

    def backward(dfeatures, input_gradient=False):
        dimages, grads = backward_tower(dfeatures, input_gradient)
        return (dimages, {"visual": grads}) if input_gradient else {"visual": grads}

    return features, backward


encode_text = text_encoder.encode_text


def initialize(config, seed=0, dtype=np.float32):
    """Parameters as CLIP draws them (§2.4 and OpenAI's code), from a seed: a tree of arrays on the CPU."""
    rng = np.random.default_rng(seed)
    return _parameters(
        config,
        normal=lambda *shape, std: (rng.standard_normal(shape) * std).astype(dtype),
        uniform=lambda *shape, bound: rng.uniform(-bound, bound, shape).astype(dtype),
        full=lambda *shape, value=0: np.full(shape, value, dtype),
    )


def parameter_shapes(config):
    """{dotted name: shape} of what `initialize` makes, in its order; no array is made for it."""

    def draw(*shape, **_):
        return np.broadcast_to(np.float32(0), shape)

    return {name: leaf.shape for name, leaf in flatten(_parameters(config, draw, draw, draw)).items()}


def _parameters(config, normal, uniform, full):
    """The tree of parameters, each made by one of normal(*shape, std), uniform(*shape, bound), full(*shape, value)."""

    def ones_zeros(n, gain=1):
        return {"weight": full(n, value=gain), "bias": full(n)}

    def dense(out, k, std):
        return {"weight": normal(out, k, std=std), "bias": full(out)}

    def blocks(width, layers, mlp_ratio=4):
        attn_std, proj_std, fc_std = width**-0.5, width**-0.5 * (2 * layers) ** -0.5, (2 * width) ** -0.5
        hidden = int(width * mlp_ratio)
        return {
            "resblocks": [
                {
                    "attn": {
                        "in_proj_weight": normal(3 * width, width, std=attn_std),
                        "in_proj_bias": full(3 * width),
                        "out_proj": dense(width, width, proj_std),
                    },
                    "ln_1": ones_zeros(width),
                    "mlp": {"c_fc": dense(hidden, width, fc_std), "c_proj": dense(width, hidden, proj_std)},
                    "ln_2": ones_zeros(width),
                }
                for _ in range(layers)
            ]
        }

    def conv(out, k, size):
        return {"weight": uniform(out, k, size, size, bound=(k * size * size) ** -0.5)}

    def norm(n, gain=1):
        return ones_zeros(n, gain) | {"running_mean": full(n), "running_var": full(n, value=1)}

    def resnet(width, layers, image_size):
        p = {
            "conv1": conv(width // 2, 3, 3),
            "bn1": norm(width // 2),
            "conv2": conv(width // 2, width // 2, 3),
            "bn2": norm(width // 2),
            "conv3": conv(width, width // 2, 3),
            "bn3": norm(width),
        }
        channels = width
        for stage, count in enumerate(layers):
            planes, p[f"layer{stage + 1}"] = width * 2**stage, []
            for i in range(count):
                # A last gain of 0 starts every block as its shortcut.
                block = {
                    "conv1": conv(planes, channels, 1),
                    "bn1": norm(planes),
                    "conv2": conv(planes, planes, 3),
                    "bn2": norm(planes),
                    "conv3": conv(4 * planes, planes, 1),
                    "bn3": norm(4 * planes, gain=0),
                }
                if i == 0:
                    block["downsample"] = [conv(4 * planes, channels, 1), norm(4 * planes)]
                p[f"layer{stage + 1}"].append(block)
                channels = 4 * planes
        # The stem's first convolution halves the picture (rounding up); four average pools then do.
        side, std = (image_size + 1) // 2 // 16, channels**-0.5
        p["attnpool"] = {"positional_embedding": normal(side**2 + 1, channels, std=std)}
        p["attnpool"] |= {name: dense(channels, channels, std) for name in ("k_proj", "q_proj", "v_proj")}
        p["attnpool"]["c_proj"] = dense(config["embed_dim"], channels, std)
        return p

    def vit(width, layers, image_size, patch_size, mlp_ratio=4, **_):
        std = width**-0.5
        return {
            "class_embedding": normal(width, std=std),
            "positional_embedding": normal((image_size // patch_size) ** 2 + 1, width, std=std),
            "proj": normal(width, config["embed_dim"], std=std),
            "conv1": conv(width, 3, patch_size),
            "ln_pre": ones_zeros(width),
            "transformer": blocks(width, layers, mlp_ratio),
            "ln_post": ones_zeros(width),
        }

    vision, words = config["vision_cfg"], config["text_cfg"]
    if is_resnet(config):
        visual = resnet(vision["width"], vision["layers"], vision["image_size"])
    else:
        visual = vit(**vision)
    return {
        "positional_embedding": normal(words["context_length"], words["width"], std=0.01),
        "text_projection": normal(words["width"], config["embed_dim"], std=words["width"] ** -0.5),
        "logit_scale": full(value=INITIAL_LOGIT_SCALE),
        "visual": visual,
        "transformer": blocks(words["width"], words["layers"], words.get("mlp_ratio", 4)),
        "token_embedding": {"weight": normal(words["vocab_size"], words["width"], std=0.02)},
        "ln_final": ones_zeros(words["width"]),
    }


@dataclass
class CLIP:
    """Two encoders, their parameters, and the tokenizer that goes with them."""

    params: dict
    config: dict
    tokenizer: object
    about: dict = field(default_factory=dict)  # where it comes from: seed, command, results

    def encode_image(self, images, batch=32):
        """Unit features of pictures.

        images: PIL images, or uint8 (N, H, W, 3) or (N, H, W, 4), any size -> float32 (N, E).
        Raises ValueError for what is no picture.
        """
        if hasattr(images, "convert"):
            raise ValueError("images is one picture; give a list of pictures, [picture] for one.")

        def encode(pictures):
            pixels = to_device(preprocess(pictures, self.config), self.device)
            return encode_image(self.params, pixels, self.config)[0]

        return self._encode(encode, list(images), batch)

    def encode_text(self, texts, batch=64):
        """Unit features of texts: list of str -> float32 (N, E). Too long a text is cut as CLIP cuts it."""
        if isinstance(texts, str):
            raise ValueError("texts is one string; give a list of strings, [text] for one.")

        def encode(some):
            tokens = self.tokenizer(some, self.config["text_cfg"]["context_length"])
            return encode_text(self.params, to_device(tokens, self.device), self.config)[0]

        return self._encode(encode, list(texts), batch)

    def classify(self, images, names, templates=None):
        """Zero-shot classification: how likely each name is, of these names, for each picture (§3.1).

        images as in `encode_image`; names: K strings; templates: strings with one {} for the name, whose
        embeddings are averaged, or None for the bare name -> probabilities float32 (N, K).
        """
        from .evaluation import class_embeddings

        classes = class_embeddings(self, names, templates or ["{}"])
        scale = array_module(classes).exp(self.params["logit_scale"])
        return softmax(scale * (self.encode_image(images) @ classes.T))[0]

    @property
    def device(self):
        """Where the parameters are: "cpu" or "gpu"."""
        return "cpu" if array_module(self.params["logit_scale"]) is np else "gpu"

    def _encode(self, encode, items, batch):
        xp = array_module(self.params["logit_scale"])
        if not items:
            return xp.zeros((0, self.config["embed_dim"]), np.float32)
        batches = [items[i : i + batch] for i in range(0, len(items), batch)]
        with worker_threads() as pool:
            features = list(pool.map(encode, batches)) if xp is np else [encode(b) for b in batches]
        return l2_normalize(xp.concatenate(features))[0]
