"""Does a configuration make sense, and do parameters and a tokenizer fit it? One sentence where they do not."""

import math

import numpy as np

from ..init import parameter_shapes
from ..preprocess import RESIZE_MODES

LARGEST_SCALE = 7  # of logit_scale: 1/τ of 1,100
LARGEST = {"layers": 1 << 8, "image_size": 1 << 12, "vocab_size": 1 << 20}  # of a configuration; else 1 << 14


def check_parameters(arrays, config, where):
    """ValueError, about `where`, unless {dotted name: array} are the finite parameters of a checked config."""
    shapes = shapes_for(arrays, config, where)
    wrong = [name for name, shape in shapes.items() if name not in arrays or arrays[name].shape != shape]
    wrong += [name for name in arrays if name not in shapes]
    if wrong:
        why = "; ".join(_difference(name, arrays.get(name), shapes.get(name)) for name in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{where} is of another architecture than its configuration: {why}{more}.")
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{where} cannot be used: {name} is {array.dtype}, not floating-point.")
        if not np.isfinite(array).all():
            raise ValueError(f"{where} cannot be used: {name} is not finite in {array.dtype}.")
    scale = float(arrays["logit_scale"])
    if abs(scale) > LARGEST_SCALE:
        raise ValueError(
            f"{where} cannot be used: its logit_scale is {scale:.4g}, and CLIP's is ln 1/τ, at most ln 100 = 4.6; if "
            "this is 1/τ itself, save its logarithm instead."
        )


def shapes_for(arrays, config, where):
    """{name: shape} of the parameters of a checked config, in order; ValueError where it has far more than `arrays`."""
    vision, text = config["vision_cfg"]["layers"], config["text_cfg"]["layers"]
    blocks = text + (sum(vision) if isinstance(vision, (list, tuple)) else vision)
    if blocks > len(arrays):  # a block has a dozen; nothing is made for a configuration that only claims many
        raise ValueError(
            f"{where} is of another architecture than its configuration, which has {blocks} blocks of layers, "
            f"for {len(arrays)} parameters."
        )
    return parameter_shapes(config)


def _difference(name, array, shape):
    """In what a parameter is not what it should be."""
    if array is None:
        return f"{name} is missing"
    return f"{name[:80]} is superfluous" if shape is None else f"{name} is {array.shape}, not {shape}"


def check_config(config, where):
    """ValueError, about `where`, unless this dict describes a model, and one of a size that can be meant."""

    def require(good, key, value, wanted):
        if not good:
            value = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)[:60]
            raise ValueError(f"the configuration in {where} cannot be used: {key} is {value}, not {wanted}.")

    vision, text, pixels = parts = [config.get(key) for key in ("vision_cfg", "text_cfg", "preprocess")]
    require(all(isinstance(part, dict) for part in parts), "vision_cfg, text_cfg or preprocess", None, "a dict")
    stages, head = vision.get("layers"), vision.get("head_width", 64)
    resnet = isinstance(stages, (list, tuple))
    require(not resnet or len(stages) == 4, "vision_cfg.layers", stages, "one number, or a list of 4")
    numbers = [("embed_dim", config.get("embed_dim")), ("vision_cfg.head_width", head)]
    numbers += [("vision_cfg.layers", count) for count in (stages if resnet else [stages])]
    numbers += [(f"vision_cfg.{key}", vision.get(key)) for key in ("image_size", "width", "patch_size")[: 3 - resnet]]
    keys = ("context_length", "vocab_size", "width", "heads", "layers")
    for key, value in numbers + [(f"text_cfg.{key}", text.get(key)) for key in keys]:
        most = LARGEST.get(key.rpartition(".")[2], 1 << 14)
        require(type(value) is int and 1 <= value <= most, key, value, f"a whole number from 1 to {most}")
    width = vision["width"] * (32 if resnet else 1)  # that attention splits into heads
    require(width % head == 0, "vision_cfg.head_width", head, f"a divisor of {width}")
    require(text["width"] % text["heads"] == 0, "text_cfg.heads", text["heads"], f"a divisor of {text['width']}")
    size, least = vision["image_size"], 32 if resnet else vision["patch_size"]
    require(size >= least, "vision_cfg.image_size", size, f"at least {least}")
    for key in ("vision_cfg", "text_cfg"):
        ratio = config[key].get("mlp_ratio", 4)
        good = type(ratio) in (int, float) and 0 < ratio <= 64 and int(config[key]["width"] * ratio) > 0
        require(good, f"{key}.mlp_ratio", ratio, "a number from above 0 to 64")
    end = text.get("eos_token_id", 0)
    require(type(end) is int and 0 <= end < text["vocab_size"], "text_cfg.eos_token_id", end, "an id of its vocabulary")
    require(isinstance(config.get("quick_gelu"), bool), "quick_gelu", config.get("quick_gelu"), "true or false")
    for key, modes in {"interpolation": ("bicubic",), "resize_mode": RESIZE_MODES}.items():
        require(pixels.get(key, modes[0]) in modes, f"preprocess.{key}", pixels.get(key), " or ".join(modes))
    for key, least in (("mean", -math.inf), ("std", 0)):
        values = pixels.get(key)
        good = isinstance(values, (list, tuple)) and [type(v) in (int, float) and least < v < math.inf for v in values]
        require(good == [True] * 3, f"preprocess.{key}", values, f"a list of 3 numbers above {least}")


def check_tokenizer(tokenizer, config, where):
    """ValueError, about `where`, unless the model finds the end of a text where this tokenizer puts it."""
    text = config["text_cfg"]
    end = text.get("eos_token_id", text["vocab_size"] - 1)
    ours = tokenizer.end_token
    if ours != end and not (text.get("pool_type") == "argmax" and ours < text["vocab_size"]):
        why = f"the tokenizer ends a text with token {ours}, the model looks for {str(end)[:20]}"
        raise ValueError(f"the tokenizer and the model in {where} do not belong together: {why}.")
