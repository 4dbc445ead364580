"""The whole model: shapes, dtypes, gradients, and the CLIP object."""

import math

import numpy as np
import pytest

from miniclip import encode_image, encode_text
from miniclip.gradcheck.contract import same_bits
from miniclip.init import MODELS, initialize, is_resnet, model_config, parameter_shapes
from miniclip.tree import flatten

VIT = {
    "embed_dim": 5,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 4, "head_width": 2, "patch_size": 4},
    "text_cfg": {"context_length": 6, "vocab_size": 40, "width": 8, "heads": 2, "layers": 2},
}
RESNET = VIT | {"vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 4, "head_width": 32}}

# The names and shapes of OpenAI's state dicts, at the sizes above. Linear is (out, in), convolution (O, I, kh, kw).

BLOCK = """
    attn.in_proj_weight 24 8        attn.in_proj_bias 24        attn.out_proj.weight 8 8        attn.out_proj.bias 8
    ln_1.weight 8                   ln_1.bias 8                 ln_2.weight 8                   ln_2.bias 8
    mlp.c_fc.weight 32 8            mlp.c_fc.bias 32            mlp.c_proj.weight 8 32          mlp.c_proj.bias 8
"""
TEXT = """
    positional_embedding 6 8        text_projection 8 5         logit_scale
    token_embedding.weight 40 8     ln_final.weight 8           ln_final.bias 8
"""
VISION_TRANSFORMER = """
    visual.class_embedding 4        visual.positional_embedding 5 4                             visual.proj 4 5
    visual.conv1.weight 4 3 4 4     visual.ln_pre.weight 4      visual.ln_pre.bias 4
    visual.ln_post.weight 4         visual.ln_post.bias 4
    visual.transformer.resblocks.0.attn.in_proj_weight 12 4     visual.transformer.resblocks.0.attn.in_proj_bias 12
    visual.transformer.resblocks.0.attn.out_proj.weight 4 4     visual.transformer.resblocks.0.attn.out_proj.bias 4
    visual.transformer.resblocks.0.ln_1.weight 4                visual.transformer.resblocks.0.ln_1.bias 4
    visual.transformer.resblocks.0.ln_2.weight 4                visual.transformer.resblocks.0.ln_2.bias 4
    visual.transformer.resblocks.0.mlp.c_fc.weight 16 4         visual.transformer.resblocks.0.mlp.c_fc.bias 16
    visual.transformer.resblocks.0.mlp.c_proj.weight 4 16       visual.transformer.resblocks.0.mlp.c_proj.bias 4
"""
# Of a ResNet: the convolutions, each with its norm, whose four arrays have as many numbers as it has outputs.
CONVOLUTIONS = """
    visual.conv1 bn1 2 3 3               visual.conv2 bn2 2 2 3               visual.conv3 bn3 4 2 3
    visual.layer1.0.conv1 bn1 4 4 1      visual.layer1.0.conv2 bn2 4 4 3      visual.layer1.0.conv3 bn3 16 4 1
    visual.layer1.0.downsample.0 1 16 4 1
    visual.layer2.0.conv1 bn1 8 16 1     visual.layer2.0.conv2 bn2 8 8 3      visual.layer2.0.conv3 bn3 32 8 1
    visual.layer2.0.downsample.0 1 32 16 1
    visual.layer2.1.conv1 bn1 8 32 1     visual.layer2.1.conv2 bn2 8 8 3      visual.layer2.1.conv3 bn3 32 8 1
    visual.layer3.0.conv1 bn1 16 32 1    visual.layer3.0.conv2 bn2 16 16 3    visual.layer3.0.conv3 bn3 64 16 1
    visual.layer3.0.downsample.0 1 64 32 1
    visual.layer4.0.conv1 bn1 32 64 1    visual.layer4.0.conv2 bn2 32 32 3    visual.layer4.0.conv3 bn3 128 32 1
    visual.layer4.0.downsample.0 1 128 64 1
"""
ATTENTION_POOL = """
    visual.attnpool.positional_embedding 5 128
    visual.attnpool.k_proj.weight 128 128           visual.attnpool.k_proj.bias 128
    visual.attnpool.q_proj.weight 128 128           visual.attnpool.q_proj.bias 128
    visual.attnpool.v_proj.weight 128 128           visual.attnpool.v_proj.bias 128
    visual.attnpool.c_proj.weight 5 128             visual.attnpool.c_proj.bias 5
"""


def read(table, prefix=""):
    """'name 2 3  name …' -> {name: shape}"""
    shapes, name = {}, ""
    for word in table.split():
        if word.isdigit():
            shapes[name] += (int(word),)
        else:
            name = prefix + word
            shapes[name] = ()
    return shapes


def read_convolutions(table):
    shapes, words = {}, table.split()
    for conv, norm, out, channels, size in zip(*[iter(words)] * 5):
        shapes[f"{conv}.weight"] = (int(out), int(channels), int(size), int(size))
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{conv.rpartition('.')[0]}.{norm}.{leaf}"] = (int(out),)
    return shapes


TEXT_SHAPES = read(TEXT) | read(BLOCK, "transformer.resblocks.0.") | read(BLOCK, "transformer.resblocks.1.")
EXPECTED = {
    "vit": (VIT, TEXT_SHAPES | read(VISION_TRANSFORMER)),
    "resnet": (RESNET, TEXT_SHAPES | read_convolutions(CONVOLUTIONS) | read(ATTENTION_POOL)),
}


def shapes(tree):
    return {name: leaf.shape for name, leaf in flatten(tree).items()}


@pytest.mark.parametrize("tower", EXPECTED)
def test_names_and_shapes_are_openais(tower):
    config, expected = EXPECTED[tower]
    assert shapes(initialize(config)) == parameter_shapes(config) == expected
    assert is_resnet(config) == (tower == "resnet")


@pytest.mark.parametrize(
    "vision_cfg, embed_dim, text_width, parameters",
    [
        ({"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}, 512, 512, 151_277_313),  # ViT-B/32
        ({"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}, 512, 512, 149_620_737),  # ViT-B/16
        ({"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14}, 768, 768, 427_616_513),  # ViT-L/14
        ({"image_size": 224, "layers": [3, 4, 6, 3], "width": 64}, 1024, 512, 102_007_137),  # RN50
        ({"image_size": 288, "layers": [4, 6, 10, 6], "width": 80}, 640, 640, 178_300_601),  # RN50x4
    ],
)
def test_as_many_parameters_as_were_published(vision_cfg, embed_dim, text_width, parameters):
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": text_width, "heads": text_width // 64, "layers": 12}
    shapes = parameter_shapes({"embed_dim": embed_dim, "vision_cfg": vision_cfg, "text_cfg": text_cfg})
    assert sum(math.prod(shape) for name, shape in shapes.items() if "running_" not in name) == parameters


# ------------------------------------------------------------------------------------------ presets, seeds


@pytest.mark.parametrize("name", MODELS)
def test_every_preset_runs_and_its_gradients_fit(name, rng):
    config = model_config(name)
    params = initialize(config)
    size, end = config["vision_cfg"]["image_size"], config["text_cfg"]["vocab_size"] - 1
    images = rng.standard_normal((2, 3, size, size), np.float32)
    image_features, image_backward = encode_image(params, images, config, training=True)
    text_features, text_backward = encode_text(params, np.array([[1, 2, end, 0], [1, 2, 3, end]]), config)
    assert image_features.shape == text_features.shape == (2, config["embed_dim"])
    assert np.isfinite(image_features).all() and np.isfinite(text_features).all()
    grads = image_backward(image_features) | text_backward(text_features) | {"logit_scale": np.zeros((), np.float32)}
    assert shapes(grads) == shapes(params)
    assert all(leaf.dtype == np.float32 for leaf in flatten(grads).values())
    assert all(np.isfinite(leaf).all() for leaf in flatten(grads).values())


def test_the_configuration_may_name_the_width_inside_an_mlp(rng):
    config = model_config("vit-tiny", width=32, heads=1, layers=1, mlp_ratio=2)
    config["vision_cfg"] = config["vision_cfg"] | {"width": 48, "layers": 1, "head_width": 16, "mlp_ratio": 97 / 48}
    params = initialize(config)
    assert params["visual"]["transformer"]["resblocks"][0]["mlp"]["c_fc"]["weight"].shape == (97, 48)
    assert params["transformer"]["resblocks"][0]["mlp"]["c_proj"]["weight"].shape == (32, 64)
    images = rng.standard_normal((2, 3, 32, 32)).astype(np.float32)
    features, backward = encode_image(params, images, config)
    gradients = backward(np.ones_like(features))["visual"]["transformer"]["resblocks"][0]["mlp"]
    assert gradients["c_fc"]["weight"].shape == (97, 48) and gradients["c_proj"]["weight"].shape == (48, 97)


def test_a_configuration_is_new_each_time():
    model_config("resnet")["vision_cfg"]["width"] = 1
    model_config("resnet")["preprocess"]["mean"][0] = 9
    assert model_config("resnet")["vision_cfg"]["width"] != 1
    assert model_config("resnet")["preprocess"]["mean"][0] < 1
    assert model_config("vit-tiny", vocab_size=77)["text_cfg"]["vocab_size"] == 77
    assert model_config("vit-tiny")["text_cfg"]["vocab_size"] != 77


def test_an_unknown_model_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="there is no model 'vit-huge'; choose one of .*vit-tiny"):
        model_config("vit-huge")


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_a_seed_decides_every_bit(config):
    one, same, other = (flatten(initialize(config, seed)) for seed in (3, 3, 4))
    assert all(same_bits(one[name], same[name]) for name in one)
    drawn = [name for name in one if one[name].std() > 0]
    assert drawn and all((one[name] != other[name]).any() for name in drawn)
    double = flatten(initialize(config, 3, np.float64))
    assert all(leaf.dtype == np.float32 and double[name].dtype == np.float64 for name, leaf in one.items())
    assert all(np.allclose(double[name], one[name], rtol=1e-6) for name in one)


def test_parameters_start_as_the_paper_has_them():
    wide = model_config("vit-tiny", width=256, vocab_size=4000)
    p = flatten(initialize(wide, 0, np.float64))
    assert p["logit_scale"] == pytest.approx(math.log(1 / 0.07))
    assert p["token_embedding.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert p["positional_embedding"].std() == pytest.approx(0.01, rel=0.05)
    assert p["transformer.resblocks.0.attn.in_proj_weight"].std() == pytest.approx(256**-0.5, rel=0.02)
    assert p["transformer.resblocks.1.attn.out_proj.weight"].std() == pytest.approx(256**-0.5 / 2, rel=0.02)
    assert p["transformer.resblocks.1.mlp.c_proj.weight"].std() == pytest.approx(256**-0.5 / 2, rel=0.02)
    assert p["transformer.resblocks.0.mlp.c_fc.weight"].std() == pytest.approx(512**-0.5, rel=0.02)
    assert p["text_projection"].std() == pytest.approx(256**-0.5, rel=0.02)
    for name, leaf in p.items():
        if ".ln_" in name or name.startswith("ln_") or name.endswith("bias"):
            assert (leaf == (1 if name.endswith("weight") else 0)).all(), name

    for name, leaf in flatten(initialize(RESNET, 0, np.float64)).items():
        if "bn3.weight" in name and "layer" in name:
            assert (leaf == 0).all(), name
        elif "bn" in name or "downsample.1" in name:
            assert (leaf == (1 if name.endswith(("weight", "var")) else 0)).all(), name


# ------------------------------------------------------------------------------------------ the image encoder


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_the_gradient_of_the_images_is_there_for_the_asking(config, normal):
    size = config["vision_cfg"]["image_size"]
    features, backward = encode_image(initialize(config, 0, np.float64), normal(2, 3, size, size), config)
    grads = backward(features)
    dimages, same = backward(features, input_gradient=True)
    assert grads.keys() == same.keys() == {"visual"}
    assert dimages.shape == (2, 3, size, size)


def test_recomputing_gives_the_same_bits(normal):
    params, images = initialize(VIT, 0, np.float64), normal(2, 3, 8, 8)
    features, backward = encode_image(params, images, VIT)
    again, backward_again = encode_image(params, images, VIT, recompute=True)
    assert same_bits(features, again)
    one, other = flatten(backward(features)), flatten(backward_again(features))
    assert all(same_bits(one[name], other[name]) for name in one)


@pytest.mark.parametrize("config", [VIT, RESNET])
@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 8, 8, 3), (3, 8, 8), (2, 1, 8, 8), (2, 3, 64, 63)])
def test_images_of_the_wrong_shape_are_refused(config, shape):
    size = config["vision_cfg"]["image_size"]
    said = rf"images have shape .*; this model takes \(N, 3, {size}, {size}\)|array .* \(3, 8, 8\); it must"
    with pytest.raises(ValueError, match=said):
        encode_image(initialize(config), np.zeros(shape, np.float32), config)


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
def test_one_leaf_alone_may_take_a_complex_step(config):
    """As when somebody differentiates with respect to a single weight: the rest stays real."""
    rng = np.random.default_rng(0)
    size, theta = config["vision_cfg"]["image_size"], initialize(config, 0, np.float64)
    for leaf in flatten(theta).values():
        leaf += 0.1 * rng.standard_normal(leaf.shape)
    flatten(theta)["logit_scale"][...] = 1
    if is_resnet(config):  # variances
        for name, leaf in flatten(theta).items():
            leaf[...] = abs(leaf) if name.endswith("running_var") else leaf
    images, tokens = rng.standard_normal((2, 3, size, size)), np.array([[38, 5, 39, 0], [38, 7, 6, 39]])

    def features(params):
        return np.concatenate([encode_image(params, images, config)[0], encode_text(params, tokens, config)[0]])

    names, moved = flatten(theta), []
    for name, leaf in names.items():
        params = unflattened(theta, names | {name: leaf + 1e-30j * rng.standard_normal(leaf.shape)})
        y = features(params)
        assert np.allclose(y.real, features(theta), rtol=1e-12, atol=1e-13), name
        moved += [name] if np.iscomplexobj(y) and y.imag.any() else []
    # A bias of all keys changes no softmax, and the temperature no features.
    assert {name for name in names if name not in moved} <= {"logit_scale", "visual.attnpool.k_proj.bias"}


def unflattened(tree, leaves, name=""):
    """A tree like this one of the leaves of {dotted name: leaf}."""
    if isinstance(tree, (dict, list)):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        branches = {key: unflattened(child, leaves, f"{name}.{key}".lstrip(".")) for key, child in pairs}
        return branches if isinstance(tree, dict) else list(branches.values())
    return leaves[name]
