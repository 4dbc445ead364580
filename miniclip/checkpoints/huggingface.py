"""CLIP as Hugging Face keeps it, a CLIPModel: its names and its configuration, both ways.

Hugging Face has names of its own, cuts in_proj into three and transposes the projections: `NAMES` is the
whole difference. Its config.json may leave out anything, and then `TEXT` and `VISION` hold.

What this code does not compute is refused by the name of its key: near enough would be silently wrong.
"""

import numpy as np

from ..init import is_resnet
from .openai import mlp_ratio, part_of, preprocessing, require, short
from .untrusted import Damaged

NAMES = {  # of parameters, or what they begin with; ours: theirs
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1": "vision_model.embeddings.patch_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "transformer.resblocks": "text_model.encoder.layers",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
IN_BLOCK = {"ln_": "layer_norm", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.": "self_attn."}
TRANSPOSED = ("visual.proj", "text_projection")
# Of configurations. Ours: theirs …
TOWER_KEYS = {"width": "hidden_size", "layers": "num_hidden_layers"}
VISION_KEYS = TOWER_KEYS | {"image_size": "image_size", "patch_size": "patch_size"}
TEXT_KEYS = TOWER_KEYS | {"context_length": "max_position_embeddings", "vocab_size": "vocab_size"}
TEXT_KEYS |= {"heads": "num_attention_heads"}
# … and what holds where config.json says nothing.
TOWER = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_channels": 3}
VISION = TOWER | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
VISION |= {"image_size": 224, "patch_size": 32}
TEXT = TOWER | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
TEXT |= {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407}


def huggingface_names(name):
    """What Hugging Face calls one of our parameters: a list of one name, or of three that make one in_proj."""
    start = next((ours for ours in NAMES if name == ours or name.startswith(ours + ".")), None)
    if start is None:
        raise Damaged(f"Hugging Face's CLIPModel has no {name[:80]}: its image encoder is a ViT")
    theirs = name.replace(start, NAMES[start], 1)
    for part, their_part in IN_BLOCK.items():
        theirs = theirs.replace(part, their_part)
    if ".in_proj_" in theirs:
        return [theirs.replace("in_proj_", f"{letter}_proj.") for letter in "qkv"]
    return [theirs]


def arrays_from_huggingface(arrays, names):
    """{Hugging Face's name: array} -> {our name: array}, for our `names`; what is not understood stays as it is."""
    left, ours = {name: array for name, array in arrays.items() if not name.endswith(".position_ids")}, {}
    for name in names:
        theirs = huggingface_names(name)
        parts = [left[part] for part in theirs if part in left]
        alike = len(parts) == len(theirs) and len({part.shape for part in parts}) == 1
        if not alike or (len(parts) > 1 and parts[0].ndim == 0) or (name in left and name not in theirs):
            continue
        for part in theirs:
            del left[part]
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        ours[name] = np.ascontiguousarray(array.T) if name in TRANSPOSED else array
    return left | ours


def arrays_to_huggingface(arrays):
    """{our name: array} -> {Hugging Face's name: array}."""
    out = {}
    for name, array in arrays.items():
        theirs = huggingface_names(name)
        out |= zip(theirs, np.split(array, 3) if len(theirs) == 3 else [array.T if name in TRANSPOSED else array])
    return out


def config_from_huggingface(description, pixels=None):
    """The configuration that a config.json, read, stands for; pixels: its preprocessor_config.json, read, or None.

    ValueError names what cannot be run.
    """
    kind = description.get("model_type") if isinstance(description, dict) else None
    if kind != "clip":
        raise ValueError(f"model_type is {str(kind)[:40]!r}; this code runs 'clip' only")
    text, vision = _filled(description, "text_config", TEXT), _filled(description, "vision_config", VISION)
    for where, part in (("text_config", text), ("vision_config", vision)):
        require(part, where, layer_norm_eps=[1e-5], num_channels=[3], hidden_act=["quick_gelu", "gelu"])
        for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size"):
            if type(part[key]) is not int or not 0 < part[key] <= 1 << 20:
                raise ValueError(f"{where}.{key} is {str(part[key])[:40]!r}, no number of a model")
        if part["hidden_size"] % part["num_attention_heads"]:
            raise ValueError(f"{where}.num_attention_heads is no divisor of hidden_size, {part['hidden_size']}")
    if text["hidden_act"] != vision["hidden_act"]:
        raise ValueError("hidden_act is not the same in text_config and vision_config, which this code cannot run")
    end = text["eos_token_id"]
    if type(end) is not int:
        raise ValueError(f"text_config.eos_token_id is {str(end)[:40]!r}, not one number")
    # Hugging Face's own exception: 2 was never the end token's id, and stands for the largest id of a text.
    end = {"pool_type": "argmax"} if end == 2 else {} if end + 1 == text["vocab_size"] else {"eos_token_id": end}

    def tower(part, keys):
        ratio = mlp_ratio(part["intermediate_size"], part["hidden_size"])
        return {ours: part[theirs] for ours, theirs in keys.items()} | {"mlp_ratio": ratio}

    head_width = vision["hidden_size"] // vision["num_attention_heads"]
    return {
        "quick_gelu": text["hidden_act"] == "quick_gelu",
        "embed_dim": description.get("projection_dim", 512),
        "vision_cfg": short(tower(vision, VISION_KEYS) | {"head_width": head_width}),
        "text_cfg": short(tower(text, TEXT_KEYS) | end),
        "preprocess": _preprocess(pixels, vision["image_size"]),
    }


def config_to_huggingface(config, tokenizer):
    """The config.json and the preprocessor_config.json for a model, two dicts. ValueError for a ResNet."""
    if is_resnet(config):
        raise ValueError("Hugging Face's CLIPModel has no ResNet: save this model with layout='open_clip'.")
    vision, text = config["vision_cfg"], config["text_cfg"]
    end = 2 if text.get("pool_type") == "argmax" else text.get("eos_token_id", text["vocab_size"] - 1)

    def tower(part, keys, **more):
        return {
            "hidden_act": "quick_gelu" if config["quick_gelu"] else "gelu",
            "intermediate_size": int(part["width"] * part.get("mlp_ratio", 4)),
            "layer_norm_eps": 1e-5,
            "projection_dim": config["embed_dim"],
            **{theirs: part[ours] for ours, theirs in keys.items()},
            **more,
        }

    heads = vision["width"] // vision.get("head_width", 64)
    tokens = {"bos_token_id": tokenizer.start_token, "eos_token_id": end, "pad_token_id": tokenizer.end_token}
    model = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "dtype": "float32",
        "torch_dtype": "float32",
        "text_config": tower(text, TEXT_KEYS, model_type="clip_text_model", **tokens),
        "vision_config": tower(
            vision, VISION_KEYS, model_type="clip_vision_model", num_attention_heads=heads, num_channels=3
        ),
    }
    pixels = {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True} | _pixels(vision["image_size"])
    if config["preprocess"].get("resize_mode") == "squash":
        pixels |= {"size": pixels["crop_size"], "do_center_crop": False}
    return model, pixels | {f"image_{key}": config["preprocess"][key] for key in ("mean", "std")}


def _filled(description, key, defaults):
    """One tower's part of a config.json, with all defaults; the older key with _dict outranks it, as there."""
    part = defaults
    if description.get(key) is not None:
        part = part | part_of(description, key)
    if description.get(f"{key}_dict") is not None:
        part = part | defaults | part_of(description, f"{key}_dict")
    return part


def _pixels(size):
    """What a preprocessor_config.json says of what preprocess.py does."""
    steps = dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), True)
    sizes = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return steps | sizes | {"resample": 3, "rescale_factor": 1 / 255}


def _preprocess(pixels, size):
    """Our `preprocess` entry from a preprocessor_config.json; ValueError for what preprocess.py does not do."""
    if pixels is None:
        return preprocessing()
    if not isinstance(pixels, dict):
        raise ValueError("its preprocessor_config.json is no dict")
    allowed = {key: [None, value] for key, value in _pixels(size).items()}
    for key in ("size", "crop_size"):
        allowed[key].append(size)  # older files give one number
    both = {"height": size, "width": size}  # of such a `size`, the sides do not keep their proportion
    squash = pixels.get("size") == both
    if squash:  # nothing is left to crop
        allowed |= {"size": [both], "do_center_crop": [None, True, False]}
    require(pixels, "preprocessor_config.json", **allowed)
    return preprocessing(pixels.get("image_mean"), pixels.get("image_std"), "squash" if squash else None)
