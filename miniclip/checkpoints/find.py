"""Where the weights of a model are: a file, a folder, or a copy that someone downloaded earlier.

Nothing is downloaded here. A name of the Hugging Face Hub, `owner/name`, is looked for in the cache that its
own programs fill, and a name of OpenAI's, such as ViT-B/32, in the folder where OpenAI's program keeps it.
"""

import os
import re
from pathlib import Path

from .known import LAION

# In the order in which they are taken where a folder holds several.
WEIGHTS = """
    open_clip_model.safetensors model.safetensors model.safetensors.index.json open_clip_pytorch_model.safetensors
    open_clip_pytorch_model.bin pytorch_model.bin pytorch_model.bin.index.json
""".split()
OPENAI = {  # the same weights on the Hub
    **{f"RN{kind}": f"timm/resnet{kind}_clip.openai" for kind in ("50", "101", "50x4", "50x16", "50x64")},
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
FOLDERS = {  # that hold no weights of the names above: what one finds there, and what it is
    "last.safetensors": "is a training run that has not finished: go on with train --resume",
    "adapter_config.json": "is an adapter (PEFT, LoRA): merge it into its model, merge_and_unload, and save that",
    "modules.json": "is a folder of sentence-transformers: load the folder in it that holds a CLIPModel, 0_CLIPModel",
    "checkpoint-*": "is a folder of Hugging Face's Trainer: load one of its checkpoint-… folders, if it is a CLIPModel",
    "trainer_state.json": "is a folder of Hugging Face's Trainer without a model's weights: save the model there",
    "checkpoints/epoch_*.pt": "is a training run of open_clip: load one of its checkpoints/epoch_….pt",
    "epoch_*.pt": "holds checkpoints of open_clip's training: load one of them, epoch_….pt",
    "global_step*": "is a checkpoint of DeepSpeed: make one file of it, with its zero_to_fp32.py",
    "*.distcp": "is a checkpoint of FSDP in pieces: torch.distributed.checkpoint.format_utils makes one file of it",
    "model_index.json": "is a folder of diffusers, no CLIP",
    "*.onnx": "holds a model for ONNX, which cannot be read: get its safetensors",
    "tf_model.h5": "holds weights for TensorFlow: get the safetensors",
    "flax_model.msgpack": "holds weights for Flax: get the safetensors",
}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# Variables that move the Hub's cache, and where it is below them.
CACHES = {"HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}


def find_weights(name_or_path):
    """The file with the weights (or the list of its shards) that a file, folder or name stands for: a Path.

    Raises FileNotFoundError with what was looked for, where, and how to get it, or with what a folder is instead.
    """
    path, name = Path(name_or_path), str(name_or_path)
    hub_name = {**OPENAI, **LAION}.get(name, name)
    if path.is_dir():
        found, path = weights_in(path), path / "model.safetensors"
    elif path.exists():
        found = path
    elif HUB_NAME.fullmatch(hub_name):
        place = Path.home() / ".cache" / "clip" / f"{re.sub('[/@]', '-', name)}.pt" if name in OPENAI else path
        found = place if place.is_file() else in_hub_cache(hub_name)
        if not found:
            where = f"there is no {place}, and no {hub_name} in {hub_cache()}"
            raise FileNotFoundError(f"{where}: `hf download {hub_name}` fetches it if the Hugging Face Hub has it.")
    else:
        found = None
    if not found and (instead := what_folder(path.parent)):
        raise FileNotFoundError(f"there is no model in {path.parent} that can be loaded: it {instead}.")
    if not found:
        raise FileNotFoundError(f"there is no {path}: load 'emoji', a checkpoint, or the folder of a training run.")
    return found


def weights_in(folder):
    """The first of `WEIGHTS` that this folder holds, or None."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def what_folder(folder):
    """What a folder without weights that can be loaded is instead, and what to do; or None where nobody knows."""
    return next((what for pattern, what in FOLDERS.items() if any(folder.glob(pattern))), None) or _one_file(folder)


def _one_file(folder):
    """The other files of weights in a folder, which a caller may have meant."""
    files = sorted(file.name for end in ("safetensors", "pt", "pth", "bin") for file in folder.glob(f"*.{end}"))
    below = sorted(f"{file.parent.name}/{file.name}" for name in WEIGHTS for file in folder.glob(f"*/{name}"))
    if files or below:
        return f"holds no weights by a known name, but {', '.join((files or below)[:3])}: name the one that is meant"
    return None


def hub_cache():
    """The folder in which Hugging Face's programs keep what they download."""
    for variable, below in CACHES.items():
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser() / below
    return Path.home() / ".cache" / "huggingface" / "hub"


def in_hub_cache(name):
    """The weights of `owner/name` in the cache: those of its main branch, else of any snapshot; or None."""
    model = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        main = (model / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = None
    snapshots = sorted((model / "snapshots").glob("*"), key=lambda snapshot: (snapshot.name != main, snapshot))
    return next((found for snapshot in snapshots if (found := weights_in(snapshot))), None)


def name_of(folder):
    """What to call a folder of weights: its own name or, of a snapshot in the cache, the model's, owner/name."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.name
