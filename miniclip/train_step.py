"""One training step, at every scale.

    embed every shard of the batch -> all embeddings -> loss and its gradient -> pull each shard back

CLIP's loss couples the whole batch, but only through the embeddings. So a batch can be embedded in shards, on
threads or in turn, and each shard's gradient pulled back alone, pictures and texts apart. What a shard computes
does not depend on who computes it or when, and shards are summed in their order: the same shards give the same
bits on any number of threads. (The norms of the ResNet take their statistics from one shard, as the paper's took
them from one GPU.)
"""

from .backend import array_module
from .loss import clip_loss
from .model import encode_image, encode_text
from .tree import flatten


def encoders_of(params, config):
    """embed(encoder, images, tokens) -> features, backward(dfeatures): "image" or "text", for one training step."""

    def embed(encoder, images, tokens):
        if encoder == "image":
            return encode_image(params, images, config, training=True, once=True)
        return encode_text(params, tokens, config, once=True)

    return embed


def loss_and_gradient(
    params, shards, config, gradient, map=map, recompute=False, loss=clip_loss, encoders_of=encoders_of
):
    """The loss of a batch and its gradient with respect to every parameter.

    params: the model's tree; shards: list of (images (n, 3, S, S), tokens (n, T)); gradient: a `Flat` like
    params, overwritten; map: `map` or a pool's, which keeps order; recompute: forget each shard's
    activations and run it again for the backward pass, so that a batch may be larger than memory; loss:
    a function like `clip_loss`; encoders_of: as the one above, or one that computes in half precision (half.py).
    Returns {"loss": (), "d_logit_scale": (), "image_features": (N, E), "text_features": (N, E)}.
    """
    xp = array_module(params["logit_scale"])
    tasks = [(encoder, i) for i in range(len(shards)) for encoder in ("image", "text")]
    embed, backwards = encoders_of(params, config), {}

    def forward(task):
        encoder, i = task
        features, backward = embed(encoder, *shards[i])
        if not recompute:
            backwards[task] = backward
        return features

    features = list(map(forward, tasks))
    image_features, text_features = xp.concatenate(features[::2]), xp.concatenate(features[1::2])
    value, backward = loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_logit_scale = backward()
    starts = [0]
    for images, _ in shards:
        starts.append(starts[-1] + len(images))

    def pull_back(task):
        encoder, i = task
        # What the forward pass remembered is freed as it is done.
        backward = embed(encoder, *shards[i])[1] if recompute else backwards.pop(task)
        d_features = d_image if encoder == "image" else d_text
        return flatten(backward(d_features[starts[i] : starts[i + 1]]))

    leaves = flatten(gradient.tree)
    leaves["logit_scale"][...] = d_logit_scale

    def add_up(grads, first):
        for name, leaf in grads.items():
            if first:
                leaves[name][...] = leaf
            else:
                leaves[name] += leaf

    pulled = iter(map(pull_back, tasks))
    for _, i in tasks:  # in this order, whichever is done first
        add_up(next(pulled), first=i == 0)
    for name, leaf in leaves.items():
        if is_statistic(name):
            leaf /= len(shards)
    return {
        "loss": value,
        "d_logit_scale": d_logit_scale,
        "image_features": image_features,
        "text_features": text_features,
    }


def is_statistic(name):
    """Whether a dotted name is a running average of batch normalisation, not a parameter of the loss."""
    return name.endswith(("running_mean", "running_var"))
