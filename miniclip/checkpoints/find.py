"""Where the weights of a model lie: a file, a folder, or a copy that someone downloaded earlier.

Nothing is downloaded here. A name of the Hugging Face Hub, `owner/name`, is looked for in the cache that its
own programs fill, and a name of OpenAI's, such as ViT-B/32, in the folder where OpenAI's program keeps it.
"""

import os
import re
from pathlib import Path

# In the order in which they are taken where a folder holds several.
WEIGHTS = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
OPENAI = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",  # the same weights on the Hub
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def find_weights(name_or_path):
    """The file with the weights (or the list of its shards) that a file, folder or name stands for: a Path.

    Raises FileNotFoundError with what was looked for, where, and how to get it.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if path.is_dir():
        return weights_in(path) or _none(path / "model.safetensors")
    if path.exists():
        return path
    if name in OPENAI:
        place = Path.home() / ".cache" / "clip" / (re.sub("[/@]", "-", name) + ".pt")
        found = place if place.is_file() else in_hub_cache(OPENAI[name])
        if not found:
            raise FileNotFoundError(
                f"there is no {place}, and no {OPENAI[name]} in {hub_cache()}: "
                f"`hf download {OPENAI[name]}` fetches the weights of {name}."
            )
        return found
    if HUB_NAME.fullmatch(name):
        found = in_hub_cache(name)
        if not found:
            raise FileNotFoundError(
                f"there is no {name}, neither here nor in {hub_cache()}: if it is a model of the "
                f"Hugging Face Hub, `hf download {name}` fetches it."
            )
        return found
    return _none(path)


def weights_in(folder):
    """The first of `WEIGHTS` that this folder holds, or None."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def hub_cache():
    """The folder in which Hugging Face's programs keep what they download, as its variables say."""
    for variable, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser() / below
    return Path.home() / ".cache" / "huggingface" / "hub"


def in_hub_cache(name):
    """The weights of `owner/name` in the cache: those of its main branch, else of any snapshot; or None."""
    model = hub_cache() / f"models--{name.replace('/', '--')}"
    snapshots = sorted((model / "snapshots").glob("*"))
    try:
        main = (model / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = None
    snapshots.sort(key=lambda snapshot: snapshot.name != main)
    return next((found for snapshot in snapshots if (found := weights_in(snapshot))), None)


def name_of(folder):
    """What to call a folder of weights: its own name or, of a snapshot in the cache, the model's, owner/name."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.name


def _none(path):
    raise FileNotFoundError(f"there is no {path}: load 'emoji', a checkpoint, or the folder of a training run.")
