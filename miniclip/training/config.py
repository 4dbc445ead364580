"""Everything that decides a training run, except the data's pixels and the number of threads."""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace

from ..data import Augmentation
from ..gpu import PRECISIONS
from ..init import MODELS
from .muon import OPTIMIZERS

FORMER_NAMES = {
    "batch": "batch_size", "shard": "micro_batch", "clip": "max_grad_norm", "average": "ema_decay",
    "strength": "augment_strength", "vocabulary": "vocab_size", "context": "context_length",
}  # fmt: skip
LATER = (  # what early versions did not have
    "freeze", "blend", "random_phrases", "random_words", "descriptions", "description_weight", "ring", "optimizer",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The same configuration, data and seed give the same bits on any number of threads."""

    model: str = "resnet-tiny"  # a name in init.MODELS
    steps: int = 600
    batch_size: int = 256  # pairs a step, no two of one concept
    micro_batch: int = 32  # pairs embedded together; norms take their statistics from one micro-batch
    optimizer: str = "adamw"  # or "muon", for the hidden matrices (see muon.py)
    learning_rate: float = 2e-3  # at its peak
    warmup: int = 50  # steps until then
    weight_decay: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    max_grad_norm: float = 1.0
    ema_decay: float = 0.99  # of the moving average of parameters that is evaluated and kept
    augment_strength: float = 1.0  # 0 is none
    augmentation: dict = field(default_factory=dict)  # parts of it that differ from data.augment's
    mix: float = 0.0  # share of pictures mixed out of two styles' drawings of one thing
    plain_names: float = 0.5  # share of captions that are the bare name, where things have one
    descriptions: float = 0.0  # share of captions that do not name the thing, where there are such; see PictureSet
    description_weight: float = 0.0  # in the loss, of a description beside each caption; 0: there is none
    random_phrases: float = 0.0  # share of the phrases around texts that are random, to be ignored
    random_words: float = 0.0  # share of random phrases that are words, where there are such; the others are tokens
    by_picture: bool = False  # draw all pictures equally often; else all concepts, however many pictures
    vocab_size: int = 1536  # tokens learned from the captions
    context_length: int = 24  # tokens a text may have
    evaluate_every: int = 0  # steps; 0 is only at the end
    checkpoint_every: int = 50  # steps
    log_every: int = 10  # steps
    recompute: bool = False  # forget activations and run micro-batches again: less memory, a third more time
    precision: str = "float32"  # of the encoders: float32, tf32, bfloat16 or float16 (see gpu/precision.py)
    seed: int = 0
    freeze: str = ""  # the encoder that stays as it is, "image" or "text": for fine-tuning
    blend: float = 1.0  # share of the fine-tuned parameters in the result; the rest is what it began with (see start)
    ring: bool = False  # among several processes: texts travel, and nobody holds all; slower, for the largest batches

    def __post_init__(self):
        least = {"steps": 1, "batch_size": 2, "micro_batch": 1, "checkpoint_every": 1, "log_every": 1, "seed": 0}
        least["context_length"] = 3  # start, a token, end; and one pair has nothing to be told from
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {value}.")
        for name in ("learning_rate", "max_grad_norm", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0, and finite.")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and less than 1.")
        for name in ("weight_decay", "warmup", "evaluate_every", "augment_strength", "description_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0, and finite.")
        for name in ("mix", "plain_names", "descriptions", "random_phrases", "random_words"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, between 0 and 1.")
        if not 0 < self.blend <= 1:
            raise ValueError(f"blend is {self.blend}; it is a share, more than 0 and at most 1.")
        if self.plain_names + self.descriptions > 1:
            both = f"{self.plain_names} and {self.descriptions}"
            raise ValueError(f"plain_names and descriptions are {both}; they are shares of one whole, at most 1.")
        parts = [part.name for part in fields(Augmentation)]
        if unknown := set(self.augmentation) - set(parts):
            raise ValueError(f"augmentation has no part {min(unknown)!r}; it has {', '.join(parts)}.")
        for name, choices in (("model", MODELS), ("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"there is no {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        if self.freeze not in ("image", "text", ""):
            raise ValueError(f"freeze is {self.freeze!r}; it must be 'image' or 'text', or '' for neither.")

    def to_json(self):
        """A dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, description):
        """What `to_json` described, by this version or one with other names. Raises ValueError for anything else."""
        if isinstance(description, dict):
            description = {FORMER_NAMES.get(name, name): value for name, value in description.items()}
            description = {known.name: known.default for known in fields(cls) if known.name in LATER} | description
            if set(description) == {known.name for known in fields(cls)}:
                with suppress(TypeError):  # a word where a number belongs
                    return cls(**description)
        raise ValueError("the saved configuration is not one of this version of miniclip.")


# Chosen with a training style held out as the unseen artist.
GEOMETRY = {"rotate": 12, "scale": 0.2, "aspect": 0.1, "shear": 0.1, "shift": 0.08, "bend": 0.03}
COLOUR = {"hue": 10, "saturation": 0.3, "contrast": 0.2, "brightness": 0.08, "tint": 0.04, "curve": 0.2, "grey": 0.05}
SURFACE = {"shade": 0.1, "relief": 0.1, "lines": 0.03, "soften": 0.3, "background": 0.05, "cutout": 0.1}
VARIED = GEOMETRY | COLOUR | SURFACE
NO_BACKGROUND = VARIED | {"background": 0}
INK = VARIED | {"grey": 0.15, "lines": 0.08}  # more of what has no colour

DEFAULT = TrainConfig(
    micro_batch=128, optimizer="muon", learning_rate=8e-3, warmup=20, weight_decay=0.1, ema_decay=0.98, plain_names=0.7,
    vocab_size=4096,
)  # fmt: skip
FULL = TrainConfig(
    "resnet", steps=3000, batch_size=512, micro_batch=64, optimizer="muon", learning_rate=4e-3, warmup=100,
    ema_decay=0.995, random_phrases=0.5, description_weight=0.3, evaluate_every=500,
)  # fmt: skip
WORDS = replace(  # a second stage: a trained model learns that the words around a name matter little
    FULL, steps=600, learning_rate=2e-3, warmup=30, ema_decay=0.99, evaluate_every=0, blend=0.5, random_words=0.5,
    description_weight=0.5,
)  # fmt: skip
SHAPES = TrainConfig("resnet-micro", steps=1400, batch_size=128, micro_batch=64, weight_decay=1.0, by_picture=True)
PRESETS = {
    "default": replace(DEFAULT, augmentation=NO_BACKGROUND, mix=0.25, checkpoint_every=100),
    "full": replace(FULL, augmentation=INK, mix=0.25, vocab_size=4096, checkpoint_every=100),
    "words": replace(WORDS, augmentation=INK, mix=0.25, vocab_size=4096, checkpoint_every=100),
    "shapes": replace(SHAPES, augment_strength=0.0, vocab_size=700, checkpoint_every=500),
    "vit": TrainConfig("vit-tiny", micro_batch=64, augmentation=NO_BACKGROUND),
}


def preset(name, **changes):
    """One of `PRESETS` with some fields changed; None leaves a field as it is. Raises ValueError."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})
