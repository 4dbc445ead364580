"""The models that the benchmarks run, their inputs, and miniclip's training step on them."""

from typing import NamedTuple

import common  # noqa: F401  where miniclip is
import numpy as np

from miniclip.backend import array_module
from miniclip.init import initialize, model_config
from miniclip.optim import AdamW
from miniclip.train_step import loss_and_gradient
from miniclip.training import preset
from miniclip.tree import Flat, tree_map

SETTINGS = {"learning_rate": 1e-4, "betas": (0.9, 0.98), "epsilon": 1e-6, "weight_decay": 0.1}
VIT_B32 = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
# The gradients that are compared before anything is timed, where the model has them: from both ends of both towers.
GRADIENTS = (
    "logit_scale",
    "text_projection",
    "token_embedding.weight",
    "transformer.resblocks.0.attn.in_proj_weight",
    "transformer.resblocks.1.mlp.c_fc.weight",
    "visual.proj",
    "visual.conv1.weight",
    "visual.class_embedding",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.1.ln_2.bias",
    "visual.attnpool.v_proj.weight",
    "visual.layer1.0.conv2.weight",
    "visual.layer3.0.bn2.weight",
)


class Case(NamedTuple):
    """A model with its batch; miniclip splits the batch into micro-batches."""

    title: str
    config: dict
    batch: int
    micro_batch: int


def preset_case(title, name):
    """The model and the batch of a training preset."""
    run = preset(name)
    config = model_config(run.model, vocab_size=run.vocab_size, context_length=run.context_length)
    return Case(title, config, run.batch_size, run.micro_batch)


CASES = {
    "a": preset_case("the default emoji preset: CLIP's ResNet, small, at 32 px", "default"),
    "b": Case("ViT at 32 px, patch 4, width 128, 4 layers", model_config("vit-tiny"), 128, 32),
    "c": Case("ViT-B/32 at 224 px, 12 + 12 layers, context 77", VIT_B32, 16, 8),
}


def case(name, quick=False):
    """One of CASES; quick: with a batch of 8."""
    return CASES[name]._replace(batch=8, micro_batch=4) if quick else CASES[name]


def inputs(config, batch):
    """Parameters (a tree), images (N, 3, S, S) float32 and tokens (N, T) int64, from one seed.

    The texts fill the context: no library gains by leaving out padding.
    """
    rng = np.random.default_rng(1)

    def shift(leaf):  # gains of 1 and biases of 0 would hide mistakes
        return leaf + 0.1 * rng.random(leaf.shape, np.float32) if leaf.ndim == 1 else leaf

    size, text = config["vision_cfg"]["image_size"], config["text_cfg"]
    tokens = rng.integers(1, text["vocab_size"] - 1, (batch, text["context_length"]))
    tokens[:, -1] = text["vocab_size"] - 1
    images = rng.standard_normal((batch, 3, size, size), np.float32)
    return tree_map(shift, initialize(config, seed=0)), images, tokens


def split(images, tokens, parts):
    """A batch as a list of `parts` micro-batches."""
    return list(zip(np.array_split(images, parts), np.array_split(tokens, parts)))


class TrainingState:
    """miniclip's training step, without what its peers do not do: clipping, and the average of the parameters.

    params: a tree; micro_batches: as `loss_and_gradient` takes them; options: of `loss_and_gradient`.
    """

    def __init__(self, params, micro_batches, config, map=map, **options):
        self.micro_batches, self.config, self.map, self.options = micro_batches, config, map, options
        self.params = Flat(params)
        self.gradient = self.params.like(array_module(self.params.vector).zeros_like(self.params.vector))
        beta1, beta2 = SETTINGS["betas"]
        rest = SETTINGS["epsilon"], SETTINGS["weight_decay"]
        self.optimizer = AdamW(self.params, beta1, beta2, *rest, max_grad_norm=None)

    def differentiate(self, micro_batches=None):
        """The loss (); its gradient is in `self.gradient` afterwards."""
        arguments = self.params.tree, micro_batches or self.micro_batches, self.config, self.gradient, self.map
        return loss_and_gradient(*arguments, **self.options)["loss"]

    def step(self):
        """The loss, its gradient, AdamW, and the bound of the temperature. Returns the loss ()."""
        loss = self.differentiate()
        self.optimizer.step(self.gradient, SETTINGS["learning_rate"], self.map)
        return loss
