"""A model read from disk, whoever wrote it: what describes it is found, checked, and held against the arrays."""

import hashlib
import re
import warnings
from importlib import resources

import numpy as np

from ..model import CLIP
from ..tokenizer import CLIP_MERGES, Tokenizer
from ..tree import to_device, unflatten
from .describe import Said, as_said, describe, has_vocabulary, read_json
from .find import find_weights
from .huggingface import arrays_from_huggingface
from .openai import EXTRAS, arrays_from_openai, what_it_is
from .positions import resize_positions
from .safetensors_file import read_arrays
from .torch_file import read_torch
from .untrusted import Budget, Damaged
from .validate import check_config, check_parameters, check_tokenizer, shapes_for
from .vocabulary import read_tokenizer

LARGEST_SIDE_FILE = 1 << 23  # bytes
OLD_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 "  # how PyTorch's files of before 1.6 begin
MERGE, MOST_TIMES = 333, 12  # bytes that a tokenizer takes for each merge, and how many times the weights


def load(name_or_path, device="cpu", *, model=None, quick_gelu=None, head_width=None, image_size=None):
    """A CLIP from a name, a file or a folder, whoever wrote it.

    name_or_path: "emoji" (the checkpoint in the package); what `save` wrote, or the folder of a training run; a
    file or folder of open_clip, Hugging Face or OpenAI, weights as safetensors or as PyTorch's files; or a
    name whose copy was downloaded earlier: "openai/clip-vit-base-patch32", OpenAI's "ViT-B/32", or open_clip's of
    LAION, "ViT-B-32/laion2b_s34b_b79k".
    device: "cpu" or "gpu". Parameters in half precision come back as float32, in the order of `initialize`.

    Weights without a configuration beside them have that of their shapes. Shapes show neither which GELU it is nor
    how wide a head; a warning says what was assumed (QuickGELU, and 64), unless OpenAI's own file, a known
    architecture, LAION's name or the caller says it. What the caller says outranks what stands beside the weights:
    model: the name of an architecture, "ViT-B-32" of open_clip or "ViT-B/32" of OpenAI, which the shapes must have.
    quick_gelu: True or False. head_width: an int, or two: of the image encoder's heads and of the text encoder's.
    image_size: pictures of another size, S × S, for which the position embeddings are interpolated as open_clip
    does; the model then needs fine-tuning, but less than one that starts anew.

    Raises FileNotFoundError where there is nothing, saying how to get it, and ValueError for a file that is
    damaged, something else, of another architecture than its configuration says, of one that this code
    cannot run, or with numbers that are not finite.
    """
    said = Said(model, quick_gelu, head_width, image_size)
    if name_or_path != "emoji":
        return _load(find_weights(name_or_path), device, said)
    shipped = resources.files("miniclip") / "models" / "emoji.safetensors"
    if not shipped.is_file():
        raise FileNotFoundError(f"the checkpoint 'emoji' is missing from here ({shipped}): install miniclip again.")
    with resources.as_file(shipped) as path:
        return _load(path, device, said)


def _load(path, device, said):
    arrays, notes = _read_weights(path)
    from_elsewhere = all(isinstance(note, str) for note in notes.values())  # not what `write_arrays` was given
    ours, traced, warning = not from_elsewhere and "files" not in notes, EXTRAS[0] in arrays, ""
    try:
        arrays = arrays if ours else arrays_from_openai(arrays)
        hub, openai = (any(name.startswith(prefix) for name in arrays) for prefix in ("vision_model.", "visual."))
        if ours or not (hub or openai):
            for key in ("config", "tokenizer", "about"):
                if not isinstance(notes.get(key), dict):
                    raise Damaged(
                        f"it holds no {key}, so it is no model that miniclip saved{what_it_is(arrays, notes)}"
                    )
            arrays = {name: a for name, a in arrays.items() if not name.endswith(".num_batches_tracked")}
            config, tokenizer, about, folder = notes["config"], notes["tokenizer"], notes["about"], None
        else:
            if not from_elsewhere:
                _check_files(path, notes["files"])
            config, about, folder, warning = describe(path, arrays, hub, traced, said)
            tokenizer, about = None, notes["about"] if isinstance(notes.get("about"), dict) else about
        check_config(config, path)
        config = as_said(config, said) if ours else config
        names = list(shapes_for(arrays, config, path))
        arrays = arrays_from_huggingface(arrays, names) if folder and hub else arrays
        if said.image_size is not None:
            arrays, config = resize_positions(arrays, config, said.image_size)
    except Damaged as error:
        raise ValueError(f"{path} cannot be used: {error}.") from None
    check_parameters(arrays, config, path)
    tokenizer = _tokenizer(path, tokenizer, folder, config, sum(array.nbytes for array in arrays.values()))
    check_tokenizer(tokenizer, config, path)
    if warning:
        warnings.warn(f"{path}: {warning}", stacklevel=3)
    # In the order of `initialize`, not the file's, so that sums over all parameters give the same bits.
    leaves = {name: arrays[name] for name in names}
    leaves = {name: leaf.astype(np.float32) if leaf.itemsize == 2 else leaf for name, leaf in leaves.items()}
    return CLIP(to_device(unflatten(leaves), device), config, tokenizer, about)


def _read_weights(path):
    """Arrays and metadata of a safetensors file, a file of PyTorch's, or of all the shards that an index lists."""
    if path.name.endswith(".index.json"):
        places = read_json(path)
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


def _tokenizer(path, description, folder, config, size):
    """The tokenizer that the file describes, that lies in the folder, or CLIP's own; size: of the weights, in bytes."""
    count = config["text_cfg"]["vocab_size"]
    own = folder and has_vocabulary(folder)
    try:
        if description is not None or own:
            Budget(MOST_TIMES * size).spend(MERGE * (count - 514))
        if description is not None:
            merges = description.get("merges")
            if isinstance(merges, list) and len(merges) > count - 514:
                raise Damaged(f"it has {len(merges)} merges for {count} tokens: they do not belong together")
            return Tokenizer.from_json(description)
        if own:
            return read_tokenizer(folder, most=count - 514)
    except ValueError as error:
        raise ValueError(f"the tokenizer in {path} cannot be used: {error}") from None
    if count != CLIP_MERGES + 514:
        raise ValueError(
            f"{path} has {count} tokens and no vocabulary beside it: put its merges.txt and vocab.json there."
        )
    return Tokenizer.clip()
