"""A model written so that `load` reads it, and open_clip or transformers where its layout is theirs."""

import hashlib
import json
from pathlib import Path

import numpy as np

from ..tokenizer import CLIP_MERGES, END, START
from ..tree import flatten, to_device
from .find import find_weights
from .huggingface import arrays_to_huggingface, config_to_huggingface
from .openai import arrays_to_open_clip, config_to_open_clip
from .safetensors_file import read_arrays, with_checksum, write_arrays, write_files
from .validate import check_config, check_parameters, check_tokenizer

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
    if not isinstance(clip.about, dict):
        raise ValueError(f"the `about` of this model is a {type(clip.about).__name__}; it must be a dict.")
    arrays = flatten(to_device(clip.params, "cpu"))
    if half:
        with np.errstate(over="ignore"):  # what overflows is refused below, by its name
            arrays = {name: a.astype(np.float16) if a.ndim > 1 else a for name, a in arrays.items()}
    check_parameters(arrays, clip.config, "this model")
    check_tokenizer(clip.tokenizer, clip.config, "this model")
    if layout == "miniclip":
        metadata = {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": clip.about}
        write_arrays(path, arrays, metadata)
    else:
        _save_folder(clip, Path(path), layout, arrays)


def amend(name_or_path, notes):
    """Add a dict of JSON values to the `about` of a model that `save` wrote; returns the path of its file.

    The file is replaced in one step, and all else that it holds stays, bit for bit.
    Raises ValueError for a file that `save` did not write, and what `find_weights` and `write_arrays` raise.
    """
    path = find_weights(name_or_path)
    try:
        arrays, metadata = read_arrays(path)
    except ValueError:  # a file of PyTorch's, or damaged
        metadata = {}
    if not isinstance(metadata.get("about"), dict):
        raise ValueError(
            f"{path} is not a file that miniclip saved, so nothing can be added to it: write a new one (--out)."
        )
    form = {"format": "pt"} if "files" in metadata else {}
    metadata["about"] = metadata["about"] | notes
    write_files({path: with_checksum(path, arrays, metadata, **form)})
    return path


def _save_folder(clip, folder, layout, arrays):
    if layout == "huggingface":
        config, pixels = config_to_huggingface(clip.config, clip.tokenizer)
        described = {"config.json": config, "preprocessor_config.json": pixels}
        arrays = arrays_to_huggingface(arrays)
    else:
        own_vocabulary = len(clip.tokenizer.merges) != CLIP_MERGES
        described = {"open_clip_config.json": config_to_open_clip(clip.config, own_vocabulary)}
        arrays = arrays_to_open_clip(arrays)
    texts = _vocabulary(clip.tokenizer, clip.config["text_cfg"]["context_length"])
    texts |= {n: json.dumps(d, indent=2, sort_keys=True, allow_nan=False) + "\n" for n, d in described.items()}
    beside = {folder / name: text.encode() for name, text in texts.items()}
    digests = {path.name: hashlib.sha256(content).hexdigest() for path, content in beside.items()}
    path = folder / FOLDERS[layout]
    weights = with_checksum(path, arrays, {"layout": layout, "about": clip.about, "files": digests}, format="pt")
    other = next(name for name in FOLDERS.values() if name != path.name)
    if (folder / other).exists():
        raise ValueError(f"{folder} already holds {other}, a model in another layout: choose another folder.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, and the layout {layout} is a folder: choose another name.")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder.parent} to make {folder.name} in.")
    folder.mkdir(exist_ok=True)
    write_files(beside | {path: weights})  # the weights last: with them the files beside them begin to count


def _vocabulary(tokenizer, context_length):
    """{name of a file: text}, from which open_clip and transformers make this tokenizer."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True, **special}
    return {
        "vocab.json": json.dumps(tokenizer.ids, ensure_ascii=False) + "\n",
        "merges.txt": "\n".join(["#version: 0.2", *tokenizer.merges]) + "\n",
        "tokenizer_config.json": json.dumps(about, indent=2) + "\n",
    }
