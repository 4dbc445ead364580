"""Where the weights of a model are: a file, a folder, or a copy that someone downloaded earlier.

Nothing is downloaded here. A name of the Hugging Face Hub, `owner/name`, is looked for in the cache that its
own programs fill, and a name of OpenAI's, such as ViT-B/32, in the folder where OpenAI's program keeps it.
"""

import os
import re
from pathlib import Path

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
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# Variables that move the Hub's cache, and where it is below them.
CACHES = {"HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}


def find_weights(name_or_path):
    """The file with the weights (or the list of its shards) that a file, folder or name stands for: a Path.

    Raises FileNotFoundError with what was looked for, where, and how to get it.
    """
    path, name = Path(name_or_path), str(name_or_path)
    hub_name = OPENAI.get(name, name)
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
    if not found:
        raise FileNotFoundError(f"there is no {path}: load 'emoji', a checkpoint, or the folder of a training run.")
    return found


def weights_in(folder):
    """The first of `WEIGHTS` that this folder holds, or None."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


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
