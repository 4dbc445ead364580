"""What a run starts from: a new model, or one that is to be fine-tuned, of which the run's folder keeps a copy."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checkpoints import load, save
from ..data import TarSet
from ..init import initialize, model_config
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..tree import flatten, to_device, tree_map
from .batches import texts_of

KEPT = "start.safetensors"


def new_model(data, config):
    """A CLIP that has learned nothing, and a tokenizer: for the captions of a PictureSet; for tars, CLIP's own."""
    of_clip = isinstance(data, TarSet)
    tokenizer = Tokenizer.clip() if of_clip else Tokenizer.train(texts_of(data), config.vocab_size)
    text = {"vocab_size": tokenizer.vocab_size, "context_length": config.context_length}
    described = model_config(config.model, **text)
    return CLIP(initialize(described, config.seed), described, tokenizer)


def in_float32(clip):
    """A copy of a CLIP, on the CPU and in float32, as parameters are trained. Raises ValueError for what is none."""
    if not isinstance(clip, CLIP):
        raise ValueError(f"start is a {type(clip).__name__}; give a CLIP, such as miniclip.load('emoji').")
    params = to_device(clip.params, "cpu")
    return replace(clip, params=tree_map(lambda leaf: np.array(leaf, np.float32, order="C"), params))


def blended(start, tuned, share):
    """(1 - share) start + share tuned, of two trees of parameters; `tuned` itself where share is 1.

    Between a model and what fine-tuning makes of it lie models that have learned the new and forgotten little.
    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
    """
    if share == 1:
        return tuned
    return tree_map(lambda old, new: ((1 - share) * old + share * new).astype(new.dtype), start, tuned)


def origin(clip):
    """{"sha256": of parameters, configuration and tokenizer, and "checkpoint": its name, where `about` says it}."""
    digest = hashlib.sha256(json.dumps([clip.config, clip.tokenizer.to_json()], sort_keys=True).encode())
    for name, leaf in flatten(clip.params).items():
        digest.update(f"{name} {leaf.shape} ".encode())
        digest.update(leaf)
    name = {"checkpoint": clip.about["checkpoint"]} if "checkpoint" in clip.about else {}
    return name | {"sha256": digest.hexdigest()}


def kept_start(out):
    """The CLIP that the run in a folder was started from, or None where that was a new one. Raises as `load` does."""
    path = Path(out) / KEPT
    return load(path) if path.exists() and path.with_name("last.safetensors").exists() else None


def keep_start(out, clip):
    """Keep the CLIP that a run begins with, None for a new one.

    Raises ValueError where the folder holds what another run began with, and OSError where it cannot be written.
    """
    path = out / KEPT
    if path.exists() and (clip is None or origin(load(path))["sha256"] != origin(clip)["sha256"]):
        raise ValueError(f"{path} is what another run was to start from, which took no step: choose another --out.")
    if clip is not None and not path.exists():
        save(clip, path)
