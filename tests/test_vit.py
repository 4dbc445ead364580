import numpy as np
import pytest
from formulas import block_by_formula, block_parameters, norm_by_formula

from miniclip.vit import vision_transformer

CONFIG = {
    "embed_dim": 5,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 6, "patch_size": 3, "width": 4, "head_width": 2, "layers": 2},
}


@pytest.fixture
def p(normal):
    return {
        "class_embedding": normal(4),
        "positional_embedding": normal(5, 4),
        "proj": normal(4, 5),
        "conv1": {"weight": normal(4, 3, 3, 3) / 5},
        "ln_pre": {"weight": normal(4), "bias": normal(4)},
        "transformer": {"resblocks": [block_parameters(normal, 4) for _ in range(2)]},
        "ln_post": {"weight": normal(4), "bias": normal(4)},
    }


def encode_by_formula(images, p, patch, exact=False):
    features = []
    for image in images:
        tokens = [p["class_embedding"]]
        for i in range(0, image.shape[1], patch):
            for j in range(0, image.shape[2], patch):
                square = image[:, i : i + patch, j : j + patch]
                tokens.append(np.array([(kernel * square).sum() for kernel in p["conv1"]["weight"]]))
        x = norm_by_formula(np.array(tokens) + p["positional_embedding"], p["ln_pre"])[None]
        for block in p["transformer"]["resblocks"]:
            x = block_by_formula(x, block, 2, exact=exact)
        features.append(norm_by_formula(x[0, 0], p["ln_post"]) @ p["proj"])
    return np.array(features)


@pytest.mark.parametrize("quick", [True, False])
def test_features_by_formula(normal, p, quick):
    images = normal(3, 3, 6, 6)
    features, _ = vision_transformer(images, p, CONFIG | {"quick_gelu": quick})
    assert np.allclose(features, encode_by_formula(images, p, 3, exact=not quick), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", [2, 1])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradient(prove, normal, p, n, recompute):
    prove(vision_transformer, normal(n, 3, 6, 6), p, CONFIG, recompute, entries=4)


def test_without_the_gradient_of_the_images(normal, p):
    features, backward = vision_transformer(normal(2, 3, 6, 6), p, CONFIG)
    d = normal(2, 5)
    dimages, grads = backward(d, input_gradient=False)
    assert dimages is None
    assert grads.keys() == p.keys()
    assert np.allclose(grads["conv1"]["weight"], backward(d)[1]["conv1"]["weight"])


def test_the_heads_are_64_wide_unless_the_configuration_says_so(normal, p):
    plain = {key: value for key, value in CONFIG["vision_cfg"].items() if key != "head_width"}
    wide = {
        "class_embedding": normal(128),
        "positional_embedding": normal(2, 128),
        "proj": normal(128, 5),
        "conv1": {"weight": normal(128, 3, 3, 3)},
        "ln_pre": {"weight": normal(128), "bias": normal(128)},
        "transformer": {"resblocks": [block_parameters(normal, 128)]},
        "ln_post": {"weight": normal(128), "bias": normal(128)},
    }
    images = normal(1, 3, 3, 3)
    for_64 = CONFIG | {"vision_cfg": plain | {"image_size": 3, "width": 128}}
    features, _ = vision_transformer(images, wide, for_64)
    assert np.allclose(features, encode_by_formula(images, wide, 3), rtol=1e-9)  # which has two heads


def test_pixels_that_no_patch_covers_are_left_out(normal, p):
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"image_size": 7}}
    images = normal(2, 3, 7, 7)
    features, backward = vision_transformer(images, p, config)
    assert np.allclose(features, vision_transformer(images[:, :, :6, :6], p, CONFIG)[0], rtol=1e-12)
    assert (backward(normal(2, 5))[0][:, :, 6] == 0).all()


def test_images_of_another_size_are_refused(normal, p):
    with pytest.raises(ValueError, match="images of 9 × 9 do not fit: this model was made for 6 × 6"):
        vision_transformer(normal(1, 3, 9, 9), p, CONFIG)
