"""CLIP's Vision Transformer (Dosovitskiy et al. 2020, with the extra norm of Radford et al. 2021, §2.4).

A picture is cut into patches, each patch becomes a token, one more token (the class) joins them, and
what that one has gathered after the last block is the picture's feature.
"""

from .backend import array_module
from .checks import takes
from .conv import conv2d
from .last_block import transformer_at
from .layers import layer_norm, linear
from .transformer import activation_of


@takes(
    "images (N, C, H, W), p.conv1.weight (D, C, P, P), p.class_embedding (D), p.positional_embedding (T, D), "
    "p.{ln_pre,ln_post}.{weight,bias} (D), p.transformer tree, p.proj (D, E), config.vision_cfg.width ≥ 1, "
    "config.vision_cfg.{patch_size,image_size} ≥ 1, config.vision_cfg.head_width? ≥ 1, config.quick_gelu flag, "
    "recompute flag"
)
def vision_transformer(images, p, config, recompute=False):
    """Features of pictures, before normalisation.

    images (N, 3, S, S), p: the tree below `visual`, config: the model's -> features (N, E).
    backward(dfeatures, input_gradient=True) -> (dimages, grads); dimages is None where not asked for.
    recompute: as in `transformer`. Raises ValueError when S is not the model's image size.
    """
    xp = array_module(images)
    vision = config["vision_cfg"]
    heads = vision["width"] // vision.get("head_width", 64)
    n = len(images)

    x, conv1 = conv2d(images.transpose(0, 2, 3, 1), **p["conv1"], stride=vision["patch_size"])
    grid = x.shape[1:3]
    x = x.reshape(n, -1, x.shape[-1])  # (N, patches, D)
    if x.shape[1] + 1 != len(p["positional_embedding"]):
        raise ValueError(
            f"images of {images.shape[2]} × {images.shape[3]} do not fit: "
            f"this model was made for {vision['image_size']} × {vision['image_size']}."
        )
    cls = xp.broadcast_to(p["class_embedding"], (n, 1, x.shape[-1]))
    x = xp.concatenate([cls, x], 1) + p["positional_embedding"]  # (N, T, D)
    x, ln_pre = layer_norm(x, **p["ln_pre"])
    first = xp.zeros(n, int)
    h, blocks = transformer_at(x, p["transformer"], heads, first, None, activation_of(config), recompute)
    h, ln_post = layer_norm(h, **p["ln_post"])
    features, project = linear(h, p["proj"].T)

    def backward(dfeatures, input_gradient=True):
        d, d_proj = project(dfeatures)
        d, d_ln_post = ln_post(d)
        dx, d_transformer = blocks(d)
        dx, d_ln_pre = ln_pre(dx)
        dpatches = dx[:, 1:].reshape(n, *grid, -1)
        dimages, d_conv1 = conv1(dpatches, input_gradient)
        d_position = dx.sum(0)  # (T, D); the class is the first
        grads = {"class_embedding": d_position[0], "positional_embedding": d_position, "proj": d_proj["weight"].T}
        grads |= {"conv1": d_conv1, "ln_pre": d_ln_pre, "transformer": d_transformer, "ln_post": d_ln_post}
        return dimages.transpose(0, 3, 1, 2) if input_gradient else None, grads

    return features, backward
