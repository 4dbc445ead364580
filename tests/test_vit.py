"""The Vision Transformer: its patches and its gradients."""

import numpy as np
import pytest
from formulas import block_by_formula, norm_by_formula

from miniclip.gradcheck.random_inputs import VIT
from miniclip.vit import vision_transformer

PATCH = VIT["vision_cfg"]["patch_size"]


@pytest.fixture
def p(inputs):
    return inputs.parameters(VIT)["visual"]


def vit(**changes):
    return VIT | {"vision_cfg": VIT["vision_cfg"] | changes}


def encode_by_formula(images, p, exact=False):
    features = []
    for image in images:
        tokens = [p["class_embedding"]]
        for i in range(0, image.shape[1], PATCH):
            for j in range(0, image.shape[2], PATCH):
                square = image[:, i : i + PATCH, j : j + PATCH]
                tokens.append(np.array([(kernel * square).sum() for kernel in p["conv1"]["weight"]]))
        x = norm_by_formula(np.array(tokens) + p["positional_embedding"], p["ln_pre"])[None]
        for block in p["transformer"]["resblocks"]:
            x = block_by_formula(x, block, 2, exact=exact)
        features.append(norm_by_formula(x[0, 0], p["ln_post"]) @ p["proj"])
    return np.array(features)


@pytest.mark.parametrize("quick", [True, False])
def test_features_by_formula(normal, p, quick):
    images = normal(3, 3, 8, 8)
    features, _ = vision_transformer(images, p, VIT | {"quick_gelu": quick})
    assert np.allclose(features, encode_by_formula(images, p, exact=not quick), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n, recompute", [(2, False), (1, True)])
def test_gradient(prove, normal, p, n, recompute):
    prove(vision_transformer, normal(n, 3, 8, 8), p, VIT, recompute, entries=4)


def test_without_the_gradient_of_the_images(normal, p):
    _, backward = vision_transformer(normal(2, 3, 8, 8), p, VIT)
    d = normal(2, 6)
    dimages, grads = backward(d, input_gradient=False)
    assert dimages is None
    assert grads.keys() == p.keys()
    assert np.allclose(grads["conv1"]["weight"], backward(d)[1]["conv1"]["weight"])


def test_the_heads_are_64_wide_unless_the_configuration_says_so(inputs):
    wide = vit(image_size=4, width=128, layers=1, head_width=64)
    p, images = inputs.parameters(wide)["visual"], inputs.images(1, wide)
    del wide["vision_cfg"]["head_width"]
    features, _ = vision_transformer(images, p, wide)
    assert np.allclose(features, encode_by_formula(images, p), rtol=1e-9)  # which has two heads


def test_pixels_that_no_patch_covers_are_left_out(normal, p):
    images = normal(2, 3, 9, 9)
    features, backward = vision_transformer(images, p, vit(image_size=9))
    assert np.allclose(features, vision_transformer(images[:, :, :8, :8], p, VIT)[0], rtol=1e-12)
    assert (backward(normal(2, 6))[0][:, :, 8] == 0).all()


def test_images_of_another_size_are_refused(normal, p):
    with pytest.raises(ValueError, match="images of 12 × 12 do not fit: this model was made for 8 × 8"):
        vision_transformer(normal(1, 3, 12, 12), p, VIT)
