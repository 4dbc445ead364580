"""What the parity tests share: how two results are compared, and the reference code that they load.

The error of an array a against a reference b is ‖a − b‖ / ‖b‖ in the 2-norm, for each parameter alone:
a large gradient cannot hide a wrong small one. One kind of gradient is 0 in truth and noise in both
libraries, that of a bias on attention's keys. It adds the same to every score of a row, and softmax
takes it out again. It alone is measured against the gradient of the weight that it stands beside, and
`parts` takes it out of in_proj_bias, so that nothing else is measured so.
"""

import math
from contextlib import contextmanager

import numpy as np
import parity
import pytest
from threadpoolctl import threadpool_limits

from miniclip import encode_image, encode_text
from miniclip.layers import l2_normalize
from miniclip.loss import clip_loss
from miniclip.train_step import is_statistic
from miniclip.tree import flatten, unflatten

try:
    import torch
except ImportError:  # whoever needs it skips; the tokenizer's test does not
    torch = None
else:
    torch.set_num_threads(1)  # as conftest.py has it for NumPy

DTYPES = ("float64", "float32")
LIMIT = {"float64": 1e-10, "float32": 1e-4}  # of every parameter's gradient, in a whole model
EMBEDDINGS = {"float64": 1e-12, "float32": 1e-5}  # of any number of a unit embedding, as it stands


@contextmanager
def threads(number):
    """More threads, for what is not small, in NumPy and in PyTorch."""
    with threadpool_limits(number):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(1)


def or_skip(get, *arguments):
    """What the command needs of another library; where that is not installed, the test is skipped."""
    try:
        return get(*arguments)
    except parity.NotPossible as error:
        pytest.skip(str(error))


def random_openai(module, geometry):
    """A model of OpenAI's code, its norms, biases and running averages random too; a ViT attends, and is sure.

    At its first step a ViT attends to all alike, and every probability is 1/N. Gradients there are small sums of
    large terms, and float32's error in them is that of the terms: 1.1e-4 for ViT-L/14. So queries and keys are
    twice as large, and the temperature is that of the published models, 1/τ = 100: 5.2e-5.
    """
    torch.manual_seed(1)
    model = randomize(module.CLIP(*geometry))
    if geometry[4] is None:
        images = pictures(np.random.default_rng(3), 4, geometry[1])
        randomize_averages(model.visual, torch.from_numpy(images).float())
        return model
    model.logit_scale.data.fill_(math.log(100))
    for name, tensor in model.named_parameters():
        if name.endswith("in_proj_weight"):
            tensor.data[: 2 * tensor.shape[1]] *= 2
    return model


def error(ours, reference, scale=None):
    """‖a − b‖ / ‖b‖ (or / `scale`), in float64; NaN counts as infinite. Shapes must be the same."""
    a, b = (np.asarray(array, np.float64) for array in (ours, reference))
    assert a.shape == b.shape, f"{a.shape} against {b.shape}"
    difference, size = np.linalg.norm(a - b), np.linalg.norm(b) if scale is None else scale
    return 0.0 if difference == 0 else float(np.nan_to_num(difference / max(size, 1e-300), nan=np.inf))


def parts(named):
    """{name: array} with attention's in_proj_weight and in_proj_bias taken apart into q, k and v."""
    result = {}
    for name, array in named.items():
        prefix, _, kind = name.rpartition("in_proj_")
        for letter, part in zip("qkv", np.split(np.asarray(array), 3)) if prefix else [("", array)]:
            result[f"{prefix}{letter}_proj.{kind}" if prefix else name] = part
    return result


def errors(ours, reference):
    """{name: error} of every array, their names being the same."""
    ours, reference = parts(ours), parts(reference)
    assert ours.keys() == reference.keys(), sorted(ours.keys() ^ reference.keys())
    beside = {name: name.replace("k_proj.bias", "k_proj.weight") for name in reference}
    return {
        name: error(ours[name], reference[name], np.linalg.norm(reference[other]) if other != name else None)
        for name, other in beside.items()
    }


def worst(found_errors):
    """(the largest error, whose it is)"""
    name = max(found_errors, key=found_errors.get)
    return found_errors[name], name


def arrays(named):
    """{name: tensor} -> {name: array}, views of the same memory."""
    return {name: tensor.detach().numpy() for name, tensor in named.items()}


def randomize(model, seed=0):
    """Shift every vector of a torch model, norms and biases, by random numbers; matrices stay as they were drawn."""
    torch.manual_seed(seed)
    for tensor in model.parameters():
        if tensor.ndim < 2:
            tensor.data += 0.2 * torch.randn(tensor.shape)
    return model


def randomize_averages(model, images):
    """Set the running averages of a torch ResNet near those of a batch (N, 3, S, S), as training would."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn(norm.running_mean.shape)
        norm.running_var *= 0.5 + torch.rand(norm.running_var.shape)


def pictures(rng, count, size):
    """Random pictures (N, 3, S, S) that differ in more than their noise: blocks of colour, and noise."""
    cells = rng.standard_normal((count, 3, 4, 4))
    index = np.arange(size) * 4 // size
    return cells[:, :, index][:, :, :, index] + 0.5 * rng.standard_normal((count, 3, size, size))


def texts(rng, count, config):
    """Random token rows: the first one fills the context, the others end somewhere and are padded with 0."""
    length, end = config["text_cfg"]["context_length"], config["text_cfg"]["vocab_size"] - 1
    tokens = rng.integers(1, end, (count, length))
    for row, stop in enumerate([length - 1, *rng.integers(1, length - 1, count - 1)]):
        tokens[row, stop] = end
        tokens[row, stop + 1 :] = 0
    return tokens


def reference_loss(image_features, text_features, logit_scale):
    """Logits (N, N) and CLIP's loss as PyTorch's users write it."""
    z_image, z_text = unit(image_features), unit(text_features)
    logits = logit_scale.exp() * z_image @ z_text.T
    truth = torch.arange(len(logits))
    return logits, sum(torch.nn.functional.cross_entropy(rows, truth) for rows in (logits, logits.T)) / 2


def unit(features):
    """Rows of a tensor put on the unit sphere."""
    return torch.nn.functional.normalize(features, dim=-1)


def compare_models(model, params, config, images, tokens, training=False, rename=lambda gradients: gradients):
    """{what: error} of features, logits, loss, every parameter's gradient, dimages, and the running averages.

    model: torch, with encode_image and encode_text, in the mode and dtype wanted; params: the same numbers
    as miniclip's tree; rename: {torch's name: array} -> {miniclip's name: array}, for a model's gradients.
    One tower's gradients at a time are held in memory.
    """
    dtype = params["logit_scale"].dtype
    averages = {name: leaf.copy() for name, leaf in flatten(params).items() if is_statistic(name)}
    images = images.astype(dtype)
    pixels = torch.from_numpy(images.copy()).requires_grad_()
    theirs = [model.encode_image(pixels), model.encode_text(torch.from_numpy(tokens))]
    image_features, image_backward = encode_image(unflatten(flatten(params) | averages), images, config, training)
    text_features, text_backward = encode_text(params, tokens, config)

    leaves = [features.detach().requires_grad_() for features in theirs] + [model.logit_scale]
    logits, loss = reference_loss(*leaves)
    d_theirs = torch.autograd.grad(loss, leaves)
    ours, backward = clip_loss(image_features, text_features, params["logit_scale"])
    d_image, d_text, d_scale = backward()
    z = [l2_normalize(features)[0] for features in (image_features, text_features)]
    their_z = [unit(features.detach()).numpy() for features in theirs]
    result = {
        "image features": error(image_features, theirs[0].detach()),
        "text features": error(text_features, theirs[1].detach()),
        "embeddings": max(float(np.abs(a - b).max()) for a, b in zip(z, their_z)),
        "logits": error(np.exp(params["logit_scale"]) * z[0] @ z[1].T, logits.detach()),
        "loss": error(ours, loss.detach()),
        "logit_scale": error(d_scale, d_theirs[2]),
    }

    named = {name: tensor for name, tensor in model.named_parameters() if name != "logit_scale"}
    visual = {name: tensor for name, tensor in named.items() if name.startswith("vis")}
    words = {name: tensor for name, tensor in named.items() if name not in visual}
    gradients = torch.autograd.grad(theirs[0], [*visual.values(), pixels], d_theirs[0])
    dimages, mine = image_backward(d_image, input_gradient=True)
    mine = flatten(mine)
    result["dimages"] = error(dimages, gradients[-1])
    for name, before in averages.items():
        change = mine.pop(name)
        after = model.get_buffer(name).numpy() if training else before
        result[f"updated {name}"] = error(before - 0.1 * change, after)
    result |= errors(mine, rename(arrays(dict(zip(visual, gradients)))))
    del gradients, mine, dimages, image_backward
    gradients = torch.autograd.grad(theirs[1], list(words.values()), d_theirs[1])
    return result | errors(flatten(text_backward(d_text)), rename(arrays(dict(zip(words, gradients)))))


def assert_within(found_errors, limit):
    """Every error at most `limit`: a number, or a function of the name."""
    allowed = limit if callable(limit) else lambda name: limit
    beyond = {name: value for name, value in found_errors.items() if not value <= allowed(name)}
    assert not beyond, f"{len(beyond)} of {len(found_errors)} are beyond their limit, the worst {worst(beyond)}"
