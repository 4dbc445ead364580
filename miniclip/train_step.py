"""One training step, at every scale.

    embed every micro-batch -> all embeddings -> loss and its gradient -> each micro-batch's backward

CLIP's loss couples the whole batch, but only through the embeddings. So a batch can be embedded in micro-batches,
on threads or in turn, and each one's gradient taken back alone, pictures and texts apart. What a micro-batch
computes does not depend on who computes it or when, and their gradients are added in one order, halves and halves of
halves: the same micro-batches give the same bits on any number of threads, and on 1, 2, 4, 8 … machines. (The norms
of the ResNet take their statistics from one micro-batch, as the paper's took them from one GPU.) With `recompute` on
one machine this is GradCache (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup"); with features gathered from others it is CLIP's own step.
"""

from .backend import ALONE, add_up, array_module
from .checks import takes
from .loss import clip_loss
from .model import encode_image, encode_text
from .tree import Flat, flatten


def encoders_of(params, config, trained=("image", "text")):
    """embed(encoder, images, tokens) -> features, backward(dfeatures): "image" or "text", for one training step.

    trained: those that are not frozen; a frozen ResNet's norms have their running averages, which do not move.
    """

    def embed(encoder, images, tokens):
        if encoder == "image":
            return encode_image(params, images, config, training="image" in trained)
        return encode_text(params, tokens, config)

    return embed


def trained_branches(params, frozen):
    """The branches of a tree of parameters without those of the encoder `frozen`: "image", "text", or "" for none."""
    encoder = {branch: "image" if branch == "visual" else "text" for branch in params} | {"logit_scale": "both"}
    return {branch: params[branch] for branch in params if encoder[branch] != frozen}


@takes("params.logit_scale (), micro_batches list, map function, recompute flag, loss function, encoders_of function")
def loss_and_gradient(
    params,
    micro_batches,
    config,
    gradient,
    map=map,
    recompute=False,
    loss=clip_loss,
    encoders_of=encoders_of,
    ranks=ALONE,
):
    """The loss of a batch and its gradient with respect to every parameter.

    params: the model's tree; micro_batches: list of (images (n, 3, S, S), tokens (n C, T)), C texts of each image, one
    after the other; gradient: a `Flat` like params or their `trained_branches`, overwritten: an encoder that has no
    place in it is frozen, and has neither a backward pass nor anything to remember for one; map: `map` or a pool's,
    which keeps order; recompute: forget each micro-batch's activations and run it again for the backward pass, so that
    a batch may be larger than memory; loss: a function like `clip_loss`, or of C texts (training/columns.py);
    encoders_of: as the one above, or one that computes in half precision (gpu/);
    ranks: those among whom the batch is spread, each with as many micro-batches, whose loss asks the others. Each
    adds its part, and the gradient is the sum, never an average.
    Returns {"loss": (), "d_logit_scale": (), "image_features": (N, E), "text_features": (N C, E)}, of this rank's.
    """
    check_step(params, micro_batches, gradient)
    xp = array_module(params["logit_scale"])
    tasks = [(encoder, i) for i in range(len(micro_batches)) for encoder in ("image", "text")]
    trained = [encoder for encoder, b in (("image", "visual"), ("text", "transformer")) if b in gradient.tree]
    embed, backwards = encoders_of(params, config, trained), {}

    def forward(task):
        encoder, i = task
        features, backward = embed(encoder, *micro_batches[i])
        if encoder in trained and not recompute:
            backwards[task] = backward
        return features

    features = list(map(forward, tasks))
    image_features, text_features = xp.concatenate(features[::2]), xp.concatenate(features[1::2])
    value, backward = loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_logit_scale = backward()
    sizes = [len(images) for images, _ in micro_batches]

    def backward_of(task):
        encoder, i = task
        # What the forward pass remembered is freed as it is done.
        backward = embed(encoder, *micro_batches[i])[1] if recompute else backwards.pop(task)
        d_features, each = (d_image, 1) if encoder == "image" else (d_text, len(d_text) // len(d_image))
        return backward(d_features[each * sum(sizes[:i]) : each * sum(sizes[: i + 1])])

    grads = iter(map(backward_of, [task for task in tasks if task[0] in trained]))  # in this order, whoever is first

    def vectors():
        for _ in micro_batches:
            part, tree = gradient.like(xp.empty_like(gradient.vector)), {"logit_scale": d_logit_scale}
            for _ in trained:
                tree |= next(grads)
            part.write(tree)
            yield part.vector

    gradient.vector[...] = add_up(vectors(), len(micro_batches))
    leaves = flatten(gradient.tree)
    leaves["logit_scale"][...] = d_logit_scale
    ranks.add(gradient.vector)
    d_logit_scale = leaves["logit_scale"].copy()
    for name, leaf in leaves.items():
        if is_statistic(name):
            leaf /= len(micro_batches) * ranks.size
    features = {"image_features": image_features, "text_features": text_features}
    return {"loss": value, "d_logit_scale": d_logit_scale, **features}


def check_step(params, micro_batches, gradient):
    """ValueError where there is no micro-batch, or one that is no pair, or the gradient is not laid out as params."""
    each = None
    for n, batch in enumerate(micro_batches or [()]):
        shapes = [getattr(part, "shape", ()) for part in batch] if isinstance(batch, (list, tuple)) else []
        images, texts = [shape[0] for shape in shapes] if len(shapes) == 2 and all(shapes) else (0, 0)
        each = each or texts // max(images, 1)
        if not texts or texts != each * images:
            raise ValueError(
                f"micro-batch {n} must be images (n, 3, S, S) and as many texts, tokens (n, T), or C n in every one."
            )
    shapes = {name: getattr(leaf, "shape", None) for name, leaf in flatten(params).items()}
    if not isinstance(gradient, Flat):
        raise ValueError(f"gradient is a {type(gradient).__name__}; it must be a Flat like params: params.like(…).")
    if wrong := [name for name, leaf in flatten(gradient.tree).items() if shapes.get(name) != leaf.shape]:
        raise ValueError(f"the gradient of {wrong[0]} has another shape than the parameter: make it with params.like.")


def is_statistic(name):
    """Whether a dotted name is a running average of batch normalisation, not a parameter of the loss."""
    return name.endswith(("running_mean", "running_var"))
