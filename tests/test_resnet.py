"""The modified ResNet: its shapes and its gradients."""

import numpy as np
import pytest
from formulas import pool_by_loops

from miniclip.gradcheck.random_inputs import RESNET, RandomInputs
from miniclip.init import initialize
from miniclip.resnet import bottleneck, modified_resnet
from miniclip.tree import flatten


def resnet(**changes):
    return RESNET | {"vision_cfg": RESNET["vision_cfg"] | {"image_size": 32, "width": 2} | changes}


def parameters(config):
    """Random parameters of a small ResNet: no gain is 1, no bias is 0."""
    return RandomInputs(1).parameters(config)["visual"]


CONFIG = resnet()


# The formulas of the paper's code again, on (N, C, H, W) and by other means.


def conv_by_formula(x, weight, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwuv,ocuv->nohw", windows, weight, optimize=True)


def norm_by_formula(x, p, training):
    mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3))) if training else (p["running_mean"], p["running_var"])
    mean, var, weight, bias = (a[:, None, None] for a in (mean, var, p["weight"], p["bias"]))
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def pool_by_formula(x, size):
    n, c, h, w = x.shape
    h, w = h // size, w // size
    return x[:, :, : h * size, : w * size].reshape(n, c, h, size, w, size).mean((3, 5))


def bottleneck_by_formula(x, p, stride, training):
    h = np.maximum(norm_by_formula(conv_by_formula(x, p["conv1"]["weight"]), p["bn1"], training), 0)
    h = np.maximum(norm_by_formula(conv_by_formula(h, p["conv2"]["weight"], 1, 1), p["bn2"], training), 0)
    h = norm_by_formula(conv_by_formula(pool_by_formula(h, stride), p["conv3"]["weight"]), p["bn3"], training)
    if "downsample" in p:
        conv, norm = p["downsample"]
        x = norm_by_formula(conv_by_formula(pool_by_formula(x, stride), conv["weight"]), norm, training)
    return np.maximum(h + x, 0)


def resnet_by_formula(images, p, heads, training):
    x = images
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = conv_by_formula(x, p[f"conv{i}"]["weight"], stride, 1)
        x = np.maximum(norm_by_formula(x, p[f"bn{i}"], training), 0)
    x = pool_by_formula(x, 2)
    for stage in range(1, 5):
        for i, block in enumerate(p[f"layer{stage}"]):
            x = bottleneck_by_formula(x, block, 2 if stage > 1 and i == 0 else 1, training)
    return pool_by_loops(x.transpose(0, 2, 3, 1), p["attnpool"], heads)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [32, 48, 70])
def test_features_by_formula(normal, size, training):
    config = resnet(image_size=size)
    images, p = normal(3, 3, size, size), parameters(config)
    features, _ = modified_resnet(images, p, config, training)
    assert features.shape == (3, 6)
    assert np.allclose(features, resnet_by_formula(images, p, 2, training), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stage, block, stride", [(1, 0, 1), (2, 0, 2), (2, 1, 1)])
def test_bottleneck(prove, normal, stage, block, stride, training):
    p = parameters(CONFIG)[f"layer{stage}"][block]
    x = normal(2, 5, 4, p["conv1"]["weight"].shape[1])
    y, _ = bottleneck(x, p, stride, training)
    expected = bottleneck_by_formula(x.transpose(0, 3, 1, 2), p, stride, training).transpose(0, 2, 3, 1)
    assert np.allclose(y, expected, rtol=1e-12, atol=1e-12)
    prove(bottleneck, x, p, stride, training, exclude=["*running_*"], entries=6)


# The whole tower has tens of thousands of ReLUs, and any central step lifts one of them over its kink. The
# complex step stays where it is; central differences have seen each part.
ANALYTIC = {"methods": ("complex", "adjoint"), "exclude": ["*running_*"], "entries": 1}


@pytest.mark.parametrize("n, training", [(4, True), (1, False)])
def test_gradient(prove, normal, n, training):
    prove(modified_resnet, normal(n, 3, 32, 32), parameters(CONFIG), CONFIG, training, **ANALYTIC)


def test_gradients_have_the_tree_of_the_parameters(normal):
    p = parameters(CONFIG)
    _, backward = modified_resnet(normal(2, 3, 32, 32), p, CONFIG, True)
    dimages, grads = backward(d := normal(2, 6), input_gradient=False)
    assert dimages is None
    assert {name: leaf.shape for name, leaf in flatten(grads).items()} == {
        name: leaf.shape for name, leaf in flatten(p).items()
    }
    with_images, other = backward(d)
    assert with_images.shape == (2, 3, 32, 32)
    other = flatten(other)
    assert all(np.allclose(leaf, other[name], rtol=1e-12, atol=1e-13) for name, leaf in flatten(grads).items())


def test_after_training_a_picture_is_encoded_the_same_in_any_company(normal):
    images, p = normal(3, 3, 32, 32), parameters(CONFIG)
    features, _ = modified_resnet(images, p, CONFIG)
    for i in range(3):
        assert np.allclose(modified_resnet(images[i : i + 1], p, CONFIG)[0], features[i : i + 1], rtol=1e-11)
    in_training, _ = modified_resnet(images, p, CONFIG, training=True)
    assert np.abs(in_training - features).max() > 1e-3


def test_running_averages_move_to_the_batch(normal):
    """A step of 1 in place of 0.1 goes all the way, and the first norm then holds the statistics of its input."""
    images, p = normal(4, 3, 32, 32), parameters(CONFIG)
    features, backward = modified_resnet(images, p, CONFIG, training=True)
    grads = flatten(backward(np.zeros_like(features), input_gradient=False)[1])
    for name, leaf in flatten(p).items():
        if "running_" in name:
            leaf -= grads[name]
    h = conv_by_formula(images, p["conv1"]["weight"], 2, 1)
    assert np.allclose(p["bn1"]["running_mean"], h.mean((0, 2, 3)), rtol=1e-12)
    assert np.allclose(p["bn1"]["running_var"], h.var((0, 2, 3), ddof=1), rtol=1e-12)


@pytest.mark.parametrize("size", [33, 63, 64, 65, 95, 96])
def test_any_size_from_32_on(normal, size):
    config = resnet(image_size=size, layers=[1, 1, 1, 1])
    features, backward = modified_resnet(normal(1, 3, size, size), parameters(config), config)
    assert features.shape == (1, 6) and np.isfinite(features).all()
    assert backward(features)[0].shape == (1, 3, size, size)


def test_pictures_of_another_size_are_refused(normal):
    p = parameters(CONFIG)
    with pytest.raises(ValueError, match="made for 1 pixels, the picture has 4"):
        modified_resnet(normal(1, 3, 64, 64), p, CONFIG)
    with pytest.raises(ValueError, match="too small to pool by 2: choose a larger image_size"):
        modified_resnet(normal(1, 3, 16, 16), p, CONFIG)


def test_a_new_model_starts_with_every_block_as_its_shortcut(normal):
    p = initialize(CONFIG, 0, np.float64)["visual"]["layer2"][1]
    x = np.maximum(normal(2, 4, 4, 16), 0)
    assert (bottleneck(x, p, 1, True)[0] == x).all()
