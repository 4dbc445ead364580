"""Models on disk: one safetensors file that holds the parameters and everything needed to use them.

    8 bytes      the header's length
    header       JSON: each array's name, dtype, shape and place, and one entry of metadata,
                 "miniclip": "sha256 <digest> <JSON>"
    the rest     the numbers, little-endian, in C order

The digest is of the metadata and of the name, dtype, shape and bytes of every array, so no bit of the
file can change unnoticed. A file is written beside its place and moved there once it is safe on the
disk: whenever the power fails, the old one or the new one is there, whole.

No file is trusted. Its header must fit the file's size before anything is read, and a configuration
must fit the arrays before anything is made from it.
"""

import hashlib
import json
import math
import os
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from .model import CLIP, parameter_shapes
from .tokenizer import Tokenizer
from .tree import flatten, to_device, unflatten

LARGEST_HEADER = 1 << 22               # bytes; CLIP's own vocabulary takes one million of them
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
OTHER_FILES = {b"PK": "a zip archive, as PyTorch's .pt files are", b"\x80": "a pickle", b"<": "a web page",
               b"{": "JSON text", b"version https://git-lfs": "a Git LFS pointer to a file that was not fetched"}
LARGEST = {"layers": 1 << 8, "image_size": 1 << 12, "vocab_size": 1 << 20}     # of a configuration; else 1 << 14


def save(clip, path, half=False):
    """Write a model to one file that `load` reads: parameters, configuration, tokenizer and `about`.

    half: matrices in float16, which halves the file; vectors (biases, norms) and logit_scale stay as
    they are, for they are few, and a running variance may not fit.
    Raises ValueError where a parameter is not finite or does not fit the configuration: nothing is
    then written, and a file that was there stays.
    """
    check_config(clip.config, "this model")
    arrays = flatten(to_device(clip.params, "cpu"))
    if half:
        with np.errstate(over="ignore"):               # what overflows is refused below, by its name
            arrays = {name: a.astype(np.float16) if a.ndim > 1 else a for name, a in arrays.items()}
    check_parameters(arrays, clip.config, "this model")
    write_arrays(path, arrays, {"config": clip.config, "tokenizer": clip.tokenizer.to_json(), "about": clip.about})


def load(name_or_path, device="cpu"):
    """A CLIP from "emoji" (the checkpoint in the package), a file, or the folder of a training run.

    device: "cpu" or "gpu". Parameters in half precision come back as float32.
    Raises FileNotFoundError where there is nothing, and ValueError for a file that is damaged, something
    else, of another architecture than its configuration says, or with numbers that are not finite.
    """
    if name_or_path == "emoji":
        shipped = files(__package__) / "models" / "emoji.safetensors"
        if not shipped.is_file():
            raise FileNotFoundError(f"the checkpoint 'emoji' is missing from this installation ({shipped}): "
                                    "install miniclip again, or train a model and load that.")
        with as_file(shipped) as path:
            return _load(path, device)
    path = Path(name_or_path)
    if path.is_dir():
        path /= "model.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: load 'emoji', a checkpoint, or the folder of a training run.")
    return _load(path, device)


def _load(path, device):
    arrays, metadata = read_arrays(path)
    for key in ("config", "tokenizer", "about"):
        if not isinstance(metadata.get(key), dict):
            raise ValueError(f"{path} holds no {key}, so it is no model that miniclip saved.")
    config = metadata["config"]
    check_config(config, path)
    arrays = {name: a for name, a in arrays.items() if not name.endswith(".num_batches_tracked")}
    check_parameters(arrays, config, path)
    try:
        tokenizer = Tokenizer.from_json(metadata["tokenizer"])
    except ValueError as error:
        raise ValueError(f"the tokenizer in {path} cannot be used: {error}") from None
    end = config["text_cfg"].get("eos_token_id", config["text_cfg"]["vocab_size"] - 1)
    if tokenizer.end_token != end:
        raise ValueError(f"{path} holds a tokenizer that ends a text with token {tokenizer.end_token} and a model "
                         f"that looks for {str(end)[:20]}: they do not belong together.")
    # In the order of `initialize`, not the file's, so that sums over all parameters give the same bits.
    leaves = {name: arrays[name] for name in parameter_shapes(config)}
    params = unflatten({name: a.astype(np.float32) if a.itemsize == 2 else a for name, a in leaves.items()})
    return CLIP(to_device(params, device), config, tokenizer, metadata["about"])


def check_parameters(arrays, config, where):
    """ValueError, about `where`, unless {dotted name: array} are the finite parameters of a checked config."""
    shapes = parameter_shapes(config)
    wrong = [f"{name} is {arrays[name].shape}, not {shape}" if name in arrays else f"{name} is missing"
             for name, shape in shapes.items() if name not in arrays or arrays[name].shape != shape]
    wrong += [f"{name[:80]} is superfluous" for name in arrays if name not in shapes]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{where} is of another architecture than its configuration: {'; '.join(wrong[:3])}{more}.")
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{where} cannot be used: {name} is {array.dtype}, not floating-point.")
        if not np.isfinite(array).all():
            raise ValueError(f"{where} cannot be used: {name} is not finite in {array.dtype}.")


def check_config(config, where):
    """ValueError, about `where`, unless this dict describes a model, and one of a size that can be meant."""
    def require(good, key, value, wanted):
        if not good:
            value = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)[:60]
            raise ValueError(f"the configuration in {where} cannot be used: {key} is {value}, not {wanted}.")

    vision, words, pixels = parts = [config.get(key) for key in ("vision_cfg", "text_cfg", "preprocess")]
    require(all(isinstance(part, dict) for part in parts), "vision_cfg, text_cfg or preprocess", None, "a dict")
    stages, split = vision.get("layers"), vision.get("head_width", 64)
    resnet = isinstance(stages, (list, tuple))
    require(not resnet or len(stages) == 4, "vision_cfg.layers", stages, "one number, or a list of 4")
    numbers = [("embed_dim", config.get("embed_dim")), ("vision_cfg.head_width", split)]
    numbers += [("vision_cfg.layers", count) for count in (stages if resnet else [stages])]
    numbers += [(f"vision_cfg.{key}", vision.get(key)) for key in ("image_size", "width", "patch_size")[:3 - resnet]]
    numbers += [(f"text_cfg.{key}", words.get(key))
                for key in ("context_length", "vocab_size", "width", "heads", "layers")]
    for key, value in numbers:
        most = LARGEST.get(key.rpartition(".")[2], 1 << 14)
        require(type(value) is int and 1 <= value <= most, key, value, f"a whole number from 1 to {most}")
    width, size = vision["width"], vision["image_size"]
    require(words["width"] % words["heads"] == 0, "text_cfg.heads", words["heads"], f"a divisor of {words['width']}")
    width *= 32 if resnet else 1                       # that attention splits into heads
    require(width % split == 0, "vision_cfg.head_width", split, f"a divisor of {width}")
    least = 32 if resnet else vision["patch_size"]
    require(size >= least, "vision_cfg.image_size", size, f"at least {least}")
    require(isinstance(config.get("quick_gelu"), bool), "quick_gelu", config.get("quick_gelu"), "true or false")
    for key, least in (("mean", -math.inf), ("std", 0)):
        values = pixels.get(key)
        good = isinstance(values, (list, tuple)) and [type(v) in (int, float) and least < v < math.inf for v in values]
        require(good == [True] * 3, f"preprocess.{key}", values, f"a list of 3 numbers above {least}")


def write_arrays(path, arrays, metadata):
    """Write NumPy arrays {dotted name: array} and a dict of JSON values to one sealed safetensors file.

    The same content always gives the same bytes. A process killed in the middle leaves a file of the
    name `path` + ".tmp", which the next write replaces.
    Raises ValueError for what cannot be stored, FileNotFoundError where the folder is not there, OSError
    where the disk is full: a file that was there then stays.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file, so a checkpoint cannot take its place.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to.")
    # The library writes arrays that are not in C order wrongly and says nothing (0.8.0). And its
    # metadata have no fixed order, so there is only one entry.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.str not in DTYPES.values() or name == "__metadata__":
            raise ValueError(f"{name} of dtype {array.dtype} cannot be stored in {path}.")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata for {path} cannot be written as JSON: {error}.") from None
    content = to_bytes(arrays, {"miniclip": _seal(arrays, text)})
    if int.from_bytes(content[:8], "little") > LARGEST_HEADER:
        raise ValueError(f"the names and metadata for {path} take more than {LARGEST_HEADER} bytes.")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path):
    """Arrays {dotted name: array} and metadata of a safetensors file, its sha256 verified where it has one.

    The metadata are what `write_arrays` was given or, in a file from elsewhere, a dict of str. The arrays
    are writable views of one buffer of the file's size. bfloat16, which NumPy lacks, becomes float32.
    Raises FileNotFoundError, or ValueError naming a file that is damaged, cut short, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise (ValueError if path.exists() else FileNotFoundError)(f"there is no file {path}.")
    with open(path, "rb") as file:
        start = file.read(32)
        length, size = int.from_bytes(start[:8], "little"), os.fstat(file.fileno()).st_size
        try:
            if not 0 < length <= min(size - 8, LARGEST_HEADER):
                raise ValueError(f"it has {size} bytes and claims a header of {length}")
            with safe_open(path, "np"):
                pass                                   # the library holds the whole header against the file's size
            file.seek(8)
            text = file.read(length)
            if not text.rstrip(b" ").endswith(b"}"):   # which it does not do
                raise ValueError("its header is not filled up with spaces")
            header = json.loads(text)
            notes = header.pop("__metadata__", None) or {}
            numbers = np.fromfile(file, np.uint8, size - 8 - length)
            arrays = {name: _view(numbers, **entry) for name, entry in header.items()}
            return arrays, _unseal(arrays, notes)
        except (SafetensorError, ValueError, TypeError, RecursionError) as error:
            kinds = [kind for sign, kind in OTHER_FILES.items() if length > LARGEST_HEADER and start.startswith(sign)]
            what = kinds[0] if kinds else "damaged or cut short, or something else" if size else "empty"
            raise ValueError(f"{path} is {what}, and no checkpoint ({str(error)[:200]}).") from None


def _view(numbers, dtype, shape, data_offsets):
    """One array in the bytes (P,) that follow the header."""
    if dtype not in DTYPES:
        raise ValueError(f"it holds numbers of type {dtype}")
    array = numbers[slice(*data_offsets)].view(DTYPES[dtype]).reshape(shape)
    if dtype == "BF16":                                # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _seal(arrays, text):
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array)
    return f"sha256 {digest.hexdigest()} {text}"


def _unseal(arrays, notes):
    """The metadata that `write_arrays` was given, or the notes of a file from elsewhere."""
    # Either sign will do: no single bit, flipped, turns a sealed file into one from elsewhere.
    sealed = next((note for key, note in notes.items() if key == "miniclip" or note.startswith("sha256 ")), None)
    if sealed is None:
        return notes
    text = sealed[len("sha256 ") + 64 + 1:]            # what follows the digest
    if notes != {"miniclip": _seal(arrays, text)}:
        raise ValueError("what it holds is not what was written: the sha256 differs")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are no dict")
    return metadata
