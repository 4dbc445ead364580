"""Where the first number that is not finite comes from."""

import sys

import numpy as np
import pytest

from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.training.nonfinite import first_nonfinite
from miniclip.tree import Flat, flatten, tree_map

CONFIGS = {"vit": VIT, "resnet": RESNET | {"vision_cfg": RESNET["vision_cfg"] | {"image_size": 32}}}


def model(kind):
    """Parameters as they are in training, views of one float32 vector; two micro-batches; the configuration."""
    inputs, config = RandomInputs(0), CONFIGS[kind]
    params = Flat(tree_map(lambda leaf: leaf.astype(np.float32), inputs.parameters(config))).tree
    return params, [(inputs.images(3, config).astype(np.float32), inputs.tokens(3)) for _ in range(2)], config


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_that_is_well_has_no_overflow(kind):
    """The causal mask is −inf by design, and is no overflow."""
    assert first_nonfinite(*model(kind)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_broken_parameter_is_named(kind, value):
    params, micro_batches, config = model(kind)
    for name, leaf in flatten(params).items():
        kept = leaf.flat[-1]
        leaf.flat[-1] = value
        assert first_nonfinite(params, micro_batches, config) == f"the parameter {name}"
        leaf.flat[-1] = kept


FIRST = """
vit      visual.conv1.weight                             visual.conv1 (linear)
vit      visual.class_embedding                          visual.ln_pre (layer_norm)
vit      visual.ln_pre.weight                            visual.ln_pre (layer_norm)
vit      visual.transformer.resblocks.0.attn.in_proj_weight  visual.transformer.resblocks.0.attn.in_proj_weight (linear)
vit      visual.transformer.resblocks.0.attn.in_proj_bias    visual.transformer.resblocks.0.attn (softmax)
vit      visual.transformer.resblocks.1.attn.in_proj_bias    visual.transformer.resblocks.1.attn (softmax)
vit      visual.transformer.resblocks.1.attn.out_proj.weight visual.transformer.resblocks.1.attn.out_proj (linear)
vit      visual.transformer.resblocks.0.ln_2.weight      visual.transformer.resblocks.0.ln_2 (layer_norm)
vit      visual.transformer.resblocks.1.mlp.c_fc.weight  visual.transformer.resblocks.1.mlp.c_fc (linear)
vit      visual.transformer.resblocks.1.mlp.c_proj.weight    visual.transformer.resblocks.1.mlp.c_proj (linear)
vit      visual.transformer.resblocks.1.mlp.c_proj.bias  visual.ln_post (layer_norm)
vit      visual.proj                                     visual.proj (linear)
resnet   visual.conv1.weight                             visual.conv1 (linear)
resnet   visual.bn2.weight                               visual.bn2 (batch_norm)
resnet   visual.bn3.bias                                 visual (average_pool)
resnet   visual.layer1.0.conv1.weight                    visual.layer1.0.conv1 (linear)
resnet   visual.layer2.1.conv2.weight                    visual.layer2.1.conv2 (linear)
resnet   visual.layer2.1.bn3.weight                      visual.layer2.1.bn3 (batch_norm)
resnet   visual.layer3.0.bn2.bias                        visual.layer3.0 (average_pool)
resnet   visual.layer3.0.downsample.0.weight             visual.layer3.0.downsample.0 (linear)
resnet   visual.layer4.0.downsample.1.weight             visual.layer4.0.downsample.1 (batch_norm)
resnet   visual.attnpool.q_proj.weight                   visual.attnpool.q_proj (linear)
resnet   visual.attnpool.k_proj.weight                   visual.attnpool (softmax)
resnet   visual.attnpool.c_proj.weight                   visual.attnpool.c_proj (linear)
vit      token_embedding.weight                          transformer.resblocks.0.ln_1 (layer_norm)
vit      transformer.resblocks.0.attn.in_proj_bias       transformer.resblocks.0.attn (softmax)
resnet   transformer.resblocks.1.mlp.c_fc.weight         transformer.resblocks.1.mlp.c_fc (linear)
resnet   ln_final.weight                                 ln_final (layer_norm)
vit      text_projection                                 text_projection (linear)
"""


@pytest.mark.parametrize("row", FIRST.strip().splitlines())
def test_the_layer_is_named_where_finite_numbers_first_overflow(row):
    kind, parameter, place = row.split(maxsplit=2)
    params, micro_batches, config = model(kind)
    flatten(params)[parameter][...] = 3e38  # the largest float32 is 3.4e38
    assert first_nonfinite(params, micro_batches, config) == place


def test_the_first_of_several_is_named():
    params, micro_batches, config = model("resnet")
    for name in ("ln_final.weight", "visual.layer3.0.conv1.weight", "visual.layer2.0.conv1.weight"):
        flatten(params)[name][...] = 3e38
    assert first_nonfinite(params, micro_batches, config) == "visual.layer2.0.conv1 (linear)"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_pictures_themselves(value):
    params, micro_batches, config = model("vit")
    micro_batches[1][0][2, 1, 4, 4] = value
    assert first_nonfinite(params, micro_batches, config) == "the pictures themselves"


def test_nothing_is_left_behind():
    """No profiler stays, or is lost, and nothing is written to."""

    def profiler(frame, event, argument):
        pass

    params, micro_batches, config = model("vit")
    for array in (*flatten(params).values(), *(array for part in micro_batches for array in part)):
        array.flags.writeable = False
    before = sys.getprofile()
    first_nonfinite(params, micro_batches, config)
    assert sys.getprofile() is before
    sys.setprofile(profiler)
    try:
        first_nonfinite(params, micro_batches, config)
        assert sys.getprofile() is profiler
        with pytest.raises(ValueError):
            first_nonfinite(params, [(micro_batches[0][0][:, :2], micro_batches[0][1])], config)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)
