"""Models on disk: saved so that they open here and elsewhere, and loaded from all that holds a CLIP.

    miniclip       one sealed file (sealed.py): parameters, configuration, tokenizer and `about`
    open_clip      a folder: open_clip_config.json, open_clip_model.safetensors, and the vocabulary
    huggingface    a folder: config.json, model.safetensors, preprocessor_config.json, and the vocabulary
    OpenAI's own   a file of PyTorch's, traced or plain (torch_file.py); read, not written

What is written here is sealed in every layout: the sha256 in the file of weights is of the files beside it
too, so no bit of any of them can change unnoticed. No file is trusted: a configuration must make sense,
and must fit the arrays, before anything is made from it.
"""

import hashlib
import json
import re
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from ..model import CLIP, parameter_shapes
from ..tokenizer import CLIP_MERGES, END, START, Tokenizer
from ..tree import flatten, to_device, unflatten
from .find import find_weights, name_of
from .huggingface import from_huggingface, from_huggingface_arrays, to_huggingface, to_huggingface_arrays
from .openai import config_from_shapes, counters, from_open_clip, from_openai, to_open_clip
from .safetensors_file import read_arrays, sealed, write_arrays, write_files
from .torch_file import read_torch
from .validate import check_config, check_parameters, check_tokenizer

LARGEST_JSON, LARGEST_SIDE_FILE = 1 << 19, 1 << 23  # bytes
FOLDERS = {"open_clip": "open_clip_model.safetensors", "huggingface": "model.safetensors"}  # layout: its weights


def save(clip, path, layout="miniclip", half=False):
    """Write a model so that `load` reads it: to one file, or in a layout of others to a folder that is made.

    layout: "miniclip"; "open_clip", for open_clip.create_model_and_transforms("local-dir:" + path); or
    "huggingface", for transformers.CLIPModel.from_pretrained(path). half: matrices in float16, which halves the
    file; vectors (biases, norms) and logit_scale stay as they are, for they are few, and a running
    variance may not fit.
    Raises ValueError where a parameter is not finite or does not fit the configuration, for another layout,
    a ResNet as "huggingface", or a folder that holds a model in the other layout: nothing is then written,
    and what was there stays. FileNotFoundError where the folder to write to is not there.
    """
    if layout not in ("miniclip", *FOLDERS):
        raise ValueError(f"there is no layout {layout!r}: save as miniclip, open_clip or huggingface.")
    check_config(clip.config, "this model")
    arrays = flatten(to_device(clip.params, "cpu"))
    if half:
        with np.errstate(over="ignore"):  # what overflows is refused below, by its name
            arrays = {name: a.astype(np.float16) if a.ndim > 1 else a for name, a in arrays.items()}
    check_parameters(arrays, clip.config, "this model")
    if layout == "miniclip":
        own = {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": clip.about}
        write_arrays(path, arrays, own)
    else:
        _save_folder(clip, Path(path), layout, arrays)


def _save_folder(clip, folder, layout, arrays):
    check_tokenizer(clip.tokenizer, clip.config, "this model")
    vocabulary = _vocabulary(clip.tokenizer, clip.config["text_cfg"]["context_length"])
    if layout == "huggingface":
        config, pixels = to_huggingface(clip.config, clip.tokenizer)
        beside = {"config.json": config, "preprocessor_config.json": pixels}
        arrays = to_huggingface_arrays(arrays)
    else:
        beside = {"open_clip_config.json": to_open_clip(clip.config, len(clip.tokenizer.merges) != CLIP_MERGES)}
        arrays = counters(arrays)
    beside = {name: json.dumps(what, indent=2, sort_keys=True, allow_nan=False) + "\n" for name, what in beside.items()}
    beside = {name: text.encode() for name, text in (vocabulary | beside).items()}
    seal = {"layout": layout, "about": clip.about, "files": {name: _sha256(text) for name, text in beside.items()}}
    weights = sealed(folder / FOLDERS[layout], arrays, seal, format="pt")
    other = next(folder / name for key, name in FOLDERS.items() if key != layout)
    if other.exists():
        raise ValueError(f"{folder} already holds {other.name}, a model in another layout: choose another folder.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and the layout {layout} is a folder: choose another name.")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder.parent} to make {folder.name} in.")
    folder.mkdir(exist_ok=True)
    # The weights last: with them the files beside them begin to count.
    write_files({folder / name: text for name, text in beside.items()} | {folder / FOLDERS[layout]: weights})


def _vocabulary(tokenizer, context_length):
    """{name of a file: text}, from which open_clip and transformers make this tokenizer."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True, **special}
    return {
        "vocab.json": json.dumps(tokenizer.ids, ensure_ascii=False) + "\n",
        "merges.txt": "\n".join(["#version: 0.2", *tokenizer.merges]) + "\n",
        "tokenizer_config.json": json.dumps(about, indent=2) + "\n",
    }


def load(name_or_path, device="cpu"):
    """A CLIP from a name, a file or a folder, whoever wrote it.

    name_or_path: "emoji" (the checkpoint in the package); what `save` wrote, or the folder of a training run; a
    file or folder of open_clip, Hugging Face or OpenAI, weights as safetensors or as PyTorch's files; or a
    name whose copy was downloaded earlier, "openai/clip-vit-base-patch32" or OpenAI's "ViT-B/32".
    device: "cpu" or "gpu". Parameters in half precision come back as float32, in the order of `initialize`.
    Without a configuration beside it, OpenAI's state dict has that of its shapes, with QuickGELU.
    Raises FileNotFoundError where there is nothing, saying how to get it, and ValueError for a file that is
    damaged, something else, of another architecture than its configuration says, of one that this code
    cannot run, or with numbers that are not finite.
    """
    if name_or_path == "emoji":
        shipped = files("miniclip") / "models" / "emoji.safetensors"
        if not shipped.is_file():
            raise FileNotFoundError(
                f"the checkpoint 'emoji' is missing from this installation ({shipped}): "
                "install miniclip again, or train a model and load that."
            )
        with as_file(shipped) as path:
            return _load(path, device)
    return _load(find_weights(name_or_path), device)


def _load(path, device):
    arrays, notes = _read_weights(path)
    ours = "files" not in notes and not all(isinstance(note, str) for note in notes.values())
    if not ours:
        arrays = from_openai(arrays)
    if ours or not any(name.startswith(("visual.", "vision_model.")) for name in arrays):
        for key in ("config", "tokenizer", "about"):
            if not isinstance(notes.get(key), dict):
                raise ValueError(f"{path} holds no {key}, so it is no model that miniclip saved.")
        arrays = {name: a for name, a in arrays.items() if not name.endswith(".num_batches_tracked")}
        config, about, folder = notes["config"], notes["about"], None
    else:
        config, about, folder = _described(path, arrays, notes)
    check_config(config, path)
    shapes = parameter_shapes(config)
    if folder and "visual.conv1.weight" not in arrays:
        arrays = from_huggingface_arrays(arrays, shapes)
    check_parameters(arrays, config, path)
    tokenizer = _tokenizer(path, notes["tokenizer"] if ours else None, folder, config)
    check_tokenizer(tokenizer, config, path)
    # In the order of `initialize`, not the file's, so that sums over all parameters give the same bits.
    params = unflatten(
        {name: arrays[name].astype(np.float32) if arrays[name].itemsize == 2 else arrays[name] for name in shapes}
    )
    return CLIP(to_device(params, device), config, tokenizer, about)


def _read_weights(path):
    """Arrays and metadata of a safetensors file, a file of PyTorch's, or of all the shards that an index lists."""
    if path.name.endswith(".index.json"):
        places = _read_json(path)
        places = places.get("weight_map") if isinstance(places, dict) else None
        shards = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
        if not shards or not all(re.fullmatch(r"[\w-][\w.-]{,99}\.(safetensors|bin)", s, re.ASCII) for s in shards):
            raise ValueError(f"{path} is no list of files of weights: its weight_map names none, or none that can be.")
        arrays = {}
        for shard in shards:
            more = _read_weights(path.with_name(shard))[0]
            if both := sorted(arrays.keys() & more.keys()):
                raise ValueError(f"{both[0][:80]} is in two of the files that {path} lists.")
            arrays |= more
        return arrays, {}
    if path.is_file():
        with open(path, "rb") as file:
            start = file.read(10)
        if start.startswith(b"PK\3\4"):
            return read_torch(path), {}
        if start.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 "[:10]):
            raise ValueError(
                f"{path} is a pickle in PyTorch's form of before 1.6, and no checkpoint that can be read "
                "safely: load it in PyTorch and torch.save its state_dict again."
            )
    return read_arrays(path)


def _described(path, arrays, notes):
    """Configuration, about and the folder of the files that describe weights in the layout of others."""
    folder, hub = path.parent, any(name.startswith("vision_model.") for name in arrays)
    file = folder / ("config.json" if hub else "open_clip_config.json")
    _check_seal(path, notes)
    try:
        if not hub and not file.is_file() and not path.name.startswith("open_clip"):
            config, about = config_from_shapes(arrays), {"layout": "openai", "configuration": "from the shapes"}
            return config, about | {"file": path.name}, None
        description = _read_json(file)
        if hub:
            config = from_huggingface(description, _pixels_beside(folder))
        else:
            config = from_open_clip(description)
            if description["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and not _has_vocabulary(folder):
                raise ValueError("text_cfg.hf_tokenizer_name asks for a tokenizer that is not beside it")
    except ValueError as error:
        raise ValueError(f"{path} cannot be used, by {file.name} or its shapes: {error}.") from None
    about = {"layout": "huggingface" if hub else "open_clip", "folder": name_of(folder), "file": path.name}
    return config, notes["about"] if isinstance(notes.get("about"), dict) else about, folder


def _pixels_beside(folder):
    """What says how pictures are prepared: preprocessor_config.json, or its part of processor_config.json, or None."""
    if (folder / "preprocessor_config.json").is_file():
        return _read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        both = _read_json(folder / "processor_config.json")
        return both.get("image_processor") if isinstance(both, dict) else both
    return None


def _check_seal(path, notes):
    """ValueError unless the files beside these weights, if `save` wrote them, are those that it wrote."""
    if all(isinstance(note, str) for note in notes.values()):  # from elsewhere
        return
    wanted = notes["files"]
    if not isinstance(wanted, dict) or not all(re.fullmatch(r"\w+\.(json|txt)", name, re.ASCII) for name in wanted):
        raise ValueError(f"{path} is sealed, but not by `save`.")
    for name, digest in wanted.items():
        file = path.with_name(name)
        if not file.is_file():
            raise ValueError(f"{file} is missing, which was written with {path.name}: copy the whole folder.")
        if file.stat().st_size > LARGEST_SIDE_FILE or _sha256(file.read_bytes()) != digest:
            raise ValueError(f"{file} is not the one that was written with {path.name}: its sha256 differs.")


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _read_json(path):
    """What a small JSON file holds. ValueError where it is damaged or too large, or is not there."""
    if not path.is_file():
        raise ValueError(f"{path} is missing, which says what kind of model it is")
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} has more than {LARGEST_JSON} bytes, too many for a configuration")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, and no JSON ({type(error).__name__}: {str(error)[:100]})") from None


def _has_vocabulary(folder):
    return any(
        all((folder / name).is_file() for name in names)
        for names in (("merges.txt", "vocab.json"), ("tokenizer.json",))
    )


def _tokenizer(path, description, folder, config):
    """The tokenizer that the file describes, that lies in the folder, or CLIP's own."""
    try:
        if description is not None:
            return Tokenizer.from_json(description)
        if folder and _has_vocabulary(folder):
            return Tokenizer.from_file(folder)
    except ValueError as error:
        raise ValueError(f"the tokenizer in {path} cannot be used: {error}") from None
    if config["text_cfg"]["vocab_size"] != CLIP_MERGES + 514:
        raise ValueError(
            f"{path} has no vocabulary beside it, and {config['text_cfg']['vocab_size']} tokens, "
            "which is not CLIP's own: put its merges.txt and vocab.json there."
        )
    return Tokenizer.clip()
