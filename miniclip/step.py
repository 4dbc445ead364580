"""One training step, at every scale.

    embed every shard of the batch -> all embeddings -> loss and its gradient -> pull each shard back

CLIP's loss couples the whole batch, but only through the embeddings. So a batch can be embedded in
shards, on threads or in turn, and each shard's gradient pulled back alone. What a shard computes does
not depend on who computes it or when, and shards are summed in their order: the same shards give the
same bits on any number of threads. (The norms of the ResNet take their statistics from one shard, as
the paper's took them from one GPU.)
"""

from .backend import array_module
from .loss import clip_loss
from .model import encode_image, encode_text
from .tree import flatten


def loss_and_gradient(params, shards, config, gradient, map=map, recompute=False, loss=clip_loss):
    """The loss of a batch and its gradient with respect to every parameter.

    params: the model's tree; shards: list of (images (n, 3, S, S), tokens (n, T)); gradient: a `Flat` like
    params, overwritten; map: `map` or a pool's, which keeps order; recompute: forget each shard's
    activations and run it again for the backward pass, so that a batch may be larger than memory; loss:
    a function like `clip_loss`.
    Returns {"loss": (), "d_logit_scale": (), "image_features": (N, E), "text_features": (N, E)}.
    """
    xp = array_module(params["logit_scale"])
    backwards = {}

    def embed(i):
        images, tokens = shards[i]
        image_features, backward_image = encode_image(params, images, config, training=True)
        text_features, backward_text = encode_text(params, tokens, config)
        if not recompute:
            backwards[i] = backward_image, backward_text
        return image_features, text_features, backward_image, backward_text

    def forward(i):
        return embed(i)[:2]

    image_features, text_features = map(xp.concatenate, zip(*map(forward, range(len(shards)))))
    value, backward = loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_logit_scale = backward()
    starts = [0]
    for images, _ in shards:
        starts.append(starts[-1] + len(images))

    def pull_back(i):
        backward_image, backward_text = embed(i)[2:] if recompute else backwards[i]
        backwards.pop(i, None)                          # a shard's activations are freed as it is done
        rows = slice(starts[i], starts[i + 1])
        return flatten({**backward_image(d_image[rows]), **backward_text(d_text[rows])})

    grads = list(map(pull_back, range(len(shards))))
    leaves = flatten(gradient.tree)

    def add_up(name):
        total = leaves[name]
        total[...] = grads[0][name]
        for shard in grads[1:]:
            total += shard[name]
        if is_statistic(name):
            total /= len(shards)

    leaves.pop("logit_scale")[...] = d_logit_scale
    list(map(add_up, leaves))
    return {"loss": value, "d_logit_scale": d_logit_scale,
            "image_features": image_features, "text_features": text_features}


def is_statistic(name):
    """Whether a dotted name is a running average of batch normalisation, not a parameter of the loss."""
    return name.endswith(("running_mean", "running_var"))
