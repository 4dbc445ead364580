"""CLIP's modified ResNet (Radford et al. 2021, §2.4): three changes to He et al. 2015.

A stem of three convolutions in place of one; an average pool in front of every convolution that would
have skipped pixels, so that nothing is aliased (Zhang 2019); attention in place of the last mean.
"""

from .attention import attention_pool
from .checks import takes
from .conv import average_pool, batch_norm, conv2d
from .layers import relu


@takes("p tree, i ≥ 0, act flag")
def conv_norm(x, p, i, training, act=True, **where):
    """relu(batch_norm(conv2d(x))) with the parameters conv<i> and bn<i> of p; act=False leaves out relu."""
    conv, bn = f"conv{i}", f"bn{i}"
    for name, leaves in ((conv, {"weight"}), (bn, {"weight", "bias", "running_mean", "running_var"})):
        if not isinstance(p.get(name), dict) or not leaves <= p[name].keys():
            raise ValueError(f"the tree p must have a branch {name} with {', '.join(sorted(leaves))}.")
    h, convolve = conv2d(x, **p[conv], **where)
    h, normalise = batch_norm(h, **p[bn], training=training)
    y, activate = relu(h) if act else (h, lambda dy: dy)

    def backward(dy, input_gradient=True):
        d, d_bn = normalise(activate(dy))
        dx, d_conv = convolve(d, input_gradient)
        return dx, {conv: d_conv, bn: d_bn}

    return y, backward


@takes("x (N, H, W, C), p tree, stride ≥ 1")
def bottleneck(x, p, stride, training):
    """y = relu(conv₁ₓ₁(pool(conv₃ₓ₃(conv₁ₓ₁(x)))) + shortcut(x)), each convolution with its norm.

    p: conv1 … bn3, and downsample where the shape changes -> y (N, H/s, W/s, 4·planes).
    """
    h, one = conv_norm(x, p, 1, training)
    h, two = conv_norm(h, p, 2, training, padding=1)
    h, pool = average_pool(h, stride)
    h, three = conv_norm(h, p, 3, training, act=False)
    shortcut = x
    if "downsample" in p:
        # OpenAI's names: downsample.0 is the convolution, downsample.1 the norm.
        if not isinstance(p["downsample"], (list, tuple)) or len(p["downsample"]) != 2:
            raise ValueError("bottleneck: p.downsample must be a list of two, a convolution and its norm.")
        conv, bn = p["downsample"]
        shortcut, pool_shortcut = average_pool(x, stride)
        shortcut, project = conv_norm(shortcut, {"conv0": conv, "bn0": bn}, 0, training, act=False)
    if h.shape != shortcut.shape:
        raise ValueError(f"bottleneck: the shortcut has shape {shortcut.shape}, and what joins it {h.shape}.")
    y, activate = relu(h + shortcut)

    def backward(dy):
        dy = activate(dy)
        d, grads = three(dy)
        d, d_two = two(pool(d))
        d, d_one = one(d)
        grads |= d_two | d_one
        if "downsample" not in p:
            return d + dy, grads
        e, d_shortcut = project(dy)
        return d + pool_shortcut(e), grads | {"downsample": [d_shortcut["conv0"], d_shortcut["bn0"]]}

    return y, backward


@takes(
    "images (N, C, H, W), p.layer{1,2,3,4} list, p.attnpool tree, config.vision_cfg.width ≥ 1, "
    "config.vision_cfg.head_width? ≥ 1, training flag"
)
def modified_resnet(images, p, config, training=False):
    """Features of pictures, before normalisation.

    images (N, 3, S, S), p: the tree below `visual`, config: the model's -> features (N, E).
    training: batch statistics in the norms. backward(dfeatures, input_gradient=True) -> (dimages,
    grads); dimages is None where not asked for. Raises ValueError when S is not the model's.
    """
    vision = config["vision_cfg"]
    x = images.transpose(0, 2, 3, 1)
    steps = []  # (name, backward), in the order they ran

    x, stem1 = conv_norm(x, p, 1, training, stride=2, padding=1)
    x, stem2 = conv_norm(x, p, 2, training, padding=1)
    x, stem3 = conv_norm(x, p, 3, training, padding=1)
    x, pool = average_pool(x, 2)
    for stage in range(1, 5):
        for block, parameters in enumerate(p[f"layer{stage}"]):
            x, backward_block = bottleneck(x, parameters, 2 if stage > 1 and block == 0 else 1, training)
            steps.append((f"layer{stage}", backward_block))
    heads = vision["width"] * 32 // vision.get("head_width", 64)
    features, attnpool = attention_pool(x, p["attnpool"], heads)

    def backward(dfeatures, input_gradient=True):
        d, d_attnpool = attnpool(dfeatures)
        grads = {name: [] for name, _ in steps} | {"attnpool": d_attnpool}
        for name, backward_block in reversed(steps):
            d, d_block = backward_block(d)
            grads[name].insert(0, d_block)
        d, d_stem3 = stem3(pool(d))
        d, d_stem2 = stem2(d)
        dimages, d_stem1 = stem1(d, input_gradient)
        grads |= d_stem1 | d_stem2 | d_stem3
        return dimages.transpose(0, 3, 1, 2) if input_gradient else None, grads

    return features, backward
