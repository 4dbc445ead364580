"""CLIP as OpenAI and open_clip keep it: their configurations, read and written.

Parameters here have OpenAI's names, which open_clip uses too: nothing is renamed. A configuration is open_clip's JSON
with the defaults filled in, or is made from the shapes of the arrays, as OpenAI's own code does.

What this code does not compute is refused by the name of its key: near enough would be silently wrong.
"""

import math
import re

import numpy as np

from ..preprocess import CLIP_PREPROCESS
from .untrusted import Damaged

VISION = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0}
# What may stand in open_clip's JSON only with the value that changes nothing, null or false where none is given …
NEUTRAL = """
    ls_init_value attentional_pool no_ln_pre final_ln_after_pool act_kwargs norm_kwargs qk_norm scaled_cosine_attn
    scale_heads scale_attn_inner scale_attn scale_fc timm_model_name embed_cls no_causal_mask proj_bias hf_model_name
    tokenizer_kwargs tokenizer_mode multimodal_cfg init_logit_bias output_tokens output_dict nonscalar_logit_scale
"""
FIXED = {"pos_embed_type": "learnable", "proj_type": "linear"} | dict.fromkeys(NEUTRAL.split())
# … and what changes nothing here, whatever it is.
IGNORED = """
    patch_dropout attn_pooler_queries attn_pooler_heads timm_model_pretrained timm_pool timm_proj timm_proj_bias
    timm_drop timm_drop_path pad_id hf_model_pretrained hf_proj_type hf_pooler_type hf_tokenizer_name
    init_logit_scale cast_dtype custom_text
""".split()
EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # that OpenAI's archives hold beside


# What training programs put between the parts of a name …
WRAPS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# … and the names by which a whole model is known: what stands before one stands before all.
ANCHORS = ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")


def arrays_from_openai(arrays):
    """{OpenAI's or Hugging Face's name: array}, without what training, tracing and open_clip put around the names.

    Raises ValueError where two arrays then have one name, or where there are two models.
    """
    plain = {name: re.sub("|".join(map(re.escape, WRAPS)), "", name) for name in arrays}
    ends = [(name, anchor) for name in plain.values() for anchor in ANCHORS if f".{name}".endswith(f".{anchor}")]
    before = sorted({name.removesuffix(anchor) for name, anchor in ends})
    if len(before) > 1:
        raise Damaged(
            f"it holds several models, {' and '.join(repr(start[:40]) for start in before[:3])}: save one alone"
        )
    ours = {}
    for name, array in arrays.items():
        short_name = plain[name].removeprefix(before[0]) if before else plain[name].removeprefix("module.")
        short_name = short_name.removeprefix("text.")  # open_clip's other class
        if short_name in EXTRAS or short_name.endswith(".num_batches_tracked"):
            continue
        if short_name in ours:
            raise Damaged(f"it holds {short_name[:80]} twice, once as {name[:80]}")
        ours[short_name] = array
    if "logit_scale" in ours and ours["logit_scale"].size == 1:
        ours["logit_scale"] = ours["logit_scale"].reshape(())
    return ours


# Names that tell what weights are that are no CLIP, and what to do.
OTHERS = {
    "lora_": "an adapter (LoRA): merge it into its model, with PEFT's merge_and_unload, and save that",
    "text_model.": "a text encoder alone: save the whole model",
    "model.diffusion_model.": "a diffusion model; its text encoder is no whole CLIP",
    "moment1": "the state of a training run: load the model.safetensors beside it, or go on with train --resume",
}


def what_it_is(arrays, notes):
    """ ": it is …", for arrays and notes that are no model that can be loaded, or "" where nobody knows."""
    if "data" in notes and isinstance(notes.get("config", notes.get("recipe")), dict):
        return f": it is {OTHERS['moment1']}"
    return next((f": it is {what}" for sign, what in OTHERS.items() for name in arrays if sign in name), "")


def arrays_to_open_clip(arrays):
    """The arrays, and the counters of batches that PyTorch's norms have beside their averages."""
    norms = [name.removesuffix("running_mean") for name in arrays if name.endswith(".running_mean")]
    return arrays | {f"{norm}num_batches_tracked": np.zeros((), np.int64) for norm in norms}


def config_from_shapes(arrays):
    """The configuration that a state dict in OpenAI's names has by its shapes: 64 numbers a head, QuickGELU.

    ValueError where a name that it looks at is missing or has the wrong number of dimensions.
    """

    def shape(name, ndim):
        if name not in arrays or arrays[name].ndim != ndim:
            raise ValueError(f"its names are those of OpenAI's CLIP, but {name} is missing or of another kind")
        return arrays[name].shape

    def count(prefix):
        """How many numbers follow this prefix in the names."""
        return len({name[len(prefix) :].partition(".")[0] for name in arrays if name.startswith(prefix)})

    def side(name):
        """How many cells a side the grid has that these positions, less the first, belong to."""
        return round(max(shape(name, 2)[0] - 1, 0) ** 0.5)

    def stack(prefix):
        hidden, width = shape(f"{prefix}resblocks.0.mlp.c_fc.weight", 2)
        return {"layers": count(f"{prefix}resblocks."), "mlp_ratio": mlp_ratio(hidden, width)}

    if "visual.proj" in arrays:
        width, _, _, patch = shape("visual.conv1.weight", 4)
        vision = {"image_size": patch * side("visual.positional_embedding"), "width": width, "patch_size": patch}
        vision |= stack("visual.transformer.")
    else:
        width = shape("visual.layer1.0.conv1.weight", 4)[0]
        vision = {"image_size": 32 * side("visual.attnpool.positional_embedding"), "width": width}
        vision["layers"] = [count(f"visual.layer{stage}.") for stage in range(1, 5)]
    context, width = shape("positional_embedding", 2)
    text = {"context_length": context, "vocab_size": shape("token_embedding.weight", 2)[0]}
    text |= {"width": width, "heads": max(1, width // 64)} | stack("transformer.")
    return {
        "quick_gelu": True,
        "embed_dim": shape("text_projection", 2)[1],
        "vision_cfg": short(vision),
        "text_cfg": short(text),
        "preprocess": preprocessing(),
    }


def config_from_open_clip(description):
    """The configuration that an open_clip_config.json, read, stands for. ValueError names what cannot be run."""
    model = part_of(description, "model_cfg")
    vision, text = part_of(model, "vision_cfg"), part_of(model, "text_cfg")
    _refuse_others(model, {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}, "model_cfg")
    _refuse_others(vision, {*VISION, "pool_type", "block_type"}, "vision_cfg")
    _refuse_others(text, {*TEXT, "pool_type", "eos_id", "block_type"}, "text_cfg")
    require(vision, "vision_cfg", pool_type=["tok"], block_type=[None, "default"])
    require(text, "text_cfg", pool_type=["argmax", "eos"], block_type=[None, "default"])
    end = {"pool_type": "argmax"} if "pool_type" in text else {}
    if text.get("pool_type") == "eos":
        end = {"eos_token_id": text.get("eos_id", 2)}
    pixels = part_of({"preprocess_cfg": {}} | description, "preprocess_cfg")
    only = {"mode": [None, "RGB"], "interpolation": [None, "bicubic"], "resize_mode": [None, "shortest", "squash"]}
    require(pixels, "preprocess_cfg", **only)
    vision = {key: vision.get(key, VISION[key]) for key in VISION}
    if isinstance(vision["layers"], list):
        del vision["patch_size"], vision["mlp_ratio"]
    return {
        "quick_gelu": model.get("quick_gelu", False),
        "embed_dim": model.get("embed_dim"),
        "vision_cfg": short(vision),
        "text_cfg": short({key: text.get(key, TEXT[key]) for key in TEXT} | end),
        "preprocess": preprocessing(pixels.get("mean"), pixels.get("std"), pixels.get("resize_mode")),
    }


def config_to_open_clip(config, own_vocabulary):
    """The open_clip_config.json for a configuration; own_vocabulary: the tokenizer files beside it are to be used."""
    text = {key: value for key, value in config["text_cfg"].items() if key != "eos_token_id"}
    end = config["text_cfg"].get("eos_token_id", text["vocab_size"] - 1)
    if end != text["vocab_size"] - 1 and "pool_type" not in text:
        text |= {"pool_type": "eos", "eos_id": end}
    if own_vocabulary:
        text["hf_tokenizer_name"] = "."  # any name will do: open_clip takes it from the folder
    pixels = preprocessing(*(config["preprocess"].get(key) for key in ("mean", "std", "resize_mode")))
    return {
        "model_cfg": {key: config[key] for key in ("embed_dim", "quick_gelu", "vision_cfg")} | {"text_cfg": text},
        "preprocess_cfg": pixels | {"size": config["vision_cfg"]["image_size"]},
    }


def part_of(description, key):
    """The dict that stands at a key of a JSON dict; ValueError where there is none."""
    part = description.get(key) if isinstance(description, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"it has no dict {key}")
    return part


def require(part, where, **allowed):
    """ValueError unless each key of this JSON dict has one of the values allowed, or is left out."""
    for key, values in allowed.items():
        if key in part and part[key] not in values:
            raise ValueError(f"{where}.{key} is {str(part[key])[:40]!r}, which this code cannot run")


def preprocessing(mean=None, std=None, resize_mode=None):
    """Our `preprocess` entry, CLIP's own where there is None."""
    given = {"mean": mean, "std": std, "resize_mode": resize_mode}
    return CLIP_PREPROCESS | {key: value for key, value in given.items() if value is not None}


def mlp_ratio(hidden, width):
    """hidden / width, so that int(width * ratio) is hidden again; 4 where it is 4."""
    ratio = hidden / max(width, 1)
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def short(part):
    """Without the entries that say what is so anyway."""
    return {key: value for key, value in part.items() if (key, value) not in (("head_width", 64), ("mlp_ratio", 4))}


def _refuse_others(part, known, where):
    for key, value in part.items():
        neutral = key in FIXED and (value is None or value is False or value == FIXED[key])
        if key not in known and key not in IGNORED and not neutral:
            raise ValueError(f"{where}.{str(key)[:40]} is {str(value)[:40]!r}, which this code cannot run")
