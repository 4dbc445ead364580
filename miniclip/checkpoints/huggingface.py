"""CLIP as Hugging Face keeps it, a CLIPModel: its names and its configuration, both ways.

Hugging Face has names of its own, cuts in_proj into three and transposes the projections: `NAMES` is the
whole difference. Its config.json may leave out anything, and then the defaults below hold.

What this code does not compute is refused by the name of its key: near enough would be silently wrong.
"""

import numpy as np

from ..model import is_resnet
from .openai import mlp_ratio, part_of, preprocessing, short

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
NAMES = {
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
IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
TRANSPOSED = ("visual.proj", "text_projection")


def huggingface_names(name):
    """What Hugging Face calls one of our parameters: a list of one name, or of three that make one in_proj."""
    start = next(ours for ours in NAMES if name == ours or name.startswith(ours + "."))
    theirs, rest = NAMES[start], name[len(start) :]
    if not start.endswith("resblocks"):
        return [theirs + rest]
    _, layer, rest = rest.split(".", 2)
    if rest.startswith("attn.in_proj_"):
        return [f"{theirs}.{layer}.self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}" for part in "qkv"]
    inner, _, kind = rest.rpartition(".")
    return [f"{theirs}.{layer}.{IN_BLOCK[inner]}.{kind}"]


def from_huggingface_arrays(arrays, names):
    """{Hugging Face's name: array} -> {our name: array}, for our `names`; what is not understood stays as it is."""
    left, ours = {name: array for name, array in arrays.items() if not name.endswith(".position_ids")}, {}
    for name in names:
        theirs = huggingface_names(name)
        parts = [left[part] for part in theirs if part in left]
        if len(parts) < len(theirs) or len({part.shape for part in parts}) > 1 or parts[0].ndim < (len(parts) > 1):
            continue
        for part in theirs:
            del left[part]
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        ours[name] = np.ascontiguousarray(array.T) if name in TRANSPOSED else array
    return left | ours


def to_huggingface_arrays(arrays):
    """{our name: array} -> {Hugging Face's name: array}."""
    out = {}
    for name, array in arrays.items():
        theirs = huggingface_names(name)
        out |= zip(theirs, np.split(array, 3) if len(theirs) == 3 else [array.T if name in TRANSPOSED else array])
    return out


def from_huggingface(description, pixels=None):
    """The configuration that a config.json, read, stands for; pixels: its preprocessor_config.json, read, or None.

    ValueError names what cannot be run.
    """
    if not isinstance(description, dict) or description.get("model_type") != "clip":
        kind = description.get("model_type") if isinstance(description, dict) else None
        raise ValueError(f"model_type is {str(kind)[:40]!r}; this code runs 'clip' only")
    words, vision = _filled(description, "text_config", TEXT), _filled(description, "vision_config", VISION)
    for where, part in (("text_config", words), ("vision_config", vision)):
        for key, wanted in (("layer_norm_eps", [1e-5]), ("num_channels", [3]), ("hidden_act", ["quick_gelu", "gelu"])):
            if part.get(key, wanted[0]) not in wanted:
                raise ValueError(f"{where}.{key} is {str(part[key])[:40]!r}, which this code cannot run")
        for key in ("hidden_size", "num_attention_heads", "intermediate_size"):
            if type(part[key]) is not int or not 0 < part[key] <= 1 << 20:
                raise ValueError(f"{where}.{key} is {str(part[key])[:40]!r}, no number of a model")
        if part["hidden_size"] % part["num_attention_heads"]:
            raise ValueError(f"{where}.num_attention_heads is no divisor of hidden_size, {part['hidden_size']}")
    if words["hidden_act"] != vision["hidden_act"]:
        raise ValueError("hidden_act is not the same in text_config and vision_config, which this code cannot run")
    end = words["eos_token_id"]
    if type(end) is not int:
        raise ValueError(f"text_config.eos_token_id is {str(end)[:40]!r}, not one number")
    # Hugging Face's own exception: 2 was never the end token's id, and stands for the largest id of a text.
    end = {"pool_type": "argmax"} if end == 2 else {} if end + 1 == words["vocab_size"] else {"eos_token_id": end}
    return {
        "quick_gelu": words["hidden_act"] == "quick_gelu",
        "embed_dim": description.get("projection_dim", 512),
        "vision_cfg": short(
            {
                "image_size": vision["image_size"],
                "layers": vision["num_hidden_layers"],
                "width": vision["hidden_size"],
                "patch_size": vision["patch_size"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                "mlp_ratio": mlp_ratio(vision["intermediate_size"], vision["hidden_size"]),
            }
        ),
        "text_cfg": short(
            {
                "context_length": words["max_position_embeddings"],
                "vocab_size": words["vocab_size"],
                "width": words["hidden_size"],
                "heads": words["num_attention_heads"],
                "layers": words["num_hidden_layers"],
                "mlp_ratio": mlp_ratio(words["intermediate_size"], words["hidden_size"]),
            }
            | end
        ),
        "preprocess": _pixels(pixels, vision["image_size"]),
    }


def to_huggingface(config, tokenizer):
    """The config.json and the preprocessor_config.json for a model. ValueError for a ResNet."""
    vision, words = config["vision_cfg"], config["text_cfg"]
    if is_resnet(config):
        raise ValueError("Hugging Face's CLIPModel has no ResNet: save this model with layout='open_clip'.")
    end = 2 if words.get("pool_type") == "argmax" else words.get("eos_token_id", words["vocab_size"] - 1)
    both = {
        "hidden_act": "quick_gelu" if config["quick_gelu"] else "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": config["embed_dim"],
    }

    def tower(part, heads):
        return both | {
            "hidden_size": part["width"],
            "num_hidden_layers": part["layers"],
            "num_attention_heads": heads,
            "intermediate_size": int(part["width"] * part.get("mlp_ratio", 4)),
        }

    size = vision["image_size"]
    model = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "dtype": "float32",
        "torch_dtype": "float32",
        "text_config": tower(words, words["heads"])
        | {
            "model_type": "clip_text_model",
            "vocab_size": words["vocab_size"],
            "max_position_embeddings": words["context_length"],
            "bos_token_id": tokenizer.start_token,
            "eos_token_id": end,
            "pad_token_id": tokenizer.end_token,
        },
        "vision_config": tower(vision, vision["width"] // vision.get("head_width", 64))
        | {
            "model_type": "clip_vision_model",
            "image_size": size,
            "patch_size": vision["patch_size"],
            "num_channels": 3,
        },
    }
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": config["preprocess"]["mean"],
        "image_std": config["preprocess"]["std"],
    }
    return model, pixels


def _filled(description, key, defaults):
    """One tower's part of a config.json, with all defaults; the older key with _dict outranks it, as there."""
    part = defaults | part_of({key: {}} | {k: v for k, v in description.items() if v is not None}, key)
    if description.get(f"{key}_dict") is not None:
        part |= defaults | part_of(description, f"{key}_dict")
    return part


def _pixels(pixels, size):
    """Our `preprocess` entry from a preprocessor_config.json; ValueError for what preprocess.py does not do."""
    if pixels is None:
        return preprocessing(None, None)
    if not isinstance(pixels, dict):
        raise ValueError("its preprocessor_config.json is no dict")
    square = {"height": size, "width": size}
    for key, wanted in (
        ("do_resize", [True]),
        ("do_center_crop", [True]),
        ("do_normalize", [True]),
        ("do_rescale", [True]),
        ("resample", [3]),
        ("size", [size, {"shortest_edge": size}]),
        ("crop_size", [size, square]),
        ("rescale_factor", [1 / 255, 0.00392156862745098]),
    ):
        if pixels.get(key) is not None and pixels[key] not in wanted:
            raise ValueError(
                f"its preprocessor_config.json says {key}: {str(pixels[key])[:40]}, which this code does not do"
            )
    return preprocessing(pixels.get("image_mean"), pixels.get("image_std"))
