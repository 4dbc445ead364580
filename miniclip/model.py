"""The model: two encoders behind one door each, and the object that people hold."""

from dataclasses import dataclass, field

import numpy as np

from .backend import array_module, worker_threads
from .checks import finite, listed, takes
from .init import is_resnet
from .layers import l2_normalize, softmax
from .preprocess import mean_and_std, preprocess
from .resnet import modified_resnet
from .text_encoder import encode_text
from .tree import to_device
from .vit import vision_transformer

LARGEST_SCALE = 80  # of logit_scale: more, and exp overflows in float32


@takes(
    "params.visual tree, images (N, C, H, W), config.vision_cfg.image_size ≥ 1, config.vision_cfg.layers given, "
    "training flag, recompute flag"
)
def encode_image(params, images, config, training=False, recompute=False):
    """Features of pictures, before normalisation.

    params: a CLIP state dict as a tree; images: already preprocessed, not raw bytes; training: batch
    statistics in the ResNet's norms; recompute: for less memory, as in `transformer` (not in the ResNet).
    Returns features (N, E) and backward; backward(dfeatures (N, E)) -> gradients of `params["visual"]` as
    {"visual": tree}, and backward(dfeatures, input_gradient=True) -> (dimages, gradients).
    Raises ValueError when images do not have the model's shape; and, on the host and outside of training, when a
    number is not finite, or far beyond what `preprocess` gives.
    """
    size = config["vision_cfg"]["image_size"]
    if images.shape[1:] != (3, size, size):
        raise ValueError(f"images have shape {images.shape}; this model takes (N, 3, {size}, {size}).")
    if not training and array_module(images) is np:
        check_pixels(images, config)
    if is_resnet(config):
        features, backward_encoder = modified_resnet(images, params["visual"], config, training)
    else:
        features, backward_encoder = vision_transformer(images, params["visual"], config, recompute)

    def backward(dfeatures, input_gradient=False):
        dimages, grads = backward_encoder(dfeatures, input_gradient)
        return (dimages, {"visual": grads}) if input_gradient else {"visual": grads}

    return features, backward


def check_pixels(images, config):
    """ValueError where images (N, 3, S, S) are not finite, or cannot be what `preprocess` gives for this config."""
    low, high = finite(images, "images").real.min(), images.real.max()
    if "preprocess" in config:
        largest = max((1 + abs(mean)) / std for mean, std in zip(*mean_and_std(config)))
        if max(high, -low) > 4 * largest:
            raise ValueError(
                f"images have numbers from {low:.4g} to {high:.4g}: these are no preprocessed pictures, which stay "
                f"within ±{largest:.2g}; scale them to 0..1, take off the mean, and divide by the deviation."
            )


@dataclass
class CLIP:
    """Two encoders, their parameters, and the tokenizer that goes with them."""

    params: dict
    config: dict
    tokenizer: object
    about: dict = field(default_factory=dict)  # where it comes from: seed, command, results

    @takes("batch_size ≥ 1")
    def encode_image(self, images, batch_size=32):
        """Unit features of pictures.

        images: PIL images, or uint8 (N, H, W, 3) or (N, H, W, 4), any size -> float32 (N, E).
        Raises ValueError for what is no picture.
        """
        if hasattr(images, "convert"):
            raise ValueError("images is one picture; give a list of pictures, [picture] for one.")

        def encode(pictures):
            pixels = to_device(preprocess(pictures, self.config), self.device)
            return encode_image(self.params, pixels, self.config)[0]

        return self._encode(encode, listed(images, "images"), batch_size)

    @takes("batch_size ≥ 1")
    def encode_text(self, texts, batch_size=64):
        """Unit features of texts: list of str -> float32 (N, E). Too long a text is cut as CLIP cuts it."""
        if isinstance(texts, str):
            raise ValueError("texts is one string; give a list of strings, [text] for one.")

        def encode(some):
            tokens = self.tokenizer(some, self.config["text_cfg"]["context_length"])
            return encode_text(self.params, to_device(tokens, self.device), self.config)[0]

        return self._encode(encode, listed(texts, "texts"), batch_size)

    def classify(self, images, names, templates=None):
        """Zero-shot classification: how likely each name is, of these names, for each picture (§3.1).

        images as in `encode_image`; names: K strings; templates: strings with one {} for the name, whose
        embeddings are averaged, or None for the bare name -> probabilities float32 (N, K). Raises ValueError for what
        is no picture or no name, and for a model that cannot answer with finite numbers.
        """
        classes = class_embeddings(self, names, ["{}"] if templates is None else templates)
        scale = self.params["logit_scale"]
        if not abs(float(scale)) < LARGEST_SCALE:
            raise ValueError(f"the model's logit_scale is {float(scale):.4g}; it is ln 1/τ, at most ln 100 = 4.6.")
        scale = array_module(classes).exp(scale)
        return softmax(scale * (self.encode_image(images) @ classes.T))[0]

    @property
    def device(self):
        """Where the parameters are: "cpu" or "gpu"."""
        return "cpu" if array_module(self.params["logit_scale"]) is np else "gpu"

    def _encode(self, encode, items, batch_size):
        xp = array_module(self.params["logit_scale"])
        if not items:
            return xp.zeros((0, self.config["embed_dim"]), np.float32)
        batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
        with worker_threads() as pool:
            features = list(pool.map(encode, batches)) if xp is np else [encode(b) for b in batches]
        return l2_normalize(finite(xp.concatenate(features), "the features that this model gives"))[0]


def class_embeddings(clip, names, templates=("{}",)):
    """Unit rows (K, E), one for each name: the unit features of its prompts, averaged and made unit again (§3.1.4).

    names: K strings, which may contain braces. templates: strings with exactly one {}, for the name.
    Raises ValueError for no names, no templates, or a template without exactly one {}.
    """
    return l2_normalize(prompt_features(clip, names, templates).mean(0))[0]


def prompt_features(clip, names, templates):
    """Unit features (P, K, E) of K names in P templates; raises as `class_embeddings`."""
    names, templates = listed(names, "names"), listed(templates, "templates")
    for what, strings in (("names", names), ("templates", templates)):
        if not strings or not all(isinstance(s, str) for s in strings):
            raise ValueError(f"{what} must be a list of at least one string, not {str(strings)[:80]!r}.")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"The template {template[:80]!r} must contain {{}} exactly once, where the name goes.")
    prompts = [template.replace("{}", name) for template in templates for name in names]
    return clip.encode_text(prompts).reshape(len(templates), len(names), -1)
