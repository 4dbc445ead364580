"""A model read from disk, whoever wrote it: what describes it is found, checked, and held against the arrays."""

import hashlib
import json
import re
from importlib import resources

import numpy as np

from ..init import parameter_shapes
from ..model import CLIP
from ..tokenizer import CLIP_MERGES, Tokenizer
from ..tree import to_device, unflatten
from .find import find_weights, name_of
from .huggingface import arrays_from_huggingface, config_from_huggingface
from .openai import arrays_from_openai, config_from_open_clip, config_from_shapes
from .safetensors_file import read_arrays
from .torch_file import read_torch
from .validate import check_config, check_parameters, check_tokenizer
from .vocabulary import read_tokenizer

LARGEST_JSON, LARGEST_SIDE_FILE = 1 << 19, 1 << 23  # bytes
OLD_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 "  # how PyTorch's files of before 1.6 begin


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
    if name_or_path != "emoji":
        return _load(find_weights(name_or_path), device)
    shipped = resources.files("miniclip") / "models" / "emoji.safetensors"
    if not shipped.is_file():
        raise FileNotFoundError(f"the checkpoint 'emoji' is missing from here ({shipped}): install miniclip again.")
    with resources.as_file(shipped) as path:
        return _load(path, device)


def _load(path, device):
    arrays, notes = _read_weights(path)
    from_elsewhere = all(isinstance(note, str) for note in notes.values())  # not what `write_arrays` was given
    ours = not from_elsewhere and "files" not in notes
    if not ours:
        arrays = arrays_from_openai(arrays)
    hub, openai = (any(name.startswith(prefix) for name in arrays) for prefix in ("vision_model.", "visual."))
    if ours or not (hub or openai):
        for key in ("config", "tokenizer", "about"):
            if not isinstance(notes.get(key), dict):
                raise ValueError(f"{path} holds no {key}, so it is no model that miniclip saved.")
        arrays = {name: a for name, a in arrays.items() if not name.endswith(".num_batches_tracked")}
        config, tokenizer, about, folder = notes["config"], notes["tokenizer"], notes["about"], None
    else:
        if not from_elsewhere:
            _check_files(path, notes["files"])
        config, about, folder = _described(path, arrays, hub)
        tokenizer = None
        about = notes["about"] if isinstance(notes.get("about"), dict) else about
    check_config(config, path)
    shapes = parameter_shapes(config)
    if folder and hub:
        arrays = arrays_from_huggingface(arrays, shapes)
    check_parameters(arrays, config, path)
    tokenizer = _tokenizer(path, tokenizer, folder, config)
    check_tokenizer(tokenizer, config, path)
    # In the order of `initialize`, not the file's, so that sums over all parameters give the same bits.
    leaves = {name: arrays[name] for name in shapes}
    leaves = {name: leaf.astype(np.float32) if leaf.itemsize == 2 else leaf for name, leaf in leaves.items()}
    return CLIP(to_device(unflatten(leaves), device), config, tokenizer, about)


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
            start = file.read(len(OLD_PICKLE))
        if start.startswith(b"PK\3\4"):
            return read_torch(path), {}
        if start == OLD_PICKLE:
            raise ValueError(
                f"{path} is a pickle of PyTorch before 1.6, not safe to read: torch.save its state_dict again."
            )
    return read_arrays(path)


def _described(path, arrays, hub):
    """Configuration, about and the folder of the files that describe weights in the layout of others."""
    folder = path.parent
    try:
        if hub:
            layout = "huggingface"
            config = config_from_huggingface(_read_json(folder / "config.json"), _pixels_beside(folder))
        elif (folder / "open_clip_config.json").is_file() or path.name.startswith("open_clip"):
            layout, description = "open_clip", _read_json(folder / "open_clip_config.json")
            config = config_from_open_clip(description)
            if description["model_cfg"]["text_cfg"].get("hf_tokenizer_name") and not _has_vocabulary(folder):
                raise ValueError("text_cfg.hf_tokenizer_name asks for a tokenizer that is not beside it")
        else:
            about = {"layout": "openai", "configuration": "from the shapes", "file": path.name}
            return config_from_shapes(arrays), about, None
    except ValueError as error:
        raise ValueError(f"{path} cannot be used, by its configuration or its shapes: {error}.") from None
    return config, {"layout": layout, "folder": name_of(folder), "file": path.name}, folder


def _pixels_beside(folder):
    """What says how pictures are prepared: preprocessor_config.json, or its part of processor_config.json, or None."""
    if (folder / "preprocessor_config.json").is_file():
        return _read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        both = _read_json(folder / "processor_config.json")
        return both.get("image_processor") if isinstance(both, dict) else both
    return None


def _check_files(path, digests):
    """ValueError unless the files beside these weights are those that `save` wrote: {name: sha256}."""
    if not isinstance(digests, dict) or not all(re.fullmatch(r"\w+\.(json|txt)", name, re.ASCII) for name in digests):
        raise ValueError(f"{path} has a checksum, but `save` did not write it.")
    for name, digest in digests.items():
        file = path.with_name(name)
        if not file.is_file():
            raise ValueError(f"{file} is missing, which was written with {path.name}: copy the whole folder.")
        if file.stat().st_size > LARGEST_SIDE_FILE or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{file} is not the one that was written with {path.name}: its sha256 differs.")


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
    whole, merges, ids = ((folder / name).is_file() for name in ("tokenizer.json", "merges.txt", "vocab.json"))
    return whole or merges and ids


def _tokenizer(path, description, folder, config):
    """The tokenizer that the file describes, that lies in the folder, or CLIP's own."""
    try:
        if description is not None:
            return Tokenizer.from_json(description)
        if folder and _has_vocabulary(folder):
            return read_tokenizer(folder)
    except ValueError as error:
        raise ValueError(f"the tokenizer in {path} cannot be used: {error}") from None
    if (count := config["text_cfg"]["vocab_size"]) != CLIP_MERGES + 514:
        raise ValueError(
            f"{path} has {count} tokens and no vocabulary beside it: put its merges.txt and vocab.json there."
        )
    return Tokenizer.clip()
